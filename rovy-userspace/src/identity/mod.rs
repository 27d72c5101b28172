//! Keys and what follows from them: PeerID, address, keyfile.

pub mod keyfile;
mod peer_id;
pub mod psk;
mod secret;

pub use peer_id::{PeerId, address_of};
pub use secret::SecretKey;

/// Why a key or a PeerID is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// The address of the key is outside fc00::/8.
    #[error("the key's address {0} is outside fc00::/8; make a key with `rovy key new`")]
    OutsidePrefix(std::net::Ipv6Addr),
    /// The address of the key is in fc00::/64, which is reserved for services such as fc00::1.
    #[error("the key's address {0} is inside the reserved fc00::/64; make another key with `rovy key new`")]
    Reserved(std::net::Ipv6Addr),
    /// The text of a PeerID is no multibase.
    #[error("not a PeerID: not multibase text (a PeerID starts with `bafzqai` and has 59 characters)")]
    NotMultibase,
    /// The text is multibase, but does not hold a key the way a PeerID does.
    #[error("not a PeerID: not a CIDv1 with codec 0x73 and a 32 byte key as identity multihash")]
    NotAKey,
    /// The text names a key, but not in the one spelling that PeerIDs have.
    #[error("not a PeerID: it must be spelled in lower case base32, starting with `bafzqai`")]
    NotCanonical,
}

#[cfg(test)]
mod tests;
