//! Packets in pieces: IPv6 packets of at most 1280 bytes that are longer than a message of the route may be. Cutting stands
//! here, joining in its own file.

mod join;

pub(super) use join::{Joiner, Piece};

use std::ops::Range;

use rovy_common::wire::Fragment;

/// Bytes in front of a piece, in the body of its message.
pub(super) const HEAD: usize = size_of::<Fragment>();

/// The pieces of a packet of `length` bytes, none longer than `room`: as few as possible, and of about one length.
pub(super) fn cut(length: usize, room: usize) -> impl Iterator<Item = Range<usize>> {
    let pieces = length.div_ceil(room.max(1)).max(1);
    let each = length.div_ceil(pieces);
    (0..pieces).map(move |i| (i * each).min(length)..((i + 1) * each).min(length))
}

#[cfg(test)]
mod tests;
