//! Files of pre-shared keys: 32 bytes as text, in hex or multibase base64 like the key in a keyfile.

use super::Unfit;
use multibase::Base;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest text that can be one.
const MAX_BYTES: u64 = 256;

/// Why a pre-shared key is refused. No error shows what the file holds.
#[derive(Debug, thiserror::Error)]
pub enum PskError {
    /// The file is missing or cannot be read. Going on without it would be a network without the key.
    #[error("{path}: cannot read the pre-shared key: {source}; `openssl rand -hex 32` prints a new one")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is something else.
    #[error(
        "{0}: not a pre-shared key: 64 hex digits, or multibase base64 of 32 bytes (44 characters, the first an `m`)"
    )]
    NotAKey(PathBuf),
    /// Others may write the file.
    #[error("{}: {}", .0.display(), .1)]
    Exposed(PathBuf, String),
    /// 32 zero bytes mean that there is none.
    #[error("{0}: all zero is no secret; `openssl rand -hex 32` prints a key")]
    Zero(PathBuf),
}

/// What a file held.
pub struct Psk {
    /// The key.
    pub key: Zeroizing<[u8; 32]>,
    /// What should be repaired, though the key is good: sentences for people.
    pub warnings: Vec<String>,
}

/// Reads a pre-shared key.
///
/// # Errors
/// [`PskError`], which names the file.
pub fn load(path: &Path) -> Result<Psk, PskError> {
    let (file, warning) = super::open(path, "the pre-shared key").map_err(|unfit| match unfit {
        Unfit::Read(source) => PskError::Read { path: path.into(), source },
        Unfit::Exposed(why) => PskError::Exposed(path.into(), why),
    })?;
    let key = read(path, file)?;
    Ok(Psk { key, warnings: warning.into_iter().collect() })
}

/// Reads a pre-shared key's text from anywhere; `name` is for error messages.
///
/// # Errors
/// [`PskError::NotAKey`], [`PskError::Zero`].
pub fn read(name: &Path, from: impl io::Read) -> Result<Zeroizing<[u8; 32]>, PskError> {
    // Room for all of it from the start: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize + 1));
    let read = from.take(MAX_BYTES + 1).read_to_string(&mut text);
    // What was not read may be more than white space.
    if !read.is_ok_and(|n| n as u64 <= MAX_BYTES) {
        return Err(PskError::NotAKey(name.into()));
    }
    let key = decode(text.trim()).ok_or_else(|| PskError::NotAKey(name.into()))?;
    if *key == [0; 32] {
        return Err(PskError::Zero(name.into()));
    }
    Ok(key)
}

fn decode(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    // 64 hex digits; a multibase text of 32 bytes has 44 characters.
    let bytes = if text.len() == 64 {
        Zeroizing::new(Base::Base16Lower.decode(&*Zeroizing::new(text.to_ascii_lowercase())).ok()?)
    } else {
        let (base, bytes) = multibase::decode(text).ok()?;
        let bytes = Zeroizing::new(bytes);
        (base == Base::Base64).then_some(())?;
        bytes
    };
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn load_text(text: &str, mode: u32) -> Result<Psk, PskError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("psk");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        load(&path)
    }

    #[test]
    fn both_spellings() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
        for text in [Base::Base16Lower.encode(key), Base::Base16Upper.encode(key), multibase::encode(Base::Base64, key)]
        {
            for text in [text.clone(), format!("{text}\n")] {
                let psk = load_text(&text, 0o600).expect("a key");
                assert_eq!((*psk.key, psk.warnings.len()), (key, 0));
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let cut = "secretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecre";
        let zero = "00".repeat(32);
        let more = format!("{}{}more", "ab".repeat(32), " ".repeat(200));
        for text in ["", "mAAEC", cut, "f00", &"zz".repeat(32), &"aa".repeat(300), "\u{fffd}", &more] {
            let error = load_text(text, 0o600).err().expect("refused");
            assert!(matches!(error, PskError::NotAKey(_)), "{text}: {error}");
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
        assert!(matches!(load_text(&zero, 0o600), Err(PskError::Zero(_))));
        assert!(matches!(load(Path::new("/nonexistent/psk")), Err(PskError::Read { .. })));
        assert!(matches!(load(Path::new("/dev/null")), Err(PskError::Read { .. })));
    }

    #[test]
    fn who_may_read_and_write_the_file_counts() {
        for mode in [0o600, 0o400] {
            assert_eq!(load_text(&"ab".repeat(32), mode).expect("a key").warnings.len(), 0);
        }
        for mode in [0o640, 0o440, 0o644] {
            let psk = load_text(&"ab".repeat(32), mode).expect("a key");
            assert!(psk.warnings[0].contains("chmod 600"), "{:?}", psk.warnings);
        }
        for mode in [0o620, 0o602, 0o666] {
            let error = load_text(&"ab".repeat(32), mode).err().expect("refused");
            assert!(matches!(error, PskError::Exposed(..)) && error.to_string().contains("chmod 600"), "{error}");
        }
    }
}
