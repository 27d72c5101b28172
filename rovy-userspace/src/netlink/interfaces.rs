//! The interfaces of this host, and which of them can carry an Ethernet listener.

use std::net::IpAddr;

use super::{Netlink, NetlinkError};

/// How an XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpAttached {
    /// In the driver.
    Native,
    /// In the generic hook.
    Generic,
    /// In the device.
    Hardware,
    /// In several places.
    Multiple,
}

/// What an interface is enslaved to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Master {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind: bridge, bond, vrf, ...; empty when the kernel does not say.
    pub kind: String,
}

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its own MAC address, where it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Largest packet behind the Ethernet header, bytes.
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// Something is at the other end.
    pub carrier: bool,
    /// It carries Ethernet frames and is neither loopback nor TUN.
    pub ethernet: bool,
    /// What it is enslaved to.
    pub master: Option<Master>,
    /// veth, bridge, vlan, ...; `None` for hardware.
    pub kind: Option<String>,
    /// Its addresses, IPv4 first.
    pub addrs: Vec<IpAddr>,
    /// It is a wireless interface.
    pub wireless: bool,
    /// The XDP program attached to it: how, and its id.
    pub xdp: Option<(XdpAttached, u32)>,
}

/// Why an interface cannot carry an Ethernet listener. The text names those that can.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenerProblem {
    /// No interface has this name.
    #[error("there is no interface {name}; {usable}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names of usable interfaces, as a sentence.
        usable: String,
    },
    /// It is down.
    #[error("interface {name} is down: `ip link set {name} up`; {usable}")]
    Down {
        /// What was asked for.
        name: String,
        /// Names of usable interfaces, as a sentence.
        usable: String,
    },
    /// It does not carry Ethernet frames.
    #[error("interface {name} is not Ethernet; {usable}")]
    NotEthernet {
        /// What was asked for.
        name: String,
        /// Names of usable interfaces, as a sentence.
        usable: String,
    },
    /// It belongs to a bridge, bond or the like, which takes its frames.
    #[error("interface {name} belongs to {kind} {master}: listen on {master} instead; {usable}")]
    Enslaved {
        /// What was asked for.
        name: String,
        /// The interface it belongs to.
        master: String,
        /// What that is.
        kind: String,
        /// Names of usable interfaces, as a sentence.
        usable: String,
    },
}

impl Netlink {
    /// All interfaces, by index.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, NetlinkError> {
        todo!()
    }
}

/// The interface `name`, if it can carry an Ethernet listener.
///
/// # Errors
/// Why it cannot.
pub fn check_ethernet_listener<'a>(interfaces: &'a [Interface], name: &str) -> Result<&'a Interface, ListenerProblem> {
    let _ = (interfaces, name);
    todo!()
}
