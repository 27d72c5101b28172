//! Routes die, and packets go on.

use super::*;

/// The longest time between two arrivals.
fn gap(start: u64, arrivals: &[u64]) -> u64 {
    let mut last = start;
    arrivals.iter().map(|at| at - std::mem::replace(&mut last, *at)).max().unwrap_or(u64::MAX)
}

/// A ring of six in which 0 talks to 3 by the faster half.
fn talking_ring() -> World {
    let mut w = ring_of(6);
    w.delay_all(5 * MS);
    w.delays.insert((4, 5), 30 * MS);
    w.seek(0, 3);
    w.pass(1);
    w.talk(0, 3, SECOND);
    w
}

#[test]
fn a_ring_heals_a_silent_cut_in_under_a_second() {
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        let mut w = ring_of(6);
        w.delay_all(5 * MS);
        w.delays.extend([((0, 5), 10 * MS), ((0, 1), 5 * MS)]);
        w.seek(0, 3);
        w.pass(1);
        w.talk(0, 3, 3 * SECOND);
        assert_eq!(w.path(0, 3), [0, 1, 2, 3]);
        let before = w.nodes[0].probe_counts().own;
        w.cut(a, b);
        let start = w.now_ns;
        let (_, arrived) = w.talk(0, 3, 5 * SECOND);
        let healed = gap(start, &arrived);
        assert!(healed < SECOND, "cut {a}-{b}: {} ms", healed / MS);
        assert_eq!((w.path(0, 3), w.path(3, 0)), (vec![0, 5, 4, 3], vec![3, 4, 5, 0]));
        assert_eq!(w.nodes[0].probe_counts().own, before, "no flood: the other route was known");
    }
}

#[test]
fn one_way_traffic_heals_too() {
    let mut w = talking_ring();
    w.cut(1, 2);
    let (start, mut arrivals) = (w.now_ns, Vec::new());
    for n in 0..300_u32 {
        w.send(0, 3, n as u8).expect("sealed");
        w.pass_ns(10 * MS);
        let now_ns = w.now_ns;
        arrivals.extend(w.arrived.drain(..).map(|_| now_ns));
    }
    let healed = gap(start, &arrivals);
    assert!(healed < SECOND, "{} ms", healed / MS);
}

#[test]
fn without_another_route_a_probe_finds_one() {
    // 0 - 1 - 2 - 3 and later 0 - 4 - 3: the second way is not there when the first is found.
    let mut w = net(5, &[(0, 1), (1, 2), (2, 3), (0, 4)]);
    w.delay_all(2 * MS);
    w.seek(0, 3);
    w.talk(0, 3, SECOND);
    w.connect(4, 3);
    w.pass_ns(100 * MS);
    w.cut(1, 2);
    let start = w.now_ns;
    let (_, arrived) = w.talk(0, 3, 4 * SECOND);
    assert_eq!(w.path(0, 3), [0, 4, 3]);
    let healed = gap(start, &arrived);
    assert!(healed < 3 * SECOND / 2, "{} ms", healed / MS);
}

#[test]
fn a_link_that_is_known_to_be_gone_changes_over_at_once() {
    let mut w = talking_ring();
    assert_eq!(w.path(0, 3)[1], 1);
    w.cut(0, 1);
    let (slot, now) = (w.routes(0, 3).iter().find(|r| r.in_use).expect("one").slot, w.now());
    w.nodes[0].route_error(now, slot, None);
    assert_eq!(w.path(0, 3), [0, 5, 4, 3]);
    let start = w.now_ns;
    let (_, arrived) = w.talk(0, 3, SECOND);
    assert!(gap(start, &arrived) < 100 * MS);
    let id = w.id(1);
    let now = w.now();
    assert!(w.nodes[0].disconnect(now, id));
    assert!(w.routes(0, 3).iter().all(|r| r.slot != slot || r.state == RouteState::Dead));
}

#[test]
fn a_routed_session_is_renewed_over_its_routes_and_loses_nothing() {
    let mut w = ring_of(6);
    for node in &mut w.nodes {
        node.set_rekey(Duration::from_secs(3));
    }
    w.seek(0, 3);
    w.talk(0, 3, SECOND);
    let probes = w.nodes[0].probe_counts().own;
    let (sent, arrived) = w.talk(0, 3, 60 * SECOND);
    assert_eq!(arrived.len(), sent);
    assert!(w.nodes[0].handshakes() >= 15);
    assert_eq!(w.nodes[0].probe_counts().own, probes, "no flood while a route is good");
}

