//! Sealed transit: the tables switch what the core opened, and the core seals what they switch. Here the two meet.

use std::ops::Range;

use rovy_common::encap;
use rovy_common::hop::{self, Message, Verdict};
use rovy_common::label::Label;
use rovy_common::maps::tx_flag;
use rovy_common::wire::{Data, FLAG_LONG_LABEL, INNER_MIN, MessageType, VERSION};
use rovy_common::{Counter, DropReason};

use super::{Switched, Tables};
use crate::core::{HEADROOM, Node, Now, Sealed, TAILROOM};
use crate::transport::Endpoint;

/// Bytes around an IPv6 packet on a sealed link: head, codec and tag of two sessions, and a label of 14 slot bytes between them.
const AROUND: u32 = 2 * (size_of::<Data>() as u32 + 4 + 16) + 16;

/// What the session with a neighbour is to protect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealing {
    /// The neighbour's slot.
    pub slot: u16,
    /// Where its link leads.
    pub to: Endpoint,
    /// Whether the label is long.
    pub long: bool,
    /// Where the switched label and the inner message stand.
    pub body: Range<usize>,
}

/// Type, flags and length of a transit message around `inner` bytes.
fn head<const W: usize>(inner: usize) -> Result<u64, DropReason> {
    let length = u16::try_from(Message::<W>::HEAD + inner).map_err(|_| DropReason::TooBig)?;
    let flags = VERSION | if W == 4 { FLAG_LONG_LABEL } else { 0 };
    let [l0, l1] = length.to_le_bytes();
    Ok(u64::from(u32::from_le_bytes([MessageType::Transit as u8, flags, l0, l1])))
}

impl Tables {
    /// Whether a slot's link is sealed.
    fn sealed(&self, slot: u16) -> bool {
        self.tx.get(&slot).is_some_and(|(tx, _)| tx.flags & tx_flag::SEALED != 0)
    }

    /// The slots of sealed links, and the largest IPv6 packet that each takes.
    pub fn sealed_room(&self) -> impl Iterator<Item = (u16, u32)> {
        let sealed = self.tx.iter().filter(|(_, (tx, _))| tx.flags & tx_flag::SEALED != 0);
        sealed.filter_map(|(slot, (tx, _))| {
            let underlay = (encap::header_len(tx.kind) as u32).checked_sub(encap::ETH as u32)?;
            Some((*slot, tx.mtu.saturating_sub(underlay + AROUND)))
        })
    }

    fn received(&mut self, slot: u16, bytes: usize) {
        let stats = self.stats.entry(slot).or_default();
        stats.rx_packets += 1;
        stats.rx_bytes += bytes as u64;
    }

    fn sent(&mut self, slot: u16, bytes: usize) {
        let stats = self.stats.entry(slot).or_default();
        stats.tx_packets += 1;
        stats.tx_bytes += bytes as u64;
    }

    /// Switches a label block and inner message at `body` of `buf` that came sealed, in a message of `bytes`.
    fn switch_sealed<const W: usize>(
        &mut self,
        now_ns: u64,
        index: u32,
        buf: &mut [u8],
        body: Range<usize>,
    ) -> Result<Switched, DropReason> {
        self.now_ns = now_ns;
        let rx = self.rx.get(&index).map(|r| r.link).ok_or(DropReason::UnknownIndex)?;
        let inner = body.start + 8 * W..body.end;
        let bytes = buf.get(body.clone()).ok_or(DropReason::BadLength)?;
        let label = Label::<W>::read(bytes).ok_or(DropReason::BadLength)?;
        let first = bytes.get(8 * W..).and_then(|b| b.first_chunk::<INNER_MIN>()).ok_or(DropReason::BadLength)?;
        let word = |i: usize| first[i..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let head0 = head::<W>(inner.len())?;
        match hop::opened(&*self, self.width, &rx, head0, &label, [word(0), word(8)]) {
            Verdict::Drop(reason) => {
                self.refused(rx.slot, reason);
                Err(reason)
            }
            Verdict::Refused(reason) => {
                self.refused(rx.slot, reason);
                Ok(Switched::Refused(reason))
            }
            // Only the kernel hands up.
            Verdict::Up(_) => Err(DropReason::Malformed),
            Verdict::Here(label) => Switched::here(&label, inner, rx.slot),
            Verdict::Forward(tx, out) => {
                let slot = tx.slot as u16;
                let to = self.tx.get(&slot).map(|t| t.1).ok_or(DropReason::EgressDown)?;
                let start = inner.start.checked_sub(Message::<W>::HEAD).ok_or(DropReason::TooBig)?;
                let range = start..inner.end;
                out.write(buf.get_mut(range.clone()).ok_or(DropReason::TooBig)?).ok_or(DropReason::TooBig)?;
                self.sent(slot, range.len());
                self.count(Counter::Forwarded);
                Ok(Switched::Forward(to, range))
            }
            Verdict::Seal(tx, label) => {
                let slot = tx.slot as u16;
                let to = self.tx.get(&slot).map(|t| t.1).ok_or(DropReason::EgressDown)?;
                Sealing::put(slot, to, &label, buf, inner).map(Switched::Seal)
            }
        }
    }
}

impl Sealing {
    /// Writes the label in front of `buf[inner]`.
    pub(super) fn put<const W: usize>(
        slot: u16,
        to: Endpoint,
        label: &Label<W>,
        buf: &mut [u8],
        inner: Range<usize>,
    ) -> Result<Self, DropReason> {
        let start = inner.start.checked_sub(8 * W).ok_or(DropReason::TooBig)?;
        label.write(buf.get_mut(start..inner.start).ok_or(DropReason::TooBig)?);
        Ok(Self { slot, to, long: W == 4, body: start..inner.end })
    }

