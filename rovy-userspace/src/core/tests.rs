//! Nodes in memory with virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rovy_common::DropReason;
use rovy_common::label::Width;
use rovy_common::wire::{Hello, MessageType};

use super::*;
use crate::identity::{PeerId, SecretKey};
use crate::transport::Endpoint;

mod cookies;

const SECOND: u64 = 1_000_000_000;

/// A message under way.
struct Flight {
    to: usize,
    origin: Origin,
    bytes: Vec<u8>,
}

/// Nodes, each at an endpoint of its own number, and what their actions told.
struct World {
    nodes: Vec<Node>,
    /// Of each node: slot -> neighbour.
    slots: Vec<BTreeMap<u16, PeerId>>,
    flights: Vec<Flight>,
    /// IPv6 packets that arrived: at which node.
    arrived: Vec<(usize, Vec<u8>)>,
    drops: Vec<DropReason>,
    now_ns: u64,
}

fn secret(n: u8) -> SecretKey {
    let mut next = [n; 32];
    SecretKey::generate(&mut |out| {
        for b in &mut *out {
            *b = next[0];
        }
        next[0] = next[0].wrapping_add(7);
    })
}

fn config(n: u8) -> NodeConfig {
    NodeConfig {
        secret: secret(n),
        width: Width::One,
        transit: true,
        sessions: 64,
        peers: 16,
        receive_mtu: Some(1400),
        aes: n.is_multiple_of(2),
        psk: [0; 32],
    }
}

fn endpoint(n: usize) -> Endpoint {
    Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, n as u8 + 1], 1312)), local: None }
}

impl World {
    fn new(n: u8) -> Self {
        let nodes: Vec<_> = (0..n).map(|i| Node::new(config(i * 16 + 1), [i; 32])).collect();
        Self {
            slots: vec![BTreeMap::new(); nodes.len()],
            nodes,
            flights: Vec::new(),
            arrived: Vec::new(),
            drops: Vec::new(),
            now_ns: SECOND,
        }
    }

    fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: Duration::from_nanos(1_700_000_000 * SECOND + self.now_ns) }
    }

    fn id(&self, n: usize) -> PeerId {
        self.nodes[n].id()
    }

    fn number(&self, id: PeerId) -> usize {
        self.nodes.iter().position(|n| n.id() == id).expect("known")
    }

    /// Where a message sent by `from` along a path ends, and the way back.
    fn walk(&self, from: usize, path: &Path) -> Option<(usize, Origin)> {
        match path {
            Path::Direct(Endpoint::Udp { remote, .. }) => {
                let to =
                    (0..self.nodes.len()).find(|n| endpoint(*n) == Endpoint::Udp { remote: *remote, local: None })?;
                Some((to, Origin::Direct(endpoint(from))))
            }
            Path::Direct(_) => None,
            Path::Routed { slot, hops } => {
                let (mut before, mut at) = (from, self.number(*self.slots[from].get(slot)?));
                let mut back = Hops::new();
                let back_slot = |at: usize, before: usize| {
                    self.slots[at].iter().find(|(_, p)| **p == self.id(before)).map(|(s, _)| *s)
                };
                for hop in hops {
                    back.insert(0, back_slot(at, before)? as u8);
                    before = at;
                    at = self.number(*self.slots[at].get(&u16::from(*hop))?);
                }
                Some((at, Origin::Routed { slot: back_slot(at, before)?, hops: back }))
            }
        }
    }

    fn collect(&mut self, n: usize) {
        while let Some(action) = self.nodes[n].poll() {
            match action {
                Action::Send(path, bytes) => {
                    if let Some((to, origin)) = self.walk(n, &path) {
                        self.flights.push(Flight { to, origin, bytes });
                    }
                }
                Action::Transmit(l) => {
                    self.slots[n].insert(l.slot, l.peer);
                }
                Action::Receive(l) => {
                    self.slots[n].insert(l.slot, l.peer);
                }
                Action::Silence(slot) => {
                    self.slots[n].remove(&slot);
                }
                Action::Forget(_) | Action::Connected(_) | Action::Disconnected(_) => {}
            }
        }
    }

    fn deliver(&mut self, mut flight: Flight) {
        let now = self.now();
        match self.nodes[flight.to].message(now, &flight.origin, &mut flight.bytes) {
            Ok(Inbound::Packet(range)) => self.arrived.push((flight.to, flight.bytes[range].to_vec())),
            Ok(Inbound::Done) => {}
            Err(reason) => self.drops.push(reason),
        }
        self.collect(flight.to);
    }

    /// Delivers until nothing is under way.
    fn settle(&mut self) {
        for n in 0..self.nodes.len() {
            self.collect(n);
        }
        while !self.flights.is_empty() {
            let flight = self.flights.remove(0);
            self.deliver(flight);
        }
    }

    /// Lets time pass with all timers, packets delivered at once.
    fn pass(&mut self, seconds: u64) {
        let end = self.now_ns + seconds * SECOND;
        while self.now_ns < end {
            let next = self.nodes.iter().map(Node::deadline).min().unwrap_or(end);
            self.now_ns = next.clamp(self.now_ns + 1, end);
            let now = self.now();
            for n in 0..self.nodes.len() {
                self.nodes[n].timeout(now);
            }
            self.settle();
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let (id, now) = (self.id(b), self.now());
        self.nodes[a].connect(now, id, vec![endpoint(b)], true);
        self.settle();
    }

    fn state(&self, at: usize, of: usize) -> PeerState {
        let id = self.id(of);
        self.nodes[at].peers().find(|p| p.id == id).map_or(PeerState::Disconnected, |p| p.state)
    }

    /// Sends an IPv6 packet into node `a` as from its TUN.
    fn send(&mut self, a: usize, b: usize, note: u8) -> Result<(), DropReason> {
        let packet = ipv6(self.id(a), self.id(b), note);
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        let now = self.now();
        let sealed = self.nodes[a].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len())?;
        if let Some(out) = sealed
            && let Some((to, origin)) = self.walk(a, &out.path)
        {
            self.flights.push(Flight { to, origin, bytes: buf[out.message].to_vec() });
        }
        self.settle();
        Ok(())
    }
}

