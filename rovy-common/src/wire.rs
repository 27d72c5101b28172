//! The wire format, version 1: little-endian, fixed offsets. `docs/protocol.md` is the normative text
//! and its tables are checked against these types by a test.

use crate::DropReason;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version in the low four bits of `flags`.
pub const VERSION: u8 = 1;
/// The bits of `flags` that hold the version.
pub const FLAG_VERSION_MASK: u8 = 0x0f;
/// Set on a transit message that carries a 32 byte label block.
pub const FLAG_LONG_LABEL: u8 = 0x10;
/// The ECN bits of the inner IP packet, as in the IP header, shifted to bits 5 and 6.
pub const FLAG_ECN_MASK: u8 = 0x60;

/// EtherType of raw Ethernet frames: IEEE 802 local experimental 1. Configurable.
pub const ETHERTYPE: u16 = 0x88b5;
/// Default UDP port.
pub const PORT: u16 = 1312;

/// Noise pattern of the handshake.
pub const NOISE_PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// Noise prologue of the handshake.
pub const NOISE_PROLOGUE: &[u8] = b"rovy v1";

/// Length of the payload of Noise message 1 (timestamp, TLVs, zero padding).
pub const HELLO_PAYLOAD: usize = 184;
/// Length of the payload of Noise message 2 (TLVs, zero padding).
pub const RESPONSE_PAYLOAD: usize = 64;
/// Length of Noise message 1: e 32, encrypted s 48, encrypted payload.
pub const HELLO_NOISE: usize = 32 + 48 + HELLO_PAYLOAD + 16;
/// Length of Noise message 2: e 32, encrypted payload.
pub const RESPONSE_NOISE: usize = 32 + RESPONSE_PAYLOAD + 16;
/// The bytes of a hello or response that mac1 and mac2 cover: header, index, e.
pub const MAC_COVERS: usize = 40;
/// Bytes of an AEAD tag.
pub const AEAD_TAG: usize = 16;

/// What a message is, the first byte of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MessageType {
    /// Handshake, initiator's message.
    Hello = 1,
    /// Handshake, responder's message.
    Response = 2,
    /// A cookie instead of a response, under load.
    CookieReply = 3,
    /// AEAD protected data of a session.
    Data = 4,
    /// Discovery announcement, link-local only.
    Beacon = 5,
    /// A message on its way along a label.
    Transit = 6,
    /// Echo or error; only inside transit.
    Control = 7,
}

impl MessageType {
    /// The type a byte names.
    #[inline(always)]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Response,
            3 => Self::CookieReply,
            4 => Self::Data,
            5 => Self::Beacon,
            6 => Self::Transit,
            7 => Self::Control,
            _ => return None,
        })
    }

    /// Whether the message may travel inside transit.
    #[inline(always)]
    #[must_use]
    pub const fn travels(self) -> bool {
        !matches!(self, Self::Beacon | Self::Transit)
    }

    /// The least length of a message of this type, in bytes. Hello, response, cookie reply and beacon have
    /// exactly this length.
    #[inline(always)]
    #[must_use]
    pub const fn min_len(self) -> usize {
        match self {
            Self::Hello => size_of::<Hello>(),
            Self::Response => size_of::<Response>(),
            Self::CookieReply => size_of::<CookieReply>(),
            Self::Data => size_of::<Data>() + 4 + AEAD_TAG,
            Self::Beacon => size_of::<Beacon>(),
            Self::Transit => size_of::<Transit>() + INNER_MIN,
            Self::Control => size_of::<Control>(),
        }
    }

    #[inline(always)]
    const fn fixed(self) -> bool {
        matches!(self, Self::Hello | Self::Response | Self::CookieReply | Self::Beacon)
    }
}

/// Least bytes of a message inside transit: the tag covers as many.
pub const INNER_MIN: usize = 16;

/// The four bytes every message starts with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// A [`MessageType`].
    pub kind: u8,
    /// Version, long label, ECN.
    pub flags: u8,
    /// Bytes of the whole message, this header included.
    pub length: U16,
}

impl Header {
    /// A header of version [`VERSION`] without further flags.
    #[must_use]
    pub fn new(kind: MessageType, length: u16) -> Self {
        Self { kind: kind as u8, flags: VERSION, length: U16::new(length) }
    }
}

/// Type 1.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Hello {
    /// Common header.
    pub header: Header,
    /// The index the initiator wants to be addressed by.
    pub sender_index: U32,
    /// Noise message 1, starting with the ephemeral key.
    pub noise: [u8; HELLO_NOISE],
    /// Keyed by the responder's public key.
    pub mac1: [u8; 16],
    /// Keyed by a cookie, zero without one.
    pub mac2: [u8; 16],
}

