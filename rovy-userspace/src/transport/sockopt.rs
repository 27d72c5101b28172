//! The one socket option that no safe wrapper sets.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `UDP_NO_CHECK6_RX` of `linux/udp.h`.
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// Takes UDP datagrams without a checksum over IPv6 too (RFC 6936); over IPv4 they always are.
pub(super) fn accept_zero_checksums(fd: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and the kernel reads `len` bytes of `on`, which outlives the call.
    match unsafe { libc::setsockopt(fd, libc::SOL_UDP, UDP_NO_CHECK6_RX, (&raw const on).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
