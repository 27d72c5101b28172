use super::{IdentityError, PeerId};
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A node's X25519 private key, wiped from memory when dropped. It never shows in `Debug` output.
#[derive(Clone)]
pub struct SecretKey {
    secret: StaticSecret,
    peer_id: PeerId,
}

impl SecretKey {
    /// Searches a key whose address lies in fc00::/8: about 256 tries.
    ///
    /// `random` fills a buffer with unpredictable bytes and is called once.
    pub fn generate(random: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random(bytes.as_mut_slice());
        loop {
            if let Ok(key) = Self::from_bytes(*bytes) {
                return key;
            }
            step(&mut bytes);
        }
    }

    /// Takes the 32 bytes of a private key.
    ///
    /// # Errors
    /// [`IdentityError`] when the key's address is not a node's.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, IdentityError> {
        let secret = StaticSecret::from(bytes);
        let peer_id = PeerId::new(PublicKey::from(&secret).to_bytes())?;
        Ok(Self { secret, peer_id })
    }

    /// The private key itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }

    /// What X25519 makes of this key and another's public one. `None` when it is all zero, as with keys of small order:
    /// everybody would know it.
    #[must_use]
    pub fn shared(&self, public_key: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*public_key));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }

    /// The public side of the key.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }
}

/// The next candidate. A random starting point and a walk cost one draw of randomness and lose less than a bit per
/// doubling of the walk's length. Steps of eight, because X25519 ignores the three lowest bits.
fn step(bytes: &mut [u8; 32]) {
    if let Some(low) = bytes.first_chunk_mut::<8>() {
        *low = u64::from_le_bytes(*low).wrapping_add(8).to_le_bytes();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.peer_id)
    }
}
