//! What a label can make of one packet.

use super::*;

/// Three nodes in a ring, each a neighbour of the others, and a label of a's that goes round and round and ends in a slot
/// that nobody has.
fn round(long: bool) -> (Net, u16, Vec<u8>) {
    let mut net = Net::new(4);
    for (from, to) in [(A, R), (R, B), (B, A), (C, A)] {
        net.connect(from, to);
    }
    let ring = [(R, B), (B, A), (A, R)];
    let length = if long { 30 } else { 14 };
    let mut hops: Vec<u8> = ring.iter().cycle().take(length - 1).map(|(from, to)| net.slot(*from, *to) as u8).collect();
    hops.push(200);
    net.pass(30);
    net.seen.clear();
    net.drops.clear();
    let slot = net.slot(A, R);
    (net, slot, hops)
}

/// Bytes of a data message that no session made.
fn anything() -> Vec<u8> {
    let mut inner = vec![0; 36];
    inner[..4].copy_from_slice(&[4, 1, 36, 0]);
    inner
}

#[test]
fn a_packet_makes_no_more_than_its_label_is_long_and_an_error_as_many_again() {
    for (long, hops_most) in [(false, 14), (true, 30)] {
        let (mut net, slot, hops) = round(long);
        let states = |net: &Net| net.hosts.iter().map(|h| format!("{:?}", h.node.routes())).collect::<Vec<_>>();
        let before = states(&net);
        net.originate(A, slot, &hops, &anything());
        net.settle();
        let packets = net.seen.len();
        println!("labels of {hops_most} bytes: {packets} packets on links for one sent");
        // There: the first link and one for each slot but the last. Back: the same links.
        assert_eq!(packets, 2 * hops_most, "{:?}", net.drops);
        let told: u64 = (0..4).map(|n| net.counts(n, ErrorKind::NoSlot)[0]).sum();
        assert_eq!(told, 1);
        // a did not send what is quoted in a session.
        assert_eq!(net.counts(A, ErrorKind::NoSlot)[1..], [1, 1]);
        assert_eq!(states(&net), before, "nobody's routes changed");
    }
}

#[test]
fn a_flood_of_loops_is_charged_to_the_neighbour_that_sends_it() {
    let (mut net, slot, hops) = round(false);
    let spent = |net: &Net, at: usize, of: usize| {
        net.hosts[at].tables.slot_stats(net.slot(at, of)).expect("infallible").rx_packets
    };
    let before = [(R, A), (B, R), (A, B), (A, C)].map(|(at, of)| spent(&net, at, of));
    for _ in 0..200 {
        net.originate(A, slot, &hops, &anything());
    }
    net.settle();
    let after = [(R, A), (B, R), (A, B), (A, C)].map(|(at, of)| spent(&net, at, of));
    let packets = net.seen.len();
    println!("200 packets round a ring: {packets} packets on links");
    // Errors have a budget where the label ends: 50 at once.
    let told: u64 = (0..4).map(|n| net.counts(n, ErrorKind::NoSlot)[0]).sum();
    assert_eq!(told, 50);
    assert_eq!(packets, 200 * 14 + 50 * 14);
    let through: Vec<_> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    // Each node counts what came by the neighbour that passed it on, the last hop drops it.
    assert!(through[0] >= 200 * 4 && through[1] >= 200 * 4 && through[2] >= 200 * 4, "{through:?}");
    assert_eq!(through[3], 0, "c has nothing to do with it");
    net.drops.clear();
    net.send(C, A, 1);
    assert_eq!(net.arrived.pop().map(|(n, p)| (n, p[40])), Some((A, 1)));
}
