//! Several links to one neighbour.

use super::*;
use rovy_common::wire::codec;

const MS: u64 = SECOND / 1000;

/// Two neighbours with a link over UDP, which came with the handshake, and one over Ethernet.
fn double() -> World {
    let mut w = single();
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.settle();
    w
}

/// Two neighbours over UDP that both want each other.
fn single() -> World {
    let mut w = World::new(2);
    let (a, now) = (w.id(0), w.now());
    w.connect(0, 1);
    w.nodes[1].connect(now, a, vec![], true);
    w
}

impl World {
    fn links(&self, at: usize) -> Vec<LinkView> {
        self.nodes[at].peers().next().map(|p| p.links).unwrap_or_default()
    }

    fn stands(&self, at: usize) -> Vec<(Endpoint, LinkState, bool)> {
        self.links(at).into_iter().map(|l| (l.endpoint, l.state, l.active)).collect()
    }

    /// Whatever a slot sends by, the other end has the key and listens at this index.
    fn sound(&self) {
        for (n, sending) in self.sending.iter().enumerate() {
            for tx in sending.values() {
                let rx = &self.receiving[self.number(tx.peer)];
                let rx = rx.get(&tx.index).unwrap_or_else(|| panic!("slot {} of {n} leads nowhere", tx.slot));
                assert!(rx.keys == tx.keys && rx.peer == self.id(n), "slot {} of {n}", tx.slot);
            }
        }
    }

    /// Lets time pass, and checks after every message that transit would get through.
    fn run(&mut self, ns: u64) {
        let end = self.now_ns + ns;
        while self.now_ns < end {
            let next = self.nodes.iter().map(Node::deadline).min().unwrap_or(end);
            self.now_ns = next.clamp(self.now_ns + 1, end);
            let now = self.now();
            for n in 0..self.nodes.len() {
                self.nodes[n].timeout(now);
                self.collect(n);
            }
            while !self.flights.is_empty() {
                let flight = self.flights.remove(0);
                self.deliver(flight);
                self.sound();
            }
        }
    }

    /// Messages that leave while time passes.
    fn sent_in(&mut self, ns: u64) -> usize {
        let (end, mut sent) = (self.now_ns + ns, 0);
        while self.now_ns < end {
            let next = self.nodes.iter().map(Node::deadline).min().unwrap_or(end);
            self.now_ns = next.clamp(self.now_ns + 1, end);
            let now = self.now();
            (0..self.nodes.len()).for_each(|n| self.nodes[n].timeout(now));
            (0..self.nodes.len()).for_each(|n| self.collect(n));
            sent += self.flights.len();
            self.settle();
        }
        sent
    }

    /// Sends a packet every 50 ms; when the first one of those to come arrived again, in ms.
    fn until_it_arrives(&mut self, from: usize, to: usize) -> u64 {
        let (start, before) = (self.now_ns, self.arrived.len());
        while self.arrived.len() == before {
            assert!(self.now_ns < start + 20 * SECOND, "nothing gets through");
            self.send(from, to, 1).expect("sealed");
            self.run(50 * MS);
        }
        (self.now_ns - start) / MS
    }
}

#[test]
fn a_second_endpoint_becomes_a_second_link() {
    let mut w = double();
    for n in [0, 1] {
        let other = 1 - n;
        let expected = [(endpoint(other), LinkState::Up, true), (ether(other), LinkState::Up, false)];
        assert_eq!(w.stands(n), expected, "node {n}");
        let slots: Vec<_> = w.links(n).iter().map(|l| l.slot).collect();
        assert!(slots[0].is_some() && slots[1].is_some() && slots[0] != slots[1], "{slots:?}");
        assert_eq!((w.sending[n].len(), w.receiving[n].len()), (2, 2));
    }
    w.sound();
    let keys: Vec<_> = w.sending[0].values().map(|l| (l.keys, l.index, l.key)).collect();
    assert!(keys[0].0 != keys[1].0 && keys[0].1 != keys[1].1 && keys[0].2 != keys[1].2, "each has its own");
    w.send(0, 1, 1).expect("sealed");
    assert!(w.drops.is_empty() && w.arrived.len() == 1, "{:?}", w.drops);
}

