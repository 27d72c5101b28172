//! Sessions, their paths and what travels in them.

use super::*;

#[test]
fn two_nodes_talk() {
    let mut w = World::new(2);
    w.connect(0, 1);
    assert_eq!((w.state(0, 1), w.state(1, 0)), (PeerState::Connected, PeerState::Connected));
    w.send(0, 1, 7).expect("sealed");
    w.send(1, 0, 8).expect("sealed");
    let notes: Vec<_> = w.arrived.iter().map(|(at, p)| (*at, p[40])).collect();
    assert_eq!(notes, [(1, 7), (0, 8)]);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn a_routed_session_answers_along_the_way_back() {
    let mut w = line();
    w.send(0, 2, 1).expect("sealed");
    w.send(2, 0, 2).expect("the responder learned the way");
    assert_eq!(w.arrived.iter().map(|(at, p)| (*at, p[40])).collect::<Vec<_>>(), [(2, 1), (0, 2)]);
    let sources: Vec<_> = w.nodes[2].routes().iter().map(|r| (r.source, r.in_use)).collect();
    assert!(sources.contains(&(RouteSource::Learned, true)), "{sources:?}");
}

#[test]
fn sessions_are_renewed_and_nothing_is_lost() {
    let mut w = line();
    for n in 0..100 {
        w.send(0, 2, n).expect("a session");
        w.send(2, 0, n).expect("a session");
        w.pass(7);
    }
    assert_eq!(w.arrived.len(), 200);
    assert!(w.drops.is_empty(), "{:?}", w.drops);
    for node in &w.nodes {
        assert!(node.sessions().0 <= 6, "at most current, previous and next of two peers");
    }
}

#[test]
fn an_idle_routed_session_ends_and_a_link_does_not() {
    let mut w = line();
    w.pass(400);
    assert_eq!(w.state(0, 2), PeerState::Disconnected);
    assert_eq!(w.state(0, 1), PeerState::Connected);
}

#[test]
fn a_peer_that_restarted_is_found_again() {
    let mut w = World::new(2);
    w.connect(0, 1);
    w.restart(1, Node::new(config(17), [99; 32]));
    w.send(0, 1, 1).expect("the old session still seals");
    assert_eq!(w.drops, [DropReason::UnknownIndex]);
    w.pass(30);
    w.send(0, 1, 2).expect("sealed");
    assert_eq!(w.arrived.iter().map(|(_, p)| p[40]).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_endpoint_follows_authentic_packets_only() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let packet = ipv6(w.id(0), w.id(1), 1);
    let mut sealed = Vec::new();
    for _ in 0..2 {
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        let now = w.now();
        let out = w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()).expect("seals").expect("now");
        sealed.push(buf[out.message].to_vec());
    }
    let path = |w: &World| w.nodes[1].peers().next().and_then(|p| p.path);
    let mut forged = sealed[0].clone();
    forged[20] ^= 1;
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(7)), bytes: forged });
    assert_eq!(path(&w), Some(Path::Direct(endpoint(0))));
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(8)), bytes: sealed[1].clone() });
    assert_eq!(path(&w), Some(Path::Direct(endpoint(8))));
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(7)), bytes: sealed[1].clone() });
    assert_eq!(path(&w), Some(Path::Direct(endpoint(8))), "a replay moves nothing");
    assert_eq!(w.drops, [DropReason::BadTag, DropReason::Replay]);
}

#[test]
fn an_inner_source_that_is_not_the_sender_is_refused() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let packet = ipv6(w.id(1), w.id(1), 1);
    let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
    let range = HEADROOM..HEADROOM + packet.len();
    let now = w.now();
    assert_eq!(w.nodes[0].packet(now, &mut buf, range), Err(DropReason::BadInnerSource));
    // A sender that does not check: sealed below the check.
    let now = w.now();
    let peer = w.id(1);
    w.nodes[0].send_to(now, peer, &packet);
    w.settle();
    assert_eq!(w.drops, [DropReason::BadInnerSource]);
    assert!(w.arrived.is_empty());
}

