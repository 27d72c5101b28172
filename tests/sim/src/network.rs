//! Machines, the links between them and the queue of what happens when. Time passes only here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rovy_userspace::core::{Hops, Now, Path};
use rovy_userspace::identity::{PeerId, SecretKey};

use crate::host::{Host, Output, endpoint};
use crate::paths::Dead;
use crate::random::Random;
use crate::topology::Graph;

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Some second of the real world: handshakes carry timestamps.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);
/// The shortest time between two calls of a node's timers.
const TICK_NS: u64 = 10_000;

/// What every link does to messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// Share of messages that vanish.
    pub(crate) loss: f64,
    /// Each message takes up to so much longer, so that they overtake each other; ns.
    pub(crate) reorder_ns: u64,
    /// Bytes of the longest IP packet.
    pub(crate) mtu: u32,
}

/// Bytes and messages that were sent over links.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes of messages that carry no packet of the workload, each link of their way counted.
    pub(crate) control_bytes: u64,
    /// Such messages.
    pub(crate) control_messages: u64,
    /// Bytes of the others.
    pub(crate) workload_bytes: u64,
}

impl Traffic {
    /// What was sent since it was `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            control_bytes: self.control_bytes - before.control_bytes,
            control_messages: self.control_messages - before.control_messages,
            workload_bytes: self.workload_bytes - before.workload_bytes,
        }
    }
}

/// What is to be done at some time, other than by the nodes themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// A link is there from now on.
    Dial(usize),
    /// The program of a pair sends its first packet, or repeats it for the n-th time.
    Ask(usize, u32),
    /// A running flow sends its next packet.
    Flow(usize),
}

/// Something the workload has to deal with.
pub(crate) enum Happening {
    /// A packet for a program at a node.
    Packet(usize, Vec<u8>),
    /// The time of [`Network::plan`].
    Task(Task),
}

enum Event {
    Message { from: usize, to: usize, message: Vec<u8> },
    Timer(usize),
    Packet(usize, Vec<u8>),
    Task(Task),
}

struct Queued {
    at_ns: u64,
    /// Events of one moment happen in the order in which they were made.
    order: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.order).cmp(&(other.at_ns, other.order))
    }
}

/// The whole network at one moment.
pub(crate) struct Network {
    pub(crate) graph: Graph,
    pub(crate) hosts: Vec<Host>,
    pub(crate) ids: Vec<PeerId>,
    pub(crate) dead: Dead,
    pub(crate) traffic: Traffic,
    conditions: Conditions,
    random: Random,
    queue: BinaryHeap<Reverse<Queued>>,
    order: u64,
    now_ns: u64,
    /// When each node's timer stands in the queue.
    timers: Vec<u64>,
}

