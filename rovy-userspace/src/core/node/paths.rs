//! Routes joined to sessions: echoes, the route a session takes, what makes it take another.

use rovy_common::DropReason;
use rovy_common::wire::{Echo, codec, echo};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use super::{Node, Origin, Path};
use crate::core::peer::Sought;
use crate::core::routes::{Load, Order, Way, direct};
use crate::core::session::Session;
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// How long answers to one probe tell ways to a neighbour.
const ANSWERS_NS: u64 = 5 * SECOND;

/// The way that leads back to where something came from.
fn way_back(origin: &Origin) -> Way {
    match origin {
        Origin::Direct(_) => direct(),
        Origin::Routed { slot, hops } => (*slot, hops.clone()),
    }
}

/// The path of a way to the peer of a session.
fn path_of(session: &Session, way: &Way) -> Path {
    match way {
        (0, _) => session.own_way(),
        (slot, hops) => Path::Routed { slot: *slot, hops: hops.clone() },
    }
}

impl Node {
    /// A way to a peer became known.
    pub(super) fn learn(&mut self, now: Now, id: PeerId, origin: &Origin) {
        if let (Origin::Routed { .. }, Some(peer)) = (origin, self.peers.get_mut(&id)) {
            peer.routes.learn(now.mono_ns, &way_back(origin));
            self.wake(now.mono_ns);
        }
    }

