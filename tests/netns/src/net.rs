//! Hosts with links of any shape between them. Neighbours are named; routes nobody types.
//!
//! ```text
//!   h0 to-1 ======== to-0 h1            a plain link: one veth pair; 10.78.N.1 and .2, fd78:N::1 and ::2 on link N
//!
//!   h0 to-1 == [ brN, namespace cut ] == to-0 h1      a link that can be cut without either end noticing
//! ```

use crate::agent::{DEADLINE, Peer};
use crate::line::TUN;
use crate::{Agent, Config, Link, Mode, Namespace, device, ping, stream, wait};
use anyhow::{Context as _, Result, ensure};
use rovy_userspace::api::{RouteInfo, Trace};
use std::time::Duration;

/// How the hosts of a [`Net`] are wired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cables {
    /// End to end: a link that is down at one end has no carrier at the other.
    Plain,
    /// Through a bridge each, which can stop passing frames on while both ends keep their carrier.
    Bridged,
}

/// Hosts and their agents. The agents are declared first: they stop before their namespaces go.
#[derive(Debug)]
pub struct Net {
    /// The agent of each host.
    pub agents: Vec<Agent>,
    /// The hosts.
    pub hosts: Vec<Namespace>,
    bridges: Option<Namespace>,
    links: Vec<(usize, usize)>,
}

/// The links of a row of `n` hosts.
#[must_use]
pub fn row(n: usize) -> Vec<(usize, usize)> {
    (1..n).map(|i| (i - 1, i)).collect()
}

/// The links of a ring of `n` hosts.
#[must_use]
pub fn ring(n: usize) -> Vec<(usize, usize)> {
    (0..n).map(|i| (i, (i + 1) % n)).collect()
}

