//! What happens because time passes, each with the number that the design gives it.

use super::*;
use rovy_common::wire::MessageType;

impl World {
    /// Lets `seconds` pass with no timer but those of `n`, nothing delivered; what `n` sent, and when in ns after now.
    fn alone(&mut self, n: usize, seconds: u64) -> Vec<(u64, u8)> {
        let (start, end) = (self.now_ns, self.now_ns + seconds * SECOND);
        let mut sent = Vec::new();
        while self.now_ns < end {
            self.now_ns = self.nodes[n].deadline().clamp(self.now_ns + 1, end);
            let now = self.now();
            self.nodes[n].timeout(now);
            self.collect(n);
            sent.extend(self.flights.drain(..).map(|f| (self.now_ns - start, f.bytes[0])));
        }
        sent
    }

    fn hellos_alone(&mut self, n: usize, seconds: u64) -> Vec<u64> {
        let hello = MessageType::Hello as u8;
        self.alone(n, seconds).into_iter().filter(|(_, kind)| *kind == hello).map(|(at, _)| at).collect()
    }
}

#[test]
fn the_initiator_renews_keys_after_120_s_and_the_responder_after_165() {
    for (who, seconds) in [(0, 120), (1, 165)] {
        let mut w = World::new(2);
        w.connect(0, 1);
        let hellos = w.hellos_alone(who, 179);
        let first = hellos.first().expect("a hello") / SECOND;
        assert!((seconds..=seconds + 1).contains(&first), "node {who} after {first} s");
    }
}

#[test]
fn keys_end_after_180_s() {
    let mut w = World::new(2);
    w.connect(0, 1);
    w.now_ns += 179 * SECOND;
    w.send(0, 1, 1).expect("still good");
    w.now_ns += SECOND;
    assert_eq!(w.send(0, 1, 2), Err(DropReason::Expired), "though no timer ran");
    assert_eq!(w.arrived.len(), 1);
    w.alone(1, 1);
    assert_eq!(w.nodes[1].sessions().0, 0, "and the timer takes the keys away");
}

#[test]
fn a_hello_is_repeated_after_5_s_with_jitter_and_given_up_after_90() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], false);
    w.collect(0);
    w.flights.clear();
    let hellos = w.hellos_alone(0, 600);
    let mut before = 0;
    let mut pauses = Vec::new();
    for at in &hellos {
        pauses.push(at - before);
        before = *at;
    }
    assert!(pauses.iter().all(|p| (5 * SECOND..5 * SECOND + SECOND / 2).contains(p)), "{pauses:?}");
    assert!(pauses.windows(2).any(|p| p[0] != p[1]), "no jitter: {pauses:?}");
    assert!((84 * SECOND..91 * SECOND).contains(&before), "the last after {before} ns");
    assert_eq!((w.nodes[0].peers().count(), w.nodes[0].sessions().0), (0, 0));
}

#[test]
fn a_peer_to_be_kept_is_tried_for_ever_and_ever_more_seldom() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    w.flights.clear();
    let day = w.hellos_alone(0, 86_400);
    let late = day.iter().filter(|at| **at > 43_200 * SECOND).count();
    assert!((120..=144).contains(&late), "{late} hellos in half a day");
}

#[test]
fn who_received_and_has_nothing_to_say_sends_a_keepalive_after_10_s() {
    let mut w = World::new(2);
    w.connect(0, 1);
    w.send(0, 1, 1).expect("sealed");
    let sent = w.alone(1, 60);
    assert_eq!(sent.len(), 1, "one keepalive, none for a keepalive: {sent:?}");
    assert!((10 * SECOND..12 * SECOND).contains(&sent[0].0), "{sent:?}");
    assert_eq!(sent[0].1, MessageType::Data as u8);
}

#[test]
fn data_that_nobody_answers_for_15_s_makes_a_new_session() {
    let mut w = World::new(2);
    w.connect(0, 1);
    w.send(0, 1, 1).expect("sealed");
    let hellos = w.hellos_alone(0, 17);
    assert!(hellos.first().is_some_and(|at| (15 * SECOND..17 * SECOND).contains(at)), "{hellos:?}");
}

#[test]
fn an_idle_session_is_silent_unless_keepalives_are_configured() {
    let mut w = World::new(2);
    w.connect(0, 1);
    assert_eq!(w.alone(0, 119), []);
    let mut w = World::new(2);
    let b = w.id(1);
    w.nodes[0].set_keepalive(b, Duration::from_secs(25));
    w.connect(0, 1);
    let sent = w.alone(0, 119);
    assert!(sent.iter().all(|(_, kind)| *kind == MessageType::Data as u8), "{sent:?}");
    assert_eq!(sent.iter().map(|(at, _)| at / SECOND).collect::<Vec<_>>(), [25, 50, 75, 100]);
}

