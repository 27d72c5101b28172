//! Values of the BPF maps, and of the agent's tables that mirror them.
//!
//! Fields named `*_be` hold bytes as they stand in a packet, loaded natively; the XDP programs run on
//! little-endian machines only, others use the userspace switch. All padding is spelled out.

use crate::replay::WORDS;
use crate::siphash::Key;
use zerocopy::{Immutable, IntoBytes};

/// Version of these layouts, part of the pin path. Raise it with any change in this file or in
/// [`crate::count`]: a map of another layout would be adopted silently.
pub const LAYOUT: u32 = 7;

/// The first layout whose maps of links ([`RxLink`], [`ReplayWords`], [`TxLink`], `SLOTS`, `COUNTERS`, `PORTS`) are those of
/// [`LAYOUT`]. An agent goes on with the links of such a layout without losing a packet; whoever changes one of these maps
/// sets this to the new layout.
pub const LINKS_SINCE: u32 = 1;

/// The two keys of one direction of a link.
#[derive(Clone, Copy, PartialEq, Eq, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct HopKeys {
    /// Key of the tag.
    pub tag: Key,
    /// Key of the label mask.
    pub mask: Key,
}

impl core::fmt::Debug for HopKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HopKeys(..)")
    }
}

/// The kinds of underlay a link runs over.
pub mod kind {
    /// Raw Ethernet.
    pub const ETHERNET: u32 = 1;
    /// UDP over IPv4.
    pub const UDP4: u32 = 2;
    /// UDP over IPv6.
    pub const UDP6: u32 = 3;
}

/// The addresses a frame of a link carries on arrival.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Source {
    /// Source and destination address: IPv4 both in the first word, IPv6 two words each; zero on Ethernet.
    pub addrs_be: [u64; 4],
    /// Destination then source MAC address; the source counts on Ethernet only.
    pub macs: [u32; 3],
    /// UDP source and destination port; zero on Ethernet.
    pub ports_be: u32,
    /// One of [`kind`]; 0 means the kernel does not know the source yet and hands everything up.
    pub kind: u32,
    /// Ingress interface; counts on Ethernet only.
    pub ifindex: u32,
}

/// `RX`, array by the low bits of the receiver index: the receiving side of a link.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct RxLink {
    /// Coarse monotonic clock in ns from which the keys no longer count.
    pub expires_ns: u64,
    /// The neighbour behind the link, see [`neighbour_id`].
    pub neighbour: u64,
    /// Keys of the neighbour's direction.
    pub keys: HopKeys,
    /// Where its frames come from.
    pub source: Source,
    /// The whole receiver index; 0 for an empty entry.
    pub index: u32,
    /// This node's slot for the link.
    pub slot: u16,
    /// Bits of [`rx_flag`].
    pub flags: u16,
}

/// Flags of [`RxLink`].
pub mod rx_flag {
    /// The neighbour may not use this node for transit.
    pub const NO_TRANSIT: u16 = 1;
    /// The link is sealed: transit comes inside data messages, and no other.
    pub const SEALED: u16 = 2;
    /// What the neighbour sends through this node has a rate, see [`TransitRate`](super::TransitRate).
    pub const LIMITED: u16 = 4;
}

/// Flags of [`TxLink`].
pub mod tx_flag {
    /// The egress device transmits redirected frames and the header template is complete.
    pub const REDIRECT: u32 = 1;
    /// UDP checksums may be zero on this link.
    pub const ZERO_CHECKSUM: u32 = 2;
    /// The link is sealed: only the agent sends on it, whatever else stands here.
    pub const SEALED: u32 = 4;
}

/// Bytes of the longest header template: Ethernet, IPv6, UDP.
pub const HEADER: usize = 62;

/// `TX`: the sending side of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct TxLink {
    /// Coarse monotonic clock in ns from which the keys no longer count.
    pub expires_ns: u64,
    /// The neighbour behind the link, see [`neighbour_id`].
    pub neighbour: u64,
    /// Keys of this node's direction.
    pub keys: HopKeys,
    /// The neighbour's receiver index.
    pub index: u32,
    /// Position of the link's counter in `COUNTERS`.
    pub counter: u32,
    /// Key of the egress device in `PORTS`.
    pub port: u32,
    /// Largest IP packet, or Ethernet payload, of the egress device in bytes.
    pub mtu: u32,
    /// Bits of [`tx_flag`].
    pub flags: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// The slot this entry serves.
    pub slot: u32,
    /// Which of the neighbour's links the slot belongs to; the entry may lead over another one of them.
    pub link: u32,
    /// The frame's header with all length fields and the UDP checksum zero and the IPv4 checksum computed so.
    pub header: [u8; HEADER],
    /// Zero.
    pub padding: [u8; 2],
    /// The neighbour's public key: the next agent learns from it whose slot this is.
    pub public_key: [u8; 32],
}

impl Default for TxLink {
    fn default() -> Self {
        Self {
            expires_ns: 0,
            neighbour: 0,
            keys: HopKeys::default(),
            index: 0,
            counter: 0,
            port: 0,
            mtu: 0,
            flags: 0,
            kind: 0,
            slot: 0,
            link: 0,
            header: [0; HEADER],
            padding: [0; 2],
            public_key: [0; 32],
        }
    }
}

