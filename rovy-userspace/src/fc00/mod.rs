//! The host's side of fc00::/8: TUN device, addresses, routes.

use std::io;
use std::net::Ipv6Addr;

use crate::netlink::NetlinkError;

pub mod dns;
pub mod firewall;
mod ioctl;
pub mod namespace;
pub mod offload;
pub mod packet;
pub mod resolver;
pub mod routing;
pub mod stack;
pub mod trace;
pub mod tun;

pub use routing::Routing;
pub use tun::Tun;

/// Why fc00 is not there.
#[derive(Debug, thiserror::Error)]
pub enum Fc00Error {
    /// The kernel has no TUN driver.
    #[error("/dev/net/tun does not exist: `modprobe tun`; in a container, pass the device in")]
    NoTunDevice,
    /// Not enough privileges.
    #[error("no permission to {what}: run as root, or with the capability CAP_NET_ADMIN")]
    Permission {
        /// What was tried.
        what: String,
    },
    /// The name cannot be an interface name.
    #[error("{name:?} is not an interface name: 1 to 15 characters without '/', ':' and white space")]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// An interface of this name exists.
    #[error("the interface name {name} is taken: {state}; choose another name or remove it (`ip link del {name}`)")]
    NameTaken {
        /// What was asked for.
        name: String,
        /// Whose it is, as far as the kernel tells.
        state: String,
    },
    /// No such interface.
    #[error("interface {name} does not exist: it was removed meanwhile")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// No such network namespace.
    #[error("there is no network namespace {name}: `ip netns list`, or give a path such as /proc/PID/ns/net")]
    NoNamespace {
        /// What was asked for.
        name: String,
    },
    /// Not enough privileges to enter it.
    #[error("no permission to enter the network namespace {name}: run as root, or with the capability CAP_SYS_ADMIN")]
    Namespace {
        /// What was asked for.
        name: String,
    },
    /// The agent may not set up a device that somebody else made, and nobody else has.
    #[error(
        "{name} has not the address {address}, and the agent may not set it up: `ip address add {address}/128 dev {name}`, `ip link set {name} up`, `ip route add fc00::/8 dev {name}`"
    )]
    NotSetUp {
        /// The device.
        name: String,
        /// The node's address.
        address: Ipv6Addr,
    },
    /// IPv6 is switched off.
    #[error("IPv6 is switched off for {name}: `sysctl net.ipv6.conf.all.disable_ipv6=0`, and for {name} likewise")]
    NoIpv6 {
        /// The device.
        name: String,
    },
    /// The address is not in fc00::/8.
    #[error("{address} is not in fc00::/8")]
    NotFc00 {
        /// What was given.
        address: Ipv6Addr,
    },
    /// A descriptor that came from elsewhere is something else.
    #[error("the descriptor is not a TUN device: {0}")]
    NotOne(io::Error),
    /// Anything else with the device.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else with addresses, routes and rules.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}
