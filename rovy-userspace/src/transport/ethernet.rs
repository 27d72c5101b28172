//! Messages in raw Ethernet frames of one interface.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use pnet::packet::ethernet::{EtherType, EthernetPacket, MutableEthernetPacket};
use pnet::util::MacAddr;
use rovy_common::encap::ETH;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::packet_socket::{self, Audience, Frame};
use super::{Batch, Endpoint, Received, TransportError};

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// The group that beacons are sent to: local, multicast, and `rovy`.
pub const NODES: [u8; 6] = *b"\x03rovy\x01";

/// Why a frame was not received or sent.
#[derive(Debug, thiserror::Error)]
pub enum EthernetError {
    /// The interface is down; the socket works again when it comes up.
    #[error("interface {ifname} is down: `ip link set {ifname} up`")]
    Down {
        /// Its name.
        ifname: String,
    },
    /// The interface was removed; this socket is of no further use.
    #[error("interface {ifname} was removed")]
    Gone {
        /// Its name.
        ifname: String,
    },
    /// Anything else; [`super::drop_reason`] sorts it.
    #[error("interface {ifname}: {source}")]
    Io {
        /// Its name.
        ifname: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A packet socket bound to one interface and EtherType.
#[derive(Debug)]
pub struct EthernetSocket {
    fd: AsyncFd<OwnedFd>,
    ifindex: u32,
    ifname: String,
    /// The lower six bytes, the first of the address on top.
    mac: AtomicU64,
    ethertype: u16,
    /// The kernel reported that the interface went down, and nothing came in since.
    down: AtomicBool,
}

/// Bytes of the kernel's buffers.
const BUFFER: usize = 8 << 20;
/// An interface that is removed goes down first, and only that wakes a waiting socket: how often to look meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

fn what(ifname: &str) -> String {
    format!("a packet socket on {ifname}")
}

fn word([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// A raw packet socket of an interface and EtherType with large buffers, of use to [`EthernetSocket::given`].
///
/// # Errors
/// As [`EthernetSocket::open`].
pub fn raw(ifindex: u32, ifname: &str, ethertype: u16) -> Result<OwnedFd, TransportError> {
    let fd = packet_socket::open(ifindex, ethertype).map_err(|source| match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            TransportError::Permission { what: what(ifname), capability: "CAP_NET_RAW" }
        }
        Some(libc::ENODEV | libc::ENXIO) => TransportError::NoInterface { ifname: ifname.to_owned() },
        _ => TransportError::Io { what: what(ifname), source },
    })?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&fd, BUFFER);
    Ok(fd)
}

/// As [`raw`], for a process with less privileges: the socket brings frames of this EtherType and never any others, however it
/// is bound. It can send whatever its holder wants.
///
/// # Errors
/// As [`raw`].
pub fn raw_for_others(ifindex: u32, ifname: &str, ethertype: u16) -> Result<OwnedFd, TransportError> {
    let fd = raw(ifindex, ifname, ethertype)?;
    packet_socket::lock_to(&fd, ethertype).map_err(|source| TransportError::Io { what: what(ifname), source })?;
    Ok(fd)
}

impl EthernetSocket {
    /// Opens it. `mac` is the interface's own address, the source of all frames. Must be called within a tokio runtime
    /// that has timers.
    ///
    /// # Errors
    /// No permission (CAP_NET_RAW), no such interface, or the kernel refused.
    pub fn open(ifindex: u32, ifname: &str, mac: [u8; 6], ethertype: u16) -> Result<Self, TransportError> {
        let fd = raw(ifindex, ifname, ethertype)?;
        Self::register(fd, ifindex, ifname, mac, ethertype)
    }

    /// Uses the socket that another process opened with [`raw`], as [`EthernetSocket::open`] would.
    ///
    /// # Errors
    /// It is no raw packet socket bound to the interface and EtherType.
    pub fn given(
        fd: OwnedFd,
        ifindex: u32,
        ifname: &str,
        mac: [u8; 6],
        ethertype: u16,
    ) -> Result<Self, TransportError> {
        if packet_socket::bound(&fd) != Some((ethertype, ifindex)) {
            return Err(TransportError::NotOne { what: what(ifname), ethertype });
        }
        rustix::io::ioctl_fionbio(&fd, true)
            .map_err(|e| TransportError::Io { what: what(ifname), source: e.into() })?;
        Self::register(fd, ifindex, ifname, mac, ethertype)
    }

    fn register(fd: OwnedFd, ifindex: u32, ifname: &str, mac: [u8; 6], ethertype: u16) -> Result<Self, TransportError> {
        packet_socket::join(&fd, ifindex, NODES).map_err(|source| TransportError::Io { what: what(ifname), source })?;
        let fd = packet_socket::register(fd).map_err(|source| TransportError::Io { what: what(ifname), source })?;
        let mac = AtomicU64::new(word(mac));
        Ok(Self { fd, ifindex, ifname: ifname.to_owned(), mac, ethertype, down: AtomicBool::new(false) })
    }

    /// The interface.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Its name when the socket was opened.
    #[must_use]
    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    /// The source address of the frames it sends.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let [_, _, mac @ ..] = self.mac.load(Ordering::Relaxed).to_be_bytes();
        mac
    }

