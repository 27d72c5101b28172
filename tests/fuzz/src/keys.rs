//! Nodes whose keys are found once: the search for an address in fc00::/8 would be most of a run.

use std::net::SocketAddr;
use std::sync::LazyLock;

use rovy_common::label::Width;
use rovy_userspace::core::{Budget, Node, NodeConfig};
use rovy_userspace::identity::{PeerId, SecretKey};
use rovy_userspace::transport::Endpoint;

/// Sessions and half-open handshakes a node of the targets keeps.
pub(crate) const SESSIONS: u32 = 16;

/// Two nodes, and a third that only the others have heard of: nobody uses its key.
static SECRETS: LazyLock<[SecretKey; 3]> = LazyLock::new(|| [1, 2, 3].map(|n| SecretKey::generate(&mut |b| b.fill(n))));

/// The node `n` of three.
pub(crate) fn id(n: usize) -> PeerId {
    SECRETS[n % 3].peer_id()
}

pub(crate) fn secret(n: usize) -> &'static SecretKey {
    &SECRETS[n % 3]
}

pub(crate) fn node(n: usize) -> Node {
    let config = NodeConfig {
        secret: SECRETS[n % 3].clone(),
        width: Width::One,
        transit: true,
        sessions: SESSIONS,
        peers: 4,
        receive_mtu: Some(1400),
        aes: n == 0,
        handshakes: 8,
        psk: [0; 32].into(),
        probes: Budget::default(),
    };
    Node::new(config, [n as u8; 32])
}

/// Where node `n` is.
pub(crate) fn endpoint(n: usize) -> Endpoint {
    Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, n as u8 + 1], 1312)), local: None }
}
