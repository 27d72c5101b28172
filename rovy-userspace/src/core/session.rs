//! A session: what two peers share after a handshake.

use std::net::Ipv6Addr;
use std::ops::Range;

use rovy_common::maps::HopKeys;
use rovy_common::replay::{self, Window};
use rovy_common::wire::{AEAD_TAG, Data, Echo, FLAG_VERSION_MASK, Header, MessageType, QUOTE, codec, echo};
use rovy_common::{DropReason, wire};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::action::Path;
use super::aead::{AeadKey, Suite};
use super::handshake::TransportKeys;
use super::kdf;
use super::link::{LINKS, Links, MOVE_NS};
use super::time::SECOND;
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// Age at which the initiator makes a new session.
pub(super) const REKEY_NS: u64 = 120 * SECOND;
/// Age from which a session neither sends nor receives, and its hop keys end.
pub(super) const REJECT_NS: u64 = 180 * SECOND;

/// Age at which a session ends that the other side has not confirmed.
pub(super) const HALF_OPEN_NS: u64 = 20 * SECOND;

/// How long after the last packet a session counts as busy, and its routes are kept under watch.
const BUSY_NS: u64 = 10 * SECOND;

/// Age at which a responder that was forgotten makes a new one itself, given the initiator's.
pub(super) fn rekey_responder_ns(rekey_ns: u64) -> u64 {
    rekey_ns + rekey_ns / 8 * 3
}

/// Bytes of a data message in front of its body: header and codec.
const FRONT: usize = size_of::<Data>() + 4;

pub(super) struct Session {
    pub(super) peer: PeerId,
    pub(super) remote: u32,
    pub(super) initiator: bool,
    pub(super) created_ns: u64,
    /// How the peer is reached: the endpoint of link 0, or a route.
    pub(super) path: Path,
    /// The route that data of a neighbour's session takes while the links to it do not answer.
    pub(super) detour: Option<Path>,
    /// The peer's last message over links or hops came the other way than the session says.
    pub(super) strayed: bool,
    pub(super) suite: Suite,
    /// Transit over its links goes inside its data messages.
    pub(super) sealed: bool,
    /// Tells the session's keys from those of all others of this node.
    pub(super) serial: u64,
    /// Hop keys of each link: this node's direction, the peer's direction.
    hops: [(HopKeys, HopKeys); LINKS as usize],
    pub(super) links: Links,
    send: AeadKey,
    receive: AeadKey,
    counter: u64,
    sent: Sent,
    window: Box<Window>,
    /// A data message came in and nothing has gone out since: when the first did.
    pub(super) owes_since: Option<u64>,
    /// A data message went out and nothing has come in since: when the first did.
    pub(super) waits_since: Option<u64>,
    pub(super) used: bool,
    /// When data last went out or came in.
    pub(super) busy_ns: Option<u64>,
    /// When the endpoint of link 0 last changed.
    moved_ns: Option<u64>,
    /// The peer has shown that it has the keys.
    pub(super) confirmed: bool,
    /// The peer has sent something over it.
    pub(super) heard: bool,
    /// When a data message last went out.
    pub(super) sent_ns: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        for (ours, theirs) in &mut self.hops {
            kdf::wipe(ours);
            kdf::wipe(theirs);
        }
    }
}

/// Who a session is between and how it runs.
pub(super) struct Terms {
    pub(super) peer: PeerId,
    pub(super) remote: u32,
    pub(super) initiator: bool,
    pub(super) path: Path,
    pub(super) suite: Suite,
    pub(super) sealed: bool,
}

/// Whether a message is what a session is for. Messages about links, echoes and probes keep none alive, and nobody owes an
/// answer for them that a keepalive could be.
const fn is_use(kind: u32) -> bool {
    !matches!(kind, codec::KEEPALIVE | codec::LINK | codec::ECHO | codec::PROBE)
}

/// Which counters were used lately, to within five seconds.
#[derive(Default)]
struct Sent {
    /// When the first message of this span left, and its counter.
    span: (u64, u64),
    /// The first counter of the span before.
    before: u64,
}

impl Sent {
    const SPAN_NS: u64 = 5 * SECOND;

    #[inline]
    fn note(&mut self, now_ns: u64, counter: u64) {
        let age = now_ns.saturating_sub(self.span.0);
        if age >= Self::SPAN_NS {
            self.before = if age < 2 * Self::SPAN_NS { self.span.1 } else { counter };
            self.span = (now_ns, counter);
        }
    }

    /// The first counter of the last ten seconds, given the next one.
    fn since(&self, now_ns: u64, next: u64) -> u64 {
        match now_ns.saturating_sub(self.span.0) {
            age if age < Self::SPAN_NS => self.before,
            age if age < 2 * Self::SPAN_NS => self.span.1,
            _ => next,
        }
    }
}

