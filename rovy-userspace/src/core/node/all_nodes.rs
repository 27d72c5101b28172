//! Echo requests to all nodes of the link (`ff02::1`): of rovy that is every neighbour, and nobody behind them.

use std::net::Ipv6Addr;

use rovy_common::DropReason;
use rovy_common::wire::codec;

use super::{Node, Origin, data};
use crate::core::probes::Rate;
use crate::core::time::Now;

/// All nodes of a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// One of these is a message to every neighbour.
const RATE: Rate = Rate { per_second: 10, burst: 20 };
/// Next header and type of an echo request.
const ECHO_REQUEST: (u8, u8) = (58, 128);

/// Whether it is an echo request to all nodes, without anything in front of it that could make it something else.
fn is_echo(packet: &[u8]) -> bool {
    let to_all = data::addresses(packet).is_some_and(|(_, to)| to == ALL_NODES);
    to_all && packet.get(6).copied().zip(packet.get(data::IPV6).copied()) == Some(ECHO_REQUEST)
}

/// Whether a packet that came over a session may be for this node although it is not sent to its address.
pub(super) fn accepts(origin: &Origin, packet: &[u8]) -> bool {
    matches!(origin, Origin::Direct(_)) && is_echo(packet)
}

impl Node {
    /// An echo request from the TUN to all nodes of the link, [`ALL_NODES`]: each neighbour gets it. How many there are.
    ///
    /// # Errors
    /// The reason to count: it is something else, there were too many lately, or there is no neighbour.
    pub fn packet_to_all(&mut self, now: Now, packet: &[u8]) -> Result<usize, DropReason> {
        if !is_echo(packet) {
            return Err(DropReason::NotAllowed);
        }
        if data::addresses(packet).map(|(source, _)| source) != Some(self.address) {
            return Err(DropReason::BadInnerSource);
        }
        let neighbours = self.neighbours();
        if neighbours.is_empty() {
            return Err(DropReason::NoRoute);
        }
        if !self.to_all.take(now.mono_ns, RATE) {
            return Err(DropReason::RateLimited);
        }
        for (_, index) in &neighbours {
            self.send_data(now, *index, codec::IPV6, packet);
        }
        Ok(neighbours.len())
    }
}
