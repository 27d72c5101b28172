use proptest::prelude::*;

use super::*;

mod odd;
mod rule;

pub(super) const OWN: Ipv6Addr = Ipv6Addr::new(0xfc01, 0xaaaa, 0, 0, 0, 0, 0, 1);
pub(super) const PEER: Ipv6Addr = Ipv6Addr::new(0xfc02, 0xbbbb, 0, 0, 0, 0, 0, 2);
pub(super) const OTHER: Ipv6Addr = Ipv6Addr::new(0xfc03, 0xcccc, 0, 0, 0, 0, 0, 3);

pub(super) fn ip(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend((payload.len() as u16).to_be_bytes());
    p.extend([next, 64]);
    p.extend(source.octets());
    p.extend(destination.octets());
    p.extend(payload);
    p
}

pub(super) fn tcp_segment(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut t = [from.to_be_bytes(), to.to_be_bytes()].concat();
    t.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    t
}

pub(super) fn udp_datagram(from: u16, to: u16) -> Vec<u8> {
    let mut u = [from.to_be_bytes(), to.to_be_bytes()].concat();
    u.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    u
}

pub(super) fn icmp6(kind: u8, id: u16, rest: &[u8]) -> Vec<u8> {
    let mut m = vec![kind, 0, 0, 0];
    m.extend(id.to_be_bytes());
    m.extend([0, 1]);
    m.extend(rest);
    m
}

pub(super) fn firewall(allow: &[&str], deny: &[&str]) -> Firewall {
    let list = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<Rule>>();
    let rules = Rules::new(&list(allow), &list(deny)).unwrap();
    Firewall::new(OWN, Setup { rules, ..Setup::default() })
}

/// From a peer to this host, and back.
fn segment_in(port: (u16, u16), flags: u8) -> Vec<u8> {
    ip(PEER, OWN, 6, &tcp_segment(port.0, port.1, flags))
}

fn segment_out(port: (u16, u16), flags: u8) -> Vec<u8> {
    ip(OWN, PEER, 6, &tcp_segment(port.0, port.1, flags))
}

fn passes(f: &mut Firewall, now_ns: u64, packet: &[u8]) -> bool {
    f.incoming(now_ns, packet) == Verdict::Pass
}

const S: u8 = tcp::SYN;
const SA: u8 = tcp::SYN | tcp::ACK;
const A: u8 = tcp::ACK;
const FA: u8 = tcp::FIN | tcp::ACK;

#[test]
fn nothing_comes_in_by_itself_but_echo_requests() {
    let mut f = firewall(&[], &[]);
    for flags in 0..=255 {
        assert!(!passes(&mut f, 0, &segment_in((50_000, 80), flags)), "{flags:#x}");
    }
    assert!(!passes(&mut f, 0, &ip(PEER, OWN, 17, &udp_datagram(53, 53))));
    assert!(passes(&mut f, 0, &ip(PEER, OWN, 58, &icmp6(128, 7, b"abc"))));
    assert!(!passes(&mut f, 0, &ip(PEER, OWN, 58, &icmp6(129, 7, b"abc"))), "an answer nobody asked for");
    for protocol in (0..=255).filter(|p| ![6, 17, 58].contains(p)) {
        assert!(!passes(&mut f, 0, &ip(PEER, OWN, protocol, &[0; 64])), "{protocol}");
    }
    assert_eq!(f.counts()[0], 1);
}

