//! What is bounded, and what happens at the bound.

use super::*;

#[test]
fn packets_wait_for_the_session_and_the_queue_is_bounded() {
    let mut w = line();
    let b = w.id(2);
    let now = w.now();
    assert!(w.nodes[0].disconnect(now, b));
    w.nodes[0].poll();
    let slot = *w.slots[0].first_key_value().expect("slot").0;
    let hop = *w.slots[1].iter().find(|(_, p)| **p == b).expect("slot").0;
    let now = w.now();
    w.nodes[0].add_route(now, b, slot, Hops::from_iter([hop as u8]));
    let packet = ipv6(w.id(0), b, 9);
    let mut full = 0;
    for _ in 0..40 {
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        match w.nodes[0].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()) {
            Ok(None) => {}
            Err(DropReason::QueueFull) => full += 1,
            other => panic!("{other:?}"),
        }
    }
    w.settle();
    assert_eq!((w.arrived.len(), full), (16, 24));
}

#[test]
fn strangers_do_not_fill_the_node() {
    let mut w = World::new(1);
    let target = w.id(0);
    for n in 0..40 {
        let mut stranger = Node::new(config(n * 6 + 2), [n; 32]);
        stranger.connect(w.now(), target, vec![endpoint(0)], false);
        while let Some(action) = stranger.poll() {
            if let Action::Send(_, mut bytes) = action {
                let from = Origin::Direct(endpoint(usize::from(n) + 9));
                let now = w.now();
                let _ = w.nodes[0].message(now, &from, &mut bytes);
            }
        }
    }
    assert!(w.nodes[0].peers().count() <= 16, "the limit of peers holds");
    w.collect(0);
    w.pass(21);
    assert_eq!(w.nodes[0].peers().count(), 0, "half-made sessions end");
    assert_eq!(w.nodes[0].sessions().0, 0);
}

/// A key found once for all tests: each takes some 256 tries.
fn stranger_key(n: u32) -> SecretKey {
    static KEYS: std::sync::Mutex<BTreeMap<u32, SecretKey>> = std::sync::Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().expect("no test panics while it holds this");
    let make = || {
        let mut seed = [9; 32];
        seed[8..12].copy_from_slice(&n.to_le_bytes());
        SecretKey::generate(&mut |out| out.copy_from_slice(&seed))
    };
    keys.entry(n).or_insert_with(make).clone()
}

/// Node 0 of a world, and what strangers need to get a session with it.
fn crowd(w: &mut World, ids: std::ops::Range<u32>, confirm: bool) -> Vec<Result<Inbound, DropReason>> {
    let target = w.id(0);
    let mut results = Vec::new();
    for n in ids {
        let (key, seed) = (stranger_key(n), [n as u8; 32]);
        let mut stranger = Node::new(NodeConfig { secret: key, ..config(1) }, seed);
        let at = Endpoint::Udp { remote: SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 1312)), local: None };
        let now = w.now();
        stranger.connect(now, target, vec![endpoint(0)], false);
        while let Some(action) = stranger.poll() {
            let Action::Send(_, mut bytes) = action else { continue };
            results.push(w.nodes[0].message(now, &Origin::Direct(at), &mut bytes));
            while let Some(action) = w.nodes[0].poll() {
                if let (Action::Send(_, mut response), true) = (action, confirm) {
                    let _ = stranger.message(now, &Origin::Direct(endpoint(0)), &mut response);
                }
            }
        }
    }
    results
}

fn roomy(handshakes: usize) -> World {
    let mut w = World::new(2);
    let config = NodeConfig { sessions: 1024, peers: 512, handshakes, ..config(1) };
    w.nodes[0] = Node::new(config, [5; 32]);
    w
}

fn limit(w: &World, name: &str) -> Use {
    w.nodes[0].limits().into_iter().find(|(n, _)| *n == name).expect("this name").1
}

#[test]
fn strangers_that_would_fill_the_slot_table_get_half_of_it() {
    let mut w = roomy(64);
    let results = crowd(&mut w, 0..255, true);
    let refused = results.iter().filter(|r| **r == Err(DropReason::Limit)).count();
    assert_eq!(refused, 255 - 127, "each with its reason");
    assert_eq!(limit(&w, "stranger_slots"), Use { used: 127, max: 127 });
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connected);
    assert!(w.nodes[0].peers().any(|p| p.id == w.id(1) && p.slot.is_some()), "one of the operator's has its slot");
    // A peer that the operator named may connect by itself too.
    let mut w = roomy(64);
    crowd(&mut w, 0..255, true);
    let b = w.id(1);
    w.nodes[0].set_transit(b, true);
    w.connect(1, 0);
    assert_eq!(w.state(0, 1), PeerState::Connected);
}

