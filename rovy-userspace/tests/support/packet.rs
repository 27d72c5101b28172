//! What a program may do with a packet socket that it was given.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

/// Binds a packet socket to all interfaces and all traffic, which takes no privileges.
pub(crate) fn bind_to_all(fd: &OwnedFd) {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads `len` bytes of `address`, which outlives the call.
    let rc = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(rc, 0, "bind: {}", std::io::Error::last_os_error());
}
