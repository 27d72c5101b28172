//! Which probes were seen.

use std::collections::{BTreeMap, VecDeque};

use arrayvec::ArrayVec;

use super::COPIES;
use crate::core::time::SECOND;

/// Probes remembered. Beyond it the oldest is forgotten: its stragglers are passed on once more, which hop limit and marks
/// bound.
pub(super) const PROBES: usize = 4096;
/// Room for so many is kept.
const FEW: usize = 16;
/// How long.
const LIFE_NS: u64 = 10 * SECOND;

/// A probe of which at least one copy came.
#[derive(Default)]
pub(super) struct Seen {
    /// Of the copies that were passed on: whom they came from, and the mark of their first hop.
    pub(super) copies: ArrayVec<(u64, u32), COPIES>,
    /// The marks of those that were answered, and whether one of them was somewhat, one much like another.
    pub(super) answered: Vec<Box<[u32]>>,
    pub(super) somewhat: bool,
    pub(super) much: bool,
}

#[derive(Default)]
pub(super) struct Memory {
    seen: BTreeMap<u64, Seen>,
    /// When each was first seen, oldest first.
    order: VecDeque<(u64, u64)>,
}

impl Memory {
    /// Forgets what is over, and gives back the memory that a flood took.
    pub(super) fn tidy(&mut self, now_ns: u64) {
        while let Some((at, oldest)) = self.order.front().copied()
            && now_ns.saturating_sub(at) >= LIFE_NS
        {
            self.order.pop_front();
            self.seen.remove(&oldest);
        }
        if self.order.capacity() > 4 * self.order.len().max(FEW) {
            self.order.shrink_to(2 * self.order.len().max(FEW));
        }
    }

    /// When [`Memory::tidy`] has something to do.
    pub(super) fn next_ns(&self) -> u64 {
        self.order.front().map_or(u64::MAX, |(at, _)| at.saturating_add(LIFE_NS))
    }

    /// What is known of a probe of which a copy came.
    pub(super) fn get(&mut self, now_ns: u64, what: u64) -> &mut Seen {
        self.tidy(now_ns);
        if !self.seen.contains_key(&what) {
            if self.order.len() >= PROBES
                && let Some((_, oldest)) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
            self.order.push_back((now_ns, what));
        }
        self.seen.entry(what).or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.order.capacity()
    }
}
