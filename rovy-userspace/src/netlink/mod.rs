//! What the kernel knows of interfaces, addresses and next hops.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub mod features;
mod generic;
pub mod interfaces;
pub mod resolve;
pub mod watch;

pub use features::Transmit;
pub use generic::{Attributes, read as read_answers};
pub use interfaces::{Interface, ListenerProblem, check_ethernet_listener, usable};
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

impl NetlinkError {
    /// For `map_err`: a request of rtnetlink that failed.
    pub(crate) fn request(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        |source| Self::Request { what, source }
    }

    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket(e) => e.raw_os_error(),
            Self::Request { source, .. } => errno(source),
        }
    }
}

/// The kernel's error number, where there is one.
pub(crate) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(e) => Some(e.raw_code().saturating_abs()),
        _ => None,
    }
}

/// A connection to the kernel's routing tables, in the network namespace of the thread that made it. Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    generic: Arc<Mutex<generic::Connection>>,
}

impl Netlink {
    /// Opens it and spawns its task, which ends with the last clone. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel refused the socket.
    pub fn new() -> Result<Self, NetlinkError> {
        let generic = Arc::new(Mutex::new(generic::Connection::open()?));
        let (connection, handle, _messages) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, generic })
    }

    /// The requests of rtnetlink.
    #[must_use]
    pub fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }

    fn generic(&self) -> MutexGuard<'_, generic::Connection> {
        self.generic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
