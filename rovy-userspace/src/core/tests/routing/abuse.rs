//! What neighbours, hops and peers may try.

use super::*;
use crate::core::probes::Search;
use rovy_common::wire::{Control, Header, KeyAnswer, MessageType, codec, control};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

/// A grid of 4 by 4.
fn grid() -> World {
    let across = (0..16).filter(|n| n % 4 < 3).map(|n| (n, n + 1));
    let down = (0..12).map(|n| (n, n + 4));
    net(16, &across.chain(down).collect::<Vec<_>>())
}

fn sent(w: &World) -> u64 {
    w.nodes.iter().map(|n| n.probe_counts().sent).sum()
}

impl World {
    /// A probe of `a`'s making comes to its neighbour `b`.
    pub(super) fn inject(&mut self, a: usize, b: usize, body: &[u8]) {
        let (id, now) = (self.id(b), self.now());
        self.nodes[a].send_as(now, id, codec::PROBE, body);
        self.settle();
    }

    pub(super) fn forged(&self, id: u64, origin: u64, target: usize, hops: u8) -> Search {
        Search::new(id, origin, self.id(target).address(), hops, &[])
    }
}

pub(super) fn key_answer(probe: u64, key: [u8; 32]) -> Vec<u8> {
    let header = Header::new(MessageType::Control, size_of::<KeyAnswer>() as u16);
    let control = Control { header, kind: control::KEY, reason: 0, mtu: U16::ZERO, nonce: U64::new(probe) };
    KeyAnswer { control, public_key: key }.as_bytes().to_vec()
}

#[test]
fn a_probe_ends_where_there_are_loops() {
    let mut w = grid();
    let (before, answered) = (sent(&w), w.nodes[15].probe_counts().answered);
    w.seek(0, 15);
    // 24 links of 16 nodes; three copies each way at the very most.
    assert!(sent(&w) - before <= 24 * 2 * 3, "{}", sent(&w) - before);
    assert!(w.nodes[15].probe_counts().answered - answered <= 4);
    assert_eq!(w.state(0, 15), PeerState::Connected);
    assert!(w.nodes.iter().all(|n| n.probe_counts().relayed <= 3), "no node passes on more than three copies");
}

#[test]
fn a_storm_of_copies_is_passed_on_three_times_at_most() {
    let mut w = net(5, &[(0, 1), (1, 2), (3, 1), (4, 1)]);
    let body = w.forged(7, 8, 2, 30).bytes();
    for n in 0..100 {
        w.inject([0, 3, 4][n % 3], 1, &body);
    }
    assert_eq!(w.nodes[1].probe_counts().relayed, 2, "a third one would have to take another first hop");
    assert!(w.nodes[2].probe_counts().received <= 2);
}

#[test]
fn a_thousand_origins_from_one_neighbour_take_nothing_from_others() {
    let mut w = net(5, &[(0, 1), (1, 2), (3, 1), (2, 4)]);
    let now = w.now_ns;
    for n in 0..1000 {
        let body = w.forged(n, n, 4, 30).bytes();
        w.inject(0, 1, &body);
    }
    assert_eq!(w.now_ns, now);
    assert_eq!(w.drops.iter().filter(|d| **d == DropReason::RateLimited).count(), 800);
    assert!(w.nodes[1].limits().iter().all(|(_, u)| u.used <= u.max));
    // Node 2 sees what 1 let through: its neighbour 1 has spent all that 2 grants it. A second later all is well.
    w.pass(2);
    w.seek(3, 4);
    assert_eq!(w.state(3, 4), PeerState::Connected);
}

#[test]
fn a_flood_of_probes_leaves_the_routes_of_others_alone() {
    let mut w = ring_of(6);
    w.delay_all(5 * MS);
    w.seek(0, 3);
    w.talk(0, 3, SECOND);
    let (path, mut id) = (w.path(0, 3), 0);
    for _ in 0..50 {
        for _ in 0..50 {
            id += 1;
            let body = w.forged(id, id % 7, 2, 30).bytes();
            w.inject(5, 0, &body);
            w.inject(4, 3, &body);
        }
        let (sent, arrived) = w.talk(0, 3, 20 * MS);
        assert_eq!(arrived.len(), sent);
    }
    assert_eq!(w.path(0, 3), path);
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut w = net(3, &[(0, 1), (1, 2)]);
    for n in 0..20_000 {
        let body = w.forged(n, n % 300, 2, 1).bytes();
        w.inject(0, 1, &body);
        w.now_ns += MS;
    }
    for node in &w.nodes {
        assert!(node.limits().iter().all(|(_, u)| u.used <= u.max), "{:?}", node.limits());
    }
}

