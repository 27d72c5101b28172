//! HTTP over a unix socket: the server, the client and the JSON types of both.

mod command;
mod types;

pub use command::{Command, Failure, FailureKind, Reply, Request, Requests};
pub use types::{
    Drops, Fc00Status, Info, LinkStats, Listener, ListenerState, Peer, PeerState, RouteInfo, RouteSource, Stats,
    TransitStats,
};