#[test]
fn answers_to_what_this_host_began_come_in_for_as_long_as_their_protocol_takes() {
    let mut f = firewall(&[], &[]);
    f.outgoing(0, &segment_out((50_000, 80), S));
    assert!(!passes(&mut f, OPENING, &segment_in((80, 50_000), SA)), "too late");
    f.outgoing(0, &segment_out((50_000, 80), S));
    assert!(passes(&mut f, SECOND, &segment_in((80, 50_000), SA)));
    assert!(passes(&mut f, 23 * 3600 * SECOND, &segment_in((80, 50_000), A)), "a silent connection stays");
    assert!(!passes(&mut f, SECOND, &segment_in((80, 50_001), A)), "another port");
    assert!(!passes(&mut f, SECOND, &ip(OTHER, OWN, 6, &tcp_segment(80, 50_000, A))), "another peer");
    assert!(!passes(&mut f, SECOND, &segment_in((80, 50_000), S)), "nobody opens a connection on the back of another");

    f.outgoing(0, &ip(OWN, PEER, 17, &udp_datagram(40_000, 53)));
    assert!(passes(&mut f, 100 * SECOND, &ip(PEER, OWN, 17, &udp_datagram(53, 40_000))));
    assert!(passes(&mut f, 250 * SECOND, &ip(PEER, OWN, 17, &udp_datagram(53, 40_000))), "kept by traffic");
    assert!(!passes(&mut f, 250 * SECOND + DATAGRAMS, &ip(PEER, OWN, 17, &udp_datagram(53, 40_000))));

    f.outgoing(0, &ip(OWN, PEER, 58, &icmp6(128, 7, b"")));
    assert!(passes(&mut f, SECOND, &ip(PEER, OWN, 58, &icmp6(129, 7, b""))));
    assert!(!passes(&mut f, SECOND, &ip(PEER, OWN, 58, &icmp6(129, 8, b""))), "another echo");
    assert!(!passes(&mut f, ECHO, &ip(PEER, OWN, 58, &icmp6(129, 7, b""))));

    f.outgoing(0, &ip(OWN, PEER, 132, &[0; 12]));
    assert!(passes(&mut f, SECOND, &ip(PEER, OWN, 132, &[0; 12])), "another protocol this host speaks with this peer");
    assert!(!passes(&mut f, SECOND, &ip(OTHER, OWN, 132, &[0; 12])));
}

#[test]
fn everybody_may_answer_an_echo_to_all_neighbours() {
    let mut f = firewall(&[], &[]);
    f.outgoing(0, &ip(OWN, ALL_NODES, 58, &icmp6(128, 7, b"")));
    assert!(passes(&mut f, SECOND, &ip(PEER, OWN, 58, &icmp6(129, 7, b""))));
    assert!(passes(&mut f, SECOND, &ip(OTHER, OWN, 58, &icmp6(129, 7, b""))));
    assert!(!passes(&mut f, SECOND, &ip(OTHER, OWN, 58, &icmp6(129, 8, b""))));
}

#[test]
fn a_closed_connection_is_forgotten_soon() {
    let closed = |ends: &[(bool, u8)]| {
        let mut f = firewall(&[], &[]);
        f.outgoing(0, &segment_out((50_000, 80), S));
        assert!(passes(&mut f, 0, &segment_in((80, 50_000), SA)));
        for (out, flags) in ends {
            match out {
                true => f.outgoing(0, &segment_out((50_000, 80), *flags)),
                false => assert!(passes(&mut f, 0, &segment_in((80, 50_000), *flags))),
            }
        }
        !passes(&mut f, CLOSED, &segment_in((80, 50_000), A))
    };
    assert!(!closed(&[]) && !closed(&[(true, FA)]) && !closed(&[(false, FA)]), "one end may go on");
    assert!(closed(&[(true, FA), (false, FA)]) && closed(&[(false, tcp::RST)]) && closed(&[(true, tcp::RST)]));
}

#[test]
fn a_connection_that_a_rule_let_in_goes_on_after_the_rule_is_gone() {
    let mut f = firewall(&["/tcp/80"], &[]);
    assert!(passes(&mut f, 0, &segment_in((50_000, 80), S)));
    f.outgoing(0, &segment_out((80, 50_000), SA));
    assert!(passes(&mut f, 0, &segment_in((50_000, 80), A)));
    f.set_rules(Rules::default());
    assert!(passes(&mut f, SECOND, &segment_in((50_000, 80), A)), "it is established");
    assert!(!passes(&mut f, SECOND, &segment_in((50_001, 80), S)), "a new one");
    assert!(!passes(&mut f, SECOND, &segment_in((50_000, 80), S)), "a new one between the same ports");
}

