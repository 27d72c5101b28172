//! One run: bring the links up, rest, look for each other, talk, and lose links.

use std::sync::Mutex;

use rovy_common::DropReason;
use rovy_userspace::core::Path;
use rovy_userspace::identity::SecretKey;

use crate::memory;
use crate::metrics::Outcome;
use crate::network::{Conditions, Happening, Network, SECOND, Task, Traffic};
use crate::options::{Options, Victim};
use crate::paths::{Dead, Distances};
use crate::random::Random;
use crate::topology::{Graph, MS};
use crate::workload::{self, BOUND_NS, LONGEST, PACKET, Pair, Workload};

/// Links appear in the course of this time.
const DIALS_NS: u64 = 2 * SECOND;
/// After it hellos that were lost have been repeated.
const BRING_UP_NS: u64 = 20 * SECOND;
/// How long is watched what a network without any traffic sends.
const QUIET_NS: u64 = 10 * SECOND;
/// How long flows run before routes are looked at: route sets have settled.
const SETTLE_NS: u64 = 10 * SECOND;
/// How long is watched what a network with flows sends.
const STEADY_NS: u64 = 20 * SECOND;
/// Pace of a flow, and of one whose route is going to die.
const PACE_NS: u64 = SECOND;
const QUICK_NS: u64 = 50 * MS;
/// A flow is quick for so long before its route dies.
const BEFORE_NS: u64 = 3 * SECOND;
/// Time to rest after a death.
const AFTER_NS: u64 = 2 * SECOND;
/// A flow that does not run again after this is not healed.
pub(crate) const HEAL_NS: u64 = 30 * SECOND;

/// The key of each node, the same in all runs: making one takes hundreds of tries.
fn secrets(nodes: usize) -> Vec<SecretKey> {
    static MADE: Mutex<Vec<SecretKey>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for n in made.len()..nodes {
        let mut random = Random::new(n as u64, 3);
        made.push(SecretKey::generate(&mut |out| random.fill(out)));
    }
    made[..nodes].to_vec()
}

/// What is left of a network after a run, to be drawn.
pub struct Picture {
    pub(crate) graph: Graph,
    pub(crate) dead: Dead,
    /// Routes in use before anything died.
    pub(crate) routes: Vec<Vec<usize>>,
}

struct Run<'a> {
    options: &'a Options,
    network: Network,
    workload: Workload,
    random: Random,
    outcome: Outcome,
    routes: Vec<Vec<usize>>,
}

/// Runs one network. The same options and seed give the same outcome.
#[must_use]
pub fn simulate(options: &Options, seed: u64) -> (Outcome, Picture) {
    let nodes = options.nodes as usize;
    let graph = Graph::new(options.topology, nodes, options.degree as usize, seed);
    let secrets = secrets(nodes);
    let conditions = Conditions { loss: options.loss, reorder_ns: u64::from(options.reorder) * MS, mtu: options.mtu };
    let network = Network::new(graph, &secrets, conditions, PACKET, seed);
    let mut random = Random::new(seed, 4);
    let pairs = workload::sample(&network, options.pairs as usize, &mut random);
    let workload = Workload { pairs, keys: options.keys };
    let mut run = Run { options, network, workload, random, outcome: Outcome::default(), routes: Vec::new() };
    run.bring_up();
    run.quiet();
    run.lookups();
    run.flows();
    run.deaths();
    run.finish()
}

