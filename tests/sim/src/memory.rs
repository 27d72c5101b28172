//! How many bytes this thread holds: the allocator counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Bytes allocated by this thread and not freed by it. Only differences mean something.
pub(crate) fn held() -> i64 {
    HELD.try_with(Cell::get).unwrap_or(0)
}

fn count(bytes: usize, sign: i64) {
    // A thread that ends may still free: nobody asks it any more.
    let _ = HELD.try_with(|held| held.set(held.get() + sign * bytes as i64));
}

/// The system's allocator, counted. Every build of the simulator uses it.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator with the arguments as they came, so its promises are this one's; counting
// neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: `at` came from `System` by one of the others, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: `at` came from `System` by one of the others, with this layout; `size` is the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let before = super::held();
        let mut bytes = vec![0_u8; 1000];
        assert_eq!(super::held() - before, 1000);
        bytes.reserve_exact(4000);
        assert_eq!(super::held() - before, 5000);
        drop(bytes);
        assert_eq!(super::held(), before);
    }
}
