//! What the node keeps of a peer: how to reach it, its sessions, its handshake.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use arrayvec::ArrayVec;

use super::action::{Hops, Path};
use super::cookie::{Asked, Cookies};
use super::handshake::Initiation;
use super::link::{LINKS, LinkState};
use super::node::ErrorsTold;
use super::routes::{RouteState, Routes, Why};
use super::time::{SECOND, TAI64N_LEN};
use crate::identity::PeerId;
use crate::rate::RateLimit;
use crate::transport::Endpoint;
use zeroize::Zeroizing;

/// Packets that wait for a session, at most.
pub(super) const QUEUE: usize = 16;
/// How long a program waits for a peer that does not answer; two hellos go out meanwhile.
const PATIENCE_NS: u64 = 8 * SECOND;

/// Answers to one probe that tell ways.
pub(super) const ANSWERS: u8 = 8;

/// A pre-shared key, wiped from memory when dropped. All zero is none.
pub type Psk = Zeroizing<[u8; 32]>;

/// A handshake this node started.
pub(super) struct Attempt {
    pub(super) initiation: Initiation,
    pub(super) index: u32,
    /// What the hello says of it.
    pub(super) sealed: bool,
    pub(super) sent_ns: u64,
    pub(super) retry_ns: u64,
    pub(super) asked: Asked,
}

/// The last hello that was answered, for its copies that come over other paths.
pub(super) struct Answered {
    pub(super) hello: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) until_ns: u64,
    pub(super) copies: u8,
}

/// The last response that made a session, for its copies that come over other routes.
pub(super) struct Finished {
    pub(super) response: Vec<u8>,
    pub(super) until_ns: u64,
    pub(super) copies: u8,
}

/// A probe that looks for ways to a neighbour.
pub(super) struct Sought {
    pub(super) probe: u64,
    pub(super) until_ns: u64,
    pub(super) answers: u8,
}

impl Sought {
    /// Whether an answer to this probe tells a way.
    pub(super) fn takes(&self, now_ns: u64, probe: u64) -> bool {
        self.probe == probe && now_ns < self.until_ns && self.answers < ANSWERS
    }
}

#[derive(Default)]
pub(super) struct Peer {
    pub(super) dial: Vec<Endpoint>,
    /// Segments on which it was heard while it was connected elsewise: a link may be opened there.
    pub(super) nearby: ArrayVec<Endpoint, 2>,
    /// Keep trying for ever.
    pub(super) persistent: bool,
    pub(super) routes: Routes,
    /// What is known of it did not answer, or a new link is there: the next hello goes into a probe too.
    pub(super) search: bool,
    /// The last probe for ways to it while it is a neighbour.
    pub(super) sought: Option<Sought>,
    pub(super) attempt: Option<Attempt>,
    /// Handshakes tried since the last success, and when the first was.
    pub(super) tries: u32,
    pub(super) since_ns: u64,
    /// When the next handshake is due although none is under way.
    pub(super) again_ns: Option<u64>,
    /// Indices of the sessions: not yet confirmed, in use, before that.
    pub(super) next: Option<u32>,
    pub(super) current: Option<u32>,
    pub(super) previous: Option<u32>,
    pub(super) newest: [u8; TAI64N_LEN],
    /// The hello that lost against this node's own of the same moment.
    pub(super) overruled: Option<[u8; TAI64N_LEN]>,
    /// Since the last session an answer came that does not authenticate.
    pub(super) refused: bool,
    pub(super) answered: Option<Answered>,
    pub(super) finished: Option<Finished>,
    pub(super) cookies: Cookies,
    pub(super) queue: VecDeque<Vec<u8>>,
    /// How it came to be known.
    pub(super) source: PeerSource,
    /// A NAT in front of this node changes the address the peer sees.
    pub(super) behind_nat: bool,
    pub(super) received_ns: Option<u64>,
    pub(super) rtt_ns: Option<u64>,
    pub(super) packets: [u64; 2],
    pub(super) bytes: [u64; 2],
    /// What errors about its routes did.
    pub(super) errors: ErrorsTold,
    /// What the slot of each link was last told to send by.
    pub(super) told: [Option<Told>; LINKS as usize],
}

/// The sending side of a slot as it was last published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) slot: u16,
    pub(super) key: u64,
    pub(super) remote: u32,
    pub(super) endpoint: Endpoint,
}

