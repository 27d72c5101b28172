//! Routes that need a long label.
//!
//! ```text
//!              t
//!             / \
//!   a ---- r ----- s ---- b
//! ```
//!
//! The route goes twice round the triangle: eight hops of two bytes each.

use anyhow::{Result, ensure};
use rovy_netns::agent::{DEADLINE, Peer, binary};
use rovy_netns::line::{TUN, route};
use rovy_netns::ping::Ping;
use rovy_netns::stream::{self, Stream};
use rovy_netns::{Agent, Config, Mode, Namespace, device, ping, wait};
use std::time::Duration;

const NAMES: [&str; 5] = ["a", "r", "s", "t", "b"];
/// Which of them are joined.
const LINKS: [(usize, usize); 5] = [(0, 1), (1, 2), (2, 3), (3, 1), (2, 4)];
/// The hosts on the way from a to b.
const WAY: [usize; 10] = [0, 1, 2, 3, 1, 2, 3, 1, 2, 4];

struct Hosts {
    agents: Vec<Agent>,
    spaces: Vec<Namespace>,
}

impl Hosts {
    fn start(mode: Mode) -> Result<Self> {
        let spaces = NAMES.iter().map(|n| Namespace::new(n)).collect::<Result<Vec<_>>>()?;
        let agents = NAMES.iter().zip(&spaces).map(|(name, ns)| Agent::with_binary(&binary()?, ns, name));
        let mut agents = agents.collect::<Result<Vec<_>>>()?;
        let allow = vec![stream::SERVICE.to_owned()];
        let mut configs = vec![Config { mode, allow, ..Config::default() }; NAMES.len()];
        for at in [0, 4] {
            configs[at].tun = Some(TUN.into());
        }
        for (net, (left, right)) in LINKS.into_iter().enumerate() {
            let (left_if, right_if) = (format!("to-{}", NAMES[right]), format!("to-{}", NAMES[left]));
            device::veth(&spaces[left], &left_if, &spaces[right], &right_if, 1500)?;
            for (host, interface, number, other) in [(left, &left_if, 1, right), (right, &right_if, 2, left)] {
                device::address(&spaces[host], interface, &format!("10.77.{net}.{number}/24"))?;
                configs[host].listen.push(format!("/ip4/10.77.{net}.{number}/udp/1312"));
                let addresses = vec![format!("/ip4/10.77.{net}.{}/udp/1312", 3 - number)];
                configs[host].peers.push(Peer { id: agents[other].peer_id(), addresses });
            }
        }
        for (agent, config) in agents.iter_mut().zip(&configs) {
            agent.configure(config)?;
            agent.edit("[listen]", "[node]\nslot_width = 2\n\n[listen]")?;
            agent.start()?;
        }
        let hosts = Self { agents, spaces };
        hosts.route(&WAY)?;
        hosts.route(&WAY.iter().rev().copied().collect::<Vec<_>>())?;
        wait::until("an answer over the long way", DEADLINE, || {
            Ok(ping::once(&hosts.spaces[0], hosts.agents[4].address(), Duration::from_millis(500))?.then_some(()))
        })
        .map_err(|e| hosts.explain(e))?;
        Ok(hosts)
    }

    /// Sets the route from the first to the last of these.
    fn route(&self, way: &[usize]) -> Result<()> {
        let slot = |w: &[usize]| self.agents[w[0]].wait_neighbour(self.agents[w[1]].peer_id());
        let slots = way.windows(2).map(slot).collect::<Result<Vec<_>>>()?;
        ensure!(slots.iter().all(|s| s.len() == 4), "slots of two bytes: {slots:?}");
        let (from, to) = (&self.agents[way[0]], &self.agents[way[way.len() - 1]]);
        route(from, to.peer_id(), &format!("/rovyrt/{}", slots.join(".")))
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        self.agents[1..4].iter().fold(error, |error, agent| agent.explain(error))
    }

    /// What r, s and t have switched: in their kernels, and by their agents.
    fn switched(&self) -> Result<[u64; 2]> {
        let stats = self.agents[1..4].iter().map(Agent::stats).collect::<Result<Vec<_>>>()?;
        let sum = |of: fn(&rovy_userspace::api::TransitStats) -> u64| stats.iter().map(|s| of(&s.transit)).sum();
        Ok([sum(|t| t.kernel_packets), sum(|t| t.agent_packets)])
    }
}

/// Pings and a TCP stream cross; what is switched, by kernel and agent.
fn crosses(mode: Mode) -> Result<[u64; 2]> {
    let hosts = Hosts::start(mode)?;
    for agent in hosts.agents.iter().filter(|_| mode.kernel()) {
        // A veth transmits redirected frames once its peer has XDP, which the agent finds out within a second.
        agent.wait_stats("the kernel to send on all links", DEADLINE, |s| s.links.iter().all(|l| l.redirect))?;
    }
    let before = hosts.switched()?;
    let ping = Ping::start(&hosts.spaces[0], hosts.agents[4].address(), Duration::from_millis(5), 1000)?;
    wait::until("100 pings", DEADLINE, || Ok((ping.mark() >= 100).then_some(())))?;
    let pings = ping.finish(Duration::from_secs(2))?;
    ensure!(pings.lost() == 0, "{pings:?}");
    let stream = Stream::start(&hosts.spaces[4], &hosts.spaces[0], hosts.agents[0].address(), 5201)?;
    wait::until("1 MB over TCP", DEADLINE, || Ok((stream.bytes() > 1_000_000).then_some(())))
        .map_err(|e| hosts.explain(e))?;
    let bytes = stream.finish()?;
    let after = hosts.switched()?;
    let done = [after[0] - before[0], after[1] - before[1]];
    // Eight hops each way.
    let least = 8 * (2 * pings.received + bytes / 1500);
    ensure!(done[0] + done[1] >= least, "{done:?}, and {least} at least went the long way");
    for agent in &hosts.agents[1..4] {
        let stats = agent.stats()?;
        let bad = ["bad_label", "bad_tag", "no_slot", "u_turn"].map(|r| (stats.drops.kernel[r], stats.drops.agent[r]));
        ensure!(bad == [(0, 0); 4], "{stats:?}");
    }
    Ok(done)
}

#[test]
fn long_labels_are_switched_in_the_kernel() -> Result<()> {
    rovy_netns::root_only!();
    let [_, agent] = crosses(Mode::Native)?;
    ensure!(agent == 0, "the agents forwarded {agent} packets");
    Ok(())
}

#[test]
fn long_labels_are_switched_without_xdp() -> Result<()> {
    rovy_netns::root_only!();
    let [kernel, _] = crosses(Mode::Userspace)?;
    ensure!(kernel == 0, "the kernels forwarded {kernel} packets");
    Ok(())
}
