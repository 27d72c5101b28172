//! The TUN device.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tun_rs::{AsyncDevice, DeviceBuilder, Layer, SyncDevice};

use super::{Fc00Error, given};

/// A TUN device without packet information; one packet a read. It goes with this value.
///
/// Segmentation offloads (`IFF_VNET_HDR`) are off; with them reads and writes would carry a header and many segments.
pub struct Tun {
    device: AsyncDevice,
    name: String,
    ifindex: u32,
}

impl std::fmt::Debug for Tun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tun").field("name", &self.name).field("ifindex", &self.ifindex).finish_non_exhaustive()
    }
}

impl Tun {
    /// Makes the device `name`, down and without addresses. Within a tokio runtime, in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// No driver, no permission, or the name is taken or not a name.
    pub fn open(name: &str, mtu: u16) -> Result<Self, Fc00Error> {
        let Made { device, name } = Made::new(name, mtu)?;
        AsyncDevice::new(device).and_then(Self::over).map_err(|source| look(&name, source))
    }

    /// Uses the device that another process made, as by [`Made::new`].
    ///
    /// # Errors
    /// The descriptor is something else, and is closed.
    pub fn given(device: OwnedFd) -> Result<Self, Fc00Error> {
        given::device(device).and_then(Self::over).map_err(Fc00Error::NotOne)
    }

    fn over(device: AsyncDevice) -> io::Result<Self> {
        let (name, ifindex) = (device.name()?, device.if_index()?);
        Ok(Self { device, name, ifindex })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Waits for a packet from this host and returns its length. What does not fit `buf` is cut.
    ///
    /// # Errors
    /// The device was removed.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buf).await
    }

    /// Hands a packet to this host.
    ///
    /// # Errors
    /// The packet is not IP, or the device is down or was removed.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.device.send(packet).await.map(drop)
    }

    /// As [`Tun::recv`] without waiting.
    ///
    /// # Errors
    /// `WouldBlock`, or as [`Tun::recv`].
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.device.try_recv(buf)
    }

    /// As [`Tun::send`] without waiting.
    ///
    /// # Errors
    /// `WouldBlock`, or as [`Tun::send`].
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        self.device.try_send(packet).map(drop)
    }
}

fn look(name: &str, source: io::Error) -> Fc00Error {
    Fc00Error::Io { what: format!("look at the TUN device {name}"), source }
}

/// A TUN device that this process does not read: it is made for another one. It goes with this value, unless the other process
/// has it by then.
pub struct Made {
    device: SyncDevice,
    name: String,
}

impl Made {
    /// Makes the device `name`, down and without addresses, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No driver, no permission, or the name is taken or not a name.
    pub fn new(name: &str, mtu: u16) -> Result<Self, Fc00Error> {
        if !is_interface_name(name) {
            return Err(Fc00Error::BadName { name: name.to_owned() });
        }
        let taken = |state: &str| Fc00Error::NameTaken { name: name.to_owned(), state: state.to_owned() };
        let existed = exists(name);
        let device = DeviceBuilder::new().name(name).layer(Layer::L3).mtu(mtu).enable(false).build_sync();
        let device = device.map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Fc00Error::NoTunDevice,
            Some(libc::EACCES | libc::EPERM) => Fc00Error::Permission { what: format!("make the TUN device {name}") },
            Some(libc::EBUSY) => taken("a TUN device that another process uses, maybe another agent"),
            Some(libc::EINVAL) if existed => taken("an interface that is not a TUN device"),
            _ => Fc00Error::Io { what: format!("make the TUN device {name}"), source },
        })?;
        if existed {
            return Err(taken("a persistent TUN device that no process uses"));
        }
        let name = device.name().map_err(|source| look(name, source))?;
        Ok(Self { device, name })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another descriptor of the device.
    ///
    /// # Errors
    /// This process has too many.
    pub fn descriptor(&self) -> Result<OwnedFd, Fc00Error> {
        self.device.as_fd().try_clone_to_owned().map_err(|source| look(&self.name, source))
    }
}

/// What the kernel takes (`dev_valid_name`), but not the patterns it would complete to a name.
fn is_interface_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
    (1..=15).contains(&name.len()) && name.bytes().all(ok) && name != "." && name != ".."
}

/// Asks by system call: `/sys/class/net` may show another network namespace.
fn exists(name: &str) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.is_ok_and(|s| netdevice::name_to_index(&s, name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["rovy0", "a", "fifteen-letters", "x.y_z@1"] {
            assert!(is_interface_name(good), "{good}");
        }
        for bad in ["", "sixteen-letters!", ".", "..", "a/b", "a b", "a:b", "rovy%d", "rövy", "a\0"] {
            assert!(!is_interface_name(bad), "{bad}");
        }
    }
}
