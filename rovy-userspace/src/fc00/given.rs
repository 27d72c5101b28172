//! A TUN device that another process made.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};

use tun_rs::AsyncDevice;

/// Registers the device with the current tokio runtime. Anything but a TUN or TAP device without segmentation offloads is
/// refused, and closed.
pub(super) fn device(fd: OwnedFd) -> io::Result<AsyncDevice> {
    // SAFETY: the descriptor is open and passes to the device, which closes it, also where it fails. That it is a TUN device
    // is asked of the kernel there (`TUNGETIFF`); packet information in front of packets would only make them invalid.
    unsafe { AsyncDevice::from_fd(fd.into_raw_fd()) }
}
