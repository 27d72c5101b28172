//! From the host: what it handed over as one packet becomes the packets that it stands for, with whole checksums.

use rovy_common::DropReason;

use super::checksum;
use super::header::{Gso, Header};
use super::{BAD, IPV6, PROTOCOL_TCP, PROTOCOL_UDP, TCP, UDP, flag, set_length, whole};

/// What came from the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// One packet. Its checksum is complete now.
    Whole,
    /// Several.
    Many(Segments),
}

/// Looks at what the host handed over, and completes the checksum of a single packet.
///
/// # Errors
/// `Malformed`: no kernel sends such a thing, or it was not asked for.
pub fn take(header: &Header, packet: &mut [u8]) -> Result<Taken, DropReason> {
    let udp = match header.gso {
        Gso::None => return complete(header, packet).map(|()| Taken::Whole),
        Gso::Tcp { .. } => false,
        Gso::Udp => true,
        Gso::Other => return Err(BAD),
    };
    whole(packet).ok_or(BAD)?;
    let (start, offset) = header.csum.ok_or(BAD)?;
    let start = usize::from(start);
    let front = packet.get(start..).filter(|_| start >= IPV6).ok_or(BAD)?;
    let (field, head) = if udp {
        (UDP_CHECKSUM, UDP)
    } else {
        let words = usize::from(front.get(12).ok_or(BAD)? >> 4);
        (TCP_CHECKSUM, 4 * words.max(TCP / 4))
    };
    let (head, size) = (start + head, usize::from(header.size));
    if usize::from(offset) != field || size == 0 || head >= packet.len() {
        return Err(BAD);
    }
    Ok(Taken::Many(Segments { udp, start, head, size, data: packet.len() - head }))
}

const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// The checksum field holds the sum of the pseudo header so far.
fn complete(header: &Header, packet: &mut [u8]) -> Result<(), DropReason> {
    let Some((start, offset)) = header.csum else { return Ok(()) };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let part = packet.get_mut(start..).filter(|_| start >= IPV6).ok_or(BAD)?;
    let total = checksum::sum(part);
    let field = part.get_mut(offset..offset + 2).ok_or(BAD)?;
    // UDP says by zero that there is none, and TCP takes either zero.
    field.copy_from_slice(&never_zero(checksum::field(total)));
    Ok(())
}

/// Zero as the other zero of one's complement.
fn never_zero(field: [u8; 2]) -> [u8; 2] {
    if field == [0, 0] { [0xff, 0xff] } else { field }
}

/// The packets that one stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segments {
    udp: bool,
    /// Where TCP or UDP starts.
    start: usize,
    /// Bytes of all headers.
    head: usize,
    /// Bytes of data in each but the last.
    size: usize,
    /// Bytes of data in all.
    data: usize,
}

impl Segments {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.data.div_ceil(self.size)
    }

    /// Writes the packet of this number to the start of `out`; its length. `packet` is the one that [`take`] saw. `None` when
    /// there is no such packet, or no room for it.
    pub fn write(&self, number: usize, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let at = number.checked_mul(self.size).filter(|at| *at < self.data)?;
        let size = self.size.min(self.data - at);
        let out = out.get_mut(..self.head + size)?;
        let (head, data) = out.split_at_mut(self.head);
        head.copy_from_slice(packet.get(..self.head)?);
        data.copy_from_slice(packet.get(self.head + at..self.head + at + size)?);
        set_length(out)?;
        let length = out.len() - self.start;
        let (protocol, field) = if self.udp {
            out.get_mut(self.start + 4..self.start + 6)?.copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            (PROTOCOL_UDP, UDP_CHECKSUM)
        } else {
            self.tcp(out.get_mut(self.start..)?, at, at + size == self.data)?;
            (PROTOCOL_TCP, TCP_CHECKSUM)
        };
        let pseudo = checksum::pseudo(out, protocol, length);
        let part = out.get_mut(self.start..)?;
        part.get_mut(field..field + 2)?.fill(0);
        let made = checksum::field(pseudo + checksum::sum(part));
        let made = if self.udp { never_zero(made) } else { made };
        part.get_mut(field..field + 2)?.copy_from_slice(&made);
        Some(out.len())
    }

    /// The data's place in the stream, and the flags that belong to one segment: CWR to the first, PSH and FIN to the last.
    fn tcp(&self, header: &mut [u8], at: usize, last: bool) -> Option<()> {
        let sequence = header.get_mut(4..8)?;
        let first = u32::from_be_bytes(*sequence.first_chunk()?);
        sequence.copy_from_slice(&first.wrapping_add(u32::try_from(at).ok()?).to_be_bytes());
        let flags = header.get_mut(13)?;
        if at > 0 {
            *flags &= !flag::CWR;
        }
        if !last {
            *flags &= !(flag::PSH | flag::FIN);
        }
        Some(())
    }
}
