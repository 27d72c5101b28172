//! Traceroute through the overlay: a packet from this host whose hop limit ends at a hop is not sent. The hop is asked who it
//! is by an echo along the route cut off there, and its answer becomes the ICMPv6 error that a router there would send.
//!
//! No node on the way counts hop limits down: labels have no place for them. So it is the sender who does.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;

use rovy_common::DropReason;
use rovy_common::hello::spend;
use rovy_common::label::Width;
use rovy_common::maps::Rate;
use rovy_common::wire::PROBE_HOPS;

use super::packet::{self, time_exceeded};
use crate::core::{Answer, Hops, Node, Now};

/// Packets that wait for a hop's answer.
const WAITING: usize = 64;
/// How long one does: as long as traceroute and mtr do.
const PATIENCE_NS: u64 = 5_000_000_000;
/// How long the width of a hop's slots is asked for before it is taken to be one byte.
const WIDTH_NS: u64 = 1_000_000_000;
/// Hops that did not tell it, remembered.
const SILENT: usize = 64;
/// Packets that may end on the way.
const RATE: Rate = Rate::per_second(100, 100);

/// What becomes of a packet from this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes its way, with this hop limit.
    Leaves(u8),
    /// It waits for a hop's answer, or was dropped for the reason.
    Stays(Option<DropReason>),
    /// It is answered at once.
    Answered(Vec<u8>),
}

/// What came of a packet that waited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The ICMPv6 error of the hop where it ended.
    Exceeded(Vec<u8>),
    /// It ends nowhere on the way: it is to leave with this hop limit.
    Leaves(Vec<u8>, u8),
}

/// Where a packet's hop limit ends.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    /// At the hop to which so many bytes of the label lead.
    Hop(usize),
    /// Not before the destination, which it reaches with this hop limit.
    Destination(u8),
    /// Where the hop lies shows once the one behind so many bytes told the width of its slots.
    Behind(usize),
}

struct Waiting {
    packet: Vec<u8>,
    to: Ipv6Addr,
    since_ns: u64,
    /// The echo to the hop where it ends.
    asked: Option<u64>,
}

/// An echo to a hop whose width is wanted.
struct Question {
    nonce: u64,
    at_ns: u64,
}

/// The packets that end on the way.
#[derive(Default)]
pub struct Traces {
    waiting: VecDeque<Waiting>,
    questions: BTreeMap<(u16, Hops), Question>,
    /// Hops that do not tell their width, and until when that is not asked again.
    silent: BTreeMap<(u16, Hops), u64>,
    spent_ns: u64,
}

impl Traces {
    /// Whether nothing waits.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Looks at an IPv6 packet from this host.
    pub fn take(&mut self, node: &mut Node, now: Now, packet: &[u8]) -> Fate {
        let Some(limit) = packet.get(7).copied() else { return Fate::Leaves(0) };
        if usize::from(limit) > PROBE_HOPS || packet::check(packet).is_err() {
            return Fate::Leaves(limit);
        }
        let here = node.id().address();
        let (Some(from), Some(to)) = (packet::source(packet), packet::destination(packet)) else {
            return Fate::Leaves(limit);
        };
        if from != here {
            return Fate::Leaves(limit);
        }
        if limit == 0 {
            return time_exceeded(packet, here).map_or(Fate::Stays(Some(DropReason::Malformed)), Fate::Answered);
        }
        // Without a route it waits for one, and comes again.
        let Some(route) = node.route_of(to) else { return Fate::Leaves(limit) };
        match self.end(node, now, &route, limit) {
            End::Destination(left) => return Fate::Leaves(left),
            // Nobody may answer it: no question about an error.
            _ if time_exceeded(packet, here).is_none() => return Fate::Stays(Some(DropReason::NotAllowed)),
            End::Hop(_) | End::Behind(_) => {}
        }
        self.forget(now);
        let spent = spend(self.spent_ns, now.mono_ns, &RATE);
        let (Some(spent_ns), true) = (spent, self.waiting.len() < WAITING) else {
            return Fate::Stays(Some(DropReason::RateLimited));
        };
        self.spent_ns = spent_ns;
        let mut waiting = Waiting { packet: packet.to_vec(), to, since_ns: now.mono_ns, asked: None };
        self.ask(node, now, &mut waiting);
        self.waiting.push_back(waiting);
        Fate::Stays(None)
    }