impl Net {
    /// Makes namespaces, devices, keys and configurations. No agent runs yet.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn new(link: Link, mode: Mode, cables: Cables, n: usize, links: &[(usize, usize)]) -> Result<Self> {
        let hosts = (0..n).map(|i| Namespace::new(&format!("h{i}"))).collect::<Result<Vec<_>>>()?;
        let bridges = (cables == Cables::Bridged).then(|| Namespace::new("cut")).transpose()?;
        let agents =
            hosts.iter().enumerate().map(|(i, ns)| Agent::new(ns, &format!("h{i}"))).collect::<Result<Vec<_>>>()?;
        let (mut listen, mut peers) = (vec![Vec::new(); n], vec![Vec::new(); n]);
        for (number, (a, b)) in links.iter().enumerate() {
            wire(&hosts, bridges.as_ref(), number, (*a, *b))?;
            for (end, (i, other)) in [(1, (*a, *b)), (2, (*b, *a))] {
                let (interface, their) = (format!("to-{other}"), 3 - end);
                device::address(&hosts[i], &interface, &format!("10.78.{number}.{end}/24"))?;
                device::address(&hosts[i], &interface, &format!("fd78:{number}::{end}/64"))?;
                listen[i].push(address(link, number, end, &interface));
                let addresses = vec![address(link, number, their, &interface)];
                peers[i].push(Peer { id: agents[other].peer_id(), addresses });
            }
        }
        for (agent, (listen, peers)) in agents.iter().zip(listen.into_iter().zip(peers)) {
            let (tun, allow) = (Some(TUN.to_owned()), vec![stream::SERVICE.to_owned()]);
            agent.configure(&Config { listen, mode, peers, tun, allow, ..Config::default() })?;
        }
        Ok(Self { agents, hosts, bridges, links: links.to_vec() })
    }

    /// Starts the agents and waits until all neighbours are connected.
    ///
    /// # Errors
    /// When one does not start or connect in time.
    pub fn start(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            agent.start()?;
        }
        for (a, b) in &self.links {
            self.agents[*a].wait_neighbour(self.agents[*b].peer_id()).map_err(|e| self.agents[*b].explain(e))?;
            self.agents[*b].wait_neighbour(self.agents[*a].peer_id()).map_err(|e| self.agents[*a].explain(e))?;
        }
        Ok(())
    }

    /// Waits until a ping from one host to another is answered.
    ///
    /// # Errors
    /// When the deadline has passed.
    pub fn reach(&self, from: usize, to: usize) -> Result<()> {
        let what = format!("a ping from {from} to {to}");
        wait::until(&what, DEADLINE, || {
            let answered = ping::once(&self.hosts[from], self.agents[to].address(), Duration::from_millis(500))?;
            Ok(answered.then_some(()))
        })
        .map_err(|e| self.explain(from, to, e))
    }

    /// The routes of one host to another, as `rovy route list` shows them.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn routes(&self, from: usize, to: usize) -> Result<Vec<RouteInfo>> {
        let all: Vec<RouteInfo> = self.agents[from].json(&["route", "list"])?;
        Ok(all.into_iter().filter(|r| r.peer_id == self.agents[to].peer_id()).collect())
    }

    /// Waits until that many routes of one host to another are good.
    ///
    /// # Errors
    /// When the deadline has passed.
    pub fn wait_good(&self, from: usize, to: usize, n: usize) -> Result<Vec<RouteInfo>> {
        let what = format!("{n} good routes from {from} to {to}");
        let good = wait::until(&what, 2 * DEADLINE, || {
            let routes = self.routes(from, to)?;
            let good = routes.iter().filter(|r| r.state == "good" && r.rtt_ns.is_some()).count();
            Ok((good >= n).then_some(routes))
        });
        good.map_err(|e| self.explain(from, to, e))
    }

    /// `rovy trace`.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn trace(&self, from: usize, to: usize) -> Result<Trace> {
        self.agents[from].json(&["trace", &self.agents[to].peer_id().to_string()])
    }

    /// The hosts behind `from` on the route that packets take to `to`; every hop has to answer.
    ///
    /// # Errors
    /// When one does not answer in time.
    pub fn path(&self, from: usize, to: usize) -> Result<Vec<usize>> {
        let what = format!("every hop from {from} to {to} to answer");
        let path = wait::until(&what, DEADLINE, || {
            let trace = self.trace(from, to)?;
            ensure!(trace.reached && trace.hops.iter().all(|h| h.rtt_us.is_some()), "{trace:?}");
            let number = |h: &rovy_userspace::api::TraceHop| {
                self.agents.iter().position(|a| Some(a.peer_id()) == h.peer_id).context("a stranger")
            };
            trace.hops.iter().map(number).collect::<Result<Vec<_>>>().map(Some)
        });
        path.map_err(|e| self.explain(from, to, e))
    }

    /// Has a bridged link swallow everything (`cut`), or pass it on again. Both ends keep their carrier.
    ///
    /// # Errors
    /// When there is no such link, or it is a plain one.
    pub fn cut(&self, a: usize, b: usize, cut: bool) -> Result<()> {
        let ends = |l: &(usize, usize)| *l == (a, b) || *l == (b, a);
        let number = self.links.iter().position(ends).with_context(|| format!("no link {a} - {b}"))?;
        let bridges = self.bridges.as_ref().context("only bridged links can be cut silently")?;
        bridges.ip(&format!(
            "link set a{number} {}",
            if cut { "nomaster".into() } else { format!("master br{number}") }
        ))?;
        Ok(())
    }

    /// Adds the ends of both hosts' logs to an error.
    #[must_use]
    pub fn explain(&self, a: usize, b: usize, error: anyhow::Error) -> anyhow::Error {
        self.agents[a].explain(self.agents[b].explain(error))
    }
}

/// The devices of a link.
fn wire(hosts: &[Namespace], bridges: Option<&Namespace>, number: usize, (a, b): (usize, usize)) -> Result<()> {
    let (near, far) = (format!("to-{b}"), format!("to-{a}"));
    let Some(bridges) = bridges else { return device::veth(&hosts[a], &near, &hosts[b], &far, 1500) };
    let ports = [format!("a{number}"), format!("b{number}")];
    device::veth(&hosts[a], &near, bridges, &ports[0], 1500)?;
    device::veth(&hosts[b], &far, bridges, &ports[1], 1500)?;
    for port in &ports {
        // A veth takes redirected frames while its end has XDP or, as here, GRO.
        device::offload(bridges, port, "gro", true)?;
    }
    device::bridge(bridges, &format!("br{number}"), &[&ports[0], &ports[1]])
}

/// Where the host at one end (1 or 2) of link `number` listens, and where the other finds it.
fn address(link: Link, number: usize, end: usize, interface: &str) -> String {
    match link {
        Link::Eth => format!("/ethif/{interface}"),
        Link::Udp4 => format!("/ip4/10.78.{number}.{end}/udp/1312"),
        Link::Udp6 => format!("/ip6/fd78:{number}::{end}/udp/1312"),
    }
}
