//! Probes as those see them who pass them on or are looked for: what came before, and what a neighbour may ask for.
//!
//! Nothing here knows the node: who sent a probe is a number, time comes in.

mod budget;
mod memory;
mod message;

pub(super) use budget::Bucket;
pub use budget::{Budget, Rate};
pub(super) use message::Search;

use budget::Budgets;
use memory::Memory;

/// Copies of one probe that a relay passes on.
const COPIES: usize = 3;
/// Copies that a target answers.
const ANSWERS: usize = 4;

/// How much the ways of two copies have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// Neither the first hop nor the last, and fewer than half of all.
    None,
    /// Not the first hop, or fewer than half of all.
    Some,
    Much,
}

fn likeness(a: &[u32], b: &[u32]) -> Likeness {
    let common = a.iter().filter(|mark| b.contains(mark)).count();
    let few = 2 * common < a.len().max(b.len());
    match a.first() != b.first() {
        true if few && a.last() != b.last() => Likeness::None,
        false if !few => Likeness::Much,
        _ => Likeness::Some,
    }
}

/// Probes so far, each copy for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProbeCounts {
    /// Searches of this node's own.
    pub own: u64,
    /// That came from neighbours.
    pub received: u64,
    /// Received ones that were passed on.
    pub relayed: u64,
    /// Messages sent for it, and for this node's own searches.
    pub sent: u64,
    /// Received ones that looked for this node and were answered.
    pub answered: u64,
    /// Received ones that brought nothing new.
    pub copies: u64,
    /// Received ones that could go no further: their hops or their label were used up, or there was no other neighbour.
    pub dead_ends: u64,
}

/// A relay's memory and budgets.
pub(super) struct Probes {
    memory: Memory,
    budgets: Budgets,
    pub(super) counts: ProbeCounts,
}

impl Probes {
    pub(super) fn new(budget: Budget) -> Self {
        Self { memory: Memory::default(), budgets: Budgets::new(budget), counts: ProbeCounts::default() }
    }

    /// Whether a neighbour, and the origin behind it, may have another probe looked at.
    pub(super) fn afford(&mut self, now_ns: u64, neighbour: u64, origin: u64) -> bool {
        self.budgets.take(now_ns, neighbour, origin)
    }

    /// Whether a copy is to be passed on: the first, a second from another neighbour, a third that also took another first hop.
    pub(super) fn relay(&mut self, now_ns: u64, what: u64, from: u64, first_hop: u32) -> bool {
        let seen = self.memory.get(now_ns, what);
        let fresh = match seen.copies.len() {
            0 => true,
            n if n >= COPIES || seen.copies.iter().any(|(f, _)| *f == from) => false,
            1 => true,
            _ => seen.copies.iter().all(|(_, first)| *first != first_hop),
        };
        if fresh {
            seen.copies.push((from, first_hop));
        }
        fresh
    }

    /// Whether a copy that looks for this node is to be answered, given the marks of its hops: the first, and those that left and
    /// arrived by other hops than each of the answered. One may differ less, and one hardly, in case there is no other way.
    pub(super) fn answer(&mut self, now_ns: u64, what: u64, marks: &[u32]) -> bool {
        let seen = self.memory.get(now_ns, what);
        let kind = seen.answered.iter().map(|other| likeness(marks, other)).max();
        let spent = match kind {
            None | Some(Likeness::None) => false,
            Some(Likeness::Some) => std::mem::replace(&mut seen.somewhat, true),
            Some(Likeness::Much) => std::mem::replace(&mut seen.much, true),
        };
        let fresh = seen.answered.len() < ANSWERS && !spent;
        if fresh {
            seen.answered.push(marks.into());
        }
        fresh
    }

    /// Forgets what is over.
    pub(super) fn tidy(&mut self, now_ns: u64) {
        self.memory.tidy(now_ns);
        self.budgets.tidy(now_ns);
    }

    /// When [`Probes::tidy`] has something to do.
    pub(super) fn next_ns(&self) -> u64 {
        self.memory.next_ns().min(self.budgets.next_ns())
    }

    /// Probes remembered, and how many may be.
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.memory.len(), memory::PROBES)
    }
}

#[cfg(test)]
mod tests;
