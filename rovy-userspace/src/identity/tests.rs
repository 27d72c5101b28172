use super::*;
use proptest::prelude::*;

pub(super) const KEY: &str = "mloUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu0";
pub(super) const PEER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
pub(super) const ADDRESS: &str = "fc89:54a1:b598:365f:357:d6a:b108:db7b";

#[test]
fn known_key_has_known_peer_id_and_address() {
    let (_, bytes) = multibase::decode(KEY).unwrap();
    let key = SecretKey::from_bytes(bytes.try_into().unwrap()).unwrap();
    assert_eq!(key.peer_id().to_string(), PEER);
    assert_eq!(key.peer_id().address().to_string(), ADDRESS);
    assert_eq!(PEER.parse(), Ok(key.peer_id()));
    assert!(!format!("{key:?}").contains(&KEY[1..20]));
}

#[test]
fn generated_keys_obey_the_address_rule_and_differ() {
    let mut seed = 0;
    let mut draw = |b: &mut [u8]| {
        seed += 1;
        b.fill(seed);
    };
    let (a, b) = (SecretKey::generate(&mut draw), SecretKey::generate(&mut draw));
    assert_eq!(a.peer_id().address().octets()[0], 0xfc);
    assert_ne!(a.peer_id(), b.peer_id());
}

#[test]
fn two_keys_share_a_secret_and_keys_of_small_order_none() {
    let key = |n: u8| SecretKey::generate(&mut |out| out.fill(n));
    let (a, b) = (key(1), key(2));
    let ours = a.shared(b.peer_id().public_key()).unwrap();
    assert_eq!(ours, b.shared(a.peer_id().public_key()).unwrap());
    let one: [u8; 32] = std::array::from_fn(|i| u8::from(i == 0));
    // 2^255 - 19 is zero, 2^255 - 20 is minus one.
    let prime = |low: u8| std::array::from_fn(|i| [low, 0xff, 0x7f][usize::from(i > 0) + usize::from(i == 31)]);
    for small in [[0; 32], one, prime(0xed), prime(0xec)] {
        assert!(a.shared(&small).is_none(), "{small:?}");
    }
}

#[test]
fn keys_outside_the_prefix_are_refused() {
    let refused =
        (0..=255_u8).filter(|i| matches!(PeerId::new([*i; 32]), Err(IdentityError::OutsidePrefix(_)))).count();
    assert!(refused > 200, "{refused} of 256 refused");
}

#[test]
fn other_spellings_are_refused() {
    let upper = PEER.to_uppercase();
    assert_eq!(upper.parse::<PeerId>(), Err(IdentityError::NotCanonical));
    assert_eq!("".parse::<PeerId>(), Err(IdentityError::NotMultibase));
    assert_eq!(KEY.parse::<PeerId>(), Err(IdentityError::NotAKey));
    assert!(PEER[..58].parse::<PeerId>().is_err());
    assert!(format!("{PEER}a").parse::<PeerId>().is_err());
    // The same key with another codec.
    let peer: PeerId = PEER.parse().unwrap();
    let hash = multihash::Multihash::<32>::wrap(0, peer.public_key()).unwrap();
    let other = multibase::encode(multibase::Base::Base32Lower, cid::CidGeneric::<32>::new_v1(0x72, hash).to_bytes());
    assert_eq!(other.parse::<PeerId>(), Err(IdentityError::NotAKey));
}

#[test]
fn peer_ids_travel_as_strings() {
    let peer: PeerId = PEER.parse().unwrap();
    assert_eq!(serde_json::to_string(&peer).unwrap(), format!("\"{PEER}\""));
    assert_eq!(serde_json::from_str::<PeerId>(&format!("\"{PEER}\"")).unwrap(), peer);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = text.parse::<PeerId>();
    }

    #[test]
    fn damaged_text_never_gives_the_same_peer(at in 0..59_usize, to in "[a-z2-7]") {
        let mut text = PEER.to_owned();
        text.replace_range(at..=at, &to);
        prop_assume!(text != PEER);
        prop_assert_ne!(text.parse::<PeerId>(), PEER.parse::<PeerId>());
    }
}
