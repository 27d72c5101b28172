//! How often other routes to a peer are looked for: every search costs the whole network.

use crate::core::time::SECOND;

/// Longest pause between two searches.
const LONGEST_NS: u64 = 60 * SECOND;
/// After so long without a wish to search the next one is free again.
const FORGOTTEN_NS: u64 = 60 * SECOND;

/// The pause before the next search: 1, 2, 4 … 60 s after the one before.
#[derive(Default)]
pub(super) struct Pause {
    searches: u32,
    until_ns: u64,
    /// When a search was last wanted, allowed or not.
    wanted_ns: u64,
}

impl Pause {
    /// A search is wanted: whether it may be. Then the next has to wait.
    pub(super) fn allows(&mut self, now_ns: u64) -> bool {
        // Beyond the longest pause the clock was set back.
        if now_ns.saturating_sub(self.wanted_ns) >= FORGOTTEN_NS || self.until_ns > now_ns.saturating_add(LONGEST_NS) {
            *self = Self::default();
        }
        self.wanted_ns = now_ns;
        if now_ns < self.until_ns {
            return false;
        }
        self.until_ns = now_ns.saturating_add((SECOND << self.searches.min(16)).min(LONGEST_NS));
        self.searches = self.searches.saturating_add(1);
        true
    }

    /// When the next search may be.
    pub(super) const fn until_ns(&self) -> u64 {
        self.until_ns
    }

    /// Something is new: the next search is not to wait.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}
