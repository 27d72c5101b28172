//! The TUN device.

use std::io;

use super::Fc00Error;

/// A TUN device without packet information; one packet a read. It goes with this value.
pub struct Tun {}

impl Tun {
    /// Makes the device `name`. Within a tokio runtime, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No driver, no permission, or the name is taken or not a name.
    pub fn open(name: &str, mtu: u16) -> Result<Self, Fc00Error> {
        let _ = (name, mtu);
        todo!()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        todo!()
    }

    /// Its index.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        todo!()
    }

    /// Waits for a packet from this host and returns its length.
    ///
    /// # Errors
    /// The device was removed.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let _ = buf;
        todo!()
    }

    /// Hands a packet to this host.
    ///
    /// # Errors
    /// The packet is not IP, or the device is down or was removed.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        let _ = packet;
        todo!()
    }

    /// As [`Tun::recv`] without waiting.
    ///
    /// # Errors
    /// `WouldBlock`, or as [`Tun::recv`].
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let _ = buf;
        todo!()
    }

    /// As [`Tun::send`] without waiting.
    ///
    /// # Errors
    /// `WouldBlock`, or as [`Tun::send`].
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        let _ = packet;
        todo!()
    }
}
