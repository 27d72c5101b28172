//! What neighbours may send through this node: the rates, and the buckets that pay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rovy_common::hello::Bucket;
use rovy_common::maps::TransitRate;

use crate::dataplane::xdp::Buckets;

/// A bucket of [`Rates`].
pub struct Spent<'a>(&'a AtomicU64);

impl Bucket for Spent<'_> {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn exchange(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Rates by slot. A neighbour pays from one bucket, whether the kernel or the agent sends on what it sent.
#[derive(Default)]
pub(super) struct Rates {
    by_slot: BTreeMap<u16, TransitRate>,
    /// While the kernel takes no part.
    own: BTreeMap<u32, AtomicU64>,
    kernel: Option<Arc<Buckets>>,
}

impl Rates {
    pub(super) fn new(kernel: Option<Arc<Buckets>>) -> Self {
        Self { kernel, ..Self::default() }
    }

    /// Goes on with the kernel's buckets, which are full.
    pub(super) fn share(&mut self, kernel: Arc<Buckets>) {
        self.own.clear();
        self.kernel = Some(kernel);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u16, &TransitRate)> {
        self.by_slot.iter().map(|(slot, rate)| (*slot, rate))
    }

    pub(super) fn set(&mut self, slot: u16, rate: &TransitRate) {
        if *rate == TransitRate::default() {
            self.by_slot.remove(&slot);
        } else if self.by_slot.insert(slot, *rate) != Some(*rate) && self.kernel.is_none() {
            self.own.insert(rate.bucket, AtomicU64::new(0));
        }
        let used = |bucket: &u32| self.by_slot.values().any(|r| r.bucket == *bucket);
        self.own.retain(|bucket, _| used(bucket));
    }

    pub(super) fn get(&self, slot: u16) -> Option<(&TransitRate, Spent<'_>)> {
        let rate = self.by_slot.get(&slot)?;
        let word = match &self.kernel {
            Some(buckets) => buckets.word(rate.bucket)?,
            None => self.own.get(&rate.bucket)?,
        };
        Some((rate, Spent(word)))
    }
}
