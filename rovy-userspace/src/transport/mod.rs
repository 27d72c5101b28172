//! The sockets of the underlay: UDP and raw Ethernet.
//!
//! Both fill a [`Batch`] on receipt and try once on sending: what the kernel does not take at once is the
//! caller's to count, bulk packets never wait here.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rovy_common::DropReason;

mod batch;
pub mod ethernet;
mod packet_socket;
mod sockopt;
pub mod udp;

pub use batch::Batch;
pub use ethernet::{EthernetError, EthernetSocket};
pub use udp::UdpSocket;

/// Where a message came from, and where an answer goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// A UDP peer.
    Udp {
        /// Its address and port.
        remote: SocketAddr,
        /// The address of this host the peer sent to, and our source when we answer.
        local: Option<IpAddr>,
    },
    /// A neighbour on an Ethernet segment.
    Ethernet {
        /// The interface of this host.
        ifindex: u32,
        /// The neighbour's MAC address.
        mac: [u8; 6],
    },
}

/// What came with one receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes of each message but the last, where the kernel joined several of one sender (UDP GRO); else `len`.
    pub stride: usize,
    /// The sender.
    pub from: Endpoint,
    /// Local UDP port; 0 on Ethernet.
    pub to_port: u16,
    /// The interface it came in by; 0 when the kernel did not say.
    pub ifindex: u32,
    /// It was sent to a broadcast or multicast address.
    pub broadcast: bool,
    /// ECN bits of the IP header; zero on Ethernet.
    pub ecn: u8,
}

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address and port are taken.
    #[error("UDP {addr} is in use by another program: stop it (see `ss -ulpn`) or listen on another port")]
    InUse {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// This host does not have the address.
    #[error("this host has no address {}: listen on one of its own (see `ip address`) or on a wildcard", addr.ip())]
    NoSuchAddress {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// Not enough privileges.
    #[error("no permission to open {what}: run as root, or with the capability {capability}")]
    Permission {
        /// The socket.
        what: String,
        /// The capability that would do.
        capability: &'static str,
    },
    /// The interface went away meanwhile.
    #[error("interface {ifname} does not exist (any more): see `ip link`")]
    NoInterface {
        /// Its name.
        ifname: String,
    },
    /// A descriptor that came from elsewhere is something else.
    #[error("the descriptor is not {what}, raw and bound to EtherType {ethertype:#06x}")]
    NotOne {
        /// What it should be.
        what: String,
        /// EtherType it should be bound to.
        ethertype: u16,
    },
    /// Anything else.
    #[error("cannot open {what}: {source}")]
    Io {
        /// The socket.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The reason to count a message under that a socket did not take.
#[must_use]
pub fn drop_reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => DropReason::TooBig,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::QueueFull,
        Some(libc::EACCES | libc::EPERM) => DropReason::NotAllowed,
        _ => DropReason::EgressDown,
    }
}
