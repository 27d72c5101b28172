use proptest::prelude::*;

use super::*;

const A: Ipv6Addr = Ipv6Addr::new(0xfc01, 0, 0, 0, 0, 0, 0, 1);
const B: Ipv6Addr = Ipv6Addr::new(0xfc02, 0, 0, 0, 0, 0, 0, 2);
const HERE: Ipv6Addr = Ipv6Addr::new(0xfc03, 0, 0, 0, 0, 0, 0, 3);

fn packet(src: Ipv6Addr, dst: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend((payload.len() as u16).to_be_bytes());
    p.extend([next, 64]);
    p.extend(src.octets());
    p.extend(dst.octets());
    p.extend(payload);
    p
}

/// One's complement sum over pseudo header and message, computed apart from pnet: all ones when the checksum is right.
fn sum(p: &[u8]) -> u16 {
    let mut words: Vec<u8> = p[8..40].to_vec();
    words.extend(((p.len() - 40) as u32).to_be_bytes());
    words.extend([0, 0, 0, 58]);
    words.extend(&p[40..]);
    let total = words.chunks(2).map(|c| u64::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]))).sum();
    rovy_common::encap::fold(total)
}

#[test]
fn sanity() {
    let p = packet(A, B, 17, &[0; 20]);
    assert_eq!(check(&p), Ok(()));
    assert_eq!(source(&p), Some(A));
    assert_eq!(destination(&p), Some(B));
    for cut in 0..40 {
        assert_eq!(check(&p[..cut]), Err(Insane::Short), "{cut}");
        assert_eq!(source(&p[..cut]), None);
    }
    for cut in 40..p.len() {
        assert_eq!(check(&p[..cut]), Err(Insane::Length), "{cut}");
    }
    let mut four = p.clone();
    four[0] = 0x45;
    assert_eq!(check(&four), Err(Insane::Version));
    assert_eq!(Insane::Version.reason(), DropReason::Malformed);
    assert!(is_fc00(A) && !is_fc00("fd00::1".parse().unwrap()) && !is_fc00(Ipv6Addr::LOCALHOST));
}

#[test]
fn unreachable_quotes_the_packet_and_sums_up() {
    let p = packet(A, B, 17, &[7; 21]);
    let e = unreachable(&p, Unreachable::Prohibited, HERE).unwrap();
    assert_eq!(check(&e), Ok(()));
    assert_eq!((source(&e), destination(&e)), (Some(HERE), Some(A)));
    assert_eq!((e[6], e[40], e[41]), (58, 1, 1));
    assert_eq!(e[44..48], [0; 4]);
    assert_eq!(e[48..], p);
    assert_eq!(sum(&e), 0xffff);
}

#[test]
fn too_big_never_says_less_than_1280_and_fits_it() {
    let p = packet(A, B, 6, &[9; 1400]);
    for (mtu, said) in [(1000, 1280_u32), (1280, 1280), (1376, 1376)] {
        let e = too_big(&p, mtu, HERE).unwrap();
        assert_eq!(e[40..42], [2, 0]);
        assert_eq!(e[44..48], said.to_be_bytes());
        assert_eq!(e.len(), 1280);
        assert_eq!(e[48..], p[..1232]);
        assert_eq!(sum(&e), 0xffff);
    }
}

#[test]
fn errors_and_multicast_are_not_answered() {
    let answered = |p: &[u8]| unreachable(p, Unreachable::NoRoute, HERE).is_some();
    let icmp = |kind: u8| packet(A, B, 58, &[kind, 0, 0, 0, 0, 0, 0, 0]);
    for kind in [1, 2, 3, 4, 127, 137] {
        assert!(!answered(&icmp(kind)), "type {kind}");
    }
    assert!(answered(&icmp(128)) && answered(&icmp(129)));
    // Behind hop-by-hop options and a fragment header.
    let behind = |kind: u8, offset: u8| {
        let mut payload = vec![44, 0, 1, 4, 0, 0, 0, 0, 58, 0, 0, offset, 1, 2, 3, 4];
        payload.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        packet(A, B, 0, &payload)
    };
    assert!(!answered(&behind(1, 0)) && answered(&behind(128, 0)));
    assert!(answered(&behind(1, 8)), "a later fragment has no type");
    assert!(!answered(&packet(A, B, 58, &[])), "cut before its type");
    let group = "ff02::1".parse().unwrap();
    assert!(!answered(&packet(A, group, 17, &[0; 8])));
    assert!(too_big(&packet(A, group, 17, &[0; 8]), 1280, HERE).is_some());
    assert!(!answered(&packet(group, B, 17, &[0; 8])));
    assert!(!answered(&packet(Ipv6Addr::UNSPECIFIED, B, 17, &[0; 8])));
}

proptest! {
    #[test]
    fn nothing_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), mtu: u32, shape in 0..4_u8) {
        if shape > 0 && bytes.len() >= 40 {
            bytes[0] = 0x60 | bytes[0] & 0xf;
            let length = (bytes.len() - 40) as u16;
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            bytes[6] = [bytes[6], 58, 0, 44][shape as usize];
        }
        let _ = (source(&bytes), destination(&bytes));
        let sane = check(&bytes);
        let unreachable_ = unreachable(&bytes, Unreachable::Port, HERE);
        for answer in [too_big(&bytes, mtu, HERE), unreachable_, time_exceeded(&bytes, HERE)].into_iter().flatten() {
            prop_assert_eq!(sane, Ok(()));
            prop_assert_eq!(check(&answer), Ok(()));
            prop_assert!(answer.len() <= 1280);
            prop_assert_eq!(sum(&answer), 0xffff);
            prop_assert_eq!(unreachable(&answer, Unreachable::Port, A), None);
            prop_assert_eq!(time_exceeded(&answer, A), None);
        }
    }
}
