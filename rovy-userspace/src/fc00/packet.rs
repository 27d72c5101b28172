//! Looks into IPv6 packets, and the ICMPv6 errors that answer them. Pure functions.

use std::net::Ipv6Addr;

use rovy_common::DropReason;

/// Bytes of an IPv6 header.
pub const HEADER: usize = 40;
/// What every IPv6 link carries, bytes.
pub const MIN_MTU: u32 = 1280;

/// Why something is not an IPv6 packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Insane {
    /// Shorter than a header.
    #[error("shorter than an IPv6 header")]
    Short,
    /// Another version.
    #[error("not IPv6")]
    Version,
    /// The payload length contradicts the packet.
    #[error("the payload length contradicts the packet")]
    Length,
}

impl Insane {
    /// What it is counted as.
    #[must_use]
    pub fn reason(self) -> DropReason {
        match self {
            Self::Short | Self::Version => DropReason::Malformed,
            Self::Length => DropReason::BadLength,
        }
    }
}

/// Codes of ICMPv6 destination unreachable (RFC 4443).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Unreachable {
    /// No route to the destination.
    NoRoute = 0,
    /// Administratively prohibited.
    Prohibited = 1,
    /// Address unreachable.
    Address = 3,
    /// Port unreachable.
    Port = 4,
}

/// Checks version and length.
///
/// # Errors
/// What is wrong with it.
pub fn check(packet: &[u8]) -> Result<(), Insane> {
    let _ = packet;
    todo!()
}

/// The source address; `None` for what is shorter than a header.
#[must_use]
pub fn source(packet: &[u8]) -> Option<Ipv6Addr> {
    let _ = packet;
    todo!()
}

/// The destination address; `None` for what is shorter than a header.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<Ipv6Addr> {
    let _ = packet;
    todo!()
}

/// Whether an address is in fc00::/8.
#[must_use]
pub fn is_fc00(address: Ipv6Addr) -> bool {
    address.octets()[0] == 0xfc
}

/// The ICMPv6 error that says a packet could not be delivered, from the address `from`. `None` where RFC 4443 forbids
/// an answer: to an ICMPv6 error, to multicast, or to something that is no packet.
#[must_use]
pub fn unreachable(packet: &[u8], code: Unreachable, from: Ipv6Addr) -> Option<Vec<u8>> {
    let _ = (packet, code, from);
    todo!()
}

/// The ICMPv6 error that says a packet is larger than `mtu` bytes, raised to [`MIN_MTU`]. `None` as in [`unreachable`],
/// but multicast is answered.
#[must_use]
pub fn too_big(packet: &[u8], mtu: u32, from: Ipv6Addr) -> Option<Vec<u8>> {
    let _ = (packet, mtu, from);
    todo!()
}