impl Run<'_> {
    fn pass(&mut self, ns: u64) {
        let until_ns = self.network.now_ns() + ns;
        while let Some(happening) = self.network.next(until_ns) {
            match happening {
                Happening::Task(task) => self.workload.act(&mut self.network, task),
                Happening::Packet(at, packet) => self.workload.arrived(&mut self.network, at, &packet),
            }
        }
    }

    /// What was sent while `ns` passed.
    fn watch(&mut self, ns: u64) -> Traffic {
        let before = self.network.traffic;
        self.pass(ns);
        self.network.traffic.since(before)
    }

    fn bring_up(&mut self) {
        let start_ns = self.network.now_ns();
        for link in 0..self.network.graph.edges.len() {
            let at_ns = start_ns + self.random.below(DIALS_NS);
            self.network.plan(at_ns, Task::Dial(link));
        }
        self.pass(BRING_UP_NS);
        self.outcome.links = self.network.graph.edges.len() as u64;
        self.outcome.links_up = self.network.links_up() as u64 / 2;
    }

    fn node_seconds(&self, ns: u64) -> f64 {
        self.network.hosts.len() as f64 * ns as f64 / SECOND as f64
    }

    fn quiet(&mut self) {
        let traffic = self.watch(QUIET_NS);
        self.outcome.quiet.add(traffic.control_bytes, self.node_seconds(QUIET_NS));
    }

    /// Both ends of a pair that are not neighbours learn the fastest way by hand.
    fn by_hand(&mut self, pair: usize) {
        let (a, b) = (self.workload.pairs[pair].a, self.workload.pairs[pair].b);
        let from = Distances::from(&self.network.graph, &self.network.dead, a);
        let Some(mut nodes) = from.back_from(&self.network.graph, b).filter(|nodes| nodes.len() > 2) else { return };
        self.network.give_route(&nodes);
        nodes.reverse();
        self.network.give_route(&nodes);
    }

    fn lookups(&mut self) {
        let pace_ns = u64::from(self.options.pace) * MS;
        let mut at_ns = self.network.now_ns();
        let fitting: Vec<usize> = (0..self.workload.pairs.len()).filter(|p| self.workload.pairs[*p].fits()).collect();
        for pair in &fitting {
            if self.options.by_hand {
                self.by_hand(*pair);
            }
            self.network.plan(at_ns, Task::Ask(*pair, 0));
            at_ns += pace_ns;
        }
        let took_ns = at_ns - self.network.now_ns() + BOUND_NS;
        let traffic = self.watch(took_ns);
        self.outcome.lookup.add(traffic.control_bytes, self.node_seconds(took_ns));
        self.outcome.lookups += fitting.len() as u64;
        self.outcome.lookup_messages += traffic.control_messages;
        self.outcome.pairs_sampled += self.workload.pairs.len() as u64;
        self.outcome.pairs_fitting += fitting.len() as u64;
        let first = self.workload.pairs.iter().filter_map(|p| p.first_byte_ns);
        self.outcome.first_byte_ms.extend(first.map(|ns| ns as f64 / MS as f64));
    }

    fn connected(&self) -> Vec<usize> {
        let pairs = &self.workload.pairs;
        (0..pairs.len()).filter(|p| pairs[*p].first_byte_ns.is_some()).collect()
    }

    fn flows(&mut self) {
        for pair in self.connected() {
            let start_ns = self.network.now_ns() + self.random.below(PACE_NS);
            self.workload.flow(&mut self.network, pair, PACE_NS, start_ns);
        }
        self.pass(SETTLE_NS);
        let traffic = self.watch(STEADY_NS);
        self.outcome.steady.add(traffic.control_bytes, self.node_seconds(STEADY_NS));
        for pair in self.connected() {
            self.stretch(pair);
        }
    }

    /// The nodes that packets of a pair pass now.
    fn route(&self, pair: usize) -> Option<Vec<usize>> {
        let pair = &self.workload.pairs[pair];
        let path = self.network.hosts[pair.a].path_to(self.network.ids[pair.b])?;
        self.network.walk(pair.a, &path).filter(|nodes| nodes.last() == Some(&pair.b))
    }

    fn stretch(&mut self, pair: usize) {
        let Some((best_ns, best_links)) = self.workload.pairs[pair].best else { return };
        let Some(nodes) = self.route(pair) else { return };
        let Some(latency_ns) = self.network.latency_ns(&nodes) else { return };
        self.outcome.stretch.push(latency_ns as f64 / best_ns.max(1) as f64);
        self.outcome.hops_stretch.push((nodes.len() - 1) as f64 / f64::from(best_links.max(1)));
        self.routes.push(nodes);
    }

    fn deaths(&mut self) {
        let connected = self.connected();
        for n in 0..self.options.kill as usize {
            let Some(pair) = connected.get(n % connected.len().max(1)).copied() else { return };
            let now_ns = self.network.now_ns();
            self.workload.flow(&mut self.network, pair, QUICK_NS, now_ns);
            self.pass(BEFORE_NS);
            if self.kill(pair) {
                self.heal(pair);
            }
            self.workload.flow(&mut self.network, pair, PACE_NS, now_ns);
            self.pass(AFTER_NS);
        }
    }

    /// Lets something on the pair's route die that it can do without. Whether there was such a thing.
    fn kill(&mut self, pair: usize) -> bool {
        let Pair { a, b, .. } = self.workload.pairs[pair];
        let Some(nodes) = self.route(pair) else { return false };
        // A dead node sends nothing that could be answered.
        if self.network.dead.nodes[a] || self.network.dead.nodes[b] {
            return false;
        }
        let choices = if self.options.victim == Victim::Link { nodes.len() - 1 } else { nodes.len() - 2 };
        if choices == 0 {
            return false;
        }
        let start = self.random.index(choices);
        for choice in (0..choices).map(|i| (start + i) % choices) {
            let mut dead = self.network.dead.clone();
            match self.options.victim {
                Victim::Link => match self.network.graph.between(nodes[choice], nodes[choice + 1]) {
                    Some(link) => dead.links[link] = true,
                    None => continue,
                },
                Victim::Node => dead.nodes[nodes[choice + 1]] = true,
            }
            if Distances::from(&self.network.graph, &dead, a).links[b].is_some_and(|links| links <= LONGEST) {
                self.network.dead = dead;
                if self.options.carrier && self.options.victim == Victim::Link {
                    self.carrier_lost(nodes[choice], nodes[choice + 1]);
                }
                return true;
            }
        }
        false
    }

    fn carrier_lost(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            self.network.with(at, |host, now, out| host.carrier_lost(now, other, out));
        }
    }

    fn heal(&mut self, pair: usize) {
        let end_ns = self.network.now_ns() + HEAL_NS;
        self.workload.died(self.network.now_ns(), pair);
        self.tell("dead", pair);
        while self.workload.healed_ns(pair).is_none() && self.network.now_ns() < end_ns {
            self.pass(QUICK_NS);
        }
        let healed_ns = self.workload.healed_ns(pair);
        self.tell("healed", pair);
        self.outcome.deaths += 1;
        self.outcome.unhealed += u64::from(healed_ns.is_none());
        self.outcome.heal_ms.push(healed_ns.unwrap_or(HEAL_NS) as f64 / MS as f64);
    }

    /// Writes what one end of a pair knows about routes to the other.
    fn tell(&self, what: &str, pair: usize) {
        if !self.options.trace {
            return;
        }
        let (a, b) = (self.workload.pairs[pair].a, self.workload.pairs[pair].b);
        eprintln!("{:.3} s: {what}: pair {pair}, {a} to {b}", self.network.now_ns() as f64 / SECOND as f64);
        for route in self.network.hosts[a].node.routes().iter().filter(|r| r.peer == self.network.ids[b]) {
            let path = Path::Routed { slot: route.slot, hops: route.hops.clone() };
            let nodes = self.network.walk(a, &path).unwrap_or_default();
            let mark = if route.in_use { '*' } else { ' ' };
            eprintln!("  {mark} {:?} {:?} rtt {:?} ns {nodes:?}", route.source, route.state, route.rtt_ns);
        }
    }

    fn finish(mut self) -> (Outcome, Picture) {
        for host in &self.network.hosts {
            for (reason, count) in host.drops().filter(|(_, count)| *count > 0) {
                *self.outcome.drops.entry(DropReason::name(reason)).or_default() += count;
            }
        }
        self.outcome.runs = 1;
        self.outcome.nodes = self.network.hosts.len() as u64;
        let before = memory::held();
        self.network.hosts = Vec::new();
        self.outcome.memory_bytes = (before - memory::held()).max(0) as u64;
        let picture = Picture { graph: self.network.graph, dead: self.network.dead, routes: self.routes };
        (self.outcome, picture)
    }
}
