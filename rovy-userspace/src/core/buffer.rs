//! Room around an outgoing packet, so that headers and tag are written without copying it.

use std::ops::Range;

use rovy_common::wire::AEAD_TAG;

use super::action::Path;

/// Bytes a buffer keeps free in front of an IPv6 packet: transit header with a long label, data header, codec. Sealed
/// transit takes less: the label, and data header and codec twice.
pub const HEADROOM: usize = 56 + 16 + 4;
/// Bytes a buffer keeps free behind it: the AEAD tag, and another where the packet goes over a sealed link.
pub const TAILROOM: usize = 2 * AEAD_TAG;

const _: () = assert!(32 + 2 * (16 + 4) <= HEADROOM);

/// A sealed message in the buffer it was made in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// How it goes out.
    pub path: Path,
    /// Where in the buffer the message stands. In front of it is room for a transit header.
    pub message: Range<usize>,
}