#[test]
fn hellos_that_are_never_confirmed_take_no_slot_and_half_the_handshakes() {
    let mut w = roomy(64);
    let results = crowd(&mut w, 0..100, false);
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 32);
    assert_eq!(limit(&w, "handshakes"), Use { used: 32, max: 64 });
    assert_eq!(limit(&w, "slots").used, 0);
    w.connect(0, 1);
    assert_eq!(w.state(0, 1), PeerState::Connected, "this node's own are not in their way");
    w.pass(21);
    assert_eq!((limit(&w, "handshakes").used, limit(&w, "peers").used), (0, 1));
    assert!(crowd(&mut w, 200..201, true).iter().all(Result::is_ok), "there is room again");
}

#[test]
fn handshakes_of_this_nodes_own_are_bounded_too() {
    let mut w = roomy(8);
    let now = w.now();
    for id in peer_ids(20) {
        w.nodes[0].connect(now, id, vec![endpoint(1)], true);
    }
    assert_eq!(limit(&w, "handshakes"), Use { used: 8, max: 8 });
    assert_eq!(w.nodes[0].sessions().0, 8);
}

#[test]
fn half_open_handshakes_are_counted_right_through_everything() {
    let mut w = line();
    for n in 0..60 {
        w.send(0, 2, n).expect("sealed");
        w.pass(5);
    }
    let b = w.id(1);
    let now = w.now();
    w.nodes[0].disconnect(now, b);
    w.settle();
    w.pass(400);
    for node in &w.nodes {
        let open = node.limits().iter().find(|(n, _)| *n == "handshakes").map(|(_, u)| u.used);
        let connecting = node.peers().filter(|p| p.state == PeerState::Connecting).count();
        assert_eq!(open, Some(connecting));
    }
}

#[test]
fn a_slot_is_not_used_again_while_a_route_still_names_it() {
    let mut w = line();
    let (r, b, now) = (w.id(1), w.id(2), w.now());
    let slot = w.nodes[0].peers().find(|p| p.id == r).and_then(|p| p.slot).expect("a slot");
    let mut others: Vec<_> = peer_ids(600);
    assert!(w.nodes[0].disconnect(now, r));
    w.now_ns += 700 * SECOND;
    // All other slots are taken, and the time of rest is over.
    let taken = |w: &mut World, id: PeerId| {
        let now = w.now_ns;
        w.nodes[0].slot_for_test(now, id)
    };
    while let Some(got) = others.pop().and_then(|id| taken(&mut w, id)) {
        assert_ne!(got, slot, "the route to b starts with it");
    }
    assert_eq!(w.nodes[0].remove_route(b, None), 1);
    let now = w.now();
    w.nodes[0].disconnect(now, b);
    assert_eq!(others.pop().and_then(|id| taken(&mut w, id)), Some(slot), "now no route names it");
}

#[test]
fn hellos_alone_take_no_slot_and_end_soon() {
    let mut w = World::new(1);
    let target = w.id(0);
    for n in 0..8 {
        let mut stranger = Node::new(config(n * 6 + 2), [n; 32]);
        let now = w.now();
        stranger.connect(now, target, vec![endpoint(0)], false);
        let Some(Action::Send(_, mut bytes)) = stranger.poll() else { panic!("no hello") };
        w.nodes[0].message(now, &Origin::Direct(endpoint(9)), &mut bytes).expect("a good hello");
    }
    let links = std::iter::from_fn(|| w.nodes[0].poll()).filter(|a| matches!(a, Action::Receive(_))).count();
    assert_eq!((links, w.nodes[0].peers().count()), (0, 8));
    w.pass(21);
    assert_eq!((w.nodes[0].peers().count(), w.nodes[0].sessions().0), (0, 0));
}

#[test]
fn at_every_bound_the_newest_is_refused_and_the_others_stay() {
    // Of each bound: what fills it, with how many.
    let all: [(&str, NodeConfig, u32); 4] = [
        ("peers", NodeConfig { peers: 5, sessions: 64, handshakes: 64, ..config(1) }, 5),
        ("sessions", NodeConfig { peers: 64, sessions: 16, handshakes: 64, ..config(1) }, 16),
        ("handshakes", NodeConfig { peers: 64, sessions: 64, handshakes: 12, ..config(1) }, 6),
        ("stranger_slots", NodeConfig { peers: 512, sessions: 1024, handshakes: 512, ..config(1) }, 127),
    ];
    for (name, config, most) in all {
        let mut w = World::new(1);
        w.nodes[0] = Node::new(config, [5; 32]);
        let confirm = name == "stranger_slots";
        let results = crowd(&mut w, 0..most + 3, confirm);
        // With a confirmation, each makes two calls at most.
        let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert!(good.len() >= most as usize, "{name}: {} taken", good.len());
        assert_eq!(bad, vec![Err(DropReason::Limit); 3], "{name}: the newest, with its reason");
        assert_eq!(limit(&w, name).used as u32, most, "{name}: none was pushed out");
    }
}
