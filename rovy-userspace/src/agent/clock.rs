//! The clocks the core is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::core::Now;

/// The monotonic clock in ns, the one the kernel's XDP programs compare key expiry with.
pub(super) fn mono_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Both clocks.
pub(super) fn now() -> Now {
    // A clock before 1970 counts as 1970: the core never lets its timestamps go back.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now { mono_ns: mono_ns(), wall }
}
