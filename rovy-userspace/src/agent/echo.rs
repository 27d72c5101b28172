//! `rovy ping` and `rovy trace`: echoes along a route. Each command is a task of its own; nothing waits for it.

use std::time::{Duration, Instant};

use super::clock;
use super::commands::{Control, no_peer};
use super::views::slot_text;
use crate::api::{Echo, Failure, FailureKind, Reply, Trace, TraceHop};
use crate::core::{Answer, Hops};
use crate::identity::PeerId;
use crate::multiaddr::Route;
use rovy_common::DropReason;
use rovy_common::label::Width;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked for. The core measures the time.
const LOOK: Duration = Duration::from_millis(2);
/// How long a trace may take before it asks the end alone: a step takes two seconds, the end one, and a command ten.
const TRACE: Duration = Duration::from_secs(6);
/// Hops without an answer, one after the other, before it does.
const SILENT: u32 = 3;

/// What came of the echoes to the end of one route.
#[derive(Default)]
struct Asked {
    first: Option<Answer>,
    /// Round trips, in ns.
    rtts: Vec<u64>,
}

impl Control {
    /// The route to a peer, or why there is none.
    fn way_to(&self, peer: PeerId) -> Result<(u16, Hops), Failure> {
        let e = self.engine.borrow();
        if peer == e.node.id() {
            return Err(Failure::new(FailureKind::Usage, "that is this node itself").with_next("rovy peer list"));
        }
        if !e.node.peers().any(|p| p.id == peer) {
            return Err(no_peer(&peer));
        }
        e.node.route_to(peer).ok_or_else(|| {
            Failure::new(FailureKind::NotFound, format!("no route to {peer} is known")).with_next("rovy route list")
        })
    }

