//! Errors that are not believed.

use super::*;

/// What a says to an error that r sends it: the reason of the drop, `None` when it was believed.
fn answer(net: &mut Net, error: &[u8]) -> Option<DropReason> {
    net.drops.clear();
    // Far apart enough for the budget.
    net.pass_ns(SECOND / 10);
    net.put_error(R, (net.slot(R, A), &[]), error);
    assert!(net.drops.len() <= 1, "{:?}", net.drops);
    net.drops.pop().map(|(n, reason)| {
        assert_eq!(n, A);
        reason
    })
}

fn unmoved(net: &Net, what: &str) {
    assert_eq!(net.first_hop(), R, "{what}");
    assert!(net.sizes.is_empty(), "{what}");
    let b = net.id(B);
    assert!(net.hosts[A].node.routes().iter().filter(|r| r.peer == b).all(|r| r.state == RouteState::Good), "{what}");
}

#[test]
fn an_error_that_quotes_garbage_changes_nothing() {
    let mut net = Net::diamond(&[]);
    let good = net.caught();
    // Type, length, index, counter, codec; version, payload length and source of the packet. Hops may mark the flags, and the
    // packet's other bytes are anybody's guess.
    let telling = (0..32).filter(|at| ![1, 21, 22, 23, 26, 27].contains(at));
    for at in telling {
        for bit in [0, 7] {
            let mut bad = good;
            bad.inner[at] ^= 1 << bit;
            if at == 20 && bit == 0 {
                continue;
            }
            let said = answer(&mut net, error(ErrorKind::NoSlot as u8, 0, &bad).as_bytes());
            assert_eq!(said, Some(DropReason::UnknownIndex), "byte {at} of the message");
            unmoved(&net, "the message");
        }
    }
    for at in [0, 1, 2] {
        let mut bad = good;
        bad.label[at] ^= 1;
        let said = answer(&mut net, error(ErrorKind::NoSlot as u8, 0, &bad).as_bytes());
        assert!(
            matches!(said, Some(DropReason::BadLabel | DropReason::UnknownIndex)),
            "byte {at} of the label: {said:?}"
        );
        unmoved(&net, "the label");
    }
    for kind in [1, 2, 3, 5, 6, 7, 255] {
        let mut bad = good;
        bad.inner[0] = kind;
        let said = answer(&mut net, error(ErrorKind::LinkDown as u8, 0, &bad).as_bytes());
        assert_eq!(said, Some(DropReason::UnknownIndex), "about type {kind}");
    }
    let [_, received, disbelieved] = net.counts(A, ErrorKind::NoSlot);
    assert!(received > 40 && received == disbelieved, "{received} {disbelieved}");
    let fresh = net.caught();
    assert_eq!(answer(&mut net, error(ErrorKind::NoSlot as u8, 0, &fresh).as_bytes()), None);
    assert_eq!(net.first_hop(), C, "the true one counts");
}

#[test]
fn who_changes_an_error_on_a_link_is_found_out() {
    let mut net = Net::diamond(&[]);
    let quote = net.caught();
    let good = error(ErrorKind::NoSlot as u8, 0, &quote);
    for at in 8..80 {
        let mut bad = good.as_bytes().to_vec();
        bad[at] ^= 0x10;
        assert_eq!(answer(&mut net, &bad), Some(DropReason::BadTag), "byte {at}");
        unmoved(&net, "a changed byte");
    }
    for (bytes, reason) in [
        (&good.as_bytes()[..79], DropReason::BadLength),
        (&good.as_bytes()[..16], DropReason::BadLength),
        (&[good.as_bytes(), &[0]].concat(), DropReason::BadLength),
    ] {
        let mut bytes = bytes.to_vec();
        bytes[2] = bytes.len() as u8;
        assert_eq!(answer(&mut net, &bytes), Some(reason));
    }
    for reason in [0, 7, 255] {
        let said = answer(&mut net, error(reason, 0, &quote).as_bytes());
        assert_eq!(said, Some(DropReason::Malformed), "reason {reason}");
    }
    unmoved(&net, "an unknown reason");
}

#[test]
fn an_error_about_a_route_that_is_not_there_or_from_elsewhere_changes_nothing() {
    let mut net = Net::diamond(&[]);
    let good = net.caught();
    // c, which is no hop of that route, has it all.
    let told = error(ErrorKind::NoSlot as u8, 0, &good);
    for hops in [vec![], vec![net.slot(R, A) as u8]] {
        net.drops.clear();
        let (from, slot) = if hops.is_empty() { (C, net.slot(C, A)) } else { (B, net.slot(B, R)) };
        net.put_error(from, (slot, &hops), told.as_bytes());
        assert_eq!(net.drops.len(), 1, "{:?}", net.drops);
        unmoved(&net, "from elsewhere");
    }
    // Another end for the same first hop.
    let mut other = good;
    other.label[2] ^= 1;
    assert_eq!(answer(&mut net, error(1, 0, &other).as_bytes()), Some(DropReason::UnknownIndex));
    unmoved(&net, "another route");
    let (b, route) = (net.id(B), net.hosts[A].node.route_to(net.id(B)).expect("a route"));
    net.hosts[A].node.remove_route(b, Some(&route));
    assert_eq!(net.first_hop(), C);
    assert_eq!(answer(&mut net, told.as_bytes()), Some(DropReason::UnknownIndex), "the route is gone");
    assert_eq!(net.first_hop(), C);
}

