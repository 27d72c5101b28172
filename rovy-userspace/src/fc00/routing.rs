//! Address, route, table and rules that lead fc00::/8 into the TUN device.

use std::net::Ipv6Addr;

use super::Fc00Error;
use crate::netlink::Netlink;

/// What [`setup`] made.
#[derive(Debug)]
pub struct Routing {
    netlink: Netlink,
}

/// Sets the device up with the address and leads fc00::/8 into it. What a crashed agent left for this address is
/// replaced.
///
/// # Errors
/// No such device, no permission, or the kernel refused.
pub async fn setup(netlink: &Netlink, ifname: &str, address: Ipv6Addr, mtu: u32) -> Result<Routing, Fc00Error> {
    let _ = (ifname, address, mtu);
    Ok(Routing { netlink: netlink.clone() })
}

impl Routing {
    /// The routing table.
    #[must_use]
    pub fn table(&self) -> u32 {
        todo!()
    }

    /// Changes the MTU of the device.
    ///
    /// # Errors
    /// The device is gone, or the kernel refused.
    pub async fn set_mtu(&self, mtu: u32) -> Result<(), Fc00Error> {
        let _ = (mtu, &self.netlink);
        todo!()
    }

    /// Removes rules and routes. The address goes with the device.
    ///
    /// # Errors
    /// The kernel refused; what is gone already is no error.
    pub async fn teardown(self) -> Result<(), Fc00Error> {
        todo!()
    }
}
