//! The AEAD of data messages, by ring.

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rovy_common::DropReason;

/// An AEAD that two nodes may agree on in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Suite {
    /// RFC 8439. Every node has it.
    ChaCha20Poly1305 = 1,
    /// NIST SP 800-38D. Faster where the CPU has AES instructions.
    Aes256Gcm = 2,
}

impl Suite {
    /// The suite a byte of the handshake payload names.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::ChaCha20Poly1305, Self::Aes256Gcm].into_iter().find(|s| *s as u8 == byte)
    }

    /// The name that enters the key derivation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
        }
    }

    /// Messages after which a session of this suite must not be used any more. AES-GCM: 2^32, so that its confidentiality
    /// bound holds. ChaCha20-Poly1305 would bear 2^60, but the receiver's replay window ends at 2^45
    /// ([`rovy_common::replay::COUNTER_LIMIT`]), which is a year at a million messages a second.
    #[must_use]
    pub fn message_limit(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => rovy_common::replay::COUNTER_LIMIT,
            Self::Aes256Gcm => 1 << 32,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// One direction's key.
pub(super) struct AeadKey(LessSafeKey);

impl AeadKey {
    /// `None` never happens for a 32 byte key; ring's signature has it.
    pub(super) fn new(suite: Suite, k: &[u8; 32]) -> Option<Self> {
        let key = super::kdf::data_key(k, suite);
        UnboundKey::new(suite.algorithm(), &*key).ok().map(|k| Self(LessSafeKey::new(k)))
    }

    /// Encrypts in place and returns the tag. The nonce is 32 zero bits and the counter, little-endian.
    pub(super) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<[u8; 16], DropReason> {
        let tag = self.0.seal_in_place_separate_tag(nonce(counter), Aad::from(aad), text);
        let tag = tag.map_err(|_| DropReason::TooBig)?;
        tag.as_ref().try_into().map_err(|_| DropReason::TooBig)
    }

    /// The first bytes that a counter's messages are encrypted by. For what this node itself sent: it must not leave it.
    pub(super) fn keystream(&self, counter: u64) -> Option<[u8; 16]> {
        let mut text = [0; 16];
        self.seal(counter, &[], &mut text).ok().map(|_| text)
    }

    /// Decrypts in place; the plaintext's length.
    pub(super) fn open(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<usize, DropReason> {
        let plain = self.0.open_in_place(nonce(counter), Aad::from(aad), text);
        plain.map(|p| p.len()).map_err(|_| DropReason::BadTag)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut n = [0; 12];
    n[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(n)
}