fn ipv6(from: PeerId, to: PeerId, note: u8) -> Vec<u8> {
    let mut p = vec![0; 48];
    p[0] = 0x60;
    p[5] = 8;
    p[8..24].copy_from_slice(&from.address().octets());
    p[24..40].copy_from_slice(&to.address().octets());
    p[40] = note;
    p
}

#[test]
fn two_nodes_talk() {
    let mut w = World::new(2);
    w.connect(0, 1);
    assert_eq!((w.state(0, 1), w.state(1, 0)), (PeerState::Connected, PeerState::Connected));
    w.send(0, 1, 7).expect("sealed");
    w.send(1, 0, 8).expect("sealed");
    let notes: Vec<_> = w.arrived.iter().map(|(at, p)| (*at, p[40])).collect();
    assert_eq!(notes, [(1, 7), (0, 8)]);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

/// a - r - b: a and b are neighbours of r only.
fn line() -> World {
    let mut w = World::new(3);
    w.connect(0, 1);
    w.connect(2, 1);
    let slot_of_b = *w.slots[1].iter().find(|(_, p)| **p == w.id(2)).expect("a slot").0;
    let slot_of_r = *w.slots[0].first_key_value().expect("a slot").0;
    let (b, now) = (w.id(2), w.now());
    w.nodes[0].add_route(now, b, slot_of_r, Hops::from_iter([slot_of_b as u8]));
    w.settle();
    w
}

#[test]
fn a_routed_session_answers_along_the_way_back() {
    let mut w = line();
    w.send(0, 2, 1).expect("sealed");
    w.send(2, 0, 2).expect("the responder learned the way");
    assert_eq!(w.arrived.iter().map(|(at, p)| (*at, p[40])).collect::<Vec<_>>(), [(2, 1), (0, 2)]);
    let sources: Vec<_> = w.nodes[2].routes().iter().map(|r| (r.source, r.in_use)).collect();
    assert!(sources.contains(&(RouteSource::Learned, true)), "{sources:?}");
}

#[test]
fn packets_wait_for_the_session_and_the_queue_is_bounded() {
    let mut w = line();
    let b = w.id(2);
    let now = w.now();
    assert!(w.nodes[0].disconnect(now, b));
    w.nodes[0].poll();
    let slot = *w.slots[0].first_key_value().expect("slot").0;
    let hop = *w.slots[1].iter().find(|(_, p)| **p == b).expect("slot").0;
    let now = w.now();
    w.nodes[0].add_route(now, b, slot, Hops::from_iter([hop as u8]));
    let packet = ipv6(w.id(0), b, 9);
    let mut full = 0;
    for _ in 0..40 {
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        match w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()) {
            Ok(None) => {}
            Err(DropReason::QueueFull) => full += 1,
            other => panic!("{other:?}"),
        }
    }
    w.settle();
    assert_eq!((w.arrived.len(), full), (16, 24));
}

