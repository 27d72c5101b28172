//! Traceroute: packets with low hop limits from node 0 of a line to its end.

use super::*;
use crate::fc00::packet;
use crate::fc00::trace::{Fate, Outcome, Traces};

const MS: u64 = SECOND / 1000;

/// A line on which node 0 has a session with the last one.
fn line_of(n: usize, wide: &[usize]) -> World {
    let node = |i: usize| {
        let mut config = config(i as u8 * 16 + 1);
        if wide.contains(&i) {
            config.width = Width::Two;
        }
        Node::new(config, [i as u8; 32])
    };
    let mut w = World::of((0..n).map(node).collect());
    w.wide = wide.iter().copied().collect();
    for i in 1..n {
        w.connect(i - 1, i);
    }
    w.pass_ns(100 * MS);
    let (last, now) = (w.id(n - 1), w.now());
    w.nodes[0].connect(now, last, Vec::new(), true);
    w.pass(2);
    assert_eq!(w.state(0, n - 1), PeerState::Connected);
    w
}

/// A packet with this hop limit.
fn limited(w: &World, limit: u8, note: u8) -> Vec<u8> {
    let mut p = ipv6(w.id(0), w.id(w.nodes.len() - 1), note);
    (p[6], p[7]) = (17, limit);
    p
}

fn take(w: &mut World, traces: &mut Traces, packet: &[u8]) -> Fate {
    let now = w.now();
    let fate = traces.take(&mut w.nodes[0], now, packet);
    w.settle();
    fate
}

/// What came of it within `ns`.
fn outcomes(w: &mut World, traces: &mut Traces, ns: u64) -> Vec<Outcome> {
    let end = w.now_ns + ns;
    let mut all = Vec::new();
    while w.now_ns < end && !traces.idle() {
        let now = w.now();
        all.extend(traces.outcomes(&mut w.nodes[0], now));
        w.settle();
        w.pass_ns(10 * MS);
    }
    all
}

/// The node that sent the ICMPv6 error, which quotes `packet` as a whole.
fn answered_by(w: &World, answer: &[u8], packet: &[u8]) -> usize {
    assert!(packet::check(answer).is_ok());
    assert_eq!((answer[6], answer[40], answer[41]), (58, 3, 0), "time exceeded in transit");
    assert_eq!(&answer[48..], packet);
    assert_eq!(packet::destination(answer), Some(w.id(0).address()));
    let from = packet::source(answer).expect("a source");
    (0..w.nodes.len()).find(|n| w.id(*n).address() == from).expect("one of the line")
}

#[test]
fn each_hop_answers_by_its_own_address_and_the_destination_gets_the_packet() {
    for wide in [&[][..], &[1, 2, 3, 4], &[1, 3], &[2]] {
        let mut w = line_of(5, wide);
        let mut traces = Traces::default();
        for hop in 1..4_u8 {
            let sent = limited(&w, hop, hop);
            assert_eq!(take(&mut w, &mut traces, &sent), Fate::Stays(None), "{wide:?} {hop}");
            let all = outcomes(&mut w, &mut traces, SECOND);
            let [Outcome::Exceeded(answer)] = &all[..] else { panic!("{wide:?} {hop}: {all:?}") };
            assert_eq!(answered_by(&w, answer, &sent), usize::from(hop));
        }
        for (limit, left) in [(4, 1), (5, 2), (30, 27), (31, 31), (64, 64)] {
            let sent = limited(&w, limit, 0);
            assert_eq!(take(&mut w, &mut traces, &sent), Fate::Leaves(left), "{wide:?} {limit}");
        }
    }
}

#[test]
fn all_hop_limits_at_once_are_answered_by_the_right_hops() {
    for wide in [&[][..], &[1, 2, 3, 4, 5], &[2, 4]] {
        let mut w = line_of(6, wide);
        let mut traces = Traces::default();
        let sent: Vec<_> = (1..=6).flat_map(|hop| (0..3).map(move |n| (hop, n))).collect();
        let sent: Vec<_> = sent.into_iter().map(|(hop, n)| (hop, limited(&w, hop, n))).collect();
        let mut all = Vec::new();
        for (_, packet) in &sent {
            match take(&mut w, &mut traces, packet) {
                // The answers to the first ones tell where the last hop is.
                Fate::Leaves(left) => all.push(Outcome::Leaves(packet.clone(), left)),
                fate => assert_eq!(fate, Fate::Stays(None)),
            }
        }
        all.extend(outcomes(&mut w, &mut traces, 3 * SECOND));
        assert_eq!(all.len(), sent.len());
        for (hop, packet) in &sent {
            let found = all.iter().any(|outcome| match outcome {
                Outcome::Exceeded(answer) => {
                    *hop < 5 && answer[48..] == packet[..] && answered_by(&w, answer, packet) == usize::from(*hop)
                }
                Outcome::Leaves(kept, left) => *hop >= 5 && kept == packet && *left == hop - 4,
            });
            assert!(found, "{wide:?} hop {hop}");
        }
    }
}

