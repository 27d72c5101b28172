//! What stands in front of a packet on a TUN device with `IFF_VNET_HDR`: `struct virtio_net_hdr` of `linux/virtio_net.h`, in
//! the byte order of this machine.

/// Bytes of the header.
pub const HEADER_LEN: usize = 10;

/// The packet's checksum is that of its pseudo header only (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
const NEEDS_CSUM: u8 = 1;
/// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
const TCPV6: u8 = 4;
/// UDP datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`).
const UDP_L4: u8 = 5;
/// Only the first segment bears CWR (`VIRTIO_NET_HDR_GSO_ECN`).
const ECN: u8 = 0x80;

/// What one packet stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gso {
    /// Itself.
    #[default]
    None,
    /// TCP segments.
    Tcp {
        /// The first bears CWR.
        cwr: bool,
    },
    /// UDP datagrams.
    Udp,
    /// Anything that was not asked for.
    Other,
}

/// What the kernel tells of a packet, or is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// What it stands for.
    pub gso: Gso,
    /// Bytes of headers in front of the data: a hint.
    pub head: u16,
    /// Bytes of data in each segment but the last.
    pub size: u16,
    /// Where the checksum is still to be made: from which byte of the packet, and where behind that it goes.
    pub csum: Option<(u16, u16)>,
}

impl Header {
    /// Reads it.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_LEN]) -> Self {
        let [flags, gso, h0, h1, s0, s1, start0, start1, offset0, offset1] = *bytes;
        let word = |a, b| u16::from_ne_bytes([a, b]);
        let gso = match gso & !ECN {
            0 => Gso::None,
            TCPV6 => Gso::Tcp { cwr: gso & ECN != 0 },
            UDP_L4 => Gso::Udp,
            _ => Gso::Other,
        };
        let csum = (flags & NEEDS_CSUM != 0).then(|| (word(start0, start1), word(offset0, offset1)));
        Self { gso, head: word(h0, h1), size: word(s0, s1), csum }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER_LEN] {
        let gso = match self.gso {
            Gso::None | Gso::Other => 0,
            Gso::Tcp { cwr } => TCPV6 | if cwr { ECN } else { 0 },
            Gso::Udp => UDP_L4,
        };
        let flags = if self.csum.is_some() { NEEDS_CSUM } else { 0 };
        let (start, offset) = self.csum.unwrap_or_default();
        let mut out = [flags, gso, 0, 0, 0, 0, 0, 0, 0, 0];
        for (at, word) in [(2, self.head), (4, self.size), (6, start), (8, offset)] {
            out[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        out
    }
}
