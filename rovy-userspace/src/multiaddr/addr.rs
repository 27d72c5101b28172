use crate::identity::PeerId;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// UDP port of rovy where none is given.
pub const DEFAULT_PORT: u16 = 1312;

/// Where a node listens or is reached, with the peer expected there when it is known.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Multiaddr {
    /// `/ip4/A/udp/P` or `/ip6/A/udp/P`; a link-local one may start with `/ip6zone/INDEX`.
    Udp {
        /// IP address and port.
        addr: SocketAddr,
        /// The peer expected there.
        peer: Option<PeerId>,
    },
    /// `/ethif/IF`: raw Ethernet on an interface.
    Ethernet {
        /// Name of the interface.
        ifname: String,
        /// The peer expected there.
        peer: Option<PeerId>,
    },
    /// `/dns/NAME/udp/P`: UDP to a name that is resolved anew for each attempt.
    Dns {
        /// Host name.
        name: String,
        /// UDP port.
        port: u16,
        /// The peer expected there.
        peer: Option<PeerId>,
    },
}

/// Why a multiaddr is refused. Every variant carries the text it is about.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}: {why}")]
pub struct MultiaddrError {
    /// The refused text, shortened when it is very long.
    pub text: String,
    /// What is wrong with it and what would be right.
    pub why: String,
}

impl Multiaddr {
    /// The peer expected at the address.
    #[must_use]
    pub const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Udp { peer, .. } | Self::Ethernet { peer, .. } | Self::Dns { peer, .. } => *peer,
        }
    }

    /// The same place with another expectation of who is there.
    #[must_use]
    pub fn with_peer(mut self, to: Option<PeerId>) -> Self {
        match &mut self {
            Self::Udp { peer, .. } | Self::Ethernet { peer, .. } | Self::Dns { peer, .. } => *peer = to,
        }
        self
    }

    /// `udp4`, `udp6`, `eth` or `dns`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Udp { addr: SocketAddr::V4(_), .. } => "udp4",
            Self::Udp { addr: SocketAddr::V6(_), .. } => "udp6",
            Self::Ethernet { .. } => "eth",
            Self::Dns { .. } => "dns",
        }
    }
}

impl fmt::Display for Multiaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { addr: SocketAddr::V4(a), .. } => write!(f, "/ip4/{}/udp/{}", a.ip(), a.port())?,
            Self::Udp { addr: SocketAddr::V6(a), .. } => {
                if a.scope_id() != 0 {
                    write!(f, "/ip6zone/{}", a.scope_id())?;
                }
                write!(f, "/ip6/{}/udp/{}", a.ip(), a.port())?;
            }
            Self::Ethernet { ifname, .. } => write!(f, "/ethif/{ifname}")?,
            Self::Dns { name, port, .. } => write!(f, "/dns/{name}/udp/{port}")?,
        }
        self.peer().map_or(Ok(()), |peer| write!(f, "/rovy/{peer}"))
    }
}

impl FromStr for Multiaddr {
    type Err = MultiaddrError;

    fn from_str(text: &str) -> Result<Self, MultiaddrError> {
        parse(text).map_err(|why| MultiaddrError { text: text.chars().take(200).collect(), why })
    }
}

super::serde_as_text!(Multiaddr);

