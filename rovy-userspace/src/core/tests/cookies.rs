//! A responder under load asks the initiator to prove its address.

use rovy_common::hello::{self, Sealed};
use zerocopy::IntoBytes;

use super::*;

const COOKIE: [u64; 2] = [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00];

/// Node 0 has sent a hello to node 1 that did not arrive.
fn asking() -> (World, Vec<u8>) {
    let mut w = World::new(3);
    let (id, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, id, vec![endpoint(1)], true);
    w.collect(0);
    let hello = w.flights.remove(0).bytes;
    (w, hello)
}

fn reply_to(hello: &[u8], nonce: u64) -> Vec<u8> {
    let sealed = Sealed::read(hello).expect("a hello");
    hello::reply(&sealed, &COOKIE, nonce).as_bytes().to_vec()
}

fn mac2(hello: &[u8]) -> [u64; 2] {
    Sealed::read(hello).expect("a hello").mac2
}

fn proof(hello: &[u8]) -> [u64; 2] {
    hello::mac(&COOKIE, &Sealed::read(hello).expect("a hello").covered)
}

fn give(w: &mut World, from: usize, message: &[u8]) -> Result<Inbound, DropReason> {
    let now = w.now();
    let taken = w.nodes[0].message(now, &Origin::Direct(endpoint(from)), &mut message.to_vec());
    w.collect(0);
    taken
}

#[test]
fn the_hello_is_sent_again_at_once_with_its_proof() {
    let (mut w, hello) = asking();
    assert_eq!(mac2(&hello), [0; 2]);
    assert_eq!(give(&mut w, 1, &reply_to(&hello, 1)), Ok(Inbound::Done));
    assert_eq!(w.flights.len(), 1);
    let again = &w.flights[0];
    assert_eq!((again.to, &again.bytes[..304]), (1, &hello[..304]));
    assert_eq!(mac2(&again.bytes), proof(&hello));
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_cookie_is_used_for_two_minutes() {
    let (mut w, hello) = asking();
    give(&mut w, 1, &reply_to(&hello, 1)).expect("authentic");
    w.flights.clear();
    let end = w.now_ns + 119 * SECOND;
    let (mut with, mut without) = (0, 0);
    while w.now_ns < end + 60 * SECOND {
        w.now_ns = w.nodes[0].deadline().max(w.now_ns + 1);
        let now = w.now();
        w.nodes[0].timeout(now);
        w.collect(0);
        for flight in std::mem::take(&mut w.flights) {
            let proven = mac2(&flight.bytes) == proof(&flight.bytes);
            assert_eq!(proven, w.now_ns < end + 2 * SECOND, "{} s", w.now_ns / SECOND);
            if proven { with += 1 } else { without += 1 }
        }
    }
    assert!(with > 5 && without > 0, "{with} and {without}");
}

/// Neither by a reply from elsewhere, nor by one that comes when the session is there.
#[test]
fn a_cookie_reply_that_moves_the_endpoint() {
    let (mut w, hello) = asking();
    assert_eq!(give(&mut w, 2, &reply_to(&hello, 1)), Err(DropReason::NotAllowed));
    assert!(w.flights.is_empty());
    let now = w.now();
    let origin = Origin::Routed { slot: 1, hops: Hops::new() };
    assert_eq!(w.nodes[0].message(now, &origin, &mut reply_to(&hello, 1)), Err(DropReason::NotAllowed));
    w.flights.push(Flight { to: 1, origin: Origin::Direct(endpoint(0)), bytes: hello.clone() });
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected);
    assert_eq!(give(&mut w, 2, &reply_to(&hello, 1)), Err(DropReason::UnknownIndex));
    let peer = w.nodes[0].peers().next().expect("the peer");
    assert_eq!(peer.path, Some(Path::Direct(endpoint(1))));
}

#[test]
fn only_who_saw_the_hello_makes_a_reply_and_not_without_end() {
    let (mut w, hello) = asking();
    let good = reply_to(&hello, 1);
    for bit in 32..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 { DropReason::UnknownIndex } else { DropReason::BadTag };
        assert_eq!(give(&mut w, 1, &bad), Err(expected), "bit {bit}");
    }
    assert!(w.flights.is_empty());
    for nonce in 0..4 {
        assert_eq!(give(&mut w, 1, &reply_to(&hello, nonce)), Ok(Inbound::Done));
    }
    assert_eq!(give(&mut w, 1, &reply_to(&hello, 9)), Err(DropReason::Limit));
    assert_eq!(w.flights.len(), 4);
}

#[test]
fn each_path_has_its_own_cookie() {
    let mut w = World::new(3);
    let (id, now) = (w.id(1), w.now());
    let segment = |mac| Endpoint::Ethernet { ifindex: 3, mac: [mac; 6] };
    w.nodes[0].connect(now, id, vec![endpoint(1), segment(0xff)], true);
    let sent = |w: &mut World| {
        let all = std::iter::from_fn(|| w.nodes[0].poll());
        all.filter_map(|a| if let Action::Send(path, bytes) = a { Some((path, bytes)) } else { None })
            .collect::<Vec<_>>()
    };
    let first = sent(&mut w);
    assert_eq!(first.len(), 2);
    // The station behind a broadcast answers from its own address; what is sent again goes where it went before.
    let mut reply = reply_to(&first[0].1, 1);
    w.nodes[0].message(now, &Origin::Direct(segment(2)), &mut reply).expect("authentic");
    let again = sent(&mut w);
    assert_eq!((again.len(), &again[0].0), (1, &Path::Direct(segment(0xff))));
    w.now_ns += 6 * SECOND;
    let now = w.now();
    w.nodes[0].timeout(now);
    let retried = sent(&mut w);
    assert_eq!(retried.len(), 2);
    for (path, bytes) in retried {
        let expected = if path == Path::Direct(segment(0xff)) { proof(&bytes) } else { [0; 2] };
        assert_eq!(mac2(&bytes), expected, "{path:?}");
    }
}