    /// Seals the body where it stands.
    fn seal(
        self,
        node: &mut Node,
        tables: &mut Tables,
        now: Now,
        buf: &mut [u8],
    ) -> Result<(Range<usize>, Endpoint), DropReason> {
        let range = node.seal_transit(now, self.slot, self.long, buf, self.body)?;
        tables.sent(self.slot, range.len());
        Ok((range, self.to))
    }
}

/// Copies `bytes` into an empty buffer with room for all that is put around them.
fn room(buf: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    buf.clear();
    buf.resize(HEADROOM, 0);
    buf.extend_from_slice(bytes);
    let end = buf.len();
    buf.resize(end + TAILROOM, 0);
    HEADROOM..end
}

/// One hop of transit that came sealed in `message`. What comes of it stands in `buf`: a message to forward, sealed again
/// where the next link is, or what is for this node.
///
/// # Errors
/// The reason it was dropped for; it is not counted yet.
pub fn pass_sealed(
    node: &mut Node,
    tables: &mut Tables,
    now: Now,
    sealed: &Sealed,
    message: &[u8],
    buf: &mut Vec<u8>,
) -> Result<Switched, DropReason> {
    let body = room(buf, message.get(sealed.body.clone()).ok_or(DropReason::BadLength)?);
    let switched = if sealed.long {
        tables.switch_sealed::<4>(now.mono_ns, sealed.index, buf, body)?
    } else {
        tables.switch_sealed::<2>(now.mono_ns, sealed.index, buf, body)?
    };
    if let Some(slot) = tables.rx.get(&sealed.index).map(|r| r.link.slot) {
        tables.received(slot, message.len());
    }
    let Switched::Seal(sealing) = switched else { return Ok(switched) };
    let (range, to) = sealing.seal(node, tables, now, buf)?;
    tables.count(Counter::Forwarded);
    Ok(Switched::Forward(to, range))
}

/// The second half of a hop from a link that is not sealed to one that is: [`Tables::switch`] left it in `message`. The
/// sealed message stands in `buf`.
///
/// # Errors
/// As [`Node::seal_transit`].
pub fn seal(
    node: &mut Node,
    tables: &mut Tables,
    now: Now,
    sealing: Sealing,
    message: &[u8],
    buf: &mut Vec<u8>,
) -> Result<(Range<usize>, Endpoint), DropReason> {
    let body = room(buf, message.get(sealing.body.clone()).ok_or(DropReason::BadLength)?);
    let sent = Sealing { body, ..sealing }.seal(node, tables, now, buf)?;
    tables.count(Counter::Forwarded);
    Ok(sent)
}

/// Sends `buf[inner]` on its way along a route: sealed where the first link is, else under a transit header. Where the
/// whole message stands, and where it goes.
///
/// # Errors
/// As [`Tables::originate`] and [`Node::seal_transit`].
pub fn originate(
    node: &mut Node,
    tables: &mut Tables,
    now: Now,
    (slot, hops): (u16, &[u8]),
    buf: &mut [u8],
    inner: Range<usize>,
) -> Result<(Range<usize>, Endpoint), DropReason> {
    if !tables.sealed(slot) {
        return tables.originate(now.mono_ns, slot, hops, buf, inner);
    }
    if inner.len() < INNER_MIN {
        return Err(DropReason::BadLength);
    }
    let to = tables.tx.get(&slot).map(|t| t.1).ok_or(DropReason::NoSlot)?;
    let sealing = match Label::<2>::from_route(hops) {
        Some(label) => Sealing::put(slot, to, &label, buf, inner),
        None => {
            let label = Label::<4>::from_route(hops).ok_or(DropReason::BadLabel)?;
            Sealing::put(slot, to, &label, buf, inner)
        }
    };
    sealing?.seal(node, tables, now, buf)
}
