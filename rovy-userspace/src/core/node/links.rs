//! Further links to a neighbour: opened, accepted and closed by authenticated messages under a session.

use rovy_common::DropReason;
use rovy_common::wire::{LinkMessage, codec, link_op};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::{Action, Entry, Node, Origin, Path};
use crate::core::buffer::{HEADROOM, TAILROOM};
use crate::core::link::{LINKS, Link, Stage, same_way};
use crate::core::session::REJECT_NS;
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// How long a responder leaves opening to the initiator, which usually knows the same endpoints.
const COURTESY_NS: u64 = SECOND;
/// How often a link is asked for before another endpoint is tried with its number.
const PATIENCE: u32 = 3;

/// A message about a link, as it came.
#[derive(Clone, Copy)]
struct Said {
    id: PeerId,
    /// The session it came over, by this node's receiver index.
    index: u32,
    link: u8,
    /// The peer's receiver index of the link.
    remote: u32,
    nonce: u64,
    from: Endpoint,
}

impl Node {
    /// Sends a message about a link to an endpoint.
    pub(super) fn send_link(&mut self, now: Now, index: u32, to: Endpoint, op: u8, link: u8, nonce: u64) {
        let Some(session) = self.session(index) else { return };
        let ours = session.links.get(link).map_or(if link == 0 { index } else { 0 }, |l| l.index);
        let receiver_index = U32::new(ours);
        let body = LinkMessage { op, link, reserved: U16::ZERO, receiver_index, nonce: U64::new(nonce) };
        let mut buf = [0; HEADROOM + size_of::<LinkMessage>() + TAILROOM];
        let range = HEADROOM..HEADROOM + size_of::<LinkMessage>();
        buf[range.clone()].copy_from_slice(body.as_bytes());
        if let Ok(message) = session.seal(now.mono_ns, codec::LINK, &mut buf, range) {
            self.actions.push_back(Action::Send(Path::Direct(to), buf[message].to_vec()));
        }
    }

    /// A message about a link came over the session `index`.
    pub(super) fn link_message(
        &mut self,
        now: Now,
        origin: &Origin,
        index: u32,
        body: &[u8],
    ) -> Result<(), DropReason> {
        let Origin::Direct(from) = *origin else { return Err(DropReason::NotAllowed) };
        let message = LinkMessage::read_from_bytes(body).map_err(|_| DropReason::BadLength)?;
        let (link, remote, nonce) = (message.link, message.receiver_index.get(), message.nonce.get());
        let session = self.session(index).ok_or(DropReason::UnknownIndex)?;
        // A link's life says nothing about a peer that is reached over others.
        if link >= LINKS || session.endpoint().is_none() {
            return Err(DropReason::NotAllowed);
        }
        let id = session.peer;
        let said = Said { id, index, link, remote, nonce, from };
        match message.op {
            link_op::OPEN if link > 0 => self.opened(now, said),
            link_op::ACCEPT if link > 0 => self.accepted(now, said),
            link_op::PROBE => self.probed(now, said),
            link_op::ANSWER => self.answered(now, said),
            link_op::DOWN => self.down(now, id, index, link),
            link_op::CLOSE if link > 0 => self.closed(now, id, index, link),
            _ => return Err(DropReason::NotAllowed),
        }
        if self.peers.get(&id).is_some_and(|p| p.current == Some(index)) {
            self.links_due(now, id);
        }
        Ok(())
    }

    /// The peer wants a link over the way its message came.
    fn opened(&mut self, now: Now, said: Said) {
        let Said { id, index, link: n, remote, nonce, from } = said;
        let known = self.session(index).and_then(|s| Some((s.links.get(n)?.stage, s.links.get(n)?.remote)));
        match known {
            // The answer was lost.
            Some((Stage::Accepted | Stage::Up, r)) if r == remote => {
                self.move_link(now, index, n, from);
                return self.send_link(now, index, from, link_op::ACCEPT, n, nonce);
            }
            Some((Stage::Accepted, _)) => self.drop_link(index, n, None),
            Some((Stage::Up | Stage::Closed, _)) => {
                return self.send_link(now, index, from, link_op::CLOSE, n, nonce);
            }
            Some((Stage::Opening { .. }, _)) | None => {}
        }
        // It overtook what confirms the session, or came by the way of link 0, which the peer knows to be elsewhere: each end took
        // another copy of the handshake. The peer's next message moves link 0, and its next try finds the way free.
        let current = self.peers.get(&id).is_some_and(|p| p.current == Some(index));
        if !current || self.session(index).is_some_and(|s| s.endpoint() == Some(&from)) {
            return;
        }
        if !self.yields(index, n, &from) {
            return;
        }
        let Some(ours) = self.room_for_link(now, id, index, n, &from) else {
            return self.send_link(now, index, from, link_op::CLOSE, n, nonce);
        };
        let Some(session) = self.session(index) else { return };
        session.links.set(n, Some(Link::new(now.mono_ns, Stage::Accepted, from, ours, remote)));
        self.publish_receive(now.mono_ns, index, n);
        self.send_link(now, index, from, link_op::ACCEPT, n, nonce);
    }

