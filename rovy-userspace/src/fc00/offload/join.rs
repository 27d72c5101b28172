//! To the host: packets of one flow that follow each other are handed over as one.
//!
//! Two packets are joined only when splitting the result gives the same two again, and only after their checksums were found
//! right: nobody looks at those of what is joined any more. Packets of a flow stay in order.

use super::checksum::{good, partial, pseudo, sum};
use super::header::{Gso, HEADER_LEN, Header};
use super::{IPV6, LARGEST, Offloads, PROTOCOL_TCP, PROTOCOL_UDP, TCP, UDP, flag, set_length, whole};

/// Flows that are joined at a time.
const FLOWS: usize = 8;
/// Packets joined to one: the least that kernels bear with UDP (`UDP_MAX_SEGMENTS`).
const SEGMENTS: usize = 64;

/// Addresses, protocol and ports.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key([u8; 32], u8, [u8; 4]);

/// What matters of a TCP or UDP packet without extension headers.
#[derive(Clone, Copy)]
struct Parsed {
    key: Key,
    /// Bytes of all headers.
    head: usize,
    /// TCP's, zero for UDP.
    sequence: u32,
    /// Likewise.
    flags: u8,
    /// It may be part of a joined packet.
    joins: bool,
}

fn parse(packet: &[u8]) -> Option<Parsed> {
    whole(packet)?;
    let protocol = *packet.get(6)?;
    let rest = packet.get(IPV6..)?;
    let key = Key(*packet.get(8..)?.first_chunk()?, protocol, *rest.first_chunk()?);
    match protocol {
        PROTOCOL_TCP => {
            let header = rest.first_chunk::<TCP>()?;
            let head = IPV6 + 4 * usize::from(header[12] >> 4);
            let flags = header[13];
            let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let plain = flags & !(flag::PSH | flag::FIN | flag::ECE | flag::CWR) == flag::ACK;
            let joins = plain && head >= IPV6 + TCP && head < packet.len();
            Some(Parsed { key, head, sequence, flags, joins })
        }
        PROTOCOL_UDP => {
            let header = rest.first_chunk::<UDP>()?;
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let joins = length == rest.len() && length > UDP && header[6..8] != [0, 0];
            Some(Parsed { key, head: IPV6 + UDP, sequence: 0, flags: 0, joins })
        }
        _ => None,
    }
}

/// Whether the checksum is right.
fn unharmed(packet: &[u8], protocol: u8) -> bool {
    let rest = packet.get(IPV6..).unwrap_or_default();
    good(pseudo(packet, protocol, rest.len()) + sum(rest))
}

/// Packets that are joined so far.
struct Flow {
    key: Key,
    packet: Vec<u8>,
    /// As of the first packet.
    head: usize,
    /// Bytes of data in the first packet.
    size: usize,
    count: usize,
    /// TCP: what comes next.
    sequence: u32,
    /// The first one's checksum was found right.
    checked: bool,
}

impl Flow {
    fn start(&mut self, parsed: &Parsed, packet: &[u8]) {
        let size = packet.len() - parsed.head;
        self.packet.clear();
        self.packet.extend_from_slice(packet);
        (self.key, self.head, self.size, self.count) = (parsed.key, parsed.head, size, 1);
        self.sequence = parsed.sequence.wrapping_add(size as u32);
        self.checked = false;
    }

    /// Whether splitting both together gives both again.
    fn fits(&self, parsed: &Parsed, packet: &[u8]) -> bool {
        let (first, data) = (&self.packet, packet.len() - parsed.head);
        let same = |range: std::ops::Range<usize>| first.get(range.clone()) == packet.get(range);
        let room = data <= self.size && first.len() + data <= LARGEST && self.count < SEGMENTS;
        // All of the IPv6 header but the length.
        let ip = same(0..4) && same(6..8);
        let transport = self.key.1 == PROTOCOL_UDP || {
            let flags = |p: &[u8]| p.get(IPV6 + 13).map(|f| f & !(flag::PSH | flag::FIN | flag::CWR));
            let rest = same(IPV6 + 8..IPV6 + 13) && same(IPV6 + 14..IPV6 + 16) && same(IPV6 + 18..self.head);
            self.sequence == parsed.sequence
                && parsed.flags & flag::CWR == 0
                && flags(first) == flags(packet)
                && self.head == parsed.head
                && rest
        };
        room && ip && transport
    }

