//! Errors: telling senders what was not passed on, and what follows from being told. An error is believed when it came from
//! the very hop of a route of this node's whose label it quotes, and quotes what this node sent lately.

use rovy_common::DropReason;
use rovy_common::wire::{Control, ErrorKind, ErrorMessage, Header, MessageType, QUOTE, control};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use super::{Action, Node, Origin, Path};
use crate::core::action::Hops;
use crate::core::errors::{ErrorCounts, LEAST, Quote, at};
use crate::core::kdf;
use crate::core::peer::Peer;
use crate::core::routes::{RouteState, Way};
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;

/// How often a peer's route may be left, or its session made anew, because of errors that a hop can make up.
const PAUSE_NS: u64 = SECOND;
/// The same for overload: two routes that are full must not take turns all the time.
const DAMP_NS: u64 = 5 * SECOND;
/// How long a search may take before programs are told that a peer whose last route is dead cannot be reached.
const GRACE_NS: u64 = SECOND;

/// What errors did to a peer.
#[derive(Default)]
pub(in crate::core) struct Told {
    /// Since when no route is left.
    cut_ns: Option<u64>,
    damped_ns: Option<u64>,
    renewed_ns: Option<u64>,
}

/// Whether something happened long enough ago; then it happens now.
fn due(last_ns: &mut Option<u64>, now_ns: u64, pause_ns: u64) -> bool {
    let due = last_ns.is_none_or(|t| now_ns.saturating_sub(t) >= pause_ns);
    if due {
        *last_ns = Some(now_ns);
    }
    due
}

impl Node {
    /// Tells the sender of what is quoted why. `mtu` is the
    /// largest inner message that would have fit, in bytes, for [`ErrorKind::TooBig`]. Does nothing beyond the budget, and
    /// for messages that are never told of.
    pub fn refuse(&mut self, now: Now, quote: &Quote, kind: ErrorKind, mtu: u16) {
        let Some(hops) = quote.way_back().filter(|_| ErrorKind::about(quote.inner[0])) else { return };
        if !self.errors.may_send(now.mono_ns, quote.slot) {
            return;
        }
        let mut error = ErrorMessage {
            control: Control {
                header: Header::new(MessageType::Control, size_of::<ErrorMessage>() as u16),
                kind: control::ERROR,
                reason: kind as u8,
                mtu: U16::new(if kind == ErrorKind::TooBig { mtu } else { 0 }),
                nonce: U64::ZERO,
            },
            label: quote.label,
            inner: quote.inner,
        };
        error.control.nonce = U64::new(kdf::error_check(&error.label, &error.inner));
        self.errors.counts.sent[at(kind)] += 1;
        self.actions.push_back(Action::Send(Path::Routed { slot: quote.slot, hops }, error.as_bytes().to_vec()));
    }

    /// Data came out of transit whose session is not known, as after a restart: its sender is told.
    pub(super) fn no_session(&mut self, now: Now, origin: &Origin, message: &[u8]) {
        if let Origin::Routed { slot, hops } = origin
            && let Some(quote) = Quote::ended(*slot, hops, message)
        {
            self.refuse(now, &quote, ErrorKind::NoSession, 0);
        }
    }

    /// Errors so far.
    #[must_use]
    pub fn error_counts(&self) -> ErrorCounts {
        self.errors.counts
    }

    /// The largest data message that fits the route which packets to a peer take now, in bytes and without any transit
    /// header, as far as errors told; `None` while none has. The first link's own size is not in it.
    #[must_use]
    pub fn path_mtu(&self, now: Now, id: PeerId) -> Option<u16> {
        self.errors.fits.of(now.mono_ns, &self.route_to(id)?)
    }

    /// A data message of more than `mtu` bytes does not fit a route.
    pub fn note_mtu(&mut self, now: Now, slot: u16, hops: &[u8], mtu: u16) {
        let Ok(hops) = Hops::try_from(hops) else { return };
        if self.errors.fits.learn(now.mono_ns, (slot, hops.clone()), mtu) {
            self.actions.push_back(Action::PathMtu { slot, hops, mtu: mtu.max(LEAST) });
        }
    }

    /// An error came out of transit.
    pub(super) fn error(&mut self, now: Now, origin: &Origin, error: &ErrorMessage) -> Result<(), DropReason> {
        let Origin::Routed { slot, hops } = origin else { return Err(DropReason::NotAllowed) };
        self.errors.hear(now.mono_ns, *slot)?;
        let kind = ErrorKind::from_byte(error.control.reason).ok_or(DropReason::Malformed)?;
        self.errors.counts.received[at(kind)] += 1;
        let believed = self.believe(now, *slot, hops, kind, error);
        if believed.is_err() {
            self.errors.counts.disbelieved[at(kind)] += 1;
        }
        let (id, way) = believed?;
        tracing::debug!(peer = %id, kind = kind.name(), "an error about a route");
        match kind {
            ErrorKind::NoSlot | ErrorKind::LinkDown | ErrorKind::NotAllowed => self.cut(now, id, &way),
            ErrorKind::Overloaded => self.damp(now, id, &way),
            ErrorKind::TooBig => self.note_mtu(now, way.0, &way.1, error.control.mtu.get()),
            ErrorKind::NoSession => self.renew(now, id),
        }
        Ok(())
    }

