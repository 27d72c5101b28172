//! Errors along reversed labels: what they bring about, and what they do not.

use rovy_common::wire::{Control, ErrorKind, ErrorMessage, Header, MessageType, control};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use super::net::{A, B, C, Net, R, between, tx};
use super::*;
use crate::core::kdf::error_check;
use crate::dataplane::{Dataplane as _, Start, Tables};

mod bad;
mod loops;

/// The fifth node.
const D: usize = 4;

impl Net {
    /// a and b with r between them, or c and d: a has routes over both, and the shorter one is in use.
    fn diamond(sealed: &[(usize, usize)]) -> Self {
        let mut net = Self::new(5);
        for (from, to) in sealed {
            let id = net.id(*to);
            net.hosts[*from].node.set_sealed(id);
        }
        for (from, to) in [(A, R), (A, C), (R, B), (C, D), (D, B)] {
            net.connect(from, to);
        }
        net.route(&[A, R, B]);
        net.route(&[A, C, D, B]);
        net.warm();
        assert_eq!(net.first_hop(), R);
        net
    }

    /// a - r - b.
    fn short_line() -> Self {
        let mut net = Self::new(3);
        net.connect(A, R);
        net.connect(R, B);
        net.route(&[A, R, B]);
        net.warm();
        net
    }

    /// Talks until the routes have been tried.
    fn warm(&mut self) {
        for _ in 0..3 {
            self.send(A, B, 0);
            self.send(B, A, 0);
            self.pass(1);
        }
        self.arrived.clear();
        self.drops.clear();
        self.seen.clear();
    }

    /// The neighbour that packets to b go over.
    fn first_hop(&self) -> usize {
        let (slot, _) = self.hosts[A].node.route_to(self.id(B)).expect("a route");
        let peer = self.hosts[A].links[&slot].peer;
        (0..self.hosts.len()).find(|n| self.id(*n) == peer).expect("known")
    }

    fn counts(&self, at: usize, kind: ErrorKind) -> [u64; 3] {
        let counts = self.hosts[at].node.error_counts();
        [counts.sent, counts.received, counts.disbelieved].map(|c| c[kind as usize - 1])
    }

    /// A packet of a's to b as it comes to the neighbour it goes over, which does not get it, and what that would quote.
    fn caught(&mut self) -> Quote {
        let frame = self.send_frame();
        let start = Start::of(&frame);
        self.hosts[self.first_hop()].tables.quote(&start).expect("transit of a's")
    }

    fn send_frame(&mut self) -> Vec<u8> {
        let hop = self.first_hop();
        self.wire_off = true;
        self.send(A, B, 9);
        self.wire_off = false;
        let caught = std::mem::take(&mut self.wire);
        caught.into_iter().rev().find(|f| f.to == hop).expect("sent").bytes
    }

    /// Another agent of the same node, which knows nothing.
    fn restart(&mut self, n: usize) {
        self.hosts[n].node = Node::new(config(n as u8 * 16 + 1), [n as u8 + 100; 32]);
        self.hosts[n].tables = Tables::new(Width::One, None);
        self.hosts[n].links.clear();
    }
}

/// Who knows b any more: nobody, or only its link is down.
fn lose(net: &mut Net, kind: ErrorKind) {
    match kind {
        ErrorKind::NoSlot => {
            let (b, now) = (net.id(B), net.now());
            net.hosts[R].node.disconnect(now, b);
            net.collect(R);
        }
        ErrorKind::LinkDown => {
            net.down.insert(between(R, B));
        }
        ErrorKind::NotAllowed => {
            let (a, r, now) = (net.id(A), net.id(R), net.now());
            net.hosts[R].node.set_transit(a, false);
            net.hosts[A].node.start_handshake(now, r);
            net.settle();
        }
        _ => panic!("not a loss"),
    }
}

const LOSSES: [ErrorKind; 3] = [ErrorKind::NoSlot, ErrorKind::LinkDown, ErrorKind::NotAllowed];