#[test]
fn sessions_are_renewed_and_nothing_is_lost() {
    let mut w = line();
    for n in 0..100 {
        w.send(0, 2, n).expect("a session");
        w.send(2, 0, n).expect("a session");
        w.pass(7);
    }
    assert_eq!(w.arrived.len(), 200);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
    for node in &w.nodes {
        assert!(node.sessions().0 <= 6, "at most current, previous and next of two peers");
    }
}

#[test]
fn an_idle_routed_session_ends_and_a_link_does_not() {
    let mut w = line();
    w.pass(400);
    assert_eq!(w.state(0, 2), PeerState::Disconnected);
    assert_eq!(w.state(0, 1), PeerState::Connected);
}

#[test]
fn a_peer_that_restarted_is_found_again() {
    let mut w = World::new(2);
    w.connect(0, 1);
    w.nodes[1] = Node::new(config(17), [99; 32]);
    w.send(0, 1, 1).expect("the old session still seals");
    assert_eq!(w.drops, [DropReason::UnknownIndex]);
    w.pass(30);
    w.send(0, 1, 2).expect("sealed");
    assert_eq!(w.arrived.iter().map(|(_, p)| p[40]).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_replayed_hello_changes_nothing() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    let hello = w.flights[0].bytes.clone();
    w.settle();
    w.pass(6);
    let sessions = w.nodes[1].sessions();
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(5)), bytes: hello });
    assert_eq!(w.drops, [DropReason::BadHandshake]);
    assert_eq!(w.nodes[1].sessions(), sessions);
    w.send(0, 1, 3).expect("sealed");
    assert_eq!(w.arrived.len(), 1);
}

#[test]
fn copies_of_a_hello_get_the_same_response_a_few_times() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    let hello = w.flights.remove(0).bytes;
    let mut responses = Vec::new();
    for _ in 0..20 {
        let mut bytes = hello.clone();
        let now = w.now();
        let _ = w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut bytes);
        while let Some(action) = w.nodes[1].poll() {
            if let Action::Send(_, response) = action {
                responses.push(response);
            }
        }
    }
    assert_eq!(responses.len(), 9, "the answer and eight copies");
    assert!(responses.iter().all(|r| r == &responses[0]));
}

#[test]
fn both_start_at_once() {
    let mut w = World::new(2);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.nodes[1].connect(now, a, vec![endpoint(0)], true);
    w.settle();
    for n in 0..20 {
        w.send(0, 1, n).expect("sealed");
        w.send(1, 0, n).expect("sealed");
        w.pass(20);
    }
    assert_eq!(w.arrived.len(), 40);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_hello_that_was_overtaken_is_not_repeated() {
    let mut w = World::new(2);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    w.flights.clear();
    w.now_ns += SECOND;
    let now = w.now();
    w.nodes[1].connect(now, a, vec![endpoint(0)], true);
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected);
    w.pass(20);
    assert_eq!(w.nodes.iter().map(|n| n.sessions().0).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_node_that_moved_tells_its_neighbours_and_nobody_else() {
    let mut w = line();
    let now = w.now();
    w.nodes[0].announce(now);
    let sent: Vec<_> = std::iter::from_fn(|| w.nodes[0].poll()).collect();
    let [Action::Send(Path::Direct(to), bytes)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*to, endpoint(1));
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(7)), bytes: bytes.clone() });
    let id = w.id(0);
    let path = w.nodes[1].peers().find(|p| p.id == id).and_then(|p| p.path);
    assert_eq!(path, Some(Path::Direct(endpoint(7))));
}

