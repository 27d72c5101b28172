//! Turns a hello's frame into the frame of its cookie reply, on its way back.

use crate::maps;
use crate::packet::Packet;
use rovy_common::encap::{self, fold};
use rovy_common::hello::REPLY;
use rovy_common::maps::{Source, kind};

const BYTES: usize = 8 * REPLY;
/// The shortest Ethernet frame; what follows the message is padding.
const ETH_LEAST: usize = 60;
const UDP_LEN_BE: u16 = ((8 + BYTES) as u16).to_be();
const IP_LEN_BE: u16 = ((28 + BYTES) as u16).to_be();

/// Writes the frame; whether it could be done. A frame for which it could not may be spoilt.
#[inline(always)]
pub fn write(packet: &mut Packet, s: &Source, words: &[u64; REPLY]) -> bool {
    let Some(own) = own_mac(s) else { return false };
    let len = match s.kind {
        kind::UDP4 => encap::UDP4 + BYTES,
        kind::UDP6 => encap::UDP6 + BYTES,
        _ => ETH_LEAST,
    };
    let Some(extra) = packet.len().checked_sub(len) else { return false };
    if !packet.cut_tail(extra as u32) {
        return false;
    }
    let written = match s.kind {
        kind::UDP4 => udp4(packet, s, own, words),
        kind::UDP6 => udp6(packet, s, own, words),
        _ => ethernet(packet, s, own, words),
    };
    written.is_some()
}

/// The address that the hello was sent to, or of the interface when it was sent to a group.
#[inline(always)]
fn own_mac(s: &Source) -> Option<u64> {
    if s.macs[0] & 1 != 0 {
        maps::own_mac(s.ifindex)
    } else {
        Some(u64::from(s.macs[0]) | u64::from(s.macs[1] & 0xffff) << 32)
    }
}

#[inline(always)]
fn put<const N: usize>(f: &mut [u8; N], at: usize, word: u64) {
    f[at..at + 8].copy_from_slice(&word.to_ne_bytes());
}

#[inline(always)]
fn macs<const N: usize>(f: &mut [u8; N], s: &Source, own: u64) {
    let to = u64::from(s.macs[1]) >> 16 | u64::from(s.macs[2]) << 16;
    put(f, 0, to | own << 48);
    f[8..12].copy_from_slice(&((own >> 16) as u32).to_ne_bytes());
}

#[inline(always)]
fn message<const N: usize>(f: &mut [u8; N], at: usize, words: &[u64; REPLY]) {
    let mut i = 0;
    while i < REPLY {
        put(f, at + 8 * i, words[i]);
        i += 1;
    }
}

#[inline(always)]
fn ethernet(packet: &mut Packet, s: &Source, own: u64, words: &[u64; REPLY]) -> Option<()> {
    let f = packet.head_mut::<ETH_LEAST>()?;
    macs(f, s, own);
    message(f, encap::ETH, words);
    f[encap::ETH + BYTES..].copy_from_slice(&[0; ETH_LEAST - encap::ETH - BYTES]);
    Some(())
}

/// The UDP header behind the addresses, whose one's complement sum is `addrs`. Sums are kept in the packet's byte order.
#[inline(always)]
fn udp<const N: usize>(f: &mut [u8; N], at: usize, s: &Source, addrs: u64, words: &[u64; REPLY]) {
    let mut sum = addrs + u64::from(s.ports_be) + 2 * u64::from(UDP_LEN_BE) + u64::from(17_u16.to_be());
    let mut i = 0;
    while i < REPLY {
        sum += halves(words[i]);
        i += 1;
    }
    let tail = u64::from(s.ports_be.rotate_left(16)) | u64::from(UDP_LEN_BE) << 32;
    put(f, at, tail | u64::from(encap::udp_checksum(sum)) << 48);
    message(f, at + 8, words);
}

#[inline(always)]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

#[inline(always)]
fn udp4(packet: &mut Packet, s: &Source, own: u64, words: &[u64; REPLY]) -> Option<()> {
    const A: u64 = 0x45 | (IP_LEN_BE as u64) << 16 | (0x4000_u16.to_be() as u64) << 48;
    const B: u64 = 64 | 17 << 8;
    let f = packet.head_mut::<{ encap::UDP4 + BYTES }>()?;
    macs(f, s, own);
    let addrs = halves(s.addrs_be[0]);
    put(f, 14, A);
    let checksum = !fold(halves(A) + B + addrs);
    f[22..26].copy_from_slice(&(B as u32 | u32::from(checksum) << 16).to_ne_bytes());
    put(f, 26, s.addrs_be[0].rotate_left(32));
    udp(f, 34, s, addrs, words);
    Some(())
}

#[inline(always)]
fn udp6(packet: &mut Packet, s: &Source, own: u64, words: &[u64; REPLY]) -> Option<()> {
    let f = packet.head_mut::<{ encap::UDP6 + BYTES }>()?;
    macs(f, s, own);
    put(f, 14, 0x60 | (UDP_LEN_BE as u64) << 32 | 17 << 48 | 64 << 56);
    let a = &s.addrs_be;
    put(f, 22, a[2]);
    put(f, 30, a[3]);
    put(f, 38, a[0]);
    put(f, 46, a[1]);
    udp(f, 54, s, halves(a[0]) + halves(a[1]) + halves(a[2]) + halves(a[3]), words);
    Some(())
}
