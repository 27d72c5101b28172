//! Echoes: who sits at the end of a label, and how long the way there and back takes.

use std::net::Ipv6Addr;

use rovy_common::DropReason;
use rovy_common::label::Width;
use rovy_common::wire::{Control, EchoReply, EchoRequest, ErrorMessage, Header, KeyAnswer, MessageType, control};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::{Action, Node, Origin, Path};
use crate::core::action::Hops;
use crate::core::echo::{Answer, Met};
use crate::core::kdf;
use crate::core::peer::PeerSource;
use crate::core::session::Session;
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;

/// Bytes of a reply that its mac covers: all but the header, which hops may mark, and the mac.
const COVERED: std::ops::Range<usize> = 4..size_of::<EchoReply>() - 16;

fn head(kind: u8, nonce: u64) -> Control {
    // Requests and replies have the same length.
    let header = Header::new(MessageType::Control, size_of::<EchoReply>() as u16);
    Control { header, kind, reason: 0, mtu: U16::new(0), nonce: U64::new(nonce) }
}

impl Node {
    /// A control message, which only counts out of transit.
    pub(super) fn control(&mut self, now: Now, origin: &Origin, message: &[u8]) -> Result<(), DropReason> {
        let Origin::Routed { slot, .. } = origin else { return Err(DropReason::NotAllowed) };
        let (head, _) = Control::ref_from_prefix(message).map_err(|_| DropReason::BadLength)?;
        match head.kind {
            control::ECHO_REQUEST => {
                let request = EchoRequest::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
                self.echo_request(now, origin, *slot, request)
            }
            control::ECHO_REPLY => {
                let reply = EchoReply::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
                self.echo_reply(now, *slot, reply)
            }
            control::KEY => {
                let answer = KeyAnswer::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
                self.key_answer(now, origin, answer)
            }
            control::ERROR => {
                let error = ErrorMessage::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
                self.error(now, origin, error)
            }
            _ => Err(DropReason::NotAllowed),
        }
    }

    fn echo_request(&mut self, now: Now, origin: &Origin, slot: u16, request: &EchoRequest) -> Result<(), DropReason> {
        self.echoes.request(now.mono_ns, slot)?;
        let from = PeerId::new(request.public_key).map_err(|_| DropReason::Malformed)?;
        let ours = self.id;
        let secret = self.echoes.shared(now.mono_ns, slot, &self.config.secret, from)?;
        let mut reply = EchoReply {
            control: head(control::ECHO_REPLY, request.control.nonce.get()),
            public_key: *ours.public_key(),
            slot: U16::new(slot),
            width: self.config.width.bytes() as u8,
            reserved: [0; 5],
            mac: [0; 16],
        };
        reply.mac = mac(secret, from, ours, &reply);
        self.actions.push_back(Action::Send(origin.back(), reply.as_bytes().to_vec()));
        Ok(())
    }

    fn echo_reply(&mut self, now: Now, slot: u16, reply: &EchoReply) -> Result<(), DropReason> {
        let nonce = reply.control.nonce.get();
        let asked = self.echoes.waiting(now.mono_ns, nonce)?;
        let (wanted, route) = (asked.peer, asked.route.clone());
        let from = PeerId::new(reply.public_key).map_err(|_| DropReason::Malformed)?;
        if wanted.is_some_and(|peer| peer != from) {
            return Err(DropReason::BadInnerSource);
        }
        let ours = self.id;
        let secret = self.echoes.shared(now.mono_ns, slot, &self.config.secret, from)?;
        let expected = mac(secret, ours, from, reply);
        // As long for any wrong mac.
        let differs = expected.iter().zip(&reply.mac).fold(0, |sum, (a, b)| sum | (a ^ b));
        if differs != 0 {
            return Err(DropReason::BadTag);
        }
        let width = match reply.width {
            1 => Width::One,
            2 => Width::Two,
            _ => return Err(DropReason::Malformed),
        };
        self.echoes.answered(now.mono_ns, nonce, from, reply.slot.get(), width);
        self.taught(now, from, route);
        Ok(())
    }

