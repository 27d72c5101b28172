//! Hellos and responses: the gate in memory, and frames for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use rovy_common::encap::{self, Macs};
use rovy_common::hello::{self, Bucket, LOADS, Load, Prefix, Sealed, Verdict, Whence};
use rovy_common::hop::Message;
use rovy_common::maps::{Limits, Rate, Secrets, TxLink, kind};
use rovy_common::siphash::Key;
use rovy_common::wire::{ETHERTYPE, MessageType};
use rovy_common::{Counter, DropReason, UpReason};

use crate::Bench;
use crate::frames::{self, header_from, wrap};
use crate::model::{Parsed, XDP_TX, encapsulate, parse};

/// Key of mac1 for the node under test.
pub(crate) const MAC1: Key = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
pub(crate) const SECRETS: Secrets = Secrets { current: [21, 22], previous: [23, 24] };
/// Fills a response whose receiver index is given.
pub(crate) const FILL: u8 = 45;
/// Receiver indexes that the node gave out and that are of no link.
pub(crate) const GIVEN: [u32; 2] = [FILL as u32 * 0x0101_0101, (FILL as u32 + 1) * 0x0101_0101];
/// So long that no token grows during a test.
const NEVER: u64 = 1 << 41;
/// Hellos without proof that the node under test takes, and of each other kind of load.
const UNPROVEN: u64 = 60;
pub(crate) const LIMITS: Limits = Limits {
    source: Rate { interval_ns: NEVER, burst_ns: 5 * NEVER },
    load: Rate { interval_ns: NEVER, burst_ns: UNPROVEN * NEVER },
    refused: Rate { interval_ns: NEVER, burst_ns: crate::model::REFUSED * NEVER },
};

type Cells = Rc<[Cell<u64>; 2]>;

#[derive(Default)]
pub(crate) struct Gate {
    sources: RefCell<BTreeMap<Prefix, Cells>>,
    loads: [Cells; LOADS as usize],
}

pub(crate) struct One(Cells, usize);

impl Bucket for One {
    fn load(&self) -> u64 {
        self.0[self.1].get()
    }
    fn exchange(&self, old: u64, new: u64) -> bool {
        self.0[self.1].replace(new) == old
    }
}

impl hello::Gate for Gate {
    type Bucket<'a> = One;
    fn now_ns(&self) -> u64 {
        2
    }
    fn secrets(&self) -> Option<&Secrets> {
        Some(&SECRETS)
    }
    fn bucket(&self, prefix: &Prefix, proven: bool) -> Option<One> {
        Some(One(self.sources.borrow_mut().entry(*prefix).or_default().clone(), usize::from(proven)))
    }
    fn load(&self, of: Load) -> Option<One> {
        Some(One(self.loads[of as usize].clone(), 0))
    }
    fn nonce(&self) -> u64 {
        0
    }
}

impl Gate {
    /// What is counted about what belongs to no session, and would go up for this reason.
    pub(crate) fn other(&self, p: &Parsed, reason: UpReason) -> Counter {
        match hello::stray(self, &LIMITS, &Whence::of(&p.source)) {
            Verdict::Drop(reason) => Counter::Drop(reason),
            Verdict::Admit | Verdict::Reply(_) => Counter::Up(reason),
        }
    }

    /// What is counted about a hello or response; `CookieReply` stands for an answer.
    pub(crate) fn admit(&self, p: &Parsed, message: &[u8], mute: bool) -> Counter {
        let m = Sealed::read(message).unwrap();
        match hello::judge(self, &MAC1, &LIMITS, &m, &Whence::of(&p.source)) {
            Verdict::Admit => Counter::Up(UpReason::Control),
            Verdict::Drop(reason) => Counter::Drop(reason),
            Verdict::Reply(_) if mute => match hello::within(self, &LIMITS, Load::Replies) {
                Verdict::Admit => Counter::Up(UpReason::Control),
                _ => Counter::Drop(DropReason::BadMac2),
            },
            Verdict::Reply(_) => Counter::CookieReply,
        }
    }
}

/// The frame that answers a hello's frame, with the nonce that the program chose in `sent`.
pub(crate) fn answer(f: &[u8], sent: &[u8]) -> Vec<u8> {
    let p = parse(f).unwrap();
    let nonce = sent.get(p.header + 8..p.header + 16).map_or(0, |n| u64::from_le_bytes(n.try_into().unwrap()));
    let m = Sealed::read(&f[p.header..]).unwrap();
    let w = hello::reply(&m, &Whence::of(&p.source).cookie(&SECRETS.current), nonce);
    let mac = |at: usize| f[at..at + 6].try_into().unwrap();
    let macs = Macs { dst: mac(6), src: if f[0] & 1 == 0 { mac(0) } else { frames::MAC } };
    let port = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
    let ip4 = |at: usize| f[at..at + 4].try_into().unwrap();
    let ip6 = |at: usize| f[at..at + 16].try_into().unwrap();
    let header = match p.source.kind {
        kind::UDP4 => encap::udp4(macs, (ip4(30), port(36)), (ip4(26), port(34))),
        kind::UDP6 => encap::udp6(macs, (ip6(38), port(56)), (ip6(22), port(54))),
        _ => encap::ethernet(macs, ETHERTYPE),
    };
    let tx = TxLink { kind: p.source.kind, header, ..TxLink::default() };
    let words = Message::<2> { head: [w[0], w[1]], tag: w[2], label: [w[3], w[4]], inner: [0; 2] };
    let mut out = encapsulate(&tx, &words, &[]);
    out.resize(out.len().max(60), 0);
    out
}

