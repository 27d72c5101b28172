//! What neighbours may send through this node: the maps of rates and of the buckets that pay.
#![allow(unsafe_code)]

use crate::atomic::Word;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use rovy_common::maps::TransitRate;

/// By slot.
#[map]
static RATES: Array<TransitRate> = Array::with_max_entries(256, 0);
/// Named by the rates. The agent takes from the same buckets.
#[map]
static SPENT: Array<u64> = Array::with_max_entries(256, BPF_F_MMAPABLE);

/// The rate of what comes over a slot, and its bucket.
#[inline(always)]
#[must_use]
pub fn of(slot: u16) -> Option<(&'static TransitRate, Word)> {
    let rate = RATES.get(u32::from(slot))?;
    // SAFETY: the word is a map value.
    SPENT.get_ptr_mut(rate.bucket).map(|at| (rate, unsafe { Word::new(at) }))
}
