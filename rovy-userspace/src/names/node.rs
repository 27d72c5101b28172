use std::fmt;
use std::str::FromStr;

use super::whom::Whom;
use crate::fc00::firewall::{RuleError, Sender};

/// A node as people name it where an address will do: by PeerID, by a name that the agent knows, or by its address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeName {
    /// By its address in fc00::/8.
    Address(Sender),
    /// By PeerID or name.
    Whom(Whom),
}

impl FromStr for NodeName {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.contains(':') || text.starts_with("/ip6/") {
            return text.parse().map(Self::Address);
        }
        let whom = text.parse::<Whom>();
        whom.map(Self::Whom).map_err(|e| RuleError::about(text, &format!("{e}, and no address in fc00::/8")))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Whom(whom) => whom.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_in_three_ways() {
        let id = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
        for text in [id, "alice", "fc02::1"] {
            let node: NodeName = text.parse().expect(text);
            assert_eq!(node.to_string().parse(), Ok(node), "{text}");
        }
        assert!(matches!(format!("/rovy/{id}").parse(), Ok(NodeName::Whom(Whom::Id(_)))));
        for bad in ["", "2001:db8::1", "not a name", "bafzqaid", "/ip6/x"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
