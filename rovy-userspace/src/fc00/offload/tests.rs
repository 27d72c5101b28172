use super::checksum::{field, good, pseudo, sum};
use super::*;
use proptest::prelude::*;

/// A TCP or UDP packet with a right checksum.
#[derive(Clone, Debug)]
struct Made {
    udp: bool,
    port: u16,
    class: u8,
    sequence: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: usize,
    data: Vec<u8>,
}

impl Made {
    fn tcp(sequence: u32, data: usize) -> Self {
        let data = (0..data).map(|i| (i as u32).wrapping_add(sequence) as u8).collect();
        Self { udp: false, port: 1, class: 0, sequence, ack: 7, flags: flag::ACK, window: 99, options: 3, data }
    }

    fn udp(data: usize) -> Self {
        Self { udp: true, ..Self::tcp(0, data) }
    }

    fn packet(&self) -> Vec<u8> {
        let head = if self.udp { UDP } else { TCP + 4 * self.options };
        let mut p = vec![0; IPV6 + head];
        (p[0], p[1], p[7]) = (0x60, self.class << 4, 64);
        p[6] = if self.udp { PROTOCOL_UDP } else { PROTOCOL_TCP };
        (p[8], p[23], p[24], p[39]) = (0xfc, 1, 0xfc, 2);
        p[IPV6..IPV6 + 2].copy_from_slice(&self.port.to_be_bytes());
        p[IPV6 + 3] = 80;
        if self.udp {
            let length = (UDP + self.data.len()) as u16;
            p[IPV6 + 4..IPV6 + 6].copy_from_slice(&length.to_be_bytes());
        } else {
            p[IPV6 + 4..IPV6 + 8].copy_from_slice(&self.sequence.to_be_bytes());
            p[IPV6 + 8..IPV6 + 12].copy_from_slice(&self.ack.to_be_bytes());
            p[IPV6 + 12] = (head as u8 / 4) << 4;
            p[IPV6 + 13] = self.flags;
            p[IPV6 + 14..IPV6 + 16].copy_from_slice(&self.window.to_be_bytes());
            p[IPV6 + TCP..].fill(1);
        }
        p.extend_from_slice(&self.data);
        set_length(&mut p).unwrap();
        let at = IPV6 + if self.udp { 6 } else { 16 };
        let made = field(total(&p));
        p[at..at + 2].copy_from_slice(&if self.udp && made == [0, 0] { [0xff, 0xff] } else { made });
        p
    }
}

/// The sum that tells whether a packet is unharmed.
fn total(packet: &[u8]) -> u64 {
    pseudo(packet, packet[6], packet.len() - IPV6) + sum(&packet[IPV6..])
}

/// What the host would get.
fn joined(offloads: Offloads, packets: &[Vec<u8>]) -> Vec<(Header, Vec<u8>, usize)> {
    let mut out = Vec::new();
    let mut joiner = Joiner::new(offloads);
    let mut sink = |h: &[u8; HEADER_LEN], p: &[u8], n: usize| out.push((Header::read(h), p.to_vec(), n));
    for packet in packets {
        joiner.push(packet, &mut sink);
    }
    joiner.flush(&mut sink);
    out
}

/// What the host would split it into.
fn split(header: &Header, mut packet: Vec<u8>) -> Vec<Vec<u8>> {
    match take(header, &mut packet).unwrap() {
        Taken::Whole => vec![packet],
        Taken::Many(segments) => {
            let mut room = vec![0; LARGEST];
            let one = |i| segments.write(i, &packet, &mut room).map(|n| room[..n].to_vec());
            (0..segments.count()).map(one).map(Option::unwrap).collect()
        }
    }
}

fn stream(sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut at = 0_u32;
    let mut one = |n: &usize| {
        let packet = Made::tcp(at, *n).packet();
        at += *n as u32;
        packet
    };
    sizes.iter().map(&mut one).collect()
}

fn counts(packets: &[Vec<u8>]) -> Vec<usize> {
    joined(Offloads::ALL, packets).iter().map(|(_, _, n)| *n).collect()
}

