//! The keyfile: private key, PeerID and address, three lines of TOML that must agree.

use super::{IdentityError, PeerId, SecretKey, Unfit};
use multibase::Base;
use serde::Deserialize;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A keyfile has three lines; anything larger is not one.
const MAX_BYTES: u64 = 16 * 1024;

/// What a keyfile held.
#[derive(Debug)]
pub struct Loaded {
    /// The private key.
    pub secret: SecretKey,
    /// Its public side.
    pub peer_id: PeerId,
    /// What should be repaired, though the key is good: sentences for people.
    pub warnings: Vec<String>,
}

/// Why a keyfile is refused. Each error names the file; none shows the private key.
#[derive(Debug, thiserror::Error)]
pub enum KeyfileError {
    /// There is no such file.
    #[error("{0}: no such file; `rovy key new FILE` makes one")]
    Missing(PathBuf),
    /// The file exists and cannot be read.
    #[error("{path}: cannot read it: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may write the file.
    #[error("{}: {}", .0.display(), .1)]
    Exposed(PathBuf, String),
    /// A new file cannot be written.
    #[error("{path}: cannot write it: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new file would replace one.
    #[error("{0}: there is a file already, and keys are never overwritten; move it away first")]
    Exists(PathBuf),
    /// The text is not TOML, or a field is no string.
    #[error("{}:{line}: {message}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A field is not there.
    #[error("{path}: {field} is missing")]
    MissingField {
        /// The file.
        path: PathBuf,
        /// `PrivateKey`, `PeerID` or `IPAddr`.
        field: &'static str,
    },
    /// The private key is not 32 bytes in multibase base64.
    #[error("{0}: PrivateKey: not 32 bytes in multibase base64 (44 characters, the first an `m`)")]
    PrivateKey(PathBuf),
    /// The network does not take the private key.
    #[error("{path}: PrivateKey: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// The PeerID is not the private key's.
    #[error("{path}: PeerID: the file says `{found}`, the private key says `{expected}`")]
    PeerId {
        /// The file.
        path: PathBuf,
        /// What stands in the file.
        found: String,
        /// What the private key gives.
        expected: PeerId,
    },
    /// The address is not the private key's.
    #[error("{path}: IPAddr: the file says `{found}`, the private key says `{expected}`")]
    Address {
        /// The file.
        path: PathBuf,
        /// What stands in the file.
        found: String,
        /// What the private key gives.
        expected: Ipv6Addr,
    },
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "PrivateKey")]
    private_key: Option<String>,
    #[serde(rename = "PeerID")]
    peer_id: Option<String>,
    #[serde(rename = "IPAddr")]
    address: Option<String>,
}

/// Reads a keyfile and checks that its fields agree.
///
/// # Errors
/// [`KeyfileError`], one variant for each thing that can be wrong.
pub fn load(path: &Path) -> Result<Loaded, KeyfileError> {
    let (file, warning) = super::open(path, "the private key").map_err(|unfit| match unfit {
        Unfit::Read(source) if source.kind() == io::ErrorKind::NotFound => KeyfileError::Missing(path.into()),
        Unfit::Read(source) => KeyfileError::Read { path: path.into(), source },
        Unfit::Exposed(why) => KeyfileError::Exposed(path.into(), why),
    })?;
    let mut loaded = read(path, file)?;
    loaded.warnings.extend(warning);
    Ok(loaded)
}

/// Reads a keyfile's text from anywhere; `name` is for error messages.
///
/// # Errors
/// As [`load`].
pub fn read(name: &Path, from: impl io::Read) -> Result<Loaded, KeyfileError> {
    let failed = |source| KeyfileError::Read { path: name.into(), source };
    // Room for all of it from the start: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize + 1));
    from.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(failed(io::Error::other("too large for a keyfile")));
    }
    parse(name, &text)
}

fn parse(path: &Path, text: &str) -> Result<Loaded, KeyfileError> {
    // Only message and line: the error's own text quotes the input, and so the key.
    let fields: Fields = toml::from_str(text).map_err(|e| {
        let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let message =
            if e.message().starts_with("invalid type") { "not a string in quotes" } else { "not a TOML line" };
        KeyfileError::NotToml { path: path.into(), line, message: message.into() }
    })?;
    let missing = |field| KeyfileError::MissingField { path: path.into(), field };
    let private = Zeroizing::new(fields.private_key.ok_or_else(|| missing("PrivateKey"))?);
    let secret = SecretKey::from_bytes(*decode(&private).ok_or_else(|| KeyfileError::PrivateKey(path.into()))?)
        .map_err(|source| KeyfileError::Refused { path: path.into(), source })?;
    let peer_id = secret.peer_id();

    let found = fields.peer_id.ok_or_else(|| missing("PeerID"))?;
    if found.parse() != Ok(peer_id) {
        return Err(KeyfileError::PeerId { path: path.into(), found, expected: peer_id });
    }
    let found = fields.address.ok_or_else(|| missing("IPAddr"))?;
    if found.parse() != Ok(peer_id.address()) {
        return Err(KeyfileError::Address { path: path.into(), found, expected: peer_id.address() });
    }
    Ok(Loaded { secret, peer_id, warnings: Vec::new() })
}

fn decode(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let (base, bytes) = multibase::decode(text).ok()?;
    let bytes = Zeroizing::new(bytes);
    (base == Base::Base64).then_some(())?;
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

/// The text of a keyfile.
#[must_use]
pub fn text(secret: &SecretKey) -> Zeroizing<String> {
    let private = Zeroizing::new(multibase::encode(Base::Base64, secret.bytes()));
    let peer = secret.peer_id();
    Zeroizing::new(format!("PrivateKey = '{}'\nPeerID = '{peer}'\nIPAddr = '{}'\n", *private, peer.address()))
}

/// Writes a new keyfile with mode 0600, making its directory with mode 0700 when that is missing.
///
/// # Errors
/// [`KeyfileError::Exists`] when there is a file already, [`KeyfileError::Write`] otherwise.
pub fn write_new(path: &Path, secret: &SecretKey) -> Result<(), KeyfileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyfileError::Exists(path.into()),
        _ => KeyfileError::Write { path: path.into(), source },
    };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    write_all(&mut file, &text(secret)).map_err(|source| {
        // Half a key is none; a file in the way would stop the next attempt.
        let _ = std::fs::remove_file(path);
        KeyfileError::Write { path: path.into(), source }
    })
}

fn write_all(file: &mut File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
