//! Slots: this node's small numbers for its links. Sticky per peer; 0 is never given out.

use std::collections::BTreeMap;

use rovy_common::label::Width;

use crate::identity::PeerId;

/// Who holds which slot.
pub(super) struct Slots {
    width: Width,
    by_peer: BTreeMap<PeerId, u16>,
    by_slot: BTreeMap<u16, PeerId>,
}

impl Slots {
    pub(super) fn new(width: Width) -> Self {
        Self { width, by_peer: BTreeMap::new(), by_slot: BTreeMap::new() }
    }

    /// The slot of a peer, a new one when it has none; `None` when all are taken.
    pub(super) fn take(&mut self, peer: PeerId) -> Option<u16> {
        if let Some(slot) = self.by_peer.get(&peer) {
            return Some(*slot);
        }
        let last = (self.width.slots() - 1) as u16;
        let slot = (1..=last).find(|s| !self.by_slot.contains_key(s))?;
        self.put(slot, peer);
        Some(slot)
    }

    /// Gives `slot` to `peer` as it was before a restart.
    pub(super) fn put(&mut self, slot: u16, peer: PeerId) {
        self.by_peer.insert(peer, slot);
        self.by_slot.insert(slot, peer);
    }

    /// The slot a peer holds.
    pub(super) fn of(&self, peer: PeerId) -> Option<u16> {
        self.by_peer.get(&peer).copied()
    }

    /// The holder of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<PeerId> {
        self.by_slot.get(&slot).copied()
    }
}
