//! Transit through the agent: what the kernel hands up, and what comes or goes sealed.

use rovy_common::DropReason;
use rovy_common::wire::{self, MessageType};

use super::clock;
use super::engine::{Engine, marks};
use crate::core::{Hops, Origin, Sealed};
use crate::dataplane::{self, Switched};
use crate::transport::{Endpoint, Received};

impl Engine {
    /// A transit message, outermost.
    pub(super) fn take_transit(&mut self, received: &Received, message: &mut [u8]) -> Result<(), DropReason> {
        let from = received.from;
        let index = message.get(4..8).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
        let known = self.tables.endpoint(index).copied();
        let switched = self.tables.switch(clock::mono_ns(), message, received.ecn)?;
        if known.is_some_and(|k| k != from) {
            self.node.moved_to(clock::now(), index, from);
            self.collect();
        }
        match switched {
            Switched::Forward(to, range) => self.forward(&to, message.get(range).ok_or(DropReason::BadLength)?),
            Switched::Seal(sealing) => self.with_scratch(|e, buf| {
                let sealed = dataplane::seal(&mut e.node, &mut e.tables, clock::now(), sealing, message, buf);
                let (range, to) = sealed?;
                e.forward(&to, buf.get(range).ok_or(DropReason::BadLength)?)
            }),
            Switched::Here { inner, slot, hops } => {
                self.take_inner(slot, hops, message.get_mut(inner).ok_or(DropReason::BadLength)?)
            }
        }
    }

    /// Transit that came sealed in `message` and was opened by the core.
    pub(super) fn take_sealed(&mut self, sealed: &Sealed, message: &[u8]) -> Result<(), DropReason> {
        self.with_scratch(|e, buf| {
            let (node, tables) = (&mut e.node, &mut e.tables);
            match dataplane::pass_sealed(node, tables, clock::now(), sealed, message, buf)? {
                Switched::Forward(to, range) => e.forward(&to, buf.get(range).ok_or(DropReason::BadLength)?),
                Switched::Here { inner, slot, hops } => {
                    let inner = buf.get_mut(inner).ok_or(DropReason::BadLength)?;
                    // Those of the way before the sealed link.
                    e.marks = marks(inner);
                    e.take_inner(slot, hops, inner)
                }
                // It is sealed already.
                Switched::Seal(_) => Err(DropReason::Malformed),
            }
        })
    }

    fn forward(&mut self, to: &Endpoint, message: &[u8]) -> Result<(), DropReason> {
        self.transmit_or_mourn(to, message)?;
        self.forwarded += 1;
        Ok(())
    }

    /// A message for this node, out of transit.
    fn take_inner(&mut self, slot: u16, hops: Hops, inner: &mut [u8]) -> Result<(), DropReason> {
        let (kind, _) = wire::check_bytes(inner, true)?;
        if matches!(kind, MessageType::Hello | MessageType::Response) {
            self.gate.routed(clock::mono_ns(), slot, inner)?;
        }
        self.hand_over(&Origin::Routed { slot, hops }, inner)
    }

    /// Lends the buffer that messages are rebuilt in.
    fn with_scratch<T>(&mut self, work: impl FnOnce(&mut Self, &mut Vec<u8>) -> T) -> T {
        let mut buf = std::mem::take(&mut self.scratch);
        let done = work(self, &mut buf);
        self.scratch = buf;
        done
    }
}
