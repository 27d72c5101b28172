//! Messages in raw Ethernet frames of one interface.

use std::io;

use super::{Batch, TransportError};

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

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
pub struct EthernetSocket {}

impl EthernetSocket {
    /// Opens it. `mac` is the interface's own address, the source of all frames. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No permission (CAP_NET_RAW), no such interface, or the kernel refused.
    pub fn open(ifindex: u32, ifname: &str, mac: [u8; 6], ethertype: u16) -> Result<Self, TransportError> {
        let _ = (ifindex, ifname, mac, ethertype);
        todo!()
    }

    /// The interface.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        todo!()
    }

    /// Its name when the socket was opened.
    #[must_use]
    pub fn ifname(&self) -> &str {
        todo!()
    }

    /// The source address of the frames it sends.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        todo!()
    }

    /// Waits for frames to this node or to all; the buffers hold what follows the Ethernet header, padding included.
    /// Returns how many buffers are filled, at least one.
    ///
    /// # Errors
    /// The interface went down or away, or the kernel refused.
    pub async fn recv(&self, batch: &mut Batch) -> Result<usize, EthernetError> {
        let _ = batch;
        todo!()
    }

    /// Takes what is there; 0 when nothing is.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn try_recv(&self, batch: &mut Batch) -> Result<usize, EthernetError> {
        let _ = batch;
        todo!()
    }

    /// Sends one message to `dst`, which may be [`BROADCAST`]. Never waits.
    ///
    /// # Errors
    /// The interface is down or gone, or the kernel did not take it (`EMSGSIZE`, `ENOBUFS`, `EAGAIN`).
    pub fn send(&self, dst: [u8; 6], message: &[u8]) -> Result<(), EthernetError> {
        let _ = (dst, message);
        todo!()
    }
}