#[test]
fn who_sends_from_two_places_moves_seldom() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let (mut moves, (a, b)) = (0, (w.id(0), w.id(1)));
    for n in 0..100 {
        let now = w.now();
        w.nodes[0].send_to(now, b, &ipv6(a, b, n));
        let Some(Action::Send(_, bytes)) = w.nodes[0].poll() else { panic!("nothing sent") };
        let from = Origin::Direct(endpoint(5 + usize::from(n % 2)));
        assert!(w.nodes[1].message(now, &from, &mut bytes.clone()).is_ok());
        moves += std::iter::from_fn(|| w.nodes[1].poll()).filter(|a| matches!(a, Action::Transmit(_))).count();
        w.now_ns += SECOND / 1000;
    }
    assert!(moves <= 2, "{moves} moves in a tenth of a second");
}

#[test]
fn policies_outlive_a_disconnect() {
    let mut w = World::new(2);
    let (a, b) = (w.id(0), w.id(1));
    w.nodes[1].set_transit(a, false);
    for _ in 0..2 {
        let now = w.now();
        w.nodes[0].connect(now, b, vec![endpoint(1)], false);
        w.collect(0);
        let flight = w.flights.remove(0);
        let mut bytes = flight.bytes;
        w.nodes[1].message(now, &flight.origin, &mut bytes).expect("a good hello");
        let mut answers = Vec::new();
        while let Some(action) = w.nodes[1].poll() {
            match action {
                Action::Send(_, bytes) => answers.push(bytes),
                Action::Receive(l) => assert!(!l.transit),
                _ => {}
            }
        }
        for mut bytes in answers {
            w.nodes[0].message(now, &Origin::Direct(endpoint(1)), &mut bytes).expect("a good response");
        }
        w.collect(0);
        let mut confirm = w.flights.remove(0).bytes;
        w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut confirm).expect("confirms");
        let links: Vec<_> = std::iter::from_fn(|| w.nodes[1].poll()).collect();
        assert!(links.iter().any(|l| matches!(l, Action::Receive(l) if !l.transit)), "{links:?}");
        w.nodes[1].disconnect(now, a);
        w.nodes[0].disconnect(now, b);
        while w.nodes[0].poll().is_some() || w.nodes[1].poll().is_some() {}
        w.now_ns += SECOND;
    }
}

#[test]
fn hellos_alone_take_no_slot_and_end_soon() {
    let mut w = World::new(1);
    let target = w.id(0);
    for n in 0..8 {
        let mut stranger = Node::new(config(n * 6 + 2), [n; 32]);
        let now = w.now();
        stranger.connect(now, target, vec![endpoint(0)], false);
        let Some(Action::Send(_, mut bytes)) = stranger.poll() else { panic!("no hello") };
        w.nodes[0].message(now, &Origin::Direct(endpoint(9)), &mut bytes).expect("a good hello");
    }
    let links = std::iter::from_fn(|| w.nodes[0].poll()).filter(|a| matches!(a, Action::Receive(_))).count();
    assert_eq!((links, w.nodes[0].peers().count()), (0, 8));
    w.pass(11);
    assert_eq!((w.nodes[0].peers().count(), w.nodes[0].sessions().0), (0, 0));
}

#[test]
fn the_endpoint_follows_authentic_packets_only() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let packet = ipv6(w.id(0), w.id(1), 1);
    let mut sealed = Vec::new();
    for _ in 0..2 {
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        let now = w.now();
        let out = w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()).expect("seals").expect("now");
        sealed.push(buf[out.message].to_vec());
    }
    let path = |w: &World| w.nodes[1].peers().next().and_then(|p| p.path);
    let mut forged = sealed[0].clone();
    forged[20] ^= 1;
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(7)), bytes: forged });
    assert_eq!(path(&w), Some(Path::Direct(endpoint(0))));
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(8)), bytes: sealed[1].clone() });
    assert_eq!(path(&w), Some(Path::Direct(endpoint(8))));
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(7)), bytes: sealed[1].clone() });
    assert_eq!(path(&w), Some(Path::Direct(endpoint(8))), "a replay moves nothing");
    assert_eq!(w.drops, [DropReason::BadTag, DropReason::Replay]);
}

