//! What stands in front of the handshake: any messages from any sources while time passes.

use std::net::SocketAddr;

use arbitrary::{Result, Unstructured};
use rovy_common::DropReason;
use rovy_common::hello::{self, REPLY, Sealed};
use rovy_common::maps::{Limits, Secrets};
use rovy_common::siphash::Key;
use rovy_userspace::core::{mac1, mac1_key};
use rovy_userspace::dataplane::{Admission, Gate};
use rovy_userspace::transport::Endpoint;

use crate::keys::id;

/// Messages in one run.
const STEPS: usize = 512;

fn source(u: &mut Unstructured<'_>) -> Result<Endpoint> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Endpoint::Ethernet { ifindex: u.int_in_range(1..=2)?, mac: [2, 0, 0, 0, 0, u.arbitrary()?] },
        1 => Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, u.arbitrary()?], 1312)), local: None },
        2 => {
            let mut ip = [0x20; 16];
            (ip[7], ip[15]) = (u.arbitrary()?, u.arbitrary()?);
            Endpoint::Udp { remote: SocketAddr::from((ip, u.arbitrary()?)), local: None }
        }
        _ => Endpoint::Udp { remote: SocketAddr::from((u.arbitrary::<[u8; 16]>()?, 1312)), local: None },
    })
}

fn message(u: &mut Unstructured<'_>, sealed: bool) -> Result<Vec<u8>> {
    let length = *u.choose(&[320, 320, 320, 156, 40, 300])?;
    let mut bytes = vec![0; length];
    bytes[0] = if length == 156 { 2 } else { u.int_in_range(1..=2)? };
    bytes[1] = 1;
    // The index and the start of the ephemeral key.
    u.fill_buffer(&mut bytes[4..12])?;
    if let (true, Some(mac)) = (sealed, mac1(&mac1_key(id(0).public_key()), &bytes))
        && let Some(at) = Sealed::read(&bytes).map(|_| if bytes[0] == 1 { 288 } else { 124 })
    {
        bytes[at..at + 16].copy_from_slice(&mac);
    }
    Ok(bytes)
}

/// Nothing passes without mac1; a cookie opens with the hello that asked for it and proves its source; hellos that prove
/// nothing are let through at the rate of the limits and no faster.
pub fn gate(data: &[u8]) {
    let limits = Limits::default();
    let mut gate = Gate::new(mac1_key(id(0).public_key()), limits, Secrets { current: [1, 2], previous: [3, 4] });
    let (mut now_ns, mut unproven) = (0, 0_u64);
    let mut u = Unstructured::new(data);
    let mut run = || -> Result<()> {
        for _ in 0..STEPS {
            if u.is_empty() {
                break;
            }
            now_ns += if u.ratio(1, 4)? { u.int_in_range(0..=10_000_000_000)? } else { u.int_in_range(1..=1000)? };
            let sealed = !u.ratio(1, 8)?;
            let from = source(&mut u)?;
            let mut bytes = message(&mut u, sealed)?;
            if u.ratio(1, 16)? {
                let routed = gate.routed(now_ns, u.int_in_range(0..=3)?, &bytes);
                assert!(sealed || routed.is_err(), "a message without mac1 came through");
                continue;
            }
            match gate.outermost(now_ns, &from, &bytes) {
                Ok(_) if !sealed => unreachable!("a message without mac1 came through"),
                Ok(Admission::Admit) => unproven += u64::from(bytes[0] == 1),
                Ok(Admission::Reply(reply)) => {
                    assert!(bytes[0] == 1 && reply.len() < bytes.len(), "an answer that amplifies");
                    let cookie = opened(&bytes, &reply);
                    assert!(cookie.is_some(), "its own hello does not open the reply");
                    prove(&mut bytes, cookie.unwrap_or_default());
                    let again = gate.outermost(now_ns, &from, &bytes);
                    assert!(
                        matches!(again, Ok(Admission::Admit) | Err(DropReason::RateLimited)),
                        "a source that proved itself gets {again:?}"
                    );
                }
                Err(reason) => assert!(
                    sealed != matches!(reason, DropReason::BadMac1) || matches!(reason, DropReason::BadLength),
                    "{reason:?}"
                ),
            }
            let most = (limits.load.burst_ns + now_ns) / limits.load.interval_ns + 1;
            assert!(unproven <= most, "{unproven} hellos that prove nothing in {now_ns} ns");
        }
        Ok(())
    };
    // An input that ends early is a shorter run.
    let _ = run();
}

fn opened(hello: &[u8], reply: &[u8]) -> Option<Key> {
    let mut words = [0; REPLY];
    for (word, chunk) in words.iter_mut().zip(reply.chunks_exact(8)) {
        *word = u64::from_le_bytes(*chunk.first_chunk()?);
    }
    hello::open(&Sealed::read(hello)?.mac1, &words)
}

fn prove(hello: &mut [u8], cookie: Key) {
    let Some(sealed) = Sealed::read(hello) else { return };
    let [a, b] = hello::mac(&cookie, &sealed.covered).map(u64::to_le_bytes);
    hello[304..312].copy_from_slice(&a);
    hello[312..320].copy_from_slice(&b);
}
