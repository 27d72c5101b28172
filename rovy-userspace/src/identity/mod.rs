//! Keys and what follows from them: PeerID, address, keyfile.

pub mod keyfile;
mod peer_id;
pub mod psk;
mod secret;

pub use peer_id::{PeerId, address_of};
pub use secret::SecretKey;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

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

/// Why a file with a key is not read.
enum Unfit {
    /// It cannot be opened, or is no file.
    Read(std::io::Error),
    /// Others may write it: what to do.
    Exposed(String),
}

/// Opens a file that holds `what`, unless others may write it; with a warning when they may read it.
fn open(path: &Path, what: &str) -> Result<(File, Option<String>), Unfit> {
    // Opening a pipe would wait for a writer; the flag changes nothing for a file.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(Unfit::Read)?;
    let meta = file.metadata().map_err(Unfit::Read)?;
    if !meta.is_file() {
        return Err(Unfit::Read(std::io::Error::other("not a regular file")));
    }
    let warning = guarded(path, meta.permissions().mode(), what).map_err(Unfit::Exposed)?;
    Ok((file, warning))
}

/// Judges the mode of a file that holds `what`. Others who may write it decide who this node is or whom it trusts: that is an
/// error. That others may read it is a warning: it cannot be undone, and refusing would take a router off the network for it.
fn guarded(path: &Path, mode: u32, what: &str) -> Result<Option<String>, String> {
    let (mode, at) = (mode & 0o777, path.display());
    if mode & 0o022 != 0 {
        return Err(format!("mode {mode:04o} lets others replace {what}; `chmod 600 {at}`, and see who changed it"));
    }
    let open = mode & 0o077 != 0;
    Ok(open.then(|| format!("{at}: mode {mode:04o} lets others read {what}; `chmod 600 {at}`")))
}

#[cfg(test)]
mod tests;
