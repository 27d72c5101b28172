//! The map values as plain bytes, which is what aya copies to and from the kernel.
#![allow(unsafe_code)]

use rovy_common::maps::{Config, LocalKey, ReplayWords, RxLink, Secrets, SlotStats, TransitRate, TxLink};

/// A map key or value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

macro_rules! plain {
    ($($t:ty),+) => { $(
        // SAFETY: `repr(C)` integers and byte arrays, any bits are a value, all padding is spelled out as fields.
        unsafe impl aya::Pod for Plain<$t> {}
    )+ };
}

plain!(Config, LocalKey, ReplayWords, RxLink, Secrets, SlotStats, TransitRate, TxLink);
