//! What the kernel knows of interfaces, addresses and next hops.

use std::io;

pub mod features;
pub mod interfaces;
pub mod resolve;
pub mod watch;

pub use features::Transmit;
pub use interfaces::{Interface, ListenerProblem, check_ethernet_listener};
pub use resolve::{ResolveError, Underlay};
pub use watch::Change;

/// A netlink request that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The netlink socket could not be opened or failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused, or the connection ended.
    #[error("cannot {what}: {source}")]
    Request {
        /// What was asked for.
        what: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
}

/// A connection to the kernel's routing tables, in the network namespace of the thread that made it. Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens it and spawns its task, which ends with the last clone. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel refused the socket.
    pub fn new() -> Result<Self, NetlinkError> {
        let (connection, handle, _messages) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The requests of rtnetlink.
    #[must_use]
    pub fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }
}
