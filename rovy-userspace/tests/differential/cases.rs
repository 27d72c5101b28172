//! Named cases: what a stranger or a peer may send that must not harm.

use rovy_common::hop::{self, Message};
use rovy_common::label::{Label, Width};
use rovy_common::maps::kind;
use rovy_common::wire::MessageType;
use rovy_common::{Counter, DropReason, UpReason};

use crate::frames::{Draft, frame, header_from, inner, wrap};
use crate::model::{REFUSED as REFUSALS, encapsulate};
use crate::{Bench, Link};

const KINDS: [u32; 3] = [kind::ETHERNET, kind::UDP4, kind::UDP6];
pub(crate) const FORWARDED: Option<Counter> = Some(Counter::Forwarded);
pub(crate) const LOCAL: Option<Counter> = Some(Counter::Up(UpReason::Local));
/// The first of each link: their senders are told.
pub(crate) const REFUSED: Option<Counter> = Some(Counter::Up(UpReason::Refused));

pub(crate) fn dropped(reason: DropReason) -> Option<Counter> {
    Some(Counter::Drop(reason))
}

pub(crate) fn up(reason: UpReason) -> Option<Counter> {
    Some(Counter::Up(reason))
}

/// Slots as they stand in a route.
pub(crate) fn route(width: Width, links: &[&Link]) -> Vec<u8> {
    let w = width.bytes() as usize;
    links.iter().flat_map(|l| l.rx.slot.to_be_bytes()[2 - w..].to_vec()).collect()
}

fn at(pos: u8, len: u8, bytes: [u8; 14]) -> Label<2> {
    let mut block = [0; 16];
    block[0] = pos;
    block[1] = len;
    block[2..].copy_from_slice(&bytes);
    Label::read(&block).unwrap()
}

pub(crate) fn run(b: &mut Bench, width: Width) {
    let links = b.links.clone();
    let link = |name: &str| &links[name];
    let mut counter = 0;
    let mut draft = |route: &[u8]| {
        counter += 1;
        Draft::new(counter, route)
    };
    every_combination(b, width, &mut draft);
    labels(b, width, &mut draft);
    policy(b, width, &mut draft);
    refusals(b, width, &mut draft);
    foreign(b, &mut draft, &route(width, &[link("udp4")]));
    sizes(b, width, &mut draft);
    truncated(b);
}

fn every_combination(b: &mut Bench, width: Width, draft: &mut impl FnMut(&[u8]) -> Draft) {
    let links = b.links.clone();
    let names = ["eth", "udp4", "udp6", "udp4 zero", "udp6 zero"];
    for from in names {
        for to in names {
            let d = draft(&route(width, &[&links[to]]));
            let expected = if from == to { dropped(DropReason::UTurn) } else { FORWARDED };
            b.case(&format!("{from} to {to}"), &frame(&links[from], &d), expected);
        }
    }
    // Every length modulo the checksum's pieces.
    for len in (16..600).step_by(13).chain([1024, 1369, 1408, 2047]) {
        let mut d = draft(&route(width, &[&links["udp6"]]));
        d.inner = inner(len);
        b.case(&format!("udp4 to udp6, inner {len}"), &frame(&links["udp4"], &d), FORWARDED);
        let mut d = draft(&route(width, &[&links["udp4"]]));
        d.inner = inner(len);
        b.case(&format!("eth to udp4, inner {len}"), &frame(&links["eth"], &d), FORWARDED);
    }
    zero_checksum(b, width, draft);
    let mut d = draft(&route(width, &[&links["udp4"]]));
    b.case("a counter not seen before", &frame(&links["eth"], &d), FORWARDED);
    let counter = d.counter;
    let seen = frame(&links["eth"], &d);
    b.case("a counter seen before", &seen, dropped(DropReason::Replay));
    d.counter = counter + 100_000;
    b.case("a counter far ahead", &frame(&links["eth"], &d), FORWARDED);
    // The same word of the window, a turn earlier.
    d.counter -= 32 * rovy_common::replay::WORDS as u64;
    b.case("a counter older than the window", &frame(&links["eth"], &d), dropped(DropReason::Replay));
    d.counter = u64::MAX;
    b.case("a counter beyond the limit", &frame(&links["eth"], &d), dropped(DropReason::Limit));
    for bit in 0..64 {
        let mut f = frame(&links["udp6"], &draft(&route(width, &[&links["eth"]])));
        f[62 + 16 + bit / 8] ^= 1 << (bit % 8);
        b.case("one wrong tag bit", &f, dropped(DropReason::BadTag));
    }
}

