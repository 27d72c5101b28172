//! The TUN device.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};

use libc::c_int;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::offload::{HEADER_LEN, Offloads};
use super::{Fc00Error, ioctl};

/// A TUN device without packet information: one packet a read and write, large ones included where offloads are on. It goes
/// with this value, unless it is persistent.
pub struct Tun {
    io: AsyncFd<OwnedFd>,
    name: String,
    ifindex: u32,
    offloads: Offloads,
    /// A [`super::offload::Header`] stands in front of each packet.
    headers: bool,
}

impl std::fmt::Debug for Tun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tun").field("name", &self.name).field("ifindex", &self.ifindex).finish_non_exhaustive()
    }
}

impl Tun {
    /// Makes the device `name`, down and without addresses. Within a tokio runtime, in the network namespace of the
    /// calling thread. The kernel may have fewer offloads than are wanted.
    ///
    /// # Errors
    /// No driver, no permission, or the name is taken or not a name.
    pub fn open(name: &str, offloads: Offloads) -> Result<Self, Fc00Error> {
        Self::of(Made::new(name)?, offloads)
    }

    /// Uses a device that is there already, and that no other process holds.
    ///
    /// # Errors
    /// There is none, it is no TUN device, or not this user's.
    pub fn existing(name: &str, offloads: Offloads) -> Result<Self, Fc00Error> {
        Self::of(Made::existing(name)?, offloads)
    }

    fn of(Made { device, name }: Made, offloads: Offloads) -> Result<Self, Fc00Error> {
        Self::over(device, offloads).map_err(|source| look(&name, source))
    }

    /// Uses the device that another process made, as by [`Made::new`], or without offloads.
    ///
    /// # Errors
    /// The descriptor is something else, and is closed.
    pub fn given(device: OwnedFd, offloads: Offloads) -> Result<Self, Fc00Error> {
        Self::over(device, offloads).map_err(Fc00Error::NotOne)
    }

    fn over(device: OwnedFd, wanted: Offloads) -> io::Result<Self> {
        let (name, flags) = ioctl::attached(&device)?;
        if flags & libc::IFF_TUN == 0 {
            return Err(io::Error::other("it is a TAP device"));
        }
        rustix::io::ioctl_fionbio(&device, true)?;
        let headers = flags & libc::IFF_VNET_HDR != 0;
        let offloads = if headers { switch(&device, wanted)? } else { Offloads::NONE };
        // In another network namespace there is none, or another device of this name.
        let ifindex = index(&name).unwrap_or(0);
        Ok(Self { io: ioctl::register(device)?, name, ifindex, offloads, headers })
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

    /// The offloads in use.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Waits for a packet from this host and returns its length. What does not fit `buf` is cut. `header` tells what it stands
    /// for.
    ///
    /// # Errors
    /// The device was removed.
    pub async fn read(&self, header: &mut [u8; HEADER_LEN], buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.io.ready(Interest::READABLE | Interest::ERROR).await?;
            if let Ok(done) = ready.try_io(|io| self.receive(io.get_ref(), header, buf)) {
                return done;
            }
        }
    }

    /// As [`Tun::read`] without waiting.
    ///
    /// # Errors
    /// `WouldBlock`, or as [`Tun::read`].
    pub fn try_read(&self, header: &mut [u8; HEADER_LEN], buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_io(Interest::READABLE, |io| self.receive(io, header, buf))
    }

