//! What a node should remember over a restart: it does no I/O, so who runs it asks for it and gives it back.

use super::Node;
use crate::core::stamps::Stamp;
use crate::identity::PeerId;

impl Node {
    /// The newest timestamps accepted, of peers that had a session, at most [`STAMPS`](crate::core::STAMPS); in the order
    /// in which they are to be given back.
    pub fn stamps(&self) -> impl Iterator<Item = (PeerId, Stamp)> {
        self.stamps.iter()
    }

    /// Grows when [`Node::stamps`] changes.
    #[must_use]
    pub fn stamps_version(&self) -> u64 {
        self.stamps.version()
    }

    /// The last timestamp sent.
    #[must_use]
    pub fn last_stamp(&self) -> Stamp {
        self.last_timestamp
    }

    /// No timestamp sent from now on is older than `sent`.
    pub fn restore_last_stamp(&mut self, sent: Stamp) {
        self.last_timestamp = self.last_timestamp.max(sent);
    }

    /// Hellos of `peer` are refused up to this timestamp.
    pub fn restore_stamp(&mut self, peer: PeerId, newest: Stamp) {
        self.stamps.note(peer, newest);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.newest = known.newest.max(newest);
        }
    }
}
