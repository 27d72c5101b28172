//! Keys derived from the two keys a handshake ends with, and from public keys. BLAKE2s, RFC 7693.

use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac256, Digest};
use rovy_common::maps::HopKeys;
use zeroize::{Zeroize as _, Zeroizing};

use super::aead::Suite;

fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = <Blake2sMac256 as KeyInit>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize_fixed().into())
}

fn word(bytes: &[u8; 32], i: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|b| bytes[8 * i + b]))
}

/// The hop keys of one direction of a link: `k` is that direction's Noise transport key, `link` the number of the link.
#[must_use]
pub fn hop_keys(k: &[u8; 32], link: u32) -> HopKeys {
    let okm = keyed(k, &[b"rovy hop v1", &link.to_le_bytes()]);
    HopKeys { tag: [word(&okm, 0), word(&okm, 1)], mask: [word(&okm, 2), word(&okm, 3)] }
}

/// Keys that are no longer used do not stay in memory.
pub fn wipe(keys: &mut HopKeys) {
    keys.tag.zeroize();
    keys.mask.zeroize();
}

/// The AEAD key of one direction: the suite's name keeps one transport key from serving two ciphers.
pub(super) fn data_key(k: &[u8; 32], suite: Suite) -> Zeroizing<[u8; 32]> {
    keyed(k, &[b"rovy data v1 ", suite.name().as_bytes()])
}

/// The MAC of an echo reply: `shared` is what X25519 made of the two static keys, `covered` what the reply tells.
pub(super) fn echo_mac(shared: &[u8; 32], requester: &[u8; 32], responder: &[u8; 32], covered: &[u8]) -> [u8; 16] {
    let key = keyed(shared, &[b"rovy echo v1", requester, responder]);
    let full = keyed(&key, &[covered]);
    std::array::from_fn(|i| full[i])
}

/// What binds the quotes of an error to its first bytes, which every hop's tag covers. No secret: who made it is told by the
/// way it came.
#[must_use]
pub fn error_check(label: &[u8], inner: &[u8]) -> u64 {
    let mut h = Blake2s256::new();
    for part in [b"rovy error v1", label, inner] {
        Digest::update(&mut h, part);
    }
    let out: [u8; 32] = h.finalize().into();
    word(&out, 0)
}

/// The SipHash key of mac1 for messages to the owner of `public_key`.
pub(super) fn mac1_key(public_key: &[u8; 32]) -> [u64; 2] {
    let mut h = Blake2s256::new();
    Digest::update(&mut h, b"rovy mac1");
    Digest::update(&mut h, public_key);
    let out: [u8; 32] = h.finalize().into();
    [word(&out, 0), word(&out, 1)]
}
