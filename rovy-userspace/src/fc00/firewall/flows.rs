//! A bounded table of what is expected back, each entry with an end.

use std::collections::HashMap;
use std::hash::Hash;

/// Entries looked at to find the one that makes room.
const SAMPLE: usize = 16;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flow {
    /// Monotonic time in ns from which it counts no more.
    pub(super) until_ns: u64,
    /// What its protocol remembers.
    pub(super) seen: u8,
}

/// Entries by key. A full one gives up what has ended, or else what would end first among a few entries: a
/// connection outlives a flood of attempts, as those end sooner.
pub(super) struct Flows<K> {
    places: Vec<(K, Flow)>,
    at: HashMap<K, usize>,
    /// Where the next search for room begins.
    hand: usize,
    most: usize,
}

impl<K: Copy + Eq + Hash> Flows<K> {
    /// A table of at most `most` entries, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self { places: Vec::new(), at: HashMap::new(), hand: 0, most: most.max(1) }
    }

    /// The entry of a key that has not ended.
    pub(super) fn get(&mut self, now_ns: u64, key: &K) -> Option<&mut Flow> {
        let place = *self.at.get(key)?;
        self.places.get_mut(place).map(|(_, flow)| flow).filter(|flow| now_ns < flow.until_ns)
    }

    /// Sets the entry of a key.
    pub(super) fn put(&mut self, now_ns: u64, key: K, flow: Flow) {
        if let Some((_, old)) = self.at.get(&key).and_then(|place| self.places.get_mut(*place)) {
            *old = flow;
            return;
        }
        let full = self.places.len() >= self.most;
        match self.soonest().filter(|(_, until_ns)| full || *until_ns <= now_ns) {
            Some((place, _)) => {
                if let Some(old) = self.places.get_mut(place) {
                    self.at.remove(&old.0);
                    *old = (key, flow);
                    self.at.insert(key, place);
                }
            }
            None => {
                self.at.insert(key, self.places.len());
                self.places.push((key, flow));
            }
        }
    }

    /// Of a few entries from all over the table, others each time, whichever ends first, and when.
    fn soonest(&mut self) -> Option<(usize, u64)> {
        let n = self.places.len();
        let (from, apart) = (self.hand, (n / SAMPLE).max(1));
        let few = (0..SAMPLE.min(n)).map(|i| (from + i * apart) % n);
        self.hand = (from + 1).checked_rem(n).unwrap_or(0);
        few.filter_map(|place| Some((place, self.places.get(place)?.1.until_ns))).min_by_key(|(_, t)| *t)
    }

    /// Places taken, those of ended entries too, and all there are.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.places.len(), self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(until_ns: u64) -> Flow {
        Flow { until_ns, seen: 0 }
    }

    #[test]
    fn an_entry_ends() {
        let mut flows = Flows::new(4);
        flows.put(0, 1, flow(10));
        assert!(flows.get(9, &1).is_some() && flows.get(10, &1).is_none() && flows.get(0, &2).is_none());
        flows.put(20, 1, flow(30));
        assert!(flows.get(20, &1).is_some(), "the same key again");
        assert_eq!(flows.used(), (1, 4));
    }

    #[test]
    fn a_flood_of_short_entries_fills_no_more_than_the_table_and_leaves_long_ones() {
        let mut flows = Flows::new(1000);
        for key in 0..100 {
            flows.put(0, key, flow(1_000_000));
        }
        for key in 100..100_000 {
            flows.put(1, key, flow(100));
        }
        assert_eq!(flows.used(), (1000, 1000));
        assert!((0..100).all(|key| flows.get(2, &key).is_some()), "the long ones are still there");
        assert_eq!(flows.at.len(), flows.places.len());
        assert!(flows.at.iter().all(|(key, place)| flows.places[*place].0 == *key));
    }

    #[test]
    fn places_of_ended_entries_are_used_again() {
        let mut flows = Flows::new(1000);
        for key in 0..10_000_u64 {
            flows.put(key, key, flow(key + 5));
        }
        assert!(flows.used().0 < 100, "{:?}", flows.used());
    }
}