/// A UDP checksum that comes out as zero is written as all ones: zero would mean none.
fn zero_checksum(b: &mut Bench, width: Width, draft: &mut impl FnMut(&[u8]) -> Draft) {
    let (eth, udp4) = (b.links["eth"].clone(), b.links["udp4"].clone());
    let mut d = draft(&route(width, &[&udp4]));
    let drawn = b.model.drawn(udp4.tx.counter).unwrap();
    let m = Message::<2>::read(&d.message(&eth.rx)).unwrap();
    let label = d.label.advance(width, eth.rx.slot);
    let out = hop::seal(&udp4.tx.keys, udp4.tx.index, drawn, m.head[0], &label, m.inner);
    let before = encapsulate(&udp4.tx, &out, &d.inner);
    let number = |b: &[u8]| u32::from(u16::from_be_bytes([b[0], b[1]]));
    let at = d.inner.len() - 2;
    let sum = number(&before[40..]) + number(&d.inner[at..]);
    d.inner[at..].copy_from_slice(&(((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    let outcome = b.check(&frame(&eth, &d), "a checksum of zero");
    assert_eq!(outcome.bytes[40..42], [0xff; 2]);
}

fn labels(b: &mut Bench, width: Width, draft: &mut impl FnMut(&[u8]) -> Draft) {
    let links = b.links.clone();
    let (eth, udp4) = (&links["eth"], &links["udp4"]);
    let hop = route(width, &[udp4]);
    let w = hop.len();
    let mut labelled = |label: Label<2>| {
        let mut d = draft(&[]);
        d.label = label;
        frame(eth, &d)
    };
    b.case("len=255 pos=200", &labelled(at(200, 255, [1; 14])), dropped(DropReason::BadLabel));
    b.case("pos > len", &labelled(at(3, 2, [1; 14])), dropped(DropReason::BadLabel));
    b.case("len beyond the block", &labelled(at(14, 15, [1; 14])), dropped(DropReason::BadLabel));
    for len in 0..=14 {
        b.case("pos == len", &labelled(at(len, len, [9; 14])), LOCAL);
    }
    let mut bytes = [9; 14];
    bytes[14 - w..].copy_from_slice(&hop);
    b.case("the longest legal route to the last hop", &labelled(at(14 - w as u8, 14, bytes)), FORWARDED);
    if width == Width::Two {
        b.case(
            "a two-byte slot that starts on the last byte",
            &labelled(at(13, 14, [2; 14])),
            dropped(DropReason::BadLabel),
        );
        b.case("a two-byte slot in a label of one", &labelled(at(0, 1, [2; 14])), dropped(DropReason::BadLabel));
    }
    for pos in 0..=14 - w {
        let mut bytes = [9; 14];
        bytes[pos..pos + w].copy_from_slice(&hop);
        b.case("a slot at every position", &labelled(at(pos as u8, 14, bytes)), FORWARDED);
    }
    b.case("a slot that does not exist", &labelled(at(0, 4, [0xee; 14])), REFUSED);
    b.case("slot 0", &labelled(at(0, 4, [0; 14])), REFUSED);
    let back = draft(&route(width, &[eth]));
    b.case("a route that turns back", &frame(eth, &back), dropped(DropReason::UTurn));
}

/// A neighbour that has a rate: [`crate::RATE`] allows for 100 messages, whichever of its links they come by.
pub(crate) fn limits(b: &mut Bench, width: Width) {
    let links = b.links.clone();
    let names = ["limited", "limited too"];
    let to = |name: &str| route(width, &[&links[name]]);
    let mut counter = 200_000;
    let mut draft = |route: &[u8]| {
        counter += 1;
        Draft::new(counter, route)
    };
    for name in names {
        b.case("what the agent will pay for", &frame(&links[name], &draft(&to("sealed out"))), up(UpReason::Sealed));
        b.case("what ends here", &frame(&links[name], &draft(&[])), LOCAL);
        b.case("no slot", &frame(&links[name], &draft(&[0; 2])), REFUSED);
    }
    for i in 0..100 {
        let from = &links[names[i % 2]];
        if i % 3 == 0 {
            let d = draft(&[]).with_long(Label::from_route(&to("udp6")).unwrap());
            b.case("within the rate, with a long label", &frame(from, &d), FORWARDED);
        } else {
            b.case("within the rate", &frame(from, &draft(&to("udp6"))), FORWARDED);
        }
    }
    for name in names {
        let d = draft(&to("udp6"));
        b.case("beyond the rate", &frame(&links[name], &d), REFUSED);
        b.case("the same again, which went up", &frame(&links[name], &d), REFUSED);
        let d = d.with_long(Label::from_route(&to("udp6")).unwrap());
        let d = Draft { counter: d.counter + 1_000, ..d };
        b.case("with a long label", &frame(&links[name], &d), REFUSED);
        for out in ["sealed out", "no redirect"] {
            b.case("for the agent", &frame(&links[name], &draft(&to(out))), REFUSED);
        }
        b.case("what ends here", &frame(&links[name], &draft(&[])), LOCAL);
        b.case("no slot", &frame(&links[name], &draft(&[0; 2])), REFUSED);
    }
    b.case("others", &frame(&links["eth"], &draft(&to("limited"))), FORWARDED);
}

/// What is refused goes up within the budget of its link, unmarked; nothing else is spent from it.
fn refusals(b: &mut Bench, width: Width, draft: &mut impl FnMut(&[u8]) -> Draft) {
    let links = b.links.clone();
    let from = &links["udp6 zero"];
    let nowhere = vec![0xee; width.bytes() as usize];
    let mut again = None;
    for kind in [3, 7] {
        let mut d = draft(&nowhere);
        d.inner[0] = kind;
        b.case("a control message to nowhere", &frame(from, &d), dropped(DropReason::NoSlot));
    }
    let back = route(width, &[from]);
    b.case("a route that turns back is no refusal", &frame(from, &draft(&back)), dropped(DropReason::UTurn));
    for n in 0..REFUSALS {
        let mut d = draft(&nowhere);
        d.inner[0] = [1, 2, 4][n as usize % 3];
        let f = frame(from, &d);
        b.case("within the budget", &f, REFUSED);
        again = Some(f);
    }
    let over = frame(from, &draft(&nowhere));
    b.case("beyond the budget", &over, dropped(DropReason::NoSlot));
    b.case("beyond the budget, again", &over, dropped(DropReason::Replay));
    // What went up is the agent's to mark.
    b.case("one that went up, again", &again.unwrap(), dropped(DropReason::NoSlot));
    let other = &links["udp4 zero"];
    b.case("another link has its own budget", &frame(other, &draft(&nowhere)), REFUSED);
}

fn policy(b: &mut Bench, width: Width, draft: &mut impl FnMut(&[u8]) -> Draft) {
    let links = b.links.clone();
    let eth = &links["eth"];
    let to = |name: &str| route(width, &[&links[name]]);
    let from_eth = [
        ("tx expired", REFUSED),
        ("no redirect", up(UpReason::EgressUnsupported)),
        ("sealed out", up(UpReason::Sealed)),
        ("no port", dropped(DropReason::EgressDown)),
        ("no counter", dropped(DropReason::EgressDown)),
    ];
    for (name, expected) in from_eth {
        b.case(name, &frame(eth, &draft(&to(name))), expected);
    }
    let from = [
        ("no transit", REFUSED),
        ("sealed in", dropped(DropReason::NotAllowed)),
        ("rx expired", dropped(DropReason::Expired)),
        ("source unknown", up(UpReason::Moved)),
    ];
    for (name, expected) in from {
        b.case(name, &frame(&links[name], &draft(&to("udp6"))), expected);
    }
    b.case(
        "what ends here, over a sealed link",
        &frame(&links["sealed in"], &draft(&[])),
        dropped(DropReason::NotAllowed),
    );
    let mut moved = frame(&links["sealed in"], &draft(&to("udp6")));
    moved[11] ^= 1;
    b.case("over a sealed link from elsewhere", &moved, dropped(DropReason::NotAllowed));
    for (len, expected) in [(1500 - 28 - 52, up(UpReason::Sealed)), (1500 - 28 - 51, REFUSED)] {
        let mut d = draft(&to("sealed out"));
        d.inner = inner(len);
        b.case("a size that just fits a sealed link, or not", &frame(eth, &d), expected);
    }
    for kind in [0, 5, 6, 8, 255] {
        let mut d = draft(&to("udp4"));
        d.inner[0] = kind;
        b.case("an inner message that may not travel", &frame(eth, &d), dropped(DropReason::Malformed));
    }
    let mut f = frame(eth, &draft(&to("udp4")));
    f[14 + 4] ^= 0x80;
    b.case("an index whose position is known", &f, dropped(DropReason::UnknownIndex));
    for (what, byte, name) in [("MAC", 11, "eth"), ("address", 29, "udp4"), ("port", 55, "udp6")] {
        let mut f = frame(&links[name], &draft(&to("udp4 zero")));
        f[byte] ^= 1;
        b.case(&format!("a neighbour with another {what}"), &f, up(UpReason::Moved));
        f[encap_header(&links[name]) + 16] ^= 1;
        b.case("the same without the key", &f, dropped(DropReason::BadTag));
    }
    let mut f = frame(&links["udp4"], &draft(&to("eth")));
    f[11] ^= 1;
    b.case("another router in front of a UDP neighbour", &f, FORWARDED);
    b.case(
        "from Ethernet over UDP",
        &wrap(header_from(7, kind::UDP6), &draft(&to("udp4")).message(&eth.rx)),
        up(UpReason::Moved),
    );
}

fn encap_header(link: &Link) -> usize {
    rovy_common::encap::header_len(link.tx.kind)
}

/// A gateway's other traffic passes untouched and uncounted.
fn foreign(b: &mut Bench, draft: &mut impl FnMut(&[u8]) -> Draft, hop: &[u8]) {
    let links = b.links.clone();
    for (name, bytes) in [("eth", &[5_usize][..]), ("udp4", &[5, 33, 37]), ("udp6", &[5, 53, 57])] {
        for byte in bytes {
            let mut f = frame(&links[name], &draft(hop));
            f[*byte] ^= 4;
            b.case(&format!("{name} to somebody else, byte {byte}"), &f, None);
            let header = encap_header(&links[name]);
            f.truncate(header + 4);
            f[header] = 99;
            b.case("nonsense to somebody else", &f, None);
        }
    }
    let mut f = frame(&links["eth"], &draft(hop));
    f[..6].fill(0xff);
    b.case("broadcast", &f, up(UpReason::Control));
    let mut f = frame(&links["udp4"], &draft(hop));
    f[..6].fill(0xff);
    b.case("UDP to the broadcast MAC", &f, None);
    let f = frame(&links["udp4"], &draft(hop));
    let changed = |at: usize, value: u8| {
        let mut f = f.clone();
        f[at] = value;
        f
    };
    b.case("IPv4 options", &changed(14, 0x46), None);
    b.case("a first fragment", &changed(20, 0x20), None);
    b.case("a last fragment", &changed(21, 1), None);
    b.case("TCP", &changed(23, 6), None);
    let mut f = frame(&links["udp6"], &draft(hop));
    f[20] = 0;
    b.case("IPv6 extension headers", &f, None);
    let f = frame(&links["eth"], &draft(hop));
    b.case("a VLAN tag", &[&f[..12], &[0x81, 0, 0, 7], &f[12..]].concat(), None);
    b.case("ARP", &[&f[..12], &[8, 6], &f[14..]].concat(), None);
}

fn sizes(b: &mut Bench, width: Width, draft: &mut impl FnMut(&[u8]) -> Draft) {
    let links = b.links.clone();
    let (eth, udp4) = (&links["eth"], &links["udp4"]);
    for (from, to) in [(eth, udp4), (udp4, eth), (&links["udp6"], udp4), (eth, &links["udp6 zero"])] {
        for padding in [1, 3, 18, 400] {
            let mut f = frame(from, &draft(&route(width, &[to])));
            f.extend(vec![0x55; padding]);
            b.case("trailing padding", &f, FORWARDED);
        }
    }
    let mut d = draft(&route(width, &[&links["narrow"]]));
    d.inner = inner(200 - 48 - 40);
    b.case("exactly the egress MTU", &frame(eth, &d), FORWARDED);
    let mut d = draft(&route(width, &[&links["narrow"]]));
    d.inner = inner(200 - 48 - 40 + 1);
    b.case("a byte more", &frame(eth, &d), REFUSED);
    for link in [eth, udp4, &links["udp6"]] {
        let mut d = draft(&route(width, &[&links["udp4 zero"]]));
        d.inner = inner(8800);
        b.case("a jumbo frame in fragments", &frame(link, &d), up(UpReason::Oversized));
    }
    for link in [udp4, &links["udp6"]] {
        // Two datagrams that a device would have cut: a local send seen too early.
        let m = draft(&route(width, &[eth])).message(&link.rx);
        let mut two = [m.clone(), m.clone()].concat();
        b.case(
            "a datagram of two messages",
            &wrap(header_from(link.rx.neighbour as u16, link.tx.kind), &two),
            dropped(DropReason::BadLength),
        );
        two.resize(2000, 0);
        b.case(
            "a local GSO send",
            &wrap(header_from(link.rx.neighbour as u16, link.tx.kind), &two),
            up(UpReason::Oversized),
        );
        let good = frame(link, &draft(&route(width, &[eth])));
        let (ip, udp) = if link.tx.kind == kind::UDP4 { (17, 39) } else { (19, 59) };
        for (what, at, change) in [("IP", ip, 1), ("IP", ip, 255), ("UDP", udp, 1), ("UDP", udp, 255)] {
            let mut f = good.clone();
            f[at] = f[at].wrapping_add(change);
            b.case(&format!("{what} length changed by {}", change as i8), &f, dropped(DropReason::BadLength));
        }
        b.case("the frame is shorter than its IP packet", &good[..good.len() - 1], dropped(DropReason::BadLength));
    }
}

fn truncated(b: &mut Bench) {
    let links = b.links.clone();
    for (kind, name) in KINDS.into_iter().zip(["eth", "udp4", "udp6"]) {
        let n = links[name].rx.neighbour as u16;
        b.case("01 00 00 00", &wrap(header_from(n, kind), &[1, 0, 0, 0]), dropped(DropReason::BadVersion));
        b.case("01 01 00 00", &wrap(header_from(n, kind), &[1, 1, 0, 0]), dropped(DropReason::BadLength));
        for t in 0..=8 {
            let Some(known) = MessageType::from_byte(t) else {
                let expected = dropped(DropReason::Malformed);
                b.case("an unknown type", &wrap(header_from(n, kind), &[t, 1, 60, 0].repeat(15)), expected);
                continue;
            };
            let whole = match known {
                MessageType::Transit => Draft::new(1 << 30, &[0xee; 2]).message(&links[name].rx),
                _ => {
                    let mut m = vec![0; known.min_len()];
                    m[0] = t;
                    m[1] = 1;
                    let len = m.len() as u16;
                    m[2..4].copy_from_slice(&len.to_le_bytes());
                    m
                }
            };
            for len in 0..whole.len() {
                // Said to be whole, and said to be as short as it is.
                let mut m = whole[..len].to_vec();
                let expected = if len < 4 { DropReason::Malformed } else { DropReason::BadLength };
                b.case(&format!("type {t} cut to {len}"), &wrap(header_from(n, kind), &m), dropped(expected));
                if (4..known.min_len()).contains(&len) {
                    m[2..4].copy_from_slice(&(len as u16).to_le_bytes());
                    b.case(&format!("type {t} of {len}"), &wrap(header_from(n, kind), &m), dropped(expected));
                }
            }
            let expected = match known {
                MessageType::Transit => REFUSED,
                MessageType::Control => dropped(DropReason::Malformed),
                MessageType::Hello => dropped(DropReason::BadMac1),
                MessageType::Beacon => up(UpReason::Control),
                _ => dropped(DropReason::UnknownIndex),
            };
            b.case(&format!("type {t} whole"), &wrap(header_from(n, kind), &whole), expected);
        }
        // No message at all, and a frame that ends within the headers.
        let header = wrap(header_from(n, kind), &[]);
        b.case("no message", &header, dropped(DropReason::Malformed));
        for len in 14..header.len() {
            b.case("cut headers", &header[..len], None);
        }
    }
}
