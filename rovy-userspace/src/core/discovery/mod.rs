//! Link-local discovery: when beacons go out, and what becomes of those that are heard.
//!
//! A beacon proves nothing. All it can do is have this node send a hello to where it came from, a bounded number of times;
//! who answers that hello is whom the key belongs to.

mod bucket;
mod found;
mod heard;
mod schedule;

pub(super) use found::{Found, Standing, TRIED, Verdict};
pub use heard::{Heard, Network};
pub(super) use schedule::Schedule;
pub use schedule::{INTERVAL, Outlet};

use rovy_common::wire::{Beacon, Header, MessageType, VERSION};
use zerocopy::IntoBytes;

use crate::identity::PeerId;

/// What a node keeps for discovery.
#[derive(Default)]
pub(super) struct Discovery {
    pub(super) schedule: Schedule,
    pub(super) found: Found,
}

/// A node's beacon. `port`: the UDP port it listens on, 0 on Ethernet.
pub(super) fn message(id: &PeerId, port: u16) -> Vec<u8> {
    let length = (size_of::<Beacon>() as u16).into();
    let header = Header { kind: MessageType::Beacon as u8, flags: VERSION, length };
    Beacon { header, port: port.into(), reserved: 0.into(), public_key: *id.public_key() }.as_bytes().to_vec()
}