impl Peer {
    /// Every path worth a hello: known endpoints, then routes, the best first.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut paths: Vec<_> = self.dial.iter().map(|e| Path::Direct(*e)).collect();
        paths.extend(self.routes.worth_a_hello().into_iter().map(|(slot, hops)| Path::Routed { slot, hops }));
        paths
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = u32> {
        [self.next, self.current, self.previous].into_iter().flatten()
    }

    /// Whether the operator neither connects nor routes to it.
    pub(super) fn unwanted(&self) -> bool {
        !self.persistent && !self.routes.any_configured()
    }

    /// Whether nothing but a beacon speaks for it: that is no reason for probes, as anybody on a link can send one.
    pub(super) fn only_seen(&self) -> bool {
        self.source == PeerSource::Discovered && !self.persistent && self.current.is_none() && self.queue.is_empty()
    }

    /// Whether it has not answered for so long that programs are told so and wait no more. Hellos go on.
    pub(super) fn in_vain(&self, now_ns: u64) -> bool {
        let silent = self.current.is_none() && self.next.is_none();
        silent && self.tries >= 2 && now_ns.saturating_sub(self.since_ns) >= PATIENCE_NS
    }

    /// Whether anybody would miss it.
    pub(super) fn idle(&self) -> bool {
        self.sessions().next().is_none()
            && self.attempt.is_none()
            && !self.persistent
            && !self.routes.any_configured()
            && self.queue.is_empty()
    }
}

/// How a peer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// A session is ready.
    Connected,
    /// A handshake is under way.
    Connecting,
    /// Neither.
    Disconnected,
}

/// How a peer came to be known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PeerSource {
    /// The operator named it.
    Configured,
    /// A beacon named it.
    Discovered,
    /// It was found through other nodes.
    Probed,
    /// It connected by itself.
    #[default]
    Incoming,
}

/// A peer, as status commands show it.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Who.
    pub id: PeerId,
    /// Its address.
    pub address: Ipv6Addr,
    /// How it stands.
    pub state: PeerState,
    /// It answers, but not with the keys it should have; a pre-shared key that differs looks like that.
    pub refused: bool,
    /// How packets to it travel now.
    pub path: Option<Path>,
    /// This node's slot for the link that carries data, when it is a neighbour.
    pub slot: Option<u16>,
    /// Its links, when it is a neighbour.
    pub links: Vec<LinkView>,
    /// Whether this node was told to keep the connection.
    pub persistent: bool,
    /// How it came to be known.
    pub source: PeerSource,
    /// Whether a NAT in front of this node changes the address the peer sees.
    pub behind_nat: bool,
    /// Whether it may route through this node.
    pub transit: bool,
    /// How much of it.
    pub limit: Option<RateLimit>,
    /// Whether transit between it and this node is sealed; without a session, whether this node wants it.
    pub sealed: bool,
    /// Monotonic time in ns of the last authentic message.
    pub received_ns: Option<u64>,
    /// Round trip of the last handshake this node started, in ns.
    pub rtt_ns: Option<u64>,
    /// IPv6 packets received and sent.
    pub packets: [u64; 2],
    /// Their bytes.
    pub bytes: [u64; 2],
}

/// A link to a neighbour, as status commands show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkView {
    /// Its number: 0 came with the handshake.
    pub number: u8,
    /// This node's slot for it.
    pub slot: Option<u16>,
    /// Where the neighbour is.
    pub endpoint: Endpoint,
    /// How it stands.
    pub state: LinkState,
    /// Whether data goes over it.
    pub active: bool,
}

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteSource {
    /// The peer is a neighbour.
    Direct,
    /// Set by hand.
    Configured,
    /// Found by a probe, or the way a message of the peer's came, reversed.
    Learned,
}

/// A route, as status commands show it.
#[derive(Clone, Debug)]
pub struct RouteView {
    /// To whom.
    pub peer: PeerId,
    /// This node's first slot.
    pub slot: u16,
    /// The label after it.
    pub hops: Hops,
    /// Where it comes from.
    pub source: RouteSource,
    /// Whether packets travel over it now.
    pub in_use: bool,
    /// How it stands.
    pub state: RouteState,
    /// Monotonic time in ns since when.
    pub since_ns: Option<u64>,
    /// Smoothed round trip in ns, once an echo came back.
    pub rtt_ns: Option<u64>,
    /// Echoes lost of a thousand, smoothed.
    pub loss_permille: u16,
    /// Why it is in use.
    pub why: Option<Why>,
}
