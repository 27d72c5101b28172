//! The fence around raw packet memory: views of constant size at the frame's start, each bounds-checked once.
//!
//! A view borrows the packet, so that it cannot outlive a change of the frame's start or end.
#![allow(unsafe_code)]

use crate::atomic::opaque;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;

/// A frame in its buffer.
pub struct Packet {
    ctx: XdpContext,
}

impl Packet {
    /// The frame of a program's context.
    #[inline(always)]
    #[must_use]
    pub const fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    /// The same frame, of which the compiler no longer knows what was read: otherwise it keeps start and end in 32 bits, and
    /// what was extended from them is no pointer to the verifier.
    #[inline(always)]
    #[must_use]
    pub fn again(&self) -> Self {
        Self { ctx: XdpContext::new(opaque(self.ctx.ctx as usize) as *mut _) }
    }

    /// The context, for helpers that log.
    #[inline(always)]
    #[must_use]
    pub const fn context(&self) -> &XdpContext {
        &self.ctx
    }

    /// Bytes that are there at once, without further fragments.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ctx.data_end().wrapping_sub(self.ctx.data())
    }

    /// Whether there is nothing at all.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the frame with all its fragments.
    #[inline(always)]
    #[must_use]
    pub fn whole_len(&self) -> usize {
        // SAFETY: the context is the one the kernel called the program with.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) as usize }
    }

    /// The interface the frame came in by.
    #[inline(always)]
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    /// The first `N` bytes.
    #[inline(always)]
    #[must_use]
    pub fn head<const N: usize>(&self) -> Option<&[u8; N]> {
        let data = self.ctx.data();
        if data + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: `N` bytes from `data` on lie before `data_end`, and stay there while `self` is borrowed.
        Some(unsafe { &*(data as *const [u8; N]) })
    }

    /// The first `N` bytes, to be written.
    #[inline(always)]
    pub fn head_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let data = self.ctx.data();
        if data + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: as in `head`, and `self` is borrowed exclusively.
        Some(unsafe { &mut *(data as *mut [u8; N]) })
    }

    /// Moves the frame's start: `delta` bytes are cut off, or added when it is negative. Whether it could be done.
    #[inline(always)]
    #[must_use]
    pub fn cut_head(&mut self, delta: i32) -> bool {
        // SAFETY: the kernel checks the room; no view lives across this call.
        unsafe { bpf_xdp_adjust_head(self.ctx.ctx, delta) == 0 }
    }

    /// Cuts `bytes` off the frame's end. Whether it could be done.
    #[inline(always)]
    #[must_use]
    pub fn cut_tail(&mut self, bytes: u32) -> bool {
        // SAFETY: the kernel checks the room; no view lives across this call.
        unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, -(bytes as i32)) == 0 }
    }
}

macro_rules! word {
    ($name:ident, $t:ty) => {
        /// The bytes at `at`, a constant below `N`, loaded natively in one instruction.
        #[inline(always)]
        #[must_use]
        pub fn $name<const N: usize>(bytes: &[u8; N], at: usize) -> $t {
            let mut word = [0; size_of::<$t>()];
            word.copy_from_slice(&bytes[at..at + size_of::<$t>()]);
            <$t>::from_ne_bytes(word)
        }
    };
}
word!(word16, u16);
word!(word32, u32);
word!(word64, u64);