#[test]
fn the_next_route_is_used_at_once() {
    for kind in LOSSES {
        for sealed in [vec![], vec![(A, R)], vec![(R, B)], vec![(A, R), (R, B), (A, C)]] {
            let mut net = Net::diamond(&sealed);
            lose(&mut net, kind);
            let at = net.now_ns;
            net.send(A, B, 1);
            assert_eq!(net.counts(R, kind), [1, 0, 0], "{kind:?} {sealed:?}: {:?}", net.drops);
            assert_eq!(net.counts(A, kind), [0, 1, 0], "{kind:?} {sealed:?}: {:?}", net.drops);
            assert_eq!(net.first_hop(), C, "{kind:?} {sealed:?}");
            net.arrived.clear();
            net.send(A, B, 2);
            assert_eq!(net.arrived.len(), 1, "{kind:?} {sealed:?}: {:?}", net.drops);
            assert_eq!(net.now_ns, at, "no time has passed");
        }
    }
}

#[test]
fn long_labels_are_quoted_too() {
    let mut net = Net::new(4);
    for (from, to) in [(A, R), (R, B), (B, C), (C, R)] {
        net.connect(from, to);
    }
    let mut nodes = vec![A];
    nodes.extend([R, B, C].repeat(6));
    net.route(&nodes);
    net.send(A, C, 1);
    net.pass(1);
    net.down.insert(between(B, C));
    net.send(A, C, 2);
    // The packet came to b over one hop.
    let told = net.counts(B, ErrorKind::LinkDown)[0];
    assert!(told >= 1, "the packet, and the hello that looks for another way");
    assert_eq!(net.counts(A, ErrorKind::LinkDown), [0, told, 0]);
}

#[test]
fn a_hello_that_was_not_passed_on_is_told_of() {
    let mut net = Net::new(4);
    net.connect(A, R);
    let (b, now, slot) = (net.id(B), net.now(), net.slot(A, R));
    net.hosts[A].node.add_route(now, b, slot, Hops::from_iter([77]));
    net.settle();
    assert_eq!(net.counts(A, ErrorKind::NoSlot), [0, 1, 0]);
    let state = net.hosts[A].node.routes().into_iter().find(|r| r.peer == b).expect("the route").state;
    assert_eq!(state, RouteState::Dead);
}

#[test]
fn programs_are_told_when_no_route_is_left_and_when_there_is_one_again() {
    for kind in [ErrorKind::NoSlot, ErrorKind::LinkDown] {
        let mut net = Net::short_line();
        lose(&mut net, kind);
        assert_eq!(net.try_send(A, B, 1, 8), Ok(()));
        assert_eq!(net.try_send(A, B, 1, 8), Ok(()), "a search is under way");
        net.pass(2);
        assert_eq!(net.try_send(A, B, 1, 8), Err(DropReason::NoRoute), "{kind:?}");
        net.pass(20);
        assert_eq!(net.try_send(A, B, 1, 8), Err(DropReason::NoRoute), "{kind:?}");
        net.down.clear();
        net.connect(R, B);
        for _ in 0..70 {
            let _ = net.try_send(A, B, 7, 8);
            net.pass(1);
        }
        assert_eq!(net.arrived.pop().map(|(n, p)| (n, p[40])), Some((B, 7)), "{kind:?}");
    }
}

#[test]
fn the_size_of_a_route_is_told_once_and_kept() {
    for (sealed, long, fits) in [
        (vec![], false, 1400 - 28 - 40),
        (vec![(A, R)], false, 1400 - 28 - 40),
        (vec![(R, B)], false, 1400 - 28 - 40 - 12),
        (vec![], true, 1400 - 28 - 56),
    ] {
        let mut net = Net::new(4);
        for (from, to) in &sealed {
            let id = net.id(*to);
            net.hosts[*from].node.set_sealed(id);
        }
        for (from, to) in [(A, R), (R, B), (B, C), (C, R)] {
            net.connect(from, to);
        }
        let mut nodes = vec![A, R, B];
        if long {
            nodes.extend([C, R, B].repeat(5));
        }
        net.route(&nodes);
        net.pass(1);
        let link = net.hosts[R].links[&net.slot(R, B)].clone();
        let narrow = rovy_common::maps::TxLink { mtu: 1400, ..tx(&link) };
        let Ok(()) = net.hosts[R].tables.set_transmit(&narrow, link.endpoint);
        let (b, now) = (net.id(B), net.now());
        assert_eq!(net.hosts[A].node.path_mtu(now, b), None);
        // 36 bytes around the packet, 40 of its header.
        for payload in [fits - 76 + 1, fits - 76 + 1, fits - 76] {
            net.arrived.clear();
            net.try_send(A, B, 1, payload).expect("sent");
        }
        assert_eq!(net.arrived.len(), 1, "what just fits arrives: {sealed:?} {long} {:?}", net.drops);
        let (slot, hops) = net.hosts[A].node.route_to(b).expect("a route");
        assert_eq!(net.sizes, [(A, slot, hops, fits as u16)], "{sealed:?} {long}");
        assert_eq!(net.hosts[A].node.path_mtu(net.now(), b), Some(fits as u16));
        net.now_ns += 600 * SECOND;
        assert_eq!(net.hosts[A].node.path_mtu(net.now(), b), None, "the route may be better by now");
    }
}

