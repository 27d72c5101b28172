//! What the tables are told about the links of a neighbour.

use super::{Action, LinkRx, LinkTx, Node};
use crate::core::link::{LINKS, Stage};
use crate::core::peer::Told;
use crate::core::session::Session;
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;

/// How long the further links of a session that was renewed still carry packets while the new session opens its own.
pub(super) const GRACE_NS: u64 = 5 * SECOND;

/// The sending side of a link of a session, for whichever slot.
fn side(session: &Session, link: u8) -> Option<Told> {
    let endpoint = session.end_of(link)?;
    let remote = session.links.get(link).map_or(session.remote, |l| l.remote);
    Some(Told { slot: 0, key: session.key_number(link), remote, endpoint })
}

impl Node {
    /// Tells the tables about the receiving side of a link of the session `index`.
    pub(super) fn publish_receive(&mut self, now_ns: u64, index: u32, link: u8) {
        let Some(session) = self.session(index) else { return };
        let (index, endpoint) = match (session.links.get(link), session.endpoint()) {
            (Some(link), Some(_)) => (link.index, link.endpoint),
            (None, Some(endpoint)) => (index, *endpoint),
            (_, None) => return,
        };
        let Some((_, keys)) = session.hop_keys(link) else { return };
        let (peer, sealed, expires_ns) = (session.peer, session.sealed, session.expires_ns());
        // A stranger gets a slot when its first session is confirmed: before that its address may be forged.
        let confirmed = session.confirmed || self.slots.of(peer, 0).is_some() || !self.stranger(peer);
        let slot = Some(peer).filter(|_| confirmed).and_then(|p| self.slot_for(now_ns, p, link));
        let Some(slot) = slot else { return };
        let (transit, rate) = (self.may_transit(peer), self.rate_of(peer, slot));
        self.actions.push_back(Action::Receive(LinkRx {
            index,
            slot,
            transit,
            rate,
            sealed,
            peer,
            keys,
            expires_ns,
            endpoint,
        }));
    }

    /// Tells the tables what the slots of a neighbour send by, where that has changed.
    pub(super) fn publish_transmit(&mut self, now: Now, id: PeerId) {
        let mut sides: Vec<_> = (0..LINKS).map(|link| (link, self.sending_side(now.mono_ns, id, link))).collect();
        // A key is published for its own slot first: its counter is one of that slot's.
        sides
            .sort_by_key(|(link, tx)| tx.as_ref().is_some_and(|(tx, _)| tx.key % u64::from(LINKS) != u64::from(*link)));
        for (link, tx) in sides {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            let Some(told) = peer.told.get_mut(usize::from(link)) else { return };
            let side = tx.as_ref().map(|(_, told)| *told);
            let before = std::mem::replace(told, side);
            match (tx, before) {
                _ if before == side => {}
                (Some((tx, _)), _) => self.actions.push_back(Action::Transmit(tx)),
                (None, Some(told)) => self.gone(now, vec![told.slot]),
                (None, None) => {}
            }
        }
    }

    /// Nothing leads to a peer any more.
    pub(super) fn silence(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let slots = peer.told.iter_mut().filter_map(Option::take).map(|told| told.slot).collect();
        self.gone(now, slots);
    }

    /// Nothing is sent over these slots any more: the tables forget them, and routes that begin with one are dead.
    pub(super) fn gone(&mut self, now: Now, slots: Vec<u16>) {
        for slot in slots {
            self.actions.push_back(Action::Silence(slot));
            self.route_error(now, slot, None);
        }
    }

    /// What the slot of a link sends by. While the link is dead or not open, that is another link of the neighbour: a label
    /// that names the slot still leads there.
    fn sending_side(&mut self, now_ns: u64, id: PeerId, link: u8) -> Option<(LinkTx, Told)> {
        let peer = self.peers.get(&id)?;
        let (current, previous) = (peer.current?, peer.previous);
        self.session_ref(current)?.endpoint()?;
        let slot = if link == 0 { self.slot_for(now_ns, id, 0)? } else { self.slots.of(id, link)? };
        let session = self.session_ref(current)?;
        let active = session.links.active();
        let own = session.links.alive(link) || link == active;
        let opened = session.links.get(link).is_some_and(|l| l.stage == Stage::Up);
        let fresh = session.age(now_ns) < GRACE_NS;
        let before = previous.and_then(|i| self.session_ref(i)).filter(|s| s.endpoint().is_some());
        let (session, by) = match before.filter(|s| s.links.alive(link)) {
            _ if own => (session, link),
            Some(before) if link != 0 && fresh && !opened => (before, link),
            _ => (session, active),
        };
        let told = Told { slot, ..side(session, by)? };
        let (keys, _) = session.hop_keys(by)?;
        let (expires_ns, sealed, peer) = (session.expires_ns(), session.sealed, id);
        let Told { key, remote: index, endpoint, .. } = told;
        Some((LinkTx { slot, link, sealed, index, peer, keys, key, expires_ns, endpoint }, told))
    }
}
