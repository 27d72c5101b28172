//! Frames as neighbours send them to the node under test.

use rovy_common::encap::{self, Macs};
use rovy_common::hop::{self, Message};
use rovy_common::label::Label;
use rovy_common::maps::{HopKeys, LocalKey, RxLink, Source, TxLink, kind, tx_flag};
use rovy_common::wire::{ETHERTYPE, FLAG_LONG_LABEL};

use crate::{Link, SESSIONS};

/// The node's own addresses.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
pub(crate) const IP4: [u8; 4] = [192, 0, 2, 1];
pub(crate) const IP6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const PORT: u16 = 1312;

/// What the node answers to.
pub(crate) fn locals() -> [LocalKey; 3] {
    let mut addr = [0; 16];
    addr[..6].copy_from_slice(&MAC);
    let eth = LocalKey { addr, port_or_ifindex: 1, kind: kind::ETHERNET };
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&IP4);
    let port = u32::from(PORT.to_be());
    let udp4 = LocalKey { addr, port_or_ifindex: port, kind: kind::UDP4 };
    [eth, udp4, LocalKey { addr: IP6, port_or_ifindex: port, kind: kind::UDP6 }]
}

fn keys(n: u16) -> HopKeys {
    let n = u64::from(n);
    HopKeys { tag: [n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)], mask: [!n, n << 32] }
}

/// A neighbour's MAC and IP addresses.
fn neighbour(n: u16) -> ([u8; 6], [u8; 4], [u8; 16]) {
    let mut ip6 = IP6;
    ip6[15] = n as u8 + 1;
    ([2, 0, 0, 1, 0, n as u8], [192, 0, 2, n as u8 + 1], ip6)
}

/// The header of frames from the neighbour `n` to the node, lengths zero.
pub(crate) fn header_from(n: u16, kind_: u32) -> Vec<u8> {
    let (mac, ip4, ip6) = neighbour(n);
    let macs = Macs { dst: MAC, src: mac };
    let h = match kind_ {
        kind::ETHERNET => encap::ethernet(macs, ETHERTYPE),
        kind::UDP4 => encap::udp4(macs, (ip4, 4000 + n), (IP4, PORT)),
        _ => encap::udp6(macs, (ip6, 4000 + n), (IP6, PORT)),
    };
    h[..encap::header_len(kind_)].to_vec()
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut out = [0; N];
    for (w, c) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *w = u32::from_ne_bytes(c.try_into().unwrap());
    }
    out
}

/// The link to the neighbour `n`.
pub(crate) fn link(kind_: u32, n: u16, slot: u16, port: u32) -> Link {
    let (mac, ip4, ip6) = neighbour(n);
    let in_ = header_from(n, kind_);
    let mut source = Source { macs: words(&in_), kind: kind_, ..Source::default() };
    let longs = |b: &[u8]| u64::from_ne_bytes(b.try_into().unwrap());
    match kind_ {
        kind::ETHERNET => source.ifindex = 1,
        kind::UDP4 => {
            source.addrs_be[0] = longs(&in_[26..34]);
            source.ports_be = words::<1>(&in_[34..])[0];
        }
        _ => {
            for (i, w) in source.addrs_be.iter_mut().enumerate() {
                *w = longs(&in_[22 + 8 * i..30 + 8 * i]);
            }
            source.ports_be = words::<1>(&in_[54..])[0];
        }
    }
    let macs = Macs { dst: mac, src: MAC };
    let header = match kind_ {
        kind::ETHERNET => encap::ethernet(macs, ETHERTYPE),
        kind::UDP4 => encap::udp4(macs, (IP4, PORT), (ip4, 4000 + n)),
        _ => encap::udp6(macs, (IP6, PORT), (ip6, 4000 + n)),
    };
    // The low bits are the position, what stands above is arbitrary.
    let index = (u32::from(n) * 0x0123_4567) & !(SESSIONS - 1) | u32::from(n);
    let rx = RxLink { expires_ns: u64::MAX, neighbour: u64::from(n), keys: keys(n), source, index, slot, flags: 0 };
    let tx = TxLink {
        expires_ns: u64::MAX,
        neighbour: u64::from(n),
        keys: keys(n + 100),
        index: 0x8000_0000 | u32::from(n),
        counter: 2 * u32::from(slot) + u32::from(n % 2),
        port,
        mtu: 9000,
        flags: tx_flag::REDIRECT,
        kind: kind_,
        slot: u32::from(slot),
        header,
        ..TxLink::default()
    };
    Link { rx, tx }
}

/// A message around which a frame can be built.
#[derive(Clone, Debug)]
pub(crate) struct Draft<const W: usize = 2> {
    pub(crate) flags: u8,
    pub(crate) counter: u64,
    pub(crate) label: Label<W>,
    /// At least 16 bytes.
    pub(crate) inner: Vec<u8>,
}

/// An inner message of `len` bytes that may travel.
pub(crate) fn inner(len: usize) -> Vec<u8> {
    let mut inner: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
    inner[0] = 4;
    inner[1] = 1;
    inner
}

impl Draft {
    pub(crate) fn new(counter: u64, route: &[u8]) -> Self {
        Self { flags: 1, counter, label: Label::from_route(route).unwrap(), inner: inner(60) }
    }

    /// The same with a long label.
    pub(crate) fn with_long(self, label: Label<4>) -> Draft<4> {
        Draft { flags: self.flags | FLAG_LONG_LABEL, counter: self.counter, label, inner: self.inner }
    }
}

impl<const W: usize> Draft<W> {
    /// The transit message over a link, as its neighbour protects it.
    pub(crate) fn message(&self, rx: &RxLink) -> Vec<u8> {
        let len = Message::<W>::HEAD + self.inner.len();
        let head0 = 6 | u64::from(self.flags) << 8 | (len as u64) << 16;
        let word = |i: usize| u64::from_le_bytes(self.inner[i..i + 8].try_into().unwrap());
        let m = hop::seal(&rx.keys, rx.index, self.counter, head0, &self.label, [word(0), word(8)]);
        let mut bytes = vec![0; Message::<W>::HEAD];
        m.write(&mut bytes).unwrap();
        bytes.extend(&self.inner);
        bytes
    }
}

/// Puts a message into a frame with these header bytes; all lengths agree.
pub(crate) fn wrap(mut header: Vec<u8>, message: &[u8]) -> Vec<u8> {
    let (ip, udp) = (header.len() + message.len() - 14, message.len() + 8);
    match header.len() {
        encap::UDP4 => {
            header[16..18].copy_from_slice(&(ip as u16).to_be_bytes());
            header[38..40].copy_from_slice(&(udp as u16).to_be_bytes());
        }
        encap::UDP6 => {
            header[18..20].copy_from_slice(&(udp as u16).to_be_bytes());
            header[58..60].copy_from_slice(&(udp as u16).to_be_bytes());
        }
        _ => {}
    }
    header.extend(message);
    header
}

/// A frame over a link from its neighbour.
pub(crate) fn frame<const W: usize>(link: &Link, draft: &Draft<W>) -> Vec<u8> {
    let n = link.rx.neighbour as u16;
    wrap(header_from(n, link.tx.kind), &draft.message(&link.rx))
}
