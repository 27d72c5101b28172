//! Transit through the agent: what the kernel hands up, and what comes or goes sealed.

use rovy_common::DropReason;
use rovy_common::wire::{self, MessageType};

use super::clock;
use super::engine::Engine;
use crate::core::{Hops, Origin, Quote, Sealed};
use crate::dataplane::{self, Start, Switched};
use crate::transport::Endpoint;

impl Engine {
    /// A transit message, outermost.
    pub(super) fn take_transit(&mut self, from: Endpoint, message: &mut [u8]) -> Result<(), DropReason> {
        let index = message.get(4..8).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
        let known = self.tables.endpoint(index).copied();
        let start = Start::of(message);
        let switched = self.tables.switch(clock::mono_ns(), message)?;
        if known.is_some_and(|k| k != from) {
            self.node.moved_to(clock::now(), index, from);
            self.collect();
        }
        let passed = match switched {
            Switched::Forward(to, range) => self.forward(&to, message.get(range).ok_or(DropReason::BadLength)?),
            Switched::Seal(sealing) => self.with_scratch(|e, buf| {
                let sealed = dataplane::seal(&mut e.node, &mut e.tables, clock::now(), sealing, message, buf);
                let (range, to) = sealed?;
                e.forward(&to, buf.get(range).ok_or(DropReason::BadLength)?)
            }),
            Switched::Refused(reason) => Err(reason),
            Switched::Here { inner, slot, hops } => {
                return self.take_inner(slot, hops, message.get_mut(inner).ok_or(DropReason::BadLength)?);
            }
        };
        if let Err(reason) = passed {
            self.tell(self.tables.quote(&start), reason);
        }
        passed
    }

    /// Tells the sender of what is quoted why it was not passed on.
    fn tell(&mut self, quote: Option<Quote>, reason: DropReason) {
        dataplane::tell(&mut self.node, &self.tables, clock::now(), quote, reason);
        self.collect();
    }

    /// Transit that came sealed in `message` and was opened by the core.
    pub(super) fn take_sealed(&mut self, sealed: &Sealed, message: &[u8]) -> Result<(), DropReason> {
        let passed = self.with_scratch(|e, buf| {
            let (node, tables) = (&mut e.node, &mut e.tables);
            match dataplane::pass_sealed(node, tables, clock::now(), sealed, message, buf) {
                Ok(Switched::Forward(to, range)) => e.forward(&to, buf.get(range).ok_or(DropReason::BadLength)?),
                Ok(Switched::Here { inner, slot, hops }) => {
                    // Whatever comes of it, it was not to be passed on.
                    return Ok(e.take_inner(slot, hops, buf.get_mut(inner).ok_or(DropReason::BadLength)?));
                }
                // It is sealed already.
                Ok(Switched::Seal(_)) => Err(DropReason::Malformed),
                Ok(Switched::Refused(reason)) | Err(reason) => Err(reason),
            }
            .map(Ok)
        });
        match passed {
            Ok(taken) => taken,
            Err(reason) => {
                self.tell(self.tables.quote_sealed(sealed, message), reason);
                Err(reason)
            }
        }
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
