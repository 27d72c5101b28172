//! Slots: this node's small numbers for its links. Sticky per peer and link; 0 is never given out.

use std::collections::BTreeMap;

use rovy_common::label::Width;

use super::time::SECOND;
use crate::identity::PeerId;

/// How long a slot stays with a peer that is gone: until the routes that could name it have ended.
const REST_NS: u64 = 600 * SECOND;

struct Holder {
    peer: PeerId,
    /// Which of the peer's links.
    link: u8,
    /// When the peer went; `None` while it is here.
    left_ns: Option<u64>,
    /// Nobody here wanted it.
    stranger: bool,
}

/// Who holds which slot.
pub(super) struct Slots {
    width: Width,
    by_link: BTreeMap<(PeerId, u8), u16>,
    by_slot: BTreeMap<u16, Holder>,
    strangers: usize,
}

impl Slots {
    pub(super) fn new(width: Width) -> Self {
        Self { width, by_link: BTreeMap::new(), by_slot: BTreeMap::new(), strangers: 0 }
    }

    /// Slots that are held or rest, and how many there are.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.by_slot.len(), self.width.slots() as usize - 1)
    }

    /// Slots of strangers, and how many they may have: half.
    pub(super) fn strangers(&self) -> (usize, usize) {
        (self.strangers, (self.width.slots() as usize - 1) / 2)
    }

    /// The slot of a link of a peer that is here: the one it had, else one never used, else the one that rested longest and that no
    /// route in `named` starts with. `None` when all are taken, or the stranger's half.
    pub(super) fn take(
        &mut self,
        now_ns: u64,
        (peer, link): (PeerId, u8),
        stranger: bool,
        named: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        if let Some(slot) = self.by_link.get(&(peer, link)) {
            // All of a peer's slots are in use while it is here.
            for slot in self.by_link.range((peer, 0)..=(peer, u8::MAX)).map(|(_, slot)| slot) {
                if let Some(holder) = self.by_slot.get_mut(slot) {
                    holder.left_ns = None;
                }
            }
            if let Some(holder) = self.by_slot.get_mut(slot) {
                self.strangers = self.strangers + usize::from(stranger) - usize::from(holder.stranger);
                holder.stranger = stranger;
            }
            return Some(*slot);
        }
        let slot = self.free(now_ns, stranger, named)?;
        self.give(slot, (peer, link), stranger);
        Some(slot)
    }

    /// Whether [`Slots::take`] would find one for a peer's first link.
    pub(super) fn has_room(&self, now_ns: u64, peer: PeerId, stranger: bool, named: impl Fn(u16) -> bool) -> bool {
        self.by_link.contains_key(&(peer, 0)) || self.free(now_ns, stranger, named).is_some()
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

    /// Gives `slot` to a link of `peer` as it was before a restart. Whether anybody wants the peer shows when it is back; until
    /// then the slot rests.
    pub(super) fn put(&mut self, now_ns: u64, slot: u16, peer: PeerId, link: u8) {
        if slot != 0 && u32::from(slot) < self.width.slots() {
            self.give(slot, (peer, link), true);
            self.leave(now_ns, peer);
        }
    }

    fn give(&mut self, slot: u16, (peer, link): (PeerId, u8), stranger: bool) {
        if let Some(before) = self.by_slot.insert(slot, Holder { peer, link, left_ns: None, stranger }) {
            self.strangers -= usize::from(before.stranger);
            self.by_link.remove(&(before.peer, before.link));
        }
        self.strangers += usize::from(stranger);
        self.by_link.insert((peer, link), slot);
    }

    /// The peer is gone. Its links get the same slots when it comes back in time.
    pub(super) fn leave(&mut self, now_ns: u64, peer: PeerId) {
        for (_, slot) in self.by_link.range((peer, 0)..=(peer, u8::MAX)) {
            if let Some(holder) = self.by_slot.get_mut(slot) {
                holder.left_ns = Some(now_ns);
            }
        }
    }

    /// The slot of a peer's link.
    pub(super) fn of(&self, peer: PeerId, link: u8) -> Option<u16> {
        self.by_link.get(&(peer, link)).copied()
    }

    /// All slots of a peer.
    pub(super) fn all(&self, peer: PeerId) -> impl Iterator<Item = u16> {
        self.by_link.range((peer, 0)..=(peer, u8::MAX)).map(|(_, slot)| *slot)
    }

    /// The holder of a slot, and which of its links.
    pub(super) fn owner(&self, slot: u16) -> Option<(PeerId, u8)> {
        self.by_slot.get(&slot).map(|h| (h.peer, h.link))
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
            assert!(slots.take(0, (*peer, 0), false, nowhere).is_some());
        }
        assert_eq!(slots.take(0, (all[1], 0), false, nowhere), Some(253));
        assert_eq!(slots.take(0, (all[2], 0), false, nowhere), Some(254));
        assert_eq!(slots.take(0, (all[255], 0), false, nowhere), Some(255));
        assert_eq!(slots.take(0, (all[0], 0), false, nowhere), None, "all are taken, and 0 is none");
        slots.leave(5, all[2]);
        assert_eq!(slots.take(REST_NS, (all[0], 0), false, nowhere), None, "a route may still name it");
        assert_eq!(slots.take(REST_NS, (all[2], 0), false, nowhere), Some(254), "it came back");
        slots.leave(5, all[2]);
        assert_eq!(
            slots.take(5 + REST_NS, (all[0], 0), false, |slot| slot == 254),
            None,
            "a route of this node's names it"
        );
        assert_eq!(slots.take(5 + REST_NS, (all[0], 0), false, nowhere), Some(254));
        assert_eq!((slots.of(all[2], 0), slots.owner(254)), (None, Some((all[0], 0))));
    }

    #[test]
    fn a_restored_slot_rests_until_its_peer_is_back() {
        let mut slots = Slots::new(Width::One);
        let all = peer_ids(258);
        slots.put(0, 0, all[0], 0);
        slots.put(0, 256, all[0], 0);
        assert_eq!((slots.of(all[0], 0), slots.used().0), (None, 0), "0 is no slot, and 256 none of this width");
        slots.put(0, 7, all[0], 0);
        slots.put(0, 8, all[1], 0);
        assert_eq!(slots.take(1, (all[0], 0), false, nowhere), Some(7), "it came back");
        assert!(all[2..255].iter().all(|p| slots.take(2, (*p, 0), false, nowhere).is_some()));
        assert_eq!(slots.take(REST_NS - 1, (all[256], 0), false, nowhere), None, "the other may still come");
        assert_eq!(slots.take(REST_NS, (all[256], 0), false, nowhere), Some(8));
        assert_eq!(slots.take(9 * REST_NS, (all[257], 0), false, nowhere), None, "who came back stays");
    }

    #[test]
    fn strangers_get_half() {
        let mut slots = Slots::new(Width::One);
        let all = peer_ids(256);
        let given = all.iter().filter(|p| slots.take(0, (**p, 0), true, nowhere).is_some()).count();
        assert_eq!((given, slots.strangers()), (127, (127, 127)));
        assert!(!slots.has_room(0, all[200], true, nowhere) && slots.has_room(0, all[200], false, nowhere));
        assert!(
            slots.take(0, (all[0], 0), false, nowhere).is_some(),
            "the operator names one: it is no stranger any more"
        );
        assert!(slots.take(0, (all[200], 0), true, nowhere).is_some());
        slots.leave(0, all[1]);
        assert_eq!(slots.take(REST_NS, (all[201], 0), true, nowhere), Some(2), "one stranger's slot follows another's");
        assert_eq!(slots.strangers(), (127, 127));
    }
    #[test]
    fn each_link_of_a_peer_has_its_own_and_all_rest_when_the_peer_goes() {
        let mut slots = Slots::new(Width::One);
        let all = peer_ids(2);
        let got: Vec<_> = (0..3).map(|link| slots.take(0, (all[0], link), false, nowhere)).collect();
        assert_eq!(got, [Some(1), Some(2), Some(3)]);
        assert_eq!(slots.take(0, (all[1], 0), false, nowhere), Some(4));
        assert_eq!(slots.all(all[0]).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((slots.of(all[0], 2), slots.owner(2)), (Some(3), Some((all[0], 1))));
        slots.leave(7, all[0]);
        assert!([1, 2, 3].iter().all(|s| slots.by_slot[s].left_ns == Some(7)) && slots.by_slot[&4].left_ns.is_none());
        assert_eq!(slots.take(8, (all[0], 0), false, nowhere), Some(1));
        assert!(slots.by_slot.values().all(|h| h.left_ns.is_none()), "it is back, and so are its slots");
    }
}
