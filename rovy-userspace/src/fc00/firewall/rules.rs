//! What may come in: services, whom they are for, and which of several rules counts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fc00::packet::is_fc00;
use crate::identity::PeerId;

/// Rules at most.
pub const RULES: usize = 1024;

/// What a rule is about. Port 0 stands for all ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Service {
    /// ICMPv6 echo requests.
    Icmp,
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
}

/// Why a text is no rule, with the text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

impl RuleError {
    /// What is wrong with a text.
    #[must_use]
    pub fn about(text: &str, why: &str) -> Self {
        Self(format!("{}: {why}", shorten(text)))
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Service {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let no = |why: &str| RuleError(format!("{}: {why}", shorten(text)));
        let port = |port: &str| match port {
            "" => Err(no("the port is missing, 0 for all ports")),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| no("a port is 1 to 65535, or 0 for all"))
            }
            _ => Err(no("the port is not a number")),
        };
        match text.strip_prefix('/').map(|t| t.split_once('/').unwrap_or((t, ""))) {
            Some(("tcp", rest)) => port(rest).map(Self::Tcp),
            Some(("udp", rest)) => port(rest).map(Self::Udp),
            Some(("icmp", "")) => Ok(Self::Icmp),
            Some(("icmp", _)) => Err(no("/icmp stands alone: it means echo requests")),
            Some(_) => Err(no("not supported; there are /tcp/PORT, /udp/PORT and /icmp")),
            None => Err(no("a service begins with a /, such as /tcp/80")),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp => f.write_str("/icmp"),
            Self::Tcp(port) => write!(f, "/tcp/{port}"),
            Self::Udp(port) => write!(f, "/udp/{port}"),
        }
    }
}

impl Service {
    /// The same for all ports.
    const fn all(self) -> Self {
        match self {
            Self::Icmp => Self::Icmp,
            Self::Tcp(_) => Self::Tcp(0),
            Self::Udp(_) => Self::Udp(0),
        }
    }

    /// Whether `other` is a part of it, or the same.
    fn covers(self, other: Self) -> bool {
        self == other || self == other.all()
    }
}

/// The node whose packets a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sender {
    /// A node by its key.
    Peer(PeerId),
    /// A node by its address in fc00::/8.
    Address(Ipv6Addr),
}

impl Sender {
    /// The node's address.
    #[must_use]
    pub fn address(&self) -> Ipv6Addr {
        match self {
            Self::Peer(id) => id.address(),
            Self::Address(address) => *address,
        }
    }
}

impl FromStr for Sender {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let no = |why: String| RuleError(format!("{}: {why}", shorten(text)));
        if let Ok(address) = text.strip_prefix("/ip6/").unwrap_or(text).parse() {
            return if is_fc00(address) {
                Ok(Self::Address(address))
            } else {
                Err(no("no node has this address, which is not in fc00::/8".into()))
            };
        }
        let id = text.strip_prefix("/rovy/").unwrap_or(text).parse();
        id.map(Self::Peer).map_err(|_| no("neither a PeerID nor an address in fc00::/8".into()))
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(id) => write!(f, "/rovy/{id}"),
            Self::Address(address) => write!(f, "/ip6/{address}"),
        }
    }
}

impl TryFrom<String> for Sender {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Sender> for String {
    fn from(sender: Sender) -> Self {
        sender.to_string()
    }
}

/// A service, for everybody or for one node. As text, in the configuration: `/tcp/80`, `/tcp/22/rovy/PEERID`,
/// `/icmp/ip6/fc..`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    /// What.
    pub service: Service,
    /// For whom; for everybody when absent.
    pub from: Option<Sender>,
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let at = ["/rovy/", "/ip6/"].iter().find_map(|mark| text.find(mark));
        let (service, from) = at.map_or((text, None), |at| (&text[..at], Some(&text[at..])));
        let told = |e: RuleError| RuleError(e.0.replacen(service, text, 1));
        Ok(Self { service: service.parse().map_err(told)?, from: from.map(str::parse).transpose()? })
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        self.from.map_or(Ok(()), |from| write!(f, "{from}"))
    }
}