#[test]
fn lookups_of_this_hosts_programs_are_bounded() {
    let mut w = net(2, &[(0, 1)]);
    let from = w.id(0);
    let mut waiting = 0;
    for to in peer_ids(200) {
        let packet = ipv6(from, to, 1);
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        let now = w.now();
        waiting += usize::from(w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()).is_ok());
        w.settle();
    }
    assert_eq!(waiting, 64);
    w.pass(10);
    assert_eq!(w.refused.len(), 64);
}

#[test]
fn forged_marks_and_labels_hide_nobody_and_lead_nowhere() {
    let mut w = ring_of(6);
    // Node 1 passes 0's probe on as if it had been everywhere, along a label of its own making.
    let hello = {
        let (id, now) = (w.id(3), w.now());
        w.nodes[0].connect(now, id, Vec::new(), true);
        w.collect(0);
        std::mem::take(&mut w.flights)
    };
    let mut forged = w.forged(1, 2, 3, 30);
    for n in [4, 5, 3] {
        let address = w.id(n).address();
        forged = forged.onward(address, Width::One, 200).expect("fits").expect("goes on");
    }
    w.inject(1, 2, &forged.bytes());
    w.flights = hello;
    w.settle();
    w.pass(1);
    assert_eq!(w.state(0, 3), PeerState::Connected);
    w.talk(0, 3, SECOND);
    let routes = w.routes(3, 0);
    assert!(routes.iter().filter(|r| r.in_use).all(|r| r.state == RouteState::Good), "{routes:?}");
}

#[test]
fn a_changed_copy_that_is_faster_does_not_stop_the_real_one() {
    let mut w = line_of(5);
    let (id, now) = (w.id(4), w.now());
    w.nodes[0].connect(now, id, Vec::new(), true);
    w.collect(0);
    // 1 sends on first what has the probe's id and origin, but another hello.
    let mut real = w.flights.remove(0);
    let probe = {
        let (mut copy, now) = (real.bytes.clone(), w.now());
        let from = w.id(0);
        w.nodes[1].open_for_test(now, from, &mut copy)
    };
    let mut changed = probe.clone();
    let last = changed.len() - 20;
    changed[last] ^= 1;
    w.inject(1, 2, &changed);
    assert_eq!(w.state(0, 4), PeerState::Connecting);
    // The window of 1 has seen the message: the real probe comes anew.
    real.bytes.clear();
    w.inject(0, 1, &probe);
    assert_eq!(w.state(0, 4), PeerState::Connected);
}

#[test]
fn a_probe_with_a_hop_limit_of_none_goes_no_further_and_a_forged_one_thirty_hops() {
    let mut w = line_of(4);
    let mut body = w.forged(1, 2, 3, 0).bytes();
    w.inject(0, 1, &body);
    assert_eq!((w.nodes[1].probe_counts().relayed, w.nodes[2].probe_counts().received), (0, 0));
    body[32] = 255;
    w.inject(0, 1, &body);
    assert_eq!(w.nodes[3].probe_counts().answered, 1);
    assert_eq!(w.drops, [DropReason::NotAllowed], "an answer to a probe that was never sent");
}

#[test]
fn answers_nobody_asked_for_change_nothing() {
    let mut w = line_of(4);
    let key = *w.id(3).public_key();
    let now = w.now();
    let (slot, _) = w.slots[0].first_key_value().expect("a link");
    let origin = Origin::Routed { slot: *slot, hops: Hops::from_iter([1, 1]) };
    for probe in 0..100 {
        let mut answer = key_answer(probe, key);
        assert_eq!(w.nodes[0].message(now, &origin, &mut answer), Err(DropReason::NotAllowed));
    }
    assert_eq!(w.nodes[0].peers().count(), 1);
}

