//! The whole hop: authenticate, check replay, unmask, switch, mask, tag. One function for the XDP
//! programs, the userspace switch and the tests; what differs is where the tables live.
//!
//! Nothing is decided by a message that is not authentic, and none counts twice: index, expiry, tag, then replay before any
//! other reason, unmask, switch, new counter, mask, tag. The sender of an authentic message that is refused may be told.

use crate::hello::{Bucket, spend, take};
use crate::label::{Label, Next, Width};
use crate::maps::{HopKeys, RxLink, TransitRate, TxLink, rx_flag, tx_flag};
use crate::replay::{self, Words};
use crate::siphash::{Key, Sip, sip128};
use crate::wire::{AEAD_TAG, Data, ErrorKind, MessageType};
use crate::{DropReason, UpReason, encap};

/// Where the state of the links is kept.
pub trait Tables {
    /// A replay window.
    type Window: Words;
    /// A token bucket.
    type Bucket<'a>: Bucket
    where
        Self: 'a;
    /// Coarse monotonic clock in ns.
    fn now_ns(&self) -> u64;
    /// The link whose receiver index is `index`, as a whole.
    fn rx(&self, index: u32) -> Option<&RxLink>;
    /// The replay window beside [`Tables::rx`].
    fn window(&self, index: u32) -> Option<&Self::Window>;
    /// The link behind a slot.
    fn tx(&self, slot: u16) -> Option<&TxLink>;
    /// Draws the next value of a link's counter. `None` when there is no such counter.
    fn draw(&self, counter: u32) -> Option<u64>;
    /// Kernel only: takes a token for one refused message of the link with this slot to go up; whether there was one.
    fn afford_refused(&self, slot: u16) -> bool;
    /// The rate of what comes over a slot, and the bucket that pays for it; asked for [`rx_flag::LIMITED`] links only.
    fn rate(&self, slot: u16) -> Option<(&TransitRate, Self::Bucket<'_>)>;
}

/// The parts of a transit message that a hop reads, as little-endian words. `W` is 2, or 4 for a long label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<const W: usize> {
    /// `type | flags | length | receiver_index`, then the counter.
    pub head: [u64; 2],
    /// The tag.
    pub tag: u64,
    /// The label block as it travels, masked.
    pub label: [u64; W],
    /// The first 16 bytes of the inner message.
    pub inner: [u64; 2],
}

impl<const W: usize> Message<W> {
    /// Bytes of the message from its first word, up to the inner message.
    pub const HEAD: usize = 24 + 8 * W;

    /// The receiver index.
    #[inline(always)]
    #[must_use]
    pub const fn index(&self) -> u32 {
        (self.head[0] >> 32) as u32
    }

    /// The length field.
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> u32 {
        (self.head[0] >> 16) as u32 & 0xffff
    }

    /// Reads a message of at least [`Self::HEAD`]` + 16` bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word = |i: usize| Some(u64::from_le_bytes(*bytes.get(8 * i..)?.first_chunk()?));
        let mut label = [0; W];
        for (i, l) in label.iter_mut().enumerate() {
            *l = word(3 + i)?;
        }
        Some(Self { head: [word(0)?, word(1)?], tag: word(2)?, label, inner: [word(3 + W)?, word(4 + W)?] })
    }

    /// Writes everything in front of the inner message. `None` when `bytes` is too short, and nothing was written.
    pub fn write(&self, bytes: &mut [u8]) -> Option<()> {
        let out = bytes.get_mut(..Self::HEAD)?;
        let words = self.head.iter().chain([&self.tag]).chain(&self.label);
        for (chunk, word) in out.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Some(())
    }
}

/// Bytes by which a message grows when it goes over a sealed link: the head of a data message with codec and AEAD tag in
/// place of the head of a transit message. The label is the same.
pub const SEALED_MORE: u32 = (size_of::<Data>() + 4 + AEAD_TAG - Message::<0>::HEAD) as u32;