/// What becomes of a packet that a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It comes in.
    Allow,
    /// It does not.
    Deny,
}

/// A rule as it stands in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What and for whom.
    pub rule: Rule,
    /// What becomes of it.
    pub action: Action,
    /// Packets it decided about.
    pub packets: u64,
}

/// There is no room for another rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there are {RULES} rules already, and no more")]
pub struct Full;

/// The rules. Of those that fit a packet the narrowest counts: one for the node before one for everybody, then one for the
/// port before one for all ports.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rules(BTreeMap<(Option<Ipv6Addr>, Service), Entry>);

/// What holds where no rule fits: echo requests are answered, and nothing else comes in.
#[must_use]
pub const fn default(service: Service) -> Action {
    match service {
        Service::Icmp => Action::Allow,
        Service::Tcp(_) | Service::Udp(_) => Action::Deny,
    }
}

impl Rules {
    /// The rules of a configuration. What stands in both lists is denied.
    ///
    /// # Errors
    /// There are more than [`RULES`].
    pub fn new(allow: &[Rule], deny: &[Rule]) -> Result<Self, Full> {
        let mut rules = Self::default();
        for (list, action) in [(allow, Action::Allow), (deny, Action::Deny)] {
            for rule in list {
                rules
                    .0
                    .insert((rule.from.map(|f| f.address()), rule.service), Entry { rule: *rule, action, packets: 0 });
            }
        }
        if rules.0.len() > RULES { Err(Full) } else { Ok(rules) }
    }

    /// The last word counts: what is narrower than `rule` goes, and `rule` stands where it says anything new. Whether
    /// anything changed.
    ///
    /// # Errors
    /// There is no room; nothing has changed then.
    pub fn set(&mut self, action: Action, rule: Rule) -> Result<bool, Full> {
        let from = rule.from.map(|f| f.address());
        let key = (from, rule.service);
        if self.0.get(&key).is_some_and(|e| e.action == action) && self.narrower(key).next().is_none() {
            return Ok(false);
        }
        let gone: Vec<_> = self.narrower(key).chain(self.0.contains_key(&key).then_some(key)).collect();
        if gone.is_empty() && self.0.len() >= RULES {
            return Err(Full);
        }
        for key in &gone {
            self.0.remove(key);
        }
        // What holds without a word about it needs none.
        let needed = self.find(from, rule.service).is_some() || default(rule.service) != action;
        if needed {
            self.0.insert(key, Entry { rule, action, packets: 0 });
        }
        Ok(needed || !gone.is_empty())
    }

    /// Other rules about a part of what one is about.
    fn narrower(&self, key: (Option<Ipv6Addr>, Service)) -> impl Iterator<Item = (Option<Ipv6Addr>, Service)> {
        let part =
            move |k: &(Option<Ipv6Addr>, Service)| *k != key && key.1.covers(k.1) && (key.0.is_none() || key.0 == k.0);
        self.0.keys().copied().filter(part)
    }

    /// The rule that decides about a service for a node, or for everybody; its key.
    fn find(&self, from: Option<Ipv6Addr>, service: Service) -> Option<(Option<Ipv6Addr>, Service)> {
        let all = service.all();
        let keys = [(from, service), (from, all), (None, service), (None, all)];
        keys.into_iter().find(|key| self.0.contains_key(key))
    }

    /// What becomes of a packet of `from` for `service`; counted.
    pub fn decide(&mut self, from: Ipv6Addr, service: Service) -> Action {
        let found = self.find(Some(from), service);
        match found.and_then(|key| self.0.get_mut(&key)) {
            Some(entry) => {
                entry.packets += 1;
                entry.action
            }
            None => default(service),
        }
    }

    /// What would become of it.
    #[must_use]
    pub fn look(&self, from: Ipv6Addr, service: Service) -> Action {
        let found = self.find(Some(from), service);
        found.and_then(|key| self.0.get(&key)).map_or(default(service), |e| e.action)
    }

    /// All of them, those for everybody first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