/// Whether a plaintext that starts so could be one of this node's, in a data message of `length` bytes.
fn sealed_so(plain: &[u8; 16], length: usize, source: Ipv6Addr) -> bool {
    let Some((kind, body)) = plain.split_first_chunk::<4>() else { return false };
    let around = FRONT + AEAD_TAG;
    match u32::from_le_bytes(*kind) {
        codec::KEEPALIVE => length == around,
        codec::ECHO => length == around + size_of::<Echo>() && matches!(body[0], echo::REQUEST | echo::REPLY),
        // Version, payload length, start of the source.
        codec::IPV6 => {
            let payload = usize::from(u16::from_be_bytes([body[4], body[5]]));
            body[0] >> 4 == 6 && around + 40 + payload == length && body.get(8..) == source.octets().get(..4)
        }
        _ => false,
    }
}

impl Session {
    pub(super) fn new(now_ns: u64, terms: Terms, keys: &TransportKeys) -> Option<Self> {
        let Terms { peer, remote, initiator, path, suite, sealed } = terms;
        Some(Self {
            peer,
            remote,
            initiator,
            created_ns: now_ns,
            path,
            detour: None,
            strayed: false,
            suite,
            sealed,
            serial: 0,
            hops: std::array::from_fn(|n| {
                (kdf::hop_keys(&keys.send, n as u32), kdf::hop_keys(&keys.receive, n as u32))
            }),
            links: Links::new(now_ns),
            send: AeadKey::new(suite, &keys.send)?,
            receive: AeadKey::new(suite, &keys.receive)?,
            counter: 0,
            sent: Sent::default(),
            window: Box::new(Window::new()),
            owes_since: None,
            waits_since: None,
            used: false,
            busy_ns: None,
            moved_ns: None,
            confirmed: initiator,
            heard: false,
            sent_ns: now_ns,
        })
    }

    /// Whether a link may be somewhere else now. Somebody who sends from two places at once moves it a few times a second,
    /// not with every packet: each move is published to the kernel.
    pub(super) fn may_move(&mut self, now_ns: u64, link: u8) -> bool {
        let moved_ns = match self.links.get_mut(link) {
            Some(link) => &mut link.moved_ns,
            None => &mut self.moved_ns,
        };
        let allowed = moved_ns.is_none_or(|t| now_ns.saturating_sub(t) >= MOVE_NS);
        if allowed {
            *moved_ns = Some(now_ns);
        }
        allowed
    }

    /// Whether packets travelled lately.
    pub(super) fn busy(&self, now_ns: u64) -> bool {
        self.busy_ns.is_some_and(|t| now_ns.saturating_sub(t) < BUSY_NS)
    }

