//! Large packets between host and agent: one that the host hands over in place of many is split, and packets for it that belong
//! together are joined. Pure functions over bytes.
//!
//! The libraries that do this allocate for each packet, trust offsets that come with it, or join what cannot be split into the
//! same packets again.

use rovy_common::DropReason;

mod checksum;
mod header;
mod join;
mod split;
#[cfg(test)]
mod tests;

pub use header::{Gso, HEADER_LEN, Header};
pub use join::{Joiner, Sink};
pub use split::{Segments, Taken, take};

/// Bytes of an IPv6 header.
const IPV6: usize = 40;
/// Bytes of a UDP header.
const UDP: usize = 8;
/// Bytes of a TCP header without options.
const TCP: usize = 20;
/// Next header: TCP.
const PROTOCOL_TCP: u8 = 6;
/// Next header: UDP.
const PROTOCOL_UDP: u8 = 17;
/// Largest IPv6 packet that host and agent exchange, bytes.
pub const LARGEST: usize = 65_535;

/// Flags of TCP, byte 13 of its header.
mod flag {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const PSH: u8 = 0x08;
    pub(super) const ACK: u8 = 0x10;
    pub(super) const ECE: u8 = 0x40;
    pub(super) const CWR: u8 = 0x80;
}

/// Which work is shared with the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// The host leaves checksums to the agent, and takes them as checked for what the agent joined. The others need it.
    pub csum: bool,
    /// The host hands over TCP data unsplit.
    pub tso: bool,
    /// The host hands over UDP data unsplit (kernel 6.2).
    pub uso: bool,
    /// The agent joins packets for the host.
    pub gro: bool,
    /// It joins UDP too (kernel 6.2).
    pub gro_udp: bool,
}

impl Offloads {
    /// All there are.
    pub const ALL: Self = Self { csum: true, tso: true, uso: true, gro: true, gro_udp: true };
    /// None.
    pub const NONE: Self = Self { csum: false, tso: false, uso: false, gro: false, gro_udp: false };

    /// Only what works together.
    #[must_use]
    pub fn sane(self) -> Self {
        let Self { csum, tso, uso, gro, gro_udp } = self;
        Self { csum, tso: csum && tso, uso: csum && uso, gro: csum && gro, gro_udp: csum && gro && gro_udp }
    }

    /// Whether packets come and go with a [`Header`].
    #[must_use]
    pub fn any(self) -> bool {
        self.sane() != Self::NONE
    }
}

/// What cannot be from a kernel.
const BAD: DropReason = DropReason::Malformed;

/// A whole IPv6 packet: its length field agrees with its bytes.
fn whole(packet: &[u8]) -> Option<()> {
    let head = packet.first_chunk::<IPV6>()?;
    let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
    (head[0] >> 4 == 6 && length + IPV6 == packet.len()).then_some(())
}

/// Sets the length field of an IPv6 packet by its bytes.
fn set_length(packet: &mut [u8]) -> Option<()> {
    let length = u16::try_from(packet.len().checked_sub(IPV6)?).ok()?;
    packet.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
    Some(())
}