#[test]
fn an_error_is_believed_for_ten_seconds() {
    for (seconds, believed) in [(4, true), (11, false), (60, false)] {
        let mut net = Net::diamond(&[]);
        let told = error(ErrorKind::LinkDown as u8, 0, &net.caught());
        net.pass(seconds);
        net.send(A, B, 1);
        let said = answer(&mut net, told.as_bytes());
        assert_eq!(said, if believed { None } else { Some(DropReason::UnknownIndex) }, "{seconds} s");
    }
    // The same on the link: once.
    let mut net = Net::diamond(&[]);
    let told = error(ErrorKind::TooBig as u8, 1200, &net.caught());
    net.put_error(R, (net.slot(R, A), &[]), told.as_bytes());
    let frame = net.seen.iter().rev().find(|f| (f.from, f.to) == (R, A)).expect("sent").clone();
    net.drops.clear();
    net.deliver(frame);
    assert_eq!(net.drops, [(A, DropReason::Replay)]);
}

#[test]
fn an_error_flood_from_one_neighbour_is_bounded_and_takes_nothing_from_others() {
    let mut net = Net::diamond(&[]);
    let mut bad = net.caught();
    bad.inner[8] ^= 1;
    let told = error(ErrorKind::NoSlot as u8, 0, &bad);
    let examined = |net: &Net| net.counts(A, ErrorKind::NoSlot)[1];
    for _ in 0..1000 {
        net.put_error(R, (net.slot(R, A), &[]), told.as_bytes());
    }
    assert_eq!(examined(&net), 50);
    let limited = net.drops.iter().filter(|d| **d == (A, DropReason::RateLimited)).count();
    assert_eq!(limited, 950);
    // c's neighbour share is its own: a true one from there still counts.
    let (b, route) = (net.id(B), net.hosts[A].node.route_to(net.id(B)).expect("a route"));
    net.hosts[A].node.remove_route(b, Some(&route));
    assert_eq!(net.first_hop(), C);
    let true_one = error(ErrorKind::NoSlot as u8, 0, &net.caught());
    net.put_error(C, (net.slot(C, A), &[]), true_one.as_bytes());
    assert_eq!(examined(&net), 51);
    assert_eq!(net.counts(A, ErrorKind::NoSlot)[2], 50);
    net.now_ns += SECOND;
    net.put_error(R, (net.slot(R, A), &[]), told.as_bytes());
    assert_eq!(examined(&net), 52, "a second later there are tokens again");
}

#[test]
fn no_error_is_made_about_an_error_or_an_echo() {
    let mut net = Net::diamond(&[]);
    let good = net.caught();
    let now = net.now();
    for kind in [3, 5, 6, 7] {
        let mut about = good;
        about.inner[0] = kind;
        net.hosts[R].node.refuse(now, &about, ErrorKind::NoSlot, 0);
        net.settle();
    }
    assert_eq!(net.counts(R, ErrorKind::NoSlot), [0; 3]);
    // On its way: an error to nowhere.
    net.seen.clear();
    net.put_error(A, (net.slot(A, R), &[200]), error(1, 0, &good).as_bytes());
    assert_eq!(net.seen.len(), 1, "nothing comes back");
}

#[test]
fn an_error_with_a_size_that_cannot_be_changes_nothing() {
    let mut net = Net::diamond(&[]);
    net.send_size = 1300;
    let quote = net.caught();
    let length = u16::from_le_bytes([quote.inner[2], quote.inner[3]]);
    assert_eq!(length, 1300 + 76);
    for mtu in [0, 1, 576, LEAST_FIT - 1, length, length + 1, u16::MAX] {
        let said = answer(&mut net, error(ErrorKind::TooBig as u8, mtu, &quote).as_bytes());
        assert_eq!(said, Some(DropReason::BadLength), "{mtu}");
        unmoved(&net, "the size");
    }
    for mtu in [length - 1, LEAST_FIT] {
        assert_eq!(answer(&mut net, error(ErrorKind::TooBig as u8, mtu, &quote).as_bytes()), None);
        assert_eq!(net.hosts[A].node.path_mtu(net.now(), net.id(B)), Some(mtu));
    }
}
