//! Flows over several routes at once.

use super::*;

/// Two ways of two hops from 0 to 3, which are alike, and a slow one.
fn two_ways() -> World {
    let mut w = net(5, &[(0, 1), (1, 3), (0, 2), (2, 3), (0, 4), (4, 3)]);
    w.delay_all(5 * MS);
    w.delays.insert((0, 4), 40 * MS);
    w.nodes[0].set_multipath(true);
    w.seek(0, 3);
    w.pass_ns(200 * MS);
    w.talk(0, 3, SECOND);
    w
}

impl World {
    /// A packet of a flow; the first hop it takes.
    fn send_flow(&mut self, a: usize, b: usize, port: u8) -> Option<usize> {
        let mut packet = ipv6(self.id(a), self.id(b), port);
        packet[6] = 17;
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        let now = self.now();
        let out = self.nodes[a].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()).ok()??;
        self.fly(a, &out.path, buf[out.message].to_vec());
        let hop = self.way(a, &out.path).map(|(nodes, _)| nodes[1]);
        self.settle();
        hop
    }
}

#[test]
fn flows_are_spread_over_routes_that_are_alike_and_each_keeps_its_own() {
    let mut w = two_ways();
    let first: Vec<_> = (0..64).map(|port| w.send_flow(0, 3, port)).collect();
    let over = |hop: usize| first.iter().filter(|h| **h == Some(hop)).count();
    assert!(over(1) >= 16 && over(2) >= 16 && over(4) == 0, "{first:?}");
    for _ in 0..20 {
        w.pass_ns(50 * MS);
        assert_eq!((0..64).map(|port| w.send_flow(0, 3, port)).collect::<Vec<_>>(), first);
        w.send(3, 0, 1).expect("answered");
    }
}

#[test]
fn flows_of_a_route_that_dies_move_within_a_second_and_the_others_stay() {
    let mut w = two_ways();
    for _ in 0..20 {
        for port in 0..16 {
            w.send_flow(0, 3, port);
        }
        w.send(3, 0, 1).expect("answered");
        w.pass_ns(50 * MS);
    }
    let first: Vec<_> = (0..16).map(|port| w.send_flow(0, 3, port)).collect();
    w.cut(0, 2);
    let end = w.now_ns + SECOND;
    while w.now_ns < end {
        for port in 0..16 {
            w.send_flow(0, 3, port);
        }
        w.send(3, 0, 1).expect("answered");
        w.pass_ns(50 * MS);
    }
    let then: Vec<_> = (0..16).map(|port| w.send_flow(0, 3, port)).collect();
    assert!(first.contains(&Some(2)) && !then.contains(&Some(2)), "{then:?}");
    assert!(first.iter().zip(&then).all(|(a, b)| *a == Some(2) || a == b), "{first:?} {then:?}");
}

#[test]
fn without_being_asked_for_all_flows_take_one_route() {
    let mut w = two_ways();
    w.nodes[0].set_multipath(false);
    let first = w.send_flow(0, 3, 0);
    assert!((1..64).all(|port| w.send_flow(0, 3, port) == first));
}
