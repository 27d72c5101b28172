//! Randomness from one seed given at the start, so that a run can be repeated.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

/// The core's only source of randomness.
pub(super) struct Rng(ChaCha20Rng);

impl Rng {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    pub(super) fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A duration in ns, evenly spread below `bound`.
    pub(super) fn jitter_ns(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// A generator of its own for one handshake.
    pub(super) fn fork(&mut self) -> Fork {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        Fork(seed)
    }
}

/// snow's primitives with the core's randomness.
pub(super) struct Fork([u8; 32]);

struct Source(ChaCha20Rng);

impl Random for Source {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoResolver for Fork {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Source(ChaCha20Rng::from_seed(self.0))))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}