#[test]
fn a_silent_hop_times_out_and_those_behind_it_answer() {
    let mut w = line_of(5, &[]);
    let mut traces = Traces::default();
    let silent = w.id(2);
    for hop in 1..4_u8 {
        let (sent, now) = (limited(&w, hop, hop), w.now());
        assert_eq!(traces.take(&mut w.nodes[0], now, &sent), Fate::Stays(None));
        let end = w.now_ns + 6 * SECOND;
        let mut all = Vec::new();
        while w.now_ns < end {
            let now = w.now();
            all.extend(traces.outcomes(&mut w.nodes[0], now));
            for n in 0..w.nodes.len() {
                w.collect(n);
            }
            // It passes on what others send, and answers nobody.
            let quiet = w.number(silent);
            w.flights.retain(|f| f.to != quiet || f.bytes[0] != 7);
            w.settle();
            w.pass_ns(50 * MS);
        }
        match hop {
            2 => assert!(all.is_empty() && traces.idle(), "{all:?}"),
            _ => {
                let [Outcome::Exceeded(answer)] = &all[..] else { panic!("{hop}: {all:?}") };
                assert_eq!(answered_by(&w, answer, &sent), usize::from(hop));
            }
        }
    }
}

#[test]
fn a_hop_limit_of_zero_ends_here() {
    let mut w = line_of(3, &[]);
    let mut traces = Traces::default();
    let sent = limited(&w, 0, 0);
    let Fate::Answered(answer) = take(&mut w, &mut traces, &sent) else { panic!("not answered") };
    assert_eq!(answered_by(&w, &answer, &sent), 0);
}

#[test]
fn what_may_not_be_answered_ends_without_a_question() {
    let mut w = line_of(4, &[]);
    let mut traces = Traces::default();
    let mut error = limited(&w, 1, 1);
    error[6] = 58;
    assert_eq!(take(&mut w, &mut traces, &error), Fate::Stays(Some(DropReason::NotAllowed)));
    // The next header is cut off behind a chain of options: it might be an error.
    let mut chain = limited(&w, 1, 0);
    chain[6] = 60;
    chain[41] = 200;
    assert_eq!(take(&mut w, &mut traces, &chain), Fate::Stays(Some(DropReason::NotAllowed)));
    // What is no packet, or has another source, is refused where all such packets are.
    let mut foreign = limited(&w, 1, 1);
    foreign[8..24].copy_from_slice(&w.id(1).address().octets());
    let mut jumbo = limited(&w, 1, 1);
    (jumbo[4], jumbo[5], jumbo[6]) = (0, 0, 0);
    for packet in [&foreign[..], &jumbo, &limited(&w, 1, 1)[..39], &[]] {
        let limit = packet.get(7).copied().unwrap_or(0);
        assert_eq!(take(&mut w, &mut traces, packet), Fate::Leaves(limit));
    }
    assert!(traces.idle());
}

#[test]
fn what_waits_is_bounded_and_so_is_its_rate() {
    let mut w = line_of(4, &[]);
    let mut traces = Traces::default();
    w.dead.insert((0, 1));
    let (mut kept, mut limited_) = (0, 0);
    for n in 0..1000_u32 {
        let sent = limited(&w, 1 + (n % 2) as u8, n as u8);
        match take(&mut w, &mut traces, &sent) {
            Fate::Stays(None) => kept += 1,
            Fate::Stays(Some(DropReason::RateLimited)) => limited_ += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((kept, limited_), (64, 936));
    assert!(outcomes(&mut w, &mut traces, 6 * SECOND).is_empty());
    assert!(traces.idle(), "none waits for ever");
}

#[test]
fn a_neighbour_is_no_hop_and_nobody_is_asked() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let mut traces = Traces::default();
    for limit in [1, 2, 30] {
        let sent = limited(&w, limit, 0);
        assert_eq!(take(&mut w, &mut traces, &sent), Fate::Leaves(limit));
    }
}

#[test]
fn a_packet_that_waits_for_a_session_comes_back_with_its_hop_limit() {
    let mut w = line_of(4, &[]);
    let (id, now) = (w.id(2), w.now());
    w.nodes[0].connect(now, id, Vec::new(), true);
    let mut sent = ipv6(w.id(0), id, 5);
    sent[7] = 1;
    w.send_packet(0, &sent).expect("it waits");
    w.pass(1);
    assert_eq!(w.again, [sent]);
}