    /// Asks who sits at the end of a route; the nonce by which [`Node::take_answer`] tells. With `peer` nobody else's answer counts.
    ///
    /// # Errors
    /// `NoSlot` when the route starts with a slot nobody has, `Limit` when too many echoes are under way.
    pub fn who_is_at(&mut self, now: Now, peer: Option<PeerId>, slot: u16, hops: Hops) -> Result<u64, DropReason> {
        self.slots.owner(slot).ok_or(DropReason::NoSlot)?;
        let nonce = self.rng.u64();
        self.echoes.ask(now.mono_ns, nonce, peer, (slot, hops.clone()))?;
        let public_key = *self.id.public_key();
        let request = EchoRequest { control: head(control::ECHO_REQUEST, nonce), public_key, reserved: [0; 24] };
        self.actions.push_back(Action::Send(Path::Routed { slot, hops }, request.as_bytes().to_vec()));
        Ok(nonce)
    }

    /// A peer answered at the end of a route: whoever is talked to over hops has another one.
    fn taught(&mut self, now: Now, id: PeerId, (slot, hops): (u16, Hops)) {
        let current = self.peers.get(&id).and_then(|p| p.current);
        let direct = current.and_then(|i| self.session_ref(i)).is_some_and(|s| s.endpoint().is_some());
        if !direct && !hops.is_empty() {
            self.learn(now, id, &Origin::Routed { slot, hops });
        }
    }

    /// The peer with an address that a trace met lately: the route to it is tried before anybody else is asked.
    pub(super) fn meet(&mut self, now: Now, to: Ipv6Addr) -> Option<PeerId> {
        let (id, (slot, hops)) = self.echoes.who_has(now.mono_ns, to)?;
        let usable = id != self.id && !hops.is_empty() && self.slots.owner(slot).is_some();
        if !usable || self.peers.len() >= self.config.peers {
            return None;
        }
        self.peer(id).source = PeerSource::Probed;
        self.learn(now, id, &Origin::Routed { slot, hops });
        self.start_handshake(now, id);
        // It may be gone from there: a search follows as soon as one for a bare address would be repeated.
        let soon = now.mono_ns + SECOND;
        if let Some(attempt) = self.peers.get_mut(&id).and_then(|p| p.attempt.as_mut()) {
            attempt.retry_ns = attempt.retry_ns.min(soon);
            self.wake(soon);
        }
        Some(id)
    }

    /// The answer to an echo when it is there, once. One that nobody takes is forgotten.
    pub fn take_answer(&mut self, nonce: u64) -> Option<Answer> {
        self.echoes.take(nonce)
    }

    /// Who answered at the end of a route within the last ten minutes.
    #[must_use]
    pub fn met(&self, now: Now, slot: u16, hops: &Hops) -> Option<Met> {
        self.echoes.met(now.mono_ns, slot, hops)
    }

    /// The route that packets to a peer take now: its slot alone for a neighbour. Without a session the first one known.
    #[must_use]
    pub fn route_to(&self, id: PeerId) -> Option<(u16, Hops)> {
        let peer = self.peers.get(&id)?;
        let session = peer.current.and_then(|i| self.session_ref(i));
        match (session, session.map(Session::way)) {
            (Some(session), Some(Path::Direct(_))) => Some((self.slot_in_use(id, session)?, Hops::new())),
            (_, Some(Path::Routed { slot, hops })) => Some((slot, hops)),
            _ => peer.routes.worth_a_hello().into_iter().next(),
        }
    }
}

fn mac(secret: &[u8; 32], requester: PeerId, responder: PeerId, reply: &EchoReply) -> [u8; 16] {
    let covered = reply.as_bytes().get(COVERED).unwrap_or_default();
    kdf::echo_mac(secret, requester.public_key(), responder.public_key(), covered)
}
