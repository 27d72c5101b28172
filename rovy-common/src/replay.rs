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

/// Accepts `counter` once.
///
/// # Errors
/// [`DropReason::Replay`] when it was seen before or is older than the window;
/// [`DropReason::Limit`] beyond [`COUNTER_LIMIT`].
#[inline(always)]
pub fn accept<T: Words>(words: &T, counter: u64) -> Result<(), DropReason> {
    if counter >= COUNTER_LIMIT {
        return Err(DropReason::Limit);
    }
    let block = counter / 32;
    let i = (block % WORDS as u64) as usize;
    let epoch = block / WORDS as u64;
    let bit = 1 << (counter % 32);
    let mut tries = 0;
    while tries < TRIES {
        let old = words.load(i);
        let (old_epoch, old_bits) = (old >> 32, old & 0xffff_ffff);
        let bits = if epoch == old_epoch { old_bits } else { 0 };
        if epoch < old_epoch || bits & bit != 0 {
            return Err(DropReason::Replay);
        }
        if words.exchange(i, old, epoch << 32 | bits | bit) {
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

    /// Takes over what another window of the same session has seen: of each word the newer epoch, of equal epochs both bits.
    /// `words` is the kernel's window as it stands in the map.
    pub fn merge(&self, words: &[u64; WORDS]) {
        for (mine, theirs) in self.0.iter().zip(words) {
            let old = mine.load(core::sync::atomic::Ordering::Relaxed);
            let new = match (old >> 32).cmp(&(theirs >> 32)) {
                core::cmp::Ordering::Less => *theirs,
                core::cmp::Ordering::Equal => old | theirs,
                core::cmp::Ordering::Greater => old,
            };
            mine.store(new, core::sync::atomic::Ordering::Relaxed);
        }
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
