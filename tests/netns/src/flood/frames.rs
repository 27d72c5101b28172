//! The hellos of a flood: whole frames, made beforehand.

use crate::Link;
use anyhow::{Context as _, Result};
use rovy_common::encap::{self, Macs};
use rovy_common::hello::{self, Sealed};
use rovy_common::label::Width;
use rovy_common::maps::kind;
use rovy_common::siphash::Key;
use rovy_common::wire::{ETHERTYPE, MessageType, PORT, VERSION};
use rovy_userspace::core::{Action, Budget, Node, NodeConfig, Now, Psk, mac1_key};
use rovy_userspace::identity::{PeerId, SecretKey};
use rovy_userspace::transport::Endpoint;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of every frame, padding included.
pub(super) const BYTES: usize = 384;
/// Different sources of a flood as large as it gets, and frames; then they come again.
pub const SOURCES: u32 = 1 << 16;
/// Keys whose hellos the forged frames carry: each is answered once, and its copies are refused by their timestamp.
const KEYS: u64 = 32;

/// What the hellos of a flood are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Random bytes behind the header of a hello.
    Random,
    /// Hellos to another node.
    WrongMac1,
    /// Hellos to the victim from forged addresses, each another.
    Spoofed,
    /// One hello over and over, every second one from where it came from first.
    Replayed,
    /// No hellos: data, responses and cookie replies that no session knows, and beacons.
    Strays,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Random, Self::WrongMac1, Self::Spoofed, Self::Replayed, Self::Strays];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::WrongMac1 => "wrong_mac1",
            Self::Spoofed => "spoofed",
            Self::Replayed => "replayed",
            Self::Strays => "strays",
        })
    }
}

/// Whom a flood is sent to, over which segment.
#[derive(Clone, Copy, Debug)]
pub struct Victim {
    /// The node.
    pub id: PeerId,
    /// Its MAC address there, and the attacker's.
    pub macs: Macs,
    /// Its IPv4 address there.
    pub ip4: Ipv4Addr,
    /// Its IPv6 address there.
    pub ip6: Ipv6Addr,
}

/// Repeatable noise (splitmix64).
struct Noise(u64);

impl Noise {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A frame as words in memory order.
pub(super) type Frame = [u64; BYTES / 8];

/// The frames of a flood from so many sources, at most [`SOURCES`].
///
/// # Errors
/// When a hello cannot be made.
pub(super) fn make(kind: Kind, link: Link, victim: &Victim, sources: u32) -> Result<Vec<Frame>> {
    let mut noise = Noise(kind as u64 + 1);
    let hellos = match kind {
        Kind::Random | Kind::Strays => Vec::new(),
        Kind::WrongMac1 => vec![made(&mut noise, None)?],
        Kind::Spoofed => (0..KEYS).map(|_| made(&mut noise, Some(victim.id))).collect::<Result<_>>()?,
        Kind::Replayed => vec![made(&mut noise, Some(victim.id))?],
    };
    let mac1 = mac1_key(victim.id.public_key());
    let frame = |n: u32| {
        let from = if kind == Kind::Replayed && n.is_multiple_of(2) { 0 } else { n };
        let message = match hellos.get(n as usize % hellos.len().max(1)) {
            Some(hello) => hello.clone(),
            None if kind == Kind::Strays => stray(&mut noise, n, &mac1),
            None => random(&mut noise, MessageType::Hello),
        };
        words(&wrap(link, victim, from, &message))
    };
    Ok((0..sources.min(SOURCES)).map(frame).collect())
}

/// Noise that has the shape of a message.
fn random(noise: &mut Noise, kind: MessageType) -> Vec<u8> {
    let mut m = vec![0; kind.min_len()];
    noise.fill(&mut m[4..]);
    let length = (m.len() as u16).to_le_bytes();
    m[..4].copy_from_slice(&[kind as u8, VERSION, length[0], length[1]]);
    m
}

/// What only a session of the victim's could make sense of. Responses carry its mac1.
fn stray(noise: &mut Noise, n: u32, mac1: &Key) -> Vec<u8> {
    const KINDS: [MessageType; 4] =
        [MessageType::Data, MessageType::Response, MessageType::CookieReply, MessageType::Beacon];
    let mut m = random(noise, KINDS[n as usize % KINDS.len()]);
    if let (Some(at), Some(sealed)) = (MessageType::from_byte(m[0]).and_then(Sealed::macs_at), Sealed::read(&m)) {
        let [a, b] = hello::mac(mac1, &sealed.covered);
        m[at..at + 8].copy_from_slice(&a.to_le_bytes());
        m[at + 8..at + 16].copy_from_slice(&b.to_le_bytes());
    }
    m
}

fn key(noise: &mut Noise) -> SecretKey {
    SecretKey::generate(&mut |out| noise.fill(out))
}

/// The hello of a key made for this, to a node or to one made for this as well.
fn made(noise: &mut Noise, to: Option<PeerId>) -> Result<Vec<u8>> {
    let to = to.unwrap_or_else(|| key(noise).peer_id());
    let config = NodeConfig {
        secret: key(noise),
        width: Width::One,
        transit: true,
        sessions: 2,
        peers: 2,
        handshakes: 2,
        receive_mtu: None,
        aes: true,
        psk: Psk::default(),
        probes: Budget::default(),
    };
    let mut seed = [0; 32];
    noise.fill(&mut seed);
    let mut node = Node::new(config, seed);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let anywhere = Endpoint::Udp { remote: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), local: None };
    node.connect(Now { mono_ns: 1, wall }, to, vec![anywhere], false);
    let sent = std::iter::from_fn(|| node.poll()).find_map(|a| match a {
        Action::Send(_, hello) => Some(hello),
        _ => None,
    });
    sent.context("a node made no hello")
}

