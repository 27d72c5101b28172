//! Named cases of long labels: what is said of short ones holds for them too, up to 30 bytes.

use rovy_common::label::{Label, Width};
use rovy_common::maps::kind;
use rovy_common::{DropReason, UpReason};

use crate::cases::{FORWARDED, LOCAL, REFUSED, dropped, route, up};
use crate::frames::{Draft, frame, header_from, inner, wrap};
use crate::{Bench, Link};

/// Route bytes of a long label.
const CAPACITY: usize = 30;

fn at(pos: usize, len: usize, bytes: [u8; CAPACITY]) -> Label<4> {
    let mut block = [0; 32];
    (block[0], block[1]) = (pos as u8, len as u8);
    block[2..].copy_from_slice(&bytes);
    Label::read(&block).unwrap()
}

/// Counters that nothing else of the named cases uses.
struct Next(u64);

impl Next {
    fn label(&mut self, label: Label<4>) -> Draft<4> {
        self.0 += 1;
        Draft::new(self.0, &[]).with_long(label)
    }

    fn to(&mut self, width: Width, link: &Link) -> Draft<4> {
        self.label(Label::from_route(&route(width, &[link])).unwrap())
    }
}

pub(crate) fn run(b: &mut Bench, width: Width) {
    let mut next = Next(150_000);
    every_combination(b, width, &mut next);
    labels(b, width, &mut next);
    policy(b, width, &mut next);
    lengths(b, width, &mut next);
}

fn every_combination(b: &mut Bench, width: Width, next: &mut Next) {
    let links = b.links.clone();
    let names = ["eth", "udp4", "udp6", "udp4 zero", "udp6 zero"];
    for from in names {
        for to in names {
            let expected = if from == to { dropped(DropReason::UTurn) } else { FORWARDED };
            b.case(&format!("{from} to {to}, long"), &frame(&links[from], &next.to(width, &links[to])), expected);
        }
    }
    for len in (16..600).step_by(29).chain([1024, 1369, 2031]) {
        for (from, to) in [("udp4", "udp6"), ("eth", "udp4")] {
            let mut d = next.to(width, &links[to]);
            d.inner = inner(len);
            b.case(&format!("{from} to {to}, long, inner {len}"), &frame(&links[from], &d), FORWARDED);
        }
    }
    let d = next.to(width, &links["udp4"]);
    b.case("a counter not seen before, long", &frame(&links["eth"], &d), FORWARDED);
    b.case("a counter seen before, long", &frame(&links["eth"], &d), dropped(DropReason::Replay));
    // Tag, label and what the tag covers of the inner message: every byte of them.
    for byte in (16..72).chain([1, 8, 15]) {
        let mut f = frame(&links["udp6"], &next.to(width, &links["eth"]));
        f[62 + byte] ^= if byte == 1 { 0x20 } else { 1 << (byte % 8) };
        b.case(&format!("byte {byte} changed, long"), &f, dropped(DropReason::BadTag));
    }
    let mut f = frame(&links["udp6"], &next.to(width, &links["eth"]));
    f[62 + 1] ^= 0x10;
    b.case("a long label said to be short", &f, dropped(DropReason::BadTag));
    let mut d = Draft::new(next.0 + 1, &route(width, &[&links["eth"]]));
    d.flags |= 0x10;
    b.case("a short label said to be long", &frame(&links["udp6"], &d), dropped(DropReason::BadTag));
    next.0 += 1;
}

fn labels(b: &mut Bench, width: Width, next: &mut Next) {
    let links = b.links.clone();
    let (eth, hop) = (&links["eth"], route(width, &[&links["udp4"]]));
    let w = hop.len();
    let mut case = |b: &mut Bench, what: &str, label: Label<4>, expected| {
        b.case(&format!("{what}, long"), &frame(eth, &next.label(label)), expected);
    };
    let bad = dropped(DropReason::BadLabel);
    case(b, "len=255 pos=200", at(200, 255, [1; CAPACITY]), bad);
    case(b, "len=255 pos=255", at(255, 255, [1; CAPACITY]), bad);
    case(b, "pos > len", at(3, 2, [1; CAPACITY]), bad);
    case(b, "pos > len at the end", at(30, 29, [1; CAPACITY]), bad);
    case(b, "len beyond the block", at(30, 31, [1; CAPACITY]), bad);
    case(b, "len beyond the block, at its start", at(0, 31, [1; CAPACITY]), bad);
    for len in 0..=CAPACITY {
        case(b, &format!("pos == len == {len}"), at(len, len, [9; CAPACITY]), LOCAL);
    }
    // Wherever the slot stands and wherever the label ends behind it: at 14 too, where a short one would.
    for pos in 0..=CAPACITY - w {
        for len in [pos + w, 14.max(pos + w), 15.max(pos + w), CAPACITY] {
            let mut bytes = [9; CAPACITY];
            bytes[pos..pos + w].copy_from_slice(&hop);
            case(b, &format!("a slot at {pos} of {len}"), at(pos, len, bytes), FORWARDED);
        }
    }
    if width == Width::Two {
        for len in [1, 2, 7, 14, 15, 16, 29, 30] {
            case(b, "a two-byte slot that starts on the last byte", at(len - 1, len, [2; CAPACITY]), bad);
        }
    }
    case(b, "a slot that does not exist", at(0, 20, [0xee; CAPACITY]), REFUSED);
    case(b, "slot 0", at(14, 20, [0; CAPACITY]), REFUSED);
}