#[test]
fn a_stream_is_joined_up_to_the_first_short_packet() {
    assert_eq!(counts(&stream(&[1000, 1000, 1000, 400, 1000, 1000])), [4, 2]);
    assert_eq!(counts(&stream(&[400, 1000, 1000])), [1, 2], "a longer one cannot follow");
    assert_eq!(counts(&stream(&[1380; 60])), [47, 13], "no packet is longer than 65,535 bytes");
    assert_eq!(counts(&stream(&[10; 100])), [64, 36]);
    let (header, packet, _) = joined(Offloads::ALL, &stream(&[1000, 1000])).remove(0);
    assert_eq!(header.gso, Gso::Tcp { cwr: false });
    assert_eq!((header.size, header.head, header.csum), (1000, 72, Some((40, 16))));
    assert_eq!(packet.len(), 2072);
}

#[test]
fn what_the_sender_told_apart_stays_apart() {
    let next = |change: fn(&mut Made)| {
        let mut second = Made::tcp(1000, 1000);
        change(&mut second);
        counts(&[Made::tcp(0, 1000).packet(), second.packet()])
    };
    assert_eq!(next(|_| {}), [2]);
    assert_eq!(next(|m| m.flags |= flag::PSH), [2]);
    assert_eq!(next(|m| m.flags |= flag::FIN), [2]);
    for (what, change) in [
        ("a gap", (|m| m.sequence = 1001) as fn(&mut Made)),
        ("another port", |m| m.port = 2),
        ("another class", |m| m.class = 4),
        ("congestion", |m| m.class = 3),
        ("another acknowledgement", |m| m.ack = 8),
        ("another window", |m| m.window = 98),
        ("other options", |m| m.options = 2),
        ("an echo of congestion", |m| m.flags |= flag::ECE),
        ("a reduced window", |m| m.flags |= flag::CWR),
        ("a reset", |m| m.flags = 0x14),
        ("no data", |m| m.data.clear()),
        ("UDP", |m| m.udp = true),
    ] {
        assert_eq!(next(change), [1, 1], "{what}");
    }
    let mut pushed = Made::tcp(0, 1000);
    pushed.flags |= flag::PSH;
    assert_eq!(counts(&[pushed.packet(), Made::tcp(1000, 1000).packet()]), [1, 1]);
}

#[test]
fn cwr_belongs_to_the_first_segment() {
    let mut first = Made::tcp(0, 1000);
    first.flags |= flag::CWR;
    let packets = [first.packet(), Made::tcp(1000, 1000).packet(), Made::tcp(2000, 1000).packet()];
    let all = joined(Offloads::ALL, &packets);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].0.gso, Gso::Tcp { cwr: true });
    assert_eq!(split(&all[0].0, all[0].1.clone()), packets);
}

#[test]
fn a_wrong_checksum_is_never_made_good() {
    for harmed in 0..3 {
        for udp in [false, true] {
            let one = |i: u32| if udp { Made::udp(500) } else { Made::tcp(500 * i, 500) }.packet();
            let mut packets: Vec<Vec<u8>> = (0..3).map(one).collect();
            let last = packets[harmed].len() - 1;
            packets[harmed][last] ^= 0x10;
            let all = joined(Offloads::ALL, &packets);
            let (header, alone, _) = all.iter().find(|(_, p, _)| *p == packets[harmed]).expect("it is left as it is");
            assert_eq!(*header, Header::default(), "and the host is not told that it is right");
            assert!(!good(total(alone)));
            let out: Vec<_> = all.iter().flat_map(|(h, p, _)| split(h, p.clone())).collect();
            assert_eq!(out, packets);
        }
    }
}

#[test]
fn udp_without_a_checksum_is_left_alone() {
    let mut packet = Made::udp(500).packet();
    packet[46..48].fill(0);
    assert_eq!(counts(&[packet.clone(), packet]), [1, 1]);
}

#[test]
fn flows_stay_in_order_and_do_not_mix() {
    let flow = |port: u16, i: u32| Made { port, ..Made::tcp(100 * i, 100) }.packet();
    let mut packets: Vec<Vec<u8>> = (0..5).flat_map(|i| (0..20).map(move |port| flow(port, i))).collect();
    packets.push(vec![0x60; 50]);
    let out: Vec<_> = joined(Offloads::ALL, &packets).iter().flat_map(|(h, p, _)| split(h, p.clone())).collect();
    let of = |all: &[Vec<u8>], port: u8| all.iter().filter(|p| p[41] == port).cloned().collect::<Vec<_>>();
    for port in 0..20 {
        assert_eq!(of(&out, port), of(&packets, port));
    }
    assert_eq!(out.last(), packets.last(), "what is not understood overtakes nothing");
}

