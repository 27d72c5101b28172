//! The object the agent loads: one program for every interface.
#![no_std]
#![no_main]
// The attributes that name a section and keep a symbol count as unsafe.
#![allow(unsafe_code)]

use aya_ebpf::{macros::xdp, programs::XdpContext};
use rovy_ebpf::decide;

/// Takes frames in fragments too, so that it attaches to interfaces with a jumbo MTU.
#[xdp(frags)]
#[inline(always)]
fn rovy(ctx: XdpContext) -> u32 {
    decide::run(ctx.ctx)
}

/// Nothing may panic: a program that reaches this does not load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
