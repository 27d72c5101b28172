//! What the sender of a refused packet is told when it is told anything.

use std::net::Ipv6Addr;

use pnet::packet::ip::IpNextHeaderProtocols as Protocol;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::packet::tcp::{MutableTcpPacket, TcpFlags, TcpPacket, ipv6_checksum};

use super::icmp;
use super::parse::{Load, Seen, tcp};
use crate::fc00::packet::{HEADER, Unreachable, unreachable};

/// Bytes of a TCP header without options.
const TCP: usize = 20;

/// The answer of the node `own`: a reset to who opens a TCP connection, "administratively prohibited" to datagrams, echo
/// requests and other protocols, and nothing to the rest: that is no try at something new.
pub(super) fn to(seen: &Seen<'_>, packet: &[u8], own: Ipv6Addr) -> Option<Vec<u8>> {
    match seen.load {
        Load::Tcp { flags, .. } if flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN => reset(seen, packet, own),
        Load::Udp { .. } | Load::Other(_) | Load::Icmp { kind: icmp::ECHO_REQUEST, .. } => {
            unreachable(packet, Unreachable::Prohibited, own)
        }
        _ => None,
    }
}

/// As a host that does not listen there would answer (RFC 9293, 3.10.7.1). Data beside a SYN is not acknowledged, and so
/// refused too.
fn reset(seen: &Seen<'_>, packet: &[u8], own: Ipv6Addr) -> Option<Vec<u8>> {
    let Load::Tcp { from, to, .. } = seen.load else { return None };
    if seen.destination.is_multicast() {
        return None;
    }
    let header = tcp_header(packet)?;
    let mut bytes = vec![0; HEADER + TCP];
    let (head, body) = bytes.split_at_mut(HEADER);
    let mut answer = MutableTcpPacket::new(body)?;
    answer.set_source(to);
    answer.set_destination(from);
    answer.set_acknowledgement(header.get_sequence().wrapping_add(1));
    answer.set_data_offset(5);
    answer.set_flags(TcpFlags::RST | TcpFlags::ACK);
    let checksum = ipv6_checksum(&answer.to_immutable(), &own, &seen.source);
    answer.set_checksum(checksum);
    let mut ip = MutableIpv6Packet::new(head)?;
    ip.set_version(6);
    ip.set_payload_length(TCP as u16);
    ip.set_next_header(Protocol::Tcp);
    ip.set_hop_limit(64);
    ip.set_source(own);
    ip.set_destination(seen.source);
    Some(bytes)
}

/// The header of a packet without extension headers; others get no reset.
fn tcp_header(packet: &[u8]) -> Option<TcpPacket<'_>> {
    let plain = packet.get(6) == Some(&Protocol::Tcp.0);
    packet.get(HEADER..).filter(|_| plain).and_then(TcpPacket::new)
}
