//! Sends a switched message on: everything that can fail comes first, then the frame is rewritten and leaves.

use crate::packet::{Packet, word16, word32, word64};
use crate::{checksum, maps};
use rovy_common::hop::Message;
use rovy_common::maps::{RxLink, TxLink, kind, tx_flag};
use rovy_common::{DropReason, encap};

/// Rewrites the frame, whose message stands behind `header` bytes, and aims it at the link's device. `E`, `F` and `S` are the
/// bytes in front of the inner message on Ethernet and on UDP over IPv4 and IPv6, which follow from `W`.
///
/// # Errors
/// Why it is lost: its counter is used up on both links, so nobody else can send it any more.
#[inline(always)]
pub fn send<const W: usize, const E: usize, const F: usize, const S: usize>(
    packet: &mut Packet,
    header: usize,
    tx: &TxLink,
    m: &Message<W>,
) -> Result<(), DropReason> {
    if !maps::aim(tx.port) {
        return Err(DropReason::EgressDown);
    }
    let padding = packet.len().wrapping_sub(header + m.length() as usize);
    if padding != 0 {
        // What follows in further fragments would be cut first.
        if packet.whole_len() != packet.len() {
            return Err(DropReason::TooBig);
        }
        if !packet.cut_tail(padding as u32) {
            return Err(DropReason::EgressUnsupported);
        }
    }
    let delta = header as i32 - encap::header_len(tx.kind) as i32;
    if delta != 0 && !packet.cut_head(delta) {
        return Err(DropReason::EgressUnsupported);
    }
    let written = match tx.kind {
        kind::ETHERNET => ethernet::<W, E>(packet, tx, m),
        kind::UDP4 => udp4::<W, F>(packet, tx, m),
        kind::UDP6 => udp6::<W, S>(packet, tx, m),
        _ => None,
    };
    written.ok_or(DropReason::EgressUnsupported)
}

/// Counts a message of `bytes` that was switched from one link to another.
#[inline(always)]
pub fn account(rx: &RxLink, tx: &TxLink, bytes: u64) {
    maps::slot_stats(u32::from(rx.slot), |s| {
        s.rx_packets += 1;
        s.rx_bytes += bytes;
    });
    maps::slot_stats(tx.slot, |s| {
        s.tx_packets += 1;
        s.tx_bytes += bytes;
    });
}

/// Counts a message that the link's neighbour may not send through this node, or not so many.
#[inline(always)]
pub fn refuse(rx: &RxLink, reason: DropReason) {
    if matches!(reason, DropReason::NotAllowed | DropReason::RateLimited) {
        maps::slot_stats(u32::from(rx.slot), |s| s.refused_packets += 1);
    }
}

#[inline(always)]
fn ethernet<const W: usize, const N: usize>(packet: &mut Packet, tx: &TxLink, m: &Message<W>) -> Option<()> {
    let f = packet.head_mut::<N>()?;
    put::<{ encap::ETH }, W, N>(f, tx, m);
    Some(())
}

#[inline(always)]
fn udp4<const W: usize, const N: usize>(packet: &mut Packet, tx: &TxLink, m: &Message<W>) -> Option<()> {
    let udp = m.length() as u16 + 8;
    let ip = udp + 20;
    let f = packet.head_mut::<N>()?;
    put::<{ encap::UDP4 }, W, N>(f, tx, m);
    let template = u16::from_be_bytes([tx.header[24], tx.header[25]]);
    f[16..18].copy_from_slice(&ip.to_be_bytes());
    f[24..26].copy_from_slice(&encap::ipv4_checksum(template, ip).to_be_bytes());
    f[38..40].copy_from_slice(&udp.to_be_bytes());
    if tx.flags & tx_flag::ZERO_CHECKSUM == 0 {
        let sum = checksum::udp(packet, 26, 8, udp)?;
        packet.head_mut::<{ encap::UDP4 }>()?[40..].copy_from_slice(&sum.to_ne_bytes());
    }
    Some(())
}

#[inline(always)]
fn udp6<const W: usize, const N: usize>(packet: &mut Packet, tx: &TxLink, m: &Message<W>) -> Option<()> {
    let udp = m.length() as u16 + 8;
    let f = packet.head_mut::<N>()?;
    put::<{ encap::UDP6 }, W, N>(f, tx, m);
    f[18..20].copy_from_slice(&udp.to_be_bytes());
    f[58..60].copy_from_slice(&udp.to_be_bytes());
    if tx.flags & tx_flag::ZERO_CHECKSUM == 0 {
        let sum = checksum::udp(packet, 22, 32, udp)?;
        packet.head_mut::<{ encap::UDP6 }>()?[60..].copy_from_slice(&sum.to_ne_bytes());
    }
    Some(())
}

/// The header template, then the transit head. Word by word: a copy of bytes becomes loads and stores of single bytes.
#[inline(always)]
fn put<const H: usize, const W: usize, const N: usize>(frame: &mut [u8; N], tx: &TxLink, m: &Message<W>) {
    let mut at = 0;
    while at + 8 <= H {
        frame[at..at + 8].copy_from_slice(&word64(&tx.header, at).to_ne_bytes());
        at += 8;
    }
    if H & 4 != 0 {
        frame[at..at + 4].copy_from_slice(&word32(&tx.header, at).to_ne_bytes());
        at += 4;
    }
    if H & 2 != 0 {
        frame[at..at + 2].copy_from_slice(&word16(&tx.header, at).to_ne_bytes());
    }
    let mut word = |i: usize, word: u64| frame[H + 8 * i..H + 8 * i + 8].copy_from_slice(&word.to_ne_bytes());
    word(0, m.head[0]);
    word(1, m.head[1]);
    word(2, m.tag);
    let mut i = 0;
    while i < W {
        word(3 + i, m.label[i]);
        i += 1;
    }
}
