//! Probes find nodes.

use super::*;
use rovy_common::wire::PROBE_HOPS;

#[test]
fn the_ends_of_a_line_of_six_find_each_other_by_key() {
    let mut w = line_of(6);
    w.seek(0, 5);
    assert_eq!((w.state(0, 5), w.state(5, 0)), (PeerState::Connected, PeerState::Connected));
    assert_eq!((w.path(0, 5), w.path(5, 0)), (vec![0, 1, 2, 3, 4, 5], vec![5, 4, 3, 2, 1, 0]));
    w.send(0, 5, 1).expect("sealed");
    w.send(5, 0, 2).expect("sealed");
    assert_eq!(w.arrived.iter().map(|(at, p)| (*at, p[40])).collect::<Vec<_>>(), [(5, 1), (0, 2)]);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_packet_for_an_address_alone_arrives() {
    let mut w = line_of(6);
    w.send(0, 5, 7).expect("it waits");
    assert_eq!(w.arrived.iter().map(|(at, p)| (*at, p[40])).collect::<Vec<_>>(), [(5, 7)]);
    assert_eq!(w.state(0, 5), PeerState::Connected);
    w.send(0, 5, 8).expect("sealed");
    assert_eq!(w.arrived.len(), 2);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_lookup_of_a_name_finds_the_way_before_the_first_packet() {
    let mut w = line_of(6);
    let (b, now) = (w.id(5), w.now());
    w.nodes[0].seek(now, b);
    w.settle();
    assert_eq!((w.state(0, 5), w.path(0, 5)), (PeerState::Connected, vec![0, 1, 2, 3, 4, 5]));
    let probes = w.nodes[0].probe_counts().own;
    let now = w.now();
    w.nodes[0].seek(now, b);
    assert_eq!(w.nodes[0].probe_counts().own, probes, "it is known by now");
    assert_eq!(w.nodes[0].at(b.address()), Some(b));
}

#[test]
fn lookups_of_names_that_nobody_has_stay_few() {
    let mut w = line_of(2);
    let now = w.now();
    for n in 100..200 {
        w.nodes[0].seek(now, secret_of(n).peer_id());
    }
    let sought = |w: &World| w.nodes[0].peers().filter(|p| p.state == PeerState::Connecting).count();
    assert_eq!(sought(&w), 32);
    let own = w.id(0);
    w.nodes[0].seek(now, own);
    assert!(w.nodes[0].peers().all(|p| p.id != own));
    // Whoever connects meanwhile finds room, and what was sought in vain is forgotten.
    w.pass(200);
    assert_eq!((sought(&w), w.nodes[0].peers().count()), (0, 1));
}

#[test]
fn both_ways_round_a_ring_become_routes() {
    let mut w = ring_of(6);
    w.seek(0, 3);
    w.send(0, 3, 1).expect("sealed");
    w.pass_ns(100 * MS);
    let routes = w.routes(0, 3);
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(routes.iter().all(|r| r.state == RouteState::Good), "{routes:?}");
    assert_eq!(routes.iter().filter(|r| r.in_use).count(), 1);
}

#[test]
fn the_fastest_route_is_found_first() {
    let mut w = ring_of(6);
    w.delay_all(10 * MS);
    w.delays.insert((0, 1), 100 * MS);
    w.seek(0, 2);
    w.pass(1);
    assert_eq!(w.path(0, 2), [0, 5, 4, 3, 2], "40 ms are less than 110");
}

#[test]
fn a_label_of_both_widths_and_more_than_fourteen_bytes() {
    let n = 14;
    let width = |i: usize| if i.is_multiple_of(2) { Width::Two } else { Width::One };
    let mut w =
        World::of((0..n).map(|i| Node::new(NodeConfig { width: width(i), ..config_of(i) }, [i as u8; 32])).collect());
    w.wide = (0..n).filter(|i| i.is_multiple_of(2)).collect();
    for i in 1..n {
        w.connect(i - 1, i);
    }
    w.pass_ns(100 * MS);
    w.seek(0, 13);
    assert_eq!(w.routes(0, 13)[0].hops.len(), 18);
    w.send(0, 13, 1).expect("sealed");
    assert_eq!(w.arrived.len(), 1);
}

#[test]
fn thirty_hops_are_found_and_thirty_one_are_not() {
    let mut w = line_of(PROBE_HOPS + 3);
    w.seek(0, PROBE_HOPS + 1);
    assert_eq!(w.state(0, PROBE_HOPS + 1), PeerState::Connected);
    w.seek(0, PROBE_HOPS + 2);
    w.pass(5);
    assert_eq!(w.state(0, PROBE_HOPS + 2), PeerState::Connecting);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_label_beyond_thirty_bytes_is_a_dead_end() {
    let n = 18;
    let mut w =
        World::of((0..n).map(|i| Node::new(NodeConfig { width: Width::Two, ..config_of(i) }, [i as u8; 32])).collect());
    w.wide = (0..n).collect();
    for i in 1..n {
        w.connect(i - 1, i);
    }
    w.pass_ns(100 * MS);
    w.seek(0, 16);
    assert_eq!(w.state(0, 16), PeerState::Connected, "fifteen hops of two bytes");
    w.seek(0, 17);
    assert_eq!((w.state(0, 17), w.drops), (PeerState::Connecting, vec![DropReason::BadLabel]));
}

#[test]
fn an_interest_that_found_nothing_is_probed_again_ever_more_seldom() {
    let mut w = net(4, &[(0, 1), (1, 2)]);
    let before = w.nodes[0].probe_counts().own;
    w.seek(0, 3);
    w.pass(200);
    let probes = w.nodes[0].probe_counts().own - before;
    assert!((8..=11).contains(&probes), "1, 2, 4 … 60 s: {probes}");
}

#[test]
fn a_new_link_makes_a_node_look_again_at_once() {
    let mut w = net(5, &[(0, 1), (2, 3), (3, 4)]);
    w.seek(0, 4);
    w.pass(100);
    assert_eq!(w.state(0, 4), PeerState::Connecting);
    w.connect(0, 2);
    w.pass_ns(200 * MS);
    assert_eq!(w.path(0, 4), [0, 2, 3, 4]);
}

#[test]
fn an_address_that_nobody_answers_for_is_refused_at_last() {
    let mut w = net(4, &[(0, 1), (1, 2)]);
    w.send(0, 3, 1).expect("it waits");
    w.pass(6);
    assert!(w.refused.is_empty());
    w.pass(2);
    assert_eq!(w.refused.len(), 1);
    assert_eq!(w.send(0, 3, 2), Err(DropReason::NoRoute), "for a while it is not asked for again");
    w.pass(6);
    w.send(0, 3, 3).expect("then it is");
}

#[test]
fn without_neighbours_there_is_no_route() {
    let mut w = net(2, &[]);
    assert_eq!(w.send(0, 1, 1), Err(DropReason::NoRoute));
}

#[test]
fn a_peer_that_is_found_directly_later_moves_onto_the_link() {
    let mut w = net(3, &[(0, 1), (1, 2)]);
    w.seek(0, 2);
    assert_eq!(w.path(0, 2), [0, 1, 2]);
    w.connect(0, 2);
    w.pass(130);
    assert_eq!((w.path(0, 2), w.path(2, 0)), (vec![0, 2], vec![2, 0]));
}
