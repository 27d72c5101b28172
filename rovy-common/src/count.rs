//! What is counted about packets, by the kernel and by the agent, under the same names everywhere.

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $name { $($(#[$vmeta])* $variant = $value,)+ }

        impl $name {
            /// Every value, in the order of the counter array.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in metrics, JSON and command output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped. A packet is counted under one reason only.
    DropReason {
        /// Too short, an unknown type, or an inner message that may not travel there.
        Malformed = 0 "malformed",
        /// The version bits are not [`crate::wire::VERSION`].
        BadVersion = 1 "bad_version",
        /// The length field contradicts the message type or the packet.
        BadLength = 2 "bad_length",
        /// No session has this receiver index.
        UnknownIndex = 3 "unknown_index",
        /// The keys of the session or link are past their time.
        Expired = 4 "expired",
        /// The tag or the AEAD does not verify.
        BadTag = 5 "bad_tag",
        /// This counter was seen before, or is too old to tell.
        Replay = 6 "replay",
        /// The label's position and length make no sense, or a slot runs over its end.
        BadLabel = 7 "bad_label",
        /// The label names a slot nobody holds.
        NoSlot = 8 "no_slot",
        /// The label leads back to the neighbour the packet came from.
        UTurn = 9 "u_turn",
        /// The packet does not fit the egress link.
        TooBig = 10 "too_big",
        /// Policy forbids it.
        NotAllowed = 11 "not_allowed",
        /// A rate limit is used up.
        RateLimited = 12 "rate_limited",
        /// The hello does not carry this node's mac1.
        BadMac1 = 13 "bad_mac1",
        /// Under load: the hello does not carry a valid mac2.
        BadMac2 = 14 "bad_mac2",
        /// The egress device cannot transmit redirected frames and no agent could do it instead.
        EgressUnsupported = 15 "egress_unsupported",
        /// The egress link is down or its next hop is not known.
        EgressDown = 16 "egress_down",
        /// The inner packet's source is not the address of the session's key.
        BadInnerSource = 17 "bad_inner_source",
        /// The inbound firewall refused it.
        Firewall = 18 "firewall",
        /// No route or session leads to the destination.
        NoRoute = 19 "no_route",
        /// A fragment could not be put together.
        Reassembly = 20 "reassembly",
        /// A queue was full.
        QueueFull = 21 "queue_full",
        /// A configured or protocol limit is reached.
        Limit = 22 "limit",
        /// The handshake message does not authenticate or repeats an old timestamp.
        BadHandshake = 23 "bad_handshake",
    }
}

reasons! {
    /// Why the kernel handed a packet up to the agent instead of switching it.
    UpReason {
        /// It is for this node.
        Local = 0 "local",
        /// Handshakes, data, beacons: what the agent handles itself.
        Control = 1 "control",
        /// The source address is not the one the link is known by.
        Moved = 2 "moved",
        /// The egress device cannot transmit redirected frames.
        EgressUnsupported = 3 "egress_unsupported",
        /// It is larger than one frame (a local GSO send seen by generic XDP, or a jumbo frame).
        Oversized = 5 "oversized",
        /// The link it goes out by is sealed: the agent seals it.
        Sealed = 6 "sealed",
        /// It was refused after authentication, and its sender may be told why: see [`crate::wire::ErrorKind`].
        Refused = 7 "refused",
    }
}

/// One counter of the per-CPU array `COUNTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
    /// The packet was dropped.
    Drop(DropReason),
    /// The packet was handed to the agent.
    Up(UpReason),
    /// The packet was switched and sent on.
    Forwarded,
    /// A cookie reply was sent, beside the hello's [`DropReason::BadMac2`].
    CookieReply,
}

/// Entries of the counter array.
pub const COUNTERS: u32 = 64;
const UP_BASE: u32 = 40;
const COOKIE_REPLY: u32 = 62;
const FORWARDED: u32 = 63;

impl Counter {
    /// Position in the counter array.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Drop(r) => r as u32,
            Self::Up(r) => UP_BASE + r as u32,
            Self::Forwarded => FORWARDED,
            Self::CookieReply => COOKIE_REPLY,
        }
    }
}

const _: () = assert!(DropReason::ALL.len() <= UP_BASE as usize);
const _: () = assert!(UP_BASE as usize + UpReason::ALL.len() <= COOKIE_REPLY as usize);
const _: () = assert!(FORWARDED < COUNTERS);
