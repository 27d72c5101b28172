use super::*;
use std::vec;

fn whole(kind: u8) -> (std::vec::Vec<u8>, usize) {
    let len = MessageType::from_byte(kind).expect("known").min_len();
    let mut m = vec![0; len];
    m[0] = kind;
    m[1] = VERSION;
    m[2..4].copy_from_slice(&(len as u16).to_le_bytes());
    (m, len)
}

#[test]
fn every_type_truncated_at_every_length_is_refused() {
    for kind in 1..=7 {
        let (m, len) = whole(kind);
        assert!(check_bytes(&m, true).is_ok(), "type {kind}");
        for n in 0..len {
            let reason = check_bytes(&m[..n], true).expect_err("truncated");
            assert!(matches!(reason, DropReason::Malformed | DropReason::BadLength), "type {kind} at {n}: {reason:?}");
        }
    }
}

#[test]
fn the_four_bytes_01_00_00_00() {
    assert_eq!(check_bytes(&[1, 0, 0, 0], true), Err(DropReason::BadVersion));
    assert_eq!(check_bytes(&[1, 1, 0, 0], true), Err(DropReason::BadLength));
}

#[test]
fn padding_is_fine_on_ethernet_only() {
    let (mut m, len) = whole(6);
    m.extend([0; 7]);
    assert_eq!(check_bytes(&m, false), Ok((MessageType::Transit, len)));
    assert_eq!(check_bytes(&m, true), Err(DropReason::BadLength));
}

#[test]
fn a_long_label_needs_its_bytes() {
    let (mut m, len) = whole(6);
    m[1] |= FLAG_LONG_LABEL;
    assert_eq!(check_bytes(&m, true), Err(DropReason::BadLength));
    m.extend([0; 16]);
    m[2..4].copy_from_slice(&(len as u16 + 16).to_le_bytes());
    assert!(check_bytes(&m, true).is_ok());
}

#[test]
fn unknown_types_and_versions() {
    for kind in (8..=255).chain([0]) {
        assert_eq!(check_bytes(&[kind, 1, 4, 0], true), Err(DropReason::Malformed));
    }
    for version in (2..16).chain([0]) {
        let (mut m, _) = whole(4);
        m[1] = version;
        assert_eq!(check_bytes(&m, true), Err(DropReason::BadVersion));
    }
}

#[test]
fn the_handshake_does_not_amplify() {
    assert!(size_of::<Hello>() >= size_of::<Response>());
    assert!(size_of::<Response>() > size_of::<CookieReply>());
}
