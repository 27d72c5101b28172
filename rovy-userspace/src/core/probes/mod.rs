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

/// Copies of one probe that a relay passes on, and a target answers.
const COPIES: usize = 3;

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

    /// Whether a copy is to be passed on: the first, a second from another neighbour, a third that is also not much longer.
    pub(super) fn relay(&mut self, now_ns: u64, what: u64, from: u64, hops: u8) -> bool {
        let seen = self.memory.get(now_ns, what, hops);
        let fresh = match seen.from.len() {
            0 => true,
            n if n >= COPIES || seen.from.contains(&from) => false,
            1 => true,
            _ => hops <= seen.shortest.saturating_add(2),
        };
        if fresh {
            seen.from.push(from);
        }
        fresh
    }

    /// Whether a copy that looks for this node is to be answered.
    pub(super) fn answer(&mut self, now_ns: u64, what: u64, from: u64, hops: u8) -> bool {
        let seen = self.memory.get(now_ns, what, hops);
        let fresh = seen.from.len() < COPIES;
        if fresh {
            seen.from.push(from);
        }
        fresh
    }

    /// Probes remembered, and how many may be.
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.memory.len(), memory::PROBES)
    }
}

#[cfg(test)]
mod tests;
