//! What status commands may see.

use super::Node;
use crate::core::action::{Hops, Path};
use crate::core::link::{LinkState, Stage};
use crate::core::peer::{LinkView, PeerSource, PeerState, PeerView, RouteSource, RouteView};
use crate::core::routes::{RouteState, Why};
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
                source: if self.policies.contains_key(id) { PeerSource::Configured } else { peer.source },
                behind_nat: peer.behind_nat,
                transit: self.may_transit(*id),
                limit: self.limit_of(*id),
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
            let routed = session.is_some_and(|s| matches!(s.way(), Path::Routed { .. }));
            let links = peer.routes.shown().find(|r| r.direct);
            if let Some(slot) = session.and_then(|s| self.slot_in_use(*id, s)) {
                out.push(RouteView {
                    peer: *id,
                    slot,
                    hops: Hops::new(),
                    source: RouteSource::Direct,
                    in_use: session.is_some_and(|s| s.detour.is_none()),
                    state: links.as_ref().map_or(RouteState::Good, |l| l.state),
                    since_ns: links.as_ref().map(|l| l.since_ns),
                    rtt_ns: links.as_ref().and_then(|l| l.rtt_ns).or(peer.rtt_ns),
                    loss_permille: links.as_ref().map_or(0, |l| l.loss_permille),
                    why: links.map_or(Some(Why::Direct), |l| l.in_use),
                });
            }
            out.extend(peer.routes.shown().filter(|r| !r.direct).map(|r| RouteView {
                peer: *id,
                slot: r.way.0,
                hops: r.way.1.clone(),
                source: if r.configured { RouteSource::Configured } else { RouteSource::Learned },
                in_use: routed && r.in_use.is_some(),
                state: r.state,
                since_ns: Some(r.since_ns),
                rtt_ns: r.rtt_ns,
                loss_permille: r.loss_permille,
                why: r.in_use.filter(|_| routed),
            }));
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