#[test]
fn an_accept_that_was_lost_is_repeated() {
    let mut w = single();
    w.cut.insert((1, true));
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.settle();
    let index = |w: &World| w.receiving[1].values().find(|l| l.endpoint == ether(0)).map(|l| l.index);
    let first = index(&w).expect("b accepted");
    assert_eq!(w.links(0)[1].state, LinkState::Opening);
    let keys: BTreeSet<_> = w.sending[1].values().map(|l| l.key).collect();
    assert_eq!(keys.len(), 1, "b does not send over a link whose opener may not know it");
    w.cut.clear();
    w.run(2 * SECOND);
    assert_eq!(w.links(0)[1].state, LinkState::Up);
    assert_eq!((index(&w), w.receiving[1].len()), (Some(first), 2), "the same link");
}

#[test]
fn a_number_whose_accept_never_arrived_serves_another_way() {
    let mut w = single();
    w.cut.insert((1, true));
    let (b, now) = (w.id(1), w.now());
    let nobody = |n: u8| Endpoint::Udp { remote: SocketAddr::from(([198, 51, 100, n], 1312)), local: None };
    w.nodes[0].connect(now, b, vec![BROADCAST, nobody(1), nobody(2), nobody(3)], true);
    w.settle();
    assert_eq!(w.receiving[1].len(), 2, "b accepted");
    let number = |w: &World| w.links(0).iter().find(|l| l.endpoint == BROADCAST).map(|l| l.number);
    let first = number(&w);
    // The number went to another endpoint, and this one has another number.
    w.run(10 * SECOND);
    assert_ne!(number(&w), first, "{:?}", w.stands(0));
    w.cut.clear();
    w.run(30 * SECOND);
    for n in [0, 1] {
        assert!(w.stands(n).iter().any(|l| l.0 == ether(1 - n) && l.1 == LinkState::Up), "{:?}", w.stands(n));
        assert_eq!(w.receiving[n].len(), 2);
    }
    w.sound();
}

#[test]
fn two_ends_that_open_at_once_make_one_link() {
    let mut w = single();
    w.run(2 * SECOND);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.nodes[1].connect(now, a, vec![endpoint(0), BROADCAST], true);
    w.collect(0);
    w.collect(1);
    assert_eq!(w.flights.len(), 2, "both ask");
    w.settle();
    w.run(5 * SECOND);
    for n in [0, 1] {
        assert_eq!(w.stands(n).iter().filter(|l| l.1 == LinkState::Up).count(), 2, "{:?}", w.stands(n));
        assert_eq!((w.links(n).len(), w.receiving[n].len(), w.nodes[n].sessions().0), (2, 2, 2));
    }
}

#[test]
fn a_replayed_open_does_nothing() {
    let mut w = single();
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.collect(0);
    let open = w.flights[0].bytes.clone();
    w.settle();
    let before = (w.stands(1), w.nodes[1].sessions());
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(9)), bytes: open });
    assert_eq!(w.drops, [DropReason::Replay]);
    assert_eq!((w.stands(1), w.nodes[1].sessions()), before);
}

#[test]
fn links_end_with_their_session() {
    let mut w = double();
    let (a, b) = (w.id(0), w.id(1));
    // An open that arrives when the session is gone.
    let now = w.now();
    w.nodes[0].connect(now, b, vec![endpoint(1), endpoint(1), Endpoint::Ethernet { ifindex: 9, mac: [4; 6] }], true);
    w.collect(0);
    assert_eq!(w.flights.len(), 1);
    let now = w.now();
    assert!(w.nodes[1].disconnect(now, a));
    w.settle();
    assert_eq!(w.drops, [DropReason::UnknownIndex]);
    assert_eq!((w.sending[1].len(), w.receiving[1].len(), w.nodes[1].sessions().0), (0, 0, 0));
    assert!(w.nodes[0].disconnect(now, b));
    w.collect(0);
    assert_eq!((w.sending[0].len(), w.receiving[0].len(), w.nodes[0].sessions().0), (0, 0, 0));
}

#[test]
fn no_packet_is_lost_when_the_keys_of_two_links_are_renewed() {
    let mut w = double();
    let shape =
        |w: &World, n: usize| w.links(n).into_iter().map(|l| (l.number, l.slot, l.endpoint)).collect::<Vec<_>>();
    let before = [shape(&w, 0), shape(&w, 1)];
    let keys = |w: &World| w.sending.iter().flat_map(|s| s.values().map(|l| l.keys.tag)).collect::<BTreeSet<_>>();
    let mut seen = keys(&w);
    for n in 0..4 {
        for _ in 0..13 {
            w.send(0, 1, n).expect("sealed");
            w.send(1, 0, n).expect("sealed");
            w.run(10 * SECOND);
        }
        assert_eq!([shape(&w, 0), shape(&w, 1)], before, "numbers and slots stay");
        assert!(keys(&w).iter().all(|k| seen.insert(*k)), "new keys on every link");
        assert_eq!(w.nodes[0].sessions().0, 4, "two sessions of two links");
    }
    assert_eq!((w.arrived.len(), w.drops.len()), (104, 0));
    // The better kind had ten seconds to show itself, and stays in use over a renewal.
    assert!(w.links(0)[1].active && w.links(1)[1].active);
}

