//! The replay window: a ring of words `(epoch 32 | bits 32)`, each updated by one compare-and-swap.
//!
//! A counter's block (32 counters) chooses a word; the quotient is its epoch. A word whose epoch is older is
//! overwritten, one whose epoch is newer refuses, so no word is ever cleared and several CPUs may
//! receive one session without a lock. A counter is accepted at most once, always; and every
//! counter less than [`WINDOW`] behind the newest is accepted once. Like RFC 6479, without its clearing loop.

use crate::DropReason;

/// Words of a window: one more than [`WINDOW`]` / 32`, so that the block of the newest counter never shares
/// a word with a block inside the window.
pub const WORDS: usize = 257;

/// Counters behind the newest one that are still accepted.
pub const WINDOW: u64 = 8192;

/// Counters from here on are refused: the epoch would not fit. Far beyond the life of any key.
pub const COUNTER_LIMIT: u64 = 1 << 45;

/// How often a lost compare-and-swap is tried again. Each loss means another CPU made progress on
/// the same 32 counters at the same moment.
const TRIES: usize = 8;

/// Storage of one window. The kernel's is a BPF map value, the agent's an array of atomics.
pub trait Words {
    /// The word at `i`, `i < WORDS`.
    fn load(&self, i: usize) -> u64;
    /// Stores `new` where `old` still stands; whether it did.
    fn exchange(&self, i: usize, old: u64, new: u64) -> bool;
}

/// Where a counter stands: its word, and that word's epoch and the counter's bit in it.
struct Place {
    word: usize,
    epoch: u64,
    bit: u64,
}

impl Place {
    #[inline(always)]
    fn of(counter: u64) -> Result<Self, DropReason> {
        if counter >= COUNTER_LIMIT {
            return Err(DropReason::Limit);
        }
        let block = counter / 32;
        let (word, epoch) = ((block % WORDS as u64) as usize, block / WORDS as u64);
        Ok(Self { word, epoch, bit: 1 << (counter % 32) })
    }

    /// The word with the counter in it, given the word as it stands.
    #[inline(always)]
    fn mark(&self, old: u64) -> Result<u64, DropReason> {
        let old_epoch = old >> 32;
        let bits = if self.epoch == old_epoch { old & 0xffff_ffff } else { 0 };
        if self.epoch < old_epoch || bits & self.bit != 0 {
            return Err(DropReason::Replay);
        }
        Ok(self.epoch << 32 | bits | self.bit)
    }
}

/// Whether `counter` would be accepted now; it is not marked.
///
/// # Errors
/// As [`accept`].
#[inline(always)]
pub fn check<T: Words>(words: &T, counter: u64) -> Result<(), DropReason> {
    let place = Place::of(counter)?;
    place.mark(words.load(place.word)).map(|_| ())
}

/// Accepts `counter` once.
///
/// # Errors
/// [`DropReason::Replay`] when it was seen before or is older than the window;
/// [`DropReason::Limit`] beyond [`COUNTER_LIMIT`].
#[inline(always)]
pub fn accept<T: Words>(words: &T, counter: u64) -> Result<(), DropReason> {
    let place = Place::of(counter)?;
    let mut tries = 0;
    while tries < TRIES {
        let old = words.load(place.word);
        let new = place.mark(old)?;
        if words.exchange(place.word, old, new) {
            return Ok(());
        }
        tries += 1;
    }
    Err(DropReason::Limit)
}

/// A window in ordinary memory.
#[cfg(target_has_atomic = "64")]
pub struct Window([core::sync::atomic::AtomicU64; WORDS]);

#[cfg(target_has_atomic = "64")]
impl Window {
    /// A window that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { core::sync::atomic::AtomicU64::new(0) }; WORDS])
    }
}

#[cfg(target_has_atomic = "64")]
impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_has_atomic = "64")]
impl Words for Window {
    fn load(&self, i: usize) -> u64 {
        self.0[i].load(core::sync::atomic::Ordering::Relaxed)
    }

    fn exchange(&self, i: usize, old: u64, new: u64) -> bool {
        let relaxed = core::sync::atomic::Ordering::Relaxed;
        self.0[i].compare_exchange(old, new, relaxed, relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests;
