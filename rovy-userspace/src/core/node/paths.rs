//! Routes joined to sessions: echoes, the route a session takes, what makes it take another.

use rovy_common::DropReason;
use rovy_common::wire::{Echo, codec, echo};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use super::{Node, Origin, Path};
use crate::core::routes::{Load, Order, Way};
use crate::core::time::Now;
use crate::identity::PeerId;
use crate::transport::Endpoint;

impl Node {
    /// A way to a peer became known.
    pub(super) fn learn(&mut self, now: Now, id: PeerId, origin: &Origin) {
        if let (Origin::Routed { slot, hops }, Some(peer)) = (origin, self.peers.get_mut(&id)) {
            peer.routes.learn(now.mono_ns, &(*slot, hops.clone()));
            self.wake(now.mono_ns);
        }
    }

    /// A session was made over this way.
    pub(super) fn arrived(&mut self, now: Now, id: PeerId, origin: &Origin) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.search = false;
        if let Origin::Routed { slot, hops } = origin {
            peer.routes.arrived(now.mono_ns, &(*slot, hops.clone()));
            self.steer(now, id);
        }
    }

    /// Something authentic of a peer's came over this way.
    pub(super) fn heard_over(&mut self, now: Now, id: PeerId, way: &Way) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.routes.heard(now.mono_ns, way);
            self.steer(now, id);
        }
    }

    /// Puts the session of a peer on the route that its routes say, unless it is direct.
    pub(super) fn place(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let (Some(index), Some((slot, hops))) = (peer.current, peer.routes.in_use().cloned()) else { return };
        if let Some(session) = self.session(index)
            && matches!(session.path, Path::Routed { .. })
        {
            session.path = Path::Routed { slot, hops };
        }
    }

    /// Its routes may have changed: places the session of a peer, and sees to what follows in time.
    pub(super) fn steer(&mut self, now: Now, id: PeerId) {
        self.place(id);
        let Some(load) = self.load(now, id) else { return };
        let next = self.peers.get(&id).map_or(u64::MAX, |p| p.routes.next(load));
        self.wake(next.max(now.mono_ns));
    }

    /// What the routed session of a peer tells its routes.
    fn load(&mut self, now: Now, id: PeerId) -> Option<Load> {
        let index = self.peers.get(&id)?.current?;
        let session = self.session(index).filter(|s| matches!(s.path, Path::Routed { .. }))?;
        Some(Load { busy: session.busy(now.mono_ns), waits_ns: session.waits_since })
    }

    /// A packet was sent over a session: if nothing answers it, its route is asked soon.
    pub(super) fn watch(&mut self, now: Now, id: PeerId, index: u32) {
        if self.session(index).is_some_and(|s| s.waits_since == Some(now.mono_ns)) {
            self.steer(now, id);
        }
    }

    /// Does what time has brought about a routed session's routes.
    pub(super) fn routes_due(&mut self, now: Now, id: PeerId, index: u32) {
        let Some(load) = self.load(now, id) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let orders = peer.routes.pass(now.mono_ns, load);
        for order in orders {
            match order {
                Order::Echo((slot, hops), nonce) => {
                    self.send_echo(now, index, echo::REQUEST, nonce, Path::Routed { slot, hops });
                }
                Order::Search => self.search(now, id),
            }
        }
        self.steer(now, id);
    }

    /// No route to a peer answers: looks for others.
    pub(super) fn search(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.search = true;
        if peer.attempt.is_none() {
            self.start_handshake(now, id);
        }
    }

    /// Sends an echo as long as `length` bytes of body make it, over the way in use.
    pub(super) fn send_request(&mut self, now: Now, index: u32, nonce: u64, length: usize) {
        let head = Echo { op: echo::REQUEST, reserved: [0; 7], nonce: U64::new(nonce) };
        let mut body = head.as_bytes().to_vec();
        body.resize(length.max(body.len()), 0);
        self.send_data(now, index, codec::ECHO, &body);
    }

    fn send_echo(&mut self, now: Now, index: u32, op: u8, nonce: u64, path: Path) {
        let body = Echo { op, reserved: [0; 7], nonce: U64::new(nonce) };
        self.send_data_over(now, index, codec::ECHO, body.as_bytes(), Some(path));
    }

    /// An echo came over the session at `index`.
    pub(super) fn echo(&mut self, now: Now, origin: &Origin, index: u32, body: &[u8]) -> Result<(), DropReason> {
        // Only requests are longer: their length is tried.
        let (head, rest) = Echo::read_from_prefix(body).map_err(|_| DropReason::BadLength)?;
        let nonce = head.nonce.get();
        match head.op {
            echo::REQUEST => self.send_echo(now, index, echo::REPLY, nonce, origin.back()),
            echo::REPLY if !rest.is_empty() => return Err(DropReason::BadLength),
            echo::REPLY => {
                let session = self.session(index).ok_or(DropReason::UnknownIndex)?;
                let id = session.peer;
                if session.path == origin.back() {
                    session.waits_since = None;
                }
                self.mtu_answered(now, origin, id, index, nonce);
                if let (Some(peer), Origin::Routed { slot, hops }) = (self.peers.get_mut(&id), origin) {
                    peer.routes.answered(now.mono_ns, &(*slot, hops.clone()), nonce);
                    self.steer(now, id);
                }
            }
            _ => return Err(DropReason::Malformed),
        }
        Ok(())
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
