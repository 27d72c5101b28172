//! What a trace teaches, and how a peer came to be known.

use super::*;

impl World {
    /// Asks every hop of the route from `a` to `b` who it is.
    fn trace(&mut self, a: usize, b: usize) {
        let (slot, hops) = self.nodes[a].route_to(self.id(b)).expect("a route");
        for end in 0..=hops.len() {
            let now = self.now();
            let nonce = self.nodes[a].who_is_at(now, None, slot, hops[..end].iter().copied().collect()).expect("asked");
            self.settle();
            assert!(self.nodes[a].take_answer(nonce).is_some(), "hop {end} did not answer");
        }
    }

    fn source(&self, at: usize, of: usize) -> Option<PeerSource> {
        let id = self.id(of);
        self.nodes[at].peers().find(|p| p.id == id).map(|p| p.source)
    }

    fn own_probes(&self, at: usize) -> u64 {
        self.nodes[at].probe_counts().own
    }
}

#[test]
fn a_packet_to_a_hop_that_a_trace_met_needs_no_search() {
    let mut w = line_of(6);
    w.seek(0, 5);
    w.trace(0, 5);
    let before = w.own_probes(0);
    for hop in 2..5 {
        w.send(0, hop, hop as u8).expect("it waits for its session");
        assert_eq!((w.state(0, hop), w.path(0, hop)), (PeerState::Connected, (0..=hop).collect()));
        assert_eq!(w.source(0, hop), Some(PeerSource::Probed));
    }
    assert_eq!(w.arrived.iter().map(|(at, p)| (*at, p[40])).collect::<Vec<_>>(), [(2, 2), (3, 3), (4, 4)]);
    assert_eq!(w.own_probes(0), before);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn who_is_talked_to_over_hops_gets_another_route_by_a_trace() {
    let mut w = ring_of(6);
    w.delay_all(5 * MS);
    w.seek(0, 2);
    w.pass(1);
    let before = w.routes(0, 2).len();
    // 0 - 5 - 4 - 3 - 2 - 1: the long way round to 2 is not asked for, and 1 is a neighbour.
    let (slot, now) = (*w.slots[0].iter().find(|(_, p)| **p == w.id(5)).expect("a slot").0, w.now());
    let mut hops = Hops::new();
    for (at, to) in [(5, 4), (4, 3), (3, 2), (2, 1)] {
        hops.push(*w.slots[at].iter().find(|(_, p)| **p == w.id(to)).expect("a slot").0 as u8);
        w.nodes[0].who_is_at(now, None, slot, hops.clone()).expect("asked");
    }
    w.pass(1);
    assert_eq!(w.routes(0, 2).len(), before.max(2), "the way round, once");
    assert!(w.routes(0, 1).iter().all(|r| r.source == RouteSource::Direct), "a neighbour needs none");
}

#[test]
fn a_taught_route_that_is_dead_gives_way_to_a_search() {
    let mut w = ring_of(6);
    w.delay_all(5 * MS);
    w.delays.insert((0, 5), 30 * MS);
    w.seek(0, 3);
    w.pass(1);
    assert_eq!(w.path(0, 3), [0, 1, 2, 3]);
    let (slot, hops) = w.nodes[0].route_to(w.id(3)).expect("a route");
    let now = w.now();
    w.nodes[0].who_is_at(now, None, slot, hops[..1].iter().copied().collect()).expect("asked");
    w.pass(1);
    w.cut(1, 2);
    w.send(0, 2, 7).expect("it waits");
    w.pass(2);
    assert_eq!((w.state(0, 2), w.path(0, 2)), (PeerState::Connected, vec![0, 5, 4, 3, 2]));
    assert!(w.arrived.iter().any(|(at, p)| (*at, p[40]) == (2, 7)), "what waited arrives");
}

#[test]
fn what_a_trace_taught_is_forgotten_after_ten_minutes() {
    let mut w = line_of(4);
    w.seek(0, 3);
    w.trace(0, 3);
    w.pass(601);
    let before = w.own_probes(0);
    w.send(0, 2, 1).expect("it waits");
    assert_eq!(w.own_probes(0), before + 1, "the slots may be others' by now");
    assert_eq!(w.state(0, 2), PeerState::Connected);
}

#[test]
fn who_was_found_through_others_is_told_from_who_was_named_or_came() {
    let mut w = line_of(5);
    w.send(0, 4, 1).expect("it waits");
    w.seek(0, 3);
    w.pass(1);
    assert_eq!((w.source(0, 4), w.source(4, 0)), (Some(PeerSource::Probed), Some(PeerSource::Incoming)));
    assert_eq!(w.source(0, 3), Some(PeerSource::Configured), "named, and found through others");
    w.seek(0, 4);
    assert_eq!(w.source(0, 4), Some(PeerSource::Configured), "the operator's word is more");
}
