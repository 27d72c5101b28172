//! How many probes a relay looks at for whom: token buckets over time that comes in.

use std::collections::BTreeMap;

use rovy_common::wire::PROBE_HOPS;

use crate::core::time::SECOND;

/// Neighbours with a budget under way. One that is forgotten has a full bucket.
pub(super) const NEIGHBOURS: usize = 1024;
/// Origins of one neighbour with a budget under way.
pub(super) const ORIGINS: usize = 64;

/// A token bucket's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Tokens it gets a second; 0 counts as 1.
    pub per_second: u32,
    /// Tokens it holds.
    pub burst: u32,
}

/// What a node spends on probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// On each neighbour, whatever it brings.
    pub neighbour: Rate,
    /// On each origin that a neighbour brings.
    pub origin: Rate,
    /// Hops that its own may make, at most 30.
    pub hops: u8,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            neighbour: Rate { per_second: 100, burst: 200 },
            origin: Rate { per_second: 10, burst: 30 },
            hops: PROBE_HOPS as u8,
        }
    }
}

/// A token bucket as the time until which its tokens are spent: 0 is a full one.
#[derive(Clone, Copy, Default)]
pub(in crate::core) struct Bucket(u64);

impl Bucket {
    /// What it would be after one token more, `None` when there is none.
    fn after(self, now_ns: u64, rate: Rate) -> Option<Self> {
        let token = SECOND / u64::from(rate.per_second.max(1));
        let full = token * u64::from(rate.burst.max(1));
        // More can only be spent when the clock was set back: then the bucket is full again.
        let spent = Some(self.0).filter(|s| *s <= now_ns.saturating_add(full)).unwrap_or(0).max(now_ns) + token;
        (spent <= now_ns.saturating_add(full)).then_some(Self(spent))
    }

    /// Takes a token, if there is one.
    pub(in crate::core) fn take(&mut self, now_ns: u64, rate: Rate) -> bool {
        let after = self.after(now_ns, rate);
        *self = after.unwrap_or(*self);
        after.is_some()
    }
}

#[derive(Default)]
struct Neighbour {
    bucket: Bucket,
    origins: BTreeMap<u64, Bucket>,
}

pub(super) struct Budgets {
    budget: Budget,
    neighbours: BTreeMap<u64, Neighbour>,
}

/// Makes room for `key`: whoever has most tokens loses least by being forgotten.
fn make_room<T>(map: &mut BTreeMap<u64, T>, key: u64, most: usize, bucket: impl Fn(&T) -> u64) {
    if map.len() >= most
        && !map.contains_key(&key)
        && let Some(fullest) = map.iter().min_by_key(|(_, t)| bucket(t)).map(|(k, _)| *k)
    {
        map.remove(&fullest);
    }
}

impl Budgets {
    pub(super) const fn new(budget: Budget) -> Self {
        Self { budget, neighbours: BTreeMap::new() }
    }

    /// Takes a token of the origin and of its neighbour, or of neither.
    pub(super) fn take(&mut self, now_ns: u64, neighbour: u64, origin: u64) -> bool {
        make_room(&mut self.neighbours, neighbour, NEIGHBOURS, |n| n.bucket.0);
        let neighbour = self.neighbours.entry(neighbour).or_default();
        let Some(common) = neighbour.bucket.after(now_ns, self.budget.neighbour) else { return false };
        make_room(&mut neighbour.origins, origin, ORIGINS, |b| b.0);
        let enough = neighbour.origins.entry(origin).or_default().take(now_ns, self.budget.origin);
        if enough {
            neighbour.bucket = common;
        }
        enough
    }

    /// Forgets buckets that are full again: nobody gains by it.
    pub(super) fn tidy(&mut self, now_ns: u64) {
        for neighbour in self.neighbours.values_mut() {
            neighbour.origins.retain(|_, bucket| bucket.0 > now_ns);
        }
        self.neighbours.retain(|_, n| n.bucket.0 > now_ns || !n.origins.is_empty());
    }

    /// When one of the buckets is full again.
    pub(super) fn next_ns(&self) -> u64 {
        let all = self.neighbours.values().flat_map(|n| n.origins.values().chain([&n.bucket]));
        all.map(|b| b.0).min().unwrap_or(u64::MAX)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.neighbours.values().map(|n| 1 + n.origins.len()).sum()
    }
}