#[test]
fn a_flood_to_an_open_port_takes_nothing_from_what_this_host_began() {
    let mut f = firewall(&["/udp/9"], &[]);
    f.outgoing(0, &ip(OWN, OTHER, 17, &udp_datagram(40_000, 53)));
    for port in 1..=65_535 {
        assert!(passes(&mut f, SECOND, &ip(PEER, OWN, 17, &udp_datagram(port, 9))));
        f.outgoing(SECOND, &ip(OWN, PEER, 17, &udp_datagram(9, port)));
    }
    assert!(passes(&mut f, SECOND, &ip(OTHER, OWN, 17, &udp_datagram(53, 40_000))));
    let [begun, let_in, ..] = f.limits();
    assert_eq!((begun.1.0, let_in.1), (1, (FLOWS, FLOWS)));
}

#[test]
fn connections_from_before_the_start_are_taken_up() {
    let mut f = firewall(&[], &[]);
    let socket = |tcp, local| sockets::Connected { tcp, local: (local, 50_000), remote: (PEER, 80) };
    f.adopt(0, &[socket(true, OWN), socket(false, OTHER)]);
    assert!(passes(&mut f, 3600 * SECOND, &segment_in((80, 50_000), A)), "the host waits for it");
    assert!(!passes(&mut f, 0, &ip(PEER, OWN, 17, &udp_datagram(80, 50_000))), "not this node's address");
    // One that nobody took up begins with what this host sends.
    assert!(!passes(&mut f, 0, &segment_in((80, 50_001), A)));
    f.outgoing(0, &segment_out((50_001, 80), tcp::RST));
    assert!(!passes(&mut f, 0, &segment_in((80, 50_001), A)), "a reset begins nothing");
    f.outgoing(0, &segment_out((50_001, 80), A));
    assert!(passes(&mut f, 0, &segment_in((80, 50_001), A)));
}

#[test]
fn errors_about_what_this_host_sent_come_in_from_whom_it_was_sent_to() {
    let mut f = firewall(&["/udp/9"], &[]);
    let sent = ip(OWN, PEER, 17, &udp_datagram(40_000, 53));
    let error = |kind, from, quoted: &[u8]| ip(from, OWN, 58, &icmp6(kind, 0, quoted));
    assert!(!passes(&mut f, 0, &error(1, PEER, &sent)), "before it was sent");
    f.outgoing(0, &sent);
    for kind in 1..=4 {
        assert!(passes(&mut f, 0, &error(kind, PEER, &sent)), "{kind}");
        assert!(!passes(&mut f, 0, &error(kind, OTHER, &sent)), "{kind}: not whom it was sent to");
    }
    assert!(!passes(&mut f, 0, &error(1, PEER, &ip(OTHER, PEER, 17, &udp_datagram(40_000, 53)))), "not this host's");
    assert!(!passes(&mut f, 0, &error(1, PEER, &ip(OWN, PEER, 17, &udp_datagram(40_001, 53)))), "never sent");
    assert!(!passes(&mut f, 0, &error(5, PEER, &sent)), "no such error");
    for cut in 0..44 {
        assert!(!passes(&mut f, 0, &error(1, PEER, &sent[..cut])), "{cut}");
    }
    let asked = ip(OWN, PEER, 58, &icmp6(128, 7, b""));
    f.outgoing(0, &asked);
    assert!(passes(&mut f, 0, &error(1, PEER, &asked)));
    f.outgoing(0, &ip(OWN, PEER, 17, &udp_datagram(9, 5_000)));
    assert!(passes(&mut f, 0, &error(1, PEER, &ip(OWN, PEER, 17, &udp_datagram(9, 5_000)))), "an answer of a server's");
}

