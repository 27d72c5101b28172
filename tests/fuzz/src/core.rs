//! The core's state machine: two nodes with a network between them that delivers, drops, repeats, delays and forges as the
//! input says, while time passes and commands come.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use rovy_common::wire::{Beacon, MessageType, check_bytes};
use rovy_userspace::core::{
    Action, HEADROOM, Heard, Hops, Inbound, LEAST_FIT, Node, Now, Origin, Path, TAILROOM, mac1, mac1_key,
};
use rovy_userspace::fc00::packet::{destination, source};
use rovy_userspace::identity::PeerId;
use rovy_userspace::transport::Endpoint;

use crate::keys::{SESSIONS, endpoint, id, node};

const SECOND: u64 = 1_000_000_000;
/// Messages under way, at most: later ones are lost.
const FLIGHTS: usize = 64;
/// Actions one input of a node may cause: a full queue for each of three peers, and what goes with a handshake.
const ACTIONS: usize = 96;
/// Inputs looked at in one run.
const STEPS: usize = 256;
/// The label block of all transit that is sealed here.
const SEALED: [u8; 16] = [0, 1, 0x5e, 0xa1, 0xed, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[derive(Clone)]
struct Flight {
    to: usize,
    /// Where it seems to come from.
    from: Endpoint,
    bytes: Vec<u8>,
}

struct World {
    nodes: [Node; 2],
    /// Of each node: whom it says to be connected to.
    connected: [BTreeSet<PeerId>; 2],
    flights: Vec<Flight>,
    now_ns: u64,
}

/// Runs a sequence of inputs.
pub fn core(data: &[u8]) {
    let mut nodes = [node(0), node(1)];
    if data.len() % 2 == 1 {
        nodes[0].set_sealed(id(1));
    }
    let mut world = World { nodes, connected: Default::default(), flights: Vec::new(), now_ns: SECOND };
    let mut input = Unstructured::new(data);
    for _ in 0..STEPS {
        if input.is_empty() || world.step(&mut input).is_err() {
            break;
        }
    }
}

fn any_endpoint(u: &mut Unstructured<'_>) -> Result<Endpoint> {
    Ok(match u.int_in_range(0..=5)? {
        0 | 1 => endpoint(0),
        2 | 3 => endpoint(1),
        4 => Endpoint::Ethernet { ifindex: u.arbitrary()?, mac: u.arbitrary()? },
        _ => Endpoint::Udp { remote: SocketAddr::from((u.arbitrary::<[u8; 16]>()?, u.arbitrary()?)), local: None },
    })
}

fn hops(u: &mut Unstructured<'_>) -> Result<Hops> {
    let n = u.int_in_range(0..=30)?;
    (0..n).map(|_| u.arbitrary()).collect()
}

fn origin(u: &mut Unstructured<'_>) -> Result<Origin> {
    Ok(match u.ratio(1, 4)? {
        false => Origin::Direct(any_endpoint(u)?),
        true => Origin::Routed { slot: u.int_in_range(0..=5)?, hops: hops(u)? },
    })
}

impl World {
    fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: Duration::from_nanos(1_700_000_000 * SECOND + self.now_ns) }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let n = usize::from(u.arbitrary::<bool>()?);
        let (other, whom, now) = (1 - n, id(u.int_in_range(0..=2)?), self.now());
        match u.int_in_range(0..=17)? {
            0..=5 => self.deliver(u)?,
            6 => {
                let at = u.choose_index(self.flights.len().max(1))?;
                if at < self.flights.len() {
                    self.flights.remove(at);
                }
            }
            7 => self.forge(u, n)?,
            8 => self.pass(u.int_in_range(0..=200 * SECOND)?),
            9 => self.pass(self.nodes[n].deadline().saturating_sub(self.now_ns).min(300 * SECOND)),
            10 => {
                // There are two ways between the nodes: each has its end `n` on one, and `n + 2` on the other.
                let ways =
                    if u.arbitrary()? { vec![endpoint(other)] } else { vec![endpoint(other), endpoint(other + 2)] };
                self.nodes[n].connect(now, id(other), ways, u.arbitrary()?);
            }
            11 => {
                let endpoints = (0..u.int_in_range(0..=2)?).map(|_| any_endpoint(u)).collect::<Result<_>>()?;
                self.nodes[n].connect(now, whom, endpoints, u.arbitrary()?);
            }
            12 => {
                self.nodes[n].disconnect(now, whom);
            }
            13 => self.packet(u, n, id(other))?,
            14 => {
                let route = (u.int_in_range(0..=5)?, hops(u)?);
                if u.arbitrary()? {
                    self.nodes[n].add_route(now, whom, route.0, route.1);
                } else {
                    self.nodes[n].remove_route(whom, u.arbitrary::<bool>()?.then_some(&route));
                }
            }
            15 => match u.int_in_range(0..=5)? {
                0 => self.nodes[n].set_psk(whom, [u.int_in_range(0..=1)?; 32].into()),
                1 => self.nodes[n].set_transit(whom, u.arbitrary()?),
                2 => self.nodes[n].set_keepalive(whom, Duration::from_secs(u.int_in_range(1..=400)?)),
                3 => self.nodes[n].set_rekey(Duration::from_secs(u.int_in_range(1..=120)?)),
                4 => self.nodes[n].set_sealed(whom),
                _ => self.nodes[n].announce(now),
            },
            16 => self.nodes[n].moved_to(now, u.arbitrary()?, any_endpoint(u)?),
            _ => {
                self.nodes[n].restore_slot(now, u.int_in_range(0..=5)?, whom, u.int_in_range(0..=3)?);
                let until = self.now_ns.saturating_add(u.int_in_range(0..=200 * SECOND)?);
                self.nodes[n].restore_index(u.arbitrary()?, until);
            }
        }
        self.collect(0);
        self.collect(1);
        Ok(())
    }

    fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        let now = self.now();
        for node in &mut self.nodes {
            node.timeout(now);
            assert!(node.deadline() > self.now_ns, "the node wants to be called again at once");
        }
    }

    /// A message under way arrives: as it is or changed, and perhaps not for the last time.
    fn deliver(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.flights.is_empty() {
            return Ok(());
        }
        let at = u.choose_index(self.flights.len())?;
        let Flight { to, from, mut bytes } = self.flights[at].clone();
        if !u.ratio(1, 4)? {
            self.flights.remove(at);
        }
        if u.ratio(1, 8)? {
            let place = u.choose_index(bytes.len().max(1))?;
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= u.arbitrary::<u8>()?;
            }
        }
        let from = if u.ratio(1, 8)? { origin(u)? } else { Origin::Direct(from) };
        self.arrive(to, &from, bytes);
        Ok(())
    }

    /// A message that nobody sent, often with the mac1 that anybody can make.
    fn forge(&mut self, u: &mut Unstructured<'_>, to: usize) -> Result<()> {
        let from = origin(u)?;
        let length = *u.choose(&[16, 36, 40, 57, 156, 320, 400])?;
        let mut bytes = u.bytes(length.min(u.len()))?.to_vec();
        bytes.resize(length, 0);
        if u.ratio(3, 4)? {
            let [l0, l1] = (length as u16).to_le_bytes();
            bytes[..4].copy_from_slice(&[u.int_in_range(1..=7)?, 1, l0, l1]);
            if let (Some(at), Some(mac)) = (length.checked_sub(32), mac1(&mac1_key(id(to).public_key()), &bytes)) {
                bytes[at..at + 16].copy_from_slice(&mac);
            }
        }
        self.arrive(to, &from, bytes);
        Ok(())
    }

    /// The same as a beacon of one of the three keys, heard on a link.
    fn hear(&mut self, to: usize, from: &Origin, bytes: &[u8]) {
        let (Origin::Direct(from), true) = (from, bytes.len() == size_of::<Beacon>()) else { return };
        let mut bytes = bytes.to_vec();
        let key = id(usize::from(bytes[7]) % 3);
        bytes[8..].copy_from_slice(key.public_key());
        let networks = [([0, 0, 0, 1].into(), 1), ([128, 0, 0, 1].into(), 1)];
        let heard = Heard { from: *from, group: bytes[6] < 224, networks: &networks };
        let now = self.now();
        let _ = self.nodes[to].beacon(now, &heard, &bytes);
    }

    fn arrive(&mut self, to: usize, from: &Origin, mut bytes: Vec<u8>) {
        let now = self.now();
        self.hear(to, from, &bytes);
        match self.nodes[to].message(now, from, &mut bytes) {
            Ok(Inbound::Packet(range)) => {
                let packet = bytes.get(range).unwrap_or_default();
                assert_eq!(source(packet), Some(id(1 - to).address()), "a source that is not the sender's");
                assert_eq!(destination(packet), Some(id(to).address()), "a packet for somebody else");
            }
            Ok(Inbound::Sealed(sealed)) => {
                assert!(matches!(from, Origin::Direct(_)), "transit inside transit");
                let body = bytes.get(sealed.body).unwrap_or_default();
                assert_eq!(body.get(..SEALED.len()), Some(&SEALED[..]), "transit that nobody sealed");
            }
            Ok(Inbound::Done) | Err(_) => {}
        }
    }

    /// A packet from the TUN: to the other node, or anything.
    fn packet(&mut self, u: &mut Unstructured<'_>, n: usize, to: PeerId) -> Result<()> {
        let length = u.int_in_range(0..=200)?;
        let mut buf = vec![0; HEADROOM + length + TAILROOM];
        u.fill_buffer(&mut buf[HEADROOM..HEADROOM + length])?;
        if length >= 40 && !u.ratio(1, 4)? {
            buf[HEADROOM] = 0x60;
            buf[HEADROOM + 8..HEADROOM + 24].copy_from_slice(&id(n).address().octets());
            buf[HEADROOM + 24..HEADROOM + 40].copy_from_slice(&to.address().octets());
        }
        let now = self.now();
        if let Ok(Some(out)) = self.nodes[n].packet(now, &mut buf, HEADROOM..HEADROOM + length) {
            let bytes = buf.get(out.message).unwrap_or_default().to_vec();
            self.send(n, &out.path, bytes);
        }
        Ok(())
    }

    fn send(&mut self, from: usize, path: &Path, bytes: Vec<u8>) {
        let checked = check_bytes(&bytes, true);
        assert!(checked.is_ok_and(|(kind, _)| kind != MessageType::Transit), "sent {checked:?}");
        if let Path::Routed { hops, .. } = path {
            assert!(hops.len() <= 30);
        }
        if let Path::Routed { slot, .. } = path
            && let Some(sealed) = self.seal(from, *slot, &bytes)
        {
            return self.put(from, path, sealed);
        }
        self.put(from, path, bytes);
    }

    /// The message inside the session with the slot's neighbour, where that is sealed.
    fn seal(&mut self, from: usize, slot: u16, inner: &[u8]) -> Option<Vec<u8>> {
        let mut buf = vec![0; HEADROOM];
        buf.extend(SEALED);
        buf.extend(inner);
        let end = buf.len();
        buf.resize(end + TAILROOM, 0);
        let now = self.now();
        let range = self.nodes[from].seal_transit(now, slot, false, &mut buf, HEADROOM..end).ok()?;
        Some(buf[range].to_vec())
    }

    fn put(&mut self, from: usize, path: &Path, bytes: Vec<u8>) {
        if self.flights.len() < FLIGHTS {
            let to = 1 - from;
            let second = *path == Path::Direct(endpoint(to + 2));
            let from = endpoint(if second { from + 2 } else { from });
            self.flights.push(Flight { to, from, bytes });
        }
    }

    /// Takes the actions of a node and looks at what must hold of them, and of the node.
    fn collect(&mut self, n: usize) {
        // The key of the third is used by nobody; whoever is connected has shown to have its key.
        let peer_is_real = |peer: PeerId| assert_eq!(peer, id(1 - n), "an action for a peer that cannot be there");
        let mut count = 0;
        while let Some(action) = self.nodes[n].poll() {
            count += 1;
            assert!(count <= ACTIONS, "more than {ACTIONS} actions from one input");
            match action {
                Action::Send(path, bytes) => self.send(n, &path, bytes),
                Action::Receive(link) => {
                    peer_is_real(link.peer);
                    assert!(link.index != 0 && link.slot != 0);
                    assert!(link.expires_ns <= self.now_ns + 180 * SECOND);
                }
                Action::Transmit(link) => {
                    peer_is_real(link.peer);
                    assert!(link.slot != 0 && link.expires_ns <= self.now_ns + 180 * SECOND);
                }
                Action::Connected(peer) => {
                    peer_is_real(peer);
                    assert!(self.connected[n].insert(peer), "connected twice");
                }
                Action::Disconnected(peer) => assert!(self.connected[n].remove(&peer), "disconnected twice"),
                Action::Expect(index) => assert!(index != 0),
                Action::PathMtu { mtu, .. } => assert!(mtu >= LEAST_FIT),
                Action::Beacon(..) | Action::Forget(_) | Action::Silence(_) | Action::Unreachable(_) => {}
            }
        }
        let node = &self.nodes[n];
        let (used, free) = node.sessions();
        assert_eq!(used + free, SESSIONS as usize);
        assert!(node.peers().count() <= 3);
    }
}
