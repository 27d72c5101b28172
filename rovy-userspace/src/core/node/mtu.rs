//! Messages as long as their way carries: what fits, what is cut, what is refused, and the echoes that find out.

use std::net::Ipv6Addr;

use rovy_common::wire::{self, AEAD_TAG, Data, FRAGMENT_MORE, FRAGMENTED, Fragment, codec};
use rovy_common::{DropReason, ecn};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::data::congestion;
use super::{Action, Inbound, Node, Origin, Path};
use crate::core::buffer::{HEADROOM, Outgoing, TAILROOM};
use crate::core::fragment::{self, HEAD, Piece};
use crate::core::mtu::{Ask, FLOOR, USUAL};
use crate::core::routes::Way;
use crate::core::session::Session;
use crate::core::time::Now;
use crate::identity::PeerId;

/// Bytes that a session puts around a body.
const AROUND: u16 = (size_of::<Data>() + 4 + AEAD_TAG) as u16;
/// Bytes of a transit header, and by how many a sealed link and a long label are longer.
const TRANSIT: u16 = size_of::<wire::Transit>() as u16;
const SEALED: u16 = rovy_common::hop::SEALED_MORE as u16;
const LONG: u16 = 16;
/// Route bytes of a short label.
const SHORT: usize = 14;
/// Pieces that wait to be taken.
const PIECES: usize = 64;

/// What is to become of a packet on the way to its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// It goes as it is.
    Whole,
    /// It goes in pieces of at most so many bytes.
    Pieces(usize),
    /// It goes nowhere.
    TooBig,
}

/// A sealed message in a buffer of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The buffer; there is room for a transit header in front of the message.
    pub buf: Vec<u8>,
    /// How it goes out, and where in the buffer it stands.
    pub out: Outgoing,
}

impl Node {
    /// The egress of a slot takes messages of at most so many bytes, transit header included. `None`: that is not known.
    pub fn set_link_mtu(&mut self, slot: u16, largest: Option<u16>) {
        match largest {
            Some(largest) => drop(self.link_mtus.insert(slot, largest)),
            None => drop(self.link_mtus.remove(&slot)),
        }
    }

