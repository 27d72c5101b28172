//! Address, route, table and rules that lead fc00::/8 into the TUN device.
//!
//! Each agent has a routing table of its own, with fc00::/8 into its device, and two rules. The first, for packets that
//! already have the node's address as their source, keeps several agents on one host apart. The second is for sockets
//! that are not bound: the agent that came first gets them. The host's own tables are not touched.

use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, LinkUnspec, RouteMessageBuilder};

use super::Fc00Error;
use super::packet::{MIN_MTU, is_fc00};
use crate::netlink::{Interface, Netlink, NetlinkError, errno};

/// The prefix that is routed.
const FC00: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 8);
/// Table of the interface with index 0.
const TABLE: u32 = 13_120_000;
/// Marks rules and routes as an agent's; free in `rt_protos`.
const PROTOCOL: u8 = 131;
/// Priority of the rules that name a source: far in front of main (32,766), behind local (0).
const PRIORITY_SOURCE: u32 = 1312;
/// Priority of the first rule that does not.
const PRIORITY_ANY: u32 = 1313;

/// What [`setup`] made.
#[derive(Clone, Debug)]
pub struct Routing {
    address: Ipv6Addr,
    netlink: Netlink,
    ifname: String,
    ifindex: u32,
    table: u32,
}

/// Sets the device up with the address and leads fc00::/8 into it. What a crashed agent left is removed. `mtu` is at
/// least 1280.
///
/// # Errors
/// No such device, no permission, or the kernel refused. Rules made until then are removed.
pub async fn setup(netlink: &Netlink, ifname: &str, address: Ipv6Addr, mtu: u32) -> Result<Routing, Fc00Error> {
    if !is_fc00(address) {
        return Err(Fc00Error::NotFc00 { address });
    }
    let all = netlink.interfaces().await?;
    let Some(link) = all.iter().find(|i| i.name == ifname) else {
        return Err(Fc00Error::NoInterface { name: ifname.to_owned() });
    };
    let table = table(link.index);
    let (ifindex, ifname_) = (link.index, ifname.to_owned());
    let routing = Routing { address, netlink: netlink.clone(), ifname: ifname_, ifindex, table };
    let exists = |table: u32| exists(&all, table);
    routing.set_link_up(mtu).await?;
    routing.add_address(address).await?;
    remove_rules(netlink, ifname, |r| r.source == Some(address) || r.table == table || !exists(r.table)).await?;
    match routing.add_route_and_rules(address).await {
        Ok(()) => Ok(routing),
        Err(e) => {
            let _ = remove_rules(netlink, ifname, |r| r.table == table).await;
            Err(e)
        }
    }
}

impl Routing {
    /// The routing table.
    #[must_use]
    pub fn table(&self) -> u32 {
        self.table
    }

    /// Changes the MTU of the device.
    ///
    /// # Errors
    /// The device is gone, or the kernel refused.
    pub async fn set_mtu(&self, mtu: u32) -> Result<(), Fc00Error> {
        let message = LinkUnspec::new_with_index(self.ifindex).mtu(mtu.max(MIN_MTU)).build();
        let done = self.netlink.handle().link().set(message).execute().await;
        done.map_err(|e| self.problem("set the MTU", e))
    }