    /// Where link 0 ends; `None` for a peer behind others.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        match &self.path {
            Path::Direct(endpoint) => Some(endpoint),
            Path::Routed { .. } => None,
        }
    }

    /// Where a link that may be sent over ends.
    pub(super) fn end_of(&self, link: u8) -> Option<Endpoint> {
        self.links.endpoint(link, self.endpoint())
    }

    /// The link that is known at exactly this endpoint.
    pub(super) fn link_at(&self, endpoint: &Endpoint) -> Option<u8> {
        if self.endpoint() == Some(endpoint) {
            return Some(0);
        }
        self.links.iter().find(|(_, l)| l.open() && l.endpoint == *endpoint).map(|(n, _)| n)
    }

    /// How data travels now: over the active link, or along the route.
    pub(super) fn way(&self) -> Path {
        self.detour.clone().unwrap_or_else(|| self.own_way())
    }

    /// The same without a detour: what is meant for the neighbour itself as a hop goes there.
    pub(super) fn own_way(&self) -> Path {
        match self.end_of(self.links.active()) {
            Some(endpoint) => Path::Direct(endpoint),
            None => self.path.clone(),
        }
    }

    /// Hop keys of a link: this node's direction, the peer's direction.
    pub(super) fn hop_keys(&self, link: u8) -> Option<(HopKeys, HopKeys)> {
        self.hops.get(usize::from(link)).copied()
    }

    /// The number of a link's keys, which no other link of any session of this node has.
    pub(super) fn key_number(&self, link: u8) -> u64 {
        self.serial * u64::from(LINKS) + u64::from(link)
    }

    pub(super) fn age(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.created_ns)
    }

    /// Whether so many messages were sent that it is time for new keys, well before none may be sent any more.
    pub(super) fn worn(&self) -> bool {
        self.counter >= self.suite.message_limit() / 8 * 7
    }

    /// When the responder is to be told once more that this node has the keys: it must know within [`HALF_OPEN_NS`], also when
    /// all else that goes over the link is transit, which neither agent sees.
    pub(super) fn repeat_ns(&self) -> Option<u64> {
        let waiting = self.initiator && !self.heard && self.sent_ns < self.created_ns + HALF_OPEN_NS;
        waiting.then_some(self.sent_ns + SECOND)
    }

    #[cfg(test)]
    pub(super) fn wear(&mut self, counter: u64) {
        self.counter = counter;
    }

    pub(super) fn expires_ns(&self) -> u64 {
        self.created_ns + REJECT_NS
    }

    /// Seals `buf[body]` where it stands, with header and codec in front and the tag behind. The message's range.
    pub(super) fn seal(
        &mut self,
        now_ns: u64,
        kind: u32,
        buf: &mut [u8],
        body: Range<usize>,
    ) -> Result<Range<usize>, DropReason> {
        if self.age(now_ns) >= REJECT_NS {
            return Err(DropReason::Expired);
        }
        if self.counter >= self.suite.message_limit() {
            return Err(DropReason::Limit);
        }
        let start = body.start.checked_sub(FRONT).ok_or(DropReason::TooBig)?;
        let end = body.end + AEAD_TAG;
        let length = u16::try_from(end - start).map_err(|_| DropReason::TooBig)?;
        let message = buf.get_mut(start..end).ok_or(DropReason::TooBig)?;
        let head = Data {
            header: Header::new(MessageType::Data, length),
            receiver_index: U32::new(self.remote),
            counter: U64::new(self.counter),
        };
        let (front, rest) = message.split_at_mut(size_of::<Data>());
        front.copy_from_slice(head.as_bytes());
        let (text, tag) = rest.split_at_mut(rest.len() - AEAD_TAG);
        text[..4].copy_from_slice(&kind.to_le_bytes());
        tag.copy_from_slice(&self.send.seal(self.counter, front, text)?);
        self.sent.note(now_ns, self.counter);
        self.counter += 1;
        // What is about one link says nothing about the way of data, which may be another.
        if kind != codec::LINK {
            self.owes_since = None;
            self.sent_ns = now_ns;
        }
        if is_use(kind) {
            self.used = true;
            self.busy_ns = Some(now_ns);
            self.waits_since.get_or_insert(now_ns);
            // Transit goes where its slot leads; its echo is told by the traffic of the slots.
            if kind == codec::IPV6 && self.detour.is_none() {
                self.links.sent(now_ns);
            }
        }
        Ok(start..end)
    }

    /// Whether a data message that starts so, from `source`, left within ten seconds. Nothing is kept of those sent: the counter
    /// gives the first bytes of the plaintext back.
    pub(super) fn sent(&self, now_ns: u64, start: &[u8; QUOTE], source: Ipv6Addr) -> bool {
        let Ok((head, text)) = Data::ref_from_prefix(start) else { return false };
        let counter = head.counter.get();
        let ours = head.header.kind == MessageType::Data as u8 && head.receiver_index.get() == self.remote;
        if !ours || counter >= self.counter || counter < self.sent.since(now_ns, self.counter) {
            return false;
        }
        let Some(mut plain) = self.send.keystream(counter) else { return false };
        plain.iter_mut().zip(text).for_each(|(p, t)| *p ^= t);
        sealed_so(&plain, usize::from(head.header.length.get()), source)
    }

    /// Opens a data message in place: its codec and where its body stands.
    pub(super) fn open(&mut self, now_ns: u64, message: &mut [u8]) -> Result<(u32, Range<usize>), DropReason> {
        if self.age(now_ns) >= REJECT_NS {
            return Err(DropReason::Expired);
        }
        let (front, text) = message.split_at_mut_checked(size_of::<Data>()).ok_or(DropReason::BadLength)?;
        let head = Data::read_from_bytes(front).map_err(|_| DropReason::BadLength)?;
        // ECN may change on the way; the AAD is the header without it.
        let mut aad = head;
        aad.header.flags &= FLAG_VERSION_MASK | wire::FLAG_LONG_LABEL;
        let counter = head.counter.get();
        let n = self.receive.open(counter, aad.as_bytes(), text)?;
        replay::accept(&*self.window, counter)?;
        let kind = text.first_chunk::<4>().map(|c| u32::from_le_bytes(*c)).ok_or(DropReason::BadLength)?;
        // An echo tells of the route that it came over: whether that is the one in use is decided there.
        if kind != codec::ECHO {
            self.waits_since = None;
        }
        self.heard = true;
        if is_use(kind) {
            self.used = true;
            self.busy_ns = Some(now_ns);
            self.owes_since.get_or_insert(now_ns);
        }
        Ok((kind, FRONT..size_of::<Data>() + n))
    }
}
