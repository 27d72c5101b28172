use std::fmt;
use std::str::FromStr;

use super::petname::{PEER_ID_PREFIX, Petname, PetnameError, label};
use crate::identity::{IdentityError, PeerId};
use crate::multiaddr::Multiaddr;

/// A peer as people name it: by its PeerID, or by a name that the agent knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Whom {
    /// By its key.
    Id(PeerId),
    /// By a name.
    Name(Petname),
}

/// Why something names no peer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WhomError {
    /// It starts like a PeerID.
    #[error(transparent)]
    Id(#[from] IdentityError),
    /// It cannot be a name.
    #[error("neither a PeerID nor a name: {0}")]
    Name(#[from] PetnameError),
}

impl FromStr for Whom {
    type Err = WhomError;

    /// Takes a PeerID or a name, either with `/rovy/` in front or `.rovy` behind.
    fn from_str(text: &str) -> Result<Self, WhomError> {
        let text = label(text.strip_prefix("/rovy/").unwrap_or(text));
        if text.get(..PEER_ID_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PEER_ID_PREFIX)) {
            // DNS names come in any case; no two PeerIDs differ in theirs.
            return Ok(Self::Id(text.to_ascii_lowercase().parse()?));
        }
        Ok(Self::Name(text.parse()?))
    }
}

impl Whom {
    /// Divides what `peer connect` takes, such as `/ip4/192.0.2.1/udp/1312/rovy/alice`: where, and whom to expect there.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn at_address(text: &str) -> Result<(Multiaddr, Self), String> {
        let place = |text: &str| text.parse::<Multiaddr>().map_err(|e| e.why);
        let Some((at, whom)) = text.rsplit_once("/rovy/").filter(|(at, _)| !at.is_empty()) else {
            place(text)?;
            return Err("append /rovy/<PeerID>, the peer expected there; `rovy info` shows it on the other node".into());
        };
        let address = place(at)?;
        let whom = whom.parse::<Self>().map_err(|e| e.to_string())?;
        match address.peer() {
            None => Ok((address, whom)),
            Some(_) => Err("two peers are named; only one can be there".into()),
        }
    }
}

impl From<PeerId> for Whom {
    fn from(id: PeerId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";

    #[test]
    fn peers_go_by_key_or_name() {
        let id = Whom::Id(KNOWN.parse().unwrap());
        let name = Whom::Name("alice".parse().unwrap());
        for text in [KNOWN.to_owned(), format!("/rovy/{KNOWN}"), format!("{KNOWN}.rovy"), KNOWN.to_uppercase()] {
            assert_eq!(text.parse(), Ok(id.clone()), "{text}");
        }
        for text in ["alice", "ALICE", "/rovy/alice", "alice.rovy"] {
            assert_eq!(text.parse(), Ok(name.clone()), "{text}");
        }
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn a_peer_has_a_place() {
        let (at, whom) = Whom::at_address("/ip4/192.0.2.1/udp/1312/rovy/alice").unwrap();
        assert_eq!((at.to_string().as_str(), whom), ("/ip4/192.0.2.1/udp/1312", "alice".parse().unwrap()));
        let (at, whom) = Whom::at_address(&format!("/ethif/rovy/rovy/{KNOWN}")).unwrap();
        assert_eq!((at.to_string().as_str(), whom), ("/ethif/rovy", KNOWN.parse().unwrap()));
        for (text, why) in [
            ("/ip4/192.0.2.1/udp/1312", "append /rovy/<PeerID>"),
            ("/rovy/alice", "a peer alone"),
            ("/tcp/80/rovy/alice", "not supported"),
            ("/ethif/e/rovy/a b", "neither a PeerID nor a name"),
            (&format!("/ethif/e/rovy/{KNOWN}/rovy/{KNOWN}"), "two peers"),
        ] {
            let said = Whom::at_address(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_neither_says_what_it_lacks() {
        let why = |text: &str| text.parse::<Whom>().unwrap_err().to_string();
        assert!(why("bafzqaid26").contains("not a PeerID"), "{}", why("bafzqaid26"));
        assert!(why(&KNOWN[..58]).contains("not a PeerID"));
        assert!(why("al ice").contains("neither a PeerID nor a name"));
        assert!(why("").contains("empty"));
    }
}
