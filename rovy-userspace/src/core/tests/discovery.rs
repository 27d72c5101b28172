//! Beacons: who is found, and what those who are not there cannot bring about.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;
use crate::core::discovery;

const NETWORKS: [Network; 1] = [(Ipv4Addr::new(192, 0, 2, 254), 24)];

fn outlet(n: usize) -> Outlet {
    let source = Ipv4Addr::new(192, 0, 2, n as u8 + 1).into();
    Outlet::Udp { listener: SocketAddr::from(([0; 4], 1312)), ifindex: 1, source }
}

impl World {
    /// Node `at` hears a beacon of `id` from `from`.
    pub(super) fn hear(&mut self, at: usize, from: Endpoint, id: PeerId) -> Result<Option<PeerId>, DropReason> {
        let now = self.now();
        let heard = Heard { from, group: true, networks: &NETWORKS };
        let done = self.nodes[at].beacon(now, &heard, &discovery::message(&id, 1312));
        self.collect(at);
        done
    }

    /// Every node with discovery on one segment, for so long.
    fn together(&mut self, seconds: u64) {
        for _ in 0..4 * seconds {
            let end = self.now_ns + SECOND / 4;
            while self.now_ns < end {
                self.step(end);
                for (from, bytes) in std::mem::take(&mut self.beacons) {
                    for to in 0..self.nodes.len() {
                        let heard = Heard { from: endpoint(from), group: true, networks: &NETWORKS };
                        let now = self.now();
                        if let Err(reason) = self.nodes[to].beacon(now, &heard, &bytes) {
                            self.drops.push(reason);
                        }
                    }
                    self.settle();
                }
            }
        }
    }

    fn discover(&mut self, n: usize) {
        let now = self.now();
        self.nodes[n].set_outlets(now, &BTreeSet::from([outlet(n)]));
    }

    fn hush(&mut self, n: usize) {
        let now = self.now();
        self.nodes[n].set_outlets(now, &BTreeSet::new());
    }

    fn tried(&self, at: usize) -> usize {
        let limits = self.nodes[at].limits();
        limits.iter().find(|(name, _)| *name == "discovered").map_or(0, |(_, u)| u.used)
    }
}

/// A place of the segment where nobody is, of 250.
fn nobody(n: usize) -> Endpoint {
    Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, (n % 200) as u8 + 50], 1312)), local: None }
}

#[test]
fn two_nodes_find_each_other_within_ten_seconds() {
    for later in [0, 1, 7, 50] {
        let mut w = World::new(2);
        w.discover(0);
        w.together(later);
        w.discover(1);
        w.together(1);
        assert_eq!((w.state(0, 1), w.state(1, 0)), (PeerState::Connected, PeerState::Connected), "{later} s later");
        let source = |at: usize| w.nodes[at].peers().next().map(|p| p.source);
        assert!([source(0), source(1)].contains(&Some(PeerSource::Discovered)));
    }
}

#[test]
fn beacons_come_at_once_and_then_seldom() {
    let mut w = World::new(2);
    let start = w.now_ns;
    (0..2).for_each(|n| w.discover(n));
    let mut times: [Vec<u64>; 2] = Default::default();
    while w.now_ns < start + 600 * SECOND {
        w.step(w.now_ns + SECOND);
        w.beacons.drain(..).for_each(|(n, _)| times[n].push(w.now_ns - start));
    }
    for sent in &times {
        assert!((20..=30).contains(&sent.len()), "{sent:?}");
        assert!(sent[0] < SECOND && sent[3] < 10 * SECOND, "{sent:?}");
    }
    assert_ne!(times[0], times[1], "not all at the same moment");
    w.hush(0);
    w.pass(60);
    assert!(w.beacons.iter().all(|(n, _)| *n == 1), "none where there is no outlet");
}

#[test]
fn interfaces_that_come_and_go_make_no_storm() {
    let mut w = World::new(1);
    for _ in 0..1000 {
        w.hush(0);
        w.discover(0);
        w.step(w.now_ns + SECOND / 100);
        w.now_ns += SECOND / 4;
        w.step(w.now_ns + 1);
    }
    assert!(w.beacons.len() > 64 && w.beacons.len() < 64 + 16 * 280, "{}", w.beacons.len());
}

#[test]
fn what_a_beacon_may_not_be() {
    let mut w = World::new(2);
    let (own, other) = (w.id(0), w.id(1));
    assert_eq!(w.hear(0, endpoint(1), own), Ok(None), "its own");
    let far = Endpoint::Udp { remote: "198.51.100.1:1312".parse().unwrap(), local: None };
    assert_eq!(w.hear(0, far, other), Err(DropReason::NotAllowed));
    let heard = Heard { from: endpoint(1), group: false, networks: &NETWORKS };
    let now = w.now();
    assert_eq!(w.nodes[0].beacon(now, &heard, &discovery::message(&other, 1312)), Err(DropReason::NotAllowed));
    let heard = Heard { group: true, ..heard };
    let mut bad_key = discovery::message(&other, 1312);
    bad_key[8..].fill(7);
    assert_eq!(w.nodes[0].beacon(now, &heard, &bad_key), Err(DropReason::Malformed));
    assert_eq!(w.nodes[0].beacon(now, &heard, &bad_key[..39]), Err(DropReason::BadLength));
    let routed = Origin::Direct(endpoint(1));
    assert_eq!(w.nodes[0].message(now, &routed, &mut bad_key), Err(DropReason::NotAllowed), "not as any message");
    assert_eq!((w.nodes[0].peers().count(), w.flights.len()), (0, 0));
}

