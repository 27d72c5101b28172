//! Time as the core sees it: given with every input.

use std::time::Duration;

/// Bytes of a TAI64N label.
pub const TAI64N_LEN: usize = 12;

/// The moment of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Nanoseconds of the monotonic clock, the one the kernel checks key expiry against.
    pub mono_ns: u64,
    /// Time since the Unix epoch; only handshake timestamps use it.
    pub wall: Duration,
}

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// The TAI64N label of a time since the Unix epoch, big-endian as published (cr.yp.to/libtai/tai64.html); leap seconds are
/// left out, as only the order counts.
#[must_use]
pub fn tai64n(wall: Duration) -> [u8; TAI64N_LEN] {
    let mut out = [0; TAI64N_LEN];
    out[..8].copy_from_slice(&(0x4000_0000_0000_000a_u64 + wall.as_secs()).to_be_bytes());
    out[8..].copy_from_slice(&wall.subsec_nanos().to_be_bytes());
    out
}
