//! Names: questions, packets to fc00::1, and the file of names.

use std::net::Ipv6Addr;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use rovy_userspace::fc00::dns::{Over, SERVICE, UDP_MAX, Zone, answer};
use rovy_userspace::fc00::stack::{OUTGOING, QUESTION_MAX, Service, Stack};
use rovy_userspace::names::{MOST, Names};

use crate::keys::id;

/// Bytes of an IPv6 header.
const HEADER: usize = 40;
/// Packets that one packet may bring about: an answer, an acknowledgement, an error and a goodbye.
const ANSWERS: usize = 4;
/// Next headers behind which a segment may be: hop-by-hop options and TCP. It may let go all that a connection holds, in
/// segments as short as the other side wants.
const STREAM: [u8; 2] = [0, 6];
/// Times that the stack is called before it has to be quiet.
const CALLS: usize = 10_000;

/// By the first byte: a question over UDP or TCP, packets, or a file.
pub fn dns(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    match choice % 4 {
        0 => question(data, Over::Udp),
        1 => question(data, Over::Tcp),
        2 => packets(data),
        _ => file(&String::from_utf8_lossy(data)),
    }
}

fn names() -> Names {
    Names::parse(&format!("alice {0}\nal {0}\nbob {1}\n", id(1), id(2)))
}

fn reply(data: &[u8], over: Over, names: &Names) -> Option<Vec<u8>> {
    let zone = Zone { node: id(0), names, known: &|at| (at == id(2).address()).then(|| id(2)) };
    let answer = answer(data, over, &zone)?;
    assert!(answer.sought.is_none_or(|peer| peer == id(1) || peer == id(2) || contains(data, &peer.to_string())));
    Some(answer.message)
}

/// Whether bytes hold a text, in any case.
fn contains(data: &[u8], text: &str) -> bool {
    data.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

/// An answer belongs to its question, can be read, fits, and says nothing about what is elsewhere.
fn question(data: &[u8], over: Over) {
    let Some(bytes) = reply(data, over, &names()) else {
        return assert!(data.len() < 12 || data[2] & 0x80 != 0, "a question without an answer");
    };
    assert_eq!(bytes[..2], data[..2]);
    assert!(data[2] & 0x80 == 0, "an answer was answered");
    assert!(over == Over::Tcp || bytes.len() <= UDP_MAX, "{} bytes", bytes.len());
    let said = Message::from_vec(&bytes);
    let Ok(said) = said else { return assert!(said.is_ok(), "the answer cannot be read: {said:?}") };
    assert_eq!(said.metadata.message_type, MessageType::Response);
    let ours = |name: &hickory_proto::rr::Name| {
        let name = name.to_ascii().to_ascii_lowercase();
        name == "rovy." || name.ends_with(".rovy.") || name.ends_with("c.f.ip6.arpa.")
    };
    let records = said.answers.iter().chain(&said.authorities).chain(&said.additionals);
    assert!(records.clone().all(|r| ours(&r.name)), "{said}");
    if matches!(said.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        assert!(said.queries.len() == 1 && ours(said.queries[0].name()), "{said}");
    } else {
        assert_eq!(records.count(), 0, "{said}");
    }
}

/// Packets, each behind its length in two bytes, while time passes.
fn packets(data: &[u8]) {
    let (names, mut stack, mut now_ns) = (names(), Stack::new(7, 0), 0);
    let mut rest = data;
    while let Some((head, more)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([head[0], head[1]])) % 1400;
        now_ns += u64::from(head[2]) * 10_000_000;
        let payload = more.get(..length).unwrap_or(more);
        rest = more.get(length..).unwrap_or_default();
        let mut asked = 0;
        let mut service = |question: &[u8], over| {
            asked += question.len();
            assert!(question.len() <= QUESTION_MAX);
            reply(question, over, &names)
        };
        // The first byte is the next header, so that what follows is soon a datagram or a segment.
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, payload.first().copied().unwrap_or(17), 64];
        let body = payload.get(1..).unwrap_or_default();
        packet[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
        packet.extend(id(0).address().octets());
        packet.extend(SERVICE.octets());
        packet.extend(body);
        // What time alone brings about is no answer to the packet.
        settle(&mut stack, now_ns, &mut service);
        let most = if STREAM.contains(&packet[6]) { OUTGOING + 1 } else { ANSWERS };
        stack.packet(now_ns, &packet, &mut service);
        let out = outgoing(&mut stack);
        assert!(out <= most, "{out} packets for one");
        settle(&mut stack, now_ns, &mut service);
    }
}

/// Calls the stack as the agent does, until it waits for what is to come.
fn settle(stack: &mut Stack, now_ns: u64, service: Service<'_>) {
    for _ in 0..CALLS {
        if stack.deadline(now_ns) > now_ns {
            return;
        }
        stack.poll(now_ns, service);
        let out = outgoing(stack);
        assert!(out <= OUTGOING, "{out} packets at once");
    }
    assert!(stack.deadline(now_ns) > now_ns, "the stack wants to be called again and again");
}

/// Takes what waits for the host: how many packets.
fn outgoing(stack: &mut Stack) -> usize {
    let mut count = 0;
    while let Some(packet) = stack.outgoing() {
        let at = |n: usize| packet[n..n + 16].first_chunk::<16>().map(|a| Ipv6Addr::from(*a));
        assert!((HEADER..=1280).contains(&packet.len()) && at(8) == Some(SERVICE), "{packet:?}");
        count += 1;
    }
    count
}

/// What is read is written so that it reads the same, and changes touch nothing else.
fn file(text: &str) {
    let all = Names::parse(text);
    assert!(all.len() <= MOST && all.warnings().len() <= text.lines().count());
    assert!(all.iter().all(|(name, peer)| all.get(name.as_str()) == Some(peer)));
    let Ok(alice) = "alice".parse() else { return };
    let Ok(with) = all.with(&alice, id(1)) else { return };
    assert_eq!(with.get("ALICE"), Some(id(1)));
    let without = with.without(&alice);
    assert!(without.as_ref().is_some_and(|names| names.get("alice").is_none()), "it was just added");
    let Some(without) = without else { return };
    let mut before: Vec<_> = all.iter().filter(|(name, _)| **name != alice).collect();
    before.sort();
    let mut after: Vec<_> = without.iter().collect();
    after.sort();
    assert_eq!(before, after);
    assert_eq!(Names::parse(without.text()).text(), without.text());
}
