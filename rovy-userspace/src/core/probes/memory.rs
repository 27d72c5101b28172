//! Which probes were seen.

use std::collections::{BTreeMap, VecDeque};

use arrayvec::ArrayVec;

use super::COPIES;
use crate::core::time::SECOND;

/// Probes remembered. Beyond it the oldest is forgotten: its stragglers are passed on once more, which hop limit and marks
/// bound.
pub(super) const PROBES: usize = 4096;
/// How long.
const LIFE_NS: u64 = 10 * SECOND;

/// A probe of which at least one copy came.
#[derive(Default)]
pub(super) struct Seen {
    /// Hops of the copy that made fewest.
    pub(super) shortest: u8,
    /// Whom the copies came from that were dealt with.
    pub(super) from: ArrayVec<u64, COPIES>,
}

#[derive(Default)]
pub(super) struct Memory {
    seen: BTreeMap<u64, Seen>,
    /// When each was first seen, oldest first.
    order: VecDeque<(u64, u64)>,
}

impl Memory {
    /// What is known of a probe, given that a copy came that made `hops`.
    pub(super) fn get(&mut self, now_ns: u64, what: u64, hops: u8) -> &mut Seen {
        while let Some((at, oldest)) = self.order.front().copied()
            && now_ns.saturating_sub(at) >= LIFE_NS
        {
            self.order.pop_front();
            self.seen.remove(&oldest);
        }
        if !self.seen.contains_key(&what) {
            if self.order.len() >= PROBES
                && let Some((_, oldest)) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
            self.order.push_back((now_ns, what));
        }
        let seen = self.seen.entry(what).or_insert_with(|| Seen { shortest: hops, from: ArrayVec::new() });
        seen.shortest = seen.shortest.min(hops);
        seen
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}
