use crate::api::{Fc00Status, Info, Listener};
use crate::config::{Config, Paths, XdpMode};
use crate::identity::SecretKey;

/// What the command line and the files say about a run of the agent.
#[derive(Debug)]
pub struct Options {
    /// The node's key.
    pub secret: SecretKey,
    /// The configuration.
    pub config: Config,
    /// Where configuration, state and control socket lie.
    pub paths: Paths,
    /// Instead of the configured mode.
    pub xdp: Option<XdpMode>,
    /// Instead of the configured name of the TUN device.
    pub ifname: Option<String>,
    /// Whether to make the TUN device at start, if the configuration wants it too.
    pub fc00: bool,
    /// Whether to remember handshakes in the state directory; a key for one run has nothing to remember.
    pub remember: bool,
    /// Instead of 120 s: the age at which keys are renewed. For tests.
    pub rekey_after: Option<std::time::Duration>,
    /// Instead of 25 s: how often a keepalive goes through a NAT in front of this node. For tests.
    pub nat_keepalive: Option<std::time::Duration>,
    /// Called once, when the listeners and the control socket are there.
    pub ready: fn(&Info, &[Listener], &Fc00Status),
}