#[test]
fn a_restarted_end_has_its_peers_make_new_sessions_at_once() {
    for sealed in [vec![], vec![(R, B)]] {
        let mut net = Net::diamond(&sealed);
        net.restart(B);
        net.connect(B, R);
        net.connect(B, D);
        let at = net.now_ns;
        net.send(A, B, 1);
        assert_eq!((net.counts(B, ErrorKind::NoSession), net.counts(A, ErrorKind::NoSession)), ([1, 0, 0], [0, 1, 0]));
        net.arrived.clear();
        net.send(A, B, 2);
        assert_eq!(net.arrived.iter().map(|(n, p)| (*n, p[40])).collect::<Vec<_>>(), [(B, 2)], "{:?}", net.drops);
        assert_eq!(net.now_ns, at);
    }
}

#[test]
fn a_hop_that_makes_up_lost_sessions_costs_a_handshake_a_second_and_no_packet() {
    let mut net = Net::short_line();
    let hellos = |net: &Net| {
        let hello = |f: &&net::Frame| f.from == A && f.bytes.get(40) == Some(&(MessageType::Hello as u8));
        net.seen.iter().filter(hello).count()
    };
    for _ in 0..50 {
        let quote = net.caught();
        let way = net.hosts[A].node.route_to(net.id(B)).expect("a route").1;
        let ended = Quote::ended(quote.slot, &way, &quote.inner).expect("a quote");
        net.refuse(B, (net.slot(B, R), &[net.slot(R, A) as u8]), ErrorKind::NoSession, 0, &ended);
        net.send(A, B, 1);
        net.pass_ns(SECOND / 10);
    }
    let made = hellos(&net);
    assert!((1..=6).contains(&made), "{made} hellos in five seconds");
    assert_eq!(net.arrived.iter().filter(|(n, _)| *n == B).count(), 50);
}

#[test]
fn an_overloaded_hop_is_left_for_a_while_where_another_route_works() {
    let mut net = Net::diamond(&[]);
    let overload = |net: &mut Net| {
        let (hop, quote) = (net.first_hop(), net.caught());
        let now = net.now();
        net.hosts[hop].node.refuse(now, &quote, ErrorKind::Overloaded, 0);
        net.settle();
    };
    let probes = |net: &Net| net.hosts[A].node.probe_counts().own;
    let before = probes(&net);
    overload(&mut net);
    assert_eq!(net.first_hop(), C);
    overload(&mut net);
    assert_eq!(net.first_hop(), C, "two that are full do not take turns");
    for _ in 0..8 {
        net.warm();
    }
    assert_eq!(net.first_hop(), R, "it is the better one");
    assert_eq!(probes(&net), before, "nothing is flooded");

    let mut net = Net::short_line();
    let before = probes(&net);
    for _ in 0..5 {
        overload(&mut net);
        net.pass(1);
    }
    assert_eq!((net.first_hop(), probes(&net)), (R, before), "the only route stays");
    net.send(A, B, 1);
    assert_eq!(net.arrived.pop().map(|(n, p)| (n, p[40])), Some((B, 1)));
}

/// The quote of a message that some node passes off as refused, sent by `from` over a route of its own.
impl Net {
    fn refuse(&mut self, from: usize, route: (u16, &[u8]), kind: ErrorKind, mtu: u16, quote: &Quote) {
        self.put_error(from, route, error(kind as u8, mtu, quote).as_bytes());
    }

    fn put_error(&mut self, from: usize, (slot, hops): (u16, &[u8]), error: &[u8]) {
        self.originate(from, slot, hops, error);
        self.settle();
    }
}

fn error(reason: u8, mtu: u16, quote: &Quote) -> ErrorMessage {
    let control = Control {
        header: Header::new(MessageType::Control, 80),
        kind: control::ERROR,
        reason,
        mtu: U16::new(mtu),
        nonce: U64::new(error_check(&quote.label, &quote.inner)),
    };
    ErrorMessage { control, label: quote.label, inner: quote.inner }
}
