//! Nodes in memory with virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rovy_common::DropReason;
use rovy_common::label::Width;
use rovy_common::wire::{MessageType, receiver_index};

use super::*;
use crate::identity::{PeerId, SecretKey};
use crate::transport::Endpoint;

mod all_nodes;
mod cookies;
mod discovery;
mod echo;
mod errors;
mod input;
mod limits;
mod links;
mod memory;
mod net;
mod rates;
mod routing;
mod rules;
mod sealed;
mod sessions;
mod simultaneous;
mod timers;

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
    /// Of each node, as its tables have them: receiver index -> link, slot -> link.
    receiving: Vec<BTreeMap<u32, LinkRx>>,
    sending: Vec<BTreeMap<u16, LinkTx>>,
    /// Nodes from which nothing gets through over raw Ethernet (`true`) or UDP.
    cut: BTreeSet<(usize, bool)>,
    flights: Vec<Flight>,
    /// IPv6 packets that arrived: at which node.
    arrived: Vec<(usize, Vec<u8>)>,
    /// Beacons that were sent: by which node.
    beacons: Vec<(usize, Vec<u8>)>,
    drops: Vec<DropReason>,
    /// Packets given back because nobody was found.
    refused: Vec<Vec<u8>>,
    /// What each node learnt of its routes' sizes: node, route, bytes.
    sizes: Vec<(usize, u16, Hops, u16)>,
    now_ns: u64,
    /// Nodes whose wall clock is ahead, or behind, by so many seconds.
    skew: BTreeMap<usize, i64>,
    /// Links that take time, by both ends, smaller number first.
    delays: BTreeMap<(usize, usize), u64>,
    /// Links that swallow everything.
    dead: BTreeSet<(usize, usize)>,
    /// Nodes whose agent is gone: they switch and take nothing in.
    deaf: BTreeSet<usize>,
    /// Each of so many messages is lost, 0 for none; and how many went so far.
    loses: u64,
    went: u64,
    /// Nodes with slots of two bytes.
    wide: BTreeSet<usize>,
    /// Messages that take time, and when they are there.
    late: Vec<(u64, Flight)>,
    /// The receiver indices that each node told the kernel.
    expected: Vec<BTreeSet<u32>>,
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
        handshakes: 64,
        psk: Psk::default(),
        probes: Budget::default(),
    }
}

fn endpoint(n: usize) -> Endpoint {
    Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, n as u8 + 1], 1312)), local: None }
}

/// Where a node is on the one Ethernet segment there is.
fn ether(n: usize) -> Endpoint {
    Endpoint::Ethernet { ifindex: 7, mac: [2 * n as u8 + 2; 6] }
}

const BROADCAST: Endpoint = Endpoint::Ethernet { ifindex: 7, mac: [0xff; 6] };

impl World {
    fn new(n: u8) -> Self {
        Self::of((0..n).map(|i| Node::new(config(i * 16 + 1), [i; 32])).collect())
    }

    fn of(nodes: Vec<Node>) -> Self {
        Self {
            slots: vec![BTreeMap::new(); nodes.len()],
            receiving: vec![BTreeMap::new(); nodes.len()],
            sending: vec![BTreeMap::new(); nodes.len()],
            expected: vec![BTreeSet::new(); nodes.len()],
            cut: BTreeSet::new(),
            nodes,
            flights: Vec::new(),
            arrived: Vec::new(),
            beacons: Vec::new(),
            drops: Vec::new(),
            refused: Vec::new(),
            sizes: Vec::new(),
            now_ns: SECOND,
            skew: BTreeMap::new(),
            delays: BTreeMap::new(),
            dead: BTreeSet::new(),
            deaf: BTreeSet::new(),
            loses: 0,
            went: 0,
            wide: BTreeSet::new(),
            late: Vec::new(),
        }
    }

    /// Another agent of the same node: what the former one told the kernel of its indices is forgotten.
    fn restart(&mut self, n: usize, node: Node) {
        self.nodes[n] = node;
        self.expected[n].clear();
    }

    fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: Duration::from_nanos(1_700_000_000 * SECOND + self.now_ns) }
    }

    /// The moment as node `n` sees it.
    fn now_at(&self, n: usize) -> Now {
        let Now { mono_ns, wall } = self.now();
        let skew = self.skew.get(&n).copied().unwrap_or(0);
        Now { mono_ns, wall: Duration::new(wall.as_secs().saturating_add_signed(skew), wall.subsec_nanos()) }
    }

    fn id(&self, n: usize) -> PeerId {
        self.nodes[n].id()
    }

    fn number(&self, id: PeerId) -> usize {
        self.nodes.iter().position(|n| n.id() == id).expect("known")
    }

    /// Where a message sent by `from` along a path ends, and the way back.
    fn walk(&self, from: usize, path: &Path) -> Option<(usize, Origin)> {
        let (nodes, origin) = self.way(from, path)?;
        let link = |w: &[usize]| (w[0].min(w[1]), w[0].max(w[1]));
        let alive = !nodes.windows(2).any(|w| self.dead.contains(&link(w)));
        alive.then_some((*nodes.last()?, origin))
    }

    /// How long it is under way.
    fn delay(&self, from: usize, path: &Path) -> u64 {
        let Some((nodes, _)) = self.way(from, path) else { return 0 };
        nodes.windows(2).filter_map(|w| self.delays.get(&(w[0].min(w[1]), w[0].max(w[1])))).sum()
    }

    /// All nodes of a path, the sender first, and the way back.
    fn way(&self, from: usize, path: &Path) -> Option<(Vec<usize>, Origin)> {
        match path {
            Path::Direct(Endpoint::Udp { remote, .. }) => {
                if self.cut.contains(&(from, false)) {
                    return None;
                }
                let to =
                    (0..self.nodes.len()).find(|n| endpoint(*n) == Endpoint::Udp { remote: *remote, local: None })?;
                Some((vec![from, to], Origin::Direct(endpoint(from))))
            }
            Path::Direct(Endpoint::Ethernet { mac, .. }) => {
                let others = (0..self.nodes.len()).filter(|n| *n != from);
                let to = others
                    .into_iter()
                    .find(|n| [ether(*n), BROADCAST].contains(&Endpoint::Ethernet { ifindex: 7, mac: *mac }))?;
                (!self.cut.contains(&(from, true))).then(|| (vec![from, to], Origin::Direct(ether(from))))
            }
            Path::Routed { slot, hops } => {
                let (mut before, mut at) = (from, self.number(*self.slots[from].get(slot)?));
                let mut back = Hops::new();
                let back_slot = |at: usize, before: usize| {
                    self.slots[at].iter().find(|(_, p)| **p == self.id(before)).map(|(s, _)| *s)
                };
                let mut nodes = vec![from, at];
                let mut rest = hops.as_slice();
                while !rest.is_empty() {
                    let width = if self.wide.contains(&at) { 2 } else { 1 };
                    let (mine, after) = rest.split_at_checked(width)?;
                    rest = after;
                    let slot = mine.iter().fold(0, |slot: u16, b| slot << 8 | u16::from(*b));
                    for byte in back_slot(at, before)?.to_le_bytes().iter().take(width) {
                        back.insert(0, *byte);
                    }
                    let to = self.number(*self.slots[at].get(&slot)?);
                    if to == before {
                        return None;
                    }
                    (before, at) = (at, to);
                    nodes.push(at);
                }
                Some((nodes, Origin::Routed { slot: back_slot(at, before)?, hops: back }))
            }
        }
    }

    /// A message leaves node `n`.
    fn fly(&mut self, n: usize, path: &Path, bytes: Vec<u8>) {
        let Some((to, origin)) = self.walk(n, path) else { return };
        // As good as drawn, and always the same.
        self.went += 1;
        let drawn = self.went.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        if self.deaf.contains(&to) || self.deaf.contains(&n) || (self.loses > 0 && drawn.is_multiple_of(self.loses)) {
            return;
        }
        let flight = Flight { to, origin, bytes };
        match self.delay(n, path) {
            0 => self.flights.push(flight),
            delay => self.late.push((self.now_ns + delay, flight)),
        }
    }

    fn collect(&mut self, n: usize) {
        while let Some(action) = self.nodes[n].poll() {
            match action {
                Action::Send(path, bytes) => {
                    if matches!(bytes[0], 1 | 2) {
                        let index = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"));
                        assert!(self.expected[n].contains(&index), "an answer to this would be dropped by the kernel");
                    }
                    self.fly(n, &path, bytes);
                }
                Action::Transmit(l) => {
                    self.slots[n].insert(l.slot, l.peer);
                    self.sending[n].insert(l.slot, l);
                }
                Action::Receive(l) => {
                    self.slots[n].insert(l.slot, l.peer);
                    self.receiving[n].insert(l.index, l);
                }
                Action::Silence(slot) => {
                    self.slots[n].remove(&slot);
                    self.sending[n].remove(&slot);
                }
                Action::Unreachable(packet) => self.refused.push(packet),
                Action::Beacon(_, bytes) => self.beacons.push((n, bytes)),
                Action::Expect(index) => assert!(self.expected[n].insert(index), "expected twice"),
                Action::Forget(index) => {
                    self.receiving[n].remove(&index);
                    self.expected[n].remove(&index);
                }
                Action::PathMtu { slot, hops, mtu } => self.sizes.push((n, slot, hops, mtu)),
                Action::Connected(_) | Action::Disconnected(_) => {}
            }
        }
    }

    fn deliver(&mut self, mut flight: Flight) {
        let now = self.now_at(flight.to);
        let kind = MessageType::from_byte(flight.bytes[0]).expect("a message");
        if let Some(index) = receiver_index(kind, &flight.bytes) {
            let expected = self.expected[flight.to].contains(&index);
            assert_eq!(self.nodes[flight.to].expects(index), expected, "kernel and core know the same indices");
        }
        match self.nodes[flight.to].message(now, &flight.origin, &mut flight.bytes) {
            Ok(Inbound::Packet(range)) => self.arrived.push((flight.to, flight.bytes[range].to_vec())),
            // These links have no tables: nobody asked for a sealed one.
            Ok(Inbound::Done | Inbound::Sealed(_)) => {}
            Err(reason) => self.drops.push(reason),
        }
        self.collect(flight.to);
    }

    /// Delivers until nothing is under way.
    fn settle(&mut self) {
        for n in 0..self.nodes.len() {
            self.collect(n);
        }
        self.late.sort_by_key(|(at, _)| *at);
        let there = self.late.iter().take_while(|(at, _)| *at <= self.now_ns).count();
        self.flights.extend(self.late.drain(..there).map(|(_, flight)| flight));
        while !self.flights.is_empty() {
            let flight = self.flights.remove(0);
            self.deliver(flight);
        }
    }

    /// Lets time pass with all timers, packets delivered at once.
    fn pass(&mut self, seconds: u64) {
        self.pass_ns(seconds * SECOND);
    }

    /// As [`World::pass`].
    fn pass_ns(&mut self, ns: u64) {
        let (end, mut turns) = (self.now_ns + ns, 0);
        while self.now_ns < end {
            turns += 1;
            assert!(turns < 2000 + ns / 100_000, "timers that go off without end");
            self.step(end);
        }
    }

    /// Lets time pass to the next timer, `end` at most.
    fn step(&mut self, end: u64) {
        self.tick(end);
        self.settle();
    }

    fn tick(&mut self, end: u64) {
        let next = self.nodes.iter().map(Node::deadline).chain(self.late.iter().map(|(at, _)| *at));
        let next = next.min().unwrap_or(end);
        self.now_ns = next.clamp(self.now_ns + 1, end);
        for n in 0..self.nodes.len() {
            let now = self.now_at(n);
            self.nodes[n].timeout(now);
        }
    }

    /// As [`World::step`], with everything lost that goes to node `deaf`.
    fn step_lossy(&mut self, end: u64, deaf: usize) {
        self.tick(end);
        for n in 0..self.nodes.len() {
            self.collect(n);
        }
        self.flights.retain(|f| f.to != deaf);
        self.settle();
    }

    fn connect(&mut self, a: usize, b: usize) {
        let (id, now) = (self.id(b), self.now());
        self.nodes[a].connect(now, id, vec![endpoint(b)], true);
        self.settle();
    }

    /// As [`World::connect`]; the hello that did it.
    fn connect_overheard(&mut self, a: usize, b: usize) -> Vec<u8> {
        let (id, now) = (self.id(b), self.now());
        self.nodes[a].connect(now, id, vec![endpoint(b)], true);
        self.collect(a);
        let hello = self.flights[0].bytes.clone();
        self.settle();
        hello
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
        let now = self.now_at(a);
        let sealed = self.nodes[a].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len())?;
        if let Some(out) = sealed {
            self.fly(a, &out.path, buf[out.message].to_vec());
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

/// `n` valid PeerIDs, quickly: their private keys are nobody's.
pub(crate) fn peer_ids(n: usize) -> Vec<PeerId> {
    let key = |i: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&i.to_le_bytes());
        key
    };
    (0_u64..).filter_map(|i| PeerId::new(key(i)).ok()).take(n).collect()
}
