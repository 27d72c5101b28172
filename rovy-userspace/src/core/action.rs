//! What the core tells the agent to do.

use arrayvec::ArrayVec;
use rovy_common::maps::{HopKeys, TransitRate, rx_flag, tx_flag};

use super::discovery::Outlet;
use super::kdf::wipe;
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// Route bytes after the first link: at most a long label's.
pub type Hops = ArrayVec<u8, 30>;

/// How a message travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Path {
    /// Straight to an endpoint of the underlay, outermost.
    Direct(Endpoint),
    /// Inside transit: over this node's own slot, then along the hops.
    Routed {
        /// The sender's own first link.
        slot: u16,
        /// The label's route bytes.
        hops: Hops,
    },
}

/// How a message came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Outermost, from an endpoint.
    Direct(Endpoint),
    /// Out of transit whose hop tag was checked.
    Routed {
        /// The link it came over: the first slot of the way back.
        slot: u16,
        /// The rest of the way back.
        hops: Hops,
    },
}

impl Origin {
    /// The path that leads back.
    #[must_use]
    pub fn back(&self) -> Path {
        match self {
            Self::Direct(e) => Path::Direct(*e),
            Self::Routed { slot, hops } => Path::Routed { slot: *slot, hops: hops.clone() },
        }
    }
}

/// The receiving side of a link, as the tables need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkRx {
    /// This node's receiver index.
    pub index: u32,
    /// This node's slot for the link.
    pub slot: u16,
    /// Whether the neighbour may use this node for transit.
    pub transit: bool,
    /// How much transit of the neighbour is sent on; all zero without a limit.
    pub rate: TransitRate,
    /// Whether transit comes inside data messages, and no other.
    pub sealed: bool,
    /// The neighbour.
    pub peer: PeerId,
    /// Keys of the neighbour's direction.
    pub keys: HopKeys,
    /// Monotonic time in ns when the keys end.
    pub expires_ns: u64,
    /// Where the neighbour is.
    pub endpoint: Endpoint,
}

impl LinkRx {
    /// What the neighbour may do with this node, as bits of [`rx_flag`].
    #[must_use]
    pub fn flags(&self) -> u16 {
        let denied = if self.transit { 0 } else { rx_flag::NO_TRANSIT };
        let limited = if self.rate == TransitRate::default() { 0 } else { rx_flag::LIMITED };
        denied | limited | if self.sealed { rx_flag::SEALED } else { 0 }
    }
}

/// The sending side of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkTx {
    /// This node's slot for the link.
    pub slot: u16,
    /// Which of the neighbour's links the slot belongs to. While that one is dead, the rest is another link's.
    pub link: u8,
    /// Whether transit goes inside data messages, and no other.
    pub sealed: bool,
    /// The neighbour's receiver index.
    pub index: u32,
    /// The neighbour.
    pub peer: PeerId,
    /// Keys of this node's direction.
    pub keys: HopKeys,
    /// The number of the keys: whoever sends with the same keys counts on in the same counter.
    pub key: u64,
    /// Monotonic time in ns when the keys end.
    pub expires_ns: u64,
    /// Where the neighbour is.
    pub endpoint: Endpoint,
}

impl LinkTx {
    /// What the core decides of [`tx_flag`].
    #[must_use]
    pub fn flags(&self) -> u32 {
        if self.sealed { tx_flag::SEALED } else { 0 }
    }
}

impl Drop for LinkRx {
    fn drop(&mut self) {
        wipe(&mut self.keys);
    }
}

impl Drop for LinkTx {
    fn drop(&mut self) {
        wipe(&mut self.keys);
    }
}

/// One thing to do, in the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a message; a routed one still needs its transit header.
    Send(Path, Vec<u8>),
    /// Send a beacon there.
    Beacon(Outlet, Vec<u8>),
    /// Accept transit on this receiver index, or update where it comes from.
    Receive(LinkRx),
    /// Send over this slot with these keys from now on.
    Transmit(LinkTx),
    /// Messages to this receiver index are this node's from now on. Comes before what tells anybody the index.
    Expect(u32),
    /// The receiver index is no longer valid.
    Forget(u32),
    /// Nothing leads over this slot any more.
    Silence(u16),
    /// A session with this peer is ready to send.
    Connected(PeerId),
    /// The last session with this peer ended.
    Disconnected(PeerId),
    /// No larger data message than this fits a route: [`Node::path_mtu`](crate::core::Node::path_mtu) tells it from now on.
    PathMtu {
        /// The sender's own first link.
        slot: u16,
        /// The label's route bytes.
        hops: Hops,
        /// In bytes, without any transit header.
        mtu: u16,
    },
    /// An IPv6 packet that waited for a node nobody answered for: tell its sender.
    Unreachable(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::peer_ids;

    #[test]
    fn what_is_printed_for_debugging_holds_no_key() {
        let keys = HopKeys { tag: [0x1234_5678_9abc_def0; 2], mask: [0x0fed_cba9_8765_4321; 2] };
        let endpoint = Endpoint::Ethernet { ifindex: 1, mac: [2; 6] };
        let link = LinkTx {
            slot: 1,
            link: 0,
            key: 7,
            index: 2,
            peer: peer_ids(1)[0],
            keys,
            expires_ns: 3,
            endpoint,
            sealed: false,
        };
        let text = format!("{:?}", Action::Transmit(link));
        assert!(text.contains("HopKeys(..)"), "{text}");
        for word in [keys.tag[0], keys.mask[0]] {
            assert!(!text.contains(&word.to_string()) && !text.contains(&format!("{word:x}")), "{text}");
        }
    }
}
