//! The topology most tests and the demo use.
//!
//! ```text
//!   namespace a              namespace r              namespace b
//!   +----------+          +--------------+          +----------+
//!   | rovy0    |          |    agent     |          |    rovy0 |
//!   |   |      |          |   (no TUN)   |          |      |   |
//!   | agent    |   veth   | to-a    to-b |   veth   |    agent |
//!   |     to-r ============ .2 (XDP)  .2 ============ to-r     |
//!   +----------+ 10.77.1  +--------------+ 10.77.2  +----------+
//!       .1       fd77:1::                  fd77:2::      .1
//! ```
//!
//! a and b know r only; r knows both. All know where, so that an agent that starts again finds its neighbours at once:
//! those have no reason yet to look for it. Each end has a route to the other by hand: its own slot for r, then r's slot
//! for the other end.

use crate::agent::{DEADLINE, Peer, binary};
use crate::{Agent, Config, Namespace, device, ping, stream, wait};
use anyhow::Result;
use rovy_userspace::api::Stats;
use rovy_userspace::identity::PeerId;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// The kind of underlay all links of the line run over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Raw Ethernet.
    Eth,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Eth, Self::Udp4, Self::Udp6];

    /// The multiaddr of the node `host` on segment `net` (1 or 2), as it listens on `interface`.
    pub(crate) fn listen(self, net: u8, host: u8, interface: &str) -> String {
        match self {
            Self::Eth => format!("/ethif/{interface}"),
            Self::Udp4 => format!("/ip4/10.77.{net}.{host}/udp/1312"),
            Self::Udp6 => format!("/ip6/fd77:{net}::{host}/udp/1312"),
        }
    }

    /// Where that node is reached by the one that has it behind its own `interface`.
    pub(crate) fn connect(self, net: u8, host: u8, interface: &str) -> String {
        self.listen(net, host, interface)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eth => "eth",
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
        })
    }
}

/// How a node switches transit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// XDP in the driver.
    #[default]
    Native,
    /// XDP behind the driver.
    Generic,
    /// No XDP: the agent does it.
    Userspace,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Native, Self::Generic, Self::Userspace];

    /// Whether the kernel switches transit, with or without an agent.
    #[must_use]
    pub fn kernel(self) -> bool {
        self != Self::Userspace
    }

    /// The value of `xdp.mode`, and what `rovy listener list` shows.
    #[must_use]
    pub fn xdp(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Userspace => "off",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Userspace => "userspace",
        })
    }
}

/// Three hosts in a row. The agents are declared first: they stop before their namespaces go.
#[derive(Debug)]
pub struct Line {
    /// The left end's agent.
    pub a: Agent,
    /// The middle's agent.
    pub r: Agent,
    /// The right end's agent.
    pub b: Agent,
    /// The left end.
    pub ns_a: Namespace,
    /// The middle.
    pub ns_r: Namespace,
    /// The right end.
    pub ns_b: Namespace,
}

/// Name of the TUN devices.
pub const TUN: &str = "rovy0";

