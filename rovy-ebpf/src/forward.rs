//! Sends a switched message on: everything that can fail comes first, then the frame is rewritten and leaves.

use crate::packet::{Packet, word16, word32, word64};
use crate::{checksum, maps};
use rovy_common::hop::Message;
use rovy_common::maps::{RxLink, TxLink, kind, tx_flag};
use rovy_common::{DropReason, ecn, encap};

/// Bytes of a transit message in front of the inner message.
const TRANSIT: usize = 40;

/// Rewrites the frame, whose message stands behind `header` bytes, and aims it at the link's device.
///
/// # Errors
/// Why it is lost: its counter is used up on both links, so nobody else can send it any more.
#[inline(always)]
pub fn send(packet: &mut Packet, header: usize, tx: &TxLink, m: &Message<2>) -> Result<(), DropReason> {
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
        kind::ETHERNET => ethernet(packet, tx, m),
        kind::UDP4 => udp4(packet, tx, m),
        kind::UDP6 => udp6(packet, tx, m),
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

#[inline(always)]
fn ethernet(packet: &mut Packet, tx: &TxLink, m: &Message<2>) -> Option<()> {
    let f = packet.head_mut::<{ encap::ETH + TRANSIT }>()?;
    put::<{ encap::ETH }, _>(f, tx, m);
    Some(())
}

#[inline(always)]
fn udp4(packet: &mut Packet, tx: &TxLink, m: &Message<2>) -> Option<()> {
    let udp = m.length() as u16 + 8;
    let ip = udp + 20;
    let f = packet.head_mut::<{ encap::UDP4 + TRANSIT }>()?;
    put::<{ encap::UDP4 }, _>(f, tx, m);
    let template = u16::from_be_bytes([tx.header[24], tx.header[25]]);
    let ecn = mark(m);
    f[15] = ecn;
    f[16..18].copy_from_slice(&ip.to_be_bytes());
    f[24..26].copy_from_slice(&encap::ipv4_checksum(template, ip, ecn).to_be_bytes());
    f[38..40].copy_from_slice(&udp.to_be_bytes());
    if tx.flags & tx_flag::ZERO_CHECKSUM == 0 {
        let sum = checksum::udp(packet, 26, 8, udp)?;
        packet.head_mut::<{ encap::UDP4 }>()?[40..].copy_from_slice(&sum.to_ne_bytes());
    }
    Some(())
}

#[inline(always)]
fn udp6(packet: &mut Packet, tx: &TxLink, m: &Message<2>) -> Option<()> {
    let udp = m.length() as u16 + 8;
    let f = packet.head_mut::<{ encap::UDP6 + TRANSIT }>()?;
    put::<{ encap::UDP6 }, _>(f, tx, m);
    f[15] = mark(m) << 4;
    f[18..20].copy_from_slice(&udp.to_be_bytes());
    f[58..60].copy_from_slice(&udp.to_be_bytes());
    if tx.flags & tx_flag::ZERO_CHECKSUM == 0 {
        let sum = checksum::udp(packet, 22, 32, udp)?;
        packet.head_mut::<{ encap::UDP6 }>()?[60..].copy_from_slice(&sum.to_ne_bytes());
    }
    Some(())
}

/// The ECN bits of a message, for the IP header.
#[inline(always)]
fn mark(m: &Message<2>) -> u8 {
    ecn::of_flags((m.head[0] >> 8) as u8)
}

/// The header template, then the transit head. Word by word: a copy of bytes becomes loads and stores of single bytes.
#[inline(always)]
fn put<const H: usize, const N: usize>(frame: &mut [u8; N], tx: &TxLink, m: &Message<2>) {
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
    let words = [m.head[0], m.head[1], m.tag, m.label[0], m.label[1]];
    let mut i = 0;
    while i < words.len() {
        frame[H + 8 * i..H + 8 * i + 8].copy_from_slice(&words[i].to_ne_bytes());
        i += 1;
    }
}
