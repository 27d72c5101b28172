//! Echoes: a - r - b, and what anybody on the way could send instead.

use rovy_common::wire::{Control, EchoReply, EchoRequest, control};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::*;

/// What a sends to ask b, caught on its way.
struct Caught {
    nonce: u64,
    request: Flight,
}

fn slot(w: &World, at: usize, of: usize) -> u16 {
    *w.slots[at].iter().find(|(_, p)| **p == w.id(of)).expect("a slot").0
}

/// The route from a to b, and the first `hops` of it.
fn route(w: &World, hops: usize) -> (u16, Hops) {
    let (slot, all) = w.nodes[0].route_to(w.id(2)).expect("a route");
    (slot, all.iter().copied().take(hops).collect())
}

fn ask(w: &mut World, peer: Option<usize>, hops: usize) -> Caught {
    let ((slot, hops), peer, now) = (route(w, hops), peer.map(|n| w.id(n)), w.now());
    let nonce = w.nodes[0].who_is_at(now, peer, slot, hops).expect("asked");
    w.collect(0);
    Caught { nonce, request: w.flights.pop().expect("a request") }
}

/// Has the request arrive, and catches the reply.
fn reply(w: &mut World, request: Flight) -> Flight {
    w.deliver(request);
    w.flights.pop().expect("a reply")
}

fn again(flight: &Flight) -> Flight {
    Flight { to: flight.to, origin: flight.origin.clone(), bytes: flight.bytes.clone() }
}

/// A request under any key.
fn request_of(key: [u8; 32], nonce: u64) -> Vec<u8> {
    let head = [&[7, 1, 72, 0, control::ECHO_REQUEST, 0, 0, 0][..], &nonce.to_le_bytes()].concat();
    let control = Control::read_from_bytes(&head).expect("16 bytes");
    EchoRequest { control, public_key: key, reserved: [0; 24] }.as_bytes().to_vec()
}

#[test]
fn each_hop_answers_and_is_remembered() {
    let mut w = line();
    for (hops, who) in [(0, 1), (1, 2)] {
        let Caught { nonce, request } = ask(&mut w, None, hops);
        assert_eq!(w.nodes[0].take_answer(nonce), None);
        let length = request.bytes.len();
        let back = reply(&mut w, request);
        assert_eq!(back.bytes.len(), length, "a reply is no longer than what it answers");
        w.now_ns += 7_000_000;
        w.deliver(back);
        let answer = w.nodes[0].take_answer(nonce).expect("an answer");
        assert_eq!((answer.peer, answer.width, answer.rtt_ns), (w.id(who), Width::One, 7_000_000));
        assert_eq!(answer.slot, slot(&w, who, who - 1), "its slot for where the request came from");
        assert_eq!(w.nodes[0].take_answer(nonce), None, "it is told once");
        let (first, hops) = route(&w, hops);
        assert_eq!(w.nodes[0].met(w.now(), first, &hops).map(|m| m.peer), Some(w.id(who)));
    }
    assert!(w.drops.is_empty(), "{:?}", w.drops);
    w.now_ns += 600 * SECOND;
    let (first, hops) = route(&w, 0);
    assert_eq!(w.nodes[0].met(w.now(), first, &hops), None, "the slot may be another neighbour's by now");
}

#[test]
fn a_forged_reply_changes_nothing() {
    let mut w = line();
    let Caught { nonce, request } = ask(&mut w, None, 1);
    let genuine = reply(&mut w, request);
    // Every byte that tells something: not the header, which hops may mark.
    for at in 4..72 {
        let mut forged = again(&genuine);
        forged.bytes[at] ^= 1;
        w.deliver(forged);
        let reason = w.drops.pop().expect("dropped");
        let expected: &[_] = match at {
            // Another kind of control message, of another length.
            4 => &[DropReason::BadLength],
            8..16 => &[DropReason::UnknownIndex],
            // Most keys are none; one that happens to be has another secret.
            16..48 => &[DropReason::Malformed, DropReason::BadTag, DropReason::RateLimited],
            _ => &[DropReason::BadTag],
        };
        assert!(expected.contains(&reason), "byte {at}: {reason:?}");
        assert_eq!(w.nodes[0].take_answer(nonce), None, "byte {at}");
    }
    let (slot, hops) = route(&w, 1);
    assert_eq!(w.nodes[0].met(w.now(), slot, &hops), None);
    w.deliver(genuine);
    assert_eq!(w.nodes[0].take_answer(nonce).expect("the true one still counts").peer, w.id(2));
}

#[test]
fn another_node_cannot_answer_for_the_one_that_was_asked() {
    let mut w = line();
    let Caught { nonce, request } = ask(&mut w, Some(2), 1);
    // r keeps the request to itself and answers as who it is.
    let (to_r, _) = w.walk(0, &Path::Routed { slot: slot(&w, 0, 1), hops: Hops::new() }).expect("r");
    let origin = Origin::Routed { slot: slot(&w, 1, 0), hops: Hops::new() };
    let honest = reply(&mut w, Flight { to: to_r, origin, bytes: request.bytes });
    // And under b's key, with its own mac.
    let mut posing = again(&honest);
    posing.bytes[16..48].copy_from_slice(w.id(2).public_key());
    w.deliver(honest);
    w.deliver(posing);
    assert_eq!(w.drops, [DropReason::BadInnerSource, DropReason::BadTag]);
    assert_eq!(w.nodes[0].take_answer(nonce), None);
}