/// What becomes of a transit message.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict<T, const W: usize> {
    /// The label ends here; the unmasked label tells the way back.
    Here(Label<W>),
    /// Send this over the link. Only what stands in front of the inner message has changed.
    Forward(T, Message<W>),
    /// Agent only: the link is sealed, so the inner message goes with this label into the session with its neighbour.
    Seal(T, Label<W>),
    /// Kernel only: the agent has to look at it. Nothing has changed.
    Up(UpReason),
    /// Drop it.
    Drop(DropReason),
    /// Agent only: drop it, and tell its sender, for it was authentic and new.
    Refused(DropReason),
}

/// The mask of a label block for one counter value.
#[inline(always)]
#[must_use]
pub fn mask<const W: usize>(key: &Key, counter: u64) -> [u64; W] {
    let mut out = [0; W];
    let first = sip128(key, &[counter]);
    out[0] = first[0];
    out[1] = first[1];
    if W == 4 {
        let second = sip128(key, &[counter, 1]);
        out[2] = second[0];
        out[3] = second[1];
    }
    out
}

#[inline(always)]
fn xor<const W: usize>(mut a: [u64; W], b: &[u64; W]) -> [u64; W] {
    let mut i = 0;
    while i < W {
        a[i] ^= b[i];
        i += 1;
    }
    a
}

/// The tag over head, inner start and masked label, in this order: the label comes last so that the rest is
/// hashed while the mask is computed.
#[inline(always)]
#[must_use]
pub fn tag<const W: usize>(key: &Key, m: &Message<W>) -> u64 {
    let mut s = Sip::new64(key).word(m.head[0]).word(m.head[1]).word(m.inner[0]).word(m.inner[1]);
    let mut i = 0;
    while i < W {
        s = s.word(m.label[i]);
        i += 1;
    }
    s.finish64()
}

/// Sending half: index, counter, mask, tag. `head0` gives type, flags and length.
#[inline(always)]
#[must_use]
pub fn seal<const W: usize>(
    keys: &HopKeys,
    index: u32,
    counter: u64,
    head0: u64,
    label: &Label<W>,
    inner: [u64; 2],
) -> Message<W> {
    let mut m = Message {
        head: [head0 & 0xffff_ffff | u64::from(index) << 32, counter],
        tag: 0,
        label: xor(label.0, &mask(&keys.mask, counter)),
        inner,
    };
    m.tag = tag(&keys.tag, &m);
    m
}

/// How the hop runs: in the kernel some packets go up that the agent forwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In an XDP program. `moved`: the frame did not come from where the link is known to be.
    Kernel {
        /// The frame's addresses differ from [`RxLink::source`].
        moved: bool,
    },
    /// In the agent, which can send on any link.
    Agent,
}

/// One hop of a transit message whose header [`crate::wire::check`] accepted.
#[inline(always)]
pub fn hop<'t, T: Tables, const W: usize>(
    tables: &'t T,
    width: Width,
    place: Place,
    rx: &RxLink,
    m: &Message<W>,
) -> Verdict<&'t TxLink, W> {
    match step(tables, width, place, rx, m) {
        Ok(v) => v,
        Err(r) => Verdict::Drop(r),
    }
}