/// Type 2.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Response {
    /// Common header.
    pub header: Header,
    /// The index the responder wants to be addressed by.
    pub sender_index: U32,
    /// The initiator's index.
    pub receiver_index: U32,
    /// Noise message 2, starting with the ephemeral key.
    pub noise: [u8; RESPONSE_NOISE],
    /// Keyed by the initiator's public key.
    pub mac1: [u8; 16],
    /// Keyed by a cookie, zero without one.
    pub mac2: [u8; 16],
}

/// Type 3.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct CookieReply {
    /// Common header.
    pub header: Header,
    /// The sender index of the hello that is answered.
    pub receiver_index: U32,
    /// Random, new for each reply.
    pub nonce: [u8; 8],
    /// The cookie under a mask derived from mac1 and the nonce.
    pub cookie: [u8; 16],
    /// Authenticates the reply to who knows the hello.
    pub tag: [u8; 8],
}

/// Type 4, followed by the ciphertext of `codec:u32 || body` and its tag.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Data {
    /// Common header.
    pub header: Header,
    /// The receiver's index of the session.
    pub receiver_index: U32,
    /// AEAD nonce, and what the replay window sees.
    pub counter: U64,
}

/// Type 5.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Beacon {
    /// Common header.
    pub header: Header,
    /// UDP port the sender listens on, 0 on Ethernet.
    pub port: U16,
    /// Zero.
    pub reserved: U16,
    /// The sender's public key.
    pub public_key: [u8; 32],
}

/// Type 6, followed by the inner message. The label block is 16 bytes here; with [`FLAG_LONG_LABEL`] 16 more follow.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Transit {
    /// Common header.
    pub header: Header,
    /// The next hop's index of the link.
    pub receiver_index: U32,
    /// The link's counter.
    pub counter: U64,
    /// SipHash-2-4 over head, inner start and masked label.
    pub tag: U64,
    /// The masked label block.
    pub label: [u8; 16],
}

/// Type 7: the part that the hop tag covers and that decides alone.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Control {
    /// Common header.
    pub header: Header,
    /// What it is, one of [`control`]: echo request 1, echo reply 2, error 3, key 4.
    pub kind: u8,
    /// For an error: an [`ErrorKind`]. Zero otherwise.
    pub reason: u8,
    /// For an error of kind too big: the largest inner message that fits, in bytes. Zero otherwise.
    pub mtu: U16,
    /// Matches a reply with what it answers; for an error, binds the rest of it.
    pub nonce: U64,
}

/// Type 7, echo request: who asks, and as many bytes as the reply has.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct EchoRequest {
    /// Kind [`control::ECHO_REQUEST`].
    pub control: Control,
    /// The requester's.
    pub public_key: [u8; 32],
    /// Zero.
    pub reserved: [u8; 24],
}

/// Type 7, echo reply.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct EchoReply {
    /// Kind [`control::ECHO_REPLY`], with the nonce of the request.
    pub control: Control,
    /// The responder's.
    pub public_key: [u8; 32],
    /// The responder's slot of the link that the request came by.
    pub slot: U16,
    /// Bytes of the responder's slots: 1 or 2.
    pub width: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// Over what stands before it, but for the header.
    pub mac: [u8; 16],
}

/// Type 7, kind [`control::ERROR`]: a message was not passed on, or its session is not known where it ended.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct ErrorMessage {
    /// What all control messages start with; the nonce is made of what follows.
    pub control: Control,
    /// The label block as the hop received it, unmasked; a short one's second half is zero.
    pub label: [u8; 32],
    /// How the inner message starts.
    pub inner: [u8; QUOTE],
}

/// Bytes of an inner message that an error quotes.
pub const QUOTE: usize = 32;

/// Why a message was not passed on, as its sender is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum ErrorKind {
    /// Nobody holds the slot that the label names.
    NoSlot = 1,
    /// The link behind the slot is down.
    LinkDown = 2,
    /// It does not fit the link.
    TooBig = 3,
    /// Policy forbids it.
    NotAllowed = 4,
    /// A limit is used up, or a queue full.
    Overloaded = 5,
    /// It arrived, and its session is not known there.
    NoSession = 6,
}

impl ErrorKind {
    /// Every kind, by number.
    pub const ALL: [Self; 6] =
        [Self::NoSlot, Self::LinkDown, Self::TooBig, Self::NotAllowed, Self::Overloaded, Self::NoSession];

