//! What status commands may see.

use super::{Node, Path};
use crate::core::action::Hops;
use crate::core::link::{LinkState, Stage};
use crate::core::peer::{LinkView, PeerState, PeerView, RouteSource, RouteView};
use crate::core::session::Session;
use crate::identity::PeerId;

impl Node {
    /// The slot of the link that carries data, of a neighbour.
    pub(super) fn slot_in_use(&self, id: PeerId, session: &Session) -> Option<u16> {
        session.endpoint()?;
        self.slots.of(id, session.links.active()).or_else(|| self.slots.of(id, 0))
    }

    fn links_of(&self, id: PeerId, session: &Session) -> Vec<LinkView> {
        let Some(first) = session.endpoint() else { return Vec::new() };
        let further = session.links.iter().map(|(n, l)| (n, l.endpoint, l.stage));
        let all = std::iter::once((0, *first, Stage::Up)).chain(further);
        let view = |(number, endpoint, stage)| LinkView {
            number,
            slot: self.slots.of(id, number),
            endpoint,
            state: match stage {
                Stage::Opening { .. } | Stage::Accepted => LinkState::Opening,
                Stage::Up | Stage::Closed if session.links.alive(number) => LinkState::Up,
                Stage::Up | Stage::Closed => LinkState::Dead,
            },
            active: number == session.links.active(),
        };
        all.filter(|(.., stage)| *stage != Stage::Closed).map(view).collect()
    }

    /// Every peer, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.iter().map(|(id, peer)| {
            let session = peer.current.and_then(|i| self.session_ref(i));
            let links = session.map(|s| self.links_of(*id, s)).unwrap_or_default();
            let path = session.map(Session::way);
            let state = match (&peer.current, &peer.attempt) {
                (Some(_), _) => PeerState::Connected,
                (None, Some(_)) => PeerState::Connecting,
                (None, None) => PeerState::Disconnected,
            };
            PeerView {
                id: *id,
                address: id.address(),
                state,
                refused: peer.refused,
                slot: session.and_then(|s| self.slot_in_use(*id, s)),
                links,
                path,
                persistent: peer.persistent,
                transit: self.policies.get(id).and_then(|p| p.transit).unwrap_or(self.config.transit),
                sealed: session.map_or_else(|| self.wants_sealed(*id), |s| s.sealed),
                received_ns: peer.received_ns,
                rtt_ns: peer.rtt_ns,
                packets: peer.packets,
                bytes: peer.bytes,
            }
        })
    }

    /// Every route, by peer.
    pub fn routes(&self) -> Vec<RouteView> {
        let mut out = Vec::new();
        for (id, peer) in &self.peers {
            let session = peer.current.and_then(|i| self.session_ref(i));
            let path = session.map(|s| &s.path);
            let mut add = |slot: u16, hops: &Hops, source| {
                let in_use = match path {
                    Some(Path::Direct(_)) => source == RouteSource::Direct,
                    Some(Path::Routed { slot: s, hops: h }) => *s == slot && h == hops,
                    None => false,
                };
                out.push(RouteView { peer: *id, slot, hops: hops.clone(), source, in_use });
            };
            if let Some(slot) = session.and_then(|s| self.slot_in_use(*id, s)) {
                add(slot, &Hops::new(), RouteSource::Direct);
            }
            for (slot, hops) in &peer.routes {
                add(*slot, hops, RouteSource::Configured);
            }
            if let Some((slot, hops)) = peer.learned.as_ref().filter(|l| !peer.routes.contains(l)) {
                add(*slot, hops, RouteSource::Learned);
            }
        }
        out
    }

    /// Sessions in use and receiver indices left.
    #[must_use]
    pub fn sessions(&self) -> (usize, usize) {
        let used = self.entries.iter().flatten().count();
        (used, self.entries.len() - used)
    }

    /// Handshakes that led to a session, renewals of keys included.
    #[must_use]
    pub fn handshakes(&self) -> u64 {
        self.handshakes
    }

    /// The peer a slot belongs to.
    #[must_use]
    pub fn slot_owner(&self, slot: u16) -> Option<PeerId> {
        self.slots.owner(slot).map(|(peer, _)| peer)
    }
}
