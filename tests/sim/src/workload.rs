//! The programs on the nodes: pairs that look for each other, ask and answer.

use rovy_userspace::identity::PeerId;

use crate::network::{Network, SECOND, Task};
use crate::paths::Distances;
use crate::random::Random;

/// Bytes of every packet of the workload. Nothing the core sends by itself is so long; that tells them apart.
pub(crate) const PACKET: usize = 1000;
/// Links that a long label leads over: 30 slots and the sender's own.
pub(crate) const LONGEST: u32 = 31;
/// A program repeats its first packet after these pauses, as TCP does.
const PAUSES_NS: [u64; 3] = [SECOND, 2 * SECOND, 4 * SECOND];
/// When it gives up.
pub(crate) const BOUND_NS: u64 = 10 * SECOND;

/// A program at `a` that talks to one at `b`.
pub(crate) struct Pair {
    pub(crate) a: usize,
    pub(crate) b: usize,
    /// The least latency and the fewest links between them at the beginning; `None` without any path.
    pub(crate) best: Option<(u64, u32)>,
    asked_ns: u64,
    /// From the first packet until its answer.
    pub(crate) first_byte_ns: Option<u64>,
    sent: u32,
    /// Time between two packets of its flow; 0 for none.
    pace_ns: u64,
    death: Option<Death>,
}

/// A route that died under a flow.
struct Death {
    at_ns: u64,
    /// The first packet sent after it.
    first: u32,
    healed_ns: Option<u64>,
}

impl Pair {
    /// Whether a long label leads over the fewest links.
    pub(crate) fn fits(&self) -> bool {
        self.best.is_some_and(|(_, links)| links <= LONGEST)
    }
}

/// `count` pairs of different nodes.
pub(crate) fn sample(network: &Network, count: usize, random: &mut Random) -> Vec<Pair> {
    let nodes = network.graph.nodes();
    let mut pairs = Vec::with_capacity(count);
    while pairs.len() < count {
        let (a, b) = (random.index(nodes), random.index(nodes));
        if a == b {
            continue;
        }
        let from = Distances::from(&network.graph, &network.dead, a);
        let best = from.latency_ns[b].zip(from.links[b]);
        pairs.push(Pair { a, b, best, asked_ns: 0, first_byte_ns: None, sent: 0, pace_ns: 0, death: None });
    }
    pairs
}

/// What a packet of the workload says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Note {
    pair: u32,
    number: u32,
    answer: bool,
}

fn packet(from: PeerId, to: PeerId, note: Note) -> Vec<u8> {
    let mut p = vec![0; PACKET];
    p[0] = 0x60;
    p[4..6].copy_from_slice(&((PACKET - 40) as u16).to_be_bytes());
    p[6] = 17;
    p[7] = 64;
    p[8..24].copy_from_slice(&from.address().octets());
    p[24..40].copy_from_slice(&to.address().octets());
    p[40..44].copy_from_slice(&note.pair.to_be_bytes());
    p[44..48].copy_from_slice(&note.number.to_be_bytes());
    p[48] = u8::from(note.answer);
    p
}

fn read(packet: &[u8]) -> Option<Note> {
    let word = |i: usize| packet.get(i..)?.first_chunk().map(|b| u32::from_be_bytes(*b));
    Some(Note { pair: word(40)?, number: word(44)?, answer: *packet.get(48)? != 0 })
}

/// All pairs of a run.
pub(crate) struct Workload {
    pub(crate) pairs: Vec<Pair>,
    /// Who looks for somebody knows its key.
    pub(crate) keys: bool,
}

impl Workload {
    fn send(&self, network: &mut Network, pair: usize, number: u32, answer: bool) {
        let Pair { a, b, .. } = self.pairs[pair];
        let (from, to) = if answer { (b, a) } else { (a, b) };
        let note = Note { pair: pair as u32, number, answer };
        let packet = packet(network.ids[from], network.ids[to], note);
        network.with(from, |host, now, out| host.send(now, &packet, out));
    }

    /// The next packet of a pair.
    fn ask(&mut self, network: &mut Network, pair: usize) {
        let number = self.pairs[pair].sent;
        self.pairs[pair].sent += 1;
        self.send(network, pair, number, false);
    }

    /// The time of a task has come.
    pub(crate) fn act(&mut self, network: &mut Network, task: Task) {
        match task {
            Task::Dial(link) => network.dial(link),
            Task::Ask(pair, repeated) => self.first(network, pair, repeated),
            Task::Flow(pair) if self.pairs[pair].pace_ns > 0 => {
                self.ask(network, pair);
                network.plan(network.now_ns() + self.pairs[pair].pace_ns, task);
            }
            Task::Flow(_) => {}
        }
    }

    fn first(&mut self, network: &mut Network, pair: usize, repeated: u32) {
        if repeated == 0 {
            self.pairs[pair].asked_ns = network.now_ns();
            if self.keys {
                let id = network.ids[self.pairs[pair].b];
                network.with(self.pairs[pair].a, |host, now, out| host.connect(now, id, out));
            }
        }
        if self.pairs[pair].first_byte_ns.is_some() {
            return;
        }
        self.ask(network, pair);
        if let Some(pause) = PAUSES_NS.get(repeated as usize) {
            network.plan(network.now_ns() + pause, Task::Ask(pair, repeated + 1));
        }
    }

    /// A packet arrived at a program.
    pub(crate) fn arrived(&mut self, network: &mut Network, at: usize, packet: &[u8]) {
        let Some(note) = read(packet) else { return };
        let pair = note.pair as usize;
        match self.pairs.get_mut(pair) {
            Some(p) if note.answer && at == p.a => p.answered(network.now_ns(), note.number),
            Some(p) if !note.answer && at == p.b => self.send(network, pair, note.number, true),
            _ => {}
        }
    }

    /// Has the flow of a pair send every `pace_ns` from its next packet on.
    pub(crate) fn flow(&mut self, network: &mut Network, pair: usize, pace_ns: u64, start_ns: u64) {
        let running = std::mem::replace(&mut self.pairs[pair].pace_ns, pace_ns) > 0;
        if !running {
            network.plan(start_ns, Task::Flow(pair));
        }
    }

    /// The route of a pair dies now.
    pub(crate) fn died(&mut self, now_ns: u64, pair: usize) {
        let pair = &mut self.pairs[pair];
        pair.death = Some(Death { at_ns: now_ns, first: pair.sent, healed_ns: None });
    }

    /// From the death of a pair's route until a packet sent after it was answered.
    pub(crate) fn healed_ns(&self, pair: usize) -> Option<u64> {
        self.pairs[pair].death.as_ref()?.healed_ns
    }
}

impl Pair {
    fn answered(&mut self, now_ns: u64, number: u32) {
        let asked_ns = self.asked_ns;
        if now_ns - asked_ns <= BOUND_NS {
            self.first_byte_ns.get_or_insert(now_ns - asked_ns);
        }
        if let Some(death) = &mut self.death
            && number >= death.first
        {
            death.healed_ns.get_or_insert(now_ns - death.at_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_says_what_was_written_into_it() {
        let id = |n: u64| {
            let key = |i: u64| {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&i.to_le_bytes());
                key
            };
            (n..).find_map(|i| PeerId::new(key(i)).ok()).expect("one of many")
        };
        let note = Note { pair: 70_000, number: 3, answer: true };
        let packet = packet(id(0), id(5000), note);
        assert_eq!((packet.len(), read(&packet)), (PACKET, Some(note)));
        assert_eq!(read(&packet[..48]), None);
    }
}