/// A neighbour's number in the tables: the first eight bytes of its public key. Needs no registry and survives restarts.
#[must_use]
pub fn neighbour_id(public_key: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *public_key;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// `REPLAY`, array beside `RX`: the words of a [`crate::replay`] window.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ReplayWords(pub [u64; WORDS]);

/// `CONFIG`, one entry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Config {
    /// EtherType of raw Ethernet frames, as in the packet.
    pub ethertype_be: u32,
    /// Bytes of this node's slots, 1 or 2.
    pub slot_width: u32,
    /// Key of mac1 for messages to this node.
    pub mac1: Key,
    /// How much of what is limited goes up.
    pub limits: Limits,
}

/// The rate of a token bucket.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Rate {
    /// Time in which a token grows, in ns.
    pub interval_ns: u64,
    /// Time in which a full bucket grows, in ns.
    pub burst_ns: u64,
}

impl Rate {
    /// So many a second, and so many at once.
    #[must_use]
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        let interval_ns = 1_000_000_000 / rate as u64;
        Self { interval_ns, burst_ns: interval_ns * burst as u64 }
    }
}

/// `RATES`, array by slot: how much of what comes over the slot is sent on. All zero is as much as comes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct TransitRate {
    /// Time in which the tokens of a byte grow, in 2^-16 ns.
    pub byte_cost: u64,
    /// Time in which the tokens grow that a packet takes at least, in ns.
    pub packet_ns: u64,
    /// Time in which a full bucket grows, in ns.
    pub burst_ns: u64,
    /// Position of the bucket in `SPENT`, whose words are [`crate::hello::Bucket`]s: the links of a neighbour share one.
    pub bucket: u32,
    /// Zero.
    pub padding: u32,
}

impl TransitRate {
    /// What a message of `bytes` takes from the bucket. Rounded up, so that no message is free.
    #[inline(always)]
    #[must_use]
    pub const fn toll(&self, bytes: u32) -> Rate {
        let by_size = (bytes as u64 * self.byte_cost + 0xffff) >> 16;
        let interval_ns = if by_size > self.packet_ns { by_size } else { self.packet_ns };
        Rate { interval_ns, burst_ns: self.burst_ns }
    }
}

/// How many hellos are let through, and how many refused messages go up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Limits {
    /// From one source prefix, those that prove their address and those that do not each.
    pub source: Rate,
    /// From everybody together that does not prove its address; the others are asked to. And of each other [`crate::hello::Load`].
    pub load: Rate,
    /// Refused messages of each link, so that their senders are told.
    pub refused: Rate,
}

/// Refused messages of one link whose senders are told, by kernel and agent alike.
pub const REFUSED: Rate = Rate::per_second(100, 50);

impl Default for Limits {
    fn default() -> Self {
        Self { source: Rate::per_second(20, 5), load: Rate::per_second(100, 100), refused: REFUSED }
    }
}

/// `SECRETS`, one entry: the keys of cookies. Whoever reads it while it is written takes one cookie for wrong.
#[derive(Clone, Copy, PartialEq, Eq, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct Secrets {
    /// Makes cookies.
    pub current: Key,
    /// Made them before, and is still accepted.
    pub previous: Key,
}

impl core::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// `BUCKETS`, LRU hash by [`crate::hello::Prefix`]: the buckets of a source, see [`crate::hello::Bucket`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Buckets {
    /// Of hellos that do not prove their address, then of those that do.
    pub spent_ns: [u64; 2],
}

/// `LOCALS`, hash: the addresses that are this node's. Each leads to 1, and an interface to its MAC address, read as a
/// little-endian number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(C)]
pub struct LocalKey {
    /// UDP: the IP address (IPv4 in the first four bytes, the rest zero). Ethernet: the MAC address in the first six.
    pub addr: [u8; 16],
    /// UDP: the port, as in the packet. Ethernet: the interface.
    pub port_or_ifindex: u32,
    /// One of [`kind`]; 0 for the interface itself, 255 for its being mute.
    pub kind: u32,
}

/// Stands for [`kind`] in the entry of a device that cannot send back.
const MUTE: u32 = 255;

impl LocalKey {
    /// The entry that tells an interface's MAC address.
    #[inline(always)]
    #[must_use]
    pub const fn interface(ifindex: u32) -> Self {
        Self { addr: [0; 16], port_or_ifindex: ifindex, kind: 0 }
    }

    /// The entry that is there while a device loses what its XDP program sends back.
    #[inline(always)]
    #[must_use]
    pub const fn mute(ifindex: u32) -> Self {
        Self { addr: [0; 16], port_or_ifindex: ifindex, kind: MUTE }
    }
}

/// `SLOT_STATS`, per-CPU array by slot.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct SlotStats {
    /// Authentic packets received over the link.
    pub rx_packets: u64,
    /// Their bytes, from the transit header on.
    pub rx_bytes: u64,
    /// Packets switched out over the link.
    pub tx_packets: u64,
    /// Their bytes, from the transit header on.
    pub tx_bytes: u64,
    /// Authentic packets that came over the link and were not sent on, as the neighbour may not, or not so many.
    pub refused_packets: u64,
}

const _: () = assert!(size_of::<HopKeys>() == 32);
const _: () = assert!(size_of::<Source>() == 56);
const _: () = assert!(size_of::<RxLink>() == 112);
const _: () = assert!(size_of::<TxLink>() == 176);
const _: () = assert!(size_of::<ReplayWords>() == 2056);
const _: () = assert!(size_of::<Config>() == 72);
const _: () = assert!(size_of::<Secrets>() == 32);
const _: () = assert!(size_of::<Buckets>() == 16);
const _: () = assert!(size_of::<TransitRate>() == 32);
const _: () = assert!(size_of::<LocalKey>() == 24);
const _: () = assert!(size_of::<SlotStats>() == 40);
