//! What a peer with the right keys can write into a handshake, and what somebody who saw a hello can answer it with.

use std::time::Duration;

use rovy_common::hello::{self, REPLY, Sealed};
use rovy_common::wire::{
    HELLO_PAYLOAD, Header, Hello, MessageType, NOISE_PATTERN, NOISE_PROLOGUE, RESPONSE_NOISE, RESPONSE_PAYLOAD,
    Response, feature, tlv,
};
use rovy_userspace::core::{Action, Node, Now, Origin, Path, mac1, mac1_key};
use snow::{Builder, HandshakeState};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use crate::keys::{endpoint, id, node, secret};

const NOW: Now = Now { mono_ns: 2_000_000_000, wall: Duration::from_secs(1_700_000_000) };
/// The index of the peer that the target plays.
const INDEX: u32 = 0x0102_0304;
/// AES-256-GCM, as a suite.
const AES: u8 = 2;

/// The payload of message 1, of message 2, or a cookie reply, by the first byte.
pub fn payload(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let done = match choice % 3 {
        0 => offered(data),
        1 => chosen(data, usize::from(choice / 3 % 2)),
        _ => cookie(data),
    };
    assert!(done.is_some(), "the target cannot play its part");
}

/// snow for the node `n`, with an ephemeral key that is always the same.
fn noise(n: usize) -> Option<Builder<'static>> {
    let b = Builder::new(NOISE_PATTERN.parse().ok()?).prologue(NOISE_PROLOGUE).ok()?;
    let b = b.local_private_key(secret(n).bytes()).ok()?.psk(2, &[0; 32]).ok()?;
    Some(b.fixed_ephemeral_key_for_testing_only(&[0x55; 32]))
}

fn close(message: &mut [u8], receiver: usize) -> Option<()> {
    let mac = mac1(&mac1_key(id(receiver).public_key()), message)?;
    let at = message.len().checked_sub(32)?;
    message.get_mut(at..at + 16)?.copy_from_slice(&mac);
    Some(())
}

pub(crate) fn sent(node: &mut Node) -> Vec<Action> {
    std::iter::from_fn(|| node.poll()).collect()
}

/// The one message of a kind among actions.
pub(crate) fn only(actions: &[Action], kind: MessageType) -> Option<Vec<u8>> {
    let mut found = actions.iter().filter_map(|a| match a {
        Action::Send(_, bytes) if bytes.first() == Some(&(kind as u8)) => Some(bytes.clone()),
        _ => None,
    });
    found.next().filter(|_| found.next().is_none())
}

/// The value of the last TLV of a kind that has a fitting length: what the node has to have read.
fn last(kind: u8, fits: fn(usize) -> bool, mut rest: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    while let [this, len, after @ ..] = rest
        && let (Some(value), true) = (after.get(..usize::from(*len)), *this != tlv::END)
    {
        if *this == kind && fits(value.len()) {
            found = Some(value);
        }
        rest = &after[usize::from(*len)..];
    }
    found
}

/// Whether feature bits name sealed transit.
fn sealed(tlvs: &[u8]) -> bool {
    last(tlv::FEATURES, |n| n == 4, tlvs).is_some_and(|bits| bits[0] & feature::SEALED as u8 != 0)
}

/// A hello with any payload behind its timestamp: a session, in a suite that was on offer, and sealed where it says so.
fn offered(data: &[u8]) -> Option<()> {
    let mut state = noise(1)?.remote_public_key(id(0).public_key()).ok()?.build_initiator().ok()?;
    let mut payload = [0; HELLO_PAYLOAD];
    payload[..12].copy_from_slice(&rovy_userspace::core::tai64n(NOW.wall));
    let n = data.len().min(HELLO_PAYLOAD - 12);
    payload[12..12 + n].copy_from_slice(&data[..n]);
    let header = Header::new(MessageType::Hello, size_of::<Hello>() as u16);
    let mut hello = Hello { header, sender_index: U32::new(INDEX), noise: [0; _], mac1: [0; 16], mac2: [0; 16] };
    state.write_message(&payload, &mut hello.noise).ok()?;
    let mut bytes = hello.as_bytes().to_vec();
    close(&mut bytes, 0)?;
    let mut node = node(0);
    let taken = node.message(NOW, &Origin::Direct(endpoint(1)), &mut bytes);
    assert!(taken.is_ok(), "an authentic hello is refused: {taken:?}");
    let actions = sent(&mut node);
    assert!(!actions.iter().any(|a| matches!(a, Action::Connected(_))), "connected before the peer said anything");
    let response = only(&actions, MessageType::Response)?;
    let mut answer = [0; RESPONSE_PAYLOAD];
    let noise = Response::read_from_bytes(&response).ok()?.noise;
    assert_eq!(state.read_message(&noise, &mut answer).ok(), Some(RESPONSE_PAYLOAD));
    let offered = last(tlv::AEAD, |_| true, &payload[12..]).unwrap_or_default();
    let expected = if offered.contains(&AES) { AES } else { 1 };
    assert_eq!(last(tlv::AEAD, |_| true, &answer), Some(&[expected][..]), "the suite chosen");
    assert_eq!(sealed(&answer), sealed(&payload[12..]), "who asks for a sealed link gets it");
    Some(())
}

