//! What the firewall sees of an IPv6 packet: the upper protocol behind the extension headers, and its ports.

use std::net::Ipv6Addr;

use crate::fc00::packet::{HEADER, destination, source};

/// Next headers that matter here (IANA protocol numbers).
pub(super) mod proto {
    pub(in super::super) const HOP_BY_HOP: u8 = 0;
    pub(in super::super) const TCP: u8 = 6;
    pub(in super::super) const UDP: u8 = 17;
    pub(in super::super) const ROUTING: u8 = 43;
    pub(in super::super) const FRAGMENT: u8 = 44;
    pub(in super::super) const ICMPV6: u8 = 58;
    pub(in super::super) const NONE: u8 = 59;
    pub(in super::super) const OPTIONS: u8 = 60;
    pub(in super::super) const MOBILITY: u8 = 135;
    pub(in super::super) const HIP: u8 = 139;
    pub(in super::super) const SHIM6: u8 = 140;
}

/// Bits of a TCP header's flags.
pub(super) mod tcp {
    pub(in super::super) const FIN: u8 = 1;
    pub(in super::super) const SYN: u8 = 2;
    pub(in super::super) const RST: u8 = 4;
    pub(in super::super) const ACK: u8 = 16;
}

/// Extension headers looked through; a packet with more is refused.
const EXTENSIONS: usize = 8;

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Load<'p> {
    Tcp {
        from: u16,
        to: u16,
        flags: u8,
    },
    Udp {
        from: u16,
        to: u16,
    },
    /// The message from its type on.
    Icmp {
        kind: u8,
        message: &'p [u8],
    },
    /// A fragment that is not the first of its packet, which alone has the ports.
    Rest,
    /// Another protocol, by its number.
    Other(u8),
    /// Headers cut off, too many of them, or one that leads the packet on to elsewhere.
    Odd,
}

/// A packet as far as the firewall looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'p> {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    /// The identification that fragments of one packet share; `None` for a whole packet.
    pub(super) fragment: Option<u32>,
    pub(super) load: Load<'p>,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// Looks at a packet, whole or cut off behind its first headers as ICMPv6 errors quote it. `None` when it is shorter than a
/// header.
pub(super) fn see(packet: &[u8]) -> Option<Seen<'_>> {
    let mut seen = Seen { source: source(packet)?, destination: destination(packet)?, fragment: None, load: Load::Odd };
    let (mut next, mut rest) = (*packet.get(6)?, packet.get(HEADER..)?);
    for _ in 0..=EXTENSIONS {
        let length = match next {
            proto::HOP_BY_HOP | proto::OPTIONS => rest.get(1).map(|units| 8 * (usize::from(*units) + 1)),
            // With segments left the host would send the packet on to an address inside the header.
            proto::ROUTING if rest.get(3) == Some(&0) => rest.get(1).map(|units| 8 * (usize::from(*units) + 1)),
            proto::FRAGMENT if seen.fragment.is_none() => {
                let Some(place) = word(rest, 2) else { return Some(seen) };
                let id = rest.get(4..).and_then(|r| r.first_chunk()).map(|b| u32::from_be_bytes(*b));
                let Some(id) = id else { return Some(seen) };
                // Offset 0 and no more to come is a whole packet (RFC 6946).
                if place & !6 != 0 {
                    seen.fragment = Some(id);
                }
                if place & !7 != 0 {
                    seen.load = Load::Rest;
                    return Some(seen);
                }
                Some(8)
            }
            other => {
                seen.load = load(other, rest);
                return Some(seen);
            }
        };
        let (Some(first), Some(behind)) = (rest.first(), length.and_then(|l| rest.get(l..))) else {
            return Some(seen);
        };
        (next, rest) = (*first, behind);
    }
    Some(seen)
}

fn load(protocol: u8, rest: &[u8]) -> Load<'_> {
    let ports = word(rest, 0).zip(word(rest, 2));
    match (protocol, ports) {
        (proto::TCP, Some((from, to))) => rest.get(13).map_or(Load::Odd, |flags| Load::Tcp { from, to, flags: *flags }),
        (proto::UDP, Some((from, to))) => Load::Udp { from, to },
        (proto::ICMPV6, Some(_)) => rest.first().map_or(Load::Odd, |kind| Load::Icmp { kind: *kind, message: rest }),
        (proto::TCP | proto::UDP | proto::ICMPV6 | proto::NONE, _) => Load::Odd,
        (proto::HOP_BY_HOP | proto::OPTIONS | proto::ROUTING | proto::FRAGMENT, _) => Load::Odd,
        (proto::MOBILITY | proto::HIP | proto::SHIM6, _) => Load::Odd,
        (other, _) => Load::Other(other),
    }
}
