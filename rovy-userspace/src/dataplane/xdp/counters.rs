//! Memory shared with the programs: the counters of type 6, which no map update ever writes, and the replay windows.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rovy_common::replay::WORDS;

use super::XdpError;

/// The words of an mmapable array.
struct Shared {
    map: MmapRaw,
    len: usize,
}

impl Shared {
    fn map(fd: BorrowedFd<'_>, len: usize) -> Result<Self, XdpError> {
        // The kernel rounds up to whole pages itself.
        let map = MmapOptions::new().len(len * 8).map_raw(fd.as_raw_fd()).map_err(XdpError::Counters)?;
        Ok(Self { map, len })
    }

    fn word(&self, i: usize) -> Option<&AtomicU64> {
        if i >= self.len {
            return None;
        }
        let at = self.map.as_mut_ptr().cast::<u64>().wrapping_add(i);
        // SAFETY: the word lies inside the mapping, which is page-aligned and lives as long as `self`; everybody,
        // the kernel included, touches it by atomic operations of one word only.
        Some(unsafe { AtomicU64::from_ptr(at) })
    }
}

/// An array of counters in memory that the kernel's programs add to as well.
pub struct Counters(Shared);

impl Counters {
    /// Maps the `len` words of an mmapable array.
    pub(super) fn map(fd: BorrowedFd<'_>, len: u32) -> Result<Self, XdpError> {
        Shared::map(fd, len as usize).map(Self)
    }

    /// Draws the next value of a counter, which nobody else gets. `None` when there is no such counter.
    #[must_use]
    pub fn draw(&self, i: u32) -> Option<u64> {
        self.0.word(i as usize).map(|w| w.fetch_add(1, Ordering::Relaxed))
    }

    /// The value that would be drawn next. `None` when there is no such counter.
    #[must_use]
    pub fn peek(&self, i: u32) -> Option<u64> {
        self.0.word(i as usize).map(|w| w.load(Ordering::Relaxed))
    }

    /// Starts a counter again at zero: only for new keys, before any entry names it.
    pub fn reset(&self, i: u32) {
        self.start_at(i, 0);
    }

    /// Goes on with a counter from a value: before any entry names it.
    pub fn start_at(&self, i: u32, value: u64) {
        if let Some(w) = self.0.word(i as usize) {
            w.store(value, Ordering::Relaxed);
        }
    }
}

/// The buckets of transit rates, from which the kernel's programs take too.
pub struct Buckets(Shared);

impl Buckets {
    /// Maps the `len` words of an mmapable array.
    pub(super) fn map(fd: BorrowedFd<'_>, len: u32) -> Result<Self, XdpError> {
        Shared::map(fd, len as usize).map(Self)
    }

    /// A [`rovy_common::hello::Bucket`]. `None` when there is no such bucket.
    #[must_use]
    pub fn word(&self, i: u32) -> Option<&AtomicU64> {
        self.0.word(i as usize)
    }
}

/// The replay windows, in which the kernel's programs mark too. Each stands at its receiver index's position.
pub struct Windows {
    words: Shared,
    mask: u32,
}

impl Windows {
    /// Maps the windows of `sessions` positions, a power of two.
    pub(super) fn map(fd: BorrowedFd<'_>, sessions: u32) -> Result<Self, XdpError> {
        Ok(Self { words: Shared::map(fd, sessions as usize * WORDS)?, mask: sessions - 1 })
    }

    /// The word `i` of the window of a receiver index.
    fn word(&self, index: u32, i: usize) -> Option<&AtomicU64> {
        let window = (index & self.mask) as usize;
        self.words.word(window * WORDS + i).filter(|_| i < WORDS)
    }

    /// The word as it stands. One that is not there refuses like one that is far ahead.
    #[must_use]
    pub fn load(&self, index: u32, i: usize) -> u64 {
        self.word(index, i).map_or(u64::MAX, |w| w.load(Ordering::Relaxed))
    }

    /// Stores a word: before any program runs that marks in it.
    pub fn store(&self, index: u32, i: usize, word: u64) {
        if let Some(w) = self.word(index, i) {
            w.store(word, Ordering::Relaxed);
        }
    }

    /// Stores `new` where `old` still stands; whether it did.
    #[must_use]
    pub fn exchange(&self, index: u32, i: usize, old: u64, new: u64) -> bool {
        let set = |w: &AtomicU64| w.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        self.word(index, i).is_some_and(set)
    }
}