#[test]
fn an_inner_source_that_is_not_the_sender_is_refused() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let packet = ipv6(w.id(1), w.id(1), 1);
    let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
    let range = HEADROOM..HEADROOM + packet.len();
    let now = w.now();
    assert_eq!(w.nodes[0].packet(now, &mut buf, range), Err(DropReason::BadInnerSource));
    // A sender that does not check: sealed below the check.
    let now = w.now();
    let peer = w.id(1);
    w.nodes[0].send_to(now, peer, &packet);
    w.settle();
    assert_eq!(w.drops, [DropReason::BadInnerSource]);
    assert!(w.arrived.is_empty());
}

#[test]
fn a_wrong_psk_makes_no_session() {
    let mut w = World::new(2);
    let b = w.id(1);
    w.nodes[0].set_psk(b, [1; 32]);
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connecting);
    assert_eq!(w.drops, [DropReason::BadHandshake]);
}

#[test]
fn strangers_do_not_fill_the_node() {
    let mut w = World::new(1);
    let target = w.id(0);
    for n in 0..40 {
        let mut stranger = Node::new(config(n * 6 + 2), [n; 32]);
        stranger.connect(w.now(), target, vec![endpoint(0)], false);
        while let Some(action) = stranger.poll() {
            if let Action::Send(_, mut bytes) = action {
                let from = Origin::Direct(endpoint(usize::from(n) + 9));
                let now = w.now();
                let _ = w.nodes[0].message(now, &from, &mut bytes);
            }
        }
    }
    assert!(w.nodes[0].peers().count() <= 16, "the limit of peers holds");
    w.collect(0);
    w.pass(11);
    assert_eq!(w.nodes[0].peers().count(), 0, "half-made sessions end");
    assert_eq!(w.nodes[0].sessions().0, 0);
}

#[test]
fn truncated_messages_of_every_type_at_every_length() {
    let mut w = World::new(2);
    w.connect(0, 1);
    for kind in 1..=7u8 {
        let len = MessageType::from_byte(kind).expect("a type").min_len();
        for n in 0..len {
            let mut bytes = vec![0xa5; n];
            for (i, b) in [kind, 1, n as u8, (n >> 8) as u8].into_iter().enumerate().take(n) {
                bytes[i] = b;
            }
            let now = w.now();
            assert!(w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut bytes).is_err(), "{kind} at {n}");
        }
    }
    let now = w.now();
    assert!(w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut [1, 0, 0, 0]).is_err());
    w.send(0, 1, 1).expect("still fine");
    assert_eq!(w.arrived.len(), 1);
}

#[test]
fn noise_of_the_right_shape_costs_no_state() {
    let mut w = World::new(1);
    let key = mac1_key(w.id(0).public_key());
    for n in 0..=255u8 {
        let mut bytes = vec![n; size_of::<Hello>()];
        bytes[..4].copy_from_slice(&[1, 1, 64, 1]);
        let now = w.now();
        assert_eq!(w.nodes[0].message(now, &Origin::Direct(endpoint(1)), &mut bytes), Err(DropReason::BadMac1));
        let mac = mac1(&key, &bytes).expect("long enough");
        bytes[288..304].copy_from_slice(&mac);
        assert_eq!(w.nodes[0].message(now, &Origin::Direct(endpoint(1)), &mut bytes), Err(DropReason::BadHandshake));
    }
    assert_eq!((w.nodes[0].peers().count(), w.nodes[0].sessions().0), (0, 0));
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut w = World::new(2);
        let (b, now) = (w.id(1), w.now());
        w.nodes[0].connect(now, b, vec![endpoint(1)], true);
        w.collect(0);
        w.flights[0].bytes.clone()
    };
    assert_eq!(run(), run());
}
