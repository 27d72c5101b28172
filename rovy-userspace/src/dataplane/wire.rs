//! What a link looks like on the wire: the header of its frames in both directions.

use std::net::{IpAddr, SocketAddr};

use rovy_common::encap::{self, Macs};
use rovy_common::maps::{HEADER, Source, TxLink, kind};

use crate::netlink::Underlay;
use crate::transport::Endpoint;

/// A link's frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wire {
    /// One of [`kind`].
    pub kind: u32,
    /// The interface of this host.
    pub ifindex: u32,
    /// Largest IP packet or Ethernet payload, in bytes.
    pub mtu: u32,
    /// Template of outgoing frames.
    pub header: [u8; HEADER],
    /// Addresses of incoming frames.
    pub source: Source,
}

/// The first twelve bytes of an incoming frame: our address, then the sender's.
fn incoming(macs: Macs) -> [u32; 3] {
    let mut bytes = [0; 12];
    bytes[..6].copy_from_slice(&macs.src);
    bytes[6..].copy_from_slice(&macs.dst);
    words(&bytes)
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut out = [0; N];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        let mut four = [0; 4];
        four.copy_from_slice(chunk);
        *word = u32::from_ne_bytes(four);
    }
    out
}

/// Packet bytes as native words, as the kernel loads them.
fn longs(bytes: &[u8]) -> [u64; 4] {
    let mut out = [0; 4];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
    }
    out
}

/// The endpoint an entry of the sending side leads to: a former agent's, whose sessions are gone. `ifindex` is the device
/// it leaves by, which Ethernet needs.
#[must_use]
pub fn endpoint_of(tx: &TxLink, ifindex: Option<u32>) -> Option<Endpoint> {
    let h = &tx.header;
    let port = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
    let v4 = |at: usize| IpAddr::from([h[at], h[at + 1], h[at + 2], h[at + 3]]);
    let v6 = |at: usize| h[at..].first_chunk::<16>().map(|a| IpAddr::from(*a));
    match tx.kind {
        kind::ETHERNET => Some(Endpoint::Ethernet { ifindex: ifindex?, mac: *h.first_chunk()? }),
        kind::UDP4 => Some(Endpoint::Udp { remote: SocketAddr::new(v4(30), port(36)), local: Some(v4(26)) }),
        kind::UDP6 => Some(Endpoint::Udp { remote: SocketAddr::new(v6(38)?, port(56)), local: v6(22) }),
        _ => None,
    }
}

impl Wire {
    /// Raw Ethernet with a neighbour. `macs.dst` is the neighbour's.
    #[must_use]
    pub fn ethernet(ifindex: u32, macs: Macs, mtu: u32, ethertype: u16) -> Self {
        let source = Source { macs: incoming(macs), kind: kind::ETHERNET, ifindex, ..Source::default() };
        Self { kind: kind::ETHERNET, ifindex, mtu, header: encap::ethernet(macs, ethertype), source }
    }

    /// UDP with a neighbour; `port` is our own. `None` when the address families differ.
    #[must_use]
    pub fn udp(underlay: &Underlay, remote: SocketAddr, port: u16) -> Option<Self> {
        let macs = underlay.macs;
        let mut ports = [0; 4];
        ports[..2].copy_from_slice(&remote.port().to_be_bytes());
        ports[2..].copy_from_slice(&port.to_be_bytes());
        let [ports_be] = words(&ports);
        let (kind, header, addrs_be) = match (remote.ip(), underlay.src) {
            (IpAddr::V4(r), IpAddr::V4(l)) => {
                let header = encap::udp4(macs, (l.octets(), port), (r.octets(), remote.port()));
                let mut pair = [0; 8];
                pair[..4].copy_from_slice(&r.octets());
                pair[4..].copy_from_slice(&l.octets());
                (kind::UDP4, header, longs(&pair))
            }
            (IpAddr::V6(r), IpAddr::V6(l)) => {
                let header = encap::udp6(macs, (l.octets(), port), (r.octets(), remote.port()));
                let mut pair = [0; 32];
                pair[..16].copy_from_slice(&r.octets());
                pair[16..].copy_from_slice(&l.octets());
                (kind::UDP6, header, longs(&pair))
            }
            _ => return None,
        };
        let source = Source { addrs_be, macs: incoming(macs), ports_be, kind, ifindex: underlay.ifindex };
        Some(Self { kind, ifindex: underlay.ifindex, mtu: underlay.mtu, header, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_its_endpoint() {
        let macs = Macs { dst: [1, 2, 3, 4, 5, 6], src: [7; 6] };
        let entry = |wire: &Wire| TxLink { kind: wire.kind, header: wire.header, ..TxLink::default() };
        let wire = Wire::ethernet(5, macs, 1500, 0x88b5);
        let mac = macs.dst;
        assert_eq!(endpoint_of(&entry(&wire), Some(5)), Some(Endpoint::Ethernet { ifindex: 5, mac }));
        assert_eq!(endpoint_of(&entry(&wire), None), None);
        for (src, remote) in [("192.0.2.1", "198.51.100.7:9"), ("2001:db8::1", "[2001:db8::2]:65000")] {
            let (src, remote): (IpAddr, SocketAddr) = (src.parse().expect("ip"), remote.parse().expect("endpoint"));
            let (ifname, next_hop) = ("x".into(), remote.ip());
            let underlay = Underlay { ifindex: 5, ifname, next_hop, macs, src, mtu: 1500 };
            let wire = Wire::udp(&underlay, remote, 1312).expect("same family");
            assert_eq!(endpoint_of(&entry(&wire), None), Some(Endpoint::Udp { remote, local: Some(src) }));
        }
        assert_eq!(endpoint_of(&TxLink::default(), Some(1)), None);
    }
}
