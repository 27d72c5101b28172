//! `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` through snow, and the messages around it.

use rovy_common::DropReason;
use rovy_common::wire::{
    HELLO_PAYLOAD, Header, Hello, MessageType, NOISE_PATTERN, NOISE_PROLOGUE, RESPONSE_NOISE, RESPONSE_PAYLOAD,
    Response,
};
use snow::{Builder, HandshakeState};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;
use zeroize::Zeroizing;

use super::payload::{self, Choice, Offer};
use super::random::Fork;
use super::time::TAI64N_LEN;
use crate::identity::SecretKey;

/// The keys a handshake ends with, one for each direction.
pub(super) struct TransportKeys {
    pub(super) send: Zeroizing<[u8; 32]>,
    pub(super) receive: Zeroizing<[u8; 32]>,
}

/// A hello that waits for its response.
pub(super) struct Initiation {
    state: HandshakeState,
}

/// A hello that was understood, not answered yet.
pub(super) struct Incoming {
    state: HandshakeState,
    /// The sender's static public key, authenticated.
    pub(super) public_key: [u8; 32],
    pub(super) timestamp: [u8; TAI64N_LEN],
    pub(super) offer: Offer,
}

fn bad<E>(_: E) -> DropReason {
    DropReason::BadHandshake
}

fn builder<'b>(rng: Fork, secret: &'b SecretKey) -> Result<Builder<'b>, DropReason> {
    let params = NOISE_PATTERN.parse().map_err(bad)?;
    let b = Builder::with_resolver(params, Box::new(rng));
    b.prologue(NOISE_PROLOGUE).and_then(|b| b.local_private_key(secret.bytes())).map_err(bad)
}

/// The two MACs close a handshake message: mac1 over its start, mac2 zero.
fn close(message: &mut [u8], receiver: &[u8; 32]) -> Option<()> {
    let mac = super::mac::mac1(&super::mac::mac1_key(receiver), message)?;
    let at = message.len().checked_sub(32)?;
    message.get_mut(at..at + 16)?.copy_from_slice(&mac);
    Some(())
}

/// Makes a hello to the owner of `remote`.
pub(super) fn initiate(
    rng: Fork,
    secret: &SecretKey,
    remote: &[u8; 32],
    psk: &[u8; 32],
    index: u32,
    timestamp: &[u8; TAI64N_LEN],
    offer: &Offer,
) -> Result<(Initiation, Vec<u8>), DropReason> {
    let b = builder(rng, secret)?;
    let b = b.remote_public_key(remote).and_then(|b| b.psk(2, psk)).map_err(bad)?;
    let mut state = b.build_initiator().map_err(bad)?;
    let mut hello = Hello {
        header: Header::new(MessageType::Hello, size_of::<Hello>() as u16),
        sender_index: U32::new(index),
        noise: [0; _],
        mac1: [0; 16],
        mac2: [0; 16],
    };
    state.write_message(&payload::hello(timestamp, offer), &mut hello.noise).map_err(bad)?;
    let mut message = hello.as_bytes().to_vec();
    close(&mut message, remote).ok_or(DropReason::BadHandshake)?;
    Ok((Initiation { state }, message))
}

/// Reads a hello: who sent it, and when.
pub(super) fn receive(rng: Fork, secret: &SecretKey, hello: &Hello) -> Result<Incoming, DropReason> {
    let mut state = builder(rng, secret)?.build_responder().map_err(bad)?;
    let mut payload = [0; HELLO_PAYLOAD];
    let n = state.read_message(&hello.noise, &mut payload).map_err(bad)?;
    let remote = state.get_remote_static().and_then(|k| <[u8; 32]>::try_from(k).ok());
    let public_key = remote.filter(|_| n == HELLO_PAYLOAD).ok_or(DropReason::BadHandshake)?;
    let (timestamp, offer) = payload::read_hello(&payload);
    Ok(Incoming { state, public_key, timestamp, offer })
}

/// Answers a hello.
pub(super) fn respond(
    incoming: Incoming,
    psk: &[u8; 32],
    index: u32,
    receiver_index: u32,
    choice: &Choice,
) -> Result<(TransportKeys, Vec<u8>), DropReason> {
    let mut state = incoming.state;
    state.set_psk(2, psk).map_err(bad)?;
    let mut response = Response {
        header: Header::new(MessageType::Response, size_of::<Response>() as u16),
        sender_index: U32::new(index),
        receiver_index: U32::new(receiver_index),
        noise: [0; RESPONSE_NOISE],
        mac1: [0; 16],
        mac2: [0; 16],
    };
    state.write_message(&payload::response(choice), &mut response.noise).map_err(bad)?;
    let mut message = response.as_bytes().to_vec();
    close(&mut message, &incoming.public_key).ok_or(DropReason::BadHandshake)?;
    let (to_responder, to_initiator) = split(&mut state);
    Ok((TransportKeys { send: to_initiator, receive: to_responder }, message))
}

/// Reads the response to a hello. A response that does not authenticate leaves the hello waiting.
pub(super) fn finish(initiation: &mut Initiation, response: &Response) -> Result<(TransportKeys, Choice), DropReason> {
    let mut payload = [0; RESPONSE_PAYLOAD];
    let n = initiation.state.read_message(&response.noise, &mut payload).map_err(bad)?;
    if n != RESPONSE_PAYLOAD {
        return Err(DropReason::BadHandshake);
    }
    let choice = payload::read_response(&payload).ok_or(DropReason::BadHandshake)?;
    let (to_responder, to_initiator) = split(&mut initiation.state);
    Ok((TransportKeys { send: to_responder, receive: to_initiator }, choice))
}

fn split(state: &mut HandshakeState) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let (a, b) = state.dangerously_get_raw_split();
    (Zeroizing::new(a), Zeroizing::new(b))
}