    /// Sends `probes` echoes along a route and waits for their answers.
    async fn ask(&self, peer: Option<PeerId>, route: (u16, &[u8]), probes: u8) -> Result<Asked, Failure> {
        let (slot, hops) = (route.0, route.1.iter().copied().collect::<Hops>());
        let mut waiting = Vec::new();
        {
            let mut e = self.engine.borrow_mut();
            for _ in 0..probes {
                let nonce = e.node.who_is_at(clock::now(), peer, slot, hops.clone());
                waiting.push(nonce.map_err(refused)?);
            }
            e.collect();
        }
        let mut asked = Asked::default();
        let start = Instant::now();
        while !waiting.is_empty() && start.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
            let mut e = self.engine.borrow_mut();
            waiting.retain(|nonce| match e.node.take_answer(*nonce) {
                Some(answer) => {
                    asked.rtts.push(answer.rtt_ns);
                    asked.first.get_or_insert(answer);
                    false
                }
                None => true,
            });
        }
        Ok(asked)
    }

    /// One echo to a peer.
    pub(super) async fn ping(&self, peer: PeerId) -> Result<Reply, Failure> {
        let (slot, hops) = self.way_to(peer)?;
        let asked = self.ask(Some(peer), (slot, &hops), 1).await?;
        let route = Route::new(slot, &hops).map_err(super::commands::internal)?;
        let rtt_us = asked.rtts.first().map(|ns| ns / 1000);
        Ok(Reply::Echo(Echo { peer_id: peer, address: peer.address(), route, rtt_us }))
    }

    /// Asks each hop of the route to a peer. A reply tells where the next hop's slot ends in the label.
    pub(super) async fn trace(&self, peer: PeerId, probes: u8) -> Result<Reply, Failure> {
        let (slot, rest) = self.way_to(peer)?;
        let route = Route::new(slot, &rest).map_err(super::commands::internal)?;
        let start = Instant::now();
        let neighbour = self.engine.borrow().node.slot_owner(slot);
        let mut walk =
            Walk { slot, rest: &rest, at: 0, text: format!("/rovyrt/{}", slot_text(slot)), hops: Vec::new() };
        let mut asked = self.ask(neighbour, (slot, &[]), probes).await?;
        let mut width = self.note(&mut walk, slot_text(slot), &asked);
        let (mut silent, mut why) = (u32::from(asked.first.is_none()), None);
        while walk.at < rest.len() {
            if silent >= SILENT || start.elapsed() >= TRACE {
                why = Some(if silent >= SILENT {
                    format!("{SILENT} hops in a row did not answer; the hops up to the end of the route were left out")
                } else {
                    format!("it took {} s; the hops up to the end of the route were left out", TRACE.as_secs())
                });
                asked = self.ask(None, (slot, &rest), probes).await?;
                let left = walk.step(rest.len() - walk.at);
                width = self.note(&mut walk, left, &asked);
                continue;
            }
            // Behind a hop that nobody knows the width of, the shorter slot is tried first.
            let steps = width.map_or(vec![1, 2], |w| vec![w.bytes() as usize]);
            let mut chosen = steps.first().copied().unwrap_or(1);
            for step in steps {
                let end = (walk.at + step).min(rest.len());
                asked = self.ask(None, (slot, rest.get(..end).unwrap_or_default()), probes).await?;
                if asked.first.is_some() {
                    chosen = step;
                    break;
                }
                if end == rest.len() {
                    break;
                }
            }
            let group = walk.step(chosen);
            width = self.note(&mut walk, group, &asked);
            silent = if asked.first.is_some() { 0 } else { silent + 1 };
        }
        let last = walk.hops.last();
        let reached = last.is_some_and(|h| h.peer_id == Some(peer) && h.rtt_us.is_some());
        // As the hops told where its slots part.
        let route = walk.text.parse().unwrap_or(route);
        let hops = walk.hops;
        Ok(Reply::Trace(Trace { peer_id: peer, address: peer.address(), route, hops, reached, why }))
    }

    /// Adds what a hop answered; the width of its slots, also when it answered an earlier time alone.
    fn note(&self, walk: &mut Walk<'_>, slot: String, asked: &Asked) -> Option<Width> {
        let hops = walk.rest.get(..walk.at).unwrap_or_default().iter().copied().collect();
        let met = self.engine.borrow().node.met(clock::now(), walk.slot, &hops);
        let us = |ns: &u64| ns / 1000;
        let sum: u64 = asked.rtts.iter().sum();
        walk.hops.push(TraceHop {
            route: walk.text.clone(),
            slot,
            peer_id: met.map(|m| m.peer),
            address: met.map(|m| m.address),
            back_slot: asked.first.as_ref().map(|a| format!("{:0>1$x}", a.slot, 2 * a.width.bytes() as usize)),
            rtt_us: asked.rtts.iter().min().map(us),
            rtt_avg_us: sum.checked_div(asked.rtts.len() as u64).as_ref().map(us),
            answers: asked.rtts.len() as u32,
        });
        met.map(|m| m.width)
    }
}

/// How far a trace is.
struct Walk<'a> {
    slot: u16,
    rest: &'a [u8],
    /// Bytes of the label up to here.
    at: usize,
    /// The route up to here.
    text: String,
    hops: Vec<TraceHop>,
}

impl Walk<'_> {
    /// Goes on by so many bytes, as far as there are; the slot as it is written.
    fn step(&mut self, bytes: usize) -> String {
        let end = (self.at + bytes).min(self.rest.len());
        let group: String =
            self.rest.get(self.at..end).unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect();
        self.at = end;
        self.text.push_str(&format!(".{group}"));
        group
    }
}

fn refused(reason: DropReason) -> Failure {
    match reason {
        DropReason::NoSlot => {
            Failure::new(FailureKind::NotFound, "the route starts with a slot that this node does not have")
                .with_next("rovy route list")
        }
        _ => Failure::new(FailureKind::Unavailable, "too many echoes are under way").with_next("try again in 10 s"),
    }
}
