//! A probe as bytes, and what a hop makes of it.

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use rovy_common::DropReason;
use rovy_common::label::Width;
use rovy_common::siphash::{Key, sip64};
use rovy_common::wire::{self, Hello, MessageType, PROBE_HOPS, Probe};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::core::action::Hops;

/// A probe and the hello it brings.
pub(in crate::core) struct Search {
    head: Probe,
    hello: Vec<u8>,
}

impl Search {
    /// A probe as its origin sends it.
    pub(in crate::core) fn new(id: u64, origin: u64, target: Ipv6Addr, hops: u8, hello: &[u8]) -> Self {
        let head = Probe {
            id: U64::new(id),
            origin: U64::new(origin),
            target: target.octets(),
            hops_left: hops.min(PROBE_HOPS as u8),
            visited: 0,
            label_len: 0,
            reserved: 0,
            marks: [U32::ZERO; PROBE_HOPS],
            label: [0; PROBE_HOPS],
        };
        Self { head, hello: hello.to_vec() }
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// `BadLength`, `Malformed` when what follows is no hello, `BadLabel` when a count is beyond its array.
    pub(in crate::core) fn read(body: &[u8]) -> Result<Self, DropReason> {
        let (head, hello) = Probe::read_from_prefix(body).map_err(|_| DropReason::BadLength)?;
        if usize::from(head.visited.max(head.label_len)) > PROBE_HOPS {
            return Err(DropReason::BadLabel);
        }
        if !hello.is_empty() {
            let (kind, _) = wire::check_bytes(hello, true)?;
            if kind != MessageType::Hello || hello.len() != size_of::<Hello>() {
                return Err(DropReason::Malformed);
            }
        }
        Ok(Self { head, hello: hello.to_vec() })
    }

    pub(in crate::core) fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.hello].concat()
    }

    pub(in crate::core) fn id(&self) -> u64 {
        self.head.id.get()
    }

    pub(in crate::core) fn origin(&self) -> u64 {
        self.head.origin.get()
    }

    pub(in crate::core) fn target(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.head.target)
    }

    /// The hello, empty without one.
    pub(in crate::core) fn hello(&self) -> &[u8] {
        &self.hello
    }

    /// Hops it made.
    #[cfg(test)]
    pub(in crate::core) fn hops(&self) -> u8 {
        self.head.visited
    }

    /// The way back after the own slot of who received it.
    pub(in crate::core) fn label(&self) -> Hops {
        self.head.label.iter().take(usize::from(self.head.label_len)).copied().collect()
    }

    /// What all copies of one probe have in common, as a number that only the owner of `key` can make: who changes a copy
    /// makes another probe and does not get in the way of this one.
    pub(in crate::core) fn what(&self, key: &Key) -> u64 {
        let common = self.head.as_bytes().chunks_exact(8).take(4).chain(self.hello.chunks_exact(8));
        let words: Vec<u64> = common.filter_map(|c| c.first_chunk().map(|c| u64::from_le_bytes(*c))).collect();
        sip64(key, &words)
    }

    /// The mark of a node on this probe.
    pub(in crate::core) fn mark(&self, node: Ipv6Addr) -> u32 {
        let (high, low) = (node.to_bits() >> 64, node.to_bits());
        sip64(&[self.id(), self.origin()], &[(high as u64).swap_bytes(), (low as u64).swap_bytes()]) as u32
    }

    /// The marks of its hops, the first one's first.
    pub(in crate::core) fn marks(&self) -> ArrayVec<u32, PROBE_HOPS> {
        self.head.marks.iter().take(usize::from(self.head.visited)).map(|m| m.get()).collect()
    }

    /// Whether it has been at a node.
    pub(in crate::core) fn visited(&self, node: Ipv6Addr) -> bool {
        let mark = self.mark(node);
        self.head.marks.iter().take(usize::from(self.head.visited)).any(|m| m.get() == mark)
    }

    /// The probe as a hop sends it on: `slot` leads to the neighbour it came from. `None` when it may go no further.
    ///
    /// # Errors
    /// `BadLabel` when the slot or the mark does not fit.
    pub(in crate::core) fn onward(&self, node: Ipv6Addr, width: Width, slot: u16) -> Result<Option<Self>, DropReason> {
        let mut head = self.head;
        let Some(left) = head.hops_left.checked_sub(1) else { return Ok(None) };
        let (visited, len) = (usize::from(head.visited), usize::from(head.label_len));
        let wide = slot.to_be_bytes();
        let slot = &wide[wide.len() - width.bytes() as usize..];
        let after = len + slot.len();
        if after > PROBE_HOPS {
            return Err(DropReason::BadLabel);
        }
        head.label.copy_within(..len, slot.len());
        head.label[..slot.len()].copy_from_slice(slot);
        head.label_len = after as u8;
        head.marks.get_mut(visited).ok_or(DropReason::BadLabel)?.set(self.mark(node));
        head.visited += 1;
        head.hops_left = left.min(PROBE_HOPS as u8 - head.visited);
        Ok(Some(Self { head, hello: self.hello.clone() }))
    }
}
