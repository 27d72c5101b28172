use std::net::Ipv6Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;

use super::{Answer, HEADER, NEGATIVE_TTL, Over, SERVICE, UDP_MAX, Zone, answer};
use crate::core::peer_ids;
use crate::identity::PeerId;
use crate::names::Names;

const KNOWN: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";

fn known() -> PeerId {
    KNOWN.parse().unwrap()
}

/// What a node knows: alice by name, a peer it met, itself.
fn with_zone<T>(f: impl FnOnce(&Zone<'_>) -> T) -> T {
    let ids = peer_ids(3);
    let names = Names::parse(&format!("alice {KNOWN}\nal {KNOWN}\nbob {}\n", ids[1]));
    f(&Zone { node: ids[0], names: &names, known: &|at| (at == ids[2].address()).then_some(ids[2]) })
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask_bytes(bytes: &[u8]) -> Option<(Message, Option<PeerId>)> {
    with_zone(|zone| answer(bytes, Over::Udp, zone)).map(|a| (Message::from_vec(&a.message).unwrap(), a.sought))
}

fn ask(name: &str, kind: RecordType) -> Message {
    let asked = question(name, kind);
    let (answer, _) = ask_bytes(&asked.to_vec().unwrap()).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (4711, MessageType::Response));
    assert_eq!(answer.queries, asked.queries);
    assert!(answer.metadata.recursion_desired && !answer.metadata.recursion_available && !answer.metadata.truncation);
    answer
}

fn code(name: &str, kind: RecordType) -> ResponseCode {
    ask(name, kind).metadata.response_code
}

fn address(name: &str) -> Option<Ipv6Addr> {
    let answer = ask(name, RecordType::AAAA);
    assert!(answer.metadata.authoritative || answer.metadata.response_code == ResponseCode::Refused);
    answer.answers.first().map(|r| match &r.data {
        RData::AAAA(a) => a.0,
        other => panic!("{other:?}"),
    })
}

fn pointers(at: Ipv6Addr) -> Vec<String> {
    let answer = ask(&arpa(at), RecordType::PTR);
    answer.answers.iter().map(|r| r.data.to_string()).collect()
}

fn arpa(at: Ipv6Addr) -> String {
    let nibbles = u128::from(at);
    (0..32).map(|n| format!("{:x}.", nibbles >> (4 * n) & 0xf)).collect::<String>() + "ip6.arpa."
}

/// NXDOMAIN or NODATA, with the zone's SOA and its negative TTL.
fn negative(answer: &Message, code: ResponseCode, zone: &str) {
    assert_eq!((answer.metadata.response_code, answer.metadata.authoritative), (code, true), "{answer}");
    assert!(answer.answers.is_empty());
    let soa = &answer.authorities[0];
    assert_eq!((soa.name.to_string().as_str(), soa.ttl), (zone, NEGATIVE_TTL));
    assert!(matches!(&soa.data, RData::SOA(soa) if soa.minimum == NEGATIVE_TTL));
}

#[test]
fn names_have_addresses() {
    assert_eq!(address(&format!("{KNOWN}.rovy.")), Some(known().address()));
    assert_eq!(address(&format!("{}.ROVY.", KNOWN.to_uppercase())), Some(known().address()));
    assert_eq!(address("Alice.rovy."), Some(known().address()));
    assert_eq!(address("localhost.rovy."), Some(peer_ids(1)[0].address()));
    assert_eq!(address("ns.rovy."), Some(SERVICE));
}

#[test]
fn a_lookup_says_who_is_sought() {
    let sought = |name: &str, kind| ask_bytes(&question(name, kind).to_vec().unwrap()).unwrap().1;
    assert_eq!(sought("alice.rovy.", RecordType::AAAA), Some(known()));
    assert_eq!(sought(&format!("{KNOWN}.rovy."), RecordType::AAAA), Some(known()));
    assert_eq!(sought("localhost.rovy.", RecordType::AAAA), None);
    assert_eq!(sought("nobody.rovy.", RecordType::AAAA), None);
}

#[test]
fn other_types_of_names_that_exist_are_no_data() {
    for kind in [RecordType::A, RecordType::MX, RecordType::TXT, RecordType::SOA, RecordType::HTTPS, RecordType::PTR] {
        negative(&ask("alice.rovy.", kind), ResponseCode::NoError, "rovy.");
        negative(&ask(&format!("{KNOWN}.rovy."), kind), ResponseCode::NoError, "rovy.");
    }
    negative(&ask("rovy.", RecordType::AAAA), ResponseCode::NoError, "rovy.");
    negative(&ask(&arpa(known().address()), RecordType::AAAA), ResponseCode::NoError, "c.f.ip6.arpa.");
}

#[test]
fn unknown_names_do_not_exist() {
    let other = KNOWN.replace("d26t", "d26a");
    for name in ["carol.rovy.", "www.alice.rovy.", "a.b.c.rovy.", "bafzqai.rovy.", &format!("{other}.rovy.")] {
        negative(&ask(name, RecordType::AAAA), ResponseCode::NXDomain, "rovy.");
    }
    negative(&ask(&arpa("fc01::1".parse().unwrap()), RecordType::PTR), ResponseCode::NXDomain, "c.f.ip6.arpa.");
    negative(&ask("g.c.f.ip6.arpa.", RecordType::PTR), ResponseCode::NXDomain, "c.f.ip6.arpa.");
    negative(&ask("10.c.f.ip6.arpa.", RecordType::PTR), ResponseCode::NXDomain, "c.f.ip6.arpa.");
    let below = format!("0.{}", arpa(known().address()));
    negative(&ask(&below, RecordType::PTR), ResponseCode::NXDomain, "c.f.ip6.arpa.");
}

#[test]
fn addresses_have_names() {
    let ids = peer_ids(3);
    assert_eq!(pointers(known().address()), ["alice.rovy.", "al.rovy."]);
    assert_eq!(pointers(ids[1].address()), ["bob.rovy."]);
    assert_eq!(pointers(ids[2].address()), [format!("{}.rovy.", ids[2])]);
    assert_eq!(pointers(ids[0].address()), [format!("{}.rovy.", ids[0])]);
    assert_eq!(pointers(SERVICE), ["ns.rovy."]);
    // Whoever walks down the tree must not be told that there is nothing below (RFC 8020).
    for name in ["9.c.f.ip6.arpa.", "1.2.3.c.f.ip6.arpa."] {
        negative(&ask(name, RecordType::PTR), ResponseCode::NoError, "c.f.ip6.arpa.");
    }
}

#[test]
fn zones_have_authority() {
    for zone in ["rovy.", "c.f.ip6.arpa."] {
        let soa = ask(zone, RecordType::SOA);
        assert!(matches!(&soa.answers[0].data, RData::SOA(_)), "{soa}");
        let ns = ask(zone, RecordType::NS);
        assert_eq!(ns.answers[0].data.to_string(), "ns.rovy.");
    }
}

#[test]
fn what_is_elsewhere_is_refused_and_never_asked_for() {
    for name in
        [".", "example.com.", "rovy.example.com.", "xrovy.", "d.f.ip6.arpa.", "ip6.arpa.", "1.0.0.10.in-addr.arpa."]
    {
        let answer = ask(name, RecordType::AAAA);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(!answer.metadata.authoritative && answer.authorities.is_empty() && answer.answers.is_empty());
    }
    for kind in [RecordType::ANY, RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(code("alice.rovy.", kind), ResponseCode::Refused, "{kind}");
    }
    let mut chaos = question("alice.rovy.", RecordType::AAAA);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let (answer, _) = ask_bytes(&chaos.to_vec().unwrap()).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn other_operations_are_not_implemented() {
    for op in [1, 2, 4, 5, 6, 15] {
        let mut bytes = question("alice.rovy.", RecordType::AAAA).to_vec().unwrap();
        bytes[2] = op << 3;
        let (answer, _) = ask_bytes(&bytes).unwrap();
        assert_eq!((answer.metadata.id, answer.metadata.response_code), (4711, ResponseCode::NotImp), "{op}");
        assert_eq!(u8::from(answer.metadata.op_code), op);
    }
}

#[test]
fn edns_is_answered_in_kind() {
    let with = |version, payload| {
        let mut message = question("alice.rovy.", RecordType::AAAA);
        let mut edns = Edns::new();
        edns.set_version(version).set_max_payload(payload).set_dnssec_ok(true);
        message.set_edns(edns);
        ask_bytes(&message.to_vec().unwrap()).unwrap().0
    };
    let answer = with(0, 4096);
    let edns = answer.edns.clone().unwrap();
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, UDP_MAX as u16, true));
    assert_eq!(answer.answers.len(), 1);
    let answer = with(1, 4096);
    // TSIG gave the same number another name.
    assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert!(answer.answers.is_empty() && answer.edns.is_some_and(|e| e.version() == 0));
    assert!(ask("alice.rovy.", RecordType::AAAA).edns.is_none(), "not asked for");
}

