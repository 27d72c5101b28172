//! Randomness from one seed given at the start, so that a run can be repeated.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

/// The core's only source of randomness. The state, which all keys of handshakes come from, is on the heap, so that no copy
/// stays where the value was moved from.
pub(super) struct Rng(Box<ChaCha20Rng>);

/// Writes another state over that of a generator: it has nothing to wipe it with.
fn wipe(rng: &mut ChaCha20Rng) {
    *rng = ChaCha20Rng::from_seed([0; 32]);
    // The compiler may not leave the write out, as if nobody read it.
    std::hint::black_box(rng);
}

impl Drop for Rng {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl Rng {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(Box::new(ChaCha20Rng::from_seed(seed)))
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
        let mut fork = Fork([0; 32]);
        self.0.fill_bytes(&mut fork.0);
        fork
    }
}

/// snow's primitives with the core's randomness.
pub(super) struct Fork([u8; 32]);

struct Source(ChaCha20Rng);

impl Drop for Source {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_generator_has_forgotten_its_seed() {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        rng.next_u32();
        wipe(&mut rng);
        assert_eq!(rng.get_seed(), [0; 32]);
        assert_eq!(rng.next_u64(), ChaCha20Rng::from_seed([0; 32]).next_u64());
    }
}
