//! Congestion marks through tunnels: RFC 6040, normal mode, which decapsulates as every mode does.
//!
//! The sender copies the two bits of the inner packet into the flags of its messages, and whoever sends a message over UDP copies
//! them from there into the IP header. On the way marks only get more: they travel back in the flags, and the receiver takes
//! them over into the packet.

use crate::wire::FLAG_ECN_MASK;

/// Neither end heeds marks.
pub const NOT_ECT: u8 = 0;
/// The ends heed marks, of the newer kind (RFC 9331).
pub const ECT_1: u8 = 1;
/// The ends heed marks.
pub const ECT_0: u8 = 2;
/// Congestion was met.
pub const CE: u8 = 3;

/// The bits in the flags of a message.
#[inline(always)]
#[must_use]
pub const fn of_flags(flags: u8) -> u8 {
    (flags & FLAG_ECN_MASK) >> 5
}

/// Flags with other bits.
#[inline(always)]
#[must_use]
pub const fn with_flags(flags: u8, ecn: u8) -> u8 {
    flags & !FLAG_ECN_MASK | (ecn << 5) & FLAG_ECN_MASK
}

/// What stands inside, after it arrived within `outer`. What bears no marks stays as it is: see [`lost`].
#[inline(always)]
#[must_use]
pub const fn inside(inner: u8, outer: u8) -> u8 {
    match (inner & 3, outer & 3) {
        (NOT_ECT, _) => NOT_ECT,
        (_, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (inner, _) => inner,
    }
}

/// Congestion was met by what bears no marks: it counts as lost, as nothing else could tell its sender.
#[inline(always)]
#[must_use]
pub const fn lost(inner: u8, outer: u8) -> bool {
    inner & 3 == NOT_ECT && outer & 3 == CE
}

/// The first word of a message, that came within `outer`, as it goes on. Little-endian: the flags are its second byte.
#[inline(always)]
#[must_use]
pub const fn pass(head: u64, outer: u8) -> u64 {
    let flags = (head >> 8) as u8;
    let marked = with_flags(flags, inside(of_flags(flags), outer));
    head & !0xff00 | (marked as u64) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_4_of_rfc_6040() {
        let out = |inner| [NOT_ECT, ECT_0, ECT_1, CE].map(|outer| inside(inner, outer));
        assert_eq!(out(NOT_ECT), [NOT_ECT; 4]);
        assert_eq!(out(ECT_0), [ECT_0, ECT_0, ECT_1, CE]);
        assert_eq!(out(ECT_1), [ECT_1, ECT_1, ECT_1, CE]);
        assert_eq!(out(CE), [CE; 4]);
        assert!(lost(NOT_ECT, CE) && !lost(ECT_0, CE) && !lost(NOT_ECT, ECT_1));
    }

    #[test]
    fn only_the_two_bits_change() {
        for flags in 0..=255_u8 {
            for outer in 0..4 {
                let head = u64::from_le_bytes([6, flags, 0x34, 0x12, 5, 6, 7, 8]);
                let out = pass(head, outer).to_le_bytes();
                assert_eq!(out[1] & !FLAG_ECN_MASK, flags & !FLAG_ECN_MASK);
                assert_eq!(of_flags(out[1]), inside(of_flags(flags), outer));
                assert_eq!([out[0], out[2], out[3], out[4], out[7]], [6, 0x34, 0x12, 5, 8]);
            }
        }
    }
}