#[test]
fn what_is_off_stays_off() {
    let tcp = stream(&[1000, 1000]);
    let udp = vec![Made::udp(500).packet(); 2];
    let n = |offloads: Offloads, packets: &[Vec<u8>]| joined(offloads, packets).len();
    assert_eq!((n(Offloads::ALL, &tcp), n(Offloads::ALL, &udp)), (1, 1));
    for off in [Offloads { gro: false, ..Offloads::ALL }, Offloads { csum: false, ..Offloads::ALL }, Offloads::NONE] {
        assert_eq!((n(off, &tcp), n(off, &udp)), (2, 2), "{off:?}");
    }
    assert_eq!(n(Offloads { gro_udp: false, ..Offloads::ALL }, &udp), 2);
    let no_checksums = Offloads { csum: false, ..Offloads::ALL }.sane();
    assert!(!no_checksums.any(), "nothing works without checksums: {no_checksums:?}");
}

#[test]
fn the_host_s_half_made_checksum_is_completed() {
    for made in [Made::tcp(5, 333), Made::udp(334)] {
        let whole = made.packet();
        let offset = if made.udp { 6 } else { 16 };
        let mut packet = whole.clone();
        let half = super::checksum::partial(pseudo(&whole, whole[6], whole.len() - IPV6));
        packet[IPV6 + offset..IPV6 + offset + 2].copy_from_slice(&half);
        let header = Header { csum: Some((40, offset as u16)), ..Header::default() };
        assert_eq!(take(&header, &mut packet), Ok(Taken::Whole));
        assert_eq!(packet, whole);
    }
}

#[test]
fn segments_keep_extension_headers_and_flags() {
    // Destination options of 8 bytes in front of TCP.
    let made = Made { flags: flag::ACK | flag::PSH | flag::FIN | flag::CWR, ..Made::tcp(u32::MAX - 50, 250) };
    let mut packet = made.packet();
    packet[6] = 60;
    packet.splice(40..40, [PROTOCOL_TCP, 0, 1, 4, 0, 0, 0, 0]);
    set_length(&mut packet).unwrap();
    let header = Header { gso: Gso::Tcp { cwr: true }, size: 100, head: 0, csum: Some((48, 16)) };
    let parts = split(&header, packet.clone());
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [80 + 100, 80 + 100, 80 + 50]);
    let (ends, rest) = (flag::PSH | flag::FIN, flag::ACK);
    assert_eq!(parts.iter().map(|p| p[48 + 13]).collect::<Vec<_>>(), [rest | flag::CWR, rest, rest | ends]);
    let sequence = |p: &Vec<u8>| u32::from_be_bytes([p[52], p[53], p[54], p[55]]);
    assert_eq!(parts.iter().map(sequence).collect::<Vec<_>>(), [u32::MAX - 50, 49, 149]);
    for part in &parts {
        assert_eq!(part[40..48], packet[40..48]);
        whole(part).expect("the length is right");
        let rest = &part[48..];
        assert!(good(pseudo(part, PROTOCOL_TCP, rest.len()) + sum(rest)));
    }
}

#[test]
fn headers_that_no_kernel_writes_are_refused() {
    let good = Header { gso: Gso::Tcp { cwr: false }, size: 100, head: 72, csum: Some((40, 16)) };
    let packet = Made::tcp(0, 1000).packet();
    let refused = |header: Header, mut packet: Vec<u8>| take(&header, &mut packet) == Err(DropReason::Malformed);
    assert!(!refused(good, packet.clone()));
    assert!(refused(Header { size: 0, ..good }, packet.clone()));
    assert!(refused(Header { csum: None, ..good }, packet.clone()), "nobody would look at its checksum again");
    assert!(refused(Header { csum: Some((40, 6)), ..good }, packet.clone()));
    assert!(refused(Header { csum: Some((39, 16)), ..good }, packet.clone()));
    assert!(refused(Header { csum: Some((60_000, 16)), ..good }, packet.clone()));
    assert!(refused(Header { gso: Gso::Other, ..good }, packet.clone()));
    assert!(refused(good, packet[..72].to_vec()));
    assert!(refused(good, [&packet[..], &[0]].concat()));
    assert!(refused(good, Vec::new()));
    let single = Header { gso: Gso::None, ..good };
    assert!(refused(Header { csum: Some((40, 60_000)), ..single }, packet.clone()));
    assert!(refused(Header { csum: Some((40, u16::MAX)), ..single }, packet));
}

