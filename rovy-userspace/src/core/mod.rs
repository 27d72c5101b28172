//! The protocol without I/O: time, randomness and packets come in as arguments, actions go out as values.
//!
//! [`Node`] is driven by four verbs: [`Node::message`] (from the underlay), [`Node::packet`] (from the TUN),
//! [`Node::timeout`] and [`Node::poll`] (what to do now). It never reads a clock and never draws randomness: the
//! same inputs give the same outputs, in the agent, in the tests and in a simulation.
#![deny(clippy::disallowed_methods)]

mod action;
mod aead;
mod buffer;
mod cookie;
mod discovery;
mod echo;
mod errors;
mod handshake;
mod index;
mod kdf;
mod link;
mod mac;
mod node;
mod payload;
mod peer;
mod probes;
mod random;
mod routes;
mod session;
mod slots;
mod stamps;
mod time;

pub use action::{Action, Hops, LinkRx, LinkTx, Origin, Path};
pub use aead::Suite;
pub use buffer::{HEADROOM, Outgoing, TAILROOM};
pub use discovery::{Heard, INTERVAL as BEACON_INTERVAL, Network, Outlet};
pub use echo::{Answer, Met};
pub use errors::{ErrorCounts, LEAST as LEAST_FIT, Quote};
pub use kdf::{error_check, hop_keys, wipe};
pub use link::LinkState;
pub use mac::{mac1, mac1_key};
pub use node::{ALL_NODES, Inbound, Node, NodeConfig, Sealed, Use};
pub use peer::{LinkView, PeerSource, PeerState, PeerView, Psk, RouteSource, RouteView};
pub use probes::{Budget, ProbeCounts, Rate};
pub use routes::{RouteState, Why};
pub use stamps::{STAMPS, Stamp};
pub use time::{Now, TAI64N_LEN, tai64n};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::peer_ids;