fn policy(b: &mut Bench, width: Width, next: &mut Next) {
    let links = b.links.clone();
    let eth = &links["eth"];
    let from_eth = [
        ("tx expired", REFUSED),
        ("no redirect", up(UpReason::EgressUnsupported)),
        ("sealed out", up(UpReason::Sealed)),
        ("no port", dropped(DropReason::EgressDown)),
        ("no counter", dropped(DropReason::EgressDown)),
    ];
    for (name, expected) in from_eth {
        b.case(&format!("{name}, long"), &frame(eth, &next.to(width, &links[name])), expected);
    }
    let from = [
        ("no transit", REFUSED),
        ("sealed in", dropped(DropReason::NotAllowed)),
        ("rx expired", dropped(DropReason::Expired)),
        ("source unknown", up(UpReason::Moved)),
    ];
    for (name, expected) in from {
        b.case(&format!("{name}, long"), &frame(&links[name], &next.to(width, &links["udp6"])), expected);
    }
    for kind in [0, 5, 6, 8, 255] {
        let mut d = next.to(width, &links["udp4"]);
        d.inner[0] = kind;
        b.case("an inner message that may not travel, long", &frame(eth, &d), dropped(DropReason::Malformed));
    }
    let mut f = frame(eth, &next.to(width, &links["udp4"]));
    f[14 + 4] ^= 0x80;
    b.case("an index whose position is known, long", &f, dropped(DropReason::UnknownIndex));
    for (what, byte, name, header) in [("MAC", 11, "eth", 14), ("address", 29, "udp4", 42), ("port", 55, "udp6", 62)] {
        let mut f = frame(&links[name], &next.to(width, &links["udp4 zero"]));
        f[byte] ^= 1;
        b.case(&format!("a neighbour with another {what}, long"), &f, up(UpReason::Moved));
        f[header + 16] ^= 1;
        b.case("the same without the key, long", &f, dropped(DropReason::BadTag));
    }
    let mut f = frame(&links["udp4"], &next.to(width, eth));
    f[5] ^= 4;
    // The addresses say whose it is, and they are the link's no more.
    b.case("to somebody else, long", &f, None);
    let other = next.to(width, &links["udp4"]).message(&eth.rx);
    b.case("from Ethernet over UDP, long", &wrap(header_from(7, kind::UDP6), &other), up(UpReason::Moved));
}

fn lengths(b: &mut Bench, width: Width, next: &mut Next) {
    let links = b.links.clone();
    let (eth, udp4, narrow) = (&links["eth"], &links["udp4"], &links["narrow"]);
    for (from, to) in [(eth, udp4), (udp4, eth), (&links["udp6"], udp4), (eth, &links["udp6 zero"])] {
        for padding in [1, 18, 400] {
            let mut f = frame(from, &next.to(width, to));
            f.extend(vec![0x55; padding]);
            b.case("trailing padding, long", &f, FORWARDED);
        }
    }
    for (more, expected) in [(0, FORWARDED), (1, REFUSED)] {
        let mut d = next.to(width, narrow);
        d.inner = inner(200 - 48 - 56 + more);
        b.case("exactly the egress MTU or a byte more, long", &frame(eth, &d), expected);
    }
    let mut d = next.to(width, &links["udp4 zero"]);
    d.inner = inner(8800);
    b.case("a jumbo frame in fragments, long", &frame(eth, &d), up(UpReason::Oversized));
    for link in [eth, udp4, &links["udp6"]] {
        let n = link.rx.neighbour as u16;
        let mut d = next.to(width, &links["udp4 zero"]);
        d.inner = inner(16);
        let whole = d.message(&link.rx);
        b.case("the shortest, long", &wrap(header_from(n, link.tx.kind), &whole), FORWARDED);
        for len in 4..whole.len() {
            // Said to be whole, and said to be as short as it is.
            let mut m = whole[..len].to_vec();
            let bad = dropped(DropReason::BadLength);
            b.case(&format!("cut to {len}, long"), &wrap(header_from(n, link.tx.kind), &m), bad);
            m[2..4].copy_from_slice(&(len as u16).to_le_bytes());
            b.case(&format!("of {len}, long"), &wrap(header_from(n, link.tx.kind), &m), bad);
        }
    }
}