#[test]
fn keys_are_renewed_over_the_link_that_is_left() {
    let mut w = double();
    w.run(11 * SECOND);
    w.cut.extend([(0, false), (1, false)]);
    let slot = w.links(0)[0].slot.expect("a slot");
    for _ in 0..12 {
        let now = w.now();
        w.nodes[0].traffic(now, slot, true, false);
        w.run(250 * MS);
    }
    assert_eq!(w.links(0)[0].state, LinkState::Dead);
    let before = w.nodes[0].handshakes();
    for n in 0..14 {
        w.send(0, 1, n).expect("sealed");
        w.send(1, 0, n).expect("sealed");
        w.run(10 * SECOND);
    }
    assert!(w.nodes[0].handshakes() > before, "new keys");
    assert_eq!(w.links(0)[0].endpoint, ether(1), "what is left is the new link 0");
    assert_eq!(w.sending[0][&slot].endpoint, ether(1));
    w.cut.clear();
    w.run(70 * SECOND);
    for n in [0, 1] {
        let up = w.stands(n).iter().filter(|l| l.1 == LinkState::Up).count();
        assert_eq!((up, w.stands(n)[0].0), (2, ether(1 - n)), "{:?}", w.stands(n));
    }
    assert_eq!((w.arrived.len(), w.drops.len()), (28, 0));
}

#[test]
fn a_silent_link_is_found_out_in_under_a_second_and_comes_back() {
    let mut w = double();
    w.run(11 * SECOND);
    assert!(w.links(0)[1].active, "the better kind");
    let (slot, own) = (w.links(0)[1].slot.expect("a slot"), w.sending[0][&w.links(0)[1].slot.expect("a slot")].clone());
    w.cut.extend([(0, true), (1, true)]);
    let took = w.until_it_arrives(0, 1);
    assert!((300..1000).contains(&took), "{took} ms");
    assert_eq!(w.stands(0)[0], (endpoint(1), LinkState::Up, true));
    assert_eq!(w.links(0)[1].state, LinkState::Dead);
    let over = &w.sending[0][&slot];
    let first = &w.sending[0][&w.links(0)[0].slot.expect("a slot")];
    assert_eq!(
        (over.link, over.key, over.keys, over.index, over.endpoint),
        (1, first.key, first.keys, first.index, endpoint(1)),
        "transit that names the dead link's slot goes over the other"
    );
    w.cut.clear();
    w.run(60 * SECOND);
    assert_eq!(w.stands(0), [(endpoint(1), LinkState::Up, false), (ether(1), LinkState::Up, true)]);
    let back = &w.sending[0][&slot];
    assert_eq!((back.key, back.keys, back.index), (own.key, own.keys, own.index), "and its slot is its own again");
}

#[test]
fn a_link_that_fails_in_one_direction_is_dead_for_both() {
    for broken in [0, 1] {
        let mut w = double();
        w.run(11 * SECOND);
        w.cut.insert((broken, true));
        for _ in 0..60 {
            w.send(0, 1, 1).expect("sealed");
            w.send(1, 0, 1).expect("sealed");
            w.run(50 * MS);
        }
        for n in [0, 1] {
            assert_eq!(w.stands(n)[1], (ether(1 - n), LinkState::Dead, false), "node {n} with {broken} broken");
        }
    }
}

#[test]
fn a_link_nothing_can_be_sent_over_is_dead_at_once() {
    let mut w = double();
    w.run(11 * SECOND);
    w.cut.extend([(0, true), (1, true)]);
    let now = w.now();
    w.nodes[0].lost(now, |at| *at == ether(1));
    w.collect(0);
    assert_eq!(w.stands(0)[1], (ether(1), LinkState::Dead, false));
    w.send(0, 1, 1).expect("sealed");
    assert_eq!(w.arrived.len(), 1, "the next packet gets through");
    assert_eq!(w.stands(1)[1], (ether(0), LinkState::Dead, false), "and the neighbour knows");
    w.send(1, 0, 1).expect("sealed");
    assert_eq!(w.arrived.len(), 2);
    w.sound();
    // The last one is not given up.
    let now = w.now();
    w.nodes[0].lost(now, |_| true);
    w.settle();
    assert_eq!(w.stands(0)[0], (endpoint(1), LinkState::Up, true));
}

