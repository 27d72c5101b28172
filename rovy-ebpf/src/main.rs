//! The XDP programs.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Entry.
#[xdp]
pub fn rovy(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The licence the kernel asks for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
