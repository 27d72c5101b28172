//! Transit with a long label, which `decide` found to be of a link of this node's. A function of its own: most packets have a
//! short label, and both ways at once need more stack than a program has.

use crate::atomic::opaque;
use crate::maps::{self, Maps};
use crate::packet::{Packet, word64};
use crate::parse::{self, Frame};
use crate::{forward, tally};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use rovy_common::hop::{self, Message, Place, Tables as _, Verdict};
use rovy_common::label::Width;
use rovy_common::maps::kind;
use rovy_common::{DropReason, UpReason, encap};

/// Bytes up to the inner message, by underlay.
const ETH: usize = encap::ETH + Message::<4>::HEAD;
const UDP4: usize = encap::UDP4 + Message::<4>::HEAD;
const UDP6: usize = encap::UDP6 + Message::<4>::HEAD;

/// The frame from where `decide` left it, to the verdict.
#[inline(never)]
#[must_use]
pub fn run(ctx: *mut xdp_md) -> u32 {
    let packet = &mut Packet::new(XdpContext::new(ctx));
    let Some(config) = maps::config() else { return tally::pass() };
    let Some(frame) = parse::parse(packet, config.ethertype_be) else { return tally::pass() };
    let Some(m) = read(packet, &frame) else { return tally::drop(packet, DropReason::BadLength, frame.second) };
    let tables = Maps::now();
    // The agent may just have taken it away.
    let Some(rx) = tables.rx(m.index()) else { return tally::drop(packet, DropReason::UnknownIndex, m.index()) };
    let width = if config.slot_width == 2 { Width::Two } else { Width::One };
    let moved = !frame.came_from(&rx.source);
    match hop::hop(&tables, width, Place::Kernel { moved }, rx, &m) {
        Verdict::Here(_) => tally::up(UpReason::Local),
        Verdict::Up(reason) => tally::up(reason),
        // Never in the kernel.
        Verdict::Seal(..) => tally::up(UpReason::Sealed),
        // The second one never in the kernel.
        Verdict::Drop(reason) | Verdict::Refused(reason) => {
            forward::refuse(rx, reason);
            tally::drop(packet, reason, m.index())
        }
        Verdict::Forward(tx, out) => match forward::send::<4, ETH, UDP4, UDP6>(packet, frame.header, tx, &out) {
            Ok(()) => {
                forward::account(rx, tx, u64::from(m.length()));
                tally::forwarded()
            }
            Err(reason) => tally::drop(packet, reason, m.index()),
        },
    }
}

/// What was read for a short label, and the two words behind it.
#[inline(always)]
fn read(packet: &Packet, frame: &Frame) -> Option<Message<4>> {
    let m = frame.message.as_ref()?;
    let inner = match frame.source.kind {
        kind::UDP4 => last::<{ UDP4 + 16 }>(packet),
        kind::UDP6 => last::<{ UDP6 + 16 }>(packet),
        _ => last::<{ ETH + 16 }>(packet),
    }?;
    let label = [m.label[0], m.label[1], m.inner[0], m.inner[1]];
    Some(Message { head: m.head, tag: m.tag, label, inner })
}

/// The last two words of the first `N` bytes. Opaque, as the verifier refuses one load at an offset that varies.
#[inline(always)]
fn last<const N: usize>(packet: &Packet) -> Option<[u64; 2]> {
    let f = packet.head::<N>()?;
    Some([opaque(word64(f, N - 16) as usize) as u64, opaque(word64(f, N - 8) as usize) as u64])
}
