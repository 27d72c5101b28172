//! A UDP socket with packet information, batches and zero checksums.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::{Batch, TransportError};

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocket {}

impl UdpSocket {
    /// Binds to `addr`; IPv6 sockets take IPv6 only. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address is taken or not this host's, or the kernel refused.
    pub fn bind(addr: SocketAddr) -> Result<Self, TransportError> {
        let _ = addr;
        todo!()
    }

    /// The address it is bound to, with the port the kernel chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// Waits for messages. Returns how many buffers of `batch` are filled, at least one.
    ///
    /// # Errors
    /// Only what leaves the socket unusable; ICMP errors do not.
    pub async fn recv(&self, batch: &mut Batch) -> io::Result<usize> {
        let _ = batch;
        todo!()
    }

    /// Takes what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, otherwise as [`Self::recv`].
    pub fn try_recv(&self, batch: &mut Batch) -> io::Result<usize> {
        let _ = batch;
        todo!()
    }

    /// Sends one datagram, from the address `from` of this host if given. Never waits.
    ///
    /// # Errors
    /// What the kernel said; [`super::drop_reason`] sorts it.
    pub fn send(&self, to: SocketAddr, from: Option<IpAddr>, message: &[u8]) -> io::Result<()> {
        let _ = (to, from, message);
        todo!()
    }
}
