use crate::fc00::firewall::{Full, Rule, Rules, Setup};
use crate::fc00::offload::Offloads;
use crate::identity::PeerId;
use crate::multiaddr::{DEFAULT_PORT, Multiaddr};
use crate::rate::TransitLimit;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The configuration. Every key is optional; unknown keys are refused, so that a misspelt one is noticed.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node itself.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// Peers that are connected at start and kept connected.
    #[serde(rename = "peer")]
    pub peers: Vec<Peer>,
    /// Finding nodes.
    pub discovery: Discovery,
    /// The host's side of fc00::/8.
    pub fc00: Fc00,
    /// Names.
    pub dns: Dns,
    /// The control socket.
    pub api: Api,
    /// Finding and keeping routes.
    pub routes: Routes,
    /// Bounds of tables.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
}

/// `[node]`
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Bytes of this node's slots: 1 (up to 255 links) or 2.
    pub slot_width: SlotWidth,
    /// Whether neighbours may route through this node.
    pub transit: Transit,
    /// How much transit of each neighbour is sent on that has no limit of its own.
    pub rate_limit: TransitLimit,
    /// File of the pre-shared key for all peers that have none of their own; relative to the configuration's directory.
    pub psk_file: Option<PathBuf>,
}

/// Bytes of a slot on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "u8")]
pub enum SlotWidth {
    /// Up to 255 links.
    #[default]
    One,
    /// Up to 65,535 links.
    Two,
}

impl TryFrom<u8> for SlotWidth {
    type Error = &'static str;

    fn try_from(bytes: u8) -> Result<Self, Self::Error> {
        match bytes {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err("must be 1 or 2"),
        }
    }
}

impl From<SlotWidth> for rovy_common::label::Width {
    fn from(width: SlotWidth) -> Self {
        match width {
            SlotWidth::One => Self::One,
            SlotWidth::Two => Self::Two,
        }
    }
}

/// Whether packets of others are switched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transit {
    /// Neighbours may route through this node.
    #[default]
    Allow,
    /// Packets end or begin here, or are dropped as `not_allowed`.
    Deny,
}

/// `[listen]`
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Where to listen at start: UDP addresses and interfaces.
    #[serde(deserialize_with = "listen_addresses")]
    pub addresses: Vec<Multiaddr>,
    /// Where and how XDP attaches.
    pub xdp: Xdp,
    /// EtherType of raw Ethernet frames, in host byte order; 0x88B5 unless set.
    #[serde(deserialize_with = "ethertype")]
    pub ethertype: u16,
}

impl Default for Listen {
    fn default() -> Self {
        let udp = |addr: SocketAddr| Multiaddr::Udp { addr, peer: None };
        Self {
            addresses: vec![
                udp((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()),
                udp((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into()),
            ],
            xdp: Xdp::default(),
            ethertype: 0x88b5,
        }
    }
}

/// Metrics tell who talks to whom, and are for this host alone.
fn loopback<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let address = Option::<SocketAddr>::deserialize(deserializer)?;
    match address.filter(|a| !a.ip().is_loopback()) {
        Some(other) => {
            Err(serde::de::Error::custom(format!("{other} is not a loopback address, such as 127.0.0.1:9312")))
        }
        None => Ok(address),
    }
}

/// Refuses what cannot be listened on, so that it is found when the file is read.
fn listen_addresses<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Multiaddr>, D::Error> {
    let addresses = Vec::<Multiaddr>::deserialize(deserializer)?;
    for (i, addr) in addresses.iter().enumerate() {
        listenable(addr).map_err(serde::de::Error::custom)?;
        if addresses[..i].contains(addr) {
            return Err(serde::de::Error::custom(format!("{addr} stands there twice")));
        }
    }
    Ok(addresses)
}

/// Whether a listener can be started on `addr`.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub(crate) fn listenable(addr: &Multiaddr) -> Result<(), String> {
    if addr.peer().is_some() {
        return Err(format!("{addr}: a listener takes every peer; leave /rovy/<PeerID> away"));
    }
    match addr {
        Multiaddr::Dns { .. } => Err(format!("{addr}: a listener needs an address of this host, /ip4, /ip6 or /ethif")),
        Multiaddr::Udp { .. } | Multiaddr::Ethernet { .. } => Ok(()),
    }
}

fn ethertype<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let value = u16::deserialize(deserializer)?;
    free_ethertype(value).map(|()| value).map_err(serde::de::Error::custom)
}

