use super::IdentityError;
use blake2::{Blake2s256, Digest};
use cid::Cid;
use multibase::Base;
use multihash::Multihash;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Codec of rovy keys in a CID.
const CODEC: u64 = 0x73;
/// Code of the identity multihash: the digest is the key itself.
const IDENTITY: u64 = 0x00;

/// The address of a public key, whether the network takes the key or not: bytes 16..32 of
/// BLAKE2s-256(BLAKE2s-256(key)).
#[must_use]
pub fn address_of(public_key: &[u8; 32]) -> Ipv6Addr {
    let digest: [u8; 32] = Blake2s256::digest(Blake2s256::digest(public_key)).into();
    let mut address = [0; 16];
    address.copy_from_slice(&digest[16..]);
    Ipv6Addr::from(address)
}

/// A node's public key, known to have an address inside fc00::/8 and outside the reserved fc00::/64.
///
/// As text it is a CIDv1 (codec 0x73, identity multihash) in lower case base32, 59 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// Takes a public key.
    ///
    /// # Errors
    /// [`IdentityError::OutsidePrefix`] or [`IdentityError::Reserved`] when the key's address is not a node's.
    pub fn new(public_key: [u8; 32]) -> Result<Self, IdentityError> {
        let address = address_of(&public_key);
        let octets = address.octets();
        if octets[0] != 0xfc {
            return Err(IdentityError::OutsidePrefix(address));
        }
        if octets[1..8] == [0; 7] {
            return Err(IdentityError::Reserved(address));
        }
        Ok(Self(public_key))
    }

    /// The X25519 public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }

    /// The node's address.
    #[must_use]
    pub fn address(&self) -> Ipv6Addr {
        address_of(&self.0)
    }

    /// The first characters after the part all PeerIDs share, for logs and narrow tables.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().skip(7).take(8).collect()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = Multihash::<32>::wrap(IDENTITY, &self.0).map_err(|_| fmt::Error)?;
        f.pad(&multibase::encode(Base::Base32Lower, cid::CidGeneric::<32>::new_v1(CODEC, hash).to_bytes()))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        // Longer than any spelling of a key: not worth decoding.
        if text.len() > 512 {
            return Err(IdentityError::NotAKey);
        }
        let (_, bytes) = multibase::decode(text).map_err(|_| IdentityError::NotMultibase)?;
        let cid = Cid::try_from(bytes.as_slice()).map_err(|_| IdentityError::NotAKey)?;
        if cid.version() != cid::Version::V1 || cid.codec() != CODEC || cid.hash().code() != IDENTITY {
            return Err(IdentityError::NotAKey);
        }
        let key = cid.hash().digest().try_into().map_err(|_| IdentityError::NotAKey)?;
        let peer = Self::new(key)?;
        // One key, one name: otherwise two configured peers could be the same node.
        if peer.to_string() == text { Ok(peer) } else { Err(IdentityError::NotCanonical) }
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