/// A message of a type that has MACs, filled with `n`, with mac1 and, given a cookie, mac2.
pub(crate) fn sealed(kind: MessageType, n: u8, cookie: Option<&Key>) -> Vec<u8> {
    let mut m = vec![n; kind.min_len()];
    m[0] = kind as u8;
    m[1] = 1;
    let length = m.len() as u16;
    m[2..4].copy_from_slice(&length.to_le_bytes());
    let at = m.len() - 32;
    m[at..].fill(0);
    let covered = Sealed::read(&m).unwrap().covered;
    for (i, key) in [Some(&MAC1), cookie].into_iter().enumerate() {
        let words = key.map_or([0; 2], |k| hello::mac(k, &covered));
        for (j, word) in words.iter().enumerate() {
            m[at + 16 * i + 8 * j..at + 16 * i + 8 * j + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
    m
}

/// The cookie of who sends a frame with these header bytes.
pub(crate) fn cookie(header: &[u8], secret: &Key) -> Key {
    Whence::of(&parse(header).unwrap().source).cookie(secret)
}

pub(crate) fn run(b: &mut Bench) {
    let control = Some(Counter::Up(UpReason::Control));
    let dropped = |r: DropReason| Some(Counter::Drop(r));
    let kinds = [kind::ETHERNET, kind::UDP4, kind::UDP6];
    let hello = |n: u8, cookie: Option<&Key>| sealed(MessageType::Hello, n, cookie);
    for kind in kinds {
        let header = header_from(60, kind);
        let with = |message: &[u8]| wrap(header.clone(), message);
        b.case("a response with mac1", &with(&sealed(MessageType::Response, FILL, None)), control);
        for (t, bytes) in [(MessageType::Hello, 128), (MessageType::Response, 128)] {
            for bit in (0..bytes).step_by(11) {
                let mut m = sealed(t, FILL, None);
                let at = m.len() - 32 + bit / 8;
                m[at] ^= 1 << (bit % 8);
                b.case("a wrong bit in mac1", &with(&m), dropped(DropReason::BadMac1));
            }
            let mut m = sealed(t, FILL, None);
            m[39] ^= 1;
            b.case("a wrong bit in what mac1 covers", &with(&m), dropped(DropReason::BadMac1));
            m[39] ^= 1;
            m[40] ^= 1;
            let seen = b.check(&with(&m), "a wrong bit behind it");
            assert_eq!(seen.counter, control);
        }
    }
    responses(b);
    strays(b);
    // A source of its own each: three have taken a token each so far, one for the bit behind.
    for n in 0..UNPROVEN as u16 - 3 {
        b.case("a hello without proof", &wrap(header_from(n, kind::UDP4), &hello(n as u8, None)), control);
    }
    for (i, kind) in kinds.into_iter().enumerate() {
        let header = header_from(200 + i as u16, kind);
        let with = |message: &[u8]| wrap(header.clone(), message);
        let padding = if kind == kind::ETHERNET { 100 } else { 0 };
        let mut f = with(&hello(1, None));
        f.resize(f.len() + padding, 0x55);
        b.case("under load", &f, dropped(DropReason::BadMac2));
        b.case("a cookie of nobody", &with(&hello(2, Some(&[1, 2]))), dropped(DropReason::BadMac2));
        for secret in [&SECRETS.current, &SECRETS.previous] {
            b.case("a proven source", &with(&hello(3, Some(&cookie(&header, secret)))), control);
        }
        let mut elsewhere = header.clone();
        if kind != kind::ETHERNET {
            // The cookie is not for this port, and neither for this address.
            let port = header.len() - 7;
            elsewhere[port] ^= 1;
            let f = wrap(elsewhere.clone(), &hello(3, Some(&cookie(&header, &SECRETS.current))));
            let outcome = b.check(&f, "a cookie of another port");
            assert_eq!((outcome.action, outcome.counter), (XDP_TX, dropped(DropReason::BadMac2)));
        }
    }
    let mut f = wrap(header_from(210, kind::ETHERNET), &hello(1, None));
    f[..6].fill(0xff);
    let outcome = b.check(&f, "to everybody, under load");
    assert_eq!(outcome.bytes[6..12], frames::MAC);
    b.settle("to everybody, under load");
    f[14 + 300] ^= 1;
    b.case("to everybody else", &f, dropped(DropReason::BadMac1));
    let header = header_from(220, kind::UDP4);
    for n in 0..5 {
        b.case("tokens of a forged source", &wrap(header.clone(), &hello(n, None)), dropped(DropReason::BadMac2));
    }
    b.case("no more of them", &wrap(header.clone(), &hello(9, None)), dropped(DropReason::RateLimited));
    let proof = cookie(&header, &SECRETS.current);
    for n in 0..5 {
        b.case("tokens of a proven source", &wrap(header.clone(), &hello(n, Some(&proof))), control);
    }
    b.case("no more of them", &wrap(header, &hello(9, Some(&proof))), dropped(DropReason::RateLimited));
    b.mute(true);
    for n in 0..UNPROVEN as u16 {
        b.case("the agent answers", &wrap(header_from(130 + n, kind::UDP4), &hello(1, None)), control);
    }
    b.case("nobody does", &wrap(header_from(195, kind::UDP4), &hello(1, None)), dropped(DropReason::BadMac2));
    b.mute(false);
}

/// Six responses have been taken so far.
fn responses(b: &mut Bench) {
    let with = |message: &[u8]| wrap(header_from(61, kind::UDP4), message);
    let unknown = Some(Counter::Drop(DropReason::UnknownIndex));
    b.case("a response that nobody waits for", &with(&sealed(MessageType::Response, 7, None)), unknown);
    let mut m = sealed(MessageType::Response, FILL, None);
    m[11] ^= 0x80;
    b.case("a response to an index at the same position", &with(&m), unknown);
    let right = with(&sealed(MessageType::Response, FILL, None));
    for _ in 0..UNPROVEN - 6 {
        b.case("a response", &right, Some(Counter::Up(UpReason::Control)));
    }
    b.case("more responses than a node asks for", &right, Some(Counter::Drop(DropReason::RateLimited)));
}

/// What names no receiver index that was given out.
fn strays(b: &mut Bench) {
    let whole = |of: MessageType, index: u32| {
        let mut m = vec![0; of.min_len()];
        m[..2].copy_from_slice(&[of as u8, 1]);
        m[2] = of.min_len() as u8;
        m[4..8].copy_from_slice(&index.to_le_bytes());
        m
    };
    for kind in [kind::ETHERNET, kind::UDP4, kind::UDP6] {
        for of in [MessageType::Data, MessageType::CookieReply] {
            for (index, expected) in [
                (GIVEN[1], Counter::Up(UpReason::Control)),
                (GIVEN[1] ^ 1 << 31, Counter::Drop(DropReason::UnknownIndex)),
                (0, Counter::Drop(DropReason::UnknownIndex)),
            ] {
                let f = wrap(header_from(62, kind), &whole(of, index));
                b.case(&format!("{of:?} to index {index:x}"), &f, Some(expected));
            }
        }
        // As long as a transit message with the longest label.
        let mut m = vec![0; 88];
        m[..4].copy_from_slice(&[MessageType::Transit as u8, 1 | 0x10, 88, 0]);
        m[4..8].copy_from_slice(&GIVEN[0].to_le_bytes());
        let f = wrap(header_from(62, kind), &m);
        b.case("a long label that no link has", &f, Some(Counter::Drop(DropReason::UnknownIndex)));
    }
    let limited = Some(Counter::Drop(DropReason::RateLimited));
    let mut taken = 0;
    for station in 64..120 {
        let beacon = wrap(header_from(station, kind::UDP4), &whole(MessageType::Beacon, 0));
        let mut of_this = 0;
        while b.check(&beacon, "a beacon").counter == Some(Counter::Up(UpReason::Control)) {
            (taken, of_this) = (taken + 1, of_this + 1);
            assert!(of_this <= 5, "one source is not limited");
        }
        assert!(taken <= UNPROVEN, "beacons are not limited");
        assert!(of_this > 0 || taken > 5, "one source takes all there is");
    }
    b.settle("beacons");
    b.case("a beacon too many", &wrap(header_from(121, kind::UDP4), &whole(MessageType::Beacon, 0)), limited);
    let mut f = wrap(header_from(63, kind::ETHERNET), &whole(MessageType::Beacon, 0));
    f[..6].fill(0xff);
    b.case("to everybody", &f, limited);
    let mut m = whole(MessageType::Data, 1);
    m.resize(4500, 0);
    b.case("a jumbo frame of nobody's", &wrap(header_from(63, kind::UDP4), &m), limited);
    m[4..8].copy_from_slice(&GIVEN[0].to_le_bytes());
    let f = wrap(header_from(63, kind::UDP4), &m);
    b.case("a jumbo frame of a session's", &f, Some(Counter::Up(UpReason::Oversized)));
}
