//! Reads a frame: which underlay, which addresses, which message. Everything that cannot be rovy's ends here.

use crate::packet::{Packet, word16, word32, word64};
use rovy_common::encap;
use rovy_common::hop::Message;
use rovy_common::maps::{LocalKey, Source, kind};
use rovy_common::wire::FLAG_LONG_LABEL;

/// A frame that could be rovy's.
pub struct Frame {
    /// Underlay, addresses, ports, ingress interface.
    pub source: Source,
    /// Bytes in front of the message.
    pub header: usize,
    /// Bytes there are for the message.
    pub available: usize,
    /// ECN bits of the IP header; zero on Ethernet.
    pub ecn: u8,
    /// Whether the lengths in the IP and UDP headers agree with each other and the frame.
    pub sound: bool,
    /// The first word of the message.
    pub first: u32,
    /// The word behind it: the receiver index of most types. 0 when it is not there.
    pub second: u32,
    /// What a hop reads of a transit message with a normal label, when there are as many bytes.
    pub message: Option<Message<2>>,
}

impl Frame {
    /// Whether anything may follow the message: padding, on Ethernet.
    #[inline(always)]
    #[must_use]
    pub const fn exact(&self) -> bool {
        self.source.kind != kind::ETHERNET
    }

    /// Whether the flag of a long label is set.
    #[inline(always)]
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.first & (FLAG_LONG_LABEL as u32) << 8 != 0
    }

    /// Whether the frame came from where a link is known to be.
    #[inline(always)]
    #[must_use]
    pub fn came_from(&self, known: &Source) -> bool {
        let s = &self.source;
        if s.kind != known.kind || s.macs[0] != known.macs[0] {
            return false;
        }
        if s.kind == kind::ETHERNET {
            return s.macs[1] == known.macs[1] && s.macs[2] == known.macs[2] && s.ifindex == known.ifindex;
        }
        // Word by word: comparing the arrays would become a call of `bcmp`, which nobody provides.
        let (a, b) = (&s.addrs_be, &known.addrs_be);
        let addrs = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);
        (s.macs[1] ^ known.macs[1]) & 0xffff == 0 && s.ports_be == known.ports_be && addrs == 0
    }

    /// Whether it was sent to a group of stations.
    #[inline(always)]
    #[must_use]
    pub const fn to_group(&self) -> bool {
        self.source.macs[0] & 1 != 0
    }

    /// The destination MAC address, as a key of `LOCALS`.
    #[inline(always)]
    #[must_use]
    pub fn station(&self) -> LocalKey {
        let mut key = LocalKey { addr: [0; 16], port_or_ifindex: self.source.ifindex, kind: kind::ETHERNET };
        key.addr[..4].copy_from_slice(&self.source.macs[0].to_ne_bytes());
        key.addr[4..6].copy_from_slice(&(self.source.macs[1] as u16).to_ne_bytes());
        key
    }

    /// The destination address and port, as a key of `LOCALS`. `None` on Ethernet.
    #[inline(always)]
    #[must_use]
    pub fn socket(&self) -> Option<LocalKey> {
        let s = &self.source;
        let mut key = LocalKey { addr: [0; 16], port_or_ifindex: s.ports_be >> 16, kind: s.kind };
        match s.kind {
            kind::UDP4 => key.addr[..4].copy_from_slice(&((s.addrs_be[0] >> 32) as u32).to_ne_bytes()),
            kind::UDP6 => {
                key.addr[..8].copy_from_slice(&s.addrs_be[2].to_ne_bytes());
                key.addr[8..].copy_from_slice(&s.addrs_be[3].to_ne_bytes());
            }
            _ => return None,
        }
        Some(key)
    }
}

/// The frame, unless it is certainly not rovy's. `ethertype_be` is that of raw frames, as in the packet.
#[inline(always)]
#[must_use]
pub fn parse(packet: &Packet, ethertype_be: u32) -> Option<Frame> {
    let eth = packet.head::<{ encap::ETH }>()?;
    let kind = word16(eth, 12);
    if u32::from(kind) == ethertype_be {
        return Some(ethernet(packet, eth));
    }
    match kind.to_be() {
        0x0800 => udp4(packet),
        0x86dd => udp6(packet),
        _ => None,
    }
}

