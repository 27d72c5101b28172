//! The object of benchmarks and tests: generators, a bare redirect and a sink, all around the programs that are
//! measured, and programs that stand for another's. Uses nothing of the library, whose maps would come along.
#![no_std]
#![no_main]
// The attributes that name a section and keep a symbol count as unsafe, and so do raw map values.
#![allow(unsafe_code)]

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, DevMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;

/// What differs from packet to packet: counter, tag, and the two words of the masked label.
type Stamp = [u64; 4];

/// Bytes in front of the stamp, behind the longest header: type, flags, length, receiver index.
const HEAD: usize = 8;
/// Where the stamp stands behind Ethernet, IPv6 and UDP headers.
const AT: usize = 62 + HEAD;

/// Words of a whole frame that [`flood`] sends.
const WHOLE: usize = 48;

/// How many stamps there are; the loader sets it.
#[unsafe(no_mangle)]
static STAMP_COUNT: Global<u32> = Global::new(0);

/// How many frames there are to flood with, less one; a power of two less one. The loader sets it.
#[unsafe(no_mangle)]
static FRAME_MASK: Global<u32> = Global::new(0);

/// What [`flood`] sends, whole and ready.
#[map]
static FRAMES: Array<[u64; WHOLE]> = Array::with_max_entries(1, 0);
#[map]
static STAMPS: Array<Stamp> = Array::with_max_entries(1, 0);
/// What all packets have in common, up to the stamp.
#[map]
static TEMPLATE: Array<[u8; AT]> = Array::with_max_entries(1, 0);
/// The next stamp. One CPU generates.
#[map]
static NEXT: Array<u32> = Array::with_max_entries(1, 0);
/// Where `generate` and `redirect` send.
#[map]
static OUT: DevMap = DevMap::with_max_entries(1, 0);
/// What `sink` has swallowed.
#[map]
static SWALLOWED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Writes the template and the next stamp into a frame and sends it; for test runs with live frames, whose frames
/// come back as the last receiver left them. Ends when the stamps do.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    stamp(&ctx).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn stamp(ctx: &XdpContext) -> Option<u32> {
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: the map value is valid for as long as the program runs; one CPU runs it.
    let at = unsafe { *next };
    if at >= STAMP_COUNT.load() {
        return Some(XDP_DROP);
    }
    // SAFETY: as above.
    unsafe { *next = at + 1 };
    let (template, stamp) = (TEMPLATE.get(0)?, STAMPS.get(at)?);
    if ctx.data() + AT + size_of::<Stamp>() > ctx.data_end() {
        return None;
    }
    // SAFETY: so many bytes from `data` on lie before `data_end`, and nothing moves the frame's ends.
    let frame = unsafe { &mut *(ctx.data() as *mut [u8; AT + size_of::<Stamp>()]) };
    frame[..AT].copy_from_slice(template);
    let mut i = 0;
    while i < stamp.len() {
        frame[AT + 8 * i..AT + 8 * i + 8].copy_from_slice(&stamp[i].to_ne_bytes());
        i += 1;
    }
    Some(aim())
}

#[inline(always)]
fn aim() -> u32 {
    match OUT.redirect(0, 0) {
        Ok(action) | Err(action) => action,
    }
}

/// Sends one frame after the other, from the first again after the last. As [`generate`] otherwise.
#[xdp]
fn flood(ctx: XdpContext) -> u32 {
    whole(&ctx).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn whole(ctx: &XdpContext) -> Option<u32> {
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: the map value is valid for as long as the program runs; one CPU runs it.
    let at = unsafe { *next };
    // SAFETY: as above.
    unsafe { *next = at.wrapping_add(1) };
    let from = FRAMES.get(at & FRAME_MASK.load())?;
    if ctx.data() + 8 * WHOLE > ctx.data_end() {
        return None;
    }
    // SAFETY: so many bytes from `data` on lie before `data_end`, and nothing moves the frame's ends.
    let to = unsafe { &mut *(ctx.data() as *mut [u8; 8 * WHOLE]) };
    let mut i = 0;
    while i < WHOLE {
        to[8 * i..8 * i + 8].copy_from_slice(&from[i].to_ne_bytes());
        i += 1;
    }
    Some(aim())
}

/// Sends every frame on as it is.
#[xdp]
fn redirect(_ctx: XdpContext) -> u32 {
    aim()
}

/// Counts and drops every frame.
#[xdp]
fn sink(_ctx: XdpContext) -> u32 {
    if let Some(count) = SWALLOWED.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's own.
        unsafe { *count += 1 };
    }
    XDP_DROP
}

/// Drops every frame: the least that a program can do against a flood.
#[xdp]
fn refuse(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// Does nothing: somebody else's program on an interface, and what makes a veth device take redirected frames.
#[xdp]
fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Nothing may panic: a program that reaches this does not load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