#[test]
fn what_does_not_fit_a_datagram_comes_over_tcp() {
    let id = known();
    let text: String = (0..100).map(|n| format!("{}{n} {id}\n", "x".repeat(40))).collect();
    let names = Names::parse(&text);
    let zone = Zone { node: peer_ids(1)[0], names: &names, known: &|_| None };
    let mut asked = question(&arpa(id.address()), RecordType::PTR);
    let sizes = [None, Some(100), Some(600), Some(65_535)].map(|payload| {
        asked.edns = payload.map(|p| {
            let mut edns = Edns::new();
            edns.set_max_payload(p);
            edns
        });
        let Answer { message, .. } = answer(&asked.to_vec().unwrap(), Over::Udp, &zone).unwrap();
        let read = Message::from_vec(&message).unwrap();
        assert!(read.metadata.truncation && read.answers.is_empty() && read.queries.len() == 1, "{read}");
        assert!(message.len() <= payload.map_or(512, |p| usize::from(p).clamp(512, UDP_MAX)));
        message.len()
    });
    assert!(sizes.iter().all(|n| *n < 200), "{sizes:?}");
    let Answer { message, .. } = answer(&asked.to_vec().unwrap(), Over::Tcp, &zone).unwrap();
    let read = Message::from_vec(&message).unwrap();
    assert!(!read.metadata.truncation && read.answers.len() == 64 && message.len() > UDP_MAX, "{}", message.len());
}

