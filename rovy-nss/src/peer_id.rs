//! From a PeerID to its address: a short copy of what the agent does with libraries that are too large for here. A test
//! holds the two together.

use std::net::Ipv6Addr;

use blake2::{Blake2s256, Digest as _};
use data_encoding::BASE32_NOPAD_NOCASE;

/// What all PeerIDs start with.
pub(crate) const PREFIX: &str = "bafzqai";
/// CIDv1, codec 0x73, identity multihash of 32 bytes.
const HEAD: [u8; 4] = [0x01, 0x73, 0x00, 0x20];

/// The address of a PeerID in lower case; `None` for what is no PeerID, or has no address of a node.
pub(crate) fn address(text: &str) -> Option<Ipv6Addr> {
    let mut bytes = [0; 36];
    // The first letter names the base.
    let base32 = text.strip_prefix('b')?.as_bytes();
    if base32.len() != BASE32_NOPAD_NOCASE.encode_len(bytes.len()) {
        return None;
    }
    // What follows the last whole byte must be zero: one key, one name. The decoder sees to that.
    BASE32_NOPAD_NOCASE.decode_mut(base32, &mut bytes).ok()?;
    let key = bytes.strip_prefix(&HEAD)?;
    let digest: [u8; 32] = Blake2s256::digest(Blake2s256::digest(key)).into();
    let address: [u8; 16] = *digest.last_chunk()?;
    let reserved = address.starts_with(&[0xfc, 0, 0, 0, 0, 0, 0, 0]);
    (address[0] == 0xfc && !reserved).then(|| address.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rovy_userspace::identity::{PeerId, SecretKey};

    use super::*;

    fn id(text: &str) -> Option<Ipv6Addr> {
        text.parse::<PeerId>().ok().map(|id| id.address())
    }

    #[test]
    fn keys_have_the_address_that_the_agent_gives_them() {
        for seed in 0..20_u64 {
            let mut bytes = [0; 32];
            let secret = (0..).find_map(|n: u64| {
                bytes[..8].copy_from_slice(&(seed << 32 | n).to_le_bytes());
                SecretKey::from_bytes(bytes).ok()
            });
            let text = secret.expect("a key").peer_id().to_string();
            assert!(address(&text).is_some() && address(&text) == id(&text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_the_agent_refuses_is_refused(at in 0_usize..59, letter in "[a-z2-7]", cut in 50_usize..60) {
            let mut text = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee".to_owned();
            text.replace_range(at..=at, &letter);
            prop_assert_eq!(address(&text), id(&text));
            let cut = text.get(..cut).unwrap_or(&text);
            prop_assert_eq!(address(cut), id(cut));
        }

        #[test]
        fn any_text_is_taken_as_the_agent_takes_it(text in "b?[a-z0-9]{0,80}") {
            prop_assert_eq!(address(&text), id(&text));
        }
    }
}
