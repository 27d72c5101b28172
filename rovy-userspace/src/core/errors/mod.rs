//! Errors about messages that were not passed on: what is quoted of one, how many are sent and heard, and the sizes that they
//! told. Which are believed, and what follows, is decided in `node/errors.rs`.

mod fits;

use std::collections::BTreeMap;

use rovy_common::DropReason;
use rovy_common::hello::spend;
use rovy_common::label::{Label, Long};
use rovy_common::maps::{REFUSED, Rate};
use rovy_common::wire::{ErrorKind, QUOTE};

use super::action::Hops;
pub(super) use fits::Fits;
pub use fits::LEAST;

/// Errors of the whole node, sent and heard each.
const ALL: Rate = Rate::per_second(1000, 500);
/// Slots above which buckets that are full again are forgotten.
const BUCKETS: usize = 256;

/// What an error quotes of a message that was not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// This node's slot of the link the message came by.
    pub slot: u16,
    /// The label block as it came, unmasked; a short one's second half is zero.
    pub label: [u8; 32],
    /// How the inner message starts.
    pub inner: [u8; QUOTE],
}

impl Quote {
    /// Of a message whose label ended here and came with this way back.
    #[must_use]
    pub fn ended(slot: u16, way_back: &[u8], inner: &[u8]) -> Option<Self> {
        let mut label = [0; 32];
        let length = u8::try_from(way_back.len()).ok()?;
        label[..2].copy_from_slice(&[length, length]);
        for (to, from) in label.get_mut(2..2 + way_back.len())?.iter_mut().zip(way_back.iter().rev()) {
            *to = *from;
        }
        Some(Self { slot, label, inner: *inner.first_chunk()? })
    }

    /// The way back to the sender after the slot.
    pub(super) fn way_back(&self) -> Option<Hops> {
        let mut back = [0; 30];
        let length = Long::read(&self.label).and_then(|label: Label<4>| label.way_back(&mut back))?;
        Hops::try_from(back.get(..length)?).ok()
    }

    /// What the label still asked for, and whether the message had come as far as these hops lead.
    pub(super) fn rest(label: &[u8; 32], hops: &[u8]) -> Option<Hops> {
        let (pos, len) = (usize::from(label[0]), usize::from(label[1]));
        let rest = label.get(2 + pos..2 + len)?;
        if pos == hops.len() { Hops::try_from(rest).ok() } else { None }
    }
}

/// Errors by kind, in the order of [`ErrorKind::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ErrorCounts {
    /// Sent to who had sent what this node did not pass on.
    pub sent: [u64; 6],
    /// Received within the budget.
    pub received: [u64; 6],
    /// Those of them that match nothing this node sent lately, or say what cannot be.
    pub disbelieved: [u64; 6],
}

/// What a node keeps of errors. All of it is bounded.
#[derive(Default)]
pub(super) struct Errors {
    /// Of each slot: errors sent, errors heard.
    buckets: BTreeMap<u16, [u64; 2]>,
    all: [u64; 2],
    pub(super) fits: Fits,
    pub(super) counts: ErrorCounts,
}

/// Where a kind is counted.
pub(super) const fn at(kind: ErrorKind) -> usize {
    kind as usize - 1
}

impl Errors {
    /// Takes a token of the slot's, then one of the node's: who uses up his own takes nothing from others.
    fn spend(&mut self, now_ns: u64, slot: u16, which: usize) -> Result<(), DropReason> {
        if self.buckets.len() >= BUCKETS && !self.buckets.contains_key(&slot) {
            self.buckets.retain(|_, pair| pair.iter().any(|spent| *spent > now_ns));
        }
        let bucket = &mut self.buckets.entry(slot).or_default()[which];
        *bucket = spend(*bucket, now_ns, &REFUSED).ok_or(DropReason::RateLimited)?;
        let all = &mut self.all[which];
        *all = spend(*all, now_ns, &ALL).ok_or(DropReason::RateLimited)?;
        Ok(())
    }

    /// Whether one more may be sent over a slot.
    pub(super) fn may_send(&mut self, now_ns: u64, slot: u16) -> bool {
        self.spend(now_ns, slot, 0).is_ok()
    }

    /// Counts one that came over a slot.
    pub(super) fn hear(&mut self, now_ns: u64, slot: u16) -> Result<(), DropReason> {
        self.spend(now_ns, slot, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_neighbours_flood_takes_nothing_from_another() {
        let mut errors = Errors::default();
        let second = 1_000_000_000;
        let sent = |e: &mut Errors, slot, at| (0..1000).filter(|_| e.may_send(at, slot)).count();
        assert_eq!(sent(&mut errors, 1, second), 50);
        assert_eq!(sent(&mut errors, 1, 2 * second), 50, "no more than the burst at once");
        assert_eq!(sent(&mut errors, 2, 2 * second), 50);
        assert!(errors.hear(2 * second, 1).is_ok(), "sending and hearing are apart");
    }

    #[test]
    fn many_neighbours_together_have_a_limit_and_are_forgotten() {
        let mut errors = Errors::default();
        let heard = (1..2000).filter(|slot| errors.hear(1, *slot).is_ok()).count();
        assert_eq!(heard, 500);
        assert!(errors.hear(10_000_000_000, 3000).is_ok());
        assert!(errors.buckets.len() <= 2);
    }

    #[test]
    fn a_quote_tells_the_way_back_and_what_was_left() {
        let mut label = [0; 32];
        label[..6].copy_from_slice(&[2, 4, 0xb1, 0xb2, 7, 8]);
        let quote = Quote { slot: 3, label, inner: [4; 32] };
        assert_eq!(quote.way_back().as_deref(), Some(&[0xb2, 0xb1][..]));
        assert_eq!(Quote::rest(&label, &[5, 6]).as_deref(), Some(&[7, 8][..]));
        assert_eq!(Quote::rest(&label, &[5]), None, "it came from another place");
        for (pos, len) in [(3, 2), (0, 31), (255, 255), (31, 31), (30, 200)] {
            label[..2].copy_from_slice(&[pos, len]);
            let quote = Quote { slot: 3, label, inner: [4; 32] };
            assert_eq!(
                (quote.way_back(), Quote::rest(&label, &vec![0; usize::from(pos)])),
                (None, None),
                "{pos} {len}"
            );
        }
        let ended = Quote::ended(3, &[9, 8, 7], &[4; 40]).expect("fits");
        assert_eq!(ended.label[..5], [3, 3, 7, 8, 9]);
        assert_eq!(ended.way_back().as_deref(), Some(&[9, 8, 7][..]));
        assert_eq!(Quote::ended(3, &[0; 31], &[4; 40]), None);
        assert_eq!(Quote::ended(3, &[0; 2], &[4; 31]), None, "nothing to quote");
    }
}
