//! Who may make the agent work: mac1, mac2 and token buckets in front of the handshake. One function for the XDP programs,
//! the agent and the tests; what differs is where buckets and secrets live.
//!
//! A message without mac1 was made by nobody who knows this node. A hello without a valid mac2 may come from a forged address:
//! of these only [`Limits::load`] are let through, the others get a cookie that proves the address with the next hello.

use core::net::{IpAddr, SocketAddr};

use crate::DropReason;
use crate::maps::{Limits, Rate, Secrets, Source, kind};
use crate::siphash::{Key, Sip, sip64, sip128};
use crate::wire::{CookieReply, FLAG_VERSION_MASK, Hello, MAC_COVERS, MessageType, Response, VERSION};

/// How often a lost compare-and-swap is tried again. Each loss means another CPU took a token meanwhile.
const TRIES: usize = 4;
/// Words that the two MACs cover.
pub const COVERED: usize = MAC_COVERS / 8;
/// Words of a cookie reply.
pub const REPLY: usize = size_of::<CookieReply>() / 8;

/// What is read of a hello or response, as little-endian words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The bytes that the MACs cover.
    pub covered: [u64; COVERED],
    /// Keyed by the receiver's public key.
    pub mac1: [u64; 2],
    /// Keyed by a cookie.
    pub mac2: [u64; 2],
}

impl Sealed {
    /// Offset of the MACs of a message of this type. `None` for a type that has none.
    #[must_use]
    pub const fn macs_at(kind: MessageType) -> Option<usize> {
        match kind {
            MessageType::Hello => Some(size_of::<Hello>() - 32),
            MessageType::Response => Some(size_of::<Response>() - 32),
            _ => None,
        }
    }

    /// Reads a hello or response. `None` when `message` is neither or too short.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let at = Self::macs_at(MessageType::from_byte(*message.first()?)?)?;
        let word = |i: usize| Some(u64::from_le_bytes(*message.get(i..)?.first_chunk()?));
        let mut covered = [0; COVERED];
        for (i, w) in covered.iter_mut().enumerate() {
            *w = word(8 * i)?;
        }
        Some(Self { covered, mac1: [word(at)?, word(at + 8)?], mac2: [word(at + 16)?, word(at + 24)?] })
    }

    /// Whether it carries the MAC of the node whose key is `mac1`.
    #[inline(always)]
    #[must_use]
    pub fn is_for(&self, mac1: &Key) -> bool {
        same(mac(mac1, &self.covered), self.mac1)
    }

    /// Whether its mac2 is the one of this cookie.
    #[inline(always)]
    #[must_use]
    fn holds(&self, cookie: &Key) -> bool {
        same(mac(cookie, &self.covered), self.mac2)
    }
}

#[inline(always)]
fn same(a: [u64; 2], b: [u64; 2]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) == 0
}

/// mac1 or mac2, by the key: SipHash-2-4-128 over the first [`MAC_COVERS`] bytes.
#[inline(always)]
#[must_use]
pub fn mac(key: &Key, covered: &[u64; COVERED]) -> [u64; 2] {
    let mut s = Sip::new128(key);
    let mut i = 0;
    while i < COVERED {
        s = s.word(covered[i]);
        i += 1;
    }
    s.finish128()
}

/// Where a message came from, as far as a cookie binds it. Only the node itself reads these words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whence {
    /// The address: IPv4 and MAC addresses in the first word.
    addr: [u64; 2],
    /// One of [`kind`], and above it the UDP port or the interface.
    rest: u64,
}

/// What buckets are kept by: an IPv4 address, an IPv6 /64, a station on an interface, or a slot.
pub type Prefix = [u64; 2];

/// Stands for [`kind`] in the prefix of what came out of transit.
const SLOT: u64 = 255;

/// The prefix of what comes out of transit over a slot: nothing else about its source is certain.
#[must_use]
pub const fn slot_prefix(slot: u16) -> Prefix {
    [slot as u64, SLOT]
}

impl Whence {
    /// Of a frame in XDP.
    #[inline(always)]
    #[must_use]
    pub const fn of(s: &Source) -> Self {
        let port = (s.ports_be & 0xffff) as u64;
        match s.kind {
            kind::UDP4 => Self { addr: [s.addrs_be[0] & 0xffff_ffff, 0], rest: s.kind as u64 | port << 32 },
            kind::UDP6 => Self { addr: [s.addrs_be[0], s.addrs_be[1]], rest: s.kind as u64 | port << 32 },
            _ => {
                let mac = (s.macs[1] >> 16) as u64 | (s.macs[2] as u64) << 16;
                Self { addr: [mac, 0], rest: s.kind as u64 | (s.ifindex as u64) << 32 }
            }
        }
    }

