//! Which hellos and responses count.

use super::*;

#[test]
fn a_replayed_hello_changes_nothing() {
    let mut w = World::new(2);
    let hello = w.connect_overheard(0, 1);
    w.pass(6);
    let sessions = w.nodes[1].sessions();
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(5)), bytes: hello });
    assert_eq!(w.drops, [DropReason::BadHandshake]);
    assert_eq!(w.nodes[1].sessions(), sessions);
    w.send(0, 1, 3).expect("sealed");
    assert_eq!(w.arrived.len(), 1);
}

#[test]
fn copies_of_a_hello_get_the_same_response_a_few_times() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    let hello = w.flights.remove(0).bytes;
    let mut responses = Vec::new();
    for _ in 0..20 {
        let mut bytes = hello.clone();
        let now = w.now();
        let _ = w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut bytes);
        while let Some(action) = w.nodes[1].poll() {
            if let Action::Send(_, response) = action {
                responses.push(response);
            }
        }
    }
    assert_eq!(responses.len(), 9, "the answer and eight copies");
    assert!(responses.iter().all(|r| r == &responses[0]));
}

/// What is dropped of two hellos at once: the one that loses, and the second answer to the other, which was sent once more.
const ONE_OVERRULED: [DropReason; 2] = [DropReason::BadHandshake, DropReason::UnknownIndex];

#[test]
fn both_start_at_once() {
    let mut w = World::new(2);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.nodes[1].connect(now, a, vec![endpoint(0)], true);
    w.settle();
    assert_eq!(w.drops, ONE_OVERRULED, "one of the two");
    w.drops.clear();
    for n in 0..20 {
        w.send(0, 1, n).expect("sealed");
        w.send(1, 0, n).expect("sealed");
        w.pass(20);
    }
    assert_eq!(w.arrived.len(), 40);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_hello_that_was_overtaken_is_not_repeated() {
    let mut w = World::new(2);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    w.flights.clear();
    w.now_ns += SECOND;
    let now = w.now();
    w.nodes[1].connect(now, a, vec![endpoint(0)], true);
    w.settle();
    assert_eq!(w.state(0, 1), PeerState::Connected);
    w.pass(20);
    assert_eq!(w.nodes.iter().map(|n| n.sessions().0).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_wrong_psk_makes_no_session() {
    let mut w = World::new(2);
    let b = w.id(1);
    w.nodes[0].set_psk(b, Psk::new([1; 32]));
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connecting);
    assert_eq!(w.drops, [DropReason::BadHandshake]);
}

impl World {
    /// Node `a` starts a handshake with `b`; its hello, which is not delivered.
    fn hello(&mut self, a: usize, b: usize) -> Flight {
        let (id, now) = (self.id(b), self.now());
        self.nodes[a].connect(now, id, vec![endpoint(b)], true);
        self.collect(a);
        self.flights.pop().expect("a hello")
    }

    pub(super) fn sessions(&self) -> Vec<usize> {
        self.nodes.iter().map(|n| n.sessions().0).collect()
    }
}

impl Flight {
    fn copy(&self) -> Self {
        Self { to: self.to, origin: self.origin.clone(), bytes: self.bytes.clone() }
    }
}

#[test]
fn of_two_hellos_at_once_the_greater_peers_counts_and_one_session_results() {
    for first in [0, 1] {
        let mut w = World::new(2);
        let hellos = [w.hello(0, 1), w.hello(1, 0)];
        let greater = usize::from(w.id(1) > w.id(0));
        let [a, b] = hellos;
        w.flights = if first == 0 { vec![a, b] } else { vec![b, a] };
        w.settle();
        assert_eq!(w.sessions(), [1, 1]);
        assert_eq!((w.state(0, 1), w.state(1, 0)), (PeerState::Connected, PeerState::Connected));
        assert!(w.nodes[greater].peers().next().is_some_and(|p| p.rtt_ns.is_some()), "the greater one's was answered");
        assert_eq!(w.drops, ONE_OVERRULED);
        w.drops.clear();
        w.pass(20);
        w.send(0, 1, 1).expect("sealed");
        w.send(1, 0, 2).expect("sealed");
        assert_eq!((w.arrived.len(), w.drops.len(), w.sessions()), (2, 0, vec![1, 1]));
    }
}

#[test]
fn the_greater_peer_yields_when_its_own_hello_does_not_arrive() {
    let mut w = World::new(2);
    let greater = usize::from(w.id(1) > w.id(0));
    let other = 1 - greater;
    drop(w.hello(greater, other));
    let lost = w.hello(other, greater);
    w.deliver(lost);
    assert_eq!((w.drops.clone(), w.sessions()), (vec![DropReason::BadHandshake], vec![1, 1]));
    // Nothing of the greater one's arrives, ever; the other sends its next hello.
    for _ in 0..24 {
        w.now_ns += SECOND / 2;
        let now = w.now();
        w.nodes[greater].timeout(now);
        w.collect(greater);
        w.flights.retain(|f| f.bytes[0] != 1);
        w.nodes[other].timeout(now);
        w.settle();
    }
    assert_eq!(w.state(other, greater), PeerState::Connected);
    assert_eq!(w.sessions(), [1, 1]);
}

#[test]
fn a_response_that_arrives_twice_changes_nothing() {
    let mut w = World::new(2);
    let hello = w.hello(0, 1);
    w.deliver(hello);
    let response = w.flights.pop().expect("a response");
    w.deliver(response.copy());
    w.settle();
    let before = (w.sessions(), w.nodes[0].poll());
    w.deliver(response);
    assert_eq!((w.sessions(), w.nodes[0].poll()), before);
    assert_eq!(w.drops, [DropReason::UnknownIndex]);
    w.send(0, 1, 1).expect("sealed");
    assert_eq!(w.arrived.len(), 1);
}

#[test]
fn a_response_to_a_hello_that_was_given_up_is_refused() {
    let mut w = World::new(2);
    let hello = w.hello(0, 1);
    w.deliver(hello);
    let late = w.flights.pop().expect("a response");
    w.now_ns += 6 * SECOND;
    let now = w.now();
    w.nodes[0].timeout(now);
    w.collect(0);
    assert_eq!(w.flights.len(), 1, "the next hello is on its way");
    w.deliver(late);
    assert_eq!((w.drops.clone(), w.state(0, 1)), (vec![DropReason::UnknownIndex], PeerState::Connecting));
    w.settle();
    assert_eq!((w.state(0, 1), w.sessions()), (PeerState::Connected, vec![1, 1]));
}

#[test]
fn a_session_is_not_replaced_by_a_hello_whose_data_never_came() {
    let mut w = World::new(2);
    w.connect(0, 1);
    // The key of node 0 says hello from elsewhere, as a copy of its disk would, and never confirms.
    let mut copy = Node::new(config(1), [77; 32]);
    for n in 0..5 {
        w.now_ns += 6 * SECOND;
        let (now, id) = (w.now(), w.id(1));
        copy.connect(now, id, vec![endpoint(1)], true);
        copy.timeout(now);
        while let Some(action) = copy.poll() {
            if let Action::Send(_, bytes) = action {
                w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(9)), bytes });
            }
        }
        w.flights.clear();
        w.send(1, 0, n).expect("sealed on the session that is confirmed");
        w.send(0, 1, n).expect("sealed");
        assert_eq!(w.arrived.len(), 2 * usize::from(n) + 2);
    }
    assert_eq!(w.nodes[1].sessions().0, 2, "the confirmed one, and one that waits");
    assert_eq!(w.nodes[1].peers().next().and_then(|p| p.path), Some(Path::Direct(endpoint(0))));
}

