//! Addresses whose key nobody here knows: packets wait while the neighbours are asked.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use rovy_common::DropReason;
use rovy_common::wire::KeyAnswer;

use super::{Action, Node, Origin};
use crate::core::peer::{ANSWERS, PeerSource};
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;

/// Addresses looked for at one time.
const LOOKUPS: usize = 64;
/// Packets that wait for one.
const QUEUE: usize = 4;
/// Probes for one, a second apart, then two, then four.
const TRIES: u32 = 3;
/// How long an address that was not found is not looked for again.
const REST_NS: u64 = 5 * SECOND;
/// How long answers to one probe tell routes.
const ANSWERS_NS: u64 = 5 * SECOND;
/// Peers without a session that there may be for another one to be sought.
const SOUGHT: usize = 32;

enum Stage {
    Asking {
        tries: u32,
        at_ns: u64,
    },
    /// Found; further answers tell further routes.
    Found {
        until_ns: u64,
        answers: u8,
    },
    /// Not found, and not looked for until then.
    Failed {
        until_ns: u64,
    },
}

struct Lookup {
    /// Of the last probe.
    probe: u64,
    stage: Stage,
    packets: Vec<Vec<u8>>,
}

impl Lookup {
    const fn due_ns(&self) -> u64 {
        match self.stage {
            Stage::Asking { at_ns, .. } => at_ns,
            Stage::Found { until_ns, .. } | Stage::Failed { until_ns } => until_ns,
        }
    }
}

/// The lookups under way and lately over.
#[derive(Default)]
pub(super) struct Lookups(BTreeMap<Ipv6Addr, Lookup>);

impl Lookups {
    /// There is a new link: what was asked in vain is asked again at `at_ns`.
    pub(super) fn again(&mut self, at_ns: u64) {
        for lookup in self.0.values_mut() {
            if !matches!(lookup.stage, Stage::Found { .. }) {
                lookup.stage = Stage::Asking { tries: 0, at_ns };
            }
        }
    }

    pub(super) fn used(&self) -> (usize, usize) {
        (self.0.len(), LOOKUPS)
    }
}

impl Node {
    /// Looks for an address; the packet waits.
    pub(super) fn look_up(&mut self, now: Now, to: Ipv6Addr, packet: &[u8]) -> Result<(), DropReason> {
        if let Some(lookup) = self.lookups.0.get_mut(&to) {
            match lookup.stage {
                Stage::Failed { until_ns } if now.mono_ns < until_ns => return Err(DropReason::NoRoute),
                Stage::Asking { .. } if lookup.packets.len() < QUEUE => {
                    lookup.packets.push(packet.to_vec());
                    return Ok(());
                }
                Stage::Asking { .. } => return Err(DropReason::QueueFull),
                // The peer was found and is gone again.
                Stage::Failed { .. } | Stage::Found { .. } => {}
            }
        }
        let octets = to.octets();
        let somebodys = octets[0] == 0xfc && octets[1..8] != [0; 7] && to != self.address;
        if !somebodys || self.neighbours().is_empty() {
            return Err(DropReason::NoRoute);
        }
        if self.lookups.0.len() >= LOOKUPS && !self.lookups.0.contains_key(&to) && !self.forget_one() {
            return Err(DropReason::NoRoute);
        }
        let probe = self.flood(now, to, &[]);
        let stage = Stage::Asking { tries: 1, at_ns: now.mono_ns + SECOND };
        self.lookups.0.insert(to, Lookup { probe, stage, packets: vec![packet.to_vec()] });
        self.wake(now.mono_ns + SECOND);
        Ok(())
    }

    /// A program on this host asked for the address of a peer's key: it is about to talk to it. A way and a session are looked
    /// for now instead of with its first packet.
    pub fn seek(&mut self, now: Now, id: PeerId) {
        let under_way = |p: &super::Peer| !p.idle() || p.again_ns.is_some();
        let sought = self.peers.values().filter(|p| p.current.is_none() && p.unwanted()).count();
        let full = self.peers.len() >= self.config.peers && !self.peers.contains_key(&id);
        let known = id == self.id || self.peers.get(&id).is_some_and(under_way);
        if known || full || sought >= SOUGHT || self.neighbours().is_empty() {
            return;
        }
        self.peer(id);
        self.start_handshake(now, id);
    }