#[inline(always)]
fn step<'t, T: Tables, const W: usize>(
    tables: &'t T,
    width: Width,
    place: Place,
    rx: &RxLink,
    m: &Message<W>,
) -> Result<Verdict<&'t TxLink, W>, DropReason> {
    if tables.now_ns() >= rx.expires_ns {
        return Err(DropReason::Expired);
    }
    if tag(&rx.keys.tag, m) != m.tag {
        return Err(DropReason::BadTag);
    }
    let window = tables.window(m.index()).ok_or(DropReason::UnknownIndex)?;
    let label = Label(xor(m.label, &mask(&rx.keys.mask, m.head[1])));
    let open = rx.flags & rx_flag::SEALED == 0;
    let decided = if !open {
        Err(DropReason::NotAllowed)
    } else if matches!(place, Place::Kernel { moved: true }) {
        Ok(Decided::Up(UpReason::Moved))
    } else {
        decide(tables, width, place, rx, m.length(), m.inner[0], &label)
    };
    let kernel = matches!(place, Place::Kernel { .. });
    let pays = match decided {
        Ok(Decided::Send(_)) => kernel,
        // The agent pays for what it sends on; of what could not be paid for it sees nothing but to tell its sender.
        Ok(Decided::Up(reason)) => matches!(reason, UpReason::Sealed | UpReason::EgressUnsupported),
        _ => false,
    };
    let decided = if pays && !affords(tables, rx, m.length()) { Err(DropReason::RateLimited) } else { decided };
    let refused = open && matches!(decided, Err(reason) if tells(reason, m.inner[0]));
    // Kernel and agent share the window. Whoever ends the way of a message marks it: what goes up is only checked here
    // and marked by the agent, so that it counts once whichever way it came.
    let mut up = kernel && (refused || matches!(decided, Ok(Decided::Here | Decided::Up(_))));
    if up {
        replay::check(window, m.head[1])?;
        // Only what is new takes a token: a replay would take it from its neighbour.
        up = !refused || tables.afford_refused(rx.slot);
    }
    if !up {
        replay::accept(window, m.head[1])?;
    }
    let tx = match decided {
        Ok(Decided::Here) => return Ok(Verdict::Here(label)),
        Ok(Decided::Up(reason)) => return Ok(Verdict::Up(reason)),
        Ok(Decided::Send(tx)) => tx,
        Err(_) if refused && up => return Ok(Verdict::Up(UpReason::Refused)),
        Err(reason) if refused && !kernel => return Ok(Verdict::Refused(reason)),
        Err(reason) => return Err(reason),
    };
    let paid = pay(tables, rx, m.length());
    match paid.and_then(|()| pass(tables, place, tx, m.head[0], &label.advance(width, rx.slot), m.inner)) {
        Err(reason) if !kernel && tells(reason, m.inner[0]) => Ok(Verdict::Refused(reason)),
        sent => sent,
    }
}

/// Whether the sender of an authentic message is told that it was dropped; `inner` is how the inner one starts.
#[inline(always)]
const fn tells(reason: DropReason, inner: u64) -> bool {
    ErrorKind::about(inner as u8) && ErrorKind::of(reason).is_some()
}

/// The rate and bucket of a link that has a rate.
#[inline(always)]
fn rate_of<'t, T: Tables>(tables: &'t T, rx: &RxLink) -> Option<(&'t TransitRate, T::Bucket<'t>)> {
    if rx.flags & rx_flag::LIMITED == 0 {
        return None;
    }
    // Nothing is told of the slot yet, or no more.
    tables.rate(rx.slot).filter(|(rate, _)| rate.burst_ns != 0)
}

/// Whether the neighbour could pay for a message of `length` bytes now.
#[inline(always)]
fn affords<T: Tables>(tables: &T, rx: &RxLink, length: u32) -> bool {
    match rate_of(tables, rx) {
        None => true,
        Some((rate, bucket)) => spend(bucket.load(), tables.now_ns(), &rate.toll(length)).is_some(),
    }
}

/// Has the neighbour that sent a message pay for its being sent on: whoever makes packets, or makes them go round, has only
/// so many.
#[inline(always)]
fn pay<T: Tables>(tables: &T, rx: &RxLink, length: u32) -> Result<(), DropReason> {
    match rate_of(tables, rx) {
        Some((rate, bucket)) if !take(&bucket, tables.now_ns(), &rate.toll(length)) => Err(DropReason::RateLimited),
        _ => Ok(()),
    }
}

