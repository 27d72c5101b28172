//! What neighbours may send through this node, on links there are already.

use rovy_common::maps::{RxLink, TransitRate, neighbour_id, rx_flag};

use super::clock;
use super::commands::{Control, no_peer};
use super::engine::Engine;
use super::views;
use crate::api::{Failure, FailureKind, Reply};
use crate::config::persist;
use crate::core::Node;
use crate::dataplane::Dataplane;
use crate::dataplane::xdp::{Xdp, XdpError};
use crate::identity::PeerId;
use crate::rate::{RateLimit, TransitLimit};

/// The receiving side of a link that a former agent left, held to what its neighbour may do now.
fn restricted(node: &Node, peer: PeerId, rx: &RxLink) -> (RxLink, TransitRate) {
    let rate = node.rate_of(peer, rx.slot);
    let mut flags = rx.flags & rx_flag::SEALED;
    if !node.may_transit(peer) {
        flags |= rx_flag::NO_TRANSIT;
    }
    if rate != TransitRate::default() {
        flags |= rx_flag::LIMITED;
    }
    (RxLink { flags, ..*rx }, rate)
}

/// Holds a link of a former agent to what is configured now: its keys live for minutes.
pub(super) fn restrict(node: &Node, kernel: &mut Xdp, peer: PeerId, rx: &RxLink) -> Result<RxLink, XdpError> {
    let (now, rate) = restricted(node, peer, rx);
    kernel.set_rate(now.slot, &rate)?;
    if now != *rx {
        kernel.set_rx(now.index, &now)?;
    }
    Ok(now)
}

impl Engine {
    /// The core tells of its own links only.
    fn restrict_left(&mut self, peer: PeerId) -> Result<(), XdpError> {
        let id = neighbour_id(peer.public_key());
        let all = self.tables.receiving();
        let left = all.filter(|(rx, _)| rx.neighbour == id && !self.links.rx_is_told(rx.index));
        let left: Vec<_> = left.map(|(rx, endpoint)| (*rx, *endpoint)).collect();
        for (rx, endpoint) in left {
            let (now, rate) = restricted(&self.node, peer, &rx);
            let Ok(()) = self.tables.set_rate(now.slot, &rate);
            let Ok(()) = self.tables.set_receive(&now, endpoint);
            if let Some(xdp) = self.kernel.xdp() {
                restrict(&self.node, xdp, peer, &rx)?;
            }
        }
        Ok(())
    }
}

impl Control {
    /// Limits the transit of a peer, or no more.
    pub(super) fn limit_peer(&self, peer: PeerId, limit: Option<RateLimit>, persist: bool) -> Result<Reply, Failure> {
        let configured = self.configured.borrow().contains(&peer);
        {
            let mut e = self.engine.borrow_mut();
            if !configured && e.book.get(&peer).is_none() && !e.node.peers().any(|p| p.id == peer) {
                return Err(no_peer(&peer));
            }
            if !e.node.limit_peer(clock::now(), peer, limit) {
                let message = "no room for another limit: as many as [limits] peers allows are there";
                return Err(Failure::new(FailureKind::Unavailable, message).with_next("rovy peer limit PEERID none"));
            }
            e.collect();
            e.restrict_left(peer).map_err(super::commands::internal)?;
        }
        let what = "it is limited now, but that was not written to the configuration";
        self.persist(persist, what, || persist::limit_peer(&self.config_path, peer, TransitLimit(limit)))?;
        let all = views::peers(self);
        all.into_iter().find(|p| p.peer_id == peer).map(Reply::Peer).ok_or_else(|| no_peer(&peer))
    }
}
