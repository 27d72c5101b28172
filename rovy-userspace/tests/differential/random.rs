//! Random frames: mostly right, so that they get deep into the switch, then spoilt in the ways that could hurt.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rovy_common::hop::{self, Message};
use rovy_common::label::{Label, Width};
use rovy_common::maps::kind;
use rovy_common::wire::{FLAG_LONG_LABEL, MessageType};
use rovy_common::{Counter, DropReason, UpReason};

use crate::frames::{self, Draft};
use crate::{Bench, Link, hellos};

/// Frames between two comparisons of all counters.
const BATCH: u32 = 25;

/// Numbers of a repeatable sequence.
struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0.next_u32() as usize % n
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn word(&mut self) -> u64 {
        self.0.next_u64()
    }
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// Runs `count` frames.
pub(crate) fn run(bench: &mut Bench, width: Width, seed: u64, count: u32) {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed ^ u64::from(width.bytes())));
    let links: Vec<Link> = bench.links.values().cloned().collect();
    let mut counter = 100_000;
    for i in 0..count {
        counter += dice.below(3) as u64;
        let link = dice.pick(&links);
        let frame = if dice.one_in(20) {
            sealed(&mut dice)
        } else if dice.one_in(50) {
            noise(&mut dice, &link)
        } else {
            likely(&mut dice, width, &links, &link, counter)
        };
        bench.check(&frame, &format!("random frame {i}"));
        if i % BATCH == 0 {
            bench.settle(&format!("random frames up to {i}"));
        }
    }
    bench.settle("random frames");
    // A generator that misses a branch would prove nothing about it.
    let reasons = [
        DropReason::Malformed,
        DropReason::BadVersion,
        DropReason::BadLength,
        DropReason::UnknownIndex,
        DropReason::Expired,
        DropReason::BadTag,
        DropReason::Replay,
        DropReason::BadLabel,
        DropReason::NoSlot,
        DropReason::UTurn,
        DropReason::TooBig,
        DropReason::NotAllowed,
        DropReason::EgressDown,
        DropReason::Limit,
        DropReason::BadMac1,
        DropReason::BadMac2,
        DropReason::RateLimited,
    ];
    let mut expected: Vec<Counter> = reasons.into_iter().map(Counter::Drop).collect();
    expected.extend(UpReason::ALL.iter().map(|r| Counter::Up(*r)));
    expected.extend([Counter::Forwarded, Counter::CookieReply]);
    for c in expected {
        assert!(bench.expected[c.index() as usize] > 0, "no random frame was counted as {c:?}");
    }
    let forwarded = bench.expected[Counter::Forwarded.index() as usize];
    assert!(forwarded > u64::from(count) / 10, "only {forwarded} of {count} random frames were forwarded");
}

/// A label: legal at some position, sometimes not.
fn label<const W: usize>(dice: &mut Dice, width: Width, links: &[Link]) -> Label<W> {
    let capacity = Label::<W>::CAPACITY;
    let words = std::array::from_fn(|_| dice.word());
    if dice.one_in(20) {
        return Label(words);
    }
    if dice.one_in(20) {
        // Small numbers for position and length, with garbage behind.
        let mut label = Label(words);
        label.0[0] = words[0] & !0xffff | dice.below(capacity + 4) as u64 | (dice.below(capacity + 4) as u64) << 8;
        return label;
    }
    let w = width.bytes() as usize;
    let len = dice.below(capacity + 1);
    let mut route = vec![0; len];
    dice.0.fill_bytes(&mut route);
    // Often the last place, and odd ones: two-byte slots may start anywhere.
    let pos = if dice.one_in(4) { len.saturating_sub(w) } else { dice.below(len + 1) };
    if pos + w <= len {
        let slot = dice.pick(links).rx.slot.to_be_bytes();
        route[pos..pos + w].copy_from_slice(&slot[2 - w..]);
    }
    let mut label = Label::<W>::from_route(&route).unwrap();
    label.0[0] += pos as u64;
    label
}

fn likely(dice: &mut Dice, width: Width, links: &[Link], link: &Link, counter: u64) -> Vec<u8> {
    let len = if dice.one_in(3) { 16 + dice.below(2800) } else { 16 + dice.below(200) };
    let mut inner = frames::inner(len);
    if dice.one_in(20) {
        inner[0] = dice.below(9) as u8;
    }
    let mut counter = counter;
    if dice.one_in(20) {
        counter = dice.word() >> dice.below(60);
    } else if dice.one_in(10) {
        counter -= dice.below(9000) as u64;
    }
    let flags = 1 | dice.pick(&[0, 0, 0, 0x20, 0x40, 0x60, 0x80]);
    let mut message = if dice.one_in(3) {
        let flags = flags | FLAG_LONG_LABEL;
        Draft::<4> { flags, counter, label: label(dice, width, links), inner }.message(&link.rx)
    } else {
        Draft::<2> { flags, counter, label: label(dice, width, links), inner }.message(&link.rx)
    };
    if dice.one_in(12) {
        spoil_message(dice, link, &mut message);
    }
    let n = if dice.one_in(25) { 200 } else { link.rx.neighbour as u16 };
    let kind = if dice.one_in(40) { dice.pick(&[kind::ETHERNET, kind::UDP4, kind::UDP6]) } else { link.tx.kind };
    let mut frame = frames::wrap(frames::header_from(n, kind), &message);
    if dice.one_in(4) {
        spoil_frame(dice, &mut frame);
    }
    frame
}

