//! A whole UDP checksum over a frame in place, by the kernel's own summing in pieces of constant size: the
//! verifier takes no length that it cannot see.
//!
//! Each piece's offset is computed from the length alone, never carried along: so the ways through the pieces look
//! alike to the verifier, and it follows one of them instead of all.
#![allow(unsafe_code)]

use crate::atomic::opaque;
use crate::packet::Packet;
use aya_ebpf::helpers::generated::bpf_csum_diff;
use rovy_common::encap;

/// Pieces of 512 bytes at most: what the longest frame that is switched holds.
const PIECES: usize = 18;

/// The checksum field, as it stands in the packet, of the datagram of `udp` bytes whose addresses start at `at` and take
/// `addrs` bytes, the UDP header following at once. The field itself must be zero.
#[inline(always)]
pub fn udp(packet: &Packet, at: usize, addrs: usize, udp: u16) -> Option<u16> {
    let ctx = packet.context();
    let sum = add(ctx.data() + at, ctx.data_end(), (addrs + usize::from(udp)) & 0x3fff)?;
    // Sums are kept in the packet's byte order, in which protocol number and length are swapped numbers.
    Some(encap::udp_checksum(sum + u64::from(17_u16.to_be()) + u64::from(udp.to_be())))
}

/// The one's complement sum of `len` bytes, in the packet's byte order.
#[inline(always)]
fn add(start: usize, end: usize, len: usize) -> Option<u64> {
    let mut sum = 0;
    let mut i = 0;
    while i < PIECES && i < len / 512 {
        sum = piece::<512>(start + 512 * i, end, sum)?;
        i += 1;
    }
    sum = bit::<256>(start, end, len, sum)?;
    sum = bit::<128>(start, end, len, sum)?;
    sum = bit::<64>(start, end, len, sum)?;
    sum = bit::<32>(start, end, len, sum)?;
    sum = bit::<16>(start, end, len, sum)?;
    sum = bit::<8>(start, end, len, sum)?;
    sum = bit::<4>(start, end, len, sum)?;
    let mut total = u64::from(sum);
    if len & 2 != 0 {
        let at = start + (opaque(len) & 0x3ffc);
        total += u64::from(byte(at, end)?) + (u64::from(byte(at + 1, end)?) << 8);
    }
    if len & 1 != 0 {
        total += u64::from(byte(start + (opaque(len) & 0x3ffe), end)?);
    }
    Some(total)
}

/// The piece that the bit `N` of the length stands for, behind those of all higher bits.
#[inline(always)]
fn bit<const N: usize>(start: usize, end: usize, len: usize, seed: u32) -> Option<u32> {
    if len & N == 0 {
        return Some(seed);
    }
    piece::<N>(start + (opaque(len) & 0x3fff & !(2 * N - 1)), end, seed)
}

#[inline(always)]
fn piece<const N: usize>(at: usize, end: usize, seed: u32) -> Option<u32> {
    if at + N > end {
        return None;
    }
    // SAFETY: `N` bytes from `at` on lie before the frame's end; a piece is a multiple of four bytes.
    Some(unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, at as *mut u32, N as u32, seed) } as u32)
}

#[inline(always)]
fn byte(at: usize, end: usize) -> Option<u8> {
    if at + 1 > end {
        return None;
    }
    // SAFETY: the byte lies before the frame's end.
    Some(unsafe { *(at as *const u8) })
}