/// Whether an EtherType may be rovy's.
///
/// # Errors
/// Why not: below 0x0600 the field is a length; IP, ARP, IPv6 and VLAN tags belong to others.
pub fn free_ethertype(value: u16) -> Result<(), String> {
    if value < 0x600 || [0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8].contains(&value) {
        return Err(format!("{value:#06x} is not free for rovy; 0x88b5 and 0x88b6 are for experiments"));
    }
    Ok(())
}

/// `[listen] xdp.*`
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Xdp {
    /// How transit is switched.
    pub mode: XdpMode,
    /// Interfaces where UDP listeners attach even before a neighbour is behind them.
    pub interfaces: Vec<String>,
}

/// How XDP attaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native, else generic, else the userspace switch.
    #[default]
    Auto,
    /// Native only, else the userspace switch.
    Native,
    /// Generic only, else the userspace switch.
    Generic,
    /// The userspace switch.
    Off,
}

/// `[[peer]]`
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Whom to expect.
    pub id: PeerId,
    /// Where the peer is reached; may be empty for one that only connects to us.
    #[serde(default)]
    pub addresses: Vec<Multiaddr>,
    /// Whether this peer may route through this node; the node's setting when absent.
    #[serde(default)]
    pub transit: Option<PeerTransit>,
    /// How much transit of this peer is sent on; the node's setting when absent.
    #[serde(default)]
    pub rate_limit: Option<TransitLimit>,
    /// File of the pre-shared key with this peer; relative to the configuration's directory.
    #[serde(default)]
    pub psk_file: Option<PathBuf>,
    /// Seconds of silence after which a keepalive is sent, for peers behind NAT; none when absent.
    #[serde(default, deserialize_with = "keepalive")]
    pub keepalive: Option<u16>,
}

fn keepalive<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match u16::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("must be 1 to 65535 seconds; leave it away for none")),
        seconds => Ok(Some(seconds)),
    }
}

/// Transit of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerTransit {
    /// Switched in the kernel where it can be.
    Kernel,
    /// Inside the session with the peer, by the agent, in both directions.
    Sealed,
    /// Dropped as `not_allowed`.
    Deny,
}

/// `[discovery]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// Whether beacons are sent and heeded on the links of this host.
    pub linklocal: bool,
    /// Seconds between two beacons, once the first ones are out.
    #[serde(deserialize_with = "bounded::<5, 3600, _>")]
    interval: u32,
}

impl Discovery {
    /// Time between two beacons.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval.into())
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Self { linklocal: true, interval: 30 }
    }
}

/// `[fc00]`
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fc00 {
    /// Whether the TUN device is made at start.
    pub enabled: bool,
    /// Name of the TUN device.
    #[serde(deserialize_with = "ifname")]
    pub ifname: String,
    /// MTU of the TUN device in bytes.
    pub mtu: Mtu,
    /// Work that host and agent share, where the kernel can.
    pub offload: Offload,
    /// Whether the firewall keeps out what no rule lets in.
    pub firewall: Firewall,
    /// What comes in.
    pub allow: Vec<Rule>,
    /// What does not, although a wider rule of `allow`, or the default, lets it in.
    pub deny: Vec<Rule>,
    /// Whether who is refused is told so.
    pub reject: bool,
}

/// `firewall`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Firewall {
    /// Only answers, echo requests and what rules allow come in.
    #[default]
    On,
    /// Everything comes in.
    Off,
}

impl Fc00 {
    /// How the firewall is set up.
    ///
    /// # Errors
    /// There are too many rules.
    pub fn firewall(&self) -> Result<Setup, Full> {
        let rules = Rules::new(&self.allow, &self.deny)?;
        Ok(Setup { off: self.firewall == Firewall::Off, reject: self.reject, rules })
    }

    /// What stands in both lists, which nobody could guess the sense of, or too many rules: the text and what is wrong.
    pub(super) fn contradiction(&self) -> Option<String> {
        let same =
            |a: &Rule, b: &Rule| (a.service, a.from.map(|f| f.address())) == (b.service, b.from.map(|f| f.address()));
        let both = self.deny.iter().find(|d| self.allow.iter().any(|a| same(a, d)));
        let both = both.map(|rule| format!("{rule}: it stands in allow too"));
        both.or_else(|| self.firewall().err().map(|full| full.to_string()))
    }
}