/// Other messages, other lengths, with the tag computed anew so that the checks behind it are reached.
fn spoil_message(dice: &mut Dice, link: &Link, m: &mut Vec<u8>) {
    match dice.below(5) {
        0 => m[0] = dice.below(9) as u8,
        1 => m[1] = dice.word() as u8,
        2 => {
            let length = dice.pick(&[0, 3, 4, 55, 56, m.len() - 1, m.len() + 1, 65_535]) as u16;
            m[2..4].copy_from_slice(&length.to_le_bytes());
        }
        3 => m.truncate(56.min(m.len())),
        _ => {
            m[0] = dice.pick(&[1, 2, 3, 5]);
            let len = dice.pick(&[320, 156, 40]);
            m.resize(len, 0);
            let len = len as u16;
            m[2..4].copy_from_slice(&len.to_le_bytes());
        }
    }
    if m.get(1).is_some_and(|flags| flags & FLAG_LONG_LABEL != 0) {
        tag_again::<4>(link, m);
    } else {
        tag_again::<2>(link, m);
    }
}

fn tag_again<const W: usize>(link: &Link, m: &mut [u8]) {
    if let Some(mut read) = Message::<W>::read(m) {
        read.tag = hop::tag(&link.rx.keys.tag, &read);
        read.write(m).unwrap();
    }
}

fn spoil_frame(dice: &mut Dice, f: &mut Vec<u8>) {
    match dice.below(9) {
        // One bit anywhere, or in what is read of the message.
        0 => {
            let at = dice.below(f.len());
            f[at] ^= 1 << dice.below(8);
        }
        1 => {
            let at = dice.below(f.len().min(118));
            f[at] ^= 1 << dice.below(8);
        }
        2 => f.truncate((14 + dice.below(f.len())).min(f.len())),
        // Padding.
        3 => f.extend(vec![0; dice.below(60)]),
        // Somebody else's.
        4 => f[5] ^= 1,
        5 => f[0] ^= 1,
        // Another sender, who holds the right keys.
        6 => f[11] ^= 1,
        // Another address or port of the IP and UDP headers.
        7 => {
            let at = 14 + dice.below(48).min(f.len() - 15);
            f[at] = f[at].wrapping_add(1);
        }
        // A VLAN tag.
        _ => {
            let tagged = [&f[..12], &[0x81, 0, 0, 7], &f[12..]].concat();
            *f = tagged;
        }
    }
}

/// A hello or response from somebody, with and without proof.
fn sealed(dice: &mut Dice) -> Vec<u8> {
    let kind = dice.pick(&[kind::ETHERNET, kind::UDP4, kind::UDP6]);
    let header = frames::header_from(dice.below(250) as u16, kind);
    let of = dice.pick(&[MessageType::Hello, MessageType::Response]);
    let cookie = match dice.below(5) {
        0 => Some(hellos::cookie(&header, &hellos::SECRETS.current)),
        1 => Some(hellos::cookie(&header, &hellos::SECRETS.previous)),
        2 => Some([dice.word(), dice.word()]),
        _ => None,
    };
    let fill = if dice.one_in(3) { hellos::FILL } else { dice.word() as u8 };
    let mut message = hellos::sealed(of, fill, cookie.as_ref());
    if dice.one_in(4) {
        let at = 4 + dice.below(message.len() - 4);
        message[at] ^= 1 << dice.below(8);
    }
    let mut frame = frames::wrap(header, &message);
    if dice.one_in(6) {
        spoil_frame(dice, &mut frame);
    }
    frame
}

/// A frame whose message is nothing but noise.
fn noise(dice: &mut Dice, link: &Link) -> Vec<u8> {
    let mut message = vec![0; dice.below(300)];
    dice.0.fill_bytes(&mut message);
    if dice.one_in(2) && message.len() >= 4 {
        message[0] = dice.below(9) as u8;
        message[1] = 1;
        let len = message.len() as u16;
        message[2..4].copy_from_slice(&len.to_le_bytes());
    }
    if dice.one_in(10) {
        message.resize(4500, 0);
    }
    frames::wrap(frames::header_from(link.rx.neighbour as u16, link.tx.kind), &message)
}
