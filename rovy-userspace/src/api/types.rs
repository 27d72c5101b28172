//! The JSON of the API. Names end in their unit: `_s`, `_us`, `_bytes`.

use crate::config::Firewall;
use crate::fc00::firewall::{Action, Sender};
use crate::identity::PeerId;
use crate::multiaddr::{Multiaddr, Route};
use crate::rate::RateLimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// `/v0/info`: who the agent is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Info {
    /// The node's key.
    pub peer_id: PeerId,
    /// The node's address.
    pub address: Ipv6Addr,
    /// Version of the program.
    pub version: String,
    /// Process of the agent.
    pub pid: u32,
    /// Since the agent started, in seconds.
    pub uptime_s: u64,
    /// Where transit is switched, for people: `native on eth0, eth1`, or `off: ` and why.
    pub xdp: String,
    /// Configuration file of the agent.
    pub config: String,
    /// Number of listeners.
    pub listeners: u32,
    /// Number of peers with a session.
    pub peers_connected: u32,
    /// Number of peers known.
    pub peers: u32,
    /// The TUN device, when it runs.
    pub fc00_ifname: Option<String>,
}

/// Whether a listener receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerState {
    /// It receives.
    Up,
    /// Its interface or address is gone; it comes back with it.
    Down,
}

/// A listener.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// As it was started.
    pub address: Multiaddr,
    /// `udp4`, `udp6` or `eth`.
    pub kind: String,
    /// The interface of a raw Ethernet listener.
    pub ifname: Option<String>,
    /// Whether it receives.
    pub state: ListenerState,
    /// `native`, `generic` or `off`.
    pub xdp_mode: String,
    /// Why it is that mode.
    pub xdp_why: String,
    /// The addresses peers can use: a wildcard spelled out, a MAC address for Ethernet.
    pub effective: Vec<String>,
    /// Beacons sent.
    #[serde(default)]
    pub beacons_sent: u64,
    /// Beacons of other nodes heard.
    #[serde(default)]
    pub beacons_heard: u64,
    /// What to do when no beacon was heard for long.
    #[serde(default)]
    pub advice: Option<String>,
}

/// `/v0/discovery/list`: who is looked for on the links of this host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Discovery {
    /// Whether listeners take part for which nothing else was said.
    pub linklocal: bool,
    /// Time between two beacons, in seconds.
    pub interval_s: u64,
    /// Every listener.
    pub listeners: Vec<DiscoveryListener>,
}

/// What discovery does on a listener.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DiscoveryListener {
    /// As it was started.
    pub address: Multiaddr,
    /// Whether beacons are sent and heeded.
    pub linklocal: bool,
    /// The interfaces they are sent over.
    pub interfaces: Vec<String>,
    /// Beacons sent.
    pub beacons_sent: u64,
    /// Beacons of other nodes heard.
    pub beacons_heard: u64,
    /// Since the last was heard, in seconds.
    pub last_heard_s: Option<u64>,
    /// What to do when none was heard for long.
    pub advice: Option<String>,
}

/// How a peer came to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerSource {
    /// The operator named it: in the configuration, to connect to, or with a route.
    Configured,
    /// A beacon named it.
    Discovered,
    /// It was found through other nodes.
    Probed,
    /// It connected by itself.
    #[default]
    Incoming,
}

/// How far a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// There is a session.
    Connected,
    /// A handshake is under way.
    Connecting,
    /// Neither.
    Disconnected,
}

/// What this node does with transit from a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerTransit {
    /// It is switched, in the kernel where it can be.
    #[default]
    Kernel,
    /// It is switched by the agent: it comes inside the session with the peer.
    Sealed,
    /// It is dropped.
    Deny,
}

