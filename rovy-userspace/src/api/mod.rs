//! HTTP over a unix socket: the server, the client and the JSON types of both.

pub mod client;
mod command;
mod descriptors;
mod http;
pub mod metrics;
pub mod metrics_tcp;
pub mod server;
mod socket;
mod types;

pub use client::{Client, ClientError};

pub use command::{Command, Failure, FailureKind, Fc00Device, Reply, Request, Requests};
pub use http::Method;
pub use server::{ApiError, Server, serve};
pub use types::{
    Discovery, DiscoveryListener, Drops, Echo, ErrorStats, Fc00Status, Info, Large, LimitUse, LinkState, LinkStats,
    Listener, ListenerState, MapSizes, NameInfo, Peer, PeerLink, PeerSource, PeerState, PeerTransit, PortRule, Ports,
    ProbeStats, RouteInfo, RouteSource, Stats, Trace, TraceHop, TransitStats, Wants,
};

#[cfg(test)]
mod tests;
