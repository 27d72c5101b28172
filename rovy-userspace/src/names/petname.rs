use std::fmt;
use std::str::FromStr;

/// The domain that names end in, without dots.
pub const DOMAIN: &str = "rovy";
/// What every PeerID starts with.
pub const PEER_ID_PREFIX: &str = "bafzqai";
/// Names that the agent answers itself.
const RESERVED: [&str; 2] = ["localhost", "ns"];
/// Bytes of a DNS label (RFC 1035).
const MAX: usize = 63;

/// Why something cannot be a name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PetnameError {
    /// Nothing at all.
    #[error("a name is empty")]
    Empty,
    /// More than a DNS label holds.
    #[error("`{0}…` is too long for a name: 63 characters at most")]
    TooLong(String),
    /// Characters of other scripts.
    #[error("`{0}` has characters outside a-z, 0-9 and `-`; write names of other scripts in their ASCII form, `xn--…`")]
    NotAscii(String),
    /// A character that host names do not have.
    #[error("`{0}` cannot be a name: letters a-z, digits and `-` inside, such as `alice`")]
    Character(String),
    /// The agent's own.
    #[error("`{0}` cannot be given to a peer: the agent answers that name itself")]
    Reserved(String),
    /// It looks like a PeerID.
    #[error("`{0}` cannot be a name: it would look like a PeerID")]
    PeerId(String),
}

/// A name that the operator gave to a peer: one DNS label, in lower case. `alice` stands for `alice.rovy`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Petname(String);

impl Petname {
    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name without the domain behind it, if that is there.
pub(super) fn label(text: &str) -> &str {
    let text = text.strip_suffix('.').unwrap_or(text);
    match text.rsplit_once('.') {
        Some((label, domain)) if domain.eq_ignore_ascii_case(DOMAIN) => label,
        _ => text,
    }
}

impl FromStr for Petname {
    type Err = PetnameError;

    /// Takes `alice` and `Alice.rovy` alike.
    fn from_str(text: &str) -> Result<Self, PetnameError> {
        let text = label(text);
        let shown = || text.chars().take(80).collect::<String>();
        if text.is_empty() {
            return Err(PetnameError::Empty);
        }
        if !text.is_ascii() {
            return Err(PetnameError::NotAscii(shown()));
        }
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if !text.bytes().all(inside) || text.starts_with('-') || text.ends_with('-') {
            return Err(PetnameError::Character(shown()));
        }
        if text.len() > MAX {
            return Err(PetnameError::TooLong(text.chars().take(20).collect()));
        }
        let label = text.to_ascii_lowercase();
        if RESERVED.contains(&label.as_str()) {
            return Err(PetnameError::Reserved(label));
        }
        if label.starts_with(PEER_ID_PREFIX) {
            return Err(PetnameError::PeerId(label));
        }
        Ok(Self(label))
    }
}

impl fmt::Display for Petname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for Petname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<String, PetnameError> {
        text.parse::<Petname>().map(|n| n.to_string())
    }

    #[test]
    fn names_are_labels_in_any_case_with_or_without_the_domain() {
        for (text, label) in [
            ("alice", "alice"),
            ("Alice.ROVY", "alice"),
            ("a.rovy.", "a"),
            ("xn--bcher-kva", "xn--bcher-kva"),
            ("0-9", "0-9"),
            ("rovy", "rovy"),
        ] {
            assert_eq!(name(text).as_deref(), Ok(label), "{text}");
        }
        assert_eq!(name(&"x".repeat(63)), Ok("x".repeat(63)));
    }

    #[test]
    fn what_dns_or_people_would_take_for_something_else_is_refused() {
        for text in ["a.b", "a b", "-a", "a-", "a_b", "a/b", "alice.rovy.rovy", "a\0", "..rovy"] {
            assert!(matches!(name(text), Err(PetnameError::Character(_))), "{text:?}: {:?}", name(text));
        }
        assert!(matches!(name("bücher"), Err(PetnameError::NotAscii(_))));
        assert!(matches!(name(&"x".repeat(64)), Err(PetnameError::TooLong(_))));
        assert!(matches!(name("LocalHost"), Err(PetnameError::Reserved(_))));
        assert!(matches!(name("ns.rovy"), Err(PetnameError::Reserved(_))));
        assert!(matches!(name("bafzqaid26tco"), Err(PetnameError::PeerId(_))));
        assert_eq!(name(".rovy"), Err(PetnameError::Empty));
        assert_eq!(name(""), Err(PetnameError::Empty));
    }
}
