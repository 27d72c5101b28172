//! Verdicts, counted: the only place that returns an XDP action.

use crate::maps;
use crate::packet::Packet;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::programs::XdpContext;
use rovy_common::{Counter, DropReason, UpReason};

/// Not rovy's, or not this node's: neither touched nor counted.
#[inline(always)]
#[must_use]
pub const fn pass() -> u32 {
    XDP_PASS
}

/// To the agent, unchanged.
#[inline(always)]
#[must_use]
pub fn up(reason: UpReason) -> u32 {
    maps::count(Counter::Up(reason).index());
    XDP_PASS
}

/// On its way by the device that was aimed at.
#[inline(always)]
#[must_use]
pub fn forwarded() -> u32 {
    maps::count(Counter::Forwarded.index());
    XDP_REDIRECT
}

/// The hello is dropped, and its frame carries the cookie reply back.
#[inline(always)]
#[must_use]
pub fn answered() -> u32 {
    maps::count(Counter::Drop(DropReason::BadMac2).index());
    maps::count(Counter::CookieReply.index());
    XDP_TX
}

/// Dropped. `index` is the receiver index the log names.
#[inline(always)]
#[must_use]
pub fn drop(packet: &Packet, reason: DropReason, index: u32) -> u32 {
    maps::count(Counter::Drop(reason).index());
    log(packet.context(), reason as u32, index);
    XDP_DROP
}

/// Off the hot path, and gone altogether at the loader's default level. Not `#[cold]`: that would put it into a second text
/// section, and aya 0.14 mixes up functions that have the same offset in different sections.
#[inline(never)]
fn log(ctx: &XdpContext, reason: u32, index: u32) {
    aya_log_ebpf::debug!(ctx, "drop: reason {} receiver_index {:x}", reason, index);
}
