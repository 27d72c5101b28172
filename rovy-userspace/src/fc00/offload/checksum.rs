//! The checksum of TCP and UDP over IPv6 (RFC 1071, RFC 8200 section 8.1).
//!
//! Sums are kept in the byte order of this machine: a one's complement sum of swapped words is the swapped sum.

use rovy_common::encap::fold;

/// Sum of the words of `bytes`, the last padded with zero.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    // Independent lanes, so that the compiler adds several words at once.
    let mut lanes = [0_u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, tail) = rest.as_chunks::<2>();
    let mut total: u64 = words.iter().map(|w| u64::from(u16::from_ne_bytes(*w))).sum();
    if let [last] = tail {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    // Folded once each, so that the sum of several such sums cannot overflow either.
    total + lanes.iter().map(|l| (l & 0xffff_ffff) + (l >> 32)).sum::<u64>()
}

/// Sum of the pseudo header of `length` bytes of `protocol` in an IPv6 packet, whose header is at its start.
pub(super) fn pseudo(packet: &[u8], protocol: u8, length: usize) -> u64 {
    let length = u32::try_from(length).unwrap_or_default().to_be_bytes();
    sum(packet.get(8..40).unwrap_or_default()) + sum(&length) + sum(&[0, protocol])
}

/// The field for a sum over everything, itself as zero.
pub(super) fn field(total: u64) -> [u8; 2] {
    (!fold(total)).to_ne_bytes()
}

/// The field that the kernel completes, for the sum of a pseudo header.
pub(super) fn partial(pseudo: u64) -> [u8; 2] {
    fold(pseudo).to_ne_bytes()
}

/// Whether a sum over everything, the field included, is that of an unharmed packet.
pub(super) fn good(total: u64) -> bool {
    fold(total) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_words(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let words = bytes.chunks(2).map(|p| u64::from(u16::from_ne_bytes([p[0], *p.get(1).unwrap_or(&0)])));
            let (ours, theirs) = (fold(sum(&bytes)), fold(words.sum()));
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn the_largest_sums_fit() {
        assert_eq!(fold(sum(&[0xff; 65_536])), 0xffff);
    }
}
