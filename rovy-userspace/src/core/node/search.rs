//! Probes: this node's own, those it passes on, and those that look for it.

use std::net::Ipv6Addr;

use rovy_common::DropReason;
use rovy_common::maps::neighbour_id;
use rovy_common::siphash::Key;
use rovy_common::wire::{Control, Header, KeyAnswer, MessageType, codec, control};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use super::{Action, Node, Origin, Path};
use crate::core::probes::{ProbeCounts, Search};
use crate::core::random::Rng;
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// How long a pseudonym is used.
const PSEUDONYM_NS: u64 = 600 * SECOND;
/// How long after an echo a route counts as one that works.
const FRESH_NS: u64 = 3 * SECOND;
/// Peers that a new link makes a node look for again.
const AGAIN: usize = 64;
/// How long after a link is there: the neighbour makes use of it a moment later.
const SETTLE_NS: u64 = SECOND / 20;

/// Who this node is to others while it searches.
pub(super) struct Seeker {
    pseudonym: u64,
    before: u64,
    since_ns: Option<u64>,
    /// Makes numbers of probes that nobody else can make.
    key: Key,
}

impl Seeker {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { pseudonym: rng.u64(), before: rng.u64(), since_ns: None, key: [rng.u64(), rng.u64()] }
    }

    fn name(&mut self, now_ns: u64, rng: &mut Rng) -> u64 {
        if self.since_ns.is_some_and(|t| now_ns.saturating_sub(t) >= PSEUDONYM_NS) {
            self.before = std::mem::replace(&mut self.pseudonym, rng.u64());
            self.since_ns = None;
        }
        self.since_ns.get_or_insert(now_ns);
        self.pseudonym
    }

    fn is_own(&self, origin: u64) -> bool {
        origin == self.pseudonym || origin == self.before
    }
}

impl Node {
    /// Probes so far.
    #[must_use]
    pub fn probe_counts(&self) -> ProbeCounts {
        self.probes.counts
    }

    /// The slot that leads to a neighbour: that of the link its message came over, else of the one that carries data.
    fn slot_towards(&self, id: PeerId, from: Option<&Endpoint>) -> Option<u16> {
        let session = self.session_ref(self.peers.get(&id)?.current?)?;
        let link = from.and_then(|at| session.link_at(at)).and_then(|n| self.slots.of(id, n));
        link.or_else(|| self.slot_in_use(id, session))
    }

    /// Peers with a direct session that both ends confirmed, and its index.
    pub(super) fn neighbours(&self) -> Vec<(PeerId, u32)> {
        let confirmed = |index| self.session_ref(index).is_some_and(|s| s.confirmed && s.endpoint().is_some());
        let current = self.peers.iter().filter_map(|(id, p)| Some((*id, p.current?)));
        current.filter(|(id, index)| confirmed(*index) && self.slot_towards(*id, None).is_some()).collect()
    }

