//! Devices inside namespaces: veth pairs, bridges, addresses, offloads.

use crate::Namespace;
use crate::command;
use anyhow::{Context as _, Result};

/// A pair of veth devices, `a_if` in `a` and `b_if` in `b`, both up.
///
/// # Errors
/// As [`command::run`].
pub fn veth(a: &Namespace, a_if: &str, b: &Namespace, b_if: &str, mtu: u32) -> Result<()> {
    command::sh(
        "ip",
        &format!(
            "link add {a_if} netns {} mtu {mtu} type veth peer name {b_if} netns {} mtu {mtu}",
            a.name(),
            b.name()
        ),
    )?;
    a.ip(&format!("link set {a_if} up"))?;
    b.ip(&format!("link set {b_if} up"))?;
    Ok(())
}

/// Adds an address with its prefix length (`10.0.0.1/24`, `fd00::1/64`).
///
/// # Errors
/// As [`command::run`].
pub fn address(ns: &Namespace, interface: &str, address: &str) -> Result<()> {
    let nodad = if address.contains(':') { " nodad" } else { "" };
    ns.ip(&format!("addr add {address} dev {interface}{nodad}")).map(drop)
}

/// Sets a device's MAC address. veth takes it while it is up, so its IPv6 addresses stay.
///
/// # Errors
/// As [`command::run`].
pub fn set_mac(ns: &Namespace, interface: &str, mac: &str) -> Result<()> {
    ns.ip(&format!("link set {interface} address {mac}")).map(drop)
}

fn show(ns: &Namespace, interface: &str) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&ns.ip(&format!("-j link show {interface}"))?)?)
}

/// A device's index in its namespace.
///
/// # Errors
/// When there is no such device.
pub fn index(ns: &Namespace, interface: &str) -> Result<u32> {
    let index = show(ns, interface)?.pointer("/0/ifindex").and_then(serde_json::Value::as_u64);
    Ok(index.context("no ifindex in the answer of ip")?.try_into()?)
}

/// A device's MAC address.
///
/// # Errors
/// When there is no such device.
pub fn mac(ns: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let json = show(ns, interface)?;
    let text = json.pointer("/0/address").and_then(|v| v.as_str()).context("no address in the answer of ip")?;
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).with_context(|| format!("{interface} has no MAC address: {text}"))?;
    }
    Ok(mac)
}

/// A bridge over `ports` (devices of the same namespace), up, without spanning tree.
///
/// # Errors
/// As [`command::run`].
pub fn bridge(ns: &Namespace, name: &str, ports: &[&str]) -> Result<()> {
    ns.ip(&format!("link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"))?;
    ns.ip(&format!("link set {name} up"))?;
    ports.iter().try_for_each(|port| ns.ip(&format!("link set {port} master {name}")).map(drop))
}

/// Sets an option of a bridge's port (`mcast_flood off`).
///
/// # Errors
/// As [`command::run`].
pub fn bridge_port(ns: &Namespace, port: &str, option: &str) -> Result<()> {
    command::sh("bridge", &format!("-n {} link set dev {port} {option}", ns.name())).map(drop)
}

/// A veth pair inside one namespace, both up: an interface that leads nowhere, on every kernel.
///
/// # Errors
/// As [`command::run`].
pub fn idle(ns: &Namespace, name: &str, peer: &str) -> Result<()> {
    veth(ns, name, ns, peer, 1500)
}

/// A TUN device, up: an interface that is not Ethernet.
///
/// # Errors
/// As [`command::run`].
pub fn tun(ns: &Namespace, name: &str) -> Result<()> {
    ns.ip(&format!("tuntap add {name} mode tun"))?;
    ns.ip(&format!("link set {name} up")).map(drop)
}

/// Drops what arrives at `interface` with this EtherType. The frames are redirected into `sink`, a device of the
/// same namespace that leads nowhere: `mirred` is there on more kernels than `drop`.
///
/// # Errors
/// As [`command::run`].
pub fn drop_ethertype(ns: &Namespace, interface: &str, ethertype: u16, sink: &str) -> Result<()> {
    let tc = |args: &str| command::sh("tc", &format!("-n {} {args}", ns.name()));
    tc(&format!("qdisc replace dev {interface} clsact"))?;
    tc(&format!(
        "filter add dev {interface} ingress protocol 0x{ethertype:04x} u32 match u32 0 0 \
         action mirred egress redirect dev {sink}"
    ))
    .map(drop)
}

/// Switches an offload on or off, as `ethtool -K <interface> <feature> on|off`.
///
/// # Errors
/// As [`command::run`].
pub fn offload(ns: &Namespace, interface: &str, feature: &str, on: bool) -> Result<()> {
    ns.exec(&format!("ethtool -K {interface} {feature} {}", if on { "on" } else { "off" })).map(drop)
}
