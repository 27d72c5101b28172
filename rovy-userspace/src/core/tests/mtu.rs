//! Messages as long as their way carries: in memory, with links that swallow what is longer.

use super::*;

const MS: u64 = SECOND / 1000;

/// Bytes that a session puts around a packet.
const AROUND: usize = 36;

fn packet(w: &World, from: usize, to: usize, length: usize) -> Vec<u8> {
    let mut p = ipv6(w.id(from), w.id(to), 0);
    p.resize(length, 0);
    p[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    for (i, byte) in p.iter_mut().enumerate().skip(40) {
        *byte = (i * 7) as u8;
    }
    p
}

/// Sends a packet of this length from node 0 to the last one; whether it was there within `ns`, as it was sent.
fn arrives(w: &mut World, length: usize, ns: u64) -> Result<bool, DropReason> {
    let to = w.nodes.len() - 1;
    let sent = packet(w, 0, to, length);
    w.arrived.clear();
    w.send_packet(0, &sent)?;
    w.settle();
    w.pass_ns(ns);
    Ok(w.arrived == [(to, sent)])
}

fn largest(w: &World) -> usize {
    let to = w.id(w.nodes.len() - 1).address();
    usize::from(w.nodes[0].largest_packet(to).expect("a session"))
}

/// a - r - b of which the link behind r carries messages of `most` bytes.
fn narrow(most: usize) -> World {
    let mut w = line();
    w.narrow.insert((1, 2), most);
    w.delay_links();
    w
}

impl World {
    /// Links that take a millisecond.
    fn delay_links(&mut self) {
        self.delays.insert((0, 1), MS);
        self.delays.insert((1, 2), MS);
    }
}

#[test]
fn what_the_first_link_does_not_take_is_refused_or_cut() {
    let mut w = line();
    w.delay_links();
    let slot = *w.sending[0].first_key_value().expect("a slot").0;
    // The receive MTU of 1400 bytes, less a transit header.
    assert_eq!(largest(&w), 1400 - 40 - AROUND);
    w.nodes[0].set_link_mtu(slot, Some(1280 - 48));
    assert_eq!(largest(&w), 1280, "less is never said");
    for (length, at_once) in [(1156, 1), (1157, 2), (1280, 2)] {
        let sent = packet(&w, 0, 2, length);
        w.send_packet(0, &sent).expect("sent");
        assert_eq!(w.late.len(), at_once, "{length}");
        assert!(w.late.iter().all(|(_, f)| f.bytes.len() <= 1280 - 48 - 40), "{length}");
        w.pass_ns(10 * MS);
        assert_eq!(w.arrived.pop(), Some((2, sent)));
    }
    assert_eq!(arrives(&mut w, 1281, 0), Err(DropReason::TooBig));
    w.nodes[0].set_link_mtu(slot, Some(9000));
    assert_eq!(largest(&w), 1400 - 40 - AROUND, "the peer takes no more");
}

#[test]
fn a_path_that_swallows_long_messages_is_found_out_and_used_as_far_as_it_carries() {
    for most in [1164, 1200, 1250, 1300, 1350] {
        let mut w = narrow(most);
        assert_eq!(arrives(&mut w, 1360 - AROUND, 10 * MS), Ok(false), "{most}: nobody knows yet");
        let mut waited = 0;
        // Programs send it again until they hear that it is too big.
        while arrives(&mut w, 1360 - AROUND, 200 * MS) != Err(DropReason::TooBig) {
            waited += 1;
            assert!(waited < 10, "{most}: {} ms", waited * 200);
        }
        // What is short enough for anything passes from now on, whole or in pieces.
        assert_eq!(arrives(&mut w, 1280, 200 * MS), Ok(true), "{most}");
        for _ in 0..40 {
            let _ = arrives(&mut w, 1280, 200 * MS);
        }
        let found = usize::from(w.nodes[0].usable_for_test(w.id(2)));
        assert!(found <= most && found + 8 >= most, "{most}: {found}");
    }
}

#[test]
fn a_path_that_carries_more_again_is_used_for_more() {
    let mut w = narrow(1200);
    for _ in 0..50 {
        let _ = arrives(&mut w, 1300, 200 * MS);
    }
    let found = usize::from(w.nodes[0].usable_for_test(w.id(2)));
    assert!(found <= 1200, "{found}");
    w.narrow.clear();
    let mut seconds = 0;
    while usize::from(w.nodes[0].usable_for_test(w.id(2))) < 1360 {
        let _ = arrives(&mut w, 1280, SECOND);
        seconds += 1;
        assert!(seconds < 70, "nobody looked");
    }
}

#[test]
fn a_path_that_shrinks_under_running_traffic_is_noticed_within_seconds() {
    let mut w = line();
    w.delay_links();
    for _ in 0..20 {
        assert_eq!(arrives(&mut w, 1300, 100 * MS), Ok(true));
    }
    w.narrow.insert((1, 2), 1250);
    let mut ms = 0;
    while arrives(&mut w, 1300, 100 * MS) != Err(DropReason::TooBig) {
        ms += 100;
        assert!(ms < 4000, "still swallowed");
    }
    assert_eq!(arrives(&mut w, 1280, 100 * MS), Ok(true));
}

#[test]
fn silence_for_all_messages_says_nothing_about_their_length() {
    let mut w = line();
    w.delay_links();
    for _ in 0..20 {
        assert_eq!(arrives(&mut w, 1300, 100 * MS), Ok(true));
    }
    let before = w.nodes[0].usable_for_test(w.id(2));
    w.dead.insert((1, 2));
    for _ in 0..40 {
        let _ = arrives(&mut w, 1300, 100 * MS);
    }
    assert_eq!(w.nodes[0].usable_for_test(w.id(2)), before);
}

#[test]
fn errors_are_believed_down_to_the_floor_and_no_traffic_stops() {
    let mut w = line();
    w.delay_links();
    let (slot, hops) = w.nodes[0].route_to(w.id(2)).expect("a route");
    assert_eq!(arrives(&mut w, 1300, 100 * MS), Ok(true));
    for (said, largest_is) in [(65535, 1324), (1360, 1324), (1340, 1304), (1350, 1304), (68, 1280), (0, 1280)] {
        let now = w.now();
        w.nodes[0].note_mtu(now, slot, &hops, said);
        assert_eq!(largest(&w), largest_is, "{said}");
        for length in [48, 1128, 1129, 1280] {
            assert_eq!(arrives(&mut w, length, 100 * MS), Ok(true), "{said} {length}");
        }
    }
    assert_eq!(w.nodes[0].usable_for_test(w.id(2)), 1164);
    // A lie ends when nobody repeats it.
    for _ in 0..700 {
        let _ = arrives(&mut w, 1280, 100 * MS);
    }
    assert_eq!(largest(&w), 1324);
}

#[test]
fn an_error_ends_a_search_at_once() {
    let mut w = narrow(1300);
    for _ in 0..9 {
        let _ = arrives(&mut w, 1320, 100 * MS);
    }
    let ((slot, hops), now) = (w.nodes[0].route_to(w.id(2)).expect("a route"), w.now());
    w.nodes[0].note_mtu(now, slot, &hops, 1300);
    w.pass_ns(100 * MS);
    assert_eq!(w.nodes[0].usable_for_test(w.id(2)), 1300);
}

#[test]
fn short_packets_and_idle_sessions_cause_no_long_echoes() {
    let mut w = line();
    w.delay_links();
    let mut longest = 0;
    for _ in 0..100 {
        let _ = w.send(0, 2, 1);
        longest = longest.max(w.late.iter().map(|(_, f)| f.bytes.len()).max().unwrap_or(0));
        w.pass_ns(50 * MS);
    }
    assert!(longest < 200, "{longest}");
    assert_eq!(arrives(&mut w, 1300, 100 * MS), Ok(true));
    let quiet = w.now_ns + 30 * SECOND;
    while w.now_ns < quiet {
        w.step(quiet);
        let length = w.late.iter().map(|(_, f)| f.bytes.len()).max().unwrap_or(0);
        assert!(w.now_ns < quiet - 15 * SECOND || length < 400, "{length} bytes on an idle session");
    }
}

#[test]
fn a_neighbours_link_is_measured_like_a_route() {
    let mut w = World::new(2);
    w.connect(0, 1);
    w.delays.insert((0, 1), MS);
    assert_eq!(arrives(&mut w, 1300, 100 * MS), Ok(true));
    w.narrow.insert((0, 1), 1200);
    let mut ms = 0;
    while arrives(&mut w, 1300, 100 * MS) != Err(DropReason::TooBig) {
        ms += 100;
        assert!(ms < 4000, "still swallowed");
    }
    for _ in 0..40 {
        assert_eq!(arrives(&mut w, 1280, 200 * MS), Ok(true));
    }
    let found = w.nodes[0].usable_for_test(w.id(1));
    assert!((1192..=1200).contains(&found), "{found}");
}

#[test]
fn pieces_that_are_lost_are_counted_once_and_forgotten() {
    let mut w = narrow(1300);
    let slot = *w.sending[0].first_key_value().expect("a slot").0;
    w.nodes[0].set_link_mtu(slot, Some(1280 - 48));
    let sent = packet(&w, 0, 2, 1280);
    w.send_packet(0, &sent).expect("sent");
    w.late.pop().expect("two pieces");
    w.pass_ns(900 * MS);
    assert!(w.drops.is_empty());
    w.pass_ns(200 * MS);
    assert_eq!(w.drops, [DropReason::Reassembly]);
    w.drops.clear();
    w.pass(5);
    assert!(w.drops.is_empty() && w.arrived.is_empty());
}

#[test]
fn a_packet_put_together_is_checked_like_any_other() {
    let mut w = line();
    let (id, now) = (w.id(2), w.now());
    let mut foreign = packet(&w, 0, 2, 100);
    foreign[8..24].copy_from_slice(&w.id(1).address().octets());
    for (bytes, reason) in [(foreign, DropReason::BadInnerSource), (vec![0x60; 20], DropReason::Malformed)] {
        w.drops.clear();
        let (first, second) = bytes.split_at(10);
        w.nodes[0].send_as(now, id, rovy_common::wire::codec::FRAGMENT, &[&[9, 0, 0, 0, 0, 0x80], first].concat());
        w.nodes[0].send_as(now, id, rovy_common::wire::codec::FRAGMENT, &[&[9, 0, 0, 0, 10, 0], second].concat());
        w.settle();
        assert_eq!(w.drops, [reason]);
    }
    for short in [vec![], vec![1; 5], vec![1, 0, 0, 0, 0, 0]] {
        w.drops.clear();
        w.nodes[0].send_as(now, id, rovy_common::wire::codec::FRAGMENT, &short);
        w.settle();
        assert_eq!(w.drops, [DropReason::BadLength]);
    }
}

#[test]
fn a_packet_that_waited_and_does_not_fit_is_given_back() {
    let mut w = World::new(2);
    let (id, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, id, vec![endpoint(1)], true);
    let sent = packet(&w, 0, 1, 1500);
    w.send_packet(0, &sent).expect("it waits");
    w.collect(0);
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected);
    assert_eq!(w.again, [sent]);
}