/// A peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// The peer's key.
    pub peer_id: PeerId,
    /// The peer's address.
    pub address: Ipv6Addr,
    /// How far it is.
    pub state: PeerState,
    /// Why it is not connected, as far as that shows; a sentence for people.
    #[serde(default)]
    pub why: Option<String>,
    /// Where it is reached now.
    pub endpoint: Option<String>,
    /// Underlay of the link: `eth`, `udp4` or `udp6`; absent for a peer behind others.
    pub kind: Option<String>,
    /// This node's slot for the link.
    pub slot: Option<u16>,
    /// The slot as it is written in a route.
    pub slot_text: Option<String>,
    /// Its links, when it is a neighbour.
    #[serde(default)]
    pub links: Vec<PeerLink>,
    /// Whether it is a neighbour, rather than behind others.
    pub direct: bool,
    /// Round trip of the last handshake or echo, in microseconds.
    pub rtt_us: Option<u64>,
    /// Data packets from it.
    pub rx_packets: u64,
    /// Their bytes inside the session.
    pub rx_bytes: u64,
    /// Data packets to it.
    pub tx_packets: u64,
    /// Their bytes inside the session.
    pub tx_bytes: u64,
    /// Since something authentic came from it, in seconds.
    pub last_seen_s: Option<u64>,
    /// When something authentic last came from it, in seconds since 1970, over restarts too; absent when nothing ever did.
    #[serde(default)]
    pub last_seen: Option<u64>,
    /// How it came to be known.
    #[serde(default)]
    pub source: PeerSource,
    /// Whether a NAT in front of this node changes the address the peer sees; then keepalives hold it open.
    #[serde(default)]
    pub nat: bool,
    /// Whether it stands in the configuration.
    pub configured: bool,
    /// What becomes of its transit here.
    #[serde(default)]
    pub transit: PeerTransit,
    /// How much of it is sent on, such as `10mbit 2000pps`; absent without a limit.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// Packets of its transit that were refused: not allowed, or more than the limit.
    #[serde(default)]
    pub refused_packets: u64,
    /// Whether the link with it is sealed, by either end's wish; without a session, whether this node wants it.
    #[serde(default)]
    pub sealed: bool,
}

/// How a link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The neighbour was asked and has not answered.
    Opening,
    /// It carries packets.
    Up,
    /// It did not answer while another link did; its packets travel over that one.
    Dead,
}

/// One of the links to a neighbour.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerLink {
    /// Its number: 0 came with the handshake.
    pub number: u8,
    /// This node's slot for it; absent until it is open.
    pub slot: Option<u16>,
    /// The slot as it is written in a route.
    pub slot_text: Option<String>,
    /// Where the neighbour is.
    pub endpoint: String,
    /// `eth`, `udp4` or `udp6`.
    pub kind: String,
    /// How it stands.
    pub state: LinkState,
    /// Whether data to the neighbour goes over it.
    pub active: bool,
}

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteSource {
    /// Added by hand.
    Configured,
    /// The peer is a neighbour.
    Direct,
    /// The way a packet of the peer came, reversed.
    Learned,
}

/// A route.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RouteInfo {
    /// To whom.
    pub peer_id: PeerId,
    /// Which way.
    pub route: Route,
    /// What stands in the label of its packets, in hex: the route without this node's own slot.
    #[serde(default)]
    pub label: String,
    /// Links to the peer. A slot of a hop that was not traced lately counts as one byte where it can be one.
    #[serde(default)]
    pub hops: u8,
    /// Where it comes from.
    pub source: RouteSource,
    /// Whether packets take it now.
    pub in_use: bool,
    /// `good`: an echo came back over it; `candidate`: not tried yet; `suspect`: the last echo did not; `dead`.
    pub state: String,
    /// For how many seconds it has stood so.
    #[serde(default)]
    pub age_s: Option<u64>,
    /// Smoothed round trip in ns.
    #[serde(default)]
    pub rtt_ns: Option<u64>,
    /// Smoothed part of its echoes that did not come back, 0 to 1.
    pub loss: f64,
    /// Why packets take it.
    #[serde(default)]
    pub why: Option<String>,
    /// The largest packet that goes over it in one piece, while packets take it.
    #[serde(default)]
    pub mtu_bytes: Option<u16>,
}

