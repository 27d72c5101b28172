//! What a peer can send that has a session and keeps to no rule: any codec, any body, from anywhere.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rovy_common::DropReason;
use rovy_common::wire::{AEAD_TAG, Data, Header, MessageType, RESPONSE_PAYLOAD, codec, feature, tlv};
use rovy_userspace::core::{Action, Inbound, Node, Now, Origin};
use rovy_userspace::fc00::packet::{destination, source};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::keys::{endpoint, id, node};
use crate::payload::{answer, only, sent};

const SECOND: u64 = 1_000_000_000;
/// Messages in one run.
const STEPS: usize = 64;
/// Actions that one message may cause.
const ACTIONS: usize = 64;
/// Bytes of a message about a link.
const LINK: usize = 16;

/// One direction's AEAD key, as docs/protocol.md derives it.
fn aead(k: &[u8; 32]) -> Option<LessSafeKey> {
    let mut mac = <Blake2sMac256 as KeyInit>::new(k.into());
    mac.update(b"rovy data v1 ChaCha20-Poly1305");
    let key: [u8; 32] = mac.finalize_fixed().into();
    UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Node 0, and what the peer, node 1, knows.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) now_ns: u64,
    /// The node's receiver index.
    index: u32,
    send: LessSafeKey,
    receive: LessSafeKey,
    counter: u64,
    /// The link is sealed.
    sealed: bool,
    connected: bool,
    /// The last message about a link that the node sent.
    heard: [u8; LINK],
}

