//! Whose frame it is, and what becomes of it.

use crate::maps::{self, Maps};
use crate::packet::Packet;
use crate::parse::{self, Frame};
use crate::{admit, forward, long, tally};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use rovy_common::hop::{self, Message, Place, Tables, Verdict};
use rovy_common::label::Width;
use rovy_common::maps::{RxLink, kind};
use rovy_common::wire::{self, MessageType};
use rovy_common::{DropReason, UpReason, encap};

/// Bytes up to the inner message, by underlay.
const ETH: usize = encap::ETH + Message::<2>::HEAD;
const UDP4: usize = encap::UDP4 + Message::<2>::HEAD;
const UDP6: usize = encap::UDP6 + Message::<2>::HEAD;

/// Longer frames are local sends that a device has yet to cut up, or more than any link takes.
const LONGEST: usize = 9216;
/// A frame of the usual MTU; only in longer ones a datagram may be several.
const USUAL: usize = 1514;

/// What [`first`] says of a frame that [`long`] is to switch; no XDP action has this number.
const LONG: u32 = 64;

/// One frame, from parsing to the verdict.
#[inline(always)]
#[must_use]
pub fn run(ctx: *mut xdp_md) -> u32 {
    // One after the other, so that neither has to share the 512 bytes of stack with the other.
    match first(ctx) {
        LONG => long::run(ctx),
        action => action,
    }
}

/// All frames but those with a long label.
#[inline(never)]
fn first(ctx: *mut xdp_md) -> u32 {
    let packet = &mut Packet::new(XdpContext::new(ctx));
    let Some(config) = maps::config() else { return tally::pass() };
    let Some(frame) = parse::parse(packet, config.ethertype_be) else { return tally::pass() };
    let width = if config.slot_width == 2 { Width::Two } else { Width::One };
    let tables = Maps::now();
    let (rx, m, moved) = match find(packet, &tables, &frame) {
        Ok(found) => found,
        Err(Other::Done(action)) => return action,
        Err(Other::Handshake) => return admit::run(&mut packet.again(), &frame, config),
        Err(Other::Stray(reason)) => return admit::other(packet, &frame, reason, config),
    };
    if frame.is_long() {
        return LONG;
    }
    match hop::hop(&tables, width, Place::Kernel { moved }, rx, m) {
        Verdict::Here(_) => tally::up(UpReason::Local),
        Verdict::Up(reason) => tally::up(reason),
        // Never in the kernel.
        Verdict::Seal(..) => tally::up(UpReason::Sealed),
        // The second one never in the kernel.
        Verdict::Drop(reason) | Verdict::Refused(reason) => {
            forward::refuse(rx, reason);
            tally::drop(packet, reason, m.index())
        }
        Verdict::Forward(tx, out) => match forward::send::<2, ETH, UDP4, UDP6>(packet, frame.header, tx, &out) {
            Ok(()) => {
                forward::account(rx, tx, u64::from(m.length()));
                tally::forwarded()
            }
            Err(reason) => tally::drop(packet, reason, m.index()),
        },
    }
}

/// A frame that is not transit of a link.
enum Other {
    /// The action that was taken.
    Done(u32),
    /// A hello or response, to whomever.
    Handshake,
    /// The agent may see it for this reason, but only so much of it.
    Stray(UpReason),
}

/// The link a transit message belongs to and whether it moved.
#[inline(always)]
fn find<'a>(packet: &Packet, tables: &'a Maps, frame: &'a Frame) -> Result<(&'a RxLink, &'a Message<2>, bool), Other> {
    let checked = wire::check(frame.first, frame.available, frame.exact());
    let transit = match (checked, &frame.message) {
        (Ok((MessageType::Transit, _)), Some(m)) if frame.sound && packet.len() <= LONGEST => Some(m),
        _ => None,
    };
    let rx = transit.and_then(|m| tables.rx(m.index()));
    if let (Some(m), Some(rx)) = (transit, rx)
        && frame.came_from(&rx.source)
    {
        return Ok((rx, m, false));
    }
    let group = frame.source.kind == kind::ETHERNET && frame.to_group();
    if !group && !is_ours(frame) {
        return Err(Other::Done(tally::pass()));
    }
    let oversized = packet.len() > LONGEST || packet.whole_len() > packet.len();
    // Nobody guesses an index: what names one of a session is the session's matter.
    let given = tables.rx(frame.second).is_some() || maps::is_given(frame.second);
    let large = || if given { Other::Done(tally::up(UpReason::Oversized)) } else { Other::Stray(UpReason::Oversized) };
    let reason = match checked {
        Ok((MessageType::Hello | MessageType::Response, _)) if frame.sound && !oversized => {
            return Err(Other::Handshake);
        }
        _ if group => return Err(Other::Stray(UpReason::Control)),
        _ if oversized => return Err(large()),
        _ if !frame.sound => DropReason::BadLength,
        Err(DropReason::BadLength) if packet.len() > USUAL => return Err(large()),
        Err(reason) => reason,
        Ok((MessageType::Transit, _)) => match (transit, rx) {
            (Some(m), Some(rx)) => return Ok((rx, m, true)),
            (None, _) => DropReason::BadLength,
            _ => DropReason::UnknownIndex,
        },
        Ok((MessageType::Control, _)) => DropReason::Malformed,
        Ok((MessageType::CookieReply | MessageType::Data, _)) if given => {
            return Err(Other::Done(tally::up(UpReason::Control)));
        }
        Ok((MessageType::CookieReply | MessageType::Data, _)) => DropReason::UnknownIndex,
        Ok((MessageType::Hello | MessageType::Response | MessageType::Beacon, _)) => {
            return Err(Other::Stray(UpReason::Control));
        }
    };
    Err(Other::Done(tally::drop(packet, reason, frame.second)))
}

/// Whether the frame was sent to this node: to the interface's own address and, over UDP, to one of its sockets.
#[inline(always)]
fn is_ours(frame: &Frame) -> bool {
    maps::is_local(&frame.station()) && frame.socket().is_none_or(|key| maps::is_local(&key))
}
