//! Sealed transit.

use rovy_common::label::Label;
use rovy_common::wire::{MessageType, codec};

use super::net::{A, B, C, Net, R, tx};
use super::*;
use crate::dataplane::Dataplane as _;

/// Sends a message along `route` of a's that ends in `hops`, and tells what r dropped it for.
fn dropped_at_r(net: &mut Net, hops: &[u8]) -> Option<DropReason> {
    net.drops.clear();
    let slot = net.slot(A, R);
    let mut inner = vec![0; 36];
    inner[..4].copy_from_slice(&[4, 1, 36, 0]);
    net.originate(A, slot, hops, &inner);
    net.settle();
    // a disbelieves what it is told of a message that it never sent.
    net.drops.retain(|(n, _)| *n != A);
    assert!(net.drops.len() <= 1, "{:?}", net.drops);
    net.drops.pop().filter(|(n, _)| *n == R).map(|(_, reason)| reason)
}

#[test]
fn the_wish_of_either_end_seals_the_link_for_both() {
    for wish in [vec![], vec![(A, R)], vec![(R, A)], vec![(A, R), (R, A)]] {
        let net = Net::line(&wish);
        assert_eq!((net.sealed(A, R), net.sealed(R, A)), (!wish.is_empty(), !wish.is_empty()), "{wish:?}");
        assert!(!net.sealed(R, B) && !net.sealed(B, R), "other links stay as they are");
    }
}

#[test]
fn links_of_both_kinds_make_one_path() {
    for kinds in 0..8 {
        let all = [(A, R), (B, R), (B, C)];
        let sealed: Vec<_> = (0..3).filter(|i| kinds & 1 << i != 0).map(|i| all[i]).collect();
        let mut net = Net::line(&sealed);
        let since = net.seen.len();
        net.route(&[A, R, B, C]);
        net.send(A, C, 7);
        net.send(C, A, 8);
        let notes: Vec<_> = net.arrived.iter().map(|(n, p)| (*n, p[40])).collect();
        assert_eq!(notes, [(C, 7), (A, 8)], "{sealed:?}: {:?}", net.drops);
        assert!(net.drops.is_empty(), "{sealed:?}: {:?}", net.drops);
        for (i, (x, y)) in all.into_iter().enumerate() {
            let kinds_seen = net.between(x, y, since);
            let expected = if kinds & 1 << i != 0 { MessageType::Data } else { MessageType::Transit };
            // Hello, response, the keepalive that confirms, two packets.
            assert!(
                kinds_seen.len() >= 5 && kinds_seen.iter().all(|k| *k == expected),
                "{sealed:?} {x}-{y}: {kinds_seen:?}"
            );
        }
        let stats = net.hosts[R].tables.slot_stats(net.slot(R, A)).expect("infallible");
        assert!(stats.rx_packets >= 3 && stats.tx_packets >= 2, "{sealed:?}: {stats:?}");
    }
}

#[test]
fn long_labels_cross_sealed_links() {
    for sealed in [vec![(R, B)], vec![(A, R), (B, C)], vec![(A, R), (R, B), (B, C), (C, R)]] {
        let mut net = Net::line(&sealed);
        let mut nodes = vec![A];
        nodes.extend([R, B, C].repeat(6));
        net.route(&nodes);
        net.send(A, C, 7);
        net.send(C, A, 8);
        let notes: Vec<_> = net.arrived.iter().map(|(n, p)| (*n, p[40])).collect();
        assert_eq!(notes, [(C, 7), (A, 8)], "{sealed:?}: {:?}", net.drops);
    }
}

#[test]
fn a_sealed_message_is_passed_on_once() {
    for sealed in [vec![(A, R)], vec![(A, R), (R, B)]] {
        let mut net = Net::line(&sealed);
        net.route(&[A, R, B, C]);
        net.send(A, C, 7);
        let sent = net.seen.iter().rev().find(|f| f.from == A).expect("sent").clone();
        let passed = |net: &Net| net.seen.iter().filter(|f| (f.from, f.to) == (R, B)).count();
        let before = passed(&net);
        net.drops.clear();
        net.deliver(sent.clone());
        assert_eq!((net.drops.pop(), passed(&net)), (Some((R, DropReason::Replay)), before));
        let mut forged = sent;
        *forged.bytes.last_mut().expect("bytes") ^= 1;
        net.deliver(forged);
        assert_eq!((net.drops.pop(), passed(&net)), (Some((R, DropReason::BadTag)), before));
    }
}

