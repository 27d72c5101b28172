//! Which counter of type 6 a link's keys draw from. Every key has one, whichever slots send by it, and keeps it for as long as
//! it may be used: a counter that began again under the same key would repeat masks.

use std::collections::BTreeMap;

/// The counters in use: two for each slot.
#[derive(Default)]
pub(super) struct Positions {
    by_key: BTreeMap<u64, u32>,
    keys: BTreeMap<u32, u64>,
    /// Of slots that a former agent left and nobody has published since.
    left: BTreeMap<u16, u32>,
}

impl Positions {
    /// A former agent's entry of `slot` draws from `counter`.
    pub(super) fn leave(&mut self, slot: u16, counter: u32) {
        self.left.insert(slot, counter);
    }

    /// The counter of a key that is published for `slot`, and whether it has to start at zero. `in_use` tells counters that
    /// entries draw from. `None`: the two of the slot are still drawn from under older keys.
    pub(super) fn of(&mut self, slot: u16, key: u64, in_use: impl Fn(u32) -> bool) -> Option<(u32, bool)> {
        if let Some(counter) = self.by_key.get(&key) {
            self.left.remove(&slot);
            return Some((*counter, false));
        }
        let first = u32::from(slot) * 2;
        let free = (first..first + 2).filter(|c| !in_use(*c) && !self.left.values().any(|l| l == c));
        // Of two, the one whose key is older: the younger may be waiting for its link to come back.
        let counter = free.min_by_key(|c| self.keys.get(c).copied())?;
        if let Some(old) = self.keys.insert(counter, key) {
            self.by_key.remove(&old);
        }
        self.by_key.insert(key, counter);
        self.left.remove(&slot);
        Some((counter, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_counter_and_new_keys_take_turns() {
        let mut p = Positions::default();
        assert_eq!(p.of(3, 10, |_| false), Some((6, true)));
        assert_eq!(p.of(3, 10, |c| c == 6), Some((6, false)), "published anew");
        assert_eq!(p.of(3, 20, |c| c == 6), Some((7, true)), "the next key");
        assert_eq!(p.of(3, 30, |c| c == 7), Some((6, true)), "and the one after it");
        assert_eq!(p.of(3, 40, |c| c == 6), Some((7, true)));
    }

    #[test]
    fn a_slot_that_sends_by_another_links_key_shares_its_counter_and_finds_its_own_again() {
        let mut p = Positions::default();
        assert_eq!(p.of(1, 10, |_| false), Some((2, true)));
        assert_eq!(p.of(2, 11, |c| c == 2), Some((4, true)));
        // Link 2 is dead: slot 2 sends by the key of slot 1, then by its own again, which counts on.
        assert_eq!(p.of(2, 10, |c| c == 2 || c == 4), Some((2, false)));
        assert_eq!(p.of(2, 11, |c| c == 2), Some((4, false)));
        // Dead over a renewal: the new key of slot 2 takes the other counter, although nobody draws from the old one.
        assert_eq!(p.of(2, 10, |c| c == 2), Some((2, false)));
        assert_eq!(p.of(2, 21, |c| c == 2), Some((5, true)));
    }

    #[test]
    fn a_counter_that_anything_draws_from_never_begins_again() {
        let mut p = Positions::default();
        assert_eq!(p.of(1, 10, |_| false), Some((2, true)));
        assert_eq!(p.of(1, 20, |c| c == 2), Some((3, true)));
        assert_eq!(p.of(1, 30, |c| c == 2 || c == 3), None);
        let mut p = Positions::default();
        p.leave(1, 3);
        p.leave(2, 2);
        assert_eq!(p.of(1, 1, |_| false), None, "a former agent's entries draw from both");
        p.leave(2, 3);
        assert_eq!(p.of(1, 1, |_| false), Some((2, true)));
        assert_eq!(p.of(2, 1, |c| c == 2), Some((2, false)));
        assert_eq!(p.of(1, 2, |c| c == 2), Some((3, true)), "they are gone");
    }
}
