//! The node: peers, sessions and routes behind four verbs.

mod all_nodes;
mod beacons;
mod data;
mod echo;
mod entries;
mod errors;
mod handshakes;
mod limits;
mod links;
mod lives;
mod lookups;
mod memory;
mod paths;
mod publish;
mod rates;
mod sealed;
mod search;
mod timers;
mod views;

pub use all_nodes::ALL_NODES;
pub(super) use errors::Told as ErrorsTold;
pub use limits::Use;
pub use sealed::Sealed;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::ops::Range;

use rovy_common::label::Width;
use rovy_common::siphash::Key;
use rovy_common::{DropReason, wire};

use super::action::{Action, Hops, LinkRx, LinkTx, Origin, Path};
use super::discovery::{Discovery, Standing};
use super::echo::Echoes;
use super::errors::Errors;
use super::index::Indices;
use super::peer::{Peer, PeerSource, Psk};
use super::probes::{Bucket, Budget, Probes};
use super::random::Rng;
use super::session::{REKEY_NS, Session};
use super::slots::Slots;
use super::stamps::{Stamp, Stamps};
use super::time::Now;
use crate::identity::{PeerId, SecretKey};
use crate::transport::Endpoint;
use lookups::Lookups;
use rates::Rates;
use search::Seeker;

/// What a node is made with.
pub struct NodeConfig {
    /// The node's key.
    pub secret: SecretKey,
    /// Bytes of its slots.
    pub width: Width,
    /// Whether neighbours may send transit through it.
    pub transit: bool,
    /// Sessions and half-open handshakes it keeps, a power of two.
    pub sessions: u32,
    /// Peers it keeps.
    pub peers: usize,
    /// Handshakes under way at one time, its own and others'. Peers nobody here named get half of them.
    pub handshakes: usize,
    /// Largest message it takes, in bytes; told to peers.
    pub receive_mtu: Option<u16>,
    /// Whether this CPU is fast at AES-GCM.
    pub aes: bool,
    /// Pre-shared key for peers that have none of their own.
    pub psk: Psk,
    /// What it spends on probes.
    pub probes: Budget,
}

/// What an incoming message turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// The core has dealt with it.
    Done,
    /// An IPv6 packet for the TUN, at this range of the message's buffer.
    Packet(Range<usize>),
    /// Transit that came sealed: it is to be switched.
    Sealed(Sealed),
}

/// What stands at a receiver index.
enum Entry {
    /// A hello was sent with it.
    Attempt(PeerId),
    Session(Box<Session>),
    /// A further link of the session at another index.
    Link {
        session: u32,
        number: u8,
    },
    /// A former agent gave it out; valid until then, in monotonic ns.
    Reserved(u64),
}

/// What was configured for one peer, instead of what holds for all.
#[derive(Default)]
struct Policy {
    psk: Option<Psk>,
    transit: Option<bool>,
    sealed: bool,
    /// Time between keepalives of a session that sends nothing else, in ns.
    keepalive_ns: Option<u64>,
}

/// One node of the network.
pub struct Node {
    id: PeerId,
    address: Ipv6Addr,
    config: NodeConfig,
    mac1_key: Key,
    rng: Rng,
    peers: BTreeMap<PeerId, Peer>,
    /// What was configured for single peers; outlives their sessions. Who is in here is no stranger.
    policies: BTreeMap<PeerId, Policy>,
    rates: Rates,
    by_address: HashMap<Ipv6Addr, PeerId>,
    indices: Indices,
    entries: Vec<Option<Entry>>,
    slots: Slots,
    stamps: Stamps,
    echoes: Echoes,
    errors: Errors,
    last_timestamp: Stamp,
    discovery: Discovery,
    half_open: usize,
    handshakes: u64,
    /// Sessions made so far.
    serial: u64,
    rekey_ns: u64,
    probes: Probes,
    seeker: Seeker,
    lookups: Lookups,
    /// Echo requests to all neighbours.
    to_all: Bucket,
    nat_keepalive_ns: u64,
    /// Flows are spread over routes that are alike.
    multipath: bool,
    actions: VecDeque<Action>,
    deadline_ns: u64,
}