#[test]
fn a_neighbour_with_one_link_keeps_it_whatever_is_lost() {
    let mut w = single();
    let (now, slot) = (w.now(), w.links(0)[0].slot.expect("a slot"));
    w.nodes[0].lost(now, |_| true);
    w.nodes[0].traffic(now, slot, true, false);
    w.run(5 * SECOND);
    assert_eq!(w.stands(0), [(endpoint(1), LinkState::Up, true)]);
}

#[test]
fn transit_without_an_echo_has_the_links_probed() {
    let mut w = double();
    w.cut.extend([(0, true), (1, true)]);
    let slot = w.links(0)[1].slot.expect("a slot");
    assert!(w.nodes[0].watched().contains(&slot));
    let start = w.now_ns;
    while w.links(0)[1].state == LinkState::Up {
        let now = w.now();
        w.nodes[0].traffic(now, slot, true, false);
        w.run(250 * MS);
        assert!(w.now_ns < start + 3 * SECOND, "a dead link is found out");
    }
    assert_eq!(w.sending[0][&slot].endpoint, endpoint(1));
    // Traffic in both directions is no reason to ask.
    let mut w = double();
    let asked = (0..20).map(|_| {
        let now = w.now();
        w.nodes[0].traffic(now, slot, true, true);
        w.sent_in(250 * MS)
    });
    assert_eq!(asked.sum::<usize>(), 0);
}

#[test]
fn an_idle_pair_of_links_is_silent() {
    let mut w = double();
    w.run(15 * SECOND);
    assert_eq!(w.sent_in(60 * SECOND), 0);
    w.send(0, 1, 1).expect("sealed");
    assert!(w.sent_in(60 * SECOND) <= 10, "one question after a packet without an answer, and the keepalive");
}

#[test]
fn a_stranger_gets_one_link() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.settle();
    w.run(30 * SECOND);
    for n in [0, 1] {
        assert_eq!(w.links(n).len(), 1, "node {n}");
        assert_eq!(w.nodes[n].sessions().0, 1);
    }
    let slots = w.nodes[1].limits().iter().find(|(n, _)| *n == "slots").map(|(_, u)| u.used);
    assert_eq!(slots, Some(1));
}

#[test]
fn one_link_moves_and_the_other_stays() {
    let mut w = double();
    let (now, before) = (w.now(), w.stands(1));
    w.nodes[0].announce(now);
    w.collect(0);
    // What went by UDP comes from another address now. The probe of link 0 tells; the keepalive does not.
    let all: Vec<_> = w.flights.drain(..).collect();
    let udp = |f: &Flight| f.origin == Origin::Direct(endpoint(0));
    let [keepalive, probe] = &all.iter().filter(|f| udp(f)).collect::<Vec<_>>()[..] else { panic!("{}", all.len()) };
    let from = |f: &Flight| Flight { to: 1, origin: Origin::Direct(endpoint(9)), bytes: f.bytes.clone() };
    w.deliver(from(keepalive));
    assert_eq!(w.stands(1), before, "either link may have moved");
    w.deliver(from(probe));
    assert_eq!(w.stands(1), [(endpoint(9), before[0].1, before[0].2), before[1]]);
    let told: Vec<_> = w.sending[1].values().map(|l| l.endpoint).collect();
    assert_eq!(told, [endpoint(9), ether(0)]);
    // Transit tells too, of the link whose index it names.
    let index = w.receiving[1].values().find(|l| l.endpoint == ether(0)).map_or(0, |l| l.index);
    let elsewhere = Endpoint::Ethernet { ifindex: 7, mac: [5; 6] };
    let now = w.now();
    w.nodes[1].moved_to(now, index, elsewhere);
    w.collect(1);
    assert_eq!(w.stands(1).iter().map(|l| l.0).collect::<Vec<_>>(), [endpoint(9), elsewhere]);
    w.nodes[1].moved_to(now, index, endpoint(9));
    assert_eq!(w.links(1)[1].endpoint, elsewhere, "that is another link's");
}

