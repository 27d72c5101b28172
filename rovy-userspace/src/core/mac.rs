//! mac1: what a hello must carry before anybody spends a Diffie-Hellman on it.

use rovy_common::siphash::{Key, sip128};
use rovy_common::wire::MAC_COVERS;

/// The key of mac1 for messages to the owner of `public_key`: BLAKE2s("rovy mac1" || public key), the first 16 bytes.
#[must_use]
pub fn mac1_key(public_key: &[u8; 32]) -> Key {
    super::kdf::mac1_key(public_key)
}

/// mac1 over the first [`MAC_COVERS`] bytes of a hello or response; `None` when there are fewer.
#[must_use]
pub fn mac1(key: &Key, message: &[u8]) -> Option<[u8; 16]> {
    let covered = message.first_chunk::<MAC_COVERS>()?;
    let mut words = [0; MAC_COVERS / 8];
    for (word, chunk) in words.iter_mut().zip(covered.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    let [a, b] = sip128(key, &words);
    let mut out = [0; 16];
    out[..8].copy_from_slice(&a.to_le_bytes());
    out[8..].copy_from_slice(&b.to_le_bytes());
    Some(out)
}