#[inline(always)]
fn ethernet(packet: &Packet, eth: &[u8; encap::ETH]) -> Frame {
    let mut frame = frame(packet, eth, kind::ETHERNET);
    frame.sound = true;
    frame.available = packet.len() - encap::ETH;
    fill::<{ encap::ETH }, { encap::ETH + 4 }, { encap::ETH + 8 }, { encap::ETH + 56 }>(packet, &mut frame);
    frame
}

/// UDP over IPv4 without options, whole.
#[inline(always)]
fn udp4(packet: &Packet) -> Option<Frame> {
    const MORE_OR_OFFSET_BE: u16 = 0x3fff_u16.to_be();
    let h = packet.head::<{ encap::UDP4 }>()?;
    if h[14] != 0x45 || h[23] != 17 || word16(h, 20) & MORE_OR_OFFSET_BE != 0 {
        return None;
    }
    let (ip, udp) = (usize::from(word16(h, 16).to_be()), usize::from(word16(h, 38).to_be()));
    let mut frame = frame(packet, h, kind::UDP4);
    frame.sound = ip >= 28 && udp == ip - 20 && ip + encap::ETH <= packet.len();
    frame.available = udp.wrapping_sub(8);
    frame.ecn = h[15] & 3;
    frame.source.addrs_be[0] = word64(h, 26);
    frame.source.ports_be = word32(h, 34);
    fill::<{ encap::UDP4 }, { encap::UDP4 + 4 }, { encap::UDP4 + 8 }, { encap::UDP4 + 56 }>(packet, &mut frame);
    Some(frame)
}

/// UDP directly after the IPv6 header.
#[inline(always)]
fn udp6(packet: &Packet) -> Option<Frame> {
    let h = packet.head::<{ encap::UDP6 }>()?;
    if h[14] >> 4 != 6 || h[20] != 17 {
        return None;
    }
    let (ip, udp) = (usize::from(word16(h, 18).to_be()), usize::from(word16(h, 58).to_be()));
    let mut frame = frame(packet, h, kind::UDP6);
    frame.sound = ip >= 8 && udp == ip && ip + 54 <= packet.len();
    frame.available = udp.wrapping_sub(8);
    frame.ecn = h[15] >> 4 & 3;
    frame.source.addrs_be = [word64(h, 22), word64(h, 30), word64(h, 38), word64(h, 46)];
    frame.source.ports_be = word32(h, 54);
    fill::<{ encap::UDP6 }, { encap::UDP6 + 4 }, { encap::UDP6 + 8 }, { encap::UDP6 + 56 }>(packet, &mut frame);
    Some(frame)
}

#[inline(always)]
fn frame<const N: usize>(packet: &Packet, h: &[u8; N], kind: u32) -> Frame {
    let source = Source {
        macs: [word32(h, 0), word32(h, 4), word32(h, 8)],
        kind,
        ifindex: packet.ifindex(),
        ..Source::default()
    };
    Frame {
        source,
        header: encap::header_len(kind),
        available: 0,
        ecn: 0,
        sound: false,
        first: 0,
        second: 0,
        message: None,
    }
}

/// Reads the message behind `H` header bytes; `FIRST`, `SECOND` and `ALL` are the ends of its first two words and of what a
/// hop reads.
#[inline(always)]
fn fill<const H: usize, const FIRST: usize, const SECOND: usize, const ALL: usize>(packet: &Packet, frame: &mut Frame) {
    if let Some(b) = packet.head::<ALL>() {
        let w = |i: usize| word64(b, H + 8 * i);
        frame.first = w(0) as u32;
        frame.second = (w(0) >> 32) as u32;
        frame.message = Some(Message { head: [w(0), w(1)], tag: w(2), label: [w(3), w(4)], inner: [w(5), w(6)] });
    } else if let Some(b) = packet.head::<SECOND>() {
        frame.first = word32(b, H);
        frame.second = word32(b, H + 4);
    } else if let Some(b) = packet.head::<FIRST>() {
        frame.first = word32(b, H);
    } else {
        frame.available = 0;
    }
}