fn made() -> impl Strategy<Value = Made> {
    let flags = prop_oneof![Just(0u8), Just(flag::PSH), Just(flag::FIN), Just(flag::CWR), Just(flag::ECE), Just(2)];
    let data = prop_oneof![Just(0usize), Just(1), Just(99), Just(100), 0usize..1500];
    let class = prop_oneof![8 => Just(0u8), 1 => Just(3)];
    (any::<bool>(), 0u16..3, flags, data, any::<u8>(), class, 0u32..3).prop_map(
        |(udp, port, flags, n, fill, class, gap)| {
            let data = (0..n).map(|i| fill.wrapping_add(i as u8)).collect();
            Made { udp, port, flags: flag::ACK | flags, data, class, sequence: gap / 2, ..Made::tcp(0, 0) }
        },
    )
}

proptest! {
    /// Whatever is joined, splitting gives the same packets again, each flow's in order.
    #[test]
    fn splitting_undoes_joining(all in proptest::collection::vec((made(), 1usize..6), 0..40)) {
        let mut next = [u32::MAX - 3000; 3];
        let mut packets = Vec::new();
        for (made, times) in all {
            for i in 0..times {
                let last = i + 1 == times;
                let at = &mut next[usize::from(made.port)];
                let sequence = at.wrapping_add(made.sequence);
                let flags = if last { made.flags } else { flag::ACK };
                packets.push(Made { sequence, flags, ..made.clone() }.packet());
                *at = sequence.wrapping_add(made.data.len() as u32);
            }
        }
        let out: Vec<_> = joined(Offloads::ALL, &packets).iter().flat_map(|(h, p, _)| split(h, p.clone())).collect();
        for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
            for port in 0..3u8 {
                let of = |all: &[Vec<u8>]| {
                    all.iter().filter(|p| p[6] == protocol && p[41] == port).cloned().collect::<Vec<_>>()
                };
                prop_assert_eq!(of(&out), of(&packets));
            }
        }
        prop_assert_eq!(out.len(), packets.len());
    }

    /// Whatever header and bytes: no panic, and what comes out has whole checksums.
    #[test]
    fn any_header_is_borne(header in any::<[u8; HEADER_LEN]>(), packet in proptest::collection::vec(any::<u8>(), 0..300),
                           six in any::<bool>(), size in 1u16..200) {
        let mut packet = packet;
        let mut header = Header::read(&header);
        if six && packet.len() > 60 {
            (packet[0], header.size) = (0x60, size);
            set_length(&mut packet).unwrap();
            header.gso = if packet[7] & 1 == 0 { Gso::Udp } else { Gso::Tcp { cwr: true } };
            header.csum = Some((40 + u16::from(packet[7] & 6), if header.gso == Gso::Udp { 6 } else { 16 }));
        }
        if let Ok(Taken::Many(segments)) = take(&header, &mut packet) {
            let mut room = vec![0; LARGEST];
            for i in 0..segments.count() {
                let n = segments.write(i, &packet, &mut room);
                prop_assert!(n.is_some_and(|n| n <= packet.len() && whole(&room[..n]).is_some()));
            }
            prop_assert_eq!(segments.write(segments.count(), &packet, &mut room), None);
        }
    }

    /// Any bytes come out as they came in, unless they are good TCP or UDP.
    #[test]
    fn any_packet_passes(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10)) {
        let out: Vec<_> = joined(Offloads::ALL, &packets).into_iter().map(|(_, p, _)| p).collect();
        prop_assert_eq!(out, packets);
    }

    #[test]
    fn headers_are_read_as_written(size in any::<u16>(), head in any::<u16>(), csum in any::<Option<(u16, u16)>>(), kind in 0..4) {
        let gso = [Gso::None, Gso::Tcp { cwr: false }, Gso::Tcp { cwr: true }, Gso::Udp][kind as usize];
        let header = Header { gso, head, size, csum };
        prop_assert_eq!(Header::read(&header.bytes()), header);
    }
}
