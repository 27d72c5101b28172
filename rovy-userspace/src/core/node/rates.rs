//! How much transit of each neighbour is sent on.

use std::collections::BTreeMap;

use rovy_common::maps::TransitRate;

use super::Node;
use crate::core::time::Now;
use crate::identity::PeerId;
use crate::rate::RateLimit;

/// The limits of the operator. They outlive sessions, and name nobody: who is limited may be a stranger.
#[derive(Default)]
pub(super) struct Rates {
    all: Option<RateLimit>,
    single: BTreeMap<PeerId, Option<RateLimit>>,
}

impl Node {
    /// The limit of every neighbour that has none of its own. Holds for links that are made from now on.
    pub fn limit_everybody(&mut self, limit: Option<RateLimit>) {
        self.rates.all = limit;
    }

    /// A limit of one peer's own, `None` for none at all, on links there are too. Whether there was room to remember it.
    pub fn limit_peer(&mut self, now: Now, id: PeerId, limit: Option<RateLimit>) -> bool {
        let known = self.policies.contains_key(&id) || self.rates.single.contains_key(&id);
        if !known && self.rates.single.len() >= self.policies.len() + self.config.peers {
            return false;
        }
        self.rates.single.insert(id, limit);
        let sessions: Vec<_> = self.peers.get(&id).into_iter().flat_map(|p| p.sessions()).collect();
        for index in sessions {
            let Some(session) = self.session_ref(index) else { continue };
            let further: Vec<_> = session.links.iter().filter(|(_, l)| l.open()).map(|(n, _)| n).collect();
            for link in std::iter::once(0).chain(further) {
                self.publish_receive(now.mono_ns, index, link);
            }
        }
        true
    }

    /// The limit that holds for a peer.
    #[must_use]
    pub fn limit_of(&self, id: PeerId) -> Option<RateLimit> {
        self.rates.single.get(&id).copied().unwrap_or(self.rates.all)
    }

    /// What the tables are told about a slot of a peer's: one bucket pays for all of them.
    #[must_use]
    pub fn rate_of(&self, id: PeerId, slot: u16) -> TransitRate {
        let bucket = self.slots.of(id, 0).unwrap_or(slot);
        self.limit_of(id).map_or_else(TransitRate::default, |limit| limit.table(bucket))
    }

    /// Whether a neighbour may send transit through this node.
    #[must_use]
    pub fn may_transit(&self, id: PeerId) -> bool {
        self.policies.get(&id).and_then(|p| p.transit).unwrap_or(self.config.transit)
    }
}