    /// A hop of a route, or the host itself, said that messages of at most `mtu` bytes pass, without the transit header. An empty route is
    /// the link to a neighbour as well. What cannot be is not believed.
    pub fn note_mtu(&mut self, now: Now, slot: u16, hops: &[u8], mtu: u16) {
        let Ok(hops) = super::Hops::try_from(hops) else { return };
        let way = (slot, hops);
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            let used = self.way_in_use(id).filter(|(used, _)| *used == way);
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if used.is_some() || peer.routes.ways().any(|known| *known == way) {
                let limit = used.map_or(u16::MAX, |(_, limit)| limit);
                peer.mtus.of(&way).too_big(now.mono_ns, mtu, limit);
                self.wake(now.mono_ns);
            }
        }
    }

    /// The longest message that fits the route which packets to a peer take now, in bytes, as far as hops and echoes told; `None`
    /// while none said less than the first link.
    #[must_use]
    pub fn path_mtu(&self, id: PeerId) -> Option<u16> {
        let (way, _) = self.way_in_use(id)?;
        self.peers.get(&id)?.mtus.get(&way)?.told()
    }

    /// The largest packet that is sent to an address, in bytes; never less than 1280, as up to there packets go in pieces. `None` without a
    /// session with its owner.
    #[must_use]
    pub fn largest_packet(&self, to: Ipv6Addr) -> Option<u16> {
        let id = *self.by_address.get(&to)?;
        Some(self.whole(id)?.max(FRAGMENTED as u16))
    }

    /// The largest packet that goes to a peer in one piece.
    pub(super) fn whole(&self, id: PeerId) -> Option<u16> {
        Some(self.usable(id)?.saturating_sub(AROUND))
    }

    /// The longest message that is sent to a peer now.
    #[cfg(test)]
    pub(in crate::core) fn usable_for_test(&self, id: PeerId) -> u16 {
        self.usable(id).unwrap_or(0)
    }

    /// The longest message that is sent to a peer now.
    pub(super) fn usable(&self, id: PeerId) -> Option<u16> {
        let (way, limit) = self.way_in_use(id)?;
        let peer = self.peers.get(&id)?;
        Some(peer.mtus.get(&way).map_or(limit, |path| path.usable(limit)))
    }

    /// The way that packets to a peer take, and what its first link and the peer's receiver take over it.
    fn way_in_use(&self, id: PeerId) -> Option<(Way, u16)> {
        self.way_by(id, None)
    }

    /// As [`Node::way_in_use`], by another path of the session's where one is given.
    fn way_by(&self, id: PeerId, path: Option<&Path>) -> Option<(Way, u16)> {
        let session = self.session_ref(self.peers.get(&id)?.current?)?;
        let (way, around) = match path.cloned().unwrap_or_else(|| session.way()) {
            // A neighbour without a slot is none for others; it has a link all the same, which is not measured.
            Path::Direct(_) => ((self.slot_in_use(id, session).unwrap_or(0), super::Hops::new()), 0),
            Path::Routed { slot, hops } => {
                let sealed = if self.is_sealed(slot) { SEALED } else { 0 };
                let long = if hops.len() > SHORT { LONG } else { 0 };
                ((slot, hops), TRANSIT + sealed + long)
            }
        };
        let link = self.link_mtus.get(&way.0).copied().unwrap_or(USUAL);
        let most = session.receive_mtu.map_or(link, |most| most.min(link));
        Some((way, most.saturating_sub(around).max(FLOOR)))
    }

    fn is_sealed(&self, slot: u16) -> bool {
        let owner = self.slots.owner(slot).and_then(|(id, _)| self.peers.get(&id)?.current);
        owner.and_then(|index| self.session_ref(index)).is_some_and(|s: &Session| s.sealed)
    }

    /// What is to become of a packet of `length` bytes to a peer.
    pub(super) fn fit(&mut self, now: Now, id: PeerId, path: Option<&Path>, length: usize) -> Fit {
        let size = u16::try_from(length).unwrap_or(u16::MAX).saturating_add(AROUND);
        if size <= FLOOR {
            return Fit::Whole;
        }
        let (Some((way, limit)), Some(peer)) = (self.way_by(id, path), self.peers.get_mut(&id)) else {
            return Fit::Whole;
        };
        let path = peer.mtus.of(&way);
        let usable = path.usable(limit);
        if path.want(now.mono_ns, size) {
            let next = path.next(limit);
            self.wake(next.max(now.mono_ns));
        }
        if size <= usable {
            Fit::Whole
        } else if length <= FRAGMENTED {
            Fit::Pieces(usize::from(usable - AROUND) - HEAD)
        } else {
            Fit::TooBig
        }
    }

    /// Seals a packet in pieces, which [`Node::piece`] hands out.
    pub(super) fn send_cut(
        &mut self,
        now: Now,
        id: PeerId,
        packet: &[u8],
        path: Option<Path>,
        room: usize,
    ) -> Result<(), DropReason> {
        if self.pieces.len() >= PIECES {
            return Err(DropReason::QueueFull);
        }
        let peer = self.peers.get_mut(&id).ok_or(DropReason::NoRoute)?;
        let index = peer.current.ok_or(DropReason::NoRoute)?;
        peer.cut = peer.cut.wrapping_add(1);
        let number = peer.cut;
        for range in fragment::cut(packet.len(), room) {
            let more = if range.end < packet.len() { FRAGMENT_MORE } else { 0 };
            let head = Fragment { id: U32::new(number), offset: U16::new(range.start as u16 | more) };
            let mut buf = vec![0; HEADROOM];
            buf.extend_from_slice(head.as_bytes());
            buf.extend_from_slice(packet.get(range).unwrap_or_default());
            let body = HEADROOM..buf.len();
            buf.resize(body.end + TAILROOM, 0);
            let session = self.session(index).ok_or(DropReason::NoRoute)?;
            let path = path.clone().unwrap_or_else(|| session.way());
            let message = session.seal(now.mono_ns, codec::FRAGMENT, &mut buf, body)?;
            if let Some(flags) = buf.get_mut(message.start + 1) {
                *flags = ecn::with_flags(*flags, congestion(packet));
            }
            self.pieces.push_back(Sent { buf, out: Outgoing { path, message } });
        }
        Ok(())
    }

    /// The next piece of the packets given to [`Node::packet`] that did not fit their way, in order.
    pub fn piece(&mut self) -> Option<Sent> {
        self.pieces.pop_front()
    }

    /// A piece of a packet came over the session at `index`.
    pub(super) fn join(
        &mut self,
        now: Now,
        origin: &Origin,
        from: (PeerId, u32),
        body: &[u8],
    ) -> Result<Inbound, DropReason> {
        self.tidy_pieces(now);
        let (head, bytes) = Fragment::ref_from_prefix(body).map_err(|_| DropReason::BadLength)?;
        let offset = head.offset.get();
        let piece = Piece {
            from,
            id: head.id.get(),
            offset: usize::from(offset & !FRAGMENT_MORE),
            more: offset & FRAGMENT_MORE != 0,
            bytes,
        };
        let whole = self.joiner.take(now.mono_ns, &piece)?;
        self.tidy_pieces(now);
        let next = self.joiner.next();
        self.wake(next);
        let Some(packet) = whole else { return Ok(Inbound::Done) };
        self.accept(origin, from.0, &packet)?;
        Ok(Inbound::Joined(packet))
    }

    /// Gives up packets whose pieces do not come.
    pub(super) fn tidy_pieces(&mut self, now: Now) {
        for _ in 0..self.joiner.tidy(now.mono_ns) {
            self.actions.push_back(Action::Dropped(DropReason::Reassembly));
        }
    }

    /// Sends the echoes that tell how much the way in use carries.
    pub(super) fn mtu_due(&mut self, now: Now, id: PeerId, index: u32) {
        if !self.session_ref(index).is_some_and(|s| s.busy(now.mono_ns)) {
            return;
        }
        let Some((way, limit)) = self.way_in_use(id) else { return };
        let next = self.peers.get(&id).and_then(|p| p.mtus.get(&way)).map_or(u64::MAX, |path| path.next(limit));
        if next > now.mono_ns {
            return self.wake(next);
        }
        let nonce = self.rng.u64();
        let Some(path) = self.peers.get_mut(&id).and_then(|p| p.mtus.get_mut(&way)) else { return };
        let ask = path.pass(now.mono_ns, limit, nonce);
        let next = path.next(limit);
        self.wake(next.max(now.mono_ns + 1));
        if let Some(Ask { size, nonces: [long, short] }) = ask {
            self.send_request(now, index, long, usize::from(size - AROUND));
            self.send_request(now, index, short, 0);
        }
    }

    /// The reply to an echo came over the session at `index`.
    pub(super) fn mtu_answered(&mut self, now: Now, origin: &Origin, id: PeerId, index: u32, nonce: u64) {
        let way = match origin {
            Origin::Routed { slot, hops } => (*slot, hops.clone()),
            Origin::Direct(at) => {
                let link = self.session_ref(index).and_then(|s| s.link_at(at)).unwrap_or(0);
                (self.slots.of(id, link).unwrap_or(0), super::Hops::new())
            }
        };
        if let Some(path) = self.peers.get_mut(&id).and_then(|p| p.mtus.get_mut(&way)) {
            path.answered(now.mono_ns, nonce);
            self.wake(now.mono_ns + 1);
        }
    }
}
