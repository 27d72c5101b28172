//! The rovy agent: what happens once per session or route. The kernel does the rest.
//!
//! The agent decides, the maps remember, XDP repeats; what XDP does not understand goes up unchanged.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod dataplane;
pub mod fc00;
pub mod identity;
pub mod multiaddr;
pub mod names;
pub mod netlink;
pub mod privileges;
pub mod rate;
pub mod transport;