impl Node {
    /// A node that knows nobody. `seed` is all the randomness it will ever use.
    #[must_use]
    pub fn new(config: NodeConfig, seed: [u8; 32]) -> Self {
        let id = config.secret.peer_id();
        let sessions = config.sessions.next_power_of_two().max(2);
        let mut rng = Rng::new(seed);
        Self {
            id,
            address: id.address(),
            mac1_key: super::mac::mac1_key(id.public_key()),
            probes: Probes::new(config.probes),
            seeker: Seeker::new(&mut rng),
            lookups: Lookups::default(),
            to_all: Bucket::default(),
            rng,
            peers: BTreeMap::new(),
            policies: BTreeMap::new(),
            rates: Rates::default(),
            by_address: HashMap::new(),
            indices: Indices::new(sessions),
            entries: std::iter::repeat_with(|| None).take(sessions as usize).collect(),
            slots: Slots::new(config.width),
            stamps: Stamps::default(),
            echoes: Echoes::default(),
            errors: Errors::default(),
            last_timestamp: Stamp::default(),
            discovery: Discovery::default(),
            half_open: 0,
            handshakes: 0,
            serial: 0,
            rekey_ns: REKEY_NS,
            nat_keepalive_ns: timers::NAT_KEEPALIVE_NS,
            multipath: false,
            actions: VecDeque::new(),
            deadline_ns: u64::MAX,
            config,
        }
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// The next thing to do, in order.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Monotonic ns at which [`Node::timeout`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.deadline_ns
    }

    fn wake(&mut self, at_ns: u64) {
        self.deadline_ns = self.deadline_ns.min(at_ns);
    }

    /// A message from the underlay, outermost or out of transit. It is decrypted in place.
    ///
    /// # Errors
    /// The reason to count when it was dropped.
    pub fn message(&mut self, now: Now, origin: &Origin, message: &mut [u8]) -> Result<Inbound, DropReason> {
        let (kind, _) = wire::check_bytes(message, true)?;
        match kind {
            wire::MessageType::Hello => self.hello(now, origin, message).map(|()| Inbound::Done),
            wire::MessageType::Response => self.response(now, origin, message).map(|()| Inbound::Done),
            wire::MessageType::Data => self.data(now, origin, message),
            wire::MessageType::CookieReply => self.cookie_reply(now, origin, message).map(|()| Inbound::Done),
            wire::MessageType::Control => self.control(now, origin, message).map(|()| Inbound::Done),
            // Beacons go to [`Node::beacon`]: nowhere else do they count.
            wire::MessageType::Beacon => Err(DropReason::NotAllowed),
            wire::MessageType::Transit => Err(DropReason::Malformed),
        }
    }

    /// Keeps a peer connected (`persistent`), or connects once. Endpoints, if any, replace those known before; without any it
    /// is looked for through the neighbours.
    pub fn connect(&mut self, now: Now, id: PeerId, endpoints: Vec<Endpoint>, persistent: bool) {
        if id == self.id {
            return;
        }
        if persistent {
            self.discovery.found.heed(id);
        }
        let peer = self.peer(id);
        if !endpoints.is_empty() {
            peer.dial.clone_from(&endpoints);
        }
        peer.persistent |= persistent;
        if persistent {
            peer.source = PeerSource::Configured;
        }
        let (idle, current, by_endpoint) = (peer.attempt.is_none(), peer.current, !peer.dial.is_empty());
        let routed = current.and_then(|i| self.session(i)).is_some_and(|s| s.endpoint().is_none());
        // Whoever is talked to over hops may be a neighbour at these endpoints.
        if idle && (current.is_none() || (routed && by_endpoint)) {
            return self.start_handshake(now, id);
        }
        self.open_links(now, id);
        // A hello that a beacon brought about must not keep the operator's addresses waiting.
        for endpoint in endpoints {
            self.copy_hello(now, id, Path::Direct(endpoint));
        }
    }

    /// Sends something to every neighbour, because this node is reached elsewhere from now on: they follow.
    pub fn announce(&mut self, now: Now) {
        let current: Vec<_> = self.peers.iter().filter_map(|(id, p)| Some((*id, p.current?))).collect();
        for (id, index) in current {
            if self.session(index).is_some_and(|s| s.endpoint().is_some()) {
                let way = self.session(index).map(|s| s.own_way());
                self.send_data_over(now, index, wire::codec::KEEPALIVE, &[], way);
                self.probe_links(now, id);
            }
        }
    }