    fn append(&mut self, parsed: &Parsed, packet: &[u8]) {
        let data = packet.get(parsed.head..).unwrap_or_default();
        self.packet.extend_from_slice(data);
        self.sequence = self.sequence.wrapping_add(data.len() as u32);
        self.count += 1;
        if let Some(flags) = self.packet.get_mut(IPV6 + 13).filter(|_| self.key.1 == PROTOCOL_TCP) {
            *flags |= parsed.flags & (flag::PSH | flag::FIN);
        }
    }

    /// Nothing can follow: the sender has no more for now, or there is no room.
    fn done(&self, parsed: &Parsed, data: usize) -> bool {
        data < self.size
            || parsed.flags & (flag::PSH | flag::FIN) != 0
            || self.count >= SEGMENTS
            || self.packet.len() + self.size > LARGEST
    }

    fn finish(&mut self) -> Header {
        if self.count < 2 {
            return Header::default();
        }
        let length = self.packet.len() - IPV6;
        let sum = partial(pseudo(&self.packet, self.key.1, length));
        let udp = self.key.1 == PROTOCOL_UDP;
        let offset = if udp { 6 } else { 16 };
        let _ = set_length(&mut self.packet);
        if let (true, Some(field)) = (udp, self.packet.get_mut(IPV6 + 4..IPV6 + 6)) {
            field.copy_from_slice(&(length as u16).to_be_bytes());
        }
        if let Some(field) = self.packet.get_mut(IPV6 + offset..IPV6 + offset + 2) {
            field.copy_from_slice(&sum);
        }
        let cwr = self.packet.get(IPV6 + 13).is_some_and(|f| f & flag::CWR != 0);
        Header {
            gso: if udp { Gso::Udp } else { Gso::Tcp { cwr } },
            head: self.head as u16,
            size: self.size as u16,
            csum: Some((IPV6 as u16, offset as u16)),
        }
    }
}

/// Where packets for the host go: what stands in front, the packet, and how many it stands for.
pub type Sink<'a> = dyn FnMut(&[u8; HEADER_LEN], &[u8], usize) + 'a;

/// Joins packets for the host.
pub struct Joiner {
    flows: Vec<Flow>,
    /// Buffers of flows that ended.
    spare: Vec<Flow>,
    offloads: Offloads,
}

impl Joiner {
    /// One that joins what `offloads` allow.
    #[must_use]
    pub fn new(offloads: Offloads) -> Self {
        Self { flows: Vec::with_capacity(FLOWS), spare: Vec::with_capacity(FLOWS), offloads: offloads.sane() }
    }

    /// Takes a packet for the host. It leaves at once, or by a later call.
    pub fn push(&mut self, packet: &[u8], out: &mut Sink<'_>) {
        if !self.offloads.gro {
            return single(packet, out);
        }
        let Some(parsed) = parse(packet) else {
            // Of which flow it is would have to be looked for.
            self.flush(out);
            return single(packet, out);
        };
        let data = packet.len().saturating_sub(parsed.head);
        let wanted = parsed.key.1 == PROTOCOL_TCP || self.offloads.gro_udp;
        let joins = parsed.joins && wanted;
        if let Some(at) = self.flows.iter().position(|f| f.key == parsed.key) {
            let flow = &mut self.flows[at];
            if joins && flow.fits(&parsed, packet) && unharmed(packet, parsed.key.1) {
                flow.checked |= flow.count == 1 && unharmed(&flow.packet, parsed.key.1);
                if flow.checked {
                    flow.append(&parsed, packet);
                    if flow.done(&parsed, data) {
                        self.end(at, out);
                    }
                    return;
                }
            }
            self.end(at, out);
        }
        if !joins || parsed.flags & (flag::PSH | flag::FIN) != 0 {
            return single(packet, out);
        }
        if self.flows.len() >= FLOWS {
            self.end(0, out);
        }
        let mut flow = self.spare.pop().unwrap_or_else(|| Flow {
            key: parsed.key,
            packet: Vec::with_capacity(LARGEST),
            head: 0,
            size: 0,
            count: 0,
            sequence: 0,
            checked: false,
        });
        flow.start(&parsed, packet);
        self.flows.push(flow);
    }

    /// Hands over everything that waits for more.
    pub fn flush(&mut self, out: &mut Sink<'_>) {
        while !self.flows.is_empty() {
            self.end(0, out);
        }
    }

    fn end(&mut self, at: usize, out: &mut Sink<'_>) {
        let mut flow = self.flows.remove(at);
        let header = flow.finish().bytes();
        out(&header, &flow.packet, flow.count);
        self.spare.push(flow);
    }
}

fn single(packet: &[u8], out: &mut Sink<'_>) {
    out(&Header::default().bytes(), packet, 1);
}