    /// A session was made over this way.
    pub(super) fn arrived(&mut self, now: Now, id: PeerId, origin: &Origin) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.search = false;
        match origin {
            Origin::Routed { .. } => peer.routes.arrived(now.mono_ns, &way_back(origin)),
            // The links work again, if they did not.
            Origin::Direct(_) => peer.routes.learn(now.mono_ns, &direct()),
        }
        self.steer(now, id);
    }

    /// Something authentic of a peer's came over this way.
    pub(super) fn heard_over(&mut self, now: Now, id: PeerId, origin: &Origin) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.routes.heard(now.mono_ns, &way_back(origin))
        {
            self.steer(now, id);
        }
    }

    /// Puts the session of a peer on the way that its routes say. That of a neighbour stays on its links and makes a detour.
    pub(super) fn place(&mut self, id: PeerId) {
        let Some(index) = self.peers.get(&id).and_then(|p| p.current) else { return };
        let Some(neighbour) = self.session(index).map(|s| s.endpoint().is_some()) else { return };
        let Some((slot, hops)) = self.peers.get(&id).and_then(|p| p.routes.in_use().cloned()) else { return };
        let Some(session) = self.session(index) else { return };
        let way = (slot != 0).then_some(Path::Routed { slot, hops });
        match way {
            Some(route) if !neighbour => session.path = route,
            way => {
                if way.is_some() != session.detour.is_some() {
                    tracing::info!(peer = %id, detour = way.is_some(), "data for a neighbour changed over");
                }
                session.detour = way;
            }
        }
    }

    /// Its ways may have changed: places the session of a peer, and sees to what follows in time.
    pub(super) fn steer(&mut self, now: Now, id: PeerId) {
        let current = self.peers.get(&id).and_then(|p| p.current);
        let neighbour = current.and_then(|i| self.session_ref(i)).is_some_and(|s| s.endpoint().is_some());
        if let Some(peer) = self.peers.get_mut(&id).filter(|_| current.is_some()) {
            peer.routes.neighbour(now.mono_ns, neighbour, peer.rtt_ns);
        }
        self.place(id);
        let Some(load) = self.load(now, id) else { return };
        let next = self.peers.get(&id).map_or(u64::MAX, |p| p.routes.next(load));
        self.wake(next.max(now.mono_ns));
    }

    /// What the session of a peer tells its routes.
    fn load(&mut self, now: Now, id: PeerId) -> Option<Load> {
        let index = self.peers.get(&id)?.current?;
        let session = self.session(index)?;
        let links = session.endpoint().is_some() && session.links.several();
        Some(Load { busy: session.busy(now.mono_ns), waits_ns: session.waits_since, links, yields: !session.initiator })
    }

    /// The path of one flow to a peer behind others, when there are several that are about as good.
    pub(super) fn way_of_flow(&mut self, now: Now, id: PeerId, flow: u64) -> Option<Path> {
        let index = self.peers.get(&id)?.current?;
        self.session_ref(index).filter(|s| s.endpoint().is_none())?;
        let (slot, hops) = self.peers.get_mut(&id)?.routes.of_flow(now.mono_ns, flow)?;
        self.wake(now.mono_ns + SECOND / 5);
        Some(Path::Routed { slot, hops })
    }

    /// A packet was sent over a session: if nothing answers it, its route is asked soon.
    pub(super) fn watch(&mut self, now: Now, id: PeerId, index: u32) {
        if self.session(index).is_some_and(|s| s.waits_since == Some(now.mono_ns)) {
            self.steer(now, id);
        }
    }

    /// Does what time has brought about the routes to a peer.
    pub(super) fn routes_due(&mut self, now: Now, id: PeerId, index: u32) {
        let Some(load) = self.load(now, id) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let orders = peer.routes.pass(now.mono_ns, load);
        for order in orders {
            match order {
                Order::Echo(way, nonce) => {
                    let Some(path) = self.session(index).map(|s| path_of(s, &way)) else { continue };
                    self.send_echo(now, index, echo::REQUEST, nonce, path);
                    // Several links find out among themselves which of them lives.
                    if load.links && load.waits_ns.is_some() && way == direct() {
                        self.probe_links(now, id);
                    }
                }
                Order::Search => self.search(now, id),
            }
        }
        self.steer(now, id);
    }

    /// No way to a peer answers: looks for others. For a neighbour only ways are looked for: its session stays, and with it the
    /// links that may come back.
    pub(super) fn search(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let fresh = peer.attempt.as_ref().is_some_and(|a| now.mono_ns.saturating_sub(a.sent_ns) < SECOND);
        let neighbour = peer.current.and_then(|i| self.session_ref(i)).is_some_and(|s| s.endpoint().is_some());
        if neighbour {
            let probe = self.flood(now, id.address(), &[]);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.sought = Some(Sought { probe, until_ns: now.mono_ns + ANSWERS_NS, answers: 0 });
            }
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.search = true;
        }
        if !fresh {
            self.start_handshake(now, id);
        }
    }

    /// The answer to a probe that looked for ways to a neighbour. Whether it was one.
    pub(super) fn way_answer(&mut self, now: Now, id: PeerId, probe: u64, origin: &Origin) -> bool {
        let asked = self.peers.get_mut(&id).and_then(|p| p.sought.as_mut());
        let Some(asked) = asked.filter(|a| a.takes(now.mono_ns, probe)) else { return false };
        asked.answers += 1;
        self.learn(now, id, origin);
        true
    }

    fn send_echo(&mut self, now: Now, index: u32, op: u8, nonce: u64, path: Path) {
        let body = Echo { op, reserved: [0; 7], nonce: U64::new(nonce) };
        self.send_data_over(now, index, codec::ECHO, body.as_bytes(), Some(path));
    }

    /// An echo came over the session at `index`.
    pub(super) fn echo(&mut self, now: Now, origin: &Origin, index: u32, body: &[u8]) -> Result<(), DropReason> {
        let head = Echo::read_from_bytes(body).map_err(|_| DropReason::BadLength)?;
        let nonce = head.nonce.get();
        match head.op {
            echo::REQUEST => {
                self.send_echo(now, index, echo::REPLY, nonce, origin.back());
                self.settles(index, origin)?;
            }
            echo::REPLY => {
                let id = self.settles(index, origin)?;
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.routes.answered(now.mono_ns, &way_back(origin), nonce);
                    self.steer(now, id);
                }
            }
            _ => return Err(DropReason::Malformed),
        }
        Ok(())
    }

    /// Data that waits for an answer has one: something came over the way that is in use. Whose it was.
    fn settles(&mut self, index: u32, origin: &Origin) -> Result<PeerId, DropReason> {
        let session = self.session(index).ok_or(DropReason::UnknownIndex)?;
        let same = match origin {
            Origin::Direct(_) => session.endpoint().is_some() && session.detour.is_none(),
            Origin::Routed { .. } => session.way() == origin.back(),
        };
        if same {
            session.waits_since = None;
        }
        Ok(session.peer)
    }

    /// A peer talked to over hops turns out to be a neighbour: its session moves onto the link and tells it so.
    pub(super) fn go_direct(&mut self, now: Now, id: PeerId, index: u32, endpoint: Endpoint) {
        let routed = self.session(index).is_some_and(|s| matches!(s.path, Path::Routed { .. }));
        if routed && self.peers.get(&id).is_some_and(|p| p.current == Some(index)) {
            self.moved_to(now, index, endpoint);
            self.send_data(now, index, codec::KEEPALIVE, &[]);
        }
    }

    /// Nothing can be sent over a slot any more, or over one route that starts with it: peers behind it change over at once.
    pub fn route_error(&mut self, now: Now, slot: u16, hops: Option<&[u8]>) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(peer) = self.peers.get_mut(&id)
                && peer.routes.ways().any(|(first, _)| *first == slot)
            {
                peer.routes.failed(now.mono_ns, slot, hops);
                self.steer(now, id);
            }
        }
        self.wake(now.mono_ns);
    }
}
