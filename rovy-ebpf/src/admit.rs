//! What is for the agent and of no session: dropped, answered with a cookie reply, or handed up.

use crate::atomic::opaque;
use crate::gate::Gate;
use crate::packet::{Packet, word64};
use crate::parse::Frame;
use crate::{maps, reply, tally};
use rovy_common::encap;
use rovy_common::hello::{self, Load, Sealed, Verdict, Whence};
use rovy_common::maps::{Config, LocalKey, kind};
use rovy_common::wire::{Hello, MessageType, Response};
use rovy_common::{DropReason, UpReason};

const HELLO: usize = size_of::<Hello>();
const RESPONSE: usize = size_of::<Response>();

/// A hello or response that [`rovy_common::wire::check`] accepted.
#[inline(always)]
#[must_use]
pub fn run(packet: &mut Packet, frame: &Frame, config: &Config) -> u32 {
    let Some(m) = read(packet, frame) else { return tally::up(UpReason::Control) };
    let index = (m.covered[0] >> 32) as u32;
    let receiver = m.covered[1] as u32;
    if frame.first as u8 == MessageType::Response as u8 && !maps::is_given(receiver) {
        return tally::drop(packet, DropReason::UnknownIndex, receiver);
    }
    let gate = Gate::now();
    match hello::judge(&gate, &config.mac1, &config.limits, &m, &Whence::of(&frame.source)) {
        // What the device would lose, the agent answers, as far as it is let.
        Verdict::Reply(_) if maps::is_local(&LocalKey::mute(frame.source.ifindex)) => {
            match hello::within(&gate, &config.limits, Load::Replies) {
                Verdict::Admit => tally::up(UpReason::Control),
                _ => tally::drop(packet, DropReason::BadMac2, index),
            }
        }
        Verdict::Admit => tally::up(UpReason::Control),
        Verdict::Drop(reason) => tally::drop(packet, reason, index),
        Verdict::Reply(words) if reply::write(packet, &frame.source, &words) => tally::answered(),
        Verdict::Reply(_) => tally::drop(packet, DropReason::BadMac2, index),
    }
}

/// Something else, which goes up for this reason.
#[inline(always)]
#[must_use]
pub fn other(packet: &Packet, frame: &Frame, reason: UpReason, config: &Config) -> u32 {
    match hello::stray(&Gate::now(), &config.limits, &Whence::of(&frame.source)) {
        Verdict::Drop(reason) => tally::drop(packet, reason, 0),
        Verdict::Admit | Verdict::Reply(_) => tally::up(reason),
    }
}

#[inline(always)]
fn read(packet: &Packet, frame: &Frame) -> Option<Sealed> {
    let m = frame.message.as_ref()?;
    let hello = frame.first as u8 == MessageType::Hello as u8;
    let [a, b, c, d] = match (frame.source.kind, hello) {
        (kind::UDP4, true) => macs::<{ encap::UDP4 + HELLO }>(packet),
        (kind::UDP4, false) => macs::<{ encap::UDP4 + RESPONSE }>(packet),
        (kind::UDP6, true) => macs::<{ encap::UDP6 + HELLO }>(packet),
        (kind::UDP6, false) => macs::<{ encap::UDP6 + RESPONSE }>(packet),
        (_, true) => macs::<{ encap::ETH + HELLO }>(packet),
        (_, false) => macs::<{ encap::ETH + RESPONSE }>(packet),
    }?;
    // What a hop reads of a transit message begins at the same place.
    let covered = [m.head[0], m.head[1], m.tag, m.label[0], m.label[1]];
    Some(Sealed { covered, mac1: [a, b], mac2: [c, d] })
}

/// The two MACs of a message that ends with the byte `END` of the frame. The words are opaque so that the compiler does not
/// make one load of all the variants: with an offset that varies the verifier would refuse it.
#[inline(always)]
fn macs<const END: usize>(packet: &Packet) -> Option<[u64; 4]> {
    let f = packet.head::<END>()?;
    let word = |back: usize| opaque(word64(f, END - back) as usize) as u64;
    Some([word(32), word(24), word(16), word(8)])
}
