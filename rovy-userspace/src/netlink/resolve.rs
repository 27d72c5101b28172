//! From a UDP endpoint to the frame that reaches it: egress interface, MAC addresses, source address.

use std::net::IpAddr;

use rovy_common::encap::Macs;

use super::{Netlink, NetlinkError};

/// How to reach a UDP endpoint on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Underlay {
    /// The egress interface.
    pub ifindex: u32,
    /// Its name.
    pub ifname: String,
    /// Next hop's and own MAC address.
    pub macs: Macs,
    /// Own address to send from.
    pub src: IpAddr,
    /// Largest IP packet on the way as far as known, bytes.
    pub mtu: u32,
}

/// Why there is no [`Underlay`].
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The routing table knows no way.
    #[error("no route to {remote}: see `ip route get {remote}`")]
    NoRoute {
        /// Where to.
        remote: IpAddr,
    },
    /// The next hop's MAC address is not known yet: send it anything, and retry on its [`super::Change::Neighbour`].
    #[error("the MAC address of {next_hop} on {ifname} is not known yet")]
    NoNeighbour {
        /// The egress interface.
        ifindex: u32,
        /// Its name.
        ifname: String,
        /// The gateway, or the remote itself where it is on the segment.
        next_hop: IpAddr,
        /// Own address to send from.
        src: Option<IpAddr>,
    },
    /// The way does not leave through Ethernet: loopback, a tunnel.
    #[error("the way to {remote} leaves through {ifname}, which is not Ethernet")]
    NotEthernet {
        /// Where to.
        remote: IpAddr,
        /// The egress interface.
        ifname: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl Netlink {
    /// Finds the way to `remote`, from the own address `local` if given.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn resolve(&self, remote: IpAddr, local: Option<IpAddr>) -> Result<Underlay, ResolveError> {
        self.resolve_on(remote, local, None).await
    }

    /// As [`Netlink::resolve`], out of the interface `ifindex`: link-local addresses need it.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn resolve_on(
        &self,
        remote: IpAddr,
        local: Option<IpAddr>,
        ifindex: Option<u32>,
    ) -> Result<Underlay, ResolveError> {
        let _ = (remote, local, ifindex);
        todo!()
    }
}