    /// The kind a byte names.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u8 == byte)
    }

    /// The name in counters and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSlot => "no_slot",
            Self::LinkDown => "link_down",
            Self::TooBig => "too_big",
            Self::NotAllowed => "not_allowed",
            Self::Overloaded => "overloaded",
            Self::NoSession => "no_session",
        }
    }

    /// What the sender of an authentic message is told that was dropped for this reason; `None`: nothing.
    #[inline(always)]
    #[must_use]
    pub const fn of(reason: DropReason) -> Option<Self> {
        match reason {
            DropReason::NoSlot => Some(Self::NoSlot),
            DropReason::EgressDown | DropReason::Expired => Some(Self::LinkDown),
            DropReason::TooBig => Some(Self::TooBig),
            DropReason::NotAllowed => Some(Self::NotAllowed),
            DropReason::RateLimited | DropReason::QueueFull => Some(Self::Overloaded),
            _ => None,
        }
    }

    /// Whether errors are made about inner messages that start with this byte: not about control messages, errors among
    /// them, nor about cookie replies.
    #[inline(always)]
    #[must_use]
    pub const fn about(kind: u8) -> bool {
        kind == MessageType::Hello as u8 || kind == MessageType::Response as u8 || kind == MessageType::Data as u8
    }
}

/// Kinds of a [`Control`] message.
pub mod control {
    /// Who is there?
    pub const ECHO_REQUEST: u8 = 1;
    /// The answer.
    pub const ECHO_REPLY: u8 = 2;
    /// A message could not be passed on.
    pub const ERROR: u8 = 3;
    /// The answer to a probe without a hello: a [`super::KeyAnswer`].
    pub const KEY: u8 = 4;
}

/// Type 7, kind [`control::KEY`]: who was looked for by address alone tells its key.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct KeyAnswer {
    /// What all control messages start with; the nonce is the probe's id.
    pub control: Control,
    /// The key whose hash the address is.
    pub public_key: [u8; 32],
}

/// Body of codec [`codec::PROBE`], followed by the hello when the target's key is known.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Probe {
    /// Random, new for each probe.
    pub id: U64,
    /// A pseudonym of who looks.
    pub origin: U64,
    /// The address that is looked for.
    pub target: [u8; 16],
    /// Hops the probe may still make after the receiver.
    pub hops_left: u8,
    /// Hops it made: marks in use.
    pub visited: u8,
    /// Bytes of `label` in use.
    pub label_len: u8,
    /// Zero.
    pub reserved: u8,
    /// A mark of each hop, the first one's first; the rest zero.
    pub marks: [U32; PROBE_HOPS],
    /// The way back from the receiver's sender on, the nearest hop first; the rest zero.
    pub label: [u8; PROBE_HOPS],
}

/// Hops a probe may make, and bytes of its label: those of a long label.
pub const PROBE_HOPS: usize = 30;

/// Body of codec [`codec::ECHO`].
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Echo {
    /// 1 request, 2 reply.
    pub op: u8,
    /// Zero.
    pub reserved: [u8; 7],
    /// The reply repeats the request's.
    pub nonce: U64,
}

/// What an [`Echo`] is.
pub mod echo {
    /// To be answered along the way it came.
    pub const REQUEST: u8 = 1;
    /// The answer.
    pub const REPLY: u8 = 2;
}

/// The body of a data message of codec [`codec::LINK`]: about one of the links of its session.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct LinkMessage {
    /// One of [`link_op`].
    pub op: u8,
    /// The number of the link: 0 is the one of the handshake.
    pub link: u8,
    /// Zero.
    pub reserved: U16,
    /// The sender's receiver index of the link.
    pub receiver_index: U32,
    /// What an answer repeats.
    pub nonce: U64,
}

/// What a [`LinkMessage`] says.
pub mod link_op {
    /// Open a further link.
    pub const OPEN: u8 = 1;
    /// It is open.
    pub const ACCEPT: u8 = 2;
    /// Is the link alive?
    pub const PROBE: u8 = 3;
    /// It is.
    pub const ANSWER: u8 = 4;
    /// There is no such link, or it is not wanted.
    pub const CLOSE: u8 = 5;
    /// The sender found the link dead. Sent over another one.
    pub const DOWN: u8 = 6;
}