    /// Forgets a peer: its sessions end at once, and its beacons count no more.
    pub fn disconnect(&mut self, now: Now, id: PeerId) -> bool {
        self.discovery.found.ignore(id);
        self.leave(now, id)
    }

    /// Forgets a peer for now.
    fn leave(&mut self, now: Now, id: PeerId) -> bool {
        let Some(peer) = self.peers.remove(&id) else { return false };
        self.slots.leave(now.mono_ns, id);
        self.by_address.remove(&id.address());
        if let Some(attempt) = &peer.attempt {
            self.release(attempt.index);
        }
        let had = peer.current.is_some();
        for index in peer.sessions() {
            self.end_session(index);
        }
        if had {
            self.actions.push_back(Action::Disconnected(id));
            let slots = self.slots.all(id).collect();
            self.gone(now, slots);
        }
        self.stamps.note(id, peer.newest);
        true
    }

    /// The operator knows this peer: it is no stranger, wherever it connects from.
    fn named(&mut self, id: PeerId) -> &mut Policy {
        self.policies.entry(id).or_default()
    }

    /// The pre-shared key for one peer.
    pub fn set_psk(&mut self, id: PeerId, psk: Psk) {
        self.named(id).psk = Some(psk);
    }

    /// Whether one peer may use this node for transit, instead of what the node allows everybody.
    pub fn set_transit(&mut self, id: PeerId, allowed: bool) {
        self.named(id).transit = Some(allowed);
    }

    /// Sends a keepalive to one peer whenever the session with it has sent nothing for so long.
    pub fn set_keepalive(&mut self, id: PeerId, every: std::time::Duration) {
        self.named(id).keepalive_ns = Some(u64::try_from(every.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Sends a keepalive so often through a NAT in front of this node, instead of every 25 s; for tests.
    pub fn set_nat_keepalive(&mut self, every: std::time::Duration) {
        self.nat_keepalive_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Spreads flows to a peer behind others over several routes that are about as good, each flow over one.
    pub fn set_multipath(&mut self, multipath: bool) {
        self.multipath = multipath;
    }

    /// Renews keys after `age` instead of 120 s; for tests. Keys still end after 180 s.
    pub fn set_rekey(&mut self, age: std::time::Duration) {
        self.rekey_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX).min(REKEY_NS);
    }

    /// Adds a route by hand; whether it is new. An existing session moves onto it once it answers, unless it is direct.
    pub fn add_route(&mut self, now: Now, id: PeerId, slot: u16, hops: Hops) -> bool {
        if id == self.id {
            return false;
        }
        if !self.peer(id).routes.configure(now.mono_ns, (slot, hops)) {
            return false;
        }
        self.peer(id).source = PeerSource::Configured;
        self.steer(now, id);
        if self.peers.get(&id).is_some_and(|p| p.current.is_none()) {
            self.start_handshake(now, id);
        }
        true
    }

    /// Removes a route by hand, all of them without one given; how many went.
    pub fn remove_route(&mut self, id: PeerId, route: Option<&(u16, Hops)>) -> usize {
        let Some(peer) = self.peers.get_mut(&id) else { return 0 };
        let gone = peer.routes.remove(route);
        self.place(id);
        gone
    }

    /// A link that a former agent left in the kernel: the slot stays with this link of its peer, for good when that comes
    /// back. A slot that this node cannot have is ignored.
    pub fn restore_slot(&mut self, now: Now, slot: u16, peer: PeerId, link: u8) {
        self.slots.put(now.mono_ns, slot, peer, link);
    }

    /// A receiver index that a former agent left valid until `expires_ns`; whether it could be kept apart.
    pub fn restore_index(&mut self, index: u32, expires_ns: u64) -> bool {
        if !self.indices.reserve(index) {
            return false;
        }
        self.set_entry(index, Some(Entry::Reserved(expires_ns)));
        self.wake(expires_ns);
        true
    }

    fn peer(&mut self, id: PeerId) -> &mut Peer {
        self.by_address.insert(id.address(), id);
        let newest = self.stamps.of(id);
        self.peers.entry(id).or_insert_with(|| Peer { newest, ..Peer::default() })
    }

    /// The pre-shared key with a peer.
    fn psk(&self, id: PeerId) -> Psk {
        self.policies.get(&id).and_then(|p| p.psk.as_ref()).unwrap_or(&self.config.psk).clone()
    }
}
