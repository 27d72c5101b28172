//! The interfaces of this host, and which of them can carry an Ethernet listener.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached as Attached,
};

use super::generic::{Request, number};
use super::{Netlink, NetlinkError};

const NL80211_CMD_GET_INTERFACE: u8 = 5;
const NL80211_ATTR_IFINDEX: u16 = 3;

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
    /// Its IPv4 addresses, each with the length of its prefix.
    pub networks: Vec<(Ipv4Addr, u8)>,
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
        let list = self.handle().link().get().execute().map_ok(|m| interface(&m));
        let mut all: Vec<Interface> = list.try_collect().await.map_err(NetlinkError::request("list interfaces"))?;
        all.sort_by_key(|i| i.index);
        let known: Vec<(u32, String, String)> =
            all.iter().map(|i| (i.index, i.name.clone(), i.kind.clone().unwrap_or_default())).collect();
        for master in all.iter_mut().filter_map(|i| i.master.as_mut()) {
            if let Some((_, name, kind)) = known.iter().find(|k| k.0 == master.index) {
                master.name.clone_from(name);
                master.kind.clone_from(kind);
            }
        }
        self.add_addresses(&mut all).await?;
        let wireless = self.wireless();
        for i in &mut all {
            i.wireless = wireless.contains(&i.index);
        }
        Ok(all)
    }

    /// One interface. Its addresses, the name of its master and whether it is wireless are not asked for.
    pub(super) async fn interface(&self, ifindex: u32) -> Result<Option<Interface>, NetlinkError> {
        let mut answers = Box::pin(self.handle().link().get().match_index(ifindex).execute());
        match answers.try_next().await {
            Ok(message) => Ok(message.as_ref().map(interface)),
            Err(e) if super::errno(&e) == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(NetlinkError::request(format!("look at interface {ifindex}"))(e)),
        }
    }

    async fn add_addresses(&self, all: &mut [Interface]) -> Result<(), NetlinkError> {
        let mut addresses = Box::pin(self.handle().address().get().execute());
        while let Some(message) = addresses.try_next().await.map_err(NetlinkError::request("list addresses"))? {
            let mut found = None;
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(a) => found = Some(*a),
                    // On point-to-point links this is the other end's, unless there is no other.
                    AddressAttribute::Address(a) => found = found.or(Some(*a)),
                    _ => {}
                }
            }
            if let (Some(address), Ok(at)) = (found, all.binary_search_by_key(&message.header.index, |i| i.index)) {
                all[at].addrs.push(address);
                if let IpAddr::V4(own) = address {
                    all[at].networks.push((own, message.header.prefix_len));
                }
            }
        }
        for i in all {
            i.addrs.sort_by_key(IpAddr::is_ipv6);
        }
        Ok(())
    }

    /// Indexes of wireless interfaces; none where the kernel has no wireless at all.
    fn wireless(&self) -> Vec<u32> {
        let mut generic = self.generic();
        let Ok(Some(family)) = generic.family("nl80211") else { return Vec::new() };
        let request = Request { family, command: NL80211_CMD_GET_INTERFACE, dump: true, attribute: None };
        let answers = generic.request(request).unwrap_or_default();
        answers.iter().filter_map(|a| number(a, NL80211_ATTR_IFINDEX)).map(|n| n as u32).collect()
    }
}

fn interface(message: &LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut found = Interface {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Loopback),
        master: None,
        kind: None,
        addrs: Vec::new(),
        networks: Vec::new(),
        wireless: false,
        xdp: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(mac) if found.ethernet => found.mac = mac[..].try_into().ok(),
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::Controller(index) if *index != 0 => {
                found.master = Some(Master { index: *index, name: format!("#{index}"), kind: String::new() });
            }
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|i| if let LinkInfo::Kind(k) = i { Some(k) } else { None });
                found.kind = kind.map(ToString::to_string);
            }
            LinkAttribute::Xdp(parts) => found.xdp = xdp(parts),
            _ => {}
        }
    }
    found
}

fn xdp(parts: &[LinkXdp]) -> Option<(XdpAttached, u32)> {
    let how = parts.iter().find_map(|p| match p {
        LinkXdp::Attached(Attached::Driver) => Some(XdpAttached::Native),
        LinkXdp::Attached(Attached::SocketBuffer) => Some(XdpAttached::Generic),
        LinkXdp::Attached(Attached::Hardware) => Some(XdpAttached::Hardware),
        LinkXdp::Attached(Attached::Multiple) => Some(XdpAttached::Multiple),
        _ => None,
    })?;
    let any = |p: &LinkXdp| match p {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    };
    Some((how, parts.iter().find_map(any)?))
}

impl Interface {
    /// The master that takes this interface's frames, if any: all kinds but a VRF do.
    fn taken_by(&self) -> Option<&Master> {
        self.master.as_ref().filter(|m| m.kind != "vrf")
    }

    /// Whether UDP beacons go out over it: it is up, its frames are its own, and it is no TUN of an overlay.
    #[must_use]
    pub fn beacons(&self) -> bool {
        self.up && self.carrier && self.taken_by().is_none() && (self.ethernet || self.kind.as_deref() != Some("tun"))
    }

    fn usable(&self) -> bool {
        self.ethernet && self.up && self.mac.is_some() && self.taken_by().is_none()
    }
}

/// The interfaces that can carry an Ethernet listener, as a sentence.
#[must_use]
pub fn usable(interfaces: &[Interface]) -> String {
    let names: Vec<&str> = interfaces.iter().filter(|i| i.usable()).map(|i| i.name.as_str()).collect();
    match names.is_empty() {
        true => "no interface is usable now".to_owned(),
        false => format!("usable interfaces: {}", names.join(", ")),
    }
}

/// The interface `name`, if it can carry an Ethernet listener.
///
/// # Errors
/// Why it cannot.
pub fn check_ethernet_listener<'a>(interfaces: &'a [Interface], name: &str) -> Result<&'a Interface, ListenerProblem> {
    let usable = usable(interfaces);
    let name = name.to_owned();
    let Some(found) = interfaces.iter().find(|i| i.name == name) else {
        return Err(ListenerProblem::Unknown { name, usable });
    };
    if !found.ethernet || found.mac.is_none() {
        return Err(ListenerProblem::NotEthernet { name, usable });
    }
    if let Some(m) = found.taken_by() {
        let kind = if m.kind.is_empty() { "interface".to_owned() } else { m.kind.clone() };
        return Err(ListenerProblem::Enslaved { name, master: m.name.clone(), kind, usable });
    }
    if !found.up {
        return Err(ListenerProblem::Down { name, usable });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_of(kind: &str) -> Interface {
        let master = Master { index: 1, name: "m0".to_owned(), kind: kind.to_owned() };
        Interface {
            index: 2,
            name: "p0".to_owned(),
            mac: Some([2; 6]),
            mtu: 1500,
            up: true,
            carrier: true,
            ethernet: true,
            master: Some(master),
            kind: None,
            addrs: Vec::new(),
            networks: Vec::new(),
            wireless: false,
            xdp: None,
        }
    }

    #[test]
    fn every_master_but_a_vrf_takes_the_frames() {
        for kind in ["bridge", "bond", "team", "openvswitch", ""] {
            let all = [port_of(kind)];
            assert!(matches!(check_ethernet_listener(&all, "p0"), Err(ListenerProblem::Enslaved { .. })), "{kind}");
        }
        let all = [port_of("vrf")];
        assert_eq!(check_ethernet_listener(&all, "p0"), Ok(&all[0]));
    }
}