/// What the plaintext of a data message is, its first four bytes.
pub mod codec {
    /// Nothing: proves liveness and confirms a session.
    pub const KEEPALIVE: u32 = 0;
    /// An IPv6 packet.
    pub const IPV6: u32 = 1;
    /// A message about a link: [`super::LinkMessage`].
    pub const LINK: u32 = 2;
    /// Sealed transit: a label block of 16 bytes and the inner message.
    pub const TRANSIT: u32 = 3;
    /// Sealed transit with a long label: a block of 32 bytes.
    pub const LONG_TRANSIT: u32 = 4;
    /// Whether the way the message took works: an [`super::Echo`].
    pub const ECHO: u32 = 5;
    /// Between neighbours: a search for a node, a [`super::Probe`].
    pub const PROBE: u32 = 6;
}

/// Feature bits of a handshake payload.
pub mod feature {
    /// The sender wants the link sealed; of a response: it is.
    pub const SEALED: u32 = 1;
}

/// Types of the TLVs in handshake payloads: `type:u8 | length:u8 | value`.
pub mod tlv {
    /// The rest is padding.
    pub const END: u8 = 0;
    /// Largest message the sender takes on this link, u16.
    pub const RECEIVE_MTU: u8 = 1;
    /// Feature bits, u32.
    pub const FEATURES: u8 = 2;
    /// AEAD suites on offer (message 1) or the one chosen (message 2), a byte each.
    pub const AEAD: u8 = 3;
    /// The endpoint the responder saw the hello come from: IPv6 (mapped) address 16, port u16.
    pub const OBSERVED: u8 = 4;
    /// An address the sender listens on: IPv6 (mapped) address 16, port u16.
    pub const LISTEN: u8 = 5;
}

/// Checks the four header bytes of an outermost or inner message of which `available` bytes are there.
/// `exact`: nothing may follow (UDP); otherwise what follows is padding (Ethernet).
///
/// # Errors
/// `Malformed` for fewer than four bytes or an unknown type, `BadVersion`, or `BadLength`.
#[inline(always)]
pub fn check(header: u32, available: usize, exact: bool) -> Result<(MessageType, usize), DropReason> {
    let [kind, flags, l0, l1] = header.to_le_bytes();
    if available < 4 {
        return Err(DropReason::Malformed);
    }
    if flags & FLAG_VERSION_MASK != VERSION {
        return Err(DropReason::BadVersion);
    }
    let Some(kind) = MessageType::from_byte(kind) else {
        return Err(DropReason::Malformed);
    };
    let length = u16::from_le_bytes([l0, l1]) as usize;
    let long = matches!(kind, MessageType::Transit) && flags & FLAG_LONG_LABEL != 0;
    let min = kind.min_len() + if long { 16 } else { 0 };
    if length > available || (exact && length != available) || length < min || (kind.fixed() && length != min) {
        return Err(DropReason::BadLength);
    }
    Ok((kind, length))
}

/// [`check`] on bytes.
///
/// # Errors
/// As [`check`].
pub fn check_bytes(message: &[u8], exact: bool) -> Result<(MessageType, usize), DropReason> {
    let header = message.first_chunk::<4>().ok_or(DropReason::Malformed)?;
    check(u32::from_le_bytes(*header), message.len(), exact)
}

/// The receiver index of a message that answers something of the receiver's; `None` for a type without one, or when it is
/// not there.
#[must_use]
pub fn receiver_index(kind: MessageType, message: &[u8]) -> Option<u32> {
    let at = match kind {
        MessageType::Response => 8,
        MessageType::CookieReply | MessageType::Data | MessageType::Transit => 4,
        MessageType::Hello | MessageType::Beacon | MessageType::Control => return None,
    };
    message.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

const _: () = assert!(size_of::<Header>() == 4);
const _: () = assert!(size_of::<Hello>() == 320);
const _: () = assert!(size_of::<Response>() == 156);
const _: () = assert!(size_of::<CookieReply>() == 40);
const _: () = assert!(size_of::<Data>() == 16);
const _: () = assert!(size_of::<Beacon>() == 40);
const _: () = assert!(size_of::<Transit>() == 40);
const _: () = assert!(size_of::<Control>() == 16);
const _: () = assert!(size_of::<EchoRequest>() == 72);
const _: () = assert!(size_of::<EchoReply>() == 72);
const _: () = assert!(size_of::<KeyAnswer>() == 48);
const _: () = assert!(size_of::<ErrorMessage>() == 80);
const _: () = assert!(size_of::<Probe>() == 186);
const _: () = assert!(size_of::<Echo>() == 16);
const _: () = assert!(size_of::<LinkMessage>() == 16);

#[cfg(test)]
mod tests;