/// Two nodes know each other over UDP; then one hears the other on an Ethernet segment, where somebody else lies as well.
#[test]
fn a_configured_neighbour_that_is_heard_on_ethernet_gets_a_link_there() {
    let mut w = World::new(2);
    let (a, b) = (w.id(0), w.id(1));
    w.connect(0, 1);
    let now = w.now();
    w.nodes[1].connect(now, a, vec![], true);
    w.pass(2);
    for _ in 0..5 {
        assert_eq!(w.hear(0, ether(2), b), Ok(Some(b)));
        assert_eq!(w.hear(0, ether(1), b), Ok(Some(b)));
        w.settle();
        w.pass(3);
    }
    let links = |w: &World, n: usize| {
        let peer = w.nodes[n].peers().next().expect("one");
        peer.links.into_iter().map(|l| (l.endpoint, l.state)).collect::<Vec<_>>()
    };
    assert_eq!(links(&w, 0), [(endpoint(1), LinkState::Up), (ether(1), LinkState::Up)]);
    assert_eq!(links(&w, 1), [(endpoint(0), LinkState::Up), (ether(0), LinkState::Up)]);
}

#[test]
fn a_stranger_that_is_heard_on_ethernet_too_gets_no_second_link() {
    let mut w = World::new(2);
    let b = w.id(1);
    let (id, now) = (w.id(0), w.now());
    w.nodes[1].connect(now, id, vec![endpoint(0)], true);
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected);
    w.pass(2);
    assert_eq!(w.hear(0, ether(1), b), Ok(Some(b)));
    w.settle();
    w.pass(5);
    assert_eq!(w.nodes[0].peers().next().map(|p| p.links.len()), Some(1));
}

#[test]
fn a_peer_behind_hops_that_is_heard_on_the_segment_becomes_a_neighbour() {
    let mut w = line();
    let c = w.id(2);
    assert_eq!(w.state(0, 2), PeerState::Connected);
    assert!(w.nodes[0].peers().any(|p| p.id == c && p.slot.is_none()));
    assert_eq!(w.hear(0, endpoint(2), c), Ok(Some(c)));
    w.settle();
    w.pass(1);
    assert!(w.nodes[0].peers().any(|p| p.id == c && p.slot.is_some()), "{:?}", w.nodes[0].routes());
}

#[test]
fn a_beacon_of_a_connected_peer_changes_nothing() {
    let mut w = World::new(3);
    w.connect(0, 1);
    let id = w.id(1);
    let before: Vec<_> = w.nodes[0].peers().map(|p| (p.id, p.path, p.state)).collect();
    for n in 0..100 {
        assert_eq!(w.hear(0, nobody(n), id), Ok(Some(id)));
        assert_eq!(w.hear(0, endpoint(2), id), Ok(Some(id)));
    }
    assert!(w.flights.is_empty(), "nothing is sent");
    let after: Vec<_> = w.nodes[0].peers().map(|p| (p.id, p.path, p.state)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_beacon_with_somebody_elses_key_does_not_keep_the_real_one_away() {
    // Node 2 says that it is node 1, before and while node 0 dials node 1 where it is configured.
    let mut w = World::new(3);
    let id = w.id(1);
    for _ in 0..50 {
        let _ = w.hear(0, endpoint(2), id);
    }
    w.settle();
    let now = w.now();
    w.nodes[0].connect(now, id, vec![endpoint(1)], true);
    for _ in 0..50 {
        let _ = w.hear(0, endpoint(2), id);
    }
    w.settle();
    let peer = w.nodes[0].peers().find(|p| p.id == id).expect("known");
    assert_eq!((peer.state, peer.path), (PeerState::Connected, Some(Path::Direct(endpoint(1)))));
    assert_eq!(w.nodes[2].peers().count(), 0, "the liar got nothing");
}

#[test]
fn a_configured_peer_is_found_where_it_is_now() {
    let mut w = World::new(2);
    let (id, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, id, vec![nobody(3)], true);
    w.collect(0);
    w.pass(400);
    assert_eq!(w.state(0, 1), PeerState::Connecting);
    w.hear(0, endpoint(1), id).expect("heard");
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected, "at once, though the next try was minutes away");
    let peer = w.nodes[0].peers().next().expect("a peer");
    assert_eq!(peer.source, PeerSource::Configured, "a beacon does not make it less");
}

/// Hears many beacons with keys of nobody's; counts the hellos that came of it.
fn flood(w: &mut World, keys: &[PeerId], from: impl Fn(usize) -> Endpoint) -> usize {
    let mut hellos = 0;
    for (n, key) in keys.iter().enumerate() {
        let now = w.now();
        let heard = Heard { from: from(n), group: true, networks: &NETWORKS };
        let _ = w.nodes[0].beacon(now, &heard, &discovery::message(key, 1312));
        while let Some(action) = w.nodes[0].poll() {
            hellos += usize::from(matches!(action, Action::Send(..)));
        }
        w.now_ns += SECOND / 1000;
    }
    hellos
}

fn roomy_world() -> World {
    let mut w = World::new(2);
    let id = w.nodes[0].id();
    w.nodes[0] = Node::new(NodeConfig { peers: 256, sessions: 256, handshakes: 256, ..config(1) }, [5; 32]);
    assert_eq!(w.nodes[0].id(), id);
    w
}

#[test]
fn a_flood_of_beacons_from_one_station_leaves_others_their_room() {
    let mut w = roomy_world();
    let keys = peer_ids(4000);
    let hellos = flood(&mut w, &keys, |_| nobody(0));
    assert!(hellos <= 6, "{hellos} hellos in four seconds");
    assert!(w.tried(0) <= 5, "{}", w.tried(0));
    let id = w.id(1);
    w.hear(0, endpoint(1), id).expect("heard");
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected);
    w.pass(200);
    let left: Vec<_> = w.nodes[0].peers().map(|p| p.id).collect();
    assert_eq!((left, w.tried(0)), (vec![id], 0), "nothing of the flood is left");
}

