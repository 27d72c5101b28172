//! Bounds of what a node keeps, and who may use how much of it.

use super::Node;
use crate::core::action::Origin;
use crate::core::discovery::TRIED;
use crate::core::peer::QUEUE;
use crate::identity::PeerId;
use crate::transport::Endpoint;
use rovy_common::DropReason;

/// How much of something bounded is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Use {
    /// In use now.
    pub used: usize,
    /// What there is.
    pub max: usize,
}

impl Node {
    pub(super) fn stranger(&self, id: PeerId) -> bool {
        !self.policies.contains_key(&id) && self.peers.get(&id).is_none_or(super::Peer::unwanted)
    }

    /// Whether a route of this node's starts with the slot.
    fn named_slot(&self) -> impl Fn(u16) -> bool {
        |slot| self.peers.values().any(|p| p.routes.ways().any(|(first, _)| *first == slot))
    }

    pub(super) fn slot_for(&mut self, now_ns: u64, id: PeerId, link: u8) -> Option<u16> {
        let stranger = self.stranger(id);
        let peers = &self.peers;
        let named = |slot| peers.values().any(|p| p.routes.ways().any(|(first, _)| *first == slot));
        self.slots.take(now_ns, (id, link), stranger, named)
    }

    /// Whether a hello of this peer may be answered. A stranger gets what strangers are left: none of it is taken from
    /// peers that the operator named.
    pub(super) fn admit(&self, now_ns: u64, origin: &Origin, id: PeerId) -> Result<(), DropReason> {
        let stranger = self.stranger(id);
        let handshakes = if stranger { self.config.handshakes / 2 } else { self.config.handshakes };
        let replaces = self.peers.get(&id).is_some_and(|p| p.next.is_some());
        let crowded = self.half_open >= handshakes.max(1) && !replaces;
        // The operator's are bounded by the configuration.
        let known = self.peers.contains_key(&id) || self.policies.contains_key(&id);
        let full = !known && self.peers.len() >= self.config.peers;
        let slotless = matches!(origin, Origin::Direct(Endpoint::Udp { .. } | Endpoint::Ethernet { .. }))
            && !self.slots.has_room(now_ns, id, stranger, self.named_slot());
        if crowded || full || slotless { Err(DropReason::Limit) } else { Ok(()) }
    }

    /// Whether this node may take up another peer of its operator's. Strangers do not count: they make room in time.
    #[must_use]
    pub fn has_room_for(&self, id: PeerId) -> bool {
        !self.stranger(id) || self.peers.keys().filter(|p| !self.stranger(**p)).count() < self.config.peers
    }

    /// Every bound by its name, with what is in use of it.
    #[must_use]
    pub fn limits(&self) -> [(&'static str, Use); 11] {
        let (slots, all_slots) = self.slots.used();
        let (strangers, most_strangers) = self.slots.strangers();
        let waiting = self.peers.values().map(|p| p.queue.len()).max().unwrap_or(0);
        let sessions = self.sessions();
        let (echoes, joining) = (self.echoes.used(), self.joiner.used());
        [
            ("peers", Use { used: self.peers.len(), max: self.config.peers }),
            ("sessions", Use { used: sessions.0, max: sessions.0 + sessions.1 }),
            ("handshakes", Use { used: self.half_open, max: self.config.handshakes }),
            ("slots", Use { used: slots, max: all_slots }),
            ("stranger_slots", Use { used: strangers, max: most_strangers }),
            ("probes", Use { used: self.probes.remembered().0, max: self.probes.remembered().1 }),
            ("lookups", Use { used: self.lookups.used().0, max: self.lookups.used().1 }),
            ("discovered", Use { used: self.discovery.found.strangers(), max: TRIED }),
            ("peer_queue", Use { used: waiting, max: QUEUE }),
            ("echoes", Use { used: echoes.0, max: echoes.1 }),
            ("reassembly", Use { used: joining.0, max: joining.1 }),
        ]
    }
}