    /// Where a hop limit ends on a route.
    fn end(&self, node: &Node, now: Now, (slot, hops): &(u16, Hops), limit: u8) -> End {
        let mut at = 0;
        for passed in 0..limit {
            if at >= hops.len() {
                // Each hop before the destination would have counted one down.
                return End::Destination(limit - passed);
            }
            if passed + 1 == limit {
                break;
            }
            let prefix: Hops = hops.iter().take(at).copied().collect();
            let silent = self.silent.get(&(*slot, prefix.clone())).is_some_and(|until| now.mono_ns < *until);
            match node.met(now, *slot, &prefix).map(|met| met.width).or(silent.then_some(Width::One)) {
                Some(width) => at = (at + width.bytes() as usize).min(hops.len()),
                None => return End::Behind(at),
            }
        }
        End::Hop(at)
    }

    /// Asks the hop where a packet ends, or the first one before it whose width is not known. What has no route any more waits
    /// until it is forgotten.
    fn ask(&mut self, node: &mut Node, now: Now, waiting: &mut Waiting) -> Option<Outcome> {
        let route = node.route_of(waiting.to)?;
        let limit = waiting.packet.get(7).copied()?;
        let prefix = |bytes: usize| route.1.iter().take(bytes).copied().collect::<Hops>();
        match self.end(node, now, &route, limit) {
            End::Destination(left) => return Some(Outcome::Leaves(std::mem::take(&mut waiting.packet), left)),
            End::Hop(bytes) => waiting.asked = node.who_is_at(now, None, route.0, prefix(bytes)).ok(),
            End::Behind(bytes) => {
                let key = (route.0, prefix(bytes));
                if !self.questions.contains_key(&key)
                    && let Ok(nonce) = node.who_is_at(now, None, key.0, key.1.clone())
                {
                    self.questions.insert(key, Question { nonce, at_ns: now.mono_ns });
                }
            }
        }
        None
    }

    /// What came of the packets that waited: to be called when a message came, or time passed.
    pub fn outcomes(&mut self, node: &mut Node, now: Now) -> Vec<Outcome> {
        self.forget(now);
        self.learn(node, now);
        let mut out = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let done = match waiting.asked {
                Some(nonce) => node.take_answer(nonce).and_then(|answer| answered(&mut waiting, &answer)),
                None => self.ask(node, now, &mut waiting),
            };
            match done {
                Some(done) => out.push(done),
                None => self.waiting.push_back(waiting),
            }
        }
        out
    }

    /// Takes the answers to questions about widths, which the node remembers, and gives those up that do not come.
    fn learn(&mut self, node: &mut Node, now: Now) {
        let silent = &mut self.silent;
        silent.retain(|_, until| now.mono_ns < *until);
        self.questions.retain(|key, question| {
            if node.take_answer(question.nonce).is_some() {
                return false;
            }
            let late = now.mono_ns >= question.at_ns + WIDTH_NS;
            if late && silent.len() < SILENT {
                silent.insert(key.clone(), now.mono_ns + PATIENCE_NS);
            }
            !late
        });
    }

    fn forget(&mut self, now: Now) {
        self.waiting.retain(|w| now.mono_ns < w.since_ns + PATIENCE_NS);
    }
}

/// The error of the hop that answered. When that is the destination, the packet gets there.
fn answered(waiting: &mut Waiting, answer: &Answer) -> Option<Outcome> {
    let hop = answer.peer.address();
    if hop == waiting.to {
        return Some(Outcome::Leaves(std::mem::take(&mut waiting.packet), 1));
    }
    time_exceeded(&waiting.packet, hop).map(Outcome::Exceeded)
}