/// `/v0/ping`: an echo.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// Who was asked.
    pub peer_id: PeerId,
    /// The peer's address.
    pub address: Ipv6Addr,
    /// Which way.
    pub route: Route,
    /// Round trip in microseconds; absent without an authentic answer within a second.
    pub rtt_us: Option<u64>,
}

/// A hop of a trace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TraceHop {
    /// The route up to this hop.
    pub route: String,
    /// The last slot of that route: the one that the hop before has for this one.
    pub slot: String,
    /// Who sits there. When it does not answer now: who did within ten minutes.
    pub peer_id: Option<PeerId>,
    /// Its address.
    pub address: Option<Ipv6Addr>,
    /// Its own slot for the hop before.
    pub back_slot: Option<String>,
    /// Least round trip in microseconds; absent without an answer.
    pub rtt_us: Option<u64>,
    /// Mean round trip in microseconds.
    pub rtt_avg_us: Option<u64>,
    /// Answers that came.
    pub answers: u32,
}

/// `/v0/trace`: the hops on the way to a peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// To whom.
    pub peer_id: PeerId,
    /// The peer's address.
    pub address: Ipv6Addr,
    /// The whole route.
    pub route: Route,
    /// In their order; the last one is the end of the route.
    pub hops: Vec<TraceHop>,
    /// Whether the peer answered at the end of it.
    pub reached: bool,
    /// Why hops were left out, if any were.
    pub why: Option<String>,
}

/// `/v0/name/list`: a name that the operator gave to a peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameInfo {
    /// One label, in lower case; `.rovy` behind it makes the name in DNS.
    pub name: String,
    /// Whose it is.
    pub peer_id: PeerId,
    /// The peer's address.
    pub address: Ipv6Addr,
}

/// The host's side of fc00::/8.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Fc00Status {
    /// Whether the device is there.
    pub running: bool,
    /// Its name.
    pub ifname: Option<String>,
    /// The node's address on it.
    pub address: Option<Ipv6Addr>,
    /// Its MTU in bytes.
    pub mtu: Option<u16>,
    /// The routing table with fc00::/8.
    pub table: Option<u32>,
    /// The network namespace it is in, when that is not the agent's.
    #[serde(default)]
    pub netns: Option<String>,
    /// Work that host and agent share: `csum`, `tso`, `uso`, `gro`, `gro_udp`.
    #[serde(default)]
    pub offloads: Vec<String>,
    /// Packets from the network to the host.
    pub rx_packets: u64,
    /// Packets from the host to the network.
    pub tx_packets: u64,
    /// Packets that the host got joined.
    #[serde(default)]
    pub rx_joined: Large,
    /// Packets that the host left to the agent to split.
    #[serde(default)]
    pub tx_split: Large,
    /// Why it does not run, when it should.
    pub why: Option<String>,
    /// What to do when its packets are too large for a link of this node.
    #[serde(default)]
    pub advice: Option<String>,
}

/// Packets that went between host and agent as fewer large ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Large {
    /// Large packets.
    pub packets: u64,
    /// What they stand for.
    pub parts: u64,
}

/// `/v0/fc00/ports`: what comes in from the network.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ports {
    /// `off`: everything comes in.
    pub firewall: Firewall,
    /// Whether what is refused is answered.
    pub reject: bool,
    /// What becomes of echo requests that no rule is about.
    pub default_icmp: Action,
    /// What becomes of all else that no rule is about, unless it answers what this host began.
    pub default: Action,
    /// The rules, those for everybody first.
    pub rules: Vec<PortRule>,
    /// Packets that came in since the agent started.
    pub passed_packets: u64,
    /// Packets that did not.
    pub refused_packets: u64,
}

/// A rule of the firewall.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PortRule {
    /// `/tcp/PORT`, `/udp/PORT` or `/icmp`; port 0 stands for all.
    pub service: String,
    /// Whom it is for, `/rovy/PEERID` or `/ip6/ADDRESS`; for everybody when absent.
    pub from: Option<Sender>,
    /// That node's address.
    pub address: Option<Ipv6Addr>,
    /// What becomes of the packets it is about.
    pub action: Action,
    /// Packets it decided about, since it was made or the agent started. Those of a connection that it let in before are not
    /// decided about again.
    pub packets: u64,
}