#[test]
fn a_keepalive_in_time_is_no_reason_for_another() {
    let mut w = World::new(2);
    let b = w.id(1);
    w.nodes[0].set_keepalive(b, Duration::from_secs(25));
    w.connect(0, 1);
    for n in 0..10 {
        w.now_ns += 10 * SECOND;
        w.send(0, 1, n).expect("sealed");
        w.send(1, 0, n).expect("answered");
        assert_eq!(w.alone(0, 1), []);
    }
}

#[test]
fn a_session_without_nonces_left_is_renewed_before_and_never_wraps() {
    for (n, limit) in [(0, 1_u64 << 45), (1, 1 << 32)] {
        // Nodes 0 and 1 have no AES together; 1 and 3 would: the suite follows what both have.
        let aes = n == 1;
        let mut w = World::new(2);
        w.nodes = (0..2).map(|i| Node::new(NodeConfig { aes, ..config(i * 16 + 1) }, [i; 32])).collect();
        w.connect(0, 1);
        let b = w.id(1);
        assert!(w.hellos_alone(0, 2).is_empty());
        w.nodes[0].wear(b, limit / 8 * 7);
        assert_eq!(w.hellos_alone(0, 2).len(), 1, "a new session well before");
        w.nodes[0].wear(b, limit - 1);
        w.send(0, 1, 1).expect("the last one");
        assert_eq!(w.send(0, 1, 2), Err(DropReason::Limit), "no nonce is left");
        assert_eq!((w.arrived.len(), w.drops.len()), (1, 0));
    }
}

#[test]
fn keys_renewed_early_lose_nothing() {
    let mut w = line();
    for node in &mut w.nodes {
        node.set_rekey(Duration::from_secs(3));
    }
    for n in 0..200 {
        w.send(0, 2, n).expect("a session");
        w.send(2, 0, n).expect("a session");
        w.pass(1);
    }
    assert_eq!((w.arrived.len(), w.drops.len()), (400, 0));
    assert!(w.nodes.iter().all(|n| n.sessions().0 <= 6));
}

#[test]
fn an_answered_hello_that_is_never_confirmed_is_forgotten_after_20_s() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    let hello = w.flights.remove(0);
    w.deliver(hello);
    w.flights.clear();
    w.alone(1, 19);
    assert_eq!(w.nodes[1].sessions().0, 1);
    w.alone(1, 2);
    assert_eq!((w.nodes[1].sessions().0, w.nodes[1].peers().count()), (0, 0));
}

/// A pair whose first node is behind a NAT: the other sees and answers another address. Counts what the first sends in ten
/// idle minutes.
fn idle_behind(seen: Option<&str>) -> usize {
    let mut w = World::new(2);
    let (id, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, id, vec![endpoint(1)], true);
    let seen = seen.map_or(endpoint(0), |at| Endpoint::Udp { remote: at.parse().unwrap(), local: None });
    let mut sent = 0;
    // What goes back to the address that was seen arrives at node 0.
    let end = w.now_ns + 600 * SECOND;
    while w.now_ns < end {
        let now = w.now();
        for n in 0..2 {
            w.nodes[n].timeout(now);
            while let Some(action) = w.nodes[n].poll() {
                if let Action::Send(_, bytes) = action {
                    w.flights.push(Flight { to: 1 - n, origin: Origin::Direct(endpoint(n)), bytes });
                }
            }
        }
        while !w.flights.is_empty() {
            let flight = w.flights.remove(0);
            let Endpoint::Udp { remote, .. } = endpoint(1) else { return 0 };
            sent += usize::from(flight.to == 1);
            let to_inside = Endpoint::Udp { remote, local: Some([192, 0, 2, 1].into()) };
            let origin = Origin::Direct(if flight.to == 1 { seen } else { to_inside });
            let (now, mut bytes) = (w.now(), flight.bytes);
            let _ = w.nodes[flight.to].message(now, &origin, &mut bytes);
            while let Some(action) = w.nodes[flight.to].poll() {
                if let Action::Send(_, bytes) = action {
                    w.flights.push(Flight { to: 1 - flight.to, origin: origin.clone(), bytes });
                }
            }
        }
        w.now_ns += SECOND;
    }
    assert_eq!(w.state(0, 1), PeerState::Connected);
    assert_eq!(w.nodes[0].peers().next().map(|p| p.behind_nat), Some(seen != endpoint(0)));
    sent
}

#[test]
fn behind_a_nat_keepalives_hold_the_way_back_open() {
    let (open, behind) = (idle_behind(None), idle_behind(Some("203.0.113.7:40001")));
    assert!((24..=40).contains(&behind), "{behind} messages in ten minutes");
    assert!(open < 16, "{open} messages without a NAT");
}
