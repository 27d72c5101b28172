use crate::Mode;
use rovy_userspace::identity::PeerId;

/// What goes into `config.toml`.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// How transit is switched.
    pub mode: Mode,
    /// Interfaces where UDP listeners attach before a neighbour is behind them.
    pub xdp_interfaces: Vec<String>,
    /// Peers to connect to or to expect.
    pub peers: Vec<Peer>,
    /// Name of the TUN device; none without.
    pub tun: Option<String>,
    /// `fc00.allow`: what the firewall lets in.
    pub allow: Vec<String>,
    /// Whether nodes on the same link find each other. Most tests are about those they name.
    pub discovery: bool,
    /// `node.psk_file`.
    pub psk_file: Option<String>,
    /// `psk_file` of every peer.
    pub peer_psk_file: Option<String>,
}

/// A `[[peer]]` entry.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom.
    pub id: PeerId,
    /// Where; empty for a peer that connects to us.
    pub addresses: Vec<String>,
}

impl Config {
    pub(super) fn to_toml(&self) -> String {
        let mut text = format!(
            "[listen]\naddresses = {:?}\nxdp.mode = {:?}\nxdp.interfaces = {:?}\n\n[discovery]\nlinklocal = {}\n\n[fc00]\nenabled = {}\n",
            self.listen,
            self.mode.xdp(),
            self.xdp_interfaces,
            self.discovery,
            self.tun.is_some()
        );
        if let Some(name) = &self.tun {
            text += &format!("ifname = {name:?}\nallow = {:?}\n", self.allow);
        }
        if let Some(file) = &self.psk_file {
            text += &format!("\n[node]\npsk_file = {file:?}\n");
        }
        for peer in &self.peers {
            text += &format!("\n[[peer]]\nid = \"{}\"\naddresses = {:?}\n", peer.id, peer.addresses);
            if let Some(file) = &self.peer_psk_file {
                text += &format!("psk_file = {file:?}\n");
            }
        }
        text
    }
}