/// A query by hand: header counts and whatever follows.
fn raw(questions: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x67, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..6].copy_from_slice(&questions.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

const AAAA_IN: [u8; 4] = [0, 28, 0, 1];

fn labels(all: &[&[u8]]) -> Vec<u8> {
    let mut bytes: Vec<u8> = all.iter().flat_map(|l| [&[l.len() as u8], *l].concat()).collect();
    bytes.push(0);
    bytes
}

fn code_of(bytes: &[u8]) -> Option<ResponseCode> {
    ask_bytes(bytes).map(|(message, sought)| {
        assert_eq!((message.metadata.id, sought), (u16::from_be_bytes([bytes[0], bytes[1]]), None));
        message.metadata.response_code
    })
}

#[test]
fn names_that_make_no_sense_are_form_errors() {
    let long = [b'a'; 63];
    let full = labels(&[&long, &long, &long, &[b'b'; 56], b"rovy"]);
    assert_eq!(full.len(), 255);
    assert_eq!(code_of(&raw(1, &[&full[..], &AAAA_IN].concat())), Some(ResponseCode::NXDomain), "255 bytes");
    let over = labels(&[&long, &long, &long, &[b'b'; 57], b"rovy"]);
    assert_eq!(code_of(&raw(1, &[&over[..], &AAAA_IN].concat())), Some(ResponseCode::FormErr), "256 bytes");
    let wide = labels(&[&long, b"rovy"]);
    assert_eq!(code_of(&raw(1, &[&wide[..], &AAAA_IN].concat())), Some(ResponseCode::NXDomain), "a label of 63");
    for first in [64, 0x41, 0x80, 0xbf] {
        let mut label = vec![first];
        label.extend([b'a'; 64]);
        label.extend(labels(&[b"rovy"]));
        assert_eq!(
            code_of(&raw(1, &[&label[..], &AAAA_IN].concat())),
            Some(ResponseCode::FormErr),
            "label type {first}"
        );
    }
    for pointer in [[0xc0, 12], [0xc0, 13], [0xc0, 14], [0xc0, 0], [0xff, 0xff]] {
        let loops = [&[1, b'a'][..], &pointer, &AAAA_IN].concat();
        let (answer, expected) = (code_of(&raw(1, &loops)), [Some(ResponseCode::FormErr), Some(ResponseCode::Refused)]);
        assert!(expected.contains(&answer), "{pointer:?}: {answer:?}");
        assert_eq!(code_of(&raw(1, &[&pointer[..], &AAAA_IN].concat())), Some(ResponseCode::FormErr), "{pointer:?}");
    }
    let binary = labels(&[b"\0\xff.\\", b"rovy"]);
    assert_eq!(code_of(&raw(1, &[&binary[..], &AAAA_IN].concat())), Some(ResponseCode::NXDomain));
}

#[test]
fn messages_that_make_no_sense_are_form_errors_or_nothing() {
    let good = [&labels(&[b"alice", b"rovy"])[..], &AAAA_IN].concat();
    assert_eq!(ask_bytes(&raw(1, &good)).map(|(m, _)| m.metadata.response_code), Some(ResponseCode::NoError));
    assert_eq!(code_of(&raw(0, &[])), Some(ResponseCode::FormErr), "no question");
    assert_eq!(code_of(&raw(0, &good)), Some(ResponseCode::FormErr), "none said");
    assert_eq!(code_of(&raw(2, &[&good[..], &good].concat())), Some(ResponseCode::FormErr), "two questions");
    assert_eq!(code_of(&raw(65_535, &good)), Some(ResponseCode::FormErr), "many said, one there");
    for length in HEADER..HEADER + good.len() {
        let cut = &raw(1, &good)[..length];
        assert_eq!(code_of(cut), Some(ResponseCode::FormErr), "{length} bytes");
    }
    for length in 0..HEADER {
        assert_eq!(code_of(&raw(1, &good)[..length]), None, "{length} bytes of a header");
    }
    let mut response = raw(1, &good);
    response[2] |= 0x80;
    assert_eq!(code_of(&response), None, "an answer is not answered");
    let mut two_opts = raw(1, &good);
    two_opts[11] = 2;
    two_opts.extend([[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]; 2].concat());
    assert_eq!(code_of(&two_opts), Some(ResponseCode::FormErr), "EDNS twice");
    assert_eq!(code_of(&[&raw(1, &good)[..4], &[0xff; 65_000]].concat()), Some(ResponseCode::FormErr));
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer_of_their_own_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300), over in any::<bool>()) {
        let over = if over { Over::Udp } else { Over::Tcp };
        if let Some(Answer { message, .. }) = with_zone(|zone| answer(&bytes, over, zone)) {
            prop_assert_eq!(&message[..2], &bytes[..2]);
            prop_assert!(message[2] & 0x80 != 0 && bytes[2] & 0x80 == 0);
            prop_assert!(Message::from_vec(&message).is_ok());
        }
    }
}
