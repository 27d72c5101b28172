//! What status commands may see.

use super::{Node, Path};
use crate::core::action::Hops;
use crate::core::peer::{PeerState, PeerView, RouteSource, RouteView};
use crate::core::routes::{RouteState, Why};
use crate::core::session::Session;
use crate::identity::PeerId;

impl Node {
    fn path_of(&self, index: u32) -> Option<&Session> {
        let position = self.indices.position(index)?;
        match self.entries.get(position)? {
            Some(super::Entry::Session(s)) => Some(s),
            _ => None,
        }
    }

    /// Every peer, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.iter().map(|(id, peer)| {
            let session = peer.current.and_then(|i| self.path_of(i));
            let path = session.map(|s| s.path.clone());
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
                slot: self.slots.of(*id).filter(|_| matches!(path, Some(Path::Direct(_)))),
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
            let path = peer.current.and_then(|i| self.path_of(i)).map(|s| &s.path);
            let direct = matches!(path, Some(Path::Direct(_)));
            if let Some(slot) = self.slot_towards(*id).filter(|_| direct) {
                out.push(RouteView {
                    peer: *id,
                    slot,
                    hops: Hops::new(),
                    source: RouteSource::Direct,
                    in_use: true,
                    state: RouteState::Good,
                    since_ns: None,
                    rtt_ns: peer.rtt_ns,
                    loss_permille: 0,
                    why: Some(Why::Direct),
                });
            }
            out.extend(peer.routes.shown().map(|r| RouteView {
                peer: *id,
                slot: r.way.0,
                hops: r.way.1.clone(),
                source: if r.configured { RouteSource::Configured } else { RouteSource::Learned },
                in_use: path.is_some() && !direct && r.in_use.is_some(),
                state: r.state,
                since_ns: Some(r.since_ns),
                rtt_ns: r.rtt_ns,
                loss_permille: r.loss_permille,
                why: r.in_use.filter(|_| path.is_some() && !direct),
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
        self.slots.owner(slot)
    }
}
