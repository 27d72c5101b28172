//! Slots: this node's small numbers for its links. Sticky per peer; 0 is never given out.

use std::collections::BTreeMap;

use rovy_common::label::Width;

use super::time::SECOND;
use crate::identity::PeerId;

/// How long a slot stays with a peer that is gone: until the routes that could name it have ended.
const REST_NS: u64 = 600 * SECOND;

struct Holder {
    peer: PeerId,
    /// When the peer went; `None` while it is here.
    left_ns: Option<u64>,
}

/// Who holds which slot.
pub(super) struct Slots {
    width: Width,
    by_peer: BTreeMap<PeerId, u16>,
    by_slot: BTreeMap<u16, Holder>,
}

impl Slots {
    pub(super) fn new(width: Width) -> Self {
        Self { width, by_peer: BTreeMap::new(), by_slot: BTreeMap::new() }
    }

    /// The slot of a peer that is here: the one it had, else one never used, else the one that rested longest. `None` when
    /// all are taken.
    pub(super) fn take(&mut self, now_ns: u64, peer: PeerId) -> Option<u16> {
        if let Some(slot) = self.by_peer.get(&peer) {
            if let Some(holder) = self.by_slot.get_mut(slot) {
                holder.left_ns = None;
            }
            return Some(*slot);
        }
        let last = (self.width.slots() - 1) as u16;
        let unused = (1..=last).find(|s| !self.by_slot.contains_key(s));
        let slot = unused.or_else(|| self.rested(now_ns))?;
        self.put(slot, peer);
        Some(slot)
    }

    fn rested(&self, now_ns: u64) -> Option<u16> {
        let left = self.by_slot.iter().filter_map(|(slot, h)| Some((h.left_ns?, *slot)));
        let (left_ns, slot) = left.min()?;
        (now_ns.saturating_sub(left_ns) >= REST_NS).then_some(slot)
    }

    /// Gives `slot` to `peer`; also as it was before a restart.
    pub(super) fn put(&mut self, slot: u16, peer: PeerId) {
        if let Some(before) = self.by_slot.insert(slot, Holder { peer, left_ns: None }) {
            self.by_peer.remove(&before.peer);
        }
        self.by_peer.insert(peer, slot);
    }

    /// The peer is gone. It gets the same slot when it comes back in time.
    pub(super) fn leave(&mut self, now_ns: u64, peer: PeerId) {
        let slot = self.by_peer.get(&peer);
        if let Some(holder) = slot.and_then(|s| self.by_slot.get_mut(s)) {
            holder.left_ns = Some(now_ns);
        }
    }

    /// The slot a peer holds.
    pub(super) fn of(&self, peer: PeerId) -> Option<u16> {
        self.by_peer.get(&peer).copied()
    }

    /// The holder of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<PeerId> {
        self.by_slot.get(&slot).map(|h| h.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    fn peers(n: u8) -> Vec<PeerId> {
        let mut count = 0_u64;
        let mut random = |out: &mut [u8]| {
            for b in out {
                count = count.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *b = (count >> 33) as u8;
            }
        };
        (0..n).map(|_| SecretKey::generate(&mut random).peer_id()).collect()
    }

    #[test]
    fn slots_are_sticky_and_rest_before_another_gets_them() {
        let mut slots = Slots::new(Width::One);
        let all = peers(4);
        for slot in 1..=252 {
            slots.put(slot, PeerId::new(*all[0].public_key()).expect("valid"));
        }
        slots.by_peer.clear();
        assert_eq!(slots.take(0, all[1]), Some(253));
        assert_eq!(slots.take(0, all[2]), Some(254));
        assert_eq!(slots.take(0, all[3]), Some(255));
        assert_eq!(slots.take(0, all[0]), None, "all are taken, and 0 is none");
        slots.leave(5, all[2]);
        assert_eq!(slots.take(REST_NS, all[0]), None, "a route may still name it");
        assert_eq!(slots.take(REST_NS, all[2]), Some(254), "it came back");
        slots.leave(5, all[2]);
        assert_eq!(slots.take(5 + REST_NS, all[0]), Some(254));
        assert_eq!((slots.of(all[2]), slots.owner(254)), (None, Some(all[0])));
    }
}
