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
    /// Nobody here wanted it.
    stranger: bool,
}

/// Who holds which slot.
pub(super) struct Slots {
    width: Width,
    by_peer: BTreeMap<PeerId, u16>,
    by_slot: BTreeMap<u16, Holder>,
    strangers: usize,
}

impl Slots {
    pub(super) fn new(width: Width) -> Self {
        Self { width, by_peer: BTreeMap::new(), by_slot: BTreeMap::new(), strangers: 0 }
    }

    /// Slots that are held or rest, and how many there are.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.by_slot.len(), self.width.slots() as usize - 1)
    }

    /// Slots of strangers, and how many they may have: half.
    pub(super) fn strangers(&self) -> (usize, usize) {
        (self.strangers, (self.width.slots() as usize - 1) / 2)
    }

    /// The slot of a peer that is here: the one it had, else one never used, else the one that rested longest and that no
    /// route in `named` starts with. `None` when all are taken, or the stranger's half.
    pub(super) fn take(
        &mut self,
        now_ns: u64,
        peer: PeerId,
        stranger: bool,
        named: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        if let Some(slot) = self.by_peer.get(&peer) {
            if let Some(holder) = self.by_slot.get_mut(slot) {
                holder.left_ns = None;
                self.strangers = self.strangers + usize::from(stranger) - usize::from(holder.stranger);
                holder.stranger = stranger;
            }
            return Some(*slot);
        }
        let slot = self.free(now_ns, stranger, named)?;
        self.give(slot, peer, stranger);
        Some(slot)
    }

    /// Whether [`Slots::take`] would find one.
    pub(super) fn has_room(&self, now_ns: u64, peer: PeerId, stranger: bool, named: impl Fn(u16) -> bool) -> bool {
        self.by_peer.contains_key(&peer) || self.free(now_ns, stranger, named).is_some()
    }

    fn free(&self, now_ns: u64, stranger: bool, named: impl Fn(u16) -> bool) -> Option<u16> {
        let (strangers, most) = self.strangers();
        let last = (self.width.slots() - 1) as u16;
        if stranger && strangers >= most {
            // One stranger's slot may follow another's.
            return self.rested(now_ns, named, |h| h.stranger);
        }
        let unused = (1..=last).find(|s| !self.by_slot.contains_key(s));
        unused.or_else(|| self.rested(now_ns, named, |_| true))
    }

    fn rested(&self, now_ns: u64, named: impl Fn(u16) -> bool, fits: impl Fn(&Holder) -> bool) -> Option<u16> {
        let left = self.by_slot.iter().filter(|(slot, h)| fits(h) && !named(**slot));
        let left = left.filter_map(|(slot, h)| Some((h.left_ns?, *slot)));
        let (left_ns, slot) = left.min()?;
        (now_ns.saturating_sub(left_ns) >= REST_NS).then_some(slot)
    }

    /// Gives `slot` to `peer` as it was before a restart. Whether anybody wants the peer shows when it is back; until then the
    /// slot rests.
    pub(super) fn put(&mut self, now_ns: u64, slot: u16, peer: PeerId) {
        if slot != 0 && u32::from(slot) < self.width.slots() {
            self.give(slot, peer, true);
            self.leave(now_ns, peer);
        }
    }

    fn give(&mut self, slot: u16, peer: PeerId, stranger: bool) {
        if let Some(before) = self.by_slot.insert(slot, Holder { peer, left_ns: None, stranger }) {
            self.strangers -= usize::from(before.stranger);
            self.by_peer.remove(&before.peer);
        }
        self.strangers += usize::from(stranger);
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
    use crate::core::tests::peer_ids;

    fn nowhere(_: u16) -> bool {
        false
    }

    #[test]
    fn slots_are_sticky_and_rest_before_another_gets_them() {
        let mut slots = Slots::new(Width::One);
        let all = peer_ids(256);
        for peer in &all[3..255] {
            assert!(slots.take(0, *peer, false, nowhere).is_some());
        }
        assert_eq!(slots.take(0, all[1], false, nowhere), Some(253));
        assert_eq!(slots.take(0, all[2], false, nowhere), Some(254));
        assert_eq!(slots.take(0, all[255], false, nowhere), Some(255));
        assert_eq!(slots.take(0, all[0], false, nowhere), None, "all are taken, and 0 is none");
        slots.leave(5, all[2]);
        assert_eq!(slots.take(REST_NS, all[0], false, nowhere), None, "a route may still name it");
        assert_eq!(slots.take(REST_NS, all[2], false, nowhere), Some(254), "it came back");
        slots.leave(5, all[2]);
        assert_eq!(slots.take(5 + REST_NS, all[0], false, |slot| slot == 254), None, "a route of this node's names it");
        assert_eq!(slots.take(5 + REST_NS, all[0], false, nowhere), Some(254));
        assert_eq!((slots.of(all[2]), slots.owner(254)), (None, Some(all[0])));
    }

    #[test]
    fn a_restored_slot_rests_until_its_peer_is_back() {
        let mut slots = Slots::new(Width::One);
        let all = peer_ids(258);
        slots.put(0, 0, all[0]);
        slots.put(0, 256, all[0]);
        assert_eq!((slots.of(all[0]), slots.used().0), (None, 0), "0 is no slot, and 256 none of this width");
        slots.put(0, 7, all[0]);
        slots.put(0, 8, all[1]);
        assert_eq!(slots.take(1, all[0], false, nowhere), Some(7), "it came back");
        assert!(all[2..255].iter().all(|p| slots.take(2, *p, false, nowhere).is_some()));
        assert_eq!(slots.take(REST_NS - 1, all[256], false, nowhere), None, "the other may still come");
        assert_eq!(slots.take(REST_NS, all[256], false, nowhere), Some(8));
        assert_eq!(slots.take(9 * REST_NS, all[257], false, nowhere), None, "who came back stays");
    }

    #[test]
    fn strangers_get_half() {
        let mut slots = Slots::new(Width::One);
        let all = peer_ids(256);
        let given = all.iter().filter(|p| slots.take(0, **p, true, nowhere).is_some()).count();
        assert_eq!((given, slots.strangers()), (127, (127, 127)));
        assert!(!slots.has_room(0, all[200], true, nowhere) && slots.has_room(0, all[200], false, nowhere));
        assert!(slots.take(0, all[0], false, nowhere).is_some(), "the operator names one: it is no stranger any more");
        assert!(slots.take(0, all[200], true, nowhere).is_some());
        slots.leave(0, all[1]);
        assert_eq!(slots.take(REST_NS, all[201], true, nowhere), Some(2), "one stranger's slot follows another's");
        assert_eq!(slots.strangers(), (127, 127));
    }
}
