//! Frame headers of the three underlays, as templates that the kernel copies and completes.

use crate::maps::{HEADER, kind};

/// Bytes of an Ethernet header.
pub const ETH: usize = 14;
/// Bytes of Ethernet, IPv4 and UDP headers.
pub const UDP4: usize = 42;
/// Bytes of Ethernet, IPv6 and UDP headers.
pub const UDP6: usize = 62;

/// Bytes in front of the message, by [`kind`]; 0 for a kind that does not exist.
#[inline(always)]
#[must_use]
pub const fn header_len(kind_: u32) -> usize {
    match kind_ {
        kind::ETHERNET => ETH,
        kind::UDP4 => UDP4,
        kind::UDP6 => UDP6,
        _ => 0,
    }
}

/// The two MAC addresses of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Macs {
    /// Next hop.
    pub dst: [u8; 6],
    /// Egress interface.
    pub src: [u8; 6],
}

fn eth(macs: Macs, ethertype: u16) -> [u8; HEADER] {
    let mut h = [0; HEADER];
    h[..6].copy_from_slice(&macs.dst);
    h[6..12].copy_from_slice(&macs.src);
    h[12..14].copy_from_slice(&ethertype.to_be_bytes());
    h
}

/// Template of a raw Ethernet frame.
#[must_use]
pub fn ethernet(macs: Macs, ethertype: u16) -> [u8; HEADER] {
    eth(macs, ethertype)
}

/// Template of a UDP over IPv4 frame: don't fragment, hop limit 64.
#[must_use]
pub fn udp4(macs: Macs, src: ([u8; 4], u16), dst: ([u8; 4], u16)) -> [u8; HEADER] {
    let mut h = eth(macs, 0x0800);
    h[14] = 0x45;
    h[20] = 0x40;
    h[22] = 64;
    h[23] = 17;
    h[26..30].copy_from_slice(&src.0);
    h[30..34].copy_from_slice(&dst.0);
    let mut sum = 0;
    for pair in h[14..34].chunks_exact(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    h[24..26].copy_from_slice(&(!fold(sum)).to_be_bytes());
    h[34..36].copy_from_slice(&src.1.to_be_bytes());
    h[36..38].copy_from_slice(&dst.1.to_be_bytes());
    h
}

/// Template of a UDP over IPv6 frame: hop limit 64.
#[must_use]
pub fn udp6(macs: Macs, src: ([u8; 16], u16), dst: ([u8; 16], u16)) -> [u8; HEADER] {
    let mut h = eth(macs, 0x86dd);
    h[14] = 0x60;
    h[20] = 17;
    h[21] = 64;
    h[22..38].copy_from_slice(&src.0);
    h[38..54].copy_from_slice(&dst.0);
    h[54..56].copy_from_slice(&src.1.to_be_bytes());
    h[56..58].copy_from_slice(&dst.1.to_be_bytes());
    h
}

/// One's complement sum folded to 16 bits (RFC 1071).
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The IPv4 header checksum of a template once its total length is `total` and its type of service `tos`: `template` is the
/// checksum that stands in the template. All as numbers, not as packet bytes.
#[inline(always)]
#[must_use]
pub const fn ipv4_checksum(template: u16, total: u16, tos: u8) -> u16 {
    !fold(!template as u64 + total as u64 + tos as u64)
}

/// The UDP checksum field from the one's complement sum of pseudo header, UDP header and payload: never zero,
/// which would mean none.
#[inline(always)]
#[must_use]
pub const fn udp_checksum(sum: u64) -> u16 {
    match !fold(sum) {
        0 => 0xffff,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u64 {
        bytes.chunks(2).map(|p| u64::from(u16::from_be_bytes([p[0], *p.get(1).unwrap_or(&0)]))).sum()
    }

    #[test]
    fn a_completed_ipv4_header_sums_to_all_ones() {
        let macs = Macs { dst: [1; 6], src: [2; 6] };
        for total in [28_u16, 84, 1500, 65_535] {
            let mut h = udp4(macs, ([192, 0, 2, 1], 1312), ([198, 51, 100, 7], 65_000));
            let template = u16::from_be_bytes([h[24], h[25]]);
            h[16..18].copy_from_slice(&total.to_be_bytes());
            let tos = total as u8 & 3;
            h[15] = tos;
            h[24..26].copy_from_slice(&ipv4_checksum(template, total, tos).to_be_bytes());
            assert_eq!(fold(sum(&h[14..34])), 0xffff, "total {total}");
        }
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        assert_eq!(udp_checksum(0xffff), 0xffff);
        assert_eq!(udp_checksum(0x1_fffe), 0xffff);
        assert_eq!(udp_checksum(1), 0xfffe);
    }
}
