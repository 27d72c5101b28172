//! The counters of type 6, shared with the programs: memory that no map update ever writes.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::XdpError;

/// An array of counters in memory that the kernel's programs add to as well.
pub struct Counters {
    map: MmapRaw,
    len: u32,
}

impl Counters {
    /// Maps the `len` words of an mmapable array.
    pub(super) fn map(fd: BorrowedFd<'_>, len: u32) -> Result<Self, XdpError> {
        // The kernel rounds up to whole pages itself.
        let map = MmapOptions::new().len(len as usize * 8).map_raw(fd.as_raw_fd()).map_err(XdpError::Counters)?;
        Ok(Self { map, len })
    }

    fn word(&self, i: u32) -> Option<&AtomicU64> {
        if i >= self.len {
            return None;
        }
        let at = self.map.as_mut_ptr().cast::<u64>().wrapping_add(i as usize);
        // SAFETY: the word lies inside the mapping, which is page-aligned and lives as long as `self`; everybody,
        // the kernel included, touches it by atomic operations of one word only.
        Some(unsafe { AtomicU64::from_ptr(at) })
    }

    /// Draws the next value of a counter, which nobody else gets. `None` when there is no such counter.
    #[must_use]
    pub fn draw(&self, i: u32) -> Option<u64> {
        self.word(i).map(|w| w.fetch_add(1, Ordering::Relaxed))
    }

    /// The value that would be drawn next. `None` when there is no such counter.
    #[must_use]
    pub fn peek(&self, i: u32) -> Option<u64> {
        self.word(i).map(|w| w.load(Ordering::Relaxed))
    }

    /// Starts a counter again at zero: only for new keys, before any entry names it.
    pub fn reset(&self, i: u32) {
        if let Some(w) = self.word(i) {
            w.store(0, Ordering::Relaxed);
        }
    }
}
