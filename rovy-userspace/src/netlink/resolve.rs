//! From a UDP endpoint to the frame that reaches it: egress interface, MAC addresses, source address.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use rovy_common::encap::Macs;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};

/// How to reach a UDP endpoint on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Underlay {
    /// The egress interface.
    pub ifindex: u32,
    /// Its name.
    pub ifname: String,
    /// The gateway, or the remote itself where it is on the segment.
    pub next_hop: IpAddr,
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
        let route = self.route(remote, local, ifindex).await?;
        let not_ethernet = |ifname: &str| ResolveError::NotEthernet { remote, ifname: ifname.to_owned() };
        let Some(egress) = self.interface(route.ifindex).await? else {
            return Err(ResolveError::NoRoute { remote });
        };
        let (true, false, Some(mac)) = (egress.ethernet, route.local, egress.mac) else {
            return Err(not_ethernet(&egress.name));
        };
        let next_hop = route.gateway.unwrap_or(remote);
        let src = local.or(route.src);
        let neighbour = self.neighbour(route.ifindex, next_hop).await?;
        let (Some(dst), Some(src)) = (neighbour, src) else {
            return Err(ResolveError::NoNeighbour { ifindex: route.ifindex, ifname: egress.name, next_hop, src });
        };
        let mtu = route.mtu.map_or(egress.mtu, |m| m.min(egress.mtu));
        let macs = Macs { dst, src: mac };
        Ok(Underlay { ifindex: route.ifindex, ifname: egress.name, next_hop, macs, src, mtu })
    }

    /// Makes the kernel find or confirm the MAC address of a neighbour, as sending to it would: a link that the kernel
    /// forwards on by itself never does. The outcome comes as a [`super::Change::Neighbour`].
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn probe_neighbour(&self, ifindex: u32, addr: IpAddr) -> Result<(), NetlinkError> {
        let mut message = neighbour_message(ifindex, addr);
        message.header.flags = NeighbourFlags::Use;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        let failed = |e| NetlinkError::request(format!("probe neighbour {addr}"))(e);
        let mut answers = Box::pin(self.handle().clone().request(request).map_err(failed)?);
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(e) = answer.payload
                && e.code.is_some()
            {
                return Err(failed(rtnetlink::Error::NetlinkError(e)));
            }
        }
        Ok(())
    }

    async fn route(&self, remote: IpAddr, local: Option<IpAddr>, oif: Option<u32>) -> Result<Route, ResolveError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(remote);
        message.header.destination_prefix_length = bits(remote);
        message.attributes.push(RouteAttribute::Destination(remote.into()));
        if let Some(local) = local {
            message.header.source_prefix_length = bits(local);
            message.attributes.push(RouteAttribute::Source(local.into()));
        }
        if let Some(oif) = oif {
            message.attributes.push(RouteAttribute::Oif(oif));
        }
        let mut answers = Box::pin(self.handle().route().get(message).execute());
        match answers.try_next().await {
            Ok(Some(answer)) => Route::read(&answer).ok_or(ResolveError::NoRoute { remote }),
            Ok(None) => Err(ResolveError::NoRoute { remote }),
            Err(e) => match super::errno(&e) {
                // Unreachable, prohibited and blackhole routes, and a source address this host does not have.
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ENODEV) => {
                    Err(ResolveError::NoRoute { remote })
                }
                _ => Err(NetlinkError::request(format!("find the route to {remote}"))(e).into()),
            },
        }
    }

    /// The MAC address of a neighbour, where the kernel has one it would use.
    async fn neighbour(&self, ifindex: u32, addr: IpAddr) -> Result<Option<[u8; 6]>, NetlinkError> {
        let message = neighbour_message(ifindex, addr);
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(message));
        request.header.flags = NLM_F_REQUEST;
        let failed = |e| NetlinkError::request(format!("look up neighbour {addr}"))(e);
        let mut answers = Box::pin(self.handle().clone().request(request).map_err(failed)?);
        match answers.next().await.map(|a| a.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(n))) => Ok(mac(&n)),
            Some(NetlinkPayload::Error(e)) if e.raw_code() != -libc::ENOENT => {
                Err(failed(rtnetlink::Error::NetlinkError(e)))
            }
            _ => Ok(None),
        }
    }
}

/// What the routing table says.
struct Route {
    ifindex: u32,
    gateway: Option<IpAddr>,
    src: Option<IpAddr>,
    mtu: Option<u32>,
    /// To this host itself, or to more than one.
    local: bool,
}

impl Route {
    fn read(message: &RouteMessage) -> Option<Self> {
        let local = message.header.kind != RouteType::Unicast;
        let mut route = Self { ifindex: 0, gateway: None, src: None, mtu: None, local };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.ifindex = *index,
                RouteAttribute::Gateway(a) => route.gateway = address(a),
                RouteAttribute::Via(RouteVia::Inet(a)) => route.gateway = Some((*a).into()),
                RouteAttribute::Via(RouteVia::Inet6(a)) => route.gateway = Some((*a).into()),
                RouteAttribute::PrefSource(a) => route.src = address(a),
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|m| if let RouteMetric::Mtu(m) = m { Some(*m) } else { None });
                }
                _ => {}
            }
        }
        (route.ifindex != 0).then_some(route)
    }
}

fn mac(neighbour: &NeighbourMessage) -> Option<[u8; 6]> {
    let usable = matches!(
        neighbour.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let found = neighbour.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(mac) => mac[..].try_into().ok(),
        _ => None,
    });
    found.filter(|_| usable)
}

fn neighbour_message(ifindex: u32, addr: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(addr);
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(addr.into()));
    message
}

fn address(a: &RouteAddress) -> Option<IpAddr> {
    match a {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

fn family(a: IpAddr) -> AddressFamily {
    if a.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn bits(a: IpAddr) -> u8 {
    if a.is_ipv6() { 128 } else { 32 }
}