impl Line {
    /// Makes namespaces, devices, keys and configurations with the same mode everywhere. No agent runs yet.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn new(link: Link, mode: Mode) -> Result<Self> {
        Self::with_binary(&binary()?, link, [mode; 3])
    }

    /// As [`Line::new`], with the agents' binary at `path` and a mode for each of a, r and b.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn with_binary(path: &Path, link: Link, modes: [Mode; 3]) -> Result<Self> {
        Self::with_links(path, [link; 2], modes)
    }

    /// As [`Line::with_binary`], with a kind of link for each of a - r and r - b.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn with_links(path: &Path, links: [Link; 2], [a_mode, r_mode, b_mode]: [Mode; 3]) -> Result<Self> {
        let (ns_a, ns_r, ns_b) = (Namespace::new("a")?, Namespace::new("r")?, Namespace::new("b")?);
        device::veth(&ns_a, "to-r", &ns_r, "to-a", 1500)?;
        device::veth(&ns_b, "to-r", &ns_r, "to-b", 1500)?;
        for (ns, interface, net, host) in
            [(&ns_a, "to-r", 1, 1), (&ns_r, "to-a", 1, 2), (&ns_r, "to-b", 2, 2), (&ns_b, "to-r", 2, 1)]
        {
            device::address(ns, interface, &format!("10.77.{net}.{host}/24"))?;
            device::address(ns, interface, &format!("fd77:{net}::{host}/64"))?;
        }
        let agent = |ns, name| Agent::with_binary(path, ns, name);
        let (a, r, b) = (agent(&ns_a, "a")?, agent(&ns_r, "r")?, agent(&ns_b, "b")?);
        let peer = |id: PeerId, address: String| Peer { id, addresses: vec![address] };
        let [left, right] = links;
        let end = |link: Link, net, mode| Config {
            listen: vec![link.listen(net, 1, "to-r")],
            mode,
            peers: vec![peer(r.peer_id(), link.connect(net, 2, "to-r"))],
            tun: Some(TUN.to_owned()),
            allow: vec![stream::SERVICE.to_owned()],
            ..Config::default()
        };
        a.configure(&end(left, 1, a_mode))?;
        b.configure(&end(right, 2, b_mode))?;
        r.configure(&Config {
            listen: vec![left.listen(1, 2, "to-a"), right.listen(2, 2, "to-b")],
            mode: r_mode,
            peers: vec![peer(a.peer_id(), left.connect(1, 1, "to-a")), peer(b.peer_id(), right.connect(2, 1, "to-b"))],
            ..Config::default()
        })?;
        Ok(Self { a, r, b, ns_a, ns_r, ns_b })
    }

    /// Starts the three agents, waits for their sessions, and routes between the ends.
    ///
    /// # Errors
    /// When an agent does not start, connect or answer in time.
    pub fn start(&mut self) -> Result<()> {
        self.r.start()?;
        self.a.start()?;
        self.b.start()?;
        self.connect()
    }

    /// Waits until r's kernel sends on both links by itself: a veth transmits redirected frames once its peer has XDP, which the
    /// agent finds out within a second.
    ///
    /// # Errors
    /// When it does not come about in time.
    pub fn sends_in_kernel(&self) -> Result<()> {
        let all = |s: &Stats| s.links.iter().all(|l| l.redirect);
        self.r.wait_stats("r's kernel to send on both links", DEADLINE, all).map(drop)
    }

    /// Waits for the sessions, routes between the ends, and waits until a ping gets through.
    ///
    /// # Errors
    /// When it does not come about in time.
    pub fn connect(&self) -> Result<()> {
        let (a_to_r, b_to_r) = (self.a.wait_neighbour(self.r.peer_id())?, self.b.wait_neighbour(self.r.peer_id())?);
        let (r_to_a, r_to_b) = (self.r.wait_neighbour(self.a.peer_id())?, self.r.wait_neighbour(self.b.peer_id())?);
        route(&self.a, self.b.peer_id(), &format!("/rovyrt/{a_to_r}.{r_to_b}"))?;
        route(&self.b, self.a.peer_id(), &format!("/rovyrt/{b_to_r}.{r_to_a}"))?;
        wait::until("a ping from a to b over r", DEADLINE, || {
            let answered = ping::once(&self.ns_a, self.b.address(), Duration::from_millis(500))?;
            Ok(answered.then_some(()))
        })
        .map_err(|e| self.b.explain(self.r.explain(self.a.explain(e))))
    }
}

/// `rovy route add`.
///
/// # Errors
/// When the agent refuses it.
pub fn route(agent: &Agent, to: PeerId, route: &str) -> Result<()> {
    let output = agent.cli(&["route", "add", &to.to_string(), route])?;
    anyhow::ensure!(
        output.status.success(),
        "rovy route add {to} {route}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