#[test]
fn a_key_that_is_not_the_addresss_is_refused() {
    let mut w = line_of(4);
    let (key, third) = (*w.id(2).public_key(), w.id(3).address());
    let now = w.now();
    // What 0 asks for is taken out of its probe, as 1 can.
    let packet = ipv6(w.id(0), w.id(3), 1);
    let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
    assert_eq!(w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()), Ok(None));
    w.collect(0);
    let mut flight = w.flights.remove(0);
    let from = w.id(0);
    let probe = w.nodes[1].open_for_test(now, from, &mut flight.bytes);
    let id = u64::from_le_bytes(*probe.first_chunk().expect("an id"));
    let origin = Origin::Routed { slot: 1, hops: Hops::new() };
    let over_direct = Origin::Direct(endpoint(1));
    let right = *w.id(3).public_key();
    assert_eq!(w.nodes[0].message(now, &origin, &mut key_answer(id, key)), Err(DropReason::NotAllowed));
    assert_eq!(w.nodes[0].message(now, &origin, &mut key_answer(id, [7; 32])), Err(DropReason::NotAllowed));
    assert_eq!(w.nodes[0].message(now, &over_direct, &mut key_answer(id, right)), Err(DropReason::NotAllowed));
    assert!(w.nodes[0].peers().all(|p| p.address != third));
    assert_eq!(w.nodes[0].message(now, &origin, &mut key_answer(id, right)), Ok(Inbound::Done));
    // Replayed it tells routes, a few times, and nothing more.
    let again: Vec<_> = (0..20u8)
        .map(|n| {
            let origin = Origin::Routed { slot: 1, hops: Hops::from_iter([n]) };
            w.nodes[0].message(now, &origin, &mut key_answer(id, right)).is_ok()
        })
        .collect();
    assert_eq!(again.iter().filter(|ok| **ok).count(), 7);
    let peer = w.id(3);
    assert!(w.nodes[0].routes().iter().filter(|r| r.peer == peer).count() <= 8);
}

#[test]
fn responses_replayed_over_other_ways_are_candidates_for_a_few_seconds() {
    let mut w = line_of(4);
    let (id, now) = (w.id(3), w.now());
    w.nodes[0].connect(now, id, Vec::new(), true);
    w.collect(0);
    let mut response = Vec::new();
    while let Some(flight) = w.flights.pop() {
        if flight.bytes[0] == MessageType::Response as u8 && flight.to == 0 {
            response = flight.bytes.clone();
        }
        w.deliver(flight);
    }
    let path = w.path(0, 3);
    let mut ok = 0;
    for n in 0..20 {
        let origin = Origin::Routed { slot: 1, hops: Hops::from_iter([9, n]) };
        let now = w.now();
        ok += usize::from(w.nodes[0].message(now, &origin, &mut response.clone()).is_ok());
    }
    assert_eq!((ok, w.path(0, 3)), (8, path.clone()));
    w.talk(0, 3, 5 * SECOND);
    assert_eq!(w.path(0, 3), path);
    assert!(w.routes(0, 3).iter().all(|r| r.hops.as_slice() == [2, 2] || r.state != RouteState::Good));
    let now = w.now();
    let origin = Origin::Routed { slot: 1, hops: Hops::new() };
    assert_eq!(w.nodes[0].message(now, &origin, &mut response), Err(DropReason::UnknownIndex));
}

#[test]
fn who_may_not_use_a_node_for_transit_is_answered_by_it_and_not_relayed() {
    let mut w = line_of(4);
    let a = w.id(0);
    w.nodes[1].set_transit(a, false);
    w.seek(0, 3);
    assert_eq!((w.state(0, 3), &w.drops[..]), (PeerState::Connecting, &[DropReason::NotAllowed][..]));
    let body = w.forged(1, 2, 1, 30).bytes();
    w.inject(0, 1, &body);
    assert_eq!(w.nodes[1].probe_counts().answered, 1);
    let before = w.nodes[0].probe_counts().received;
    w.seek(3, 2);
    w.seek(3, 0);
    assert_eq!(w.nodes[0].probe_counts().received, before, "nor is it asked for others");
}

#[test]
fn a_probe_over_hops_is_refused() {
    let mut w = line_of(4);
    w.seek(0, 2);
    let body = w.forged(1, 2, 3, 30).bytes();
    w.inject(0, 2, &body);
    assert_eq!((w.drops.as_slice(), w.nodes[2].probe_counts().received), (&[DropReason::NotAllowed][..], 1));
}

#[test]
fn the_pseudonym_changes_every_ten_minutes() {
    let mut w = net(3, &[(0, 1)]);
    let mut names = Vec::new();
    for _ in 0..3 {
        let (id, now) = (w.id(2), w.now());
        w.nodes[0].disconnect(now, id);
        w.nodes[0].connect(now, id, Vec::new(), false);
        w.collect(0);
        let mut flight = w.flights.remove(0);
        let from = w.id(0);
        let probe = w.nodes[1].open_for_test(now, from, &mut flight.bytes);
        names.push(probe[8..16].to_vec());
        w.pass(301);
    }
    assert_eq!(names[0], names[1]);
    assert_ne!(names[1], names[2]);
}

#[test]
fn clocks_that_jump_break_no_search() {
    let mut w = ring_of(6);
    for at in [SECOND, 86_400 * SECOND, 5 * SECOND] {
        w.now_ns = at;
        w.seek(0, 3);
        w.pass(2);
        for n in 0..6 {
            assert!(w.nodes[n].limits().iter().all(|(_, u)| u.used <= u.max));
        }
    }
}
