//! The configuration file: what it may say, where it lies, and changing it without losing its comments.

mod key;
mod paths;
pub mod persist;
mod schema;

pub use paths::{Paths, User};
pub(crate) use schema::listenable;
pub use schema::{
    Api, Config, Discovery, Dns, Fc00, Firewall, Limits, Listen, Log, LogFormat, Mtu, Node, Offload, Peer, PeerTransit,
    Routes, SlotWidth, Transit, Xdp, XdpMode, free_ethertype,
};

use std::path::{Path, PathBuf};

/// The file `rovy init` writes: every key with its default, as comments.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Largest configuration file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Why the configuration could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("{0}: no such file; `rovy init` writes one")]
    Missing(PathBuf),
    /// The file exists and cannot be read.
    #[error("{path}: cannot read it: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written; the one that was there is unchanged.
    #[error("{path}: cannot write it: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not a configuration.
    #[error("{}:{line}:{column}: {}{message}", path.display(), key.as_ref().map(|k| format!("{k}: ")).unwrap_or_default())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The key with its tables in front, where there is one.
        key: Option<String>,
        /// What is wrong with it.
        message: String,
    },
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], [`ConfigError::Read`], or [`ConfigError::Invalid`] with line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &read(path)?)
    }

    /// Reads configuration text; `path` is for error messages.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| key::invalid(path, text, e.span(), e.message()))?;
        if let Some(message) = config.fc00.contradiction() {
            return Err(key::invalid(path, text, key::deny(text), &message));
        }
        let ids: Vec<_> = config.peers.iter().map(|p| p.id).collect();
        match ids.iter().enumerate().find(|(i, id)| ids[..*i].contains(id)) {
            // Which of two entries would count nobody could guess.
            Some((i, _)) => Err(key::invalid(path, text, key::peer_id(text, i), "this peer stands there twice")),
            None => Ok(config),
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Missing(path.into()),
        _ => ConfigError::Read { path: path.into(), source },
    };
    let mut text = String::new();
    std::fs::File::open(path).map_err(failed)?.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(failed(std::io::Error::other("larger than 1 MiB")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