    /// Of a datagram.
    #[must_use]
    pub fn udp(from: SocketAddr) -> Self {
        let port = u64::from(u16::from_le_bytes(from.port().to_be_bytes())) << 32;
        match from.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let addr = u64::from(u32::from_le_bytes(ip.octets()));
                Self { addr: [addr, 0], rest: u64::from(kind::UDP4) | port }
            }
            IpAddr::V6(ip) => {
                let word = u128::from_le_bytes(ip.octets());
                Self { addr: [word as u64, (word >> 64) as u64], rest: u64::from(kind::UDP6) | port }
            }
        }
    }

    /// Of a raw Ethernet frame: its source address and the interface it came in by.
    #[must_use]
    pub const fn ethernet(mac: [u8; 6], ifindex: u32) -> Self {
        let [a, b, c, d, e, f] = mac;
        let mac = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        Self { addr: [mac, 0], rest: kind::ETHERNET as u64 | (ifindex as u64) << 32 }
    }

    /// What its buckets are kept by.
    #[inline(always)]
    #[must_use]
    pub const fn prefix(&self) -> Prefix {
        let kind = self.rest & 0xffff_ffff;
        [self.addr[0], if kind == kind::ETHERNET as u64 { self.rest } else { kind }]
    }

    /// The cookie that proves this source, under one secret.
    #[inline(always)]
    #[must_use]
    pub fn cookie(&self, secret: &Key) -> Key {
        Sip::new128(secret).word(self.addr[0]).word(self.addr[1]).word(self.rest).finish128()
    }
}

/// A token bucket: the time in ns until which its tokens are spent. Zero is a full bucket.
pub trait Bucket {
    /// The time as it stands.
    fn load(&self) -> u64;
    /// Stores `new` where `old` still stands; whether it did.
    fn exchange(&self, old: u64, new: u64) -> bool;
}

/// What a bucket becomes when a token is taken at `now_ns`; `None` when it is empty.
#[inline(always)]
#[must_use]
pub const fn spend(spent_ns: u64, now_ns: u64, rate: &Rate) -> Option<u64> {
    let from = if spent_ns > now_ns { spent_ns } else { now_ns };
    let until = from.wrapping_add(rate.interval_ns);
    if until.wrapping_sub(now_ns) > rate.burst_ns { None } else { Some(until) }
}

/// Takes a token; whether there was one.
#[inline(always)]
#[must_use]
pub fn take(bucket: &impl Bucket, now_ns: u64, rate: &Rate) -> bool {
    let mut tries = 0;
    while tries < TRIES {
        let old = bucket.load();
        let Some(new) = spend(old, now_ns, rate) else { return false };
        if bucket.exchange(old, new) {
            return true;
        }
        tries += 1;
    }
    false
}

/// What the node takes only so much of, whoever sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Load {
    /// Hellos that do not prove their source.
    Hellos = 0,
    /// Responses to hellos of this node's own.
    Responses = 1,
    /// What belongs to no session: beacons, frames to a group of stations, bytes that cannot be told.
    Others = 2,
    /// Hellos that the agent is to answer with a cookie reply, where the kernel cannot.
    Replies = 3,
}

/// How many buckets [`Load`] names.
pub const LOADS: u32 = 4;

/// Where the state in front of the handshake is kept.
pub trait Gate {
    /// A bucket.
    type Bucket<'a>: Bucket
    where
        Self: 'a;
    /// Coarse monotonic clock in ns.
    fn now_ns(&self) -> u64;
    /// The secrets of cookies.
    fn secrets(&self) -> Option<&Secrets>;
    /// A prefix's bucket of hellos that prove their source, or of those that do not. `None` when none can be kept.
    fn bucket(&self, prefix: &Prefix, proven: bool) -> Option<Self::Bucket<'_>>;
    /// A bucket of the whole node.
    fn load(&self, of: Load) -> Option<Self::Bucket<'_>>;
    /// Eight bytes that differ from reply to reply.
    fn nonce(&self) -> u64;
}

/// What becomes of a hello or response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The agent may spend a Diffie-Hellman on it.
    Admit,
    /// Drop it as [`DropReason::BadMac2`] and send this to where it came from.
    Reply([u64; REPLY]),
    /// Drop it.
    Drop(DropReason),
}