/// The reserved fc00::/64 is each host's own: what goes there ends at the agent, and nothing from there comes in.
#[test]
fn addresses_of_services_are_routed_nowhere() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let service = std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1);
    let with = |at: usize, packet: Vec<u8>| {
        let mut packet = packet;
        packet[at..at + 16].copy_from_slice(&service.octets());
        packet
    };
    let (to, from) = (with(24, ipv6(w.id(0), w.id(1), 1)), with(8, ipv6(w.id(0), w.id(1), 1)));
    let (peer, now) = (w.id(1), w.now());
    for packet in [&to, &from] {
        w.nodes[0].send_to(now, peer, packet);
    }
    w.settle();
    assert_eq!(w.drops, [DropReason::NotAllowed, DropReason::BadInnerSource]);
    assert!(w.arrived.is_empty());
    let mut buf = vec![0; HEADROOM + to.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + to.len()].copy_from_slice(&to);
    assert_eq!(w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + to.len()), Err(DropReason::NoRoute));
}

#[test]
fn no_update_rewinds_the_nonces_of_data() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let (b, mut sent) = (w.id(1), Vec::new());
    for n in 0..20_u8 {
        let packet = ipv6(w.id(0), b, n);
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        let now = w.now();
        let out = w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()).expect("seals").expect("now");
        let at = out.message.start;
        sent.push((buf[at + 4..at + 8].to_vec(), u64::from_le_bytes(buf[at + 8..at + 16].try_into().expect("eight"))));
        // What publishes links anew, and what a node is told while it runs.
        let index = w.nodes[0].receiver_index(b);
        w.nodes[0].moved_to(now, index, endpoint(usize::from(n % 3)));
        w.nodes[0].set_transit(b, n % 2 == 0);
        w.nodes[0].connect(now, b, vec![endpoint(1)], true);
        w.nodes[0].add_route(now, b, 7, Hops::from_iter([n]));
        w.collect(0);
        // The endpoint that is none of the peer's any more is asked for a link.
        for f in w.flights.drain(..).filter(|f| f.bytes[0] == 4) {
            let counter = u64::from_le_bytes(f.bytes[8..16].try_into().expect("eight"));
            sent.push((f.bytes[4..8].to_vec(), counter));
        }
    }
    let before = sent.len();
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), before, "no nonce twice under one key: {sent:?}");
    assert!(sent.windows(2).all(|s| s[0].0 == s[1].0 && s[0].1 + 1 == s[1].1), "one key, counted up: {sent:?}");
}

#[test]
fn a_node_that_moved_tells_its_neighbours_and_nobody_else() {
    let mut w = line();
    let now = w.now();
    w.nodes[0].announce(now);
    let sent: Vec<_> = std::iter::from_fn(|| w.nodes[0].poll()).collect();
    let [Action::Send(Path::Direct(to), bytes)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*to, endpoint(1));
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(7)), bytes: bytes.clone() });
    let id = w.id(0);
    let path = w.nodes[1].peers().find(|p| p.id == id).and_then(|p| p.path);
    assert_eq!(path, Some(Path::Direct(endpoint(7))));
}

#[test]
fn who_sends_from_two_places_moves_seldom() {
    let mut w = World::new(2);
    w.connect(0, 1);
    let (mut moves, (a, b)) = (0, (w.id(0), w.id(1)));
    for n in 0..100 {
        let now = w.now();
        w.nodes[0].send_to(now, b, &ipv6(a, b, n));
        let Some(Action::Send(_, bytes)) = w.nodes[0].poll() else { panic!("nothing sent") };
        let from = Origin::Direct(endpoint(5 + usize::from(n % 2)));
        assert!(w.nodes[1].message(now, &from, &mut bytes.clone()).is_ok());
        moves += std::iter::from_fn(|| w.nodes[1].poll()).filter(|a| matches!(a, Action::Transmit(_))).count();
        w.now_ns += SECOND / 1000;
    }
    assert!(moves <= 2, "{moves} moves in a tenth of a second");
}
