//! Which links of a neighbour are alive, and which of them carries data.

use rovy_common::wire::link_op;

use super::{Entry, Node};
use crate::core::link::LINKS;
use crate::core::session::Session;
use crate::core::time::Now;
use crate::identity::PeerId;
use crate::transport::Endpoint;

impl Node {
    /// Opens, probes, buries and chooses links of a peer, as far as it is time.
    pub(super) fn links_due(&mut self, now: Now, id: PeerId) {
        self.open_links(now, id);
        let Some(peer) = self.peers.get(&id) else { return };
        let further = peer.told.iter().skip(1).any(Option::is_some);
        let Some(index) = peer.current else { return };
        let nonce = self.rng.u64();
        let Some(session) = self.session(index).filter(|s| s.endpoint().is_some()) else { return };
        if session.links.several() {
            let (probes, died) = session.links.pass(now.mono_ns, nonce);
            let path = session.endpoint().copied();
            let before = session.links.active();
            session.links.choose(now.mono_ns, path.as_ref());
            let (active, next) = (session.links.active(), session.links.next(now.mono_ns, path.as_ref()));
            if active != before {
                tracing::info!(peer = %id, link = active, at = ?session.end_of(active), "data goes over another link now");
            }
            self.tell_dead(now, index, &died);
            let Some(session) = self.session(index) else { return };
            let probes = probes.into_iter().filter_map(|(n, nonce)| Some((n, nonce, session.end_of(n)?)));
            for (n, nonce, to) in probes.collect::<Vec<_>>() {
                self.send_link(now, index, to, link_op::PROBE, n, nonce);
            }
            self.wake(next);
        } else if !further {
            return;
        }
        self.publish_transmit(now, id);
    }

    /// Tells a peer over a living link which ones are dead, so that it need not find out by itself.
    fn tell_dead(&mut self, now: Now, index: u32, died: &[u8]) {
        for n in died {
            let Some(session) = self.session(index) else { return };
            tracing::info!(peer = %session.peer, link = n, "a link is dead");
            if let Some(to) = session.end_of(session.links.active()) {
                self.send_link(now, index, to, link_op::DOWN, *n, 0);
            }
        }
    }

    /// Asks every link of a peer whether it lives, which tells the peer where this node is on each.
    pub(super) fn probe_links(&mut self, now: Now, id: PeerId) {
        let nonce = self.rng.u64();
        let Some(index) = self.peers.get(&id).and_then(|p| p.current) else { return };
        if let Some(session) = self.session(index).filter(|s| s.links.several()) {
            session.links.probe_all(now.mono_ns, nonce);
            self.links_due(now, id);
        }
    }

    /// The session and link that a receiver index belongs to.
    pub(super) fn link_of(&self, index: u32) -> Option<(u32, u8)> {
        match self.entries.get(self.indices.position(index)?)? {
            Some(Entry::Session(_)) => Some((index, 0)),
            Some(Entry::Link { session, number }) => Some((*session, *number)),
            _ => None,
        }
    }

    /// Slots whose traffic [`Node::traffic`] wants to hear of: those of neighbours with several links.
    #[must_use]
    pub fn watched(&self) -> Vec<u16> {
        let several = |i: u32| self.session_ref(i).is_some_and(|s| s.links.several());
        let peers = self.peers.values().filter(|p| p.current.is_some_and(several));
        peers.flat_map(|p| p.told.iter().flatten().map(|told| told.slot)).collect()
    }

    /// What passed by a slot since this was last told, in kernel and agent: whether transit was sent over it, and whether
    /// any came in by its link.
    pub fn traffic(&mut self, now: Now, slot: u16, sent: bool, received: bool) {
        let Some((id, link)) = self.slots.owner(slot) else { return };
        let Some(peer) = self.peers.get(&id) else { return };
        let told = peer.told.get(usize::from(link)).copied().flatten();
        let (Some(index), Some(told)) = (peer.current, told) else { return };
        let Some(session) = self.session(index) else { return };
        if received && let Some(health) = session.links.health_mut(link) {
            health.heard(now.mono_ns);
        }
        // A slot of a dead link sends over another one.
        let by = (0..LINKS).find(|n| session.key_number(*n) == told.key);
        if sent
            && !(received && by == Some(link))
            && let Some(health) = by.and_then(|n| session.links.health_mut(n))
        {
            health.sent(now.mono_ns);
        }
        self.links_due(now, id);
    }

    /// Endpoints of the links of all neighbours.
    #[must_use]
    pub fn link_endpoints(&self) -> Vec<Endpoint> {
        let sessions = self.peers.values().filter_map(|p| self.session_ref(p.current?));
        sessions.flat_map(|s| (0..LINKS).filter_map(|n| s.end_of(n))).collect()
    }

    /// Nothing can be sent to these endpoints: their links are dead at once where there are others, else the routes over them.
    pub fn lost(&mut self, now: Now, gone: impl Fn(&Endpoint) -> bool) {
        let current: Vec<_> = self.peers.iter().filter_map(|(id, p)| Some((*id, p.current?, p.previous))).collect();
        for (id, index, previous) in current {
            if let Some(before) = previous.and_then(|i| self.session(i)) {
                bury(now, before, &gone);
            }
            let Some(session) = self.session(index) else { continue };
            let died = bury(now, session, &gone);
            if !died.is_empty() {
                let path = session.endpoint().copied();
                session.links.choose(now.mono_ns, path.as_ref());
                self.tell_dead(now, index, &died);
                self.links_due(now, id);
            }
            self.strand(now, id, &gone);
        }
    }

    /// When data for a neighbour ends at a lost endpoint, no other link carries what its slots name: routes over them are dead.
    fn strand(&mut self, now: Now, id: PeerId, gone: impl Fn(&Endpoint) -> bool) {
        let Some(peer) = self.peers.get(&id) else { return };
        let session = peer.current.and_then(|i| self.session_ref(i));
        let end = session.and_then(|s| s.end_of(s.links.active()));
        if end.is_some_and(|at| gone(&at)) {
            let slots: Vec<u16> = peer.told.iter().flatten().map(|told| told.slot).collect();
            slots.into_iter().for_each(|slot| self.route_error(now, slot, None));
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.routes.links_lost(now.mono_ns);
                self.steer(now, id);
            }
        }
    }
}

/// Takes the links that end at lost endpoints for dead, as long as one is left.
fn bury(now: Now, session: &mut Session, gone: impl Fn(&Endpoint) -> bool) -> Vec<u8> {
    let lost: Vec<_> = (0..LINKS).filter(|n| session.end_of(*n).is_some_and(|e| gone(&e))).collect();
    lost.into_iter().filter(|n| session.links.bury(now.mono_ns, *n)).collect()
}
