//! Hellos and responses that somebody has worked on.

use std::time::Duration;

use rovy_common::wire::{HELLO_NOISE, MessageType, RESPONSE_NOISE};
use rovy_userspace::core::{Action, Node, Now, Origin, mac1, mac1_key};

use crate::keys::{endpoint, id, node};

fn now(seconds: u64) -> Now {
    let wall = Duration::from_secs(1_700_000_000 + seconds);
    Now { mono_ns: seconds * 1_000_000_000, wall }
}

/// The first message of a kind that a node sends.
fn sent(node: &mut Node, wanted: MessageType) -> Option<Vec<u8>> {
    let mut found = None;
    while let Some(action) = node.poll() {
        if let Action::Send(_, bytes) = action {
            found = found.or_else(|| Some(bytes).filter(|b| b.first() == Some(&(wanted as u8))));
        }
    }
    found
}

/// Overwrites `message` as `data` says (two bytes of place, one of value) and puts a right mac1 under it, as anybody can
/// who knows the receiver's public key.
fn work_on(message: &mut Vec<u8>, receiver: usize, data: &[u8]) {
    for change in data.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        match message.get_mut(at) {
            Some(byte) => *byte = change[2],
            None => message.truncate(message.len().saturating_sub(at % 3)),
        }
    }
    if let (Some(at), Some(mac)) = (message.len().checked_sub(32), mac1(&mac1_key(id(receiver).public_key()), message))
        && let Some(place) = message.get_mut(at..at + 16)
    {
        place.copy_from_slice(&mac);
    }
}

/// A worked-on handshake message makes a session only when its Noise part is the one the peer wrote.
pub fn handshake(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let (mut a, mut b) = (node(0), node(1));
    a.connect(now(1), id(1), vec![endpoint(1)], true);
    let Some(hello) = sent(&mut a, MessageType::Hello) else { return };
    let mut worked = hello.clone();
    if choice & 1 == 0 {
        work_on(&mut worked, 1, data);
        let same = worked.get(8..8 + HELLO_NOISE) == hello.get(8..8 + HELLO_NOISE);
        let taken = b.message(now(2), &Origin::Direct(endpoint(0)), &mut worked).is_ok();
        assert!(same || !taken, "a hello was taken that its sender did not write");
        assert_eq!(b.sessions().0, usize::from(taken), "a refused hello left a session");
        return;
    }
    assert!(b.message(now(2), &Origin::Direct(endpoint(0)), &mut worked).is_ok());
    let Some(response) = sent(&mut b, MessageType::Response) else { return };
    let mut worked = response.clone();
    work_on(&mut worked, 0, data);
    let same = worked.get(12..12 + RESPONSE_NOISE) == response.get(12..12 + RESPONSE_NOISE);
    let taken = a.message(now(3), &Origin::Direct(endpoint(1)), &mut worked).is_ok();
    assert!(same || !taken, "a response was taken that its sender did not write");
    if !taken {
        let real = a.message(now(3), &Origin::Direct(endpoint(1)), &mut response.clone());
        assert!(real.is_ok(), "after a forged response the real one is refused: {real:?}");
    }
}