#[test]
fn at_most_three_sessions_a_pair() {
    let mut w = World::new(2);
    w.connect(0, 1);
    for n in 0..6 {
        w.now_ns += SECOND;
        let (now, id) = (w.now(), w.id(1));
        w.nodes[0].start_handshake(now, id);
        w.settle();
        w.send(0, 1, n).expect("sealed");
        assert!(w.sessions().iter().all(|n| *n <= 3), "{:?}", w.sessions());
    }
    assert_eq!((w.arrived.len(), w.drops.len()), (6, 0));
}

#[test]
fn a_psk_that_only_one_end_has_makes_no_session_in_either_direction() {
    for (knows, connects) in [(0, 0), (0, 1), (1, 0)] {
        let mut w = World::new(2);
        let other = w.id(1 - knows);
        w.nodes[knows].set_psk(other, Psk::new([7; 32]));
        let hello = w.hello(connects, 1 - connects);
        w.deliver(hello);
        w.settle();
        assert_eq!(w.drops, [DropReason::BadHandshake], "the response does not authenticate");
        assert_eq!((w.state(connects, 1 - connects), w.state(1 - connects, connects)), {
            (PeerState::Connecting, PeerState::Disconnected)
        });
        w.now_ns += 21 * SECOND;
        let now = w.now();
        w.nodes[1 - connects].timeout(now);
        assert_eq!(w.nodes[1 - connects].sessions().0, 0, "the half-made session is gone");
    }
    let mut w = World::new(2);
    for (a, b) in [(0, 1), (1, 0)] {
        let id = w.id(b);
        w.nodes[a].set_psk(id, Psk::new([7; 32]));
    }
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connected, "both have it");
}

#[test]
fn a_peers_psk_holds_after_a_disconnect() {
    let mut w = World::new(2);
    let (a, b) = (w.id(0), w.id(1));
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connected);
    w.nodes[1].set_psk(a, Psk::new([7; 32]));
    let now = w.now();
    assert!(w.nodes[0].disconnect(now, b) && w.nodes[1].disconnect(now, a));
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connecting);
}

#[test]
fn policies_outlive_a_disconnect() {
    let mut w = World::new(2);
    let (a, b) = (w.id(0), w.id(1));
    w.nodes[1].set_transit(a, false);
    for _ in 0..2 {
        let now = w.now();
        w.nodes[0].connect(now, b, vec![endpoint(1)], false);
        w.collect(0);
        let flight = w.flights.remove(0);
        let mut bytes = flight.bytes;
        w.nodes[1].message(now, &flight.origin, &mut bytes).expect("a good hello");
        let (mut answers, mut links) = (Vec::new(), Vec::new());
        while let Some(action) = w.nodes[1].poll() {
            match action {
                Action::Send(_, bytes) => answers.push(bytes),
                Action::Receive(l) => links.push(l.transit),
                _ => {}
            }
        }
        for mut bytes in answers {
            w.nodes[0].message(now, &Origin::Direct(endpoint(1)), &mut bytes).expect("a good response");
        }
        w.collect(0);
        let mut confirm = w.flights.remove(0).bytes;
        w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut confirm).expect("confirms");
        while let Some(action) = w.nodes[1].poll() {
            if let Action::Receive(l) = action {
                links.push(l.transit);
            }
        }
        assert!(!links.is_empty() && links.iter().all(|transit| !transit), "{links:?}");
        w.nodes[1].disconnect(now, a);
        w.nodes[0].disconnect(now, b);
        while w.nodes[0].poll().is_some() || w.nodes[1].poll().is_some() {}
        w.now_ns += SECOND;
    }
}
