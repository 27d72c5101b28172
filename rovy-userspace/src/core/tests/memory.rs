//! What outlives a restart.

use super::*;

/// What a former run of `n` left to the next.
fn restart(w: &mut World, n: usize, number: u8) {
    w.expected[n].clear();
    let old = std::mem::replace(&mut w.nodes[n], Node::new(config(number), [123; 32]));
    w.nodes[n].restore_last_stamp(old.last_stamp());
    for (peer, stamp) in old.stamps() {
        w.nodes[n].restore_stamp(peer, stamp);
    }
}

#[test]
fn a_hello_from_before_a_restart_is_refused_after_it() {
    let mut w = World::new(2);
    let hello = w.connect_overheard(0, 1);
    w.send(0, 1, 1).expect("sealed");
    restart(&mut w, 1, 17);
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(5)), bytes: hello });
    assert_eq!(w.drops, [DropReason::BadHandshake]);
    assert_eq!(w.nodes[1].sessions().0, 0);
}

#[test]
fn a_hello_of_a_peer_long_gone_is_refused() {
    let mut w = World::new(2);
    let hello = w.connect_overheard(0, 1);
    // Somebody else is there now.
    w.restart(0, Node::new(config(200), [1; 32]));
    w.pass(600);
    assert_eq!(w.nodes[1].peers().count(), 0);
    w.drops.clear();
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(5)), bytes: hello });
    assert_eq!(w.drops, [DropReason::BadHandshake]);
    assert_eq!((w.nodes[1].sessions().0, w.nodes[1].peers().count()), (0, 0));
}

#[test]
fn a_node_whose_clock_fell_back_to_1970_is_still_believed() {
    let mut w = World::new(2);
    w.connect(0, 1);
    restart(&mut w, 0, 1);
    for round in 0..3 {
        let now = Now { mono_ns: w.now_ns, wall: Duration::from_secs(round) };
        let b = w.id(1);
        w.nodes[0].disconnect(now, b);
        w.nodes[0].connect(now, b, vec![endpoint(1)], true);
        w.settle();
        assert_eq!(w.state(0, 1), PeerState::Connected, "round {round}");
    }
    assert!(w.drops.is_empty(), "{:?}", w.drops);
}

#[test]
fn counters_are_not_used_again_after_a_restart_with_adopted_keys() {
    let mut w = World::new(2);
    let (b, now) = (w.id(1), w.now());
    w.nodes[0].connect(now, b, vec![endpoint(1)], true);
    w.collect(0);
    w.settle();
    // What the kernel keeps: the slot and the receiver index. AEAD keys, and with them the nonces, end with the agent.
    let index = u32::from_le_bytes(seal(&mut w, 1, 0)[4..8].try_into().expect("four bytes"));
    let slot = w.nodes[0].peers().next().and_then(|p| p.slot).expect("a slot");
    restart(&mut w, 0, 1);
    let expires_ns = w.now_ns + 100 * SECOND;
    let now = w.now();
    w.nodes[0].restore_slot(now, slot, b, 0);
    assert!(w.nodes[0].restore_index(index, expires_ns));
    let late = seal(&mut w, 1, 0);
    w.deliver(Flight { to: 0, origin: Origin::Direct(endpoint(1)), bytes: late });
    assert_eq!(w.drops, [DropReason::UnknownIndex], "data under the old keys is not taken, nor answered");
    assert_eq!(w.send(0, 1, 1), Err(DropReason::NoRoute), "and nothing can be sealed with them");
    w.connect(0, 1);
    let sealed = seal(&mut w, 0, 1);
    assert_ne!(sealed[4..8], index.to_le_bytes());
    assert_eq!(w.nodes[0].peers().next().and_then(|p| p.slot), Some(slot), "the slot stays");
    assert_eq!(w.nodes[0].sessions().0, 2, "the adopted index is kept apart until its keys end");
}

/// A data message of `a` to `b`, not delivered.
fn seal(w: &mut World, a: usize, b: usize) -> Vec<u8> {
    let packet = ipv6(w.id(a), w.id(b), 1);
    let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
    let now = w.now();
    let out = w.nodes[a].packet(now, &mut buf, HEADROOM..HEADROOM + packet.len()).expect("seals").expect("now");
    buf[out.message].to_vec()
}
