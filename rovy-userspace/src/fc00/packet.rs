//! Looks into IPv6 packets, and the ICMPv6 errors that answer them. Pure functions.

use std::net::Ipv6Addr;

use pnet::packet::Packet;
use pnet::packet::icmpv6::{self, Icmpv6Code, Icmpv6Packet, Icmpv6Type, Icmpv6Types, MutableIcmpv6Packet};
use pnet::packet::ip::IpNextHeaderProtocols as Protocol;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use rovy_common::DropReason;

/// Bytes of an IPv6 header.
pub const HEADER: usize = 40;
/// What every IPv6 link carries, bytes.
pub const MIN_MTU: u32 = 1280;
/// Bytes of an ICMPv6 error in front of the packet it quotes.
const ERROR_HEADER: usize = 8;
/// Extension headers looked through in search of ICMPv6; more than a sane packet has.
const EXTENSIONS: usize = 8;

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
    /// Source address failed ingress or egress policy.
    Source = 5,
}

impl Unreachable {
    /// What a program is told about a packet of its own that was dropped; `known`: a peer has the address it was sent to.
    #[must_use]
    pub fn of(reason: DropReason, known: bool) -> Option<Self> {
        match (reason, known) {
            (DropReason::NoRoute, true) => Some(Self::Address),
            (DropReason::NoRoute, false) => Some(Self::NoRoute),
            (DropReason::BadInnerSource, _) => Some(Self::Source),
            _ => None,
        }
    }
}

/// Checks version and length. Jumbograms are refused: nothing here carries them.
///
/// # Errors
/// What is wrong with it.
pub fn check(packet: &[u8]) -> Result<(), Insane> {
    let view = Ipv6Packet::new(packet).ok_or(Insane::Short)?;
    if view.get_version() != 6 {
        return Err(Insane::Version);
    }
    match HEADER + usize::from(view.get_payload_length()) == packet.len() {
        true => Ok(()),
        false => Err(Insane::Length),
    }
}

/// The source address; `None` for what is shorter than a header.
#[must_use]
pub fn source(packet: &[u8]) -> Option<Ipv6Addr> {
    Ipv6Packet::new(packet).map(|p| p.get_source())
}

/// The destination address; `None` for what is shorter than a header.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<Ipv6Addr> {
    Ipv6Packet::new(packet).map(|p| p.get_destination())
}

/// Whether an address is in fc00::/8.
#[must_use]
pub fn is_fc00(address: Ipv6Addr) -> bool {
    address.octets()[0] == 0xfc
}

/// The ICMPv6 error that says a packet could not be delivered, from the address `from`. `None` where RFC 4443 forbids
/// an answer: to an ICMPv6 error, to or from multicast, or to something that is no packet.
#[must_use]
pub fn unreachable(packet: &[u8], code: Unreachable, from: Ipv6Addr) -> Option<Vec<u8>> {
    if destination(packet)?.is_multicast() {
        return None;
    }
    answer(packet, Icmpv6Types::DestinationUnreachable, code as u8, 0, from)
}

/// The ICMPv6 error that says a packet is larger than `mtu` bytes, raised to [`MIN_MTU`] because hosts ignore less.
/// `None` as in [`unreachable()`], but multicast is answered.
#[must_use]
pub fn too_big(packet: &[u8], mtu: u32, from: Ipv6Addr) -> Option<Vec<u8>> {
    answer(packet, Icmpv6Types::PacketTooBig, 0, mtu.max(MIN_MTU), from)
}

fn answer(packet: &[u8], kind: Icmpv6Type, code: u8, word: u32, from: Ipv6Addr) -> Option<Vec<u8>> {
    check(packet).ok()?;
    let to = source(packet)?;
    if to.is_unspecified() || to.is_multicast() || is_icmp_error(packet) {
        return None;
    }
    let quoted = packet.get(..MIN_MTU as usize - HEADER - ERROR_HEADER).unwrap_or(packet);
    let mut bytes = vec![0; HEADER + ERROR_HEADER + quoted.len()];
    let (head, body) = bytes.split_at_mut(HEADER);
    body.get_mut(4..ERROR_HEADER)?.copy_from_slice(&word.to_be_bytes());
    body.get_mut(ERROR_HEADER..)?.copy_from_slice(quoted);

    let mut icmp = MutableIcmpv6Packet::new(body)?;
    icmp.set_icmpv6_type(kind);
    icmp.set_icmpv6_code(Icmpv6Code(code));
    let checksum = icmpv6::checksum(&icmp.to_immutable(), &from, &to);
    icmp.set_checksum(checksum);

    let mut ip = MutableIpv6Packet::new(head)?;
    ip.set_version(6);
    ip.set_payload_length(u16::try_from(ERROR_HEADER + quoted.len()).ok()?);
    ip.set_next_header(Protocol::Icmpv6);
    ip.set_hop_limit(64);
    ip.set_source(from);
    ip.set_destination(to);
    Some(bytes)
}

/// Whether it carries an ICMPv6 error or redirect, or so little of an ICMPv6 message that it might.
fn is_icmp_error(packet: &[u8]) -> bool {
    let Some(view) = Ipv6Packet::new(packet) else { return true };
    let mut next = view.get_next_header();
    let mut rest = view.payload();
    for _ in 0..EXTENSIONS {
        let length = match next {
            Protocol::Icmpv6 => {
                let kind = Icmpv6Packet::new(rest).map(|i| i.get_icmpv6_type());
                return kind.is_none_or(|k| k.0 < 128 || k == Icmpv6Types::Redirect);
            }
            Protocol::Hopopt | Protocol::Ipv6Route | Protocol::Ipv6Opts => {
                rest.get(1).map(|units| 8 * (usize::from(*units) + 1))
            }
            // Only the first fragment starts with what the next header says.
            Protocol::Ipv6Frag => match rest {
                [_, _, hi, lo, ..] if u16::from_be_bytes([*hi, *lo]) & !7 != 0 => return false,
                _ => Some(8),
            },
            _ => return false,
        };
        let (Some(first), Some(behind)) = (rest.first(), length.and_then(|l| rest.get(l..))) else { return true };
        next = pnet::packet::ip::IpNextHeaderProtocol(*first);
        rest = behind;
    }
    true
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