/// Judges a hello or response that came outermost; [`crate::wire::check`] accepted it.
#[inline(always)]
#[must_use]
pub fn judge<G: Gate>(gate: &G, mac1: &Key, limits: &Limits, m: &Sealed, whence: &Whence) -> Verdict {
    if !m.is_for(mac1) {
        return Verdict::Drop(DropReason::BadMac1);
    }
    if m.covered[0] as u8 != MessageType::Hello as u8 {
        return within(gate, limits, Load::Responses);
    }
    let Some(secrets) = gate.secrets() else { return Verdict::Drop(DropReason::Limit) };
    let cookie = whence.cookie(&secrets.current);
    let proven = m.holds(&cookie) || m.holds(&whence.cookie(&secrets.previous));
    // Apart, so that nobody who forges an address spends what its owner can prove to be his.
    let Some(bucket) = gate.bucket(&whence.prefix(), proven) else { return Verdict::Drop(DropReason::Limit) };
    if !take(&bucket, gate.now_ns(), &limits.source) {
        return Verdict::Drop(DropReason::RateLimited);
    }
    let Some(load) = gate.load(Load::Hellos) else { return Verdict::Drop(DropReason::Limit) };
    if proven || take(&load, gate.now_ns(), &limits.load) {
        return Verdict::Admit;
    }
    Verdict::Reply(reply(m, &cookie, gate.nonce()))
}

/// Judges what is limited for the whole node only.
#[inline(always)]
#[must_use]
pub fn within<G: Gate>(gate: &G, limits: &Limits, of: Load) -> Verdict {
    match gate.load(of) {
        None => Verdict::Drop(DropReason::Limit),
        Some(bucket) if take(&bucket, gate.now_ns(), &limits.load) => Verdict::Admit,
        Some(_) => Verdict::Drop(DropReason::RateLimited),
    }
}

/// Judges what belongs to no session, such as a beacon: a flood from one source takes nothing from another.
#[inline(always)]
#[must_use]
pub fn stray<G: Gate>(gate: &G, limits: &Limits, whence: &Whence) -> Verdict {
    match gate.bucket(&whence.prefix(), false) {
        None => Verdict::Drop(DropReason::Limit),
        Some(bucket) if take(&bucket, gate.now_ns(), &limits.source) => within(gate, limits, Load::Others),
        Some(_) => Verdict::Drop(DropReason::RateLimited),
    }
}

/// Judges a hello or response that came out of transit over a link: there is no address that a cookie could bind.
#[must_use]
pub fn judge_routed<G: Gate>(gate: &G, mac1: &Key, limits: &Limits, m: &Sealed, slot: u16) -> Verdict {
    if !m.is_for(mac1) {
        return Verdict::Drop(DropReason::BadMac1);
    }
    if m.covered[0] as u8 != MessageType::Hello as u8 {
        return within(gate, limits, Load::Responses);
    }
    match gate.bucket(&slot_prefix(slot), true) {
        None => Verdict::Drop(DropReason::Limit),
        Some(bucket) if take(&bucket, gate.now_ns(), &limits.source) => Verdict::Admit,
        Some(_) => Verdict::Drop(DropReason::RateLimited),
    }
}

/// The words of the cookie reply to a hello: mask and tag are keyed by its mac1, which nobody knows who did not see it.
#[inline(always)]
#[must_use]
pub fn reply(hello: &Sealed, cookie: &Key, nonce: u64) -> [u64; REPLY] {
    const FIRST: u64 =
        MessageType::CookieReply as u64 | (VERSION as u64) << 8 | (size_of::<CookieReply>() as u64) << 16;
    let mask = sip128(&hello.mac1, &[nonce]);
    // The receiver index is the hello's sender index, at the same place.
    let mut out = [FIRST | hello.covered[0] & !0xffff_ffff, nonce, cookie[0] ^ mask[0], cookie[1] ^ mask[1], 0];
    out[4] = sip64(&hello.mac1, &[out[0], out[1], out[2], out[3]]);
    out
}

/// The cookie in a reply to the hello that carried `mac1`; `None` when the reply is not authentic.
#[must_use]
pub fn open(mac1: &[u64; 2], reply: &[u64; REPLY]) -> Option<Key> {
    let [first, nonce, a, b, tag] = *reply;
    let version = (first >> 8) as u8 & FLAG_VERSION_MASK;
    if version != VERSION || sip64(mac1, &[first, nonce, a, b]) != tag {
        return None;
    }
    let mask = sip128(mac1, &[nonce]);
    Some([a ^ mask[0], b ^ mask[1]])
}

const _: () = assert!(size_of::<CookieReply>() == 8 * REPLY && MAC_COVERS == 8 * COVERED);

#[cfg(test)]
mod tests;
