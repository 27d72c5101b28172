//! What becomes of packets from the host that do not simply leave: those that go in pieces, that waited, or that are answered.

use std::ops::Range;

use rovy_common::{Counter, DropReason};

use super::clock;
use super::engine::Engine;
use crate::core::{HEADROOM, TAILROOM};
use crate::fc00::packet::{self, Unreachable};
use crate::fc00::trace::{Fate, Outcome};

impl Engine {
    /// A packet waited for a node that was not found.
    pub(super) fn unreachable(&mut self, packet: &[u8]) {
        self.tables.count(Counter::Drop(DropReason::NoRoute));
        self.refuse(DropReason::NoRoute, packet);
    }

    /// Tells a program on this host why its packet went no further, where there is an ICMPv6 error for it.
    pub(super) fn refuse(&mut self, reason: DropReason, packet: &[u8]) {
        let from = self.node.id().address();
        let to = packet::destination(packet);
        let answer = if reason == DropReason::TooBig {
            let largest = to.and_then(|to| self.node.largest_packet(to));
            packet::too_big(packet, largest.map_or(packet::MIN_MTU, u32::from), from)
        } else {
            let known = to.is_some_and(|to| self.node.knows(to));
            Unreachable::of(reason, known).and_then(|code| packet::unreachable(packet, code, from))
        };
        if let Some(answer) = answer {
            // The program only waits longer when this does not fit either.
            let _ = self.deliver(&answer);
        }
    }

    /// Sees to a packet from the host whose hop limit ends on the way. Whether it leaves, with a hop limit as it stands now.
    pub(super) fn passes_hops(&mut self, packet: &mut [u8]) -> bool {
        match self.traces.take(&mut self.node, clock::now(), packet) {
            Fate::Leaves(limit) => {
                if let Some(byte) = packet.get_mut(7) {
                    *byte = limit;
                }
                return true;
            }
            Fate::Stays(None) => {}
            Fate::Stays(Some(reason)) => self.tables.count(Counter::Drop(reason)),
            Fate::Answered(answer) => drop(self.deliver(&answer)),
        }
        self.collect();
        false
    }

    /// Answers the packets that hops have answered for by now.
    pub(super) fn answer_traces(&mut self) {
        if self.traces.idle() {
            return;
        }
        for outcome in self.traces.outcomes(&mut self.node, clock::now()) {
            match outcome {
                Outcome::Exceeded(answer) => drop(self.deliver(&answer)),
                Outcome::Leaves(mut packet, limit) => {
                    packet.get_mut(7).into_iter().for_each(|byte| *byte = limit);
                    self.leave_anew(&packet);
                }
            }
        }
        self.collect();
    }

    /// Sends the pieces of a packet that is longer than a message of its route.
    pub(super) fn send_pieces(&mut self) -> Result<(), DropReason> {
        let mut done = Ok(());
        while let Some(mut piece) = self.node.piece() {
            done = done.and(self.send(&piece.out.path, &mut piece.buf, piece.out.message));
        }
        done
    }

    /// A packet that waited for a session goes the way of those from the TUN.
    pub(super) fn again(&mut self, packet: &[u8]) {
        let (mut buf, range) = with_room(packet);
        self.take_packet(&mut buf, range);
    }

    fn leave_anew(&mut self, packet: &[u8]) {
        let (mut buf, range) = with_room(packet);
        self.leave(&mut buf, range);
    }
}

/// A packet in a buffer with room around it.
fn with_room(packet: &[u8]) -> (Vec<u8>, Range<usize>) {
    let mut buf = vec![0; HEADROOM];
    buf.extend_from_slice(packet);
    let range = HEADROOM..buf.len();
    buf.resize(range.end + TAILROOM, 0);
    (buf, range)
}