impl Default for Fc00 {
    fn default() -> Self {
        Self {
            enabled: true,
            ifname: "rovy0".into(),
            mtu: Mtu::default(),
            firewall: Firewall::On,
            allow: Vec::new(),
            deny: Vec::new(),
            reject: false,
            offload: Offload::default(),
        }
    }
}

/// `fc00.offload`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Offload {
    /// The host leaves checksums to the agent. Without it there are no others.
    pub csum: bool,
    /// The host hands over TCP data unsplit.
    pub tso: bool,
    /// The host hands over UDP data unsplit.
    pub uso: bool,
    /// The agent joins packets for the host.
    pub gro: bool,
}

impl Default for Offload {
    fn default() -> Self {
        Self { csum: true, tso: true, uso: true, gro: true }
    }
}

impl From<Offload> for Offloads {
    fn from(o: Offload) -> Self {
        Self { csum: o.csum, tso: o.tso, uso: o.uso, gro: o.gro, gro_udp: o.gro }.sane()
    }
}

/// `[dns]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// Whether names are answered at fc00::1.
    pub enabled: bool,
    /// File of names for peers; relative to the configuration's directory.
    pub names_file: PathBuf,
}

impl Default for Dns {
    fn default() -> Self {
        Self { enabled: true, names_file: "names".into() }
    }
}

fn ifname<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match format!("/ethif/{name}").parse() {
        Ok(Multiaddr::Ethernet { .. }) => Ok(name),
        _ => Err(serde::de::Error::custom(format!("`{name}` cannot be the name of an interface"))),
    }
}

/// MTU of the TUN device: IPv6 needs 1280 bytes, a jumbo frame holds 9000.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub struct Mtu(u16);

impl Mtu {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        self.0
    }
}

impl Default for Mtu {
    /// What an underlay of 1500 bytes leaves over UDP/IPv6 and several hops.
    fn default() -> Self {
        Self(1376)
    }
}

impl TryFrom<u16> for Mtu {
    type Error = &'static str;

    fn try_from(bytes: u16) -> Result<Self, Self::Error> {
        if (1280..=9000).contains(&bytes) { Ok(Self(bytes)) } else { Err("must be 1280 to 9000 bytes") }
    }
}

/// `[api]`
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Path of the control socket; the usual place when absent.
    pub socket: Option<PathBuf>,
    /// Loopback address and port to serve the metrics on, beside the control socket.
    #[serde(deserialize_with = "loopback")]
    pub metrics_tcp: Option<SocketAddr>,
}

/// `[routes]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Routes {
    /// Spread flows to a node over several routes that are about as good, each flow over one.
    pub multipath: bool,
    /// Probes a second that a neighbour may have looked at, its own and those it passes on; twice as many at once.
    #[serde(deserialize_with = "bounded::<1, 100_000, _>")]
    pub neighbour_probes: u32,
    /// Of these, probes a second of one origin; three times as many at once.
    #[serde(deserialize_with = "bounded::<1, 100_000, _>")]
    pub origin_probes: u32,
}

impl Default for Routes {
    fn default() -> Self {
        Self { multipath: false, neighbour_probes: 100, origin_probes: 10 }
    }
}

/// `[limits]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Neighbours at one time, configured ones included.
    #[serde(deserialize_with = "bounded::<1, 65535, _>")]
    pub peers: u32,
    /// Links at one time. A link's replay window takes 2 KiB of kernel memory.
    #[serde(deserialize_with = "bounded::<16, 65536, _>")]
    pub sessions: u32,
    /// Handshakes under way at one time; half of them for peers that are not configured.
    #[serde(deserialize_with = "bounded::<2, 65536, _>")]
    pub handshakes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { peers: 256, sessions: 1024, handshakes: 256 }
    }
}

fn bounded<'de, const LOW: u32, const HIGH: u32, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let value = u32::deserialize(deserializer)?;
    if (LOW..=HIGH).contains(&value) {
        Ok(value)
    } else {
        Err(serde::de::Error::custom(format!("must be {LOW} to {HIGH}")))
    }
}

/// `[log]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,rovy_userspace::core=debug`.
    #[serde(deserialize_with = "filter")]
    pub level: String,
    /// Lines of text or of JSON.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

fn filter<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    tracing_subscriber::EnvFilter::builder().parse(&text).map_err(serde::de::Error::custom)?;
    Ok(text)
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