fn parse(text: &str) -> Result<Multiaddr, String> {
    let rest =
        text.strip_prefix('/').ok_or("a multiaddr starts with `/`, such as /ip4/192.0.2.1/udp/1312 or /ethif/eth0")?;
    if text.len() > 512 {
        return Err("longer than any multiaddr".into());
    }
    let mut parts = Parts(rest.split('/'));
    let (protocol, value) = (parts.word(), parts.value("the protocol")?);
    let addr = match protocol {
        "ip4" => udp(IpAddr::V4(ip4(value)?), 0, &mut parts)?,
        "ip6" => udp(IpAddr::V6(ip6(value)?), 0, &mut parts)?,
        "ip6zone" => zoned(value, &mut parts)?,
        "ethif" => Multiaddr::Ethernet { ifname: ifname(value)?, peer: None },
        "dns" => Multiaddr::Dns { name: host(value)?, port: udp_port(&mut parts)?, peer: None },
        known @ ("tcp" | "dns4" | "dns6" | "dnsaddr" | "unix" | "p2p" | "quic" | "ws" | "wss") => {
            return Err(unsupported(known));
        }
        "rovy" => {
            return Err("a peer alone is not a place; put where it is reached in front, such as /ip4/A/udp/P".into());
        }
        "rovyrt" => return Err("a route is not an address; routes are added with `rovy route add`".into()),
        other => return Err(format!("unknown protocol `{other}`; known are ip4, ip6, ethif and dns")),
    };
    let peer = match parts.0.next() {
        None => None,
        Some("rovy") => Some(parts.value("rovy")?.parse::<PeerId>().map_err(|e| e.to_string())?),
        Some("") => return Err("ends in a `/` too many".into()),
        Some(other) => return Err(format!("`/{other}` does not belong there; only /rovy/<PeerID> may follow")),
    };
    match parts.0.next() {
        None => Ok(addr.with_peer(peer)),
        Some(_) => Err("nothing may follow the PeerID".into()),
    }
}

struct Parts<'t>(std::str::Split<'t, char>);

impl<'t> Parts<'t> {
    fn word(&mut self) -> &'t str {
        self.0.next().unwrap_or("")
    }

    fn value(&mut self, of: &str) -> Result<&'t str, String> {
        self.0.next().filter(|v| !v.is_empty()).ok_or_else(|| format!("the value after {of} is missing"))
    }
}

fn unsupported(protocol: &str) -> String {
    format!("/{protocol} is not supported; rovy runs over UDP (/ip4, /ip6, /dns) and raw Ethernet (/ethif)")
}

fn ip4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IPv4 address"))
}

fn ip6(text: &str) -> Result<Ipv6Addr, String> {
    // The brackets of URLs are a common slip and leave no doubt.
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("`{text}` is not an IPv6 address"))
}

fn zoned(zone: &str, parts: &mut Parts<'_>) -> Result<Multiaddr, String> {
    let zone = zone
        .parse::<u32>()
        .ok()
        .filter(|z| *z != 0)
        .ok_or_else(|| format!("zone `{zone}` is not the index of an interface (see `ip link`)"))?;
    if parts.word() != "ip6" {
        return Err("/ip6/ADDRESS must follow the zone".into());
    }
    udp(IpAddr::V6(ip6(parts.value("ip6")?)?), zone, parts)
}

fn udp(ip: IpAddr, zone: u32, parts: &mut Parts<'_>) -> Result<Multiaddr, String> {
    let port = udp_port(parts)?;
    let addr = match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, zone)),
    };
    Ok(Multiaddr::Udp { addr, peer: None })
}

fn udp_port(parts: &mut Parts<'_>) -> Result<u16, String> {
    match parts.0.next() {
        Some("udp") => {}
        None | Some("") => return Err(format!("the transport is missing, such as /udp/{DEFAULT_PORT}")),
        Some(other) => return Err(unsupported(other)),
    }
    let text = parts.value("udp")?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(format!("`{text}` is not a UDP port (1 to 65535)")),
    }
}

/// Linux takes up to 15 bytes, no `/`, no white space, and not `.` or `..`.
fn ifname(text: &str) -> Result<String, String> {
    let bad = |b: u8| b.is_ascii_whitespace() || b.is_ascii_control() || b == b':';
    if text.len() > 15 || text.bytes().any(bad) || matches!(text, "." | "..") {
        return Err(format!("`{text}` cannot be the name of an interface (1 to 15 bytes without space or `:`)"));
    }
    Ok(text.to_owned())
}

fn host(text: &str) -> Result<String, String> {
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("`{text}` is not a host name"));
    }
    Ok(text.to_owned())
}
