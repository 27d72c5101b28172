//! Echo requests to all neighbours, and peers that do not answer.

use super::*;
use crate::core::node::ALL_NODES;

/// An echo request to all nodes.
fn request(from: PeerId) -> Vec<u8> {
    let mut packet = ipv6(from, from, 128);
    packet[6] = 58;
    packet[24..40].copy_from_slice(&ALL_NODES.octets());
    packet
}

fn ask(w: &mut World, packet: &[u8]) -> Result<usize, DropReason> {
    let now = w.now();
    let sent = w.nodes[0].packet_to_all(now, packet);
    w.settle();
    sent
}

#[test]
fn an_echo_request_to_all_reaches_every_neighbour_and_nobody_behind() {
    let mut w = World::new(4);
    w.connect(0, 1);
    w.connect(0, 2);
    w.connect(2, 3);
    let packet = request(w.id(0));
    assert_eq!(ask(&mut w, &packet), Ok(2));
    let mut at: Vec<_> = w.arrived.iter().map(|(at, p)| (*at, p == &packet)).collect();
    at.sort_unstable();
    assert_eq!(at, [(1, true), (2, true)]);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_session_over_others_carries_nothing_to_all_in_either_direction() {
    let mut w = line();
    w.send(0, 2, 1).expect("sealed");
    let packet = request(w.id(0));
    assert_eq!(ask(&mut w, &packet), Ok(1), "r alone");
    let (b, now) = (w.id(2), w.now());
    w.nodes[0].send_as(now, b, rovy_common::wire::codec::IPV6, &packet);
    w.settle();
    assert_eq!(w.drops, [DropReason::NotAllowed], "b takes it from neighbours only");
}

#[test]
fn nothing_but_an_echo_request_goes_to_all_or_is_taken() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let good = request(w.id(0));
    let change = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let (peer, mut refused) = (w.id(1), 0);
    for bad in [change(6, 17), change(6, 0), change(40, 129), change(40, 134), change(25, 5), change(39, 2)] {
        assert_eq!(ask(&mut w, &bad), Err(DropReason::NotAllowed));
        let now = w.now();
        w.nodes[0].send_to(now, peer, &bad);
        w.settle();
        refused += 1;
        assert_eq!(w.drops.len(), refused, "{bad:?}");
    }
    assert_eq!(ask(&mut w, &change(20, 9)), Err(DropReason::BadInnerSource));
    assert!(w.arrived.is_empty());
}

#[test]
fn there_are_so_many_echo_requests_to_all_a_second() {
    let mut w = World::new(2);
    let packet = request(w.id(0));
    assert_eq!(ask(&mut w, &packet), Err(DropReason::NoRoute), "there is no neighbour");
    w.connect(0, 1);
    let sent = (0..1000).filter(|_| ask(&mut w, &packet).is_ok()).count();
    assert!((10..=30).contains(&sent), "{sent} at once");
    assert_eq!(ask(&mut w, &packet), Err(DropReason::RateLimited));
    w.pass(1);
    assert_eq!(ask(&mut w, &packet), Ok(1));
}

/// A peer that is configured and gone: programs are told within two hellos, then at once, and it is reached when it is back.
#[test]
fn programs_learn_soon_that_a_peer_does_not_answer() {
    let mut w = World::new(2);
    w.dead.insert((0, 1));
    w.connect(0, 1);
    w.send(0, 1, 1).expect("it waits");
    w.pass(4);
    assert!(w.refused.is_empty(), "a hello may be lost");
    w.pass(11);
    assert_eq!(w.refused.len(), 1, "the program is told");
    assert_eq!(w.send(0, 1, 2), Err(DropReason::NoRoute), "and the next one at once");
    assert!(w.nodes[0].knows(w.id(1).address()) && !w.nodes[0].knows("fc99::1".parse().expect("an address")));
    w.dead.clear();
    w.pass(10);
    w.send(0, 1, 3).expect("it is back");
    assert_eq!(w.arrived.last().map(|(at, p)| (*at, p[40])), Some((1, 3)));
}
