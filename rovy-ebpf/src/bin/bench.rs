//! What one hop costs, measured by test runs. A test run hands the same buffer to a program again and again, so each
//! program puts back what it changed, and that is part of its time.
#![no_std]
#![no_main]
// The attributes that name a section and keep a symbol count as unsafe.
#![allow(unsafe_code)]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;
use rovy_common::encap::ETH;
use rovy_common::label::{Label, Next, Width};
use rovy_ebpf::packet::{Packet, word64};
use rovy_ebpf::{decide, maps};

/// Ethernet header and transit head: what a hop from Ethernet to Ethernet rewrites.
const REWRITTEN: usize = ETH + 40;
/// The same with a long label.
const REWRITTEN_LONG: usize = ETH + 56;

/// The start of the frame as it arrives, of counter 0 and a receiver index at position 1.
#[map]
static TEMPLATE: Array<[u8; REWRITTEN_LONG]> = Array::with_max_entries(1, 0);

#[xdp(frags)]
fn empty(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Puts the frame and the replay window back, nothing else.
#[xdp(frags)]
fn restore(ctx: XdpContext) -> u32 {
    match put_back::<REWRITTEN>(&mut Packet::new(ctx)) {
        Some(()) => XDP_PASS,
        None => XDP_ABORTED,
    }
}

/// The label switch alone: the label in the frame is not masked here.
#[xdp(frags)]
fn label(ctx: XdpContext) -> u32 {
    match switch(&mut Packet::new(ctx)) {
        Some(slot) => u32::from(slot),
        None => XDP_ABORTED,
    }
}

/// The program that the agent loads.
#[xdp(frags)]
#[inline(always)]
fn hop(ctx: XdpContext) -> u32 {
    whole::<REWRITTEN>(ctx)
}

/// The same for a frame with a long label.
#[xdp(frags)]
#[inline(always)]
fn long(ctx: XdpContext) -> u32 {
    whole::<REWRITTEN_LONG>(ctx)
}

#[inline(always)]
fn whole<const N: usize>(ctx: XdpContext) -> u32 {
    let raw = ctx.ctx;
    match put_back::<N>(&mut Packet::new(ctx)) {
        Some(()) => decide::run(raw),
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn put_back<const N: usize>(packet: &mut Packet) -> Option<()> {
    maps::forget(1);
    let (from, to) = (TEMPLATE.get(0)?, packet.head_mut::<N>()?);
    let mut at = 0;
    while at + 8 <= N {
        to[at..at + 8].copy_from_slice(&word64(from, at).to_ne_bytes());
        at += 8;
    }
    to[at..].copy_from_slice(&from[at..N]);
    Some(())
}

#[inline(always)]
fn switch(packet: &mut Packet) -> Option<u16> {
    let frame = packet.head_mut::<REWRITTEN>()?;
    let mut words = [0; 2];
    for (i, word) in words.iter_mut().enumerate() {
        *word = word64(frame, ETH + 24 + 8 * i);
    }
    let before = Label::<2>(words);
    let Ok(Next::Slot(slot)) = before.next(Width::One) else { return None };
    let after = before.advance(Width::One, slot);
    // The back slot is the slot itself, so that only the position has to be put back.
    let after = [after.0[0] - 1, after.0[1]];
    for (i, word) in after.iter().enumerate() {
        frame[ETH + 24 + 8 * i..ETH + 32 + 8 * i].copy_from_slice(&word.to_ne_bytes());
    }
    Some(slot)
}

/// Nothing may panic: a program that reaches this does not load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
