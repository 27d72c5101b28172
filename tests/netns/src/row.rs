//! Hosts in a row, each pair joined by a link of its own kind and length.
//!
//! ```text
//!   host 0 .1 ==== 10.77.0 / fd77:0:: ==== .2 host 1 .1 ==== 10.77.1 / fd77:1:: ==== .2 host 2 …
//! ```
//!
//! The ends have a TUN. Each host knows its neighbours; each end has a route to the other by hand.

use crate::agent::{DEADLINE, Peer, binary};
use crate::line::{TUN, route};
use crate::{Agent, Config, Link, Mode, Namespace, device, ping, wait};
use anyhow::{Context as _, Result};
use std::time::Duration;

/// What joins two hosts.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// The kind of underlay.
    pub link: Link,
    /// Bytes of its longest IP packet.
    pub mtu: u32,
}

/// The hosts. The agents are declared first: they stop before their namespaces go.
#[derive(Debug)]
pub struct Row {
    /// Their agents, from left to right.
    pub agents: Vec<Agent>,
    /// Where they run.
    pub spaces: Vec<Namespace>,
}

/// The device of a host that leads to its right or left neighbour.
#[must_use]
pub const fn device_to(right: bool) -> &'static str {
    if right { "to-right" } else { "to-left" }
}

impl Row {
    /// Makes the hosts and everything between them, has `edit` change the configuration of each, starts the agents, and waits until a
    /// ping gets from one end to the other.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn start(segments: &[Segment], mode: Mode, edit: impl Fn(usize, &Agent) -> Result<()>) -> Result<Self> {
        let hosts = segments.len() + 1;
        let spaces = (0..hosts).map(|n| Namespace::new(&format!("h{n}"))).collect::<Result<Vec<_>>>()?;
        let binary = binary()?;
        let agent = |n: usize| Agent::with_binary(&binary, &spaces[n], &format!("host {n}"));
        let mut agents = (0..hosts).map(agent).collect::<Result<Vec<_>>>()?;
        let allow = vec!["/tcp/0".to_owned(), "/udp/0".to_owned()];
        let mut configs = vec![Config { mode, allow, ..Config::default() }; hosts];
        for end in [0, hosts - 1] {
            configs[end].tun = Some(TUN.to_owned());
        }
        for (n, Segment { link, mtu }) in segments.iter().enumerate() {
            device::veth(&spaces[n], device_to(true), &spaces[n + 1], device_to(false), *mtu)?;
            for (host, right, number) in [(n, true, 1), (n + 1, false, 2)] {
                device::address(&spaces[host], device_to(right), &format!("10.77.{n}.{number}/24"))?;
                device::address(&spaces[host], device_to(right), &format!("fd77:{n}::{number}/64"))?;
            }
            let at = |number: u8, right: bool| match link {
                Link::Eth => format!("/ethif/{}", device_to(right)),
                Link::Udp4 => format!("/ip4/10.77.{n}.{number}/udp/1312"),
                Link::Udp6 => format!("/ip6/fd77:{n}::{number}/udp/1312"),
            };
            configs[n].listen.push(at(1, true));
            configs[n + 1].listen.push(at(2, false));
            configs[n].peers.push(Peer { id: agents[n + 1].peer_id(), addresses: vec![at(2, true)] });
            configs[n + 1].peers.push(Peer { id: agents[n].peer_id(), addresses: vec![at(1, false)] });
        }
        for (n, config) in configs.iter().enumerate() {
            agents[n].configure(config)?;
            edit(n, &agents[n])?;
        }
        for agent in &mut agents {
            agent.start()?;
        }
        let row = Self { agents, spaces };
        row.route()?;
        Ok(row)
    }

    fn route(&self) -> Result<()> {
        let all: Vec<usize> = (0..self.agents.len()).collect();
        let back: Vec<usize> = all.iter().rev().copied().collect();
        for way in [all, back] {
            let slot = |w: &[usize]| self.agents[w[0]].wait_neighbour(self.agents[w[1]].peer_id());
            let slots = way.windows(2).map(slot).collect::<Result<Vec<String>>>()?;
            let (from, to) = (way.first().context("no hosts")?, way.last().context("no hosts")?);
            if way.len() > 2 {
                route(&self.agents[*from], self.agents[*to].peer_id(), &format!("/rovyrt/{}", slots.join(".")))?;
            }
        }
        let (first, last) = self.ends();
        wait::until("an answer over the row", DEADLINE, || {
            Ok(ping::once(&self.spaces[first], self.agents[last].address(), Duration::from_millis(500))?.then_some(()))
        })
        .map_err(|e| self.explain(e))
    }

    /// The numbers of the first and last host.
    #[must_use]
    pub fn ends(&self) -> (usize, usize) {
        (0, self.agents.len() - 1)
    }

    /// Changes the MTU of a segment at both its ends.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set_mtu(&self, segment: usize, mtu: u32) -> Result<()> {
        self.spaces[segment].ip(&format!("link set {} mtu {mtu}", device_to(true)))?;
        self.spaces[segment + 1].ip(&format!("link set {} mtu {mtu}", device_to(false)))?;
        Ok(())
    }

    /// The error with the ends of all agents' logs.
    #[must_use]
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        self.agents.iter().fold(error, |e, agent| agent.explain(e))
    }
}
