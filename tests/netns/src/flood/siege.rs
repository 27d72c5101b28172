//! The stage of a flood.
//!
//! ```text
//!   a ======= r ======= b        an established TCP stream; r switches it in its kernel
//!             |  \
//!    gen0,    |   \ to-n
//!    gen1     |    \
//!             x     n            x: attackers, n: who has never been seen before
//! ```
//!
//! r, the victim, has a TUN device too: pings from b end there, at its agent. What x sends by `gen0` meets rovy's program, what
//! it sends by `gen1` one that does nothing but drop.

use super::{Flood, Kind, Victim};
use crate::agent::{Config, Peer};
use crate::line::TUN;
use crate::traffic::Traffic;
use crate::{Agent, Line, Link, Mode, Namespace, device, wait};
use anyhow::{Context as _, Result};
use rovy_common::encap::Macs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The attackers' device that leads to rovy's program.
pub const OPEN: &str = "gen0";
/// The attackers' device that leads to a program that drops everything.
pub const DROP: &str = "gen1";

/// How long a new peer is waited for.
const NEWCOMER: Duration = Duration::from_secs(60);

/// The hosts, the victim's neighbours connected.
#[derive(Debug)]
pub struct Siege {
    _sink: Traffic,
    _refuse: Traffic,
    /// a, r and b.
    pub line: Line,
    link: Link,
    binary: PathBuf,
    /// The attackers.
    pub ns_x: Namespace,
    ns_n: Namespace,
}

impl Siege {
    /// Makes the hosts, connects a and b to r, and routes between them. All links but the attackers' are of kind `link`.
    ///
    /// # Errors
    /// When something cannot be made or does not connect.
    pub fn start(binary: &Path, link: Link, mode: Mode) -> Result<Self> {
        let line = Line::with_binary(binary, link, [mode; 3])?;
        let (ns_x, ns_n) = (Namespace::new("x")?, Namespace::new("n")?);
        let r = &line.ns_r;
        device::veth(&ns_x, OPEN, r, "to-x", 1500)?;
        device::veth(&ns_x, DROP, r, "to-drop", 1500)?;
        device::veth(&ns_n, "to-r", r, "to-n", 1500)?;
        for (ns, interface, net, host) in
            [(&ns_x, OPEN, 3, 1), (r, "to-x", 3, 2), (&ns_n, "to-r", 4, 1), (r, "to-n", 4, 2)]
        {
            device::address(ns, interface, &format!("10.77.{net}.{host}/24"))?;
            device::address(ns, interface, &format!("fd77:{net}::{host}/64"))?;
        }
        // What r answers to forged addresses leaves as it would into the internet.
        let router = device::mac(&ns_x, OPEN)?.map(|b| format!("{b:02x}")).join(":");
        for (forged, via) in [("198.18.0.0/15", "10.77.3.1"), ("2001:db8:f::/48", "fd77:3::1")] {
            r.ip(&format!("neigh replace {via} lladdr {router} dev to-x nud permanent"))?;
            r.ip(&format!("route add {forged} via {via}"))?;
        }
        let (mut sink, mut refuse) = (Traffic::passive()?, Traffic::passive()?);
        sink.attach(&ns_x, "sink", OPEN)?;
        refuse.attach(r, "refuse", "to-drop")?;

        let peer = |agent: &Agent, net, interface| Peer {
            id: agent.peer_id(),
            addresses: vec![link.connect(net, 1, interface)],
        };
        let mut listen = vec![link.listen(1, 2, "to-a"), link.listen(2, 2, "to-b"), link.listen(4, 2, "to-n")];
        listen.extend(Link::ALL.map(|l| l.listen(3, 2, "to-x")));
        line.r.configure(&Config {
            listen,
            mode,
            xdp_interfaces: vec!["to-x".into(), "to-n".into()],
            peers: vec![peer(&line.a, 1, "to-a"), peer(&line.b, 2, "to-b")],
            tun: Some(TUN.into()),
            ..Config::default()
        })?;
        let binary = binary.to_path_buf();
        let mut siege = Self { _sink: sink, _refuse: refuse, line, link, binary, ns_x, ns_n };
        siege.line.start()?;
        Ok(siege)
    }

    /// Whom the attackers attack.
    ///
    /// # Errors
    /// When their devices are gone.
    pub fn victim(&self) -> Result<Victim> {
        let macs = Macs { dst: device::mac(&self.line.ns_r, "to-x")?, src: device::mac(&self.ns_x, OPEN)? };
        let (ip4, ip6) = (Ipv4Addr::new(10, 77, 3, 2), Ipv6Addr::new(0xfd77, 3, 0, 0, 0, 0, 0, 2));
        Ok(Victim { id: self.line.r.peer_id(), macs, ip4, ip6 })
    }

    /// A flood from `sources` sources by the last CPU. It waits for [`Flood::send`].
    ///
    /// # Errors
    /// As [`Flood::new`].
    pub fn flood(&self, kind: Kind, link: Link, sources: u32) -> Result<Flood> {
        let cpu = std::thread::available_parallelism().map_or(0, |n| n.get() - 1);
        Flood::new(&self.ns_x, kind, link, &self.victim()?, sources, cpu)
    }

    /// The victim's process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.line.r.pid().context("the victim's agent does not run")
    }

    /// A node that nobody has seen before is started. How long until the victim has a session with it, the start of its agent
    /// included; `None` when it took longer than a minute.
    ///
    /// # Errors
    /// When its agent cannot be started.
    pub fn newcomer(&self, mode: Mode) -> Result<Option<Duration>> {
        let mut n = Agent::with_binary(&self.binary, &self.ns_n, "n")?;
        let address = self.link.connect(4, 2, "to-r");
        let peers = vec![Peer { id: self.line.r.peer_id(), addresses: vec![address] }];
        n.configure(&Config { listen: vec![self.link.listen(4, 1, "to-r")], mode, peers, ..Config::default() })?;
        let start = Instant::now();
        n.start()?;
        let id = n.peer_id();
        let connected =
            wait::until("a new peer", NEWCOMER, || Ok(self.line.r.connected(id)?.then_some(start.elapsed())));
        wait::check()?;
        Ok(connected.ok())
    }
}
