//! What is told of a message that was not passed on: its label as it came, and how much would have fit.

use rovy_common::DropReason;
use rovy_common::encap;
use rovy_common::hop::{self, Message, SEALED_MORE};
use rovy_common::label::{Label, Next};
use rovy_common::maps::{TxLink, tx_flag};
use rovy_common::wire::{ErrorKind, FLAG_LONG_LABEL, QUOTE};

use super::Tables;
use crate::core::{LEAST_FIT, Node, Now, Quote, Sealed};
use crate::transport::Endpoint;

/// Bytes of a transit message up to the end of what is quoted.
const START: usize = Message::<4>::HEAD + QUOTE;

/// How a transit message started when it came: it is switched in place.
pub struct Start {
    bytes: [u8; START],
    length: usize,
}

impl Start {
    /// Of a message that is about to be switched.
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        let length = message.len().min(START);
        let mut bytes = [0; START];
        if let (Some(to), Some(from)) = (bytes.get_mut(..length), message.get(..length)) {
            to.copy_from_slice(from);
        }
        Self { bytes, length }
    }
}

impl Tables {
    /// What is to be told of a message that [`Tables::switch`] has authenticated. `None` when it is too short to be quoted, or
    /// its link is gone.
    #[must_use]
    pub fn quote(&self, start: &Start) -> Option<Quote> {
        let bytes = start.bytes.get(..start.length)?;
        if bytes.get(1)? & FLAG_LONG_LABEL != 0 { self.quote_as::<4>(bytes) } else { self.quote_as::<2>(bytes) }
    }

    fn quote_as<const W: usize>(&self, bytes: &[u8]) -> Option<Quote> {
        let message = Message::<W>::read(bytes)?;
        let rx = &self.rx.get(&message.index())?.link;
        let mask = hop::mask::<W>(&rx.keys.mask, message.head[1]);
        let mut label = Label::<W>(message.label);
        label.0.iter_mut().zip(mask).for_each(|(word, mask)| *word ^= mask);
        quote(rx.slot, &label, bytes.get(Message::<W>::HEAD..)?)
    }

    /// The same of what came sealed in `message`.
    #[must_use]
    pub fn quote_sealed(&self, sealed: &Sealed, message: &[u8]) -> Option<Quote> {
        let slot = self.rx.get(&sealed.index)?.link.slot;
        let body = message.get(sealed.body.clone())?;
        if sealed.long {
            quote(slot, &Label::<4>::read(body)?, body.get(32..)?)
        } else {
            quote(slot, &Label::<2>::read(body)?, body.get(16..)?)
        }
    }

    /// The largest inner message that fits the next link of what is quoted, in bytes. What was refused although it fits met a
    /// smaller size on the underlay's way, of which no more is known than that every underlay has the least.
    #[must_use]
    pub fn fits(&self, quote: &Quote) -> u16 {
        let long = quote.label[1] > Label::<2>::CAPACITY as u8;
        let length = u16::from_le_bytes([quote.inner[2], quote.inner[3]]);
        let next = Label::<4>::read(&quote.label).map(|label| label.next(self.width));
        let Some(Ok(Next::Slot(slot))) = next else { return LEAST_FIT };
        self.room(slot, long).filter(|room| *room < length).unwrap_or(LEAST_FIT)
    }

    /// The largest inner message that fits the first link of a route, given that one of `length` bytes did not.
    #[must_use]
    pub fn fits_first(&self, slot: u16, hops: &[u8], length: usize) -> u16 {
        let room = self.room(slot, hops.len() > Label::<2>::CAPACITY);
        room.filter(|room| usize::from(*room) < length).unwrap_or(LEAST_FIT)
    }

    /// The same of a message sent to a neighbour without a transit header, and the slot of its link.
    #[must_use]
    pub fn fits_direct(&self, to: &Endpoint, length: usize) -> Option<(u16, u16)> {
        let (tx, _) = self.tx.values().find(|(_, endpoint)| endpoint == to)?;
        let plain = TxLink { flags: tx.flags & !tx_flag::SEALED, ..*tx };
        let room = u16::try_from(hop::room(&plain)).ok().filter(|room| usize::from(*room) < length);
        Some((tx.slot as u16, room.unwrap_or(LEAST_FIT)))
    }

    /// The largest inner message that fits the link behind a slot with a label of either length, in bytes; `None` when nobody
    /// holds the slot.
    #[must_use]
    pub fn room(&self, slot: u16, long: bool) -> Option<u16> {
        let head = if long { Message::<4>::HEAD } else { Message::<2>::HEAD };
        let room = hop::room(&self.tx.get(&slot)?.0).saturating_sub(head as u32);
        Some(u16::try_from(room).unwrap_or(u16::MAX))
    }
}

/// Tells the sender of what is quoted that it was dropped for this reason, when that is a reason to tell.
pub fn tell(node: &mut Node, tables: &Tables, now: Now, quote: Option<Quote>, reason: DropReason) {
    let (Some(quote), Some(kind)) = (quote, ErrorKind::of(reason)) else { return };
    let mtu = if kind == ErrorKind::TooBig { tables.fits(&quote) } else { 0 };
    node.refuse(now, &quote, kind, mtu);
}

fn quote<const W: usize>(slot: u16, label: &Label<W>, inner: &[u8]) -> Option<Quote> {
    let mut block = [0; 32];
    label.write(&mut block);
    Some(Quote { slot, label: block, inner: *inner.first_chunk()? })
}

const _: () =
    assert!(LEAST_FIT as usize + SEALED_MORE as usize + Message::<4>::HEAD + encap::UDP6 - encap::ETH == 1280);