    /// The peer at an address, if it is known.
    #[must_use]
    pub fn at(&self, address: Ipv6Addr) -> Option<PeerId> {
        self.by_address.get(&address).copied()
    }

    /// Makes room: forgets a lookup that is over.
    fn forget_one(&mut self) -> bool {
        let over = self.lookups.0.iter().filter(|(_, l)| !matches!(l.stage, Stage::Asking { .. }));
        let first = over.min_by_key(|(_, l)| l.due_ns()).map(|(to, _)| *to);
        first.is_some_and(|to| self.lookups.0.remove(&to).is_some())
    }

    /// Asks again, gives up, forgets.
    pub(super) fn lookups_due(&mut self, now: Now) {
        let due: Vec<Ipv6Addr> =
            self.lookups.0.iter().filter(|(_, l)| l.due_ns() <= now.mono_ns).map(|(to, _)| *to).collect();
        for to in due {
            match self.lookups.0.get(&to).map(|l| &l.stage) {
                Some(Stage::Asking { tries, .. }) if *tries < TRIES => {
                    let tries = *tries;
                    let probe = self.flood(now, to, &[]);
                    let at_ns = now.mono_ns + (SECOND << tries);
                    if let Some(lookup) = self.lookups.0.get_mut(&to) {
                        (lookup.probe, lookup.stage) = (probe, Stage::Asking { tries: tries + 1, at_ns });
                    }
                }
                Some(Stage::Asking { .. }) => {
                    if let Some(lookup) = self.lookups.0.get_mut(&to) {
                        lookup.stage = Stage::Failed { until_ns: now.mono_ns + REST_NS };
                        self.actions.extend(lookup.packets.drain(..).map(Action::Unreachable));
                    }
                }
                _ => {
                    self.lookups.0.remove(&to);
                }
            }
        }
        let next = self.lookups.0.values().map(Lookup::due_ns).min();
        self.wake(next.unwrap_or(u64::MAX));
    }

    /// The answer to a lookup, out of transit.
    pub(super) fn key_answer(&mut self, now: Now, origin: &Origin, answer: &KeyAnswer) -> Result<(), DropReason> {
        let probe = answer.control.nonce.get();
        let id = PeerId::new(answer.public_key).map_err(|_| DropReason::NotAllowed)?;
        let to = id.address();
        if self.way_answer(now, id, probe, origin) {
            return Ok(());
        }
        let lookup = self.lookups.0.get_mut(&to).filter(|l| l.probe == probe).ok_or(DropReason::NotAllowed)?;
        let first = match &mut lookup.stage {
            Stage::Asking { .. } => true,
            Stage::Found { until_ns, answers } if now.mono_ns < *until_ns && *answers < ANSWERS => {
                *answers += 1;
                false
            }
            Stage::Found { .. } | Stage::Failed { .. } => return Err(DropReason::NotAllowed),
        };
        let known = self.peers.contains_key(&id);
        if first && !known && self.peers.len() >= self.config.peers {
            return Err(DropReason::Limit);
        }
        if first {
            lookup.stage = Stage::Found { until_ns: now.mono_ns + ANSWERS_NS, answers: 1 };
            let packets = std::mem::take(&mut lookup.packets);
            self.wake(now.mono_ns + ANSWERS_NS);
            let peer = self.peer(id);
            peer.queue.extend(packets);
            if !known {
                peer.source = PeerSource::Probed;
            }
        }
        self.learn(now, id, origin);
        if first {
            self.start_handshake(now, id);
        } else {
            // The hello that took the first way may be lost.
            self.copy_hello(now, id, origin.back());
        }
        Ok(())
    }
}