impl World {
    pub(crate) fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: Duration::from_nanos(1_700_000_000 * SECOND + self.now_ns) }
    }

    /// The node connects, and the peer answers as it should.
    pub(crate) fn meet(sealed: bool) -> Option<Self> {
        let mut node = node(0);
        let (now_ns, wall) = (SECOND, Duration::from_secs(1_700_000_001));
        let now = Now { mono_ns: now_ns, wall };
        node.connect(now, id(1), vec![endpoint(1)], true);
        let hello = only(&sent(&mut node), MessageType::Hello)?;
        let mut payload = [0; RESPONSE_PAYLOAD];
        payload[..9].copy_from_slice(&[tlv::AEAD, 1, 1, tlv::FEATURES, 4, u8::from(sealed), 0, 0, 0]);
        const { assert!(feature::SEALED == 1) };
        let (mut state, mut bytes) = answer(&hello, &payload, 0)?;
        node.message(now, &Origin::Direct(endpoint(1)), &mut bytes).ok()?;
        let (to_responder, to_initiator) = state.dangerously_get_raw_split();
        let (send, receive) = (aead(&to_initiator)?, aead(&to_responder)?);
        let index = u32::from_le_bytes(*hello.get(4..8)?.first_chunk()?);
        let (counter, connected, heard) = (0, false, [0; LINK]);
        Some(Self { node, now_ns, index, send, receive, counter, sealed, connected, heard })
    }

    pub(crate) fn seal(&mut self, codec: u32, body: &[u8]) -> Option<Vec<u8>> {
        let length = size_of::<Data>() + 4 + body.len() + AEAD_TAG;
        let head = Data {
            header: Header::new(MessageType::Data, u16::try_from(length).ok()?),
            receiver_index: U32::new(self.index),
            counter: U64::new(self.counter),
        };
        let mut text = codec.to_le_bytes().to_vec();
        text.extend(body);
        let aad = Aad::from(head.as_bytes());
        let tag = self.send.seal_in_place_separate_tag(nonce(self.counter), aad, &mut text).ok()?;
        self.counter += 1;
        Some([head.as_bytes(), &text, tag.as_ref()].concat())
    }

    /// Reads what the node sends, as far as it is about links.
    fn hear(&mut self, message: &[u8]) {
        let Some((head, text)) = message.split_first_chunk::<{ size_of::<Data>() }>() else { return };
        let counter = head.last_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let mut text = text.to_vec();
        if head[0] == MessageType::Data as u8
            && let Ok(plain) = self.receive.open_in_place(nonce(counter), Aad::from(head), &mut text)
            && let Some((codec::LINK, body)) = plain.split_first_chunk().map(|(c, b)| (u32::from_le_bytes(*c), b))
            && let Some(body) = body.first_chunk()
        {
            self.heard = *body;
        }
    }

    fn body(&self, u: &mut Unstructured<'_>, kind: u32) -> Result<Vec<u8>> {
        Ok(match kind {
            codec::IPV6 => {
                let mut packet = vec![0; 48];
                packet[0] = 0x60;
                packet[5] = 8;
                let [from, to] = if u.ratio(3, 4)? { [1, 0] } else { [u.int_in_range(0..=2)?, u.int_in_range(0..=2)?] };
                packet[8..24].copy_from_slice(&id(from).address().octets());
                packet[24..40].copy_from_slice(&id(to).address().octets());
                packet
            }
            codec::LINK => {
                let mut body = if u.arbitrary()? { self.heard } else { [0; LINK] };
                body[0] = u.int_in_range(0..=8)?;
                if u.arbitrary()? {
                    body[1] = u.int_in_range(0..=5)?;
                    body[4..8].copy_from_slice(&u.arbitrary::<[u8; 4]>()?);
                }
                if u.ratio(1, 8)? {
                    body[2] = 1;
                }
                body[..if u.ratio(1, 16)? { 15 } else { LINK }].to_vec()
            }
            _ => {
                let length = u.int_in_range(0..=80)?;
                u.bytes(usize::min(length, u.len()))?.to_vec()
            }
        })
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.node.timeout(self.now());
        assert!(self.node.deadline() > self.now_ns, "the node wants to be called again at once");
        self.collect();
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if u.ratio(1, 4)? {
            self.pass(u.int_in_range(0..=30 * SECOND)?);
        }
        let kind =
            *u.choose(&[codec::KEEPALIVE, codec::IPV6, codec::LINK, codec::LINK, 3, 4, 5, codec::FRAGMENT, u32::MAX])?;
        let body = self.body(u, kind)?;
        let origin = match u.int_in_range(0..=9)? {
            0 => Origin::Direct(endpoint(2)),
            2 | 3 => Origin::Direct(endpoint(3)),
            1 => Origin::Routed { slot: u.int_in_range(1..=3)?, hops: [1, 2].into_iter().collect() },
            _ => Origin::Direct(endpoint(1)),
        };
        let Some(message) = self.seal(kind, &body) else { return Ok(()) };
        let mut bytes = message.clone();
        let outcome = self.node.message(self.now(), &origin, &mut bytes);
        match &outcome {
            Ok(Inbound::Packet(range)) => {
                let packet = bytes.get(range.clone()).unwrap_or_default();
                assert!(kind == codec::IPV6 && packet == body);
                assert_eq!(source(packet), Some(id(1).address()), "a source that is not the sender's");
                assert_eq!(destination(packet), Some(id(0).address()), "a packet for somebody else");
            }
            Ok(Inbound::Joined(packet)) => {
                assert!(kind == codec::FRAGMENT && packet.len() <= 1280);
                assert_eq!(source(packet), Some(id(1).address()), "a source that is not the sender's");
                assert_eq!(destination(packet), Some(id(0).address()), "a packet for somebody else");
            }
            Ok(Inbound::Sealed(sealed)) => {
                assert!(self.sealed && matches!(origin, Origin::Direct(_)), "transit that was not agreed on");
                assert_eq!(bytes.get(sealed.body.clone()), Some(&body[..]));
            }
            Ok(Inbound::Done) | Err(_) => {}
        }
        self.collect();
        let again = self.node.message(self.now(), &origin, &mut message.clone());
        assert!(again.is_err() && (outcome.is_err() || again.err() == Some(DropReason::Replay)), "taken twice: {kind}");
        self.collect();
        Ok(())
    }

    pub(crate) fn collect(&mut self) {
        let actions = sent(&mut self.node);
        assert!(actions.len() <= ACTIONS, "{} actions from one message", actions.len());
        for action in actions {
            match action {
                Action::Send(_, bytes) => self.hear(&bytes),
                Action::Receive(link) => {
                    assert!(link.peer == id(1) && link.index != 0 && link.slot != 0);
                    assert!(link.expires_ns <= self.now_ns + 180 * SECOND);
                    assert!(link.sealed || !self.sealed, "what was sealed is in the open");
                }
                Action::Transmit(link) => {
                    assert!(link.peer == id(1) && link.slot != 0);
                    assert!(link.expires_ns <= self.now_ns + 180 * SECOND);
                }
                Action::Connected(peer) => {
                    assert!(peer == id(1) && !std::mem::replace(&mut self.connected, true), "connected twice");
                }
                Action::Disconnected(peer) => {
                    assert!(peer == id(1) && std::mem::replace(&mut self.connected, false), "disconnected twice");
                }
                _ => {}
            }
        }
    }
}

/// A session in which the peer sends anything.
pub fn session(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let world = World::meet(u.arbitrary().unwrap_or_default());
    assert!(world.is_some(), "the target cannot play its part");
    let Some(mut world) = world else { return };
    world.collect();
    // The peer is reached by another way too, so that there is a link to open.
    world.node.connect(world.now(), id(1), vec![endpoint(1), endpoint(3)], true);
    world.collect();
    assert!(world.connected);
    for _ in 0..STEPS {
        if u.is_empty() || world.step(&mut u).is_err() {
            break;
        }
    }
}
