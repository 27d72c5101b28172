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

mod cookies;
mod echo;
mod input;
mod limits;
mod links;
mod memory;
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
    drops: Vec<DropReason>,
    now_ns: u64,
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
    }
}

fn endpoint(n: usize) -> Endpoint {
    Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, n as u8 + 1], 1312)), local: None }
}

/// Where a node is on the one Ethernet segment there is.
fn ether(n: usize) -> Endpoint {
    Endpoint::Ethernet { ifindex: 7, mac: [n as u8; 6] }
}

const BROADCAST: Endpoint = Endpoint::Ethernet { ifindex: 7, mac: [0xff; 6] };

impl World {
    fn new(n: u8) -> Self {
        let nodes: Vec<_> = (0..n).map(|i| Node::new(config(i * 16 + 1), [i; 32])).collect();
        Self {
            slots: vec![BTreeMap::new(); nodes.len()],
            receiving: vec![BTreeMap::new(); nodes.len()],
            sending: vec![BTreeMap::new(); nodes.len()],
            expected: vec![BTreeSet::new(); nodes.len()],
            cut: BTreeSet::new(),
            nodes,
            flights: Vec::new(),
            arrived: Vec::new(),
            drops: Vec::new(),
            now_ns: SECOND,
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
                if self.cut.contains(&(from, false)) {
                    return None;
                }
                let to =
                    (0..self.nodes.len()).find(|n| endpoint(*n) == Endpoint::Udp { remote: *remote, local: None })?;
                Some((to, Origin::Direct(endpoint(from))))
            }
            Path::Direct(Endpoint::Ethernet { mac, .. }) => {
                let others = (0..self.nodes.len()).filter(|n| *n != from);
                let to = others
                    .into_iter()
                    .find(|n| [ether(*n), BROADCAST].contains(&Endpoint::Ethernet { ifindex: 7, mac: *mac }))?;
                (!self.cut.contains(&(from, true))).then(|| (to, Origin::Direct(ether(from))))
            }
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
                    if matches!(bytes[0], 1 | 2) {
                        let index = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"));
                        assert!(self.expected[n].contains(&index), "an answer to this would be dropped by the kernel");
                    }
                    if let Some((to, origin)) = self.walk(n, &path) {
                        self.flights.push(Flight { to, origin, bytes });
                    }
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
                Action::Expect(index) => assert!(self.expected[n].insert(index), "expected twice"),
                Action::Forget(index) => {
                    self.receiving[n].remove(&index);
                    self.expected[n].remove(&index);
                }
                Action::Connected(_) | Action::Disconnected(_) => {}
            }
        }
    }

    fn deliver(&mut self, mut flight: Flight) {
        let now = self.now();
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
pub(super) fn peer_ids(n: usize) -> Vec<PeerId> {
    let key = |i: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&i.to_le_bytes());
        key
    };
    (0_u64..).filter_map(|i| PeerId::new(key(i)).ok()).take(n).collect()
}
