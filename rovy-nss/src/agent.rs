//! Asking the agent, by UDP at fc00::1: its control socket is its owner's alone, names are everybody's.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::Found;
use crate::message::{self, Said};

/// The agent's address for DNS.
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1)), 53);
/// How long an answer is waited for before the question is repeated. The agent is on this host.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often it is asked.
const TRIES: u32 = 2;

/// A socket towards the agent. `None` without one: then packets to fc00::1 would leave this host, and none is sent.
fn socket() -> Option<UdpSocket> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    // Connecting sends nothing, and takes answers from there alone. It chooses the node's address only where the route leads
    // into the agent's device.
    socket.connect(SERVICE).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V6(own) if own.octets()[0] == 0xfc => Some(socket),
        _ => None,
    }
}

/// A number that others do not know, without state of our own.
fn number() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

/// Asks, and waits for the answer.
pub(crate) fn ask<T>(labels: &[&[u8]], kind: u16, read: fn(&[u8], &[u8]) -> Said<T>) -> Found<T> {
    let Some(socket) = socket() else { return Found::Later };
    for _ in 0..TRIES {
        let question = message::question(number(), labels, kind);
        if socket.send(&question).is_err() {
            return Found::Later;
        }
        if let Some(answer) = receive(&socket, &question) {
            return match read(&answer, &question) {
                Said::Yes(value, ttl) => Found::Yes(value, ttl),
                Said::No => Found::No,
                Said::Unclear => Found::Later,
            };
        }
    }
    Found::Later
}

fn receive(socket: &UdpSocket, question: &[u8]) -> Option<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let mut buffer = vec![0; 2048];
    loop {
        // Signals of the program's own interrupt the wait, and must not prolong it. A time of zero would be for ever.
        let left = end.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left).filter(|left| !left.is_zero())).ok().filter(|()| !left.is_zero())?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let answer = buffer.get(..length)?;
                if message::answers(answer, question) {
                    return Some(answer.to_vec());
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Tells the agent that somebody is about to talk to a peer, so that it looks for a way; nothing is waited for.
pub(crate) fn announce(labels: &[&[u8]]) {
    if let Some(socket) = socket() {
        let _ = socket.send(&message::question(number(), labels, message::AAAA));
    }
}
