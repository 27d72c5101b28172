use super::types::{
    Discovery, Echo, Fc00Status, Info, Listener, NameInfo, Peer, Ports, RouteInfo, Stats, Trace, Wants,
};
use crate::fc00::firewall::Service;
use crate::identity::PeerId;
use crate::multiaddr::{Multiaddr, Route};
use crate::names::{NodeName, Petname, Whom};
use crate::rate::RateLimit;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// What the API asks of the agent.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Who the agent is.
    Info,
    /// End.
    Stop {
        /// Leave the XDP programs and their maps switching.
        keep_transit: bool,
    },
    /// All listeners.
    ListenerList,
    /// Listen on an address.
    ListenerStart {
        /// UDP or Ethernet, without a peer.
        address: Multiaddr,
        /// Write it into the configuration too.
        persist: bool,
    },
    /// Listen there no more.
    ListenerStop {
        /// As it was started.
        address: Multiaddr,
        /// Take it out of the configuration too.
        persist: bool,
    },
    /// All peers.
    PeerList,
    /// Connect to a peer and stay connected.
    PeerConnect {
        /// Where, without the peer.
        address: Multiaddr,
        /// Who is expected there.
        peer: Whom,
        /// Write it into the configuration too.
        persist: bool,
    },
    /// Drop a peer and connect no more.
    PeerDisconnect {
        /// Whom.
        peer: Whom,
    },
    /// Send on only so much of a peer's transit.
    PeerLimit {
        /// Whose.
        peer: Whom,
        /// How much; all of it when absent.
        limit: Option<RateLimit>,
        /// Write it into the configuration too.
        persist: bool,
    },
    /// Where nodes are looked for.
    DiscoveryList,
    /// Looks for nodes of the link and is found by them, or no more.
    DiscoverySwitch {
        /// On this listener; on all there are and will be when absent.
        listener: Option<Multiaddr>,
        /// Whether.
        on: bool,
    },
    /// All routes.
    RouteList,
    /// Route to a peer by hand.
    RouteAdd {
        /// To whom.
        peer: Whom,
        /// Which way.
        route: Route,
    },
    /// Remove a route made by hand.
    RouteDel {
        /// To whom.
        peer: Whom,
        /// Which one; all of the peer's when absent.
        route: Option<Route>,
    },
    /// One echo to a peer, over the route that its packets take.
    Ping {
        /// To whom.
        peer: Whom,
    },
    /// Ask each hop on the way to a peer.
    Trace {
        /// To whom.
        peer: Whom,
        /// Echoes to each hop, 1 to 10.
        probes: u8,
    },
    /// All names for peers.
    NameList,
    /// Give a peer a name.
    NameAdd {
        /// The name.
        name: Petname,
        /// Whose.
        peer: PeerId,
    },
    /// Take a name away.
    NameDel {
        /// The name.
        name: Petname,
    },
    /// Make the TUN device.
    Fc00Start(Fc00Device),
    /// Remove the TUN device.
    Fc00Stop,
    /// How the TUN device is.
    Fc00Status,
    /// Let services in from the network, now and after a restart.
    Fc00Allow {
        /// Which.
        services: Vec<Service>,
        /// From this node only; from everybody when absent.
        from: Option<NodeName>,
    },
    /// Let services in no more, now and after a restart.
    Fc00Deny {
        /// Which.
        services: Vec<Service>,
        /// From this node only; from everybody when absent.
        from: Option<NodeName>,
    },
    /// What comes in from the network.
    Fc00Ports,
    /// Counters.
    Stats,
    /// What root would have to open for the agent.
    Wants,
    /// Listen on an Ethernet interface by a socket that root opened; with it the XDP program and its maps, if the agent wants
    /// them. Root's alone.
    GiveListener {
        /// Ethernet, without a peer.
        address: Multiaddr,
        /// Write it into the configuration too.
        persist: bool,
    },
    /// Use the TUN device that root made and routed. Root's alone.
    GiveFc00 {
        /// The network namespace it is in, when that is not the agent's.
        netns: Option<String>,
    },
}

impl Command {
    /// Whether descriptors come with it, and only from root.
    #[must_use]
    pub const fn gives(&self) -> bool {
        matches!(self, Self::GiveListener { .. } | Self::GiveFc00 { .. })
    }
}

/// The agent's answer. In JSON it is the payload alone; the path tells which it is.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To [`Command::Info`].
    Info(Info),
    /// To [`Command::Stop`]: the agent ends once the answer is out.
    #[serde(serialize_with = "stopped")]
    Stopped,
    /// To [`Command::ListenerList`].
    Listeners(Vec<Listener>),
    /// To [`Command::ListenerStart`] and [`Command::GiveListener`].
    Listener(Listener),
    /// To [`Command::PeerList`].
    Peers(Vec<Peer>),
    /// To [`Command::PeerConnect`] and [`Command::PeerLimit`].
    Peer(Peer),
    /// To the discovery commands.
    Discovery(Discovery),
    /// To [`Command::RouteList`].
    Routes(Vec<RouteInfo>),
    /// To [`Command::Ping`].
    Echo(Echo),
    /// To [`Command::Trace`].
    Trace(Trace),
    /// To [`Command::NameList`].
    Names(Vec<NameInfo>),
    /// To [`Command::NameAdd`].
    Name(NameInfo),
    /// To the fc00 commands.
    Fc00(Fc00Status),
    /// To [`Command::Fc00Ports`] and what changes them.
    Ports(Ports),
    /// To [`Command::Stats`].
    Stats(Box<Stats>),
    /// To [`Command::Wants`].
    Wants(Wants),
    /// Nothing more to say.
    #[serde(serialize_with = "done")]
    Done,
}

fn done<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map([("done", true)])
}

fn stopped<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map([("stopped", true)])
}

/// What kind of no it is; decides HTTP status and exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request makes no sense.
    Usage,
    /// There is no such thing.
    NotFound,
    /// It is there already, or in the way of another.
    Conflict,
    /// The agent or its caller may not.
    Permission,
    /// This build, kernel or device cannot.
    Unsupported,
    /// Not now: starting, stopping, or overloaded.
    Unavailable,
    /// A fault of the agent.
    Internal,
}

/// Why a command was refused, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of no it is.
    pub kind: FailureKind,
    /// What happened, to what.
    pub message: String,
    /// What to do next.
    pub next: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), next: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// A command on its way to the agent.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// What root opened; empty but for commands that give. For a listener its socket, then, if any, the XDP program and its
    /// maps; for fc00 the TUN device.
    pub descriptors: Vec<OwnedFd>,
    /// Where the answer goes. The caller may have left.
    pub reply: tokio::sync::oneshot::Sender<Result<Reply, Failure>>,
}

/// The way to the agent: bounded, 64 commands at most.
pub type Requests = tokio::sync::mpsc::Sender<Request>;

/// Which TUN device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fc00Device {
    /// Its name; the configured one when absent.
    pub ifname: Option<String>,
    /// The network namespace it is made in; the agent's when absent.
    pub netns: Option<String>,
    /// It is there already: its name, or the number of a descriptor of the caller's.
    pub existing: Option<String>,
}

impl Fc00Device {
    /// The command that root types for it.
    #[must_use]
    pub fn as_root(&self) -> String {
        let all = [("ifname", &self.ifname), ("netns", &self.netns), ("existing", &self.existing)];
        let given = all.iter().filter_map(|(key, v)| v.as_ref().map(|v| format!(" --{key} {v}")));
        format!("sudo rovy fc00 start{}", given.collect::<String>())
    }
}
