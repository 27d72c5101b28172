//! What the TUN driver is told and asked (`linux/if_tun.h`): no safe wrapper has it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_short, ifreq};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A request with this name and these flags. `None` when the name is too long.
fn request(name: &str, flags: c_int) -> Option<ifreq> {
    // SAFETY: all bytes zero is a value of this plain C structure.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero, the end of the name.
    let room = request.ifr_name.get_mut(..libc::IFNAMSIZ - 1)?;
    for (to, from) in room.get_mut(..name.len())?.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as c_short;
    Some(request)
}

fn name(request: &ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8(bytes).unwrap_or_default()
}

/// What is waited for.
const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

fn done(status: c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches an open `/dev/net/tun` to the device of this name with these flags, and makes it if there is none (`TUNSETIFF`).
/// Its name.
pub(super) fn attach(fd: impl AsFd, ifname: &str, flags: c_int) -> io::Result<String> {
    let mut request = request(ifname, flags).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the descriptor is open, and the kernel reads and writes one `ifreq`, which outlives the call.
    done(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(name(&request))
}

/// Name and flags of the device behind a descriptor (`TUNGETIFF`). An error for any other descriptor.
pub(super) fn attached(fd: impl AsFd) -> io::Result<(String, c_int)> {
    let mut request = request("", 0).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the descriptor is open, and the kernel writes one `ifreq`, which outlives the call.
    done(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    // SAFETY: the kernel has filled in this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok((name(&request), c_int::from(flags.cast_unsigned())))
}

/// Which work the host may leave to whoever reads the device (`TUNSETOFFLOAD`): bits `TUN_F_*`.
pub(super) fn set_offload(fd: impl AsFd, bits: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open; the argument is a number.
    done(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(bits)) })
}

/// Bytes of the header in front of packets (`TUNSETVNETHDRSZ`).
pub(super) fn set_header_len(fd: impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = bytes as c_int;
    // SAFETY: the descriptor is open, and the kernel reads one int, which outlives the call.
    done(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) })
}

/// A copy of a descriptor of this process by its number.
pub(super) fn inherited(number: u32) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: of any number, valid or not, the kernel makes a descriptor of its own or an error.
    match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) } {
        // SAFETY: it was just made, and nobody else knows it.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Hands the device to the reactor of the current tokio runtime, errors included: that it is gone is one.
pub(super) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` keeps one open descriptor for as long as it lives, which `AsyncFd` now owns.
    let registered = unsafe { AsyncFd::register_with_interest(fd, INTEREST) };
    registered.map_err(|e| e.into_parts().1)
}