#[test]
fn who_is_refused_is_told_where_that_is_wanted() {
    let refuse = |f: &mut Firewall, packet: &[u8]| match f.incoming(0, packet) {
        Verdict::Answer(answer) => Some(answer),
        Verdict::Drop => None,
        Verdict::Pass => panic!("it came in"),
    };
    let mut quiet = firewall(&[], &[]);
    assert_eq!(quiet.incoming(0, &segment_in((50_000, 80), S)), Verdict::Drop);

    let setup = Setup { reject: true, ..Setup::default() };
    let mut f = Firewall::new(OWN, setup);
    let reset = refuse(&mut f, &segment_in((50_000, 80), S)).unwrap();
    let seen = see(&reset).unwrap();
    assert_eq!((seen.source, seen.destination), (OWN, PEER));
    assert_eq!(seen.load, Load::Tcp { from: 80, to: 50_000, flags: tcp::RST | tcp::ACK });
    assert_eq!(crate::fc00::packet::check(&reset), Ok(()));
    assert_eq!(reset[48..52], 8_u32.to_be_bytes(), "it acknowledges the SYN");

    let told = refuse(&mut f, &ip(PEER, OWN, 17, &udp_datagram(5_000, 53))).unwrap();
    assert_eq!((told[6], &told[40..42]), (58, [1, 1].as_slice()), "administratively prohibited");
    // Nobody is told about what opens nothing: it may be a stray of a connection, or an error.
    for stray in [
        segment_in((50_000, 80), A),
        segment_in((50_000, 80), tcp::RST),
        ip(PEER, OWN, 58, &icmp6(129, 1, b"")),
        ip(PEER, OWN, 58, &icmp6(1, 0, &told)),
        ip(PEER, OWN, 58, &icmp6(134, 0, b"")),
        ip(PEER, OWN, 44, &[17, 0, 0, 8, 0, 0, 0, 1, 0, 0]),
    ] {
        assert_eq!(refuse(&mut f, &stray), None, "{stray:?}");
    }
    let answers = (0..1000).filter(|_| refuse(&mut f, &segment_in((50_000, 80), S)).is_some()).count();
    assert!(answers < 100, "{answers} at once");
    assert!(matches!(f.incoming(SECOND, &segment_in((50_000, 80), S)), Verdict::Answer(_)), "and more a second later");
}

#[test]
fn switched_off_it_keeps_out_what_belongs_on_one_link() {
    let mut f = Firewall::new(OWN, Setup { off: true, reject: true, ..Setup::default() });
    assert!(passes(&mut f, 0, &segment_in((50_000, 80), S)));
    assert!(passes(&mut f, 0, &ip(PEER, OWN, 132, &[0; 12])));
    for kind in [130, 133, 134, 135, 136, 137, 143] {
        assert_eq!(f.incoming(0, &ip(PEER, OWN, 58, &icmp6(kind, 0, &[0; 40]))), Verdict::Drop, "{kind}");
    }
    f.outgoing(0, &segment_out((50_000, 80), S));
    assert_eq!(f.limits()[0].1.0, 0, "and remembers nothing");
}

proptest! {
    /// What comes in without a rule answers something that went out, whatever the ports.
    #[test]
    fn nothing_comes_in_that_was_not_asked_for(
        out in proptest::collection::vec((0..4_u16, 0..4_u16, any::<bool>()), 0..8),
        here in 0..4_u16, there in 0..4_u16, udp in any::<bool>(),
    ) {
        let mut f = firewall(&[], &[]);
        for (here, there, udp) in &out {
            f.outgoing(0, &match udp {
                true => ip(OWN, PEER, 17, &udp_datagram(*here, *there)),
                false => segment_out((*here, *there), S),
            });
        }
        let packet = match udp {
            true => ip(PEER, OWN, 17, &udp_datagram(there, here)),
            false => segment_in((there, here), SA),
        };
        prop_assert_eq!(passes(&mut f, SECOND, &packet), out.contains(&(here, there, udp)));
    }
}