    /// The peer and the route that an error is about, which came over `slot` and the hops behind it.
    fn believe(
        &self,
        now: Now,
        slot: u16,
        hops: &Hops,
        kind: ErrorKind,
        error: &ErrorMessage,
    ) -> Result<(PeerId, Way), DropReason> {
        if kdf::error_check(&error.label, &error.inner) != error.control.nonce.get() {
            return Err(DropReason::BadTag);
        }
        // The way that the error took is where it came from: only who is on the route can make one about it.
        let rest = Quote::rest(&error.label, hops).ok_or(DropReason::BadLabel)?;
        if rest.is_empty() != (kind == ErrorKind::NoSession) {
            return Err(DropReason::BadLabel);
        }
        let mtu = error.control.mtu.get();
        let length = u16::from_le_bytes([error.inner[2], error.inner[3]]);
        if kind == ErrorKind::TooBig && !(LEAST..length).contains(&mtu) {
            return Err(DropReason::BadLength);
        }
        let label: Hops = hops.iter().chain(&rest).copied().collect();
        let neighbour = self.slots.owner(slot).map(|(peer, _)| peer).ok_or(DropReason::NoSlot)?;
        // Two links to one neighbour are two slots: an error may come by the other one.
        let over = |way: &&Way| way.1 == label && self.slots.owner(way.0).is_some_and(|(peer, _)| peer == neighbour);
        let mut found = self.peers.iter().filter_map(|(id, peer)| Some((*id, peer, peer.routes.ways().find(over)?)));
        let found = found.find(|(_, peer, _)| self.sent_lately(now.mono_ns, peer, kind, &error.inner));
        found.map(|(id, _, way)| (id, way.clone())).ok_or(DropReason::UnknownIndex)
    }

    /// Whether a message that starts so was sent to a peer within ten seconds.
    fn sent_lately(&self, now_ns: u64, peer: &Peer, kind: ErrorKind, start: &[u8; QUOTE]) -> bool {
        let begins = |message: &[u8]| message.starts_with(start);
        match MessageType::from_byte(start[0]) {
            // Only the session in use is worth a new one.
            Some(MessageType::Data) if kind == ErrorKind::NoSession => {
                peer.current.is_some_and(|i| self.sent(now_ns, i, start))
            }
            Some(MessageType::Data) => peer.sessions().any(|index| self.sent(now_ns, index, start)),
            _ if kind == ErrorKind::NoSession => false,
            Some(MessageType::Hello) => peer.attempt.as_ref().is_some_and(|a| a.asked.begins(start)),
            Some(MessageType::Response) => {
                peer.answered.as_ref().is_some_and(|a| now_ns < a.until_ns && begins(&a.response))
            }
            _ => false,
        }
    }

    fn sent(&self, now_ns: u64, index: u32, start: &[u8; QUOTE]) -> bool {
        self.session_ref(index).is_some_and(|s| s.sent(now_ns, start, self.address))
    }

    /// Whether no route to a peer works, nor a link.
    fn stranded(&self, peer: &Peer) -> bool {
        let session = peer.current.and_then(|i| self.session_ref(i));
        session.is_none_or(|s| s.endpoint().is_none()) && !peer.routes.any_alive()
    }

    /// A route leads nowhere: another one is used at once, or looked for.
    fn cut(&mut self, now: Now, id: PeerId, way: &Way) {
        self.route_error(now, way.0, Some(&way.1));
        let stranded = self.peers.get(&id).is_some_and(|peer| self.stranded(peer));
        if let Some(peer) = self.peers.get_mut(&id).filter(|_| stranded) {
            peer.errors.cut_ns.get_or_insert(now.mono_ns);
            self.search(now, id);
        }
    }

    /// A hop has too much to do: another route that works is used for a while, if there is one.
    fn damp(&mut self, now: Now, id: PeerId, way: &Way) {
        let Some(peer) = self.peers.get_mut(&id).filter(|p| p.routes.in_use() == Some(way)) else { return };
        let other = peer.routes.shown().any(|r| r.state == RouteState::Good && r.way != way);
        if other && due(&mut peer.errors.damped_ns, now.mono_ns, DAMP_NS) {
            self.route_error(now, way.0, Some(&way.1));
        }
    }

    /// A peer does not know the session any more: it gets a new one at once. The old one stays until that is there.
    fn renew(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id).filter(|p| p.attempt.is_none()) else { return };
        if due(&mut peer.errors.renewed_ns, now.mono_ns, PAUSE_NS) {
            self.start_handshake(now, id);
        }
    }

    /// Whether programs are told that a peer cannot be reached: errors said that its last route is dead, and a search has not
    /// found another yet. It goes on as long as packets come.
    pub(super) fn is_cut(&mut self, now: Now, id: PeerId) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        let Some(since) = peer.errors.cut_ns else { return false };
        let stranded = self.stranded(peer);
        let (current, idle) = (peer.current, peer.attempt.is_none() && peer.again_ns.is_none());
        if !stranded {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.errors.cut_ns = None;
            }
            return false;
        }
        if now.mono_ns.saturating_sub(since) < GRACE_NS {
            return false;
        }
        // The dead routes are asked again only while somebody wants to send.
        if let Some(session) = current.and_then(|i| self.session(i)) {
            session.busy_ns = Some(now.mono_ns);
        }
        if idle {
            self.search(now, id);
        }
        self.steer(now, id);
        true
    }
}
