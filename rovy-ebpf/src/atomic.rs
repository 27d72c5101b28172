//! The fence around atomics: the BPF target offers none in `core::sync::atomic`, but the intrinsics lower to BPF's
//! own instructions under `-C target-cpu=v3`. Plain atomic loads do not lower at all; aligned volatile reads of a word do the same.
#![allow(unsafe_code)]

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

/// A word of a map value that other CPUs and the agent write too.
#[derive(Clone, Copy)]
pub struct Word(*mut u64);

impl Word {
    /// A word of a shared map value.
    ///
    /// # Safety
    /// `at` points to an aligned word of a map value and is not used after the program returned.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(at: *mut u64) -> Self {
        Self(at)
    }

    /// The word as it stands.
    #[inline(always)]
    #[must_use]
    pub fn load(self) -> u64 {
        // SAFETY: `new` promises a live aligned word; one load instruction reads it whole.
        unsafe { core::ptr::read_volatile(self.0) }
    }

    /// Stores `new` whatever stands there.
    #[inline(always)]
    pub fn store(self, new: u64) {
        // SAFETY: `new` promises a live aligned word; one store instruction writes it whole.
        unsafe { core::ptr::write_volatile(self.0, new) };
    }

    /// Stores `new` where `old` still stands; whether it did.
    #[inline(always)]
    #[must_use]
    pub fn exchange(self, old: u64, new: u64) -> bool {
        const SEQ: AtomicOrdering = AtomicOrdering::SeqCst;
        // SAFETY: `new` promises a live aligned word.
        let (seen, _) = unsafe { atomic_cxchg::<u64, SEQ, SEQ>(self.0, old, new) };
        seen == old
    }

    /// Adds and returns what stood there before.
    #[inline(always)]
    #[must_use]
    pub fn fetch_add(self, n: u64) -> u64 {
        const SEQ: AtomicOrdering = AtomicOrdering::SeqCst;
        // SAFETY: `new` promises a live aligned word.
        unsafe { atomic_xadd::<u64, u64, SEQ>(self.0, n) }
    }
}

/// The same number, of which the compiler no longer knows a range: otherwise it removes a bounds check that the
/// verifier, which cannot follow a remainder, asks for.
#[inline(always)]
#[must_use]
pub fn opaque(mut n: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) n, options(pure, nomem, nostack)) };
    n
}
