//! What a node remembers of echoes: those it asked, the secrets it shares with others, who may ask how much, and whom it met
//! along its routes. All of it is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;

use rovy_common::DropReason;
use rovy_common::hello::spend;
use rovy_common::label::Width;
use rovy_common::maps::Rate;
use zeroize::Zeroizing;

use super::action::Hops;
use super::time::SECOND;
use crate::identity::{PeerId, SecretKey};

/// Echoes under way, or answered and not yet taken.
const ASKED: usize = 1024;
/// How long an answer is waited for.
const PATIENCE_NS: u64 = 10 * SECOND;
/// Secrets at hand.
const SECRETS: usize = 256;
/// Hops whose node is remembered.
const MET: usize = 256;
/// How long one is: no longer than a slot rests before another neighbour may have it.
const MET_NS: u64 = 600 * SECOND;
/// Buckets above which full ones are forgotten.
const BUCKETS: usize = 256;
/// Requests of one slot.
const REQUESTS: Rate = Rate::per_second(100, 100);
/// Diffie-Hellmans for one slot.
const STRANGERS: Rate = Rate::per_second(10, 20);

/// An echo that came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Who answered.
    pub peer: PeerId,
    /// Its slot of the link that the request came by.
    pub slot: u16,
    /// Bytes of its slots.
    pub width: Width,
    /// From request to reply.
    pub rtt_ns: u64,
}

/// Who answered at the end of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Met {
    /// The node.
    pub peer: PeerId,
    /// Its address: hashed once, as every packet for an address that nobody has is compared with it.
    pub address: Ipv6Addr,
    /// Bytes of its slots.
    pub width: Width,
    /// When, in monotonic ns.
    pub at_ns: u64,
}

/// A request that was sent.
pub(super) struct Asked {
    /// Who is to answer, if not anybody.
    pub(super) peer: Option<PeerId>,
    pub(super) route: (u16, Hops),
    sent_ns: u64,
    answer: Option<Answer>,
}

/// The memory of echoes.
#[derive(Default)]
pub(super) struct Echoes {
    asked: BTreeMap<u64, Asked>,
    secrets: BTreeMap<PeerId, Zeroizing<[u8; 32]>>,
    /// Whose secrets, the oldest in front.
    order: VecDeque<PeerId>,
    /// Of each slot: requests, Diffie-Hellmans.
    buckets: BTreeMap<u16, [u64; 2]>,
    met: BTreeMap<(u16, Hops), Met>,
}

impl Echoes {
    /// Remembers a request; `Limit` when too many are under way.
    pub(super) fn ask(
        &mut self,
        now_ns: u64,
        nonce: u64,
        peer: Option<PeerId>,
        route: (u16, Hops),
    ) -> Result<(), DropReason> {
        self.asked.retain(|_, a| now_ns.saturating_sub(a.sent_ns) < PATIENCE_NS);
        if self.asked.len() >= ASKED || self.asked.contains_key(&nonce) {
            return Err(DropReason::Limit);
        }
        self.asked.insert(nonce, Asked { peer, route, sent_ns: now_ns, answer: None });
        Ok(())
    }

    /// The request of a nonce that waits for its answer.
    pub(super) fn waiting(&self, now_ns: u64, nonce: u64) -> Result<&Asked, DropReason> {
        let asked = self.asked.get(&nonce).filter(|a| now_ns.saturating_sub(a.sent_ns) < PATIENCE_NS);
        let asked = asked.ok_or(DropReason::UnknownIndex)?;
        if asked.answer.is_some() { Err(DropReason::Replay) } else { Ok(asked) }
    }

    /// An authentic reply: the answer is there, and known who sits at the end of that route.
    pub(super) fn answered(&mut self, now_ns: u64, nonce: u64, peer: PeerId, slot: u16, width: Width) {
        let Some(asked) = self.asked.get_mut(&nonce) else { return };
        asked.answer = Some(Answer { peer, slot, width, rtt_ns: now_ns.saturating_sub(asked.sent_ns) });
        if self.met.len() >= MET && !self.met.contains_key(&asked.route) {
            let oldest = self.met.iter().min_by_key(|(_, m)| m.at_ns).map(|(route, _)| route.clone());
            oldest.map(|route| self.met.remove(&route));
        }
        self.met.insert(asked.route.clone(), Met { peer, address: peer.address(), width, at_ns: now_ns });
    }

    /// The answer to a request, once.
    pub(super) fn take(&mut self, nonce: u64) -> Option<Answer> {
        self.asked.get(&nonce)?.answer.as_ref()?;
        self.asked.remove(&nonce)?.answer
    }

    /// Who answered at the end of a route lately.
    pub(super) fn met(&self, now_ns: u64, slot: u16, hops: &Hops) -> Option<Met> {
        let met = self.met.get(&(slot, hops.clone())).copied();
        met.filter(|m| now_ns.saturating_sub(m.at_ns) < MET_NS)
    }

    /// Who with this address answered last, and at the end of which route.
    pub(super) fn who_has(&self, now_ns: u64, address: Ipv6Addr) -> Option<(PeerId, (u16, Hops))> {
        let fresh = |m: &Met| m.address == address && now_ns.saturating_sub(m.at_ns) < MET_NS;
        let newest = self.met.iter().filter(|(_, m)| fresh(m)).max_by_key(|(_, m)| m.at_ns);
        newest.map(|(route, m)| (m.peer, route.clone()))
    }

    fn spend(&mut self, now_ns: u64, slot: u16, which: usize, rate: &Rate) -> Result<(), DropReason> {
        if self.buckets.len() >= BUCKETS && !self.buckets.contains_key(&slot) {
            self.buckets.retain(|_, pair| pair.iter().any(|spent| *spent > now_ns));
        }
        let bucket = &mut self.buckets.entry(slot).or_default()[which];
        *bucket = spend(*bucket, now_ns, rate).ok_or(DropReason::RateLimited)?;
        Ok(())
    }

    /// Counts a request of a slot.
    pub(super) fn request(&mut self, now_ns: u64, slot: u16) -> Result<(), DropReason> {
        self.spend(now_ns, slot, 0, &REQUESTS)
    }

    /// What this node and another share: at hand, or by a Diffie-Hellman that the slot has to pay for.
    pub(super) fn shared(
        &mut self,
        now_ns: u64,
        slot: u16,
        ours: &SecretKey,
        other: PeerId,
    ) -> Result<&[u8; 32], DropReason> {
        if !self.secrets.contains_key(&other) {
            self.spend(now_ns, slot, 1, &STRANGERS)?;
            let secret = ours.shared(other.public_key()).ok_or(DropReason::Malformed)?;
            if self.secrets.len() >= SECRETS
                && let Some(oldest) = self.order.pop_front()
            {
                self.secrets.remove(&oldest);
            }
            self.order.push_back(other);
            self.secrets.insert(other, secret);
        }
        self.secrets.get(&other).map(|s| &**s).ok_or(DropReason::Limit)
    }

    /// Echoes under way, and how many there may be.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.asked.len(), ASKED)
    }
}