#[test]
fn the_switch_holds_for_what_came_sealed() {
    let mut net = Net::line(&[(A, R)]);
    let (to_a, to_b) = (net.slot(R, A) as u8, net.slot(R, B) as u8);
    assert_eq!(dropped_at_r(&mut net, &[to_a, 1]), Some(DropReason::UTurn));
    assert_eq!(dropped_at_r(&mut net, &[200]), Some(DropReason::NoSlot));
    assert_eq!(dropped_at_r(&mut net, &[to_b, 9]), None, "b has no such slot, not r");
    let (a, r, now) = (net.id(A), net.id(R), net.now());
    net.hosts[R].node.set_transit(a, false);
    net.hosts[A].node.start_handshake(now, r);
    net.settle();
    assert_eq!(dropped_at_r(&mut net, &[to_b, 9]), Some(DropReason::NotAllowed));
    net.send(A, R, 3);
    assert_eq!(net.arrived.pop().map(|(n, p)| (n, p[40])), Some((R, 3)), "r itself is reached");
}

/// a's tables without the flag: what a neighbour sends that does not keep to what was agreed.
#[test]
fn transit_in_the_open_is_refused_on_a_sealed_link() {
    for wish in [(A, R), (R, A)] {
        let mut net = Net::line(&[wish]);
        let link = net.hosts[A].links[&net.slot(A, R)].clone();
        let open = LinkTx { sealed: false, ..link };
        let Ok(()) = net.hosts[A].tables.set_transmit(&tx(&open), open.endpoint);
        let to_b = net.slot(R, B) as u8;
        for hops in [vec![to_b, 1], vec![]] {
            assert_eq!(dropped_at_r(&mut net, &hops), Some(DropReason::NotAllowed), "{wish:?} {hops:?}");
            assert_eq!(net.seen.last().map(|f| (f.from, f.kind())), Some((A, MessageType::Transit)), "it was sent");
        }
    }
}

#[test]
fn sealed_transit_is_refused_where_it_was_not_agreed() {
    let mut net = Net::line(&[(A, R)]);
    net.route(&[A, R, B, C]);
    let mut body = vec![0; 16 + 36];
    Label::<2>::from_route(&[1]).expect("fits").write(&mut body[..16]);
    body[16..20].copy_from_slice(&[4, 1, 36, 0]);
    for (from, to, reason) in [
        (R, B, DropReason::NotAllowed),
        // A session over hops, though all its nodes would seal.
        (A, C, DropReason::NotAllowed),
    ] {
        for kind in [codec::TRANSIT, codec::LONG_TRANSIT] {
            let (id, now) = (net.id(to), net.now());
            net.drops.clear();
            net.hosts[from].node.send_as(now, id, kind, &body);
            net.settle();
            assert_eq!(net.drops, [(to, reason)], "{from} to {to}");
        }
    }
    let (r, now) = (net.id(R), net.now());
    for (kind, length) in [(codec::TRANSIT, 31), (codec::LONG_TRANSIT, 47), (codec::TRANSIT, 0)] {
        net.drops.clear();
        net.hosts[A].node.send_as(now, r, kind, &body[..length]);
        net.settle();
        assert_eq!(net.drops, [(R, DropReason::BadLength)]);
    }
}

#[test]
fn a_changed_wish_holds_from_the_next_handshake_on() {
    let mut net = Net::line(&[]);
    net.route(&[A, R, B, C]);
    let b = net.id(B);
    net.hosts[R].node.set_sealed(b);
    net.send(A, C, 1);
    assert!(!net.sealed(R, B) && net.arrived.len() == 1);
    for round in 0..5 {
        net.pass(60);
        net.send(A, C, 2);
        net.send(C, A, 3);
        assert_eq!(net.arrived.len(), 3 + 2 * round, "{:?}", net.drops);
    }
    assert!(net.sealed(R, B) && net.sealed(B, R));
    let since = net.seen.len();
    net.send(A, C, 4);
    assert_eq!(net.between(R, B, since), [MessageType::Data]);
}