    /// Gives up what stands in the way of a link that the peer opens. Whether nothing is left in its way.
    fn yields(&mut self, index: u32, n: u8, from: &Endpoint) -> bool {
        // The peer never had the answer when it uses the number for another way now, or another number for this way.
        let stale = self.session(index).and_then(|s| {
            let m = s.link_at(from)?;
            s.links.get(m).filter(|l| l.stage == Stage::Accepted).map(|_| m)
        });
        if let Some(m) = stale {
            self.drop_link(index, m, None);
        }
        // Both ends may open at once, by one number or over one way: the link of the session's initiator counts.
        let ours = self.opening_like(index, n, from);
        if !ours.is_empty() && self.session(index).is_some_and(|s| s.initiator) {
            return false;
        }
        ours.into_iter().for_each(|m| self.drop_link(index, m, None));
        true
    }

    /// Links this node is opening by the same number or over the same way.
    fn opening_like(&mut self, index: u32, n: u8, from: &Endpoint) -> Vec<u8> {
        let Some(session) = self.session(index) else { return Vec::new() };
        let opening = session.links.iter().filter(|(_, l)| matches!(l.stage, Stage::Opening { .. }));
        opening.filter(|(m, l)| *m == n || same_way(&l.endpoint, from)).map(|(m, _)| m).collect()
    }

    /// A receiver index for a link that the peer wants, when it may have it: the operator named the peer, the way is no
    /// link yet, and there is a slot.
    fn room_for_link(&mut self, now: Now, id: PeerId, index: u32, n: u8, from: &Endpoint) -> Option<u32> {
        let known = self.session(index)?.link_at(from).is_some();
        if known || self.stranger(id) {
            return None;
        }
        self.slot_for(now.mono_ns, id, n)?;
        let ours = self.indices.take(&mut self.rng)?;
        self.set_entry(ours, Some(Entry::Link { session: index, number: n }));
        Some(ours)
    }

    /// The peer agreed to a link: both directions work.
    fn accepted(&mut self, now: Now, said: Said) {
        let Said { id, index, link: n, remote, nonce, from } = said;
        let Some(session) = self.session(index) else { return };
        let twice = session.link_at(&from).is_some();
        let Some(link) = session.links.get_mut(n) else { return };
        if !matches!(link.stage, Stage::Opening { nonce: asked, .. } if asked == nonce) {
            return;
        }
        if twice || self.slot_for(now.mono_ns, id, n).is_none() {
            self.drop_link(index, n, Some(Stage::Closed));
            return self.send_link(now, index, from, link_op::CLOSE, n, nonce);
        }
        let Some(link) = self.session(index).and_then(|s| s.links.get_mut(n)) else { return };
        *link = Link::new(now.mono_ns, Stage::Up, from, link.index, remote);
        tracing::debug!(peer = %id, link = n, ?from, "a further link is open");
        self.publish_receive(now.mono_ns, index, n);
        self.publish_transmit(now, id);
        // The peer sends over the link when it knows that this node has the answer: the probe tells it.
        let probe = self.rng.u64();
        if let Some(health) = self.session(index).and_then(|s| s.links.health_mut(n)) {
            health.begin(now.mono_ns, probe);
        }
    }

    /// The peer asks whether a link is alive.
    fn probed(&mut self, now: Now, said: Said) {
        let Said { id, index, link: n, nonce, from, .. } = said;
        let Some(session) = self.session(index) else { return };
        if n > 0 && session.links.get(n).is_none_or(|l| !l.open()) {
            return self.send_link(now, index, from, link_op::CLOSE, n, nonce);
        }
        if let Some(link) = session.links.get_mut(n).filter(|l| l.stage == Stage::Accepted) {
            link.stage = Stage::Up;
            tracing::debug!(peer = %id, link = n, ?from, "a further link is open");
            self.publish_transmit(now, id);
        }
        self.move_link(now, index, n, from);
        self.send_link(now, index, from, link_op::ANSWER, n, nonce);
        let health = self.session(index).and_then(|s| s.links.health_mut(n));
        if let Some(health) = health.filter(|h| !h.alive()) {
            health.heard(now.mono_ns);
        }
    }

    fn answered(&mut self, now: Now, said: Said) {
        let Said { index, link: n, nonce, from, .. } = said;
        self.move_link(now, index, n, from);
        if let Some(health) = self.session(index).and_then(|s| s.links.health_mut(n)) {
            health.answered(now.mono_ns, nonce);
        }
    }

    /// The peer found a link dead: what is sent there is lost, and no time with it.
    fn down(&mut self, now: Now, id: PeerId, index: u32, n: u8) {
        if self.session(index).is_some_and(|s| s.links.bury(now.mono_ns, n)) {
            tracing::info!(peer = %id, link = n, "the neighbour found a link dead");
        }
    }