    fn receive(&self, io: &OwnedFd, header: &mut [u8; HEADER_LEN], buf: &mut [u8]) -> io::Result<usize> {
        if !self.headers {
            *header = [0; HEADER_LEN];
            return Ok(rustix::io::read(io, buf)?);
        }
        let n = rustix::io::readv(io, &mut [IoSliceMut::new(header), IoSliceMut::new(buf)])?;
        n.checked_sub(HEADER_LEN).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Hands a packet to this host, without waiting. `header` tells what it stands for; without offloads it is not told.
    ///
    /// # Errors
    /// `WouldBlock`; the packet is not IP, or the device is down or was removed.
    pub fn try_write(&self, header: &[u8; HEADER_LEN], packet: &[u8]) -> io::Result<()> {
        let parts = [IoSlice::new(header), IoSlice::new(packet)];
        let parts = if self.headers { &parts[..] } else { &parts[1..] };
        rustix::io::writev(self.io.get_ref(), parts)?;
        Ok(())
    }
}

/// Turns on what is wanted and what the kernel has. UDP came with kernel 6.2, both ways at once.
fn switch(device: &OwnedFd, wanted: Offloads) -> io::Result<Offloads> {
    ioctl::set_header_len(device, HEADER_LEN)?;
    let wanted = wanted.sane();
    let bits = |o: Offloads| {
        let bit = |on: bool, bits| if on { bits } else { 0 };
        bit(o.csum, libc::TUN_F_CSUM)
            | bit(o.tso, libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN)
            | bit(o.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6)
    };
    let udp = Offloads { uso: true, ..Offloads::ALL };
    let new = ioctl::set_offload(device, bits(udp)).is_ok();
    let have = Offloads { uso: wanted.uso && new, gro_udp: wanted.gro_udp && new, ..wanted };
    ioctl::set_offload(device, bits(have))?;
    Ok(have)
}

fn look(name: &str, source: io::Error) -> Fc00Error {
    Fc00Error::Io { what: format!("look at the TUN device {name}"), source }
}

/// A TUN device that this process does not read: it is made for another one. It goes with this value, unless the other process
/// has it by then or it is persistent.
pub struct Made {
    device: OwnedFd,
    name: String,
}

/// One packet a read, no packet information, a header that tells of offloads.
const FLAGS: c_int = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

impl Made {
    /// Makes the device `name`, down and without addresses, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No driver, no permission, or the name is taken or not a name.
    pub fn new(name: &str) -> Result<Self, Fc00Error> {
        Self::attach(name, libc::IFF_TUN_EXCL)
    }

    /// Takes the TUN device `name`, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// There is none, it is another process's or user's, or no TUN device.
    pub fn existing(name: &str) -> Result<Self, Fc00Error> {
        if !exists(name) {
            return Err(Fc00Error::NoInterface { name: name.to_owned() });
        }
        Self::attach(name, 0)
    }

    fn attach(name: &str, exclusive: c_int) -> Result<Self, Fc00Error> {
        if !is_interface_name(name) {
            return Err(Fc00Error::BadName { name: name.to_owned() });
        }
        let taken = |state: &str| Fc00Error::NameTaken { name: name.to_owned(), state: state.to_owned() };
        let new = exclusive != 0;
        let verb = if new { "make" } else { "use" };
        let attach = |flags| {
            let device = File::options().read(true).write(true).open("/dev/net/tun")?;
            ioctl::attach(&device, name, flags).map(|name| Self { device: device.into(), name })
        };
        let mut made = attach(FLAGS | exclusive);
        if new && made.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY)) {
            // Whose it is shows when it is not to be a new one.
            made = attach(FLAGS);
            if made.is_ok() {
                return Err(taken("a persistent TUN device that no process uses (`--existing` takes it)"));
            }
        }
        made.map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Fc00Error::NoTunDevice,
            Some(libc::EACCES | libc::EPERM) => Fc00Error::Permission { what: format!("{verb} the TUN device {name}") },
            Some(libc::EBUSY) => taken("a TUN device that another process uses, maybe another agent"),
            Some(libc::EINVAL) => taken("an interface that is not a TUN device with one queue"),
            _ => Fc00Error::Io { what: format!("{verb} the TUN device {name}"), source },
        })
    }

    /// The device behind a descriptor that this process was started with.
    ///
    /// # Errors
    /// It is not open, or no TUN device.
    pub fn inherited(number: u32) -> Result<Self, Fc00Error> {
        let device = ioctl::inherited(number).map_err(Fc00Error::NotOne)?;
        let (name, _) = ioctl::attached(&device).map_err(Fc00Error::NotOne)?;
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
fn index(name: &str) -> io::Result<u32> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(netdevice::name_to_index(&socket, name)?)
}

fn exists(name: &str) -> bool {
    index(name).is_ok()
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