    /// Whether a hello to this peer is worth a probe: no way is known to work, and what else there is has been tried.
    pub(super) fn wants_search(&mut self, now: Now, id: PeerId) -> bool {
        let Some(peer) = self.peers.get(&id).filter(|p| !p.only_seen()) else { return false };
        let (tried, nowhere) = (peer.tries > 0, peer.paths().is_empty());
        let current = peer.current;
        let searching = peer.search;
        let direct = current.and_then(|i| self.session(i)).is_some_and(|s| matches!(s.path, Path::Direct(_)));
        if self.neighbours().is_empty() {
            return false;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        // A hello that was lost on a way that works says nothing about it.
        let lost = tried && !peer.routes.fresh(now.mono_ns, FRESH_NS);
        let wanted = searching || ((lost || (nowhere && !direct)) && peer.routes.may_search(now.mono_ns));
        peer.search &= !wanted;
        wanted
    }

    /// Sends a new probe to every neighbour; its id. `hello` is empty when the target's key is not known.
    pub(super) fn flood(&mut self, now: Now, target: Ipv6Addr, hello: &[u8]) -> u64 {
        let id = self.rng.u64();
        let origin = self.seeker.name(now.mono_ns, &mut self.rng);
        let search = Search::new(id, origin, target, self.config.probes.hops, hello);
        self.probes.counts.own += 1;
        self.spread(now, &search, None);
        id
    }

    /// Sends a probe to the neighbours it has not been at. One of another node's goes only where its answer could come back from.
    fn spread(&mut self, now: Now, search: &Search, from: Option<PeerId>) {
        let body = search.bytes();
        for (id, index) in self.neighbours() {
            // Who looks for ways to a neighbour needs others than the one it has.
            let passes = if from.is_none() { id.address() != search.target() } else { self.may_transit(id) };
            if passes && from != Some(id) && !search.visited(id.address()) {
                self.probes.counts.sent += 1;
                let way = self.session(index).map(|s| s.own_way());
                self.send_data_over(now, index, codec::PROBE, &body, way);
            }
        }
    }

    /// A probe came over the session with `from`.
    pub(super) fn probe(&mut self, now: Now, origin: &Origin, from: PeerId, body: &[u8]) -> Result<(), DropReason> {
        let search = Search::read(body)?;
        let Origin::Direct(at) = origin else { return Err(DropReason::NotAllowed) };
        let slot = self.slot_towards(from, Some(at)).ok_or(DropReason::NotAllowed)?;
        let number = neighbour_id(from.public_key());
        if !self.probes.afford(now.mono_ns, number, search.origin()) {
            return Err(DropReason::RateLimited);
        }
        self.probes.counts.received += 1;
        if self.seeker.is_own(search.origin()) || search.visited(self.address) {
            self.probes.counts.copies += 1;
            return Ok(());
        }
        let what = search.what(&self.seeker.key);
        if search.target() == self.address {
            if self.probes.answer(now.mono_ns, what, &search.marks()) {
                self.probes.counts.answered += 1;
                return self.answer(now, slot, &search);
            }
            self.probes.counts.copies += 1;
            return Ok(());
        }
        if !self.may_transit(from) {
            return Err(DropReason::NotAllowed);
        }
        let onward = match search.onward(self.address, self.config.width, slot) {
            Ok(Some(onward)) => onward,
            end => {
                self.probes.counts.dead_ends += 1;
                return end.map(|_| ());
            }
        };
        let first = onward.marks().first().copied().unwrap_or_default();
        if !self.probes.relay(now.mono_ns, what, number, first) {
            self.probes.counts.copies += 1;
            return Ok(());
        }
        self.probes.counts.relayed += 1;
        let sent = self.probes.counts.sent;
        self.spread(now, &onward, Some(from));
        self.probes.counts.dead_ends += u64::from(self.probes.counts.sent == sent);
        Ok(())
    }

    /// Somebody looks for this node.
    fn answer(&mut self, now: Now, slot: u16, search: &Search) -> Result<(), DropReason> {
        let back = Origin::Routed { slot, hops: search.label() };
        if !search.hello().is_empty() {
            return self.hello(now, &back, search.hello());
        }
        let answer = KeyAnswer {
            control: Control {
                header: Header::new(MessageType::Control, size_of::<KeyAnswer>() as u16),
                kind: control::KEY,
                reason: 0,
                mtu: U16::ZERO,
                nonce: U64::new(search.id()),
            },
            public_key: *self.id.public_key(),
        };
        self.actions.push_back(Action::Send(back.back(), answer.as_bytes().to_vec()));
        Ok(())
    }

    /// A link to another neighbour: whoever this node looked for in vain may be behind it.
    pub(super) fn new_link(&mut self, now: Now, neighbour: PeerId) {
        let at = now.mono_ns + SETTLE_NS;
        let waiting =
            self.peers.iter_mut().filter(|(id, p)| **id != neighbour && p.current.is_none() && p.next.is_none());
        let wanted =
            waiting.filter(|(_, p)| p.persistent || (p.attempt.is_some() && !p.only_seen()) || !p.queue.is_empty());
        for (_, peer) in wanted.take(AGAIN) {
            peer.again_ns = Some(at);
            peer.search = true;
        }
        let lost = self.peers.iter_mut().filter(|(_, p)| p.current.is_some() && p.routes.lost());
        let lost: Vec<PeerId> = lost.map(|(id, p)| (p.routes.search_anew(), *id).1).take(AGAIN).collect();
        lost.into_iter().for_each(|id| self.steer(now, id));
        self.lookups.again(at);
        self.wake(at);
    }
}