#[test]
fn replies_that_are_repeated_unasked_or_late_are_dropped() {
    let mut w = line();
    let Caught { nonce, request } = ask(&mut w, None, 1);
    let unanswered = again(&request);
    let back = reply(&mut w, request);
    w.deliver(again(&back));
    w.deliver(again(&back));
    assert_eq!(w.drops, [DropReason::Replay], "before it is taken");
    assert!(w.nodes[0].take_answer(nonce).is_some());
    w.deliver(again(&back));
    assert_eq!(w.drops.pop(), Some(DropReason::UnknownIndex), "and after");
    // b's answer to somebody else's request reaches a.
    let mut other = unanswered;
    other.bytes = request_of(*w.id(0).public_key(), 99);
    let unasked = reply(&mut w, other);
    w.deliver(unasked);
    assert_eq!(w.drops.pop(), Some(DropReason::UnknownIndex));
    let Caught { nonce, request } = ask(&mut w, None, 1);
    let late = reply(&mut w, request);
    w.now_ns += 10 * SECOND;
    w.deliver(late);
    assert_eq!((w.drops.pop(), w.nodes[0].take_answer(nonce)), (Some(DropReason::UnknownIndex), None));
}

#[test]
fn requests_beyond_the_bucket_of_their_slot_are_dropped() {
    let mut w = line();
    let r = Origin::Routed { slot: slot(&w, 2, 1), hops: Hops::new() };
    let key = *w.id(0).public_key();
    let flood = |w: &mut World, keys: &[[u8; 32]]| {
        w.drops.clear();
        for (n, key) in keys.iter().enumerate() {
            w.deliver(Flight { to: 2, origin: r.clone(), bytes: request_of(*key, n as u64) });
        }
        let answered = w.flights.drain(..).count();
        assert!(w.drops.iter().all(|d| *d == DropReason::RateLimited), "{:?}", w.drops);
        assert_eq!(answered + w.drops.len(), keys.len());
        answered
    };
    assert_eq!(flood(&mut w, &[key; 300]), 100);
    w.now_ns += SECOND;
    assert_eq!(flood(&mut w, &[key; 300]), 100);
    // Each stranger costs a Diffie-Hellman, of which there are fewer; one whose secret is at hand costs none.
    w.now_ns += SECOND;
    let strangers: Vec<_> = peer_ids(80).iter().map(|p| *p.public_key()).collect();
    assert_eq!(flood(&mut w, &strangers), 20);
    assert_eq!(flood(&mut w, &[key; 10]), 10);
    // Another slot has buckets of its own. The answer leads nowhere here.
    w.drops.clear();
    let other = Origin::Routed { slot: 200, hops: Hops::new() };
    w.deliver(Flight { to: 2, origin: other, bytes: request_of(strangers[70], 1) });
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn requests_that_make_no_sense_are_dropped() {
    let mut w = line();
    let routed = Origin::Routed { slot: slot(&w, 2, 1), hops: Hops::new() };
    let good = request_of(*w.id(0).public_key(), 5);
    let short = [&[7, 1, 71, 0], &good[4..71]].concat();
    let bare = [&[7, 1, 16, 0], &good[4..16]].concat();
    let mut error = good.clone();
    error[4] = control::ERROR;
    for (origin, bytes, reason) in [
        (Origin::Direct(endpoint(1)), good.clone(), DropReason::NotAllowed),
        (routed.clone(), error, DropReason::BadLength),
        (routed.clone(), short, DropReason::BadLength),
        (routed.clone(), bare, DropReason::BadLength),
        // Of small order: what X25519 makes of it everybody knows.
        (routed.clone(), request_of([0; 32], 5), DropReason::Malformed),
    ] {
        w.deliver(Flight { to: 2, origin, bytes });
        assert_eq!((w.drops.pop(), w.flights.len()), (Some(reason), 0));
    }
    w.deliver(Flight { to: 2, origin: routed, bytes: good });
    assert!(EchoReply::ref_from_bytes(&w.flights[0].bytes).is_ok());
}

#[test]
fn echoes_under_way_are_bounded() {
    let mut w = line();
    let ((slot, hops), now) = (route(&w, 1), w.now());
    let asked = (0..2000).map_while(|_| w.nodes[0].who_is_at(now, None, slot, hops.clone()).ok()).count();
    assert_eq!(asked, 1024);
    assert_eq!(w.nodes[0].who_is_at(now, None, slot, hops.clone()), Err(DropReason::Limit));
    assert_eq!(w.nodes[0].who_is_at(now, None, 99, Hops::new()), Err(DropReason::NoSlot));
    w.now_ns += 10 * SECOND;
    let now = w.now();
    assert!(w.nodes[0].who_is_at(now, None, slot, hops).is_ok());
}