#[test]
fn a_flood_of_beacons_from_forged_stations_costs_little_and_nothing_lasting() {
    let mut w = roomy_world();
    let keys = peer_ids(20_000);
    let hellos = flood(&mut w, &keys, nobody);
    assert!(hellos <= 32 + 10 * 20 + 1, "{hellos} hellos in twenty seconds");
    assert!(w.tried(0) <= discovery::TRIED && w.nodes[0].peers().count() <= discovery::TRIED);
    // Somebody met before does not stand in line with those who were never seen.
    let id = w.id(1);
    w.nodes[0].restore_stamp(id, [7; 12]);
    let met = (0..50).find(|_| {
        w.pass(1);
        flood(&mut w, &keys[..500], nobody);
        let _ = w.hear(0, endpoint(1), id);
        w.settle();
        w.state(0, 1) == PeerState::Connected
    });
    assert!(met.is_some_and(|s| s < 15), "{met:?} s");
    w.pass(200);
    assert_eq!((w.nodes[0].peers().count(), w.tried(0)), (1, 0));
}

#[test]
fn who_goes_away_is_forgotten_and_found_again() {
    let mut w = World::new(2);
    (0..2).for_each(|n| w.discover(n));
    w.together(5);
    assert_eq!(w.state(0, 1), PeerState::Connected);
    // Node 1 is gone: what is sent to it is lost.
    let gone = std::mem::replace(&mut w.nodes[1], Node::new(config(99), [9; 32]));
    for _ in 0..600 {
        let end = w.now_ns + SECOND;
        while w.now_ns < end {
            w.step_lossy(end, 1);
        }
    }
    assert_eq!(w.nodes[0].peers().count(), 0, "forgotten");
    let quiet = w.now_ns;
    w.hush(0);
    w.pass(300);
    assert_eq!((w.flights.len(), w.now_ns > quiet), (0, true), "no endless retry");
    w.nodes[1] = gone;
    (0..2).for_each(|n| w.discover(n));
    w.together(10);
    assert_eq!(w.state(0, 1), PeerState::Connected, "found again");
}

#[test]
fn a_clock_that_jumps_ahead_does_no_harm() {
    let mut w = World::new(2);
    (0..2).for_each(|n| w.discover(n));
    w.together(3);
    w.now_ns += 86_400 * SECOND;
    w.together(40);
    assert_eq!((w.state(0, 1), w.state(1, 0)), (PeerState::Connected, PeerState::Connected), "a day later");
}

#[test]
fn beacons_do_not_bring_back_whom_the_operator_dropped() {
    let mut w = World::new(2);
    let (id, now) = (w.id(1), w.now());
    w.hear(0, endpoint(1), id).expect("heard");
    w.settle();
    assert!(w.nodes[0].disconnect(now, id));
    w.collect(0);
    for _ in 0..20 {
        w.hear(0, endpoint(1), id).expect("heard");
        w.pass(5);
    }
    assert_eq!(w.state(0, 1), PeerState::Disconnected);
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connected);
}

#[test]
fn a_beacon_makes_no_probes() {
    let mut w = World::new(3);
    w.connect(0, 1);
    let before = w.nodes[0].probe_counts().own;
    w.hear(0, endpoint(200), peer_ids(1)[0]).expect("tried");
    assert_eq!(w.tried(0), 1);
    w.connect(0, 2);
    w.pass(30);
    assert_eq!(w.nodes[0].probe_counts().own, before, "whoever can send beacons could have probes flooded");
}