#[test]
fn sessions_that_nobody_uses_send_nothing() {
    let mut w = ring_of(6);
    w.seek(0, 3);
    w.talk(0, 3, SECOND);
    w.pass(40);
    let id = w.id(3);
    let packets = |w: &World| w.nodes[0].peers().find(|p| p.id == id).and_then(|p| p.received_ns);
    let before = packets(&w);
    w.pass(60);
    assert_eq!(packets(&w), before);
}

#[test]
fn a_neighbour_whose_link_dies_is_reached_over_others_in_under_a_second_and_the_link_comes_back() {
    let mut w = net(4, &[(0, 1), (1, 2), (0, 2), (2, 3)]);
    w.delay_all(20 * MS);
    w.talk(0, 2, SECOND);
    assert_eq!(w.path(0, 2), [0, 2]);
    let sessions = |w: &World| [0, 2].map(|n| w.nodes[n].handshakes());
    let before = sessions(&w);
    w.cut(0, 2);
    let start = w.now_ns;
    let (_, arrived) = w.talk(0, 2, 10 * SECOND);
    assert!(gap(start, &arrived) < 800 * MS, "{} ms", gap(start, &arrived) / MS);
    assert_eq!((w.path(0, 2), w.path(2, 0)), (vec![0, 1, 2], vec![2, 1, 0]));
    assert!(w.routes(0, 2).iter().any(|r| r.source == RouteSource::Direct && r.state == RouteState::Dead));
    let probes = |w: &World| [0, 2].map(|n| w.nodes[n].probe_counts().own);
    let searched = probes(&w);
    w.dead.clear();
    let start = w.now_ns;
    let (sent, arrived) = w.talk(0, 2, 90 * SECOND);
    assert_eq!((w.path(0, 2), w.path(2, 0)), (vec![0, 2], vec![2, 0]));
    assert!(gap(start, &arrived) < 100 * MS && arrived.len() + 10 > sent, "nothing is lost on the way back");
    assert_eq!((sessions(&w), probes(&w)), (before, searched), "one session all the time");
}

#[test]
fn one_way_traffic_to_a_neighbour_heals_too() {
    let mut w = net(3, &[(0, 1), (1, 2), (0, 2)]);
    w.delay_all(5 * MS);
    w.talk(0, 2, SECOND);
    w.cut(0, 2);
    let (start, mut arrivals) = (w.now_ns, Vec::new());
    for n in 0..200_u32 {
        w.send(0, 2, n as u8).expect("sealed");
        w.pass_ns(10 * MS);
        let now_ns = w.now_ns;
        arrivals.extend(w.arrived.drain(..).map(|_| now_ns));
    }
    let healed = gap(start, &arrivals);
    assert!(healed < 800 * MS, "{} ms", healed / MS);
}

/// Its kernel forwards although nobody answers any more: what goes through it stays where it is.
#[test]
fn a_neighbour_without_an_agent_is_still_a_hop() {
    let mut w = net(3, &[(0, 1), (1, 2)]);
    w.delay_all(5 * MS);
    w.seek(0, 2);
    w.talk(0, 2, SECOND);
    w.deaf.insert(1);
    let (before, start) = (w.nodes[0].probe_counts().own, w.now_ns);
    let mut arrivals = Vec::new();
    for n in 0..100_u32 {
        let _ = w.send(0, 1, n as u8);
        let (_, arrived) = w.talk(0, 2, 50 * MS);
        arrivals.extend(arrived);
    }
    assert!(gap(start, &arrivals) < 100 * MS, "{} ms", gap(start, &arrivals) / MS);
    assert_eq!((w.path(0, 2), w.path(0, 1)), (vec![0, 1, 2], vec![0, 1]));
    assert!((1..6).contains(&(w.nodes[0].probe_counts().own - before)), "it is looked for, ever more seldom");
}

/// A lossy path makes a node look around again and again, but not with every lost packet.
#[test]
fn loss_makes_few_floods() {
    let mut w = net(4, &[(0, 1), (1, 3), (0, 2), (2, 3)]);
    w.delay_all(5 * MS);
    w.seek(0, 3);
    w.talk(0, 3, SECOND);
    let before = w.nodes[0].probe_counts().own;
    w.loses = 3;
    w.talk(0, 3, 120 * SECOND);
    let searches = w.nodes[0].probe_counts().own - before;
    assert!(searches <= 9, "{searches} in two minutes of which a third of all is lost");
    w.loses = 0;
    let (sent, arrived) = w.talk(0, 3, 5 * SECOND);
    assert!(arrived.len() + 5 > sent);
}