/// One hop of a label that came sealed: the session has shown that it is authentic and new, so only the switch is left.
/// `head0` gives type, flags and length of the transit message that goes on where the next link is not sealed.
pub fn opened<'t, T: Tables, const W: usize>(
    tables: &'t T,
    width: Width,
    rx: &RxLink,
    head0: u64,
    label: &Label<W>,
    inner: [u64; 2],
) -> Verdict<&'t TxLink, W> {
    if tables.now_ns() >= rx.expires_ns {
        return Verdict::Drop(DropReason::Expired);
    }
    let length = (head0 >> 16) as u32 & 0xffff;
    let decided = decide(tables, width, Place::Agent, rx, length, inner[0], label);
    let verdict = match decided {
        Err(reason) => Err(reason),
        Ok(Decided::Here) => Ok(Verdict::Here(*label)),
        Ok(Decided::Up(reason)) => Ok(Verdict::Up(reason)),
        Ok(Decided::Send(tx)) => pay(tables, rx, length)
            .and_then(|()| pass(tables, Place::Agent, tx, head0, &label.advance(width, rx.slot), inner)),
    };
    verdict
        .unwrap_or_else(|reason| if tells(reason, inner[0]) { Verdict::Refused(reason) } else { Verdict::Drop(reason) })
}

/// Protects a switched message for its next link, or leaves that to the session with the neighbour.
#[inline(always)]
fn pass<'t, T: Tables, const W: usize>(
    tables: &T,
    place: Place,
    tx: &'t TxLink,
    head0: u64,
    label: &Label<W>,
    inner: [u64; 2],
) -> Result<Verdict<&'t TxLink, W>, DropReason> {
    // In the kernel such links were handed up before.
    if matches!(place, Place::Agent) && tx.flags & tx_flag::SEALED != 0 {
        return Ok(Verdict::Seal(tx, *label));
    }
    let counter = tables.draw(tx.counter).ok_or(DropReason::EgressDown)?;
    Ok(Verdict::Forward(tx, seal(&tx.keys, tx.index, counter, head0, label, inner)))
}

/// The longest transit message that fits a link, in bytes, whether the link is sealed or not.
#[inline(always)]
#[must_use]
pub const fn room(tx: &TxLink) -> u32 {
    let sealed = if tx.flags & tx_flag::SEALED != 0 { SEALED_MORE } else { 0 };
    (tx.mtu + encap::ETH as u32).saturating_sub(encap::header_len(tx.kind) as u32 + sealed)
}

/// What an authentic message is to become.
enum Decided<'t> {
    Here,
    Up(UpReason),
    Send(&'t TxLink),
}

/// The switch: what becomes of an authentic message whose inner one starts with `inner`. `length` is that of the transit
/// message, whichever way it came.
#[inline(always)]
fn decide<'t, T: Tables, const W: usize>(
    tables: &'t T,
    width: Width,
    place: Place,
    rx: &RxLink,
    length: u32,
    inner: u64,
    label: &Label<W>,
) -> Result<Decided<'t>, DropReason> {
    if !MessageType::from_byte(inner as u8).is_some_and(MessageType::travels) {
        return Err(DropReason::Malformed);
    }
    let slot = match label.next(width)? {
        Next::Here => return Ok(Decided::Here),
        Next::Slot(slot) => slot,
    };
    if rx.flags & rx_flag::NO_TRANSIT != 0 {
        return Err(DropReason::NotAllowed);
    }
    let tx = tables.tx(slot).ok_or(DropReason::NoSlot)?;
    if tx.neighbour == rx.neighbour {
        return Err(DropReason::UTurn);
    }
    if tables.now_ns() >= tx.expires_ns {
        return Err(DropReason::Expired);
    }
    let sealed = tx.flags & tx_flag::SEALED != 0;
    if length > room(tx) {
        return Err(DropReason::TooBig);
    }
    if matches!(place, Place::Kernel { .. }) {
        if sealed {
            return Ok(Decided::Up(UpReason::Sealed));
        }
        if tx.flags & tx_flag::REDIRECT == 0 {
            return Ok(Decided::Up(UpReason::EgressUnsupported));
        }
    }
    Ok(Decided::Send(tx))
}

#[cfg(test)]
mod tests;
