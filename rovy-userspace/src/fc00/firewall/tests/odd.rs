//! Packets that are made to confuse.

use super::*;

/// An extension header of eight bytes in front of `rest`.
fn extension(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(rest);
    bytes
}

fn fragment(next: u8, offset: u16, more: bool, id: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn of_all_icmpv6_types_a_peer_gets_echo_requests_in() {
    let mut f = firewall(&["/tcp/0", "/udp/0"], &[]);
    for kind in 0..=255 {
        for length in [0, 1, 4, 8, 16, 24, 64, 500] {
            let mut message = icmp6(kind, 0, &[0; 600]);
            message.truncate(length);
            let expected = kind == 128 && length >= 4;
            assert_eq!(passes(&mut f, 0, &ip(PEER, OWN, 58, &message)), expected, "type {kind}, {length} bytes");
        }
    }
}

#[test]
fn extension_headers_hide_nothing() {
    let mut f = firewall(&["/tcp/80"], &[]);
    let syn = |port| tcp_segment(50_000, port, S);
    for kind in [0, 43, 60] {
        assert!(passes(&mut f, 0, &ip(PEER, OWN, kind, &extension(6, &syn(80)))), "{kind}");
        assert!(!passes(&mut f, 0, &ip(PEER, OWN, kind, &extension(6, &syn(22)))), "{kind}");
        assert!(!passes(&mut f, 0, &ip(PEER, OWN, kind, &extension(58, &icmp6(134, 0, &[0; 8])))), "{kind}");
    }
    let mut leads_on = extension(6, &syn(80));
    leads_on[3] = 1;
    assert!(!passes(&mut f, 0, &ip(PEER, OWN, 43, &leads_on)), "a routing header with segments left");
    let chain = |n: usize| (1..n).fold(extension(6, &syn(80)), |rest, _| extension(60, &rest));
    assert!(passes(&mut f, 0, &ip(PEER, OWN, 60, &chain(8))));
    assert!(!passes(&mut f, 0, &ip(PEER, OWN, 60, &chain(9))), "more than is looked through");
    let mut too_long = extension(6, &syn(80));
    too_long[1] = 255;
    assert!(!passes(&mut f, 0, &ip(PEER, OWN, 60, &too_long)), "its length leads out of the packet");
}

/// What this host sends with an extension header that is no protocol opens nothing either.
#[test]
fn odd_packets_of_this_host_open_nothing() {
    let mut f = firewall(&[], &[]);
    for kind in [0, 43, 44, 59, 60, 135, 139, 140] {
        f.outgoing(0, &ip(OWN, PEER, kind, &[kind; 3]));
        f.outgoing(0, &ip(OWN, PEER, kind, &[255; 64]));
        assert!(!passes(&mut f, 0, &ip(PEER, OWN, kind, &[255; 64])), "{kind}");
    }
    assert_eq!(f.limits()[0].1.0, 0);
}

#[test]
fn fragments_come_in_behind_their_first_one() {
    let mut f = firewall(&["/udp/9"], &[]);
    let datagram = |port| [udp_datagram(5_000, port), vec![0; 1000]].concat();
    let first = |port, id| ip(PEER, OWN, 44, &fragment(17, 0, true, id, &datagram(port)));
    let rest = |from, id| ip(from, OWN, 44, &fragment(17, 126, false, id, &[0; 100]));
    assert!(!passes(&mut f, 0, &rest(PEER, 1)), "before the first one");
    assert!(passes(&mut f, 0, &first(9, 1)));
    assert!(passes(&mut f, SECOND, &rest(PEER, 1)));
    assert!(!passes(&mut f, 0, &rest(PEER, 2)) && !passes(&mut f, 0, &rest(OTHER, 1)), "another packet's");
    assert!(!passes(&mut f, FRAGMENTS, &rest(PEER, 1)), "the host waits no longer either");
    assert!(!passes(&mut f, 0, &first(10, 3)) && !passes(&mut f, 0, &rest(PEER, 3)), "a closed port");
    // Too small a first fragment to have its ports (RFC 7112).
    for cut in 0..4 {
        assert!(!passes(&mut f, 0, &ip(PEER, OWN, 44, &fragment(17, 0, true, 4, &datagram(9)[..cut]))));
    }
    assert!(!passes(&mut f, 0, &rest(PEER, 4)));
    // One that is a whole packet, and one within another.
    assert!(passes(&mut f, 0, &ip(PEER, OWN, 44, &fragment(17, 0, false, 5, &datagram(9)))));
    assert!(!passes(&mut f, 0, &rest(PEER, 5)));
    let twice = fragment(44, 0, true, 6, &fragment(17, 0, true, 7, &datagram(9)));
    assert!(!passes(&mut f, 0, &ip(PEER, OWN, 44, &twice)));
}

/// The host is the end: a hop limit that is used up there is no reason to drop (RFC 8200, 3).
#[test]
fn hop_limits_decide_nothing() {
    for limit in [0, 1, 255] {
        let mut f = firewall(&["/tcp/80"], &[]);
        for (port, passing) in [(80, true), (22, false)] {
            let mut packet = ip(PEER, OWN, 6, &tcp_segment(5_000, port, S));
            packet[7] = limit;
            assert_eq!(passes(&mut f, 0, &packet), passing, "{limit}");
        }
    }
}

/// A jumbo payload option with the length 0 in front, as RFC 2675 has it, is no packet here.
#[test]
fn jumbograms_are_no_packets() {
    let mut option = extension(6, &tcp_segment(5_000, 80, S));
    option[2..8].copy_from_slice(&[0xc2, 4, 0, 0, 0, 28]);
    let mut packet = ip(PEER, OWN, 0, &option);
    assert_eq!(crate::fc00::packet::check(&packet), Ok(()));
    packet[4..6].fill(0);
    assert_eq!(crate::fc00::packet::check(&packet), Err(crate::fc00::packet::Insane::Length));
}

#[test]
fn fragmented_packets_take_bounded_room() {
    let mut f = firewall(&["/udp/9"], &[]);
    for id in 0..10_000 {
        let first = fragment(17, 0, true, id, &udp_datagram(5_000, 9));
        assert!(passes(&mut f, 0, &ip(PEER, OWN, 44, &first)));
    }
    assert_eq!(f.limits()[2].1, (FRAGMENTED, FRAGMENTED));
}

#[test]
fn packets_cut_anywhere_are_refused() {
    let mut f = firewall(&["/tcp/0", "/udp/0"], &[]);
    for (packet, least) in [
        (ip(PEER, OWN, 6, &tcp_segment(5_000, 80, S)), 54),
        (ip(PEER, OWN, 17, &udp_datagram(5_000, 9)), 44),
        (ip(PEER, OWN, 60, &extension(6, &tcp_segment(5_000, 80, S))), 62),
        (ip(PEER, OWN, 44, &fragment(17, 0, true, 1, &udp_datagram(5_000, 9))), 52),
    ] {
        for cut in 0..least {
            assert!(!passes(&mut f, 0, &packet[..cut]), "{cut} of {packet:?}");
        }
        assert!(passes(&mut f, 0, &packet[..least]));
    }
}

proptest! {
    #[test]
    fn no_packet_panics(
        packets in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..120)), 0..20),
        next in proptest::sample::select(vec![0_u8, 6, 17, 43, 44, 58, 60]),
        reject in any::<bool>(),
    ) {
        let mut f = Firewall::new(OWN, Setup { reject, ..Setup::default() });
        for (now, (out, bytes)) in packets.iter().enumerate() {
            let packet = ip(PEER, OWN, next, bytes);
            if *out { f.outgoing(now as u64, &packet) } else { f.incoming(now as u64, &packet); }
            f.incoming(now as u64, bytes);
        }
    }
}