    /// Makes anew what somebody removed; whether anything was. systemd-networkd may remove rules of others when it starts, and
    /// the kernel removes address and route with the device set down.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn mend(&self) -> Result<bool, Fc00Error> {
        let devices = self.netlink.interfaces().await?;
        let Some(device) = devices.iter().find(|d| d.index == self.ifindex && d.up) else { return Ok(false) };
        let addressed = device.addrs.contains(&self.address.into());
        let all = rules(&self.netlink).await.map_err(|e| self.problem("list routing rules", e))?;
        let ruled = all.iter().filter(|(r, _)| r.of_an_agent && r.table == self.table).count() == 2;
        if addressed && ruled {
            return Ok(false);
        }
        self.add_address(self.address).await?;
        remove_rules(&self.netlink, &self.ifname, |r| r.table == self.table).await?;
        self.add_route_and_rules(self.address).await.map(|()| true)
    }

    /// Removes rules and routes. The address goes with the device.
    ///
    /// # Errors
    /// The kernel refused; what is gone already is no error.
    pub async fn teardown(self) -> Result<(), Fc00Error> {
        remove_rules(&self.netlink, &self.ifname, |r| r.table == self.table).await?;
        match self.netlink.handle().route().del(self.route(None)).execute().await {
            Err(e) if !matches!(errno(&e), Some(libc::ESRCH | libc::ENODEV | libc::ENOENT)) => {
                Err(self.problem("remove the route", e))
            }
            _ => Ok(()),
        }
    }

    /// No address but the one given: the kernel would make up a link-local one.
    async fn set_link_up(&self, mtu: u32) -> Result<(), Fc00Error> {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let quiet = LinkUnspec::new_with_index(self.ifindex)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]))
            .build();
        // Refused where IPv6 is off for the device, which shows at the address.
        let _ = self.netlink.handle().link().set(quiet).execute().await;
        let up = LinkUnspec::new_with_index(self.ifindex).mtu(mtu.max(MIN_MTU)).up().build();
        let done = self.netlink.handle().link().set(up).execute().await;
        done.map_err(|e| self.problem("set the device up", e))
    }

    async fn add_address(&self, address: Ipv6Addr) -> Result<(), Fc00Error> {
        let add = || {
            let mut add = self.netlink.handle().address().add(self.ifindex, address.into(), 128).replace();
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            add.message_mut().header.flags = AddressHeaderFlags::Nodad;
            add.message_mut().attributes.push(AddressAttribute::Flags(flags));
            add.execute()
        };
        match add().await {
            // IPv6 is off for new devices (`net.ipv6.conf.default.disable_ipv6`); this one is of no use without.
            Err(e) if matches!(errno(&e), Some(libc::EACCES | libc::EPERM)) => {
                let switch = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.ifname);
                if std::fs::write(switch, "0").is_err() {
                    return Err(self.problem("add the address", e));
                }
                add().await.map_err(|e| self.problem("add the address", e))
            }
            done => done.map_err(|e| self.problem("add the address", e)),
        }
    }

    async fn add_route_and_rules(&self, address: Ipv6Addr) -> Result<(), Fc00Error> {
        let route = self.netlink.handle().route().add(self.route(Some(address))).replace();
        route.execute().await.map_err(|e| self.problem("add the route", e))?;
        let all = rules(&self.netlink).await.map_err(|e| self.problem("list routing rules", e))?;
        let taken: Vec<u32> = all.iter().map(|(r, _)| r.priority).collect();
        let free = (PRIORITY_ANY..).find(|p| !taken.contains(p)).unwrap_or(PRIORITY_ANY);
        self.add_rule(Some(address), PRIORITY_SOURCE).await?;
        self.add_rule(None, free).await
    }

    fn route(&self, src: Option<Ipv6Addr>) -> RouteMessage {
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(FC00.0, FC00.1)
            .output_interface(self.ifindex)
            .table_id(self.table)
            .protocol(RouteProtocol::Other(PROTOCOL));
        let mut route = route.build();
        route.attributes.extend(src.map(|a| RouteAttribute::PrefSource(a.into())));
        route
    }

    async fn add_rule(&self, source: Option<Ipv6Addr>, priority: u32) -> Result<(), Fc00Error> {
        let rule = self.netlink.handle().rule().add().v6();
        let rule = rule.destination_prefix(FC00.0, FC00.1).table_id(self.table).priority(priority);
        let mut rule = match source {
            Some(a) => rule.source_prefix(a, 128),
            None => rule,
        }
        .action(RuleAction::ToTable);
        rule.message_mut().attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
        rule.execute().await.map_err(|e| self.problem("add a routing rule", e))
    }

    fn problem(&self, what: &str, source: rtnetlink::Error) -> Fc00Error {
        problem(&self.ifname, what, source)
    }
}

/// The routing table of an agent whose device has this index.
#[must_use]
pub const fn table(ifindex: u32) -> u32 {
    TABLE + ifindex
}

/// Whether the interface of a table is there.
fn exists(interfaces: &[Interface], table: u32) -> bool {
    interfaces.iter().any(|i| Some(i.index) == table.checked_sub(TABLE))
}