    /// The peer has no such link, or does not want it. It is asked again under the next session.
    fn closed(&mut self, now: Now, id: PeerId, index: u32, n: u8) {
        self.drop_link(index, n, Some(Stage::Closed));
        self.publish_transmit(now, id);
    }

    /// Ends a further link. Without `stage` its number is free: only for one whose keys were never used.
    fn drop_link(&mut self, index: u32, n: u8, stage: Option<Stage>) {
        let Some(session) = self.session(index) else { return };
        let Some(link) = session.links.get_mut(n) else { return };
        let ours = std::mem::take(&mut link.index);
        match stage {
            Some(stage) => link.stage = stage,
            None => session.links.set(n, None),
        }
        session.links.leave(n);
        self.release(ours);
    }

    /// A link is at another endpoint from now on, unless that is another link's.
    pub(super) fn move_link(&mut self, now: Now, index: u32, n: u8, endpoint: Endpoint) {
        let Some(session) = self.session(index) else { return };
        let id = session.peer;
        if session.link_at(&endpoint).is_some() || !session.may_move(now.mono_ns, n) {
            return;
        }
        match session.links.get_mut(n) {
            Some(link) if link.open() => link.endpoint = endpoint,
            None if n == 0 => session.path = Path::Direct(endpoint),
            _ => return,
        }
        self.publish_receive(now.mono_ns, index, n);
        if self.peers.get(&id).is_some_and(|p| p.current == Some(index)) {
            self.publish_transmit(now, id);
        }
    }

    /// Opens links over the endpoints that were given for a peer and are none yet.
    pub(super) fn open_links(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id).filter(|_| !self.stranger(id)) else { return };
        let (Some(index), mut targets, previous) = (peer.current, peer.dial.clone(), peer.previous) else { return };
        targets.extend(&peer.nearby);
        let Some(session) = self.session_ref(index) else { return };
        if !session.confirmed || session.endpoint().is_none() || session.age(now.mono_ns) >= REJECT_NS {
            return;
        }
        if !session.initiator && session.age(now.mono_ns) < COURTESY_NS {
            let at = session.created_ns + COURTESY_NS;
            return self.wake(at);
        }
        let turn = session.links.turn;
        for at in (turn..turn + targets.len()).map(|i| i % targets.len()) {
            let Some(target) = targets.get(at) else { return };
            let Some(session) = self.session_ref(index) else { return };
            let known = session.endpoint().into_iter().chain(session.links.iter().map(|(_, l)| &l.endpoint));
            if known.into_iter().any(|e| same_way(target, e)) {
                continue;
            }
            let Some(n) = self.number_for(now.mono_ns, index, previous, target) else { break };
            let Some(ours) = self.indices.take(&mut self.rng) else { break };
            self.set_entry(ours, Some(Entry::Link { session: index, number: n }));
            let stage = Stage::Opening { nonce: self.rng.u64(), tries: 0, at_ns: now.mono_ns };
            if let Some(session) = self.session(index) {
                session.links.set(n, Some(Link::new(now.mono_ns, stage, *target, ours, 0)));
                session.links.turn = at + 1;
            }
        }
        self.ask(now, index);
    }

    /// A number for a link to open: the one that this way had in the session before, else a free one, else that of a link
    /// that was long in vain. Initiators count up and responders down, so that they seldom choose the same.
    fn number_for(&mut self, now_ns: u64, index: u32, previous: Option<u32>, target: &Endpoint) -> Option<u8> {
        let before = previous.and_then(|i| self.session_ref(i));
        let had = before.and_then(|s| s.links.iter().find(|(_, l)| same_way(target, &l.endpoint)).map(|(n, _)| n));
        let session = self.session(index)?;
        let up = (1..LINKS).map(|n| if session.initiator { n } else { LINKS - n });
        let free = had.into_iter().chain(up).find(|n| session.links.get(*n).is_none());
        if free.is_some() {
            return free;
        }
        let most = PATIENCE + session.links.replaced / u32::from(LINKS);
        let vain =
            |l: &Link| matches!(l.stage, Stage::Opening { tries, at_ns, .. } if tries >= most && at_ns <= now_ns);
        let n = session.links.iter().find(|(_, l)| vain(l)).map(|(n, _)| n)?;
        session.links.replaced += 1;
        self.drop_link(index, n, None);
        Some(n)
    }

    /// Sends what asks for links, where it is due.
    fn ask(&mut self, now: Now, index: u32) {
        let Some(session) = self.session(index) else { return };
        let asked = session.links.iter_mut().filter_map(|(n, l)| Some((n, l.ask(now.mono_ns)?, l.endpoint)));
        let asked: Vec<_> = asked.collect();
        let opening = session.links.iter().filter_map(|(_, l)| match l.stage {
            Stage::Opening { at_ns, .. } => Some(at_ns),
            _ => None,
        });
        let next = opening.min().unwrap_or(u64::MAX);
        self.wake(next);
        for (n, nonce, to) in asked {
            self.send_link(now, index, to, link_op::OPEN, n, nonce);
        }
    }
}