#[test]
fn a_session_has_four_links_at_most_and_gives_each_endpoint_its_turn() {
    let mut w = single();
    let (b, now) = (w.id(1), w.now());
    let nobody = |n: u8| Endpoint::Udp { remote: SocketAddr::from(([198, 51, 100, n], 1312)), local: None };
    let mut dial: Vec<_> = (0..6).map(nobody).collect();
    dial.extend([endpoint(1), BROADCAST]);
    w.nodes[0].connect(now, b, dial, true);
    w.settle();
    assert_eq!(w.links(0).len(), 4);
    for _ in 0..60 {
        w.run(SECOND);
        assert!(w.links(0).len() <= 4 && w.nodes[0].sessions().0 <= 4);
    }
    assert!(w.stands(0).iter().any(|l| l.0 == ether(1) && l.1 == LinkState::Up), "{:?}", w.stands(0));
}

#[test]
fn links_keep_their_slots_over_a_restart() {
    let mut w = double();
    let (a, before) = (w.id(0), w.links(1));
    w.nodes[1] = Node::new(config(17), [99; 32]);
    w.receiving[1].clear();
    w.sending[1].clear();
    let now = w.now();
    for link in before.iter().rev() {
        w.nodes[1].restore_slot(now, link.slot.expect("a slot"), a, link.number);
    }
    w.nodes[1].connect(now, a, vec![endpoint(0), BROADCAST], true);
    w.settle();
    w.run(3 * SECOND);
    let shape = |links: &[LinkView]| links.iter().map(|l| (l.slot, l.endpoint)).collect::<BTreeMap<_, _>>();
    assert_eq!(shape(&w.links(1)), shape(&before));
    w.sound();
}

#[test]
fn messages_about_links_that_make_no_sense_are_refused() {
    let mut w = double();
    let body = |op: u8, link: u8, nonce: u64| {
        let mut b = vec![op, link, 0, 0, 1, 2, 3, 4];
        b.extend(nonce.to_le_bytes());
        b
    };
    let before = w.stands(1);
    for bytes in [
        vec![],
        body(3, 0, 1)[..15].to_vec(),
        body(0, 1, 1),
        body(9, 1, 1),
        body(1, 0, 1),
        body(3, 4, 1),
        body(1, 255, 1),
    ] {
        let now = w.now();
        let b = w.id(1);
        w.nodes[0].send_as(now, b, codec::LINK, &bytes);
        w.settle();
    }
    let (length, op) = (DropReason::BadLength, DropReason::NotAllowed);
    assert_eq!(w.drops, [length, length, op, op, op, op, op]);
    // An answer nobody asked for and an accept of nothing change nothing.
    for bytes in [body(4, 1, 7), body(2, 2, 7), body(5, 3, 7)] {
        let now = w.now();
        let b = w.id(1);
        w.nodes[0].send_as(now, b, codec::LINK, &bytes);
        w.settle();
    }
    assert_eq!(w.stands(1), before);
    assert!(w.nodes[1].sessions().0 == 2);
}

#[test]
fn sealed_transit_leads_back_over_the_link_it_came_by() {
    let mut w = World::new(2);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.nodes[0].set_sealed(b);
    w.connect(0, 1);
    w.nodes[1].connect(now, a, vec![], true);
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.settle();
    let slot = w.links(0)[0].slot.expect("a slot");
    let links = w.links(1);
    assert_eq!(links.len(), 2);
    for link in links {
        let mut buf = vec![0; HEADROOM + 48 + TAILROOM];
        let range = w.nodes[0].seal_transit(now, slot, false, &mut buf, HEADROOM..HEADROOM + 48).expect("sealed");
        let taken = w.nodes[1].message(now, &Origin::Direct(link.endpoint), &mut buf[range]);
        let Ok(Inbound::Sealed(sealed)) = taken else { panic!("{taken:?}") };
        assert_eq!(w.receiving[1][&sealed.index].slot, link.slot.expect("a slot"));
    }
}

#[test]
fn ends_that_took_different_copies_of_a_hello_still_get_both_links() {
    let mut w = World::new(2);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.nodes[1].connect(now, a, vec![], true);
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.collect(0);
    let by_ethernet = |f: &Flight| matches!(f.origin, Origin::Direct(Endpoint::Ethernet { .. }));
    w.flights.sort_by_key(|f| !by_ethernet(f));
    for hello in std::mem::take(&mut w.flights) {
        w.deliver(hello);
    }
    w.flights.sort_by_key(by_ethernet);
    assert_eq!(w.flights.len(), 2, "the response over both ways");
    let response = w.flights.remove(0);
    w.deliver(response);
    // What opens the second link overtakes what confirms the session.
    w.flights.reverse();
    w.settle();
    w.run(3 * SECOND);
    for n in [0, 1] {
        let stands = w.stands(n);
        assert!(stands.len() == 2 && stands.iter().all(|(_, state, _)| *state == LinkState::Up), "{n}: {stands:?}");
    }
}
