//! `libnss_rovy.so.2`: names under `.rovy` for programs that use glibc, without systemd-resolved.
//!
//! The address of a PeerID is a hash of it and is computed here. Other names are asked of the agent at fc00::1, which
//! answers at once or not at all. This runs inside of foreign programs: it never panics out, changes no state of theirs,
//! and takes half a second at most.

mod abi;
mod agent;
mod message;
mod peer_id;

use std::net::Ipv6Addr;

/// The domain.
const DOMAIN: &str = "rovy";
/// The address of a key never changes; seconds.
const PEER_TTL: u32 = 3600;

/// What is known of a name or an address.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Found<T> {
    /// This, for so many seconds.
    Yes(T, u32),
    /// No such name.
    No,
    /// Somebody else's question.
    Elsewhere,
    /// The agent does not answer.
    Later,
}

/// The label in front of `.rovy`; `None` for names elsewhere.
fn label(name: &str) -> Option<&str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let (label, domain) = name.rsplit_once('.')?;
    domain.eq_ignore_ascii_case(DOMAIN).then_some(label)
}

/// Looks a name up.
fn address_of(name: &str) -> Found<Ipv6Addr> {
    let Some(label) = label(name) else { return Found::Elsewhere };
    if label.is_empty() || label.contains('.') || label.len() > 63 {
        return Found::No;
    }
    let label = label.to_ascii_lowercase();
    if !label.starts_with(peer_id::PREFIX) {
        return agent::ask(&[label.as_bytes(), DOMAIN.as_bytes()], message::AAAA, message::address);
    }
    match peer_id::address(&label) {
        Some(address) => {
            agent::announce(&[label.as_bytes(), DOMAIN.as_bytes()]);
            Found::Yes(address, PEER_TTL)
        }
        None => Found::No,
    }
}

/// Looks an address up.
fn name_of(address: Ipv6Addr) -> Found<String> {
    if address.octets()[0] != 0xfc {
        return Found::Elsewhere;
    }
    let nibbles = message::nibbles(address);
    let mut labels: Vec<&[u8]> = nibbles.iter().map(std::slice::from_ref).collect();
    labels.extend([&b"ip6"[..], b"arpa"]);
    agent::ask(&labels, message::PTR, message::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_under_the_domain_are_ours() {
        for name in ["example.com", "rovy", "", ".", "rovy.", "a.rovy.com", "arovy"] {
            assert_eq!(address_of(name), Found::Elsewhere, "{name}");
        }
        for name in [".rovy", "a.b.rovy", "bafzqai.rovy", &format!("{}.rovy", "a".repeat(64))] {
            assert_eq!(address_of(name), Found::No, "{name}");
        }
        for address in ["::1", "fd00::1", "2001:db8::1"] {
            assert_eq!(name_of(address.parse().expect("an address")), Found::Elsewhere);
        }
    }

    #[test]
    fn a_peer_has_its_address_without_an_agent() {
        let name = "BAFZQAID26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee.Rovy.";
        let address = "fc89:54a1:b598:365f:357:d6a:b108:db7b".parse().expect("an address");
        assert_eq!(address_of(name), Found::Yes(address, PEER_TTL));
    }
}