    /// Frames leave with this source address from now on: the interface has it now.
    pub fn set_mac(&self, mac: [u8; 6]) {
        self.mac.store(word(mac), Ordering::Relaxed);
    }

    /// Waits for frames to this node or to all; the buffers hold what follows the Ethernet header, padding included.
    /// Returns how many buffers are filled, at least one.
    ///
    /// # Errors
    /// The interface went down, reported once, or away, or the kernel refused.
    pub async fn recv(&self, batch: &mut Batch) -> Result<usize, EthernetError> {
        loop {
            let ready = self.fd.ready(Interest::READABLE | Interest::ERROR);
            let mut guard = if self.down.load(Ordering::Relaxed) {
                match tokio::time::timeout(LOOK_AGAIN, ready).await {
                    Ok(guard) => guard,
                    Err(_) if self.orphaned() => return Err(self.gone()),
                    Err(_) => continue,
                }
            } else {
                ready.await
            }
            .map_err(|e| self.problem(e))?;
            let drained = self.fill(batch)?;
            if drained {
                guard.clear_ready();
            }
            match batch.received().len() {
                0 => {}
                filled => return Ok(filled),
            }
        }
    }

    /// Takes what is there; 0 when nothing for this node is.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn try_recv(&self, batch: &mut Batch) -> Result<usize, EthernetError> {
        self.fill(batch)?;
        Ok(batch.received().len())
    }

    /// Whether nothing is left. Others' frames on a promiscuous interface must not keep the caller from its other work:
    /// it gives up after some of them.
    fn fill(&self, batch: &mut Batch) -> Result<bool, EthernetError> {
        batch.clear();
        let mut header = [0; ETH];
        for _ in 0..2 * batch.buffers.len() {
            let Some(buffer) = batch.next_buffer() else { break };
            match packet_socket::receive(self.fd.get_ref(), &mut header, buffer) {
                Ok(frame) => {
                    self.down.store(false, Ordering::Relaxed);
                    if let Some(received) = self.received(&frame, &header) {
                        batch.keep(batch.received().len(), received);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(self.problem(e)),
            }
        }
        Ok(false)
    }

    /// `None` for frames that are not for this node.
    fn received(&self, frame: &Frame, header: &[u8; ETH]) -> Option<Received> {
        let broadcast = match frame.audience {
            Audience::Us => false,
            Audience::Broadcast | Audience::Multicast => true,
            Audience::Others => return None,
        };
        let mac = EthernetPacket::new(header)?.get_source().octets();
        let len = frame.len.checked_sub(ETH)?;
        Some(Received {
            len,
            stride: if frame.truncated { usize::MAX } else { len },
            from: Endpoint::Ethernet { ifindex: self.ifindex, mac },
            to_port: 0,
            ifindex: self.ifindex,
            broadcast,
            ecn: 0,
        })
    }

    /// Sends one message to `dst`, which may be [`BROADCAST`]. Never waits.
    ///
    /// # Errors
    /// The interface is down or gone, or the kernel did not take it (`EMSGSIZE`, `ENOBUFS`, `EAGAIN`).
    pub fn send(&self, dst: [u8; 6], message: &[u8]) -> Result<(), EthernetError> {
        self.send_run(dst, message, message.len()).map_err(|(_, e)| e)
    }

    /// As [`Self::send`], messages of `size` bytes, which stand one behind the other in `bytes`; the last may be shorter.
    ///
    /// # Errors
    /// How many were not sent, and why.
    pub fn send_run(&self, dst: [u8; 6], bytes: &[u8], size: usize) -> Result<(), (usize, EthernetError)> {
        let mut head = [0; ETH];
        let Some(mut header) = MutableEthernetPacket::new(&mut head) else { return Ok(()) };
        header.set_destination(MacAddr::from(dst));
        header.set_source(MacAddr::from(self.mac()));
        header.set_ethertype(EtherType(self.ethertype));
        let mut messages: ArrayVec<&[u8], { packet_socket::MANY }> = ArrayVec::new();
        let mut rest = bytes.chunks(size.max(1)).peekable();
        while rest.peek().is_some() {
            messages.clear();
            messages.extend(rest.by_ref().take(packet_socket::MANY));
            if let Err((sent, e)) = packet_socket::send_all(self.fd.get_ref(), &head, &messages) {
                return Err((messages.len() - sent + rest.count(), self.problem(e)));
            }
        }
        Ok(())
    }

    fn orphaned(&self) -> bool {
        packet_socket::orphaned(self.fd.get_ref())
    }

    fn gone(&self) -> EthernetError {
        EthernetError::Gone { ifname: self.ifname.clone() }
    }

    fn problem(&self, source: io::Error) -> EthernetError {
        match source.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV) => self.gone(),
            Some(libc::ENETDOWN) => {
                self.down.store(true, Ordering::Relaxed);
                if self.orphaned() { self.gone() } else { EthernetError::Down { ifname: self.ifname.clone() } }
            }
            _ => EthernetError::Io { ifname: self.ifname.clone(), source },
        }
    }
}