/// Dropped packets by reason.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Drops {
    /// By the XDP programs.
    pub kernel: BTreeMap<String, u64>,
    /// By the agent.
    pub agent: BTreeMap<String, u64>,
}

/// Switched packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TransitStats {
    /// By the XDP programs.
    pub kernel_packets: u64,
    /// By the agent.
    pub agent_packets: u64,
}

/// Probes since the agent started, each copy for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProbeStats {
    /// Searches of this node's own.
    pub own: u64,
    /// That came from neighbours.
    pub received: u64,
    /// Received ones that were passed on.
    pub relayed: u64,
    /// Messages sent for it, and for this node's own searches.
    pub sent: u64,
    /// Received ones that looked for this node and were answered.
    pub answered: u64,
    /// Received ones that brought nothing new.
    pub copies: u64,
}

/// A link to a neighbour.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LinkStats {
    /// This node's slot for it.
    pub slot: u16,
    /// The slot as it is written in a route.
    pub slot_text: String,
    /// The neighbour.
    pub peer_id: PeerId,
    /// Where the neighbour is.
    pub endpoint: String,
    /// `eth`, `udp4` or `udp6`.
    pub kind: String,
    /// Transit packets received, by kernel and agent.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Transit packets sent, by kernel and agent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Whether the kernel sends on it by itself.
    pub redirect: bool,
    /// Why it does, or why not.
    pub why: String,
}

/// Errors about routes, by kind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ErrorStats {
    /// Sent to who had sent what this node did not pass on, or whose session it does not know.
    pub sent: BTreeMap<String, u64>,
    /// Received, without those beyond the limit.
    pub received: BTreeMap<String, u64>,
    /// Those of them that match nothing this node sent lately, or say what cannot be.
    pub disbelieved: BTreeMap<String, u64>,
}

/// Something bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LimitUse {
    /// In use now; of queues that there are several of, the longest.
    pub used: u64,
    /// What there is. At this bound the newest is dropped, with the reason `limit` or `queue_full`.
    pub max: u64,
}

/// `/v0/stats`: counters since the tables were made.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Dropped packets.
    pub drops: Drops,
    /// Packets the kernel handed to the agent, by reason.
    pub up: BTreeMap<String, u64>,
    /// Switched packets.
    pub transit: TransitStats,
    /// Links to neighbours.
    pub links: Vec<LinkStats>,
    /// Errors about routes.
    #[serde(default)]
    pub errors: ErrorStats,
    /// Sessions, direct and behind others.
    pub sessions: u32,
    /// Cookie replies sent, by kernel and agent.
    #[serde(default)]
    pub cookie_replies: u64,
    /// Handshakes that led to a session since the agent started, renewals of keys included.
    #[serde(default)]
    pub handshakes: u64,
    /// What was asked and passed on to find nodes.
    #[serde(default)]
    pub probes: ProbeStats,
    /// What is bounded, by name, and how much of it is in use.
    #[serde(default)]
    pub limits: BTreeMap<String, LimitUse>,
}

/// `/v0/handover`: what root would open for an agent that may not do so itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wants {
    /// EtherType of raw frames.
    pub ethertype: u16,
    /// The node's address, for the TUN device.
    pub address: Ipv6Addr,
    /// Name of the TUN device.
    pub fc00_ifname: String,
    /// MTU of the TUN device in bytes.
    pub fc00_mtu: u16,
    /// Whether the agent answers DNS behind the TUN device.
    #[serde(default)]
    pub dns: bool,
    /// Sizes of the XDP maps; absent when the agent has them, or is to go without.
    pub xdp: Option<MapSizes>,
}

/// What the sizes of the XDP maps follow from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapSizes {
    /// Receiver indices there is room for, a power of two.
    pub sessions: u32,
    /// Bytes of a slot, 1 or 2.
    pub slot_width: u8,
}