/// Removes the rules that agents left whose device is gone; how many there were.
///
/// # Errors
/// No permission, or the kernel refused.
pub async fn sweep(netlink: &Netlink) -> Result<usize, Fc00Error> {
    let all = netlink.interfaces().await?;
    remove_rules(netlink, "agents that are gone", |r| !exists(&all, r.table)).await
}

/// Removes those rules of agents that `which` chooses; how many.
async fn remove_rules(netlink: &Netlink, ifname: &str, which: impl Fn(&Rule) -> bool) -> Result<usize, Fc00Error> {
    let mut removed = 0;
    for (rule, message) in rules(netlink).await.map_err(|e| problem(ifname, "list routing rules", e))? {
        if !rule.of_an_agent || !which(&rule) {
            continue;
        }
        match netlink.handle().rule().del(message).execute().await {
            Err(e) if errno(&e) != Some(libc::ENOENT) => return Err(problem(ifname, "remove a routing rule", e)),
            _ => removed += 1,
        }
    }
    Ok(removed)
}

fn problem(ifname: &str, what: &str, source: rtnetlink::Error) -> Fc00Error {
    let what = format!("{what} of {ifname}");
    match errno(&source) {
        Some(libc::EPERM) => Fc00Error::Permission { what },
        Some(libc::EACCES) => Fc00Error::NoIpv6 { name: ifname.to_owned() },
        Some(libc::ENODEV) => Fc00Error::NoInterface { name: ifname.to_owned() },
        _ => NetlinkError::request(what)(source).into(),
    }
}

async fn rules(netlink: &Netlink) -> Result<Vec<(Rule, RuleMessage)>, rtnetlink::Error> {
    netlink.handle().rule().get(IpVersion::V6).execute().map_ok(|m| (Rule::read(&m), m)).try_collect().await
}

/// What agents that are gone left in this network namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeftOver {
    /// Rules into tables whose device is gone, or nobody's: their priority and table.
    pub rules: Vec<(u32, u32)>,
    /// TUN devices that such rules lead to and that no process holds.
    pub devices: Vec<String>,
    /// TUN devices of agents that are there.
    pub live: Vec<String>,
}

/// Looks for what agents that are gone left: rules and TUN devices.
///
/// # Errors
/// The kernel refused to list rules or devices.
pub async fn left_over(netlink: &Netlink) -> Result<LeftOver, NetlinkError> {
    // Rules first: an agent that starts makes its device before them.
    let all = rules(netlink).await.map_err(NetlinkError::request("list routing rules"))?;
    let devices = netlink.interfaces().await?;
    let mut left = LeftOver::default();
    for (rule, _) in all.iter().filter(|(rule, _)| rule.of_an_agent) {
        let device = devices.iter().find(|d| Some(d.index) == rule.table.checked_sub(TABLE));
        // A device that no process holds has no carrier; one that is down may be just being made.
        let orphan = |d: &Interface| d.kind.as_deref() == Some("tun") && d.up && !d.carrier;
        if device.is_none_or(orphan) {
            left.rules.push((rule.priority, rule.table));
        }
        if let Some(device) = device {
            let list = if orphan(device) { &mut left.devices } else { &mut left.live };
            list.push(device.name.clone());
        }
    }
    for list in [&mut left.devices, &mut left.live] {
        list.sort();
        list.dedup();
    }
    Ok(left)
}

/// What matters of a rule.
struct Rule {
    of_an_agent: bool,
    source: Option<Ipv6Addr>,
    table: u32,
    priority: u32,
}

impl Rule {
    fn read(message: &RuleMessage) -> Self {
        let mut rule = Self { of_an_agent: false, source: None, table: message.header.table.into(), priority: 0 };
        let (mut ours, mut fc00) = (false, false);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Source(IpAddr::V6(a)) if message.header.src_len == 128 => rule.source = Some(*a),
                RuleAttribute::Destination(IpAddr::V6(a)) => fc00 = (*a, message.header.dst_len) == FC00,
                RuleAttribute::Protocol(p) => ours = u8::from(*p) == PROTOCOL,
                _ => {}
            }
        }
        rule.of_an_agent = ours && fc00 && rule.table > TABLE;
        rule
    }
}