impl Network {
    /// Machines that do not know each other yet. `secrets` are the nodes' keys.
    pub(crate) fn new(
        graph: Graph,
        secrets: &[SecretKey],
        conditions: Conditions,
        packet_len: usize,
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed, 2);
        let mut hosts = Vec::with_capacity(graph.nodes());
        for (n, secret) in secrets.iter().enumerate().take(graph.nodes()) {
            let mut own = [0; 32];
            random.fill(&mut own);
            hosts.push(Host::new(secret.clone(), graph.around(n).len(), conditions.mtu, packet_len, own));
        }
        Self {
            ids: hosts.iter().map(|h| h.node.id()).collect(),
            dead: Dead::none(&graph),
            timers: vec![u64::MAX; hosts.len()],
            hosts,
            graph,
            traffic: Traffic::default(),
            conditions,
            random,
            queue: BinaryHeap::new(),
            order: 0,
            now_ns: SECOND,
        }
    }

    /// Virtual time in ns.
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: EPOCH + Duration::from_nanos(self.now_ns) }
    }

    fn push(&mut self, at_ns: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Queued { at_ns, order: self.order, event }));
    }

    /// Has [`Network::next`] return [`Happening::Task`] then.
    pub(crate) fn plan(&mut self, at_ns: u64, task: Task) {
        self.push(at_ns.max(self.now_ns), Event::Task(task));
    }

    /// What the workload has to deal with next, before `until_ns`. `None`: nothing, and it is `until_ns` now.
    pub(crate) fn next(&mut self, until_ns: u64) -> Option<Happening> {
        while self.queue.peek().is_some_and(|Reverse(first)| first.at_ns <= until_ns) {
            let Some(Reverse(Queued { at_ns, event, .. })) = self.queue.pop() else { break };
            self.now_ns = at_ns;
            match event {
                Event::Task(task) => return Some(Happening::Task(task)),
                Event::Packet(at, packet) => return Some(Happening::Packet(at, packet)),
                Event::Timer(n) => self.timer(n),
                Event::Message { from, to, message } => self.deliver(from, to, message),
            }
        }
        self.now_ns = until_ns;
        None
    }

    fn timer(&mut self, n: usize) {
        // An earlier one has taken its place.
        if self.timers[n] != self.now_ns {
            return;
        }
        self.timers[n] = u64::MAX;
        let due = self.hosts[n].node.deadline() <= self.now_ns;
        self.with(n, |host, now, out| {
            if due {
                host.timeout(now, out);
            }
        });
    }

    fn deliver(&mut self, from: usize, to: usize, mut message: Vec<u8>) {
        self.with(to, |host, now, out| host.receive(now, from, &mut message, out));
    }

    /// Lets a living node do something, and sees to what comes of it.
    pub(crate) fn with(&mut self, n: usize, act: impl FnOnce(&mut Host, Now, &mut Output)) {
        if self.dead.nodes[n] {
            return;
        }
        let mut out = Output::default();
        let now = self.now();
        act(&mut self.hosts[n], now, &mut out);
        for departure in out.departures {
            self.carry(n, departure.to, departure.message, departure.workload);
        }
        for packet in out.packets {
            self.push(self.now_ns, Event::Packet(n, packet));
        }
        let at_ns = self.hosts[n].node.deadline();
        if at_ns < self.timers[n] {
            let at_ns = at_ns.max(self.now_ns + TICK_NS);
            self.timers[n] = at_ns;
            self.push(at_ns, Event::Timer(n));
        }
    }

    /// Puts a message on the link between two nodes. Without a living link it is gone.
    fn carry(&mut self, from: usize, to: usize, message: Vec<u8>, workload: bool) {
        let Some(link) = self.graph.between(from, to) else { return };
        let len = message.len() as u64;
        if workload {
            self.traffic.workload_bytes += len;
        } else {
            self.traffic.control_bytes += len;
            self.traffic.control_messages += 1;
        }
        if self.dead.links[link] || (self.conditions.loss > 0.0 && self.random.unit() < self.conditions.loss) {
            return;
        }
        let later = self.random.below(self.conditions.reorder_ns);
        let at_ns = self.now_ns + self.graph.edges[link].latency_ns + later;
        self.push(at_ns, Event::Message { from, to, message });
    }

    /// One end of a link dials the other, which knows that it is to be a neighbour.
    pub(crate) fn dial(&mut self, link: usize) {
        let edge = self.graph.edges[link];
        let (id_a, id_b) = (self.ids[edge.a], self.ids[edge.b]);
        self.hosts[edge.b].node.set_transit(id_a, true);
        self.with(edge.a, |host, now, out| {
            host.node.connect(now, id_b, vec![endpoint(edge.b)], true);
            host.collect(now, out);
        });
    }

    /// Ends of links that can be sent over.
    pub(crate) fn links_up(&self) -> usize {
        self.hosts.iter().map(Host::links).sum()
    }

    /// The nodes and links a path passes, the sender's own first. `None` when it leads nowhere.
    pub(crate) fn walk(&self, from: usize, path: &Path) -> Option<Vec<usize>> {
        let (slot, hops) = match path {
            Path::Direct(to) => return Some(vec![from, crate::host::number(to)?]),
            Path::Routed { slot, hops } => (*slot, hops),
        };
        let mut nodes = vec![from, self.hosts[from].neighbour(slot)?];
        let mut rest = hops.as_slice();
        while let Some((first, after)) = rest.split_first() {
            let at = *nodes.last()?;
            let slot = if self.wide(at) {
                let (second, after) = after.split_first()?;
                rest = after;
                u16::from_be_bytes([*first, *second])
            } else {
                rest = after;
                u16::from(*first)
            };
            nodes.push(self.hosts[at].neighbour(slot)?);
        }
        Some(nodes)
    }

    /// Tells the first of these nodes by hand that they are the way to the last.
    pub(crate) fn give_route(&mut self, nodes: &[usize]) {
        let (Some(from), Some(to)) = (nodes.first().copied(), nodes.last().copied()) else { return };
        let Some(slot) = nodes.get(1).and_then(|next| self.hosts[from].slot_to(*next)) else { return };
        let mut hops = Hops::new();
        for pair in nodes.windows(2).skip(1) {
            let Some(slot) = self.hosts[pair[0]].slot_to(pair[1]) else { return };
            let bytes = slot.to_be_bytes();
            let bytes = if self.wide(pair[0]) { &bytes[..] } else { &bytes[1..] };
            if hops.try_extend_from_slice(bytes).is_err() {
                return;
            }
        }
        let id = self.ids[to];
        self.with(from, |host, now, out| {
            host.node.add_route(now, id, slot, hops);
            host.collect(now, out);
        });
    }

    fn wide(&self, node: usize) -> bool {
        self.graph.around(node).len() >= crate::host::WIDE
    }

    /// The latency of a walk in ns.
    pub(crate) fn latency_ns(&self, nodes: &[usize]) -> Option<u64> {
        let link = |pair: &[usize]| self.graph.between(pair[0], pair[1]).map(|l| self.graph.edges[l].latency_ns);
        nodes.windows(2).map(link).sum()
    }
}
