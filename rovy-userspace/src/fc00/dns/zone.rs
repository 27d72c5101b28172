//! What names there are: the domain `.rovy`, and the names of addresses of fc00::/8 for reverse lookups.

use std::net::Ipv6Addr;

use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{AAAA, NS, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::identity::PeerId;
use crate::names::{DOMAIN, Names, PEER_ID_PREFIX};

/// The address that DNS is served at; nobody's, and nowhere routed.
pub const SERVICE: Ipv6Addr = Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1);
/// The address of a key never changes; seconds.
const PEER_TTL: u32 = 3600;
/// The operator may give a name to another peer; seconds.
const NAME_TTL: u32 = 60;
/// A name that is not there may be added; seconds.
pub const NEGATIVE_TTL: u32 = 10;
/// Names of one address that are told.
const ALIASES: usize = 64;
/// Nibbles of an address.
const NIBBLES: usize = 32;

/// What is known.
pub struct Zone<'a> {
    /// This node.
    pub node: PeerId,
    /// The operator's names.
    pub names: &'a Names,
    /// The peer at an address, if this node has met it.
    pub known: &'a dyn Fn(Ipv6Addr) -> Option<PeerId>,
}

/// A zone's top.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Apex {
    /// `rovy`
    Forward,
    /// `c.f.ip6.arpa`
    Reverse,
}

/// What stands at a name inside a zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// No such name, and none below it.
    Nothing,
    /// There may be names below it, and nothing at it.
    Between,
    /// The zone itself.
    Top,
    /// A node, or the agent as a server.
    Host { address: Ipv6Addr, ttl: u32, peer: Option<PeerId> },
    /// Names of an address.
    Names(Vec<String>),
}

/// Looks a name up; `None` when it is outside of all zones.
pub(super) fn look(name: &Name, zone: &Zone<'_>) -> Option<(Apex, Found)> {
    let labels: Vec<Vec<u8>> = name.iter().map(<[u8]>::to_ascii_lowercase).collect();
    let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
    match labels.as_slice() {
        [below @ .., top] if *top == DOMAIN.as_bytes() => Some((Apex::Forward, zone.host(below))),
        [below @ .., b"c", b"f", b"ip6", b"arpa"] => Some((Apex::Reverse, zone.reverse(below))),
        _ => None,
    }
}

impl Zone<'_> {
    fn host(&self, below: &[&[u8]]) -> Found {
        let [label] = below else { return if below.is_empty() { Found::Top } else { Found::Nothing } };
        let Ok(label) = std::str::from_utf8(label) else { return Found::Nothing };
        let of = |id: PeerId, ttl| Found::Host { address: id.address(), ttl, peer: Some(id) };
        match label {
            "localhost" => of(self.node, NAME_TTL),
            "ns" => Found::Host { address: SERVICE, ttl: PEER_TTL, peer: None },
            _ if label.starts_with(PEER_ID_PREFIX) => label.parse().map_or(Found::Nothing, |id| of(id, PEER_TTL)),
            _ => self.names.get(label).map_or(Found::Nothing, |id| of(id, NAME_TTL)),
        }
    }

    /// `below`: the nibbles of an address behind `fc`, the last one first.
    fn reverse(&self, below: &[&[u8]]) -> Found {
        let mut octets = [0; 16];
        octets[0] = 0xfc;
        for (place, label) in below.iter().rev().enumerate() {
            let digit = match label {
                [digit] => char::from(*digit).to_digit(16),
                _ => None,
            };
            let place = place + 2;
            let (Some(digit), Some(octet)) = (digit, octets.get_mut(place / 2)) else { return Found::Nothing };
            *octet |= (digit as u8) << if place % 2 == 0 { 4 } else { 0 };
        }
        match below.len() {
            0 => Found::Top,
            n if n + 2 < NIBBLES => Found::Between,
            _ => self.names_of(octets.into()),
        }
    }

    fn names_of(&self, address: Ipv6Addr) -> Found {
        let named: Vec<String> =
            self.names.of(address).iter().take(ALIASES).map(|n| format!("{n}.{DOMAIN}.")).collect();
        if !named.is_empty() {
            return Found::Names(named);
        }
        let name = if address == SERVICE {
            Some("ns".to_owned())
        } else if address == self.node.address() {
            Some(self.node.to_string())
        } else {
            (self.known)(address).map(|id| id.to_string())
        };
        name.map_or(Found::Nothing, |name| Found::Names(vec![format!("{name}.{DOMAIN}.")]))
    }
}

impl Found {
    /// The records of a type at `name`.
    pub(super) fn records(&self, apex: &Apex, name: &Name, kind: RecordType) -> Result<Vec<Record>, ProtoError> {
        let one = |ttl, data| vec![Record::from_rdata(name.clone(), ttl, data)];
        Ok(match (self, kind) {
            (Self::Host { address, ttl, .. }, RecordType::AAAA) => one(*ttl, RData::AAAA(AAAA(*address))),
            (Self::Names(names), RecordType::PTR) => {
                let pointer =
                    |n: &String| Ok(Record::from_rdata(name.clone(), NAME_TTL, RData::PTR(PTR(Name::from_ascii(n)?))));
                names.iter().map(pointer).collect::<Result<_, ProtoError>>()?
            }
            (Self::Top, RecordType::SOA) => vec![apex.soa(false)?],
            (Self::Top, RecordType::NS) => one(PEER_TTL, RData::NS(NS(Name::from_ascii("ns.rovy.")?))),
            _ => Vec::new(),
        })
    }
}

impl Apex {
    /// The zone's SOA record. Beside a negative answer it tells how long that holds (RFC 2308).
    pub(super) fn soa(self, negative: bool) -> Result<Record, ProtoError> {
        let name = match self {
            Self::Forward => "rovy.",
            Self::Reverse => "c.f.ip6.arpa.",
        };
        let (server, person) = (Name::from_ascii("ns.rovy.")?, Name::from_ascii("hostmaster.rovy.")?);
        // Nobody transfers the zone: the serial never changes, and the times are those usual for small zones.
        let data = SOA::new(server, person, 1, 3600, 600, 86_400, NEGATIVE_TTL);
        let ttl = if negative { NEGATIVE_TTL } else { PEER_TTL };
        Ok(Record::from_rdata(Name::from_ascii(name)?, ttl, RData::SOA(data)))
    }
}