/// A message in a frame from the forged source `n`: addresses of the ranges for benchmarks and documentation.
fn wrap(link: Link, victim: &Victim, n: u32, message: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = n.to_be_bytes();
    let mut macs = victim.macs;
    if link == Link::Eth {
        macs.src = [2, 0x77, a, b, c, d];
    }
    let port = 1024 + (n % 60_000) as u16;
    let (kind, header) = match link {
        Link::Eth => (kind::ETHERNET, encap::ethernet(macs, ETHERTYPE)),
        Link::Udp4 => (kind::UDP4, encap::udp4(macs, ([198, 18 + b, c, d], port), (victim.ip4.octets(), PORT))),
        // A network of its own each: that is what limits are kept by.
        Link::Udp6 => {
            let from = Ipv6Addr::new(0x2001, 0xdb8, 0xf, n as u16, 0, 0, 0, 1).octets();
            (kind::UDP6, encap::udp6(macs, (from, port), (victim.ip6.octets(), PORT)))
        }
    };
    let mut frame = header[..encap::header_len(kind)].to_vec();
    frame.extend(message);
    let udp = message.len() as u16 + 8;
    match link {
        Link::Eth => {}
        Link::Udp4 => {
            let sum = encap::ipv4_checksum(u16::from_be_bytes([frame[24], frame[25]]), udp + 20, 0);
            frame[16..18].copy_from_slice(&(udp + 20).to_be_bytes());
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            frame[38..40].copy_from_slice(&udp.to_be_bytes());
        }
        Link::Udp6 => {
            frame[18..20].copy_from_slice(&udp.to_be_bytes());
            frame[58..60].copy_from_slice(&udp.to_be_bytes());
            // The stack takes no datagram without a checksum over IPv6. Addresses to the end, next header and length.
            let pairs = frame[22..].chunks(2).map(|p| u64::from(u16::from_be_bytes([p[0], p[1]])));
            let sum = encap::udp_checksum(pairs.sum::<u64>() + 17 + u64::from(udp));
            frame[60..62].copy_from_slice(&sum.to_be_bytes());
        }
    }
    frame
}

fn words(frame: &[u8]) -> Frame {
    let mut out = [0; BYTES / 8];
    for (word, chunk) in out.iter_mut().zip(frame.chunks(8)) {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_frames_are_what_their_kind_says() {
        let id = key(&mut Noise(77)).peer_id();
        let macs = Macs { dst: [2; 6], src: [4; 6] };
        let victim = Victim { id, macs, ip4: Ipv4Addr::new(10, 77, 3, 2), ip6: Ipv6Addr::LOCALHOST };
        let mac1 = mac1_key(id.public_key());
        for link in Link::ALL {
            let (at, sources) = match link {
                Link::Eth => (encap::ETH, 6..12),
                Link::Udp4 => (encap::UDP4, 26..36),
                Link::Udp6 => (encap::UDP6, 22..56),
            };
            for kind in Kind::ALL {
                let frames = make(kind, link, &victim, 1 << 12).expect("frames");
                let bytes = |f: &Frame| f.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
                let different: BTreeSet<_> = frames.iter().map(|f| bytes(f)[sources.clone()].to_vec()).collect();
                let expected = if kind == Kind::Replayed { (1 << 11) + 1 } else { 1 << 12 };
                assert_eq!(different.len(), expected, "{kind} over {link}");
                for f in frames.iter().skip(1).step_by(512) {
                    let sealed = Sealed::read(&bytes(f)[at..]).expect("a hello, or a response");
                    let right = matches!(kind, Kind::Spoofed | Kind::Replayed | Kind::Strays);
                    assert_eq!(sealed.is_for(&mac1), right, "{kind} over {link}");
                }
            }
        }
    }
}
