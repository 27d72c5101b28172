//! Joining. What a peer can make the node keep is bounded in bytes and time, and so is what all peers together can.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use arrayvec::ArrayVec;
use rovy_common::DropReason;
use rovy_common::wire::FRAGMENTED;

use crate::core::time::SECOND;
use crate::identity::PeerId;

/// How long the pieces of a packet are waited for.
pub(super) const PATIENCE_NS: u64 = SECOND;
/// Packets under way of one peer: 64 KiB.
pub(super) const OF_PEER: usize = 64 * 1024 / FRAGMENTED;
/// Packets under way of all peers: 1 MiB.
pub(super) const OF_ALL: usize = 1024 * 1024 / FRAGMENTED;
/// Pieces of one packet; a sender needs two.
pub(super) const PIECES: usize = 16;

/// A piece as it came.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Piece<'a> {
    /// Who sent it, and the session it came over: each counts packets anew.
    pub(in crate::core) from: (PeerId, u32),
    pub(in crate::core) id: u32,
    pub(in crate::core) offset: usize,
    pub(in crate::core) more: bool,
    pub(in crate::core) bytes: &'a [u8],
}

/// A packet some pieces of which are there.
struct Packet {
    from: (PeerId, u32),
    id: u32,
    since_ns: u64,
    bytes: Vec<u8>,
    pieces: ArrayVec<Range<usize>, PIECES>,
    /// Known once the last piece is there.
    length: Option<usize>,
}

impl Packet {
    fn new(now_ns: u64, piece: &Piece<'_>) -> Self {
        let (from, id) = (piece.from, piece.id);
        Self { from, id, since_ns: now_ns, bytes: vec![0; FRAGMENTED], pieces: ArrayVec::new(), length: None }
    }

    /// Puts a piece in its place. `Ok(false)`: it is there already, byte for byte.
    fn put(&mut self, piece: &Piece<'_>) -> Result<bool, DropReason> {
        let range = piece.offset..piece.offset + piece.bytes.len();
        let room = self.bytes.get_mut(range.clone()).ok_or(DropReason::BadLength)?;
        if self.pieces.contains(&range) && room == piece.bytes && piece.more != (self.length == Some(range.end)) {
            return Ok(false);
        }
        let overlaps = self.pieces.iter().any(|p| p.start < range.end && range.start < p.end);
        let beyond = match (self.length, piece.more) {
            (Some(length), true) => range.end >= length,
            (Some(_), false) => true,
            (None, true) => false,
            (None, false) => self.pieces.iter().any(|p| p.end > range.end),
        };
        if overlaps || beyond || self.pieces.is_full() {
            return Err(DropReason::Reassembly);
        }
        room.copy_from_slice(piece.bytes);
        if !piece.more {
            self.length = Some(range.end);
        }
        self.pieces.push(range);
        Ok(true)
    }

    /// Whether all of it is there: no piece overlaps another, so their lengths tell.
    fn whole(&self) -> bool {
        self.length == Some(self.pieces.iter().map(ExactSizeIterator::len).sum())
    }
}

/// The packets that wait for pieces, the oldest in front.
#[derive(Default)]
pub(in crate::core) struct Joiner(VecDeque<Packet>);

impl Joiner {
    /// Takes a piece. The packet once it is whole.
    ///
    /// # Errors
    /// `BadLength` for a piece that is empty or reaches too far; `Reassembly` for one that contradicts others: the packet is
    /// given up with it.
    pub(in crate::core) fn take(&mut self, now_ns: u64, piece: &Piece<'_>) -> Result<Option<Vec<u8>>, DropReason> {
        if piece.bytes.is_empty() || piece.offset + piece.bytes.len() > FRAGMENTED {
            return Err(DropReason::BadLength);
        }
        let same = |p: &Packet| p.from == piece.from && p.id == piece.id && now_ns < p.since_ns + PATIENCE_NS;
        let known = self.0.iter().position(same);
        let mut packet = match known.and_then(|at| self.0.remove(at)) {
            Some(packet) => packet,
            None => Packet::new(now_ns, piece),
        };
        packet.put(piece)?;
        if packet.whole() {
            packet.bytes.truncate(packet.length.unwrap_or_default());
            return Ok(Some(packet.bytes));
        }
        let at = known.unwrap_or(self.0.len());
        self.0.insert(at.min(self.0.len()), packet);
        Ok(None)
    }

    /// Gives up what is too old or too much; how many packets that were. Of a peer's too many its oldest goes, of all peers'
    /// too many the oldest of the peer that has most.
    pub(in crate::core) fn tidy(&mut self, now_ns: u64) -> usize {
        let before = self.0.len();
        while self.0.front().is_some_and(|p| now_ns >= p.since_ns + PATIENCE_NS) {
            self.0.pop_front();
        }
        while let Some(peer) = self.greediest() {
            let oldest = self.0.iter().position(|p| p.from.0 == peer);
            oldest.and_then(|at| self.0.remove(at));
        }
        before - self.0.len()
    }

    /// Who has more than it may, or most of what is too much.
    fn greediest(&self) -> Option<PeerId> {
        if self.0.len() <= OF_PEER {
            return None;
        }
        let mut counts = BTreeMap::<PeerId, usize>::new();
        for packet in &self.0 {
            *counts.entry(packet.from.0).or_default() += 1;
        }
        let (peer, count) = counts.into_iter().max_by_key(|(_, n)| *n)?;
        (count > OF_PEER || self.0.len() > OF_ALL).then_some(peer)
    }

    /// Forgets what came over a session: it is over.
    pub(in crate::core) fn forget(&mut self, index: u32) {
        self.0.retain(|p| p.from.1 != index);
    }

    /// When [`Joiner::tidy`] has something to do.
    pub(in crate::core) fn next(&self) -> u64 {
        self.0.front().map_or(u64::MAX, |p| p.since_ns + PATIENCE_NS)
    }

    /// Packets that wait for pieces, and how many may.
    pub(in crate::core) fn used(&self) -> (usize, usize) {
        (self.0.len(), OF_ALL)
    }
}