/// The other node's response to a hello of node `n`, and its side of the handshake.
pub(crate) fn answer(hello: &[u8], payload: &[u8; RESPONSE_PAYLOAD], n: usize) -> Option<(HandshakeState, Vec<u8>)> {
    let hello = Hello::read_from_bytes(hello).ok()?;
    let mut state = noise(1 - n)?.build_responder().ok()?;
    state.read_message(&hello.noise, &mut [0; HELLO_PAYLOAD]).ok()?;
    let mut response = Response {
        header: Header::new(MessageType::Response, size_of::<Response>() as u16),
        sender_index: U32::new(INDEX),
        receiver_index: hello.sender_index,
        noise: [0; RESPONSE_NOISE],
        mac1: [0; 16],
        mac2: [0; 16],
    };
    state.write_message(payload, &mut response.noise).ok()?;
    let mut bytes = response.as_bytes().to_vec();
    close(&mut bytes, n)?;
    Some((state, bytes))
}

/// A response with any payload: a session only in a suite that was on offer. Node 0 offers AES, node 1 does not.
fn chosen(data: &[u8], n: usize) -> Option<()> {
    let (mut node, other) = (node(n), 1 - n);
    node.connect(NOW, id(other), vec![endpoint(other)], true);
    let hello = only(&sent(&mut node), MessageType::Hello)?;
    let mut payload = [0; RESPONSE_PAYLOAD];
    let length = data.len().min(RESPONSE_PAYLOAD);
    payload[..length].copy_from_slice(&data[..length]);
    let (_, mut bytes) = answer(&hello, &payload, n)?;
    let taken = node.message(NOW, &Origin::Direct(endpoint(other)), &mut bytes).is_ok();
    let connected = sent(&mut node).contains(&Action::Connected(id(other)));
    assert_eq!(taken, connected);
    let suite = last(tlv::AEAD, |n| n == 1, &payload).map_or(0, |suite| suite[0]);
    assert_eq!(taken, suite == 1 || suite == AES && n == 0, "suite {suite}");
    Some(())
}

/// Cookie replies to a hello, each right but for the changes that the input names: three bytes each, place, value, and
/// whether it comes from elsewhere.
fn cookie(data: &[u8]) -> Option<()> {
    let mut node = node(0);
    node.connect(NOW, id(1), vec![endpoint(1)], true);
    let hello = only(&sent(&mut node), MessageType::Hello)?;
    let sealed = Sealed::read(&hello)?;
    let mut taken = 0;
    for change in data.chunks_exact(3).take(16) {
        let cookie = [u64::from(change[0]), u64::from(change[1])];
        let words: [u64; REPLY] = hello::reply(&sealed, &cookie, u64::from(change[2]));
        let right: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = right.clone();
        if let Some(byte) = bytes.get_mut(usize::from(change[0])) {
            *byte ^= change[1];
        }
        let from = usize::from(change[2] & 3 != 3);
        let expected = bytes == right && from == 1 && taken < 4;
        let outcome = node.message(NOW, &Origin::Direct(endpoint(from)), &mut bytes);
        assert_eq!(outcome.is_ok(), expected, "{outcome:?} to {change:?} after {taken}");
        let actions = sent(&mut node);
        if !expected {
            assert!(actions.is_empty(), "{actions:?}");
            continue;
        }
        taken += 1;
        let [Action::Send(path, again)] = &actions[..] else { return None };
        assert_eq!(*path, Path::Direct(endpoint(1)), "it goes where it went before");
        let mac2: Vec<u8> = hello::mac(&cookie, &sealed.covered).iter().flat_map(|w| w.to_le_bytes()).collect();
        assert!(again[..304] == hello[..304] && again[304..] == mac2, "the hello with its mac2");
    }
    Some(())
}
