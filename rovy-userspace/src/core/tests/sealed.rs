//! Sealed transit: nodes with their tables in memory, and a wire on which every message can be looked at.

use rovy_common::label::Label;
use rovy_common::maps::{RxLink, TxLink, kind, neighbour_id};
use rovy_common::wire::{MessageType, check_bytes, codec};

use super::*;
use crate::dataplane::{Dataplane, Switched, Tables, originate, pass_sealed, seal};

const A: usize = 0;
const R: usize = 1;
const B: usize = 2;
const C: usize = 3;

/// A node as an agent runs it.
struct Host {
    node: Node,
    tables: Tables,
    buf: Vec<u8>,
    /// Its sending sides, by slot.
    links: BTreeMap<u16, LinkTx>,
}

/// A message outermost on the underlay.
#[derive(Clone)]
struct Frame {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

impl Frame {
    fn kind(&self) -> MessageType {
        check_bytes(&self.bytes, true).expect("a message").0
    }
}

struct Net {
    hosts: Vec<Host>,
    wire: Vec<Frame>,
    /// All that was ever on it.
    seen: Vec<Frame>,
    arrived: Vec<(usize, Vec<u8>)>,
    drops: Vec<(usize, DropReason)>,
    now_ns: u64,
}

fn endpoint_number(e: &Endpoint) -> usize {
    (0..4).find(|n| endpoint(*n) == *e).expect("one of the four")
}

impl Net {
    fn new() -> Self {
        let host = |n: u8| Host {
            node: Node::new(config(n * 16 + 1), [n; 32]),
            tables: Tables::new(Width::One, None),
            buf: Vec::new(),
            links: BTreeMap::new(),
        };
        let (wire, seen, arrived, drops) = Default::default();
        Self { hosts: (0..4).map(host).collect(), wire, seen, arrived, drops, now_ns: SECOND }
    }

    /// a - r - b - c and r - c, the links of `sealed` sealed by the wish of their first end.
    fn line(sealed: &[(usize, usize)]) -> Self {
        let mut net = Self::new();
        for (from, to) in sealed {
            let id = net.id(*to);
            net.hosts[*from].node.set_sealed(id);
        }
        for (from, to) in [(A, R), (R, B), (C, B), (C, R)] {
            net.connect(from, to);
        }
        net
    }

    fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: Duration::from_nanos(1_700_000_000 * SECOND + self.now_ns) }
    }

    fn id(&self, n: usize) -> PeerId {
        self.hosts[n].node.id()
    }

    /// The slot that `at` has for `of`.
    fn slot(&self, at: usize, of: usize) -> u16 {
        *self.hosts[at].links.iter().find(|(_, l)| l.peer == self.id(of)).expect("a link").0
    }

    fn put(&mut self, from: usize, to: &Endpoint, bytes: Vec<u8>) {
        let frame = Frame { from, to: endpoint_number(to), bytes };
        self.seen.push(frame.clone());
        self.wire.push(frame);
    }

    fn collect(&mut self, n: usize) {
        while let Some(action) = self.hosts[n].node.poll() {
            let host = &mut self.hosts[n];
            match action {
                Action::Send(Path::Direct(to), bytes) => self.put(n, &to, bytes),
                Action::Send(Path::Routed { slot, hops }, bytes) => self.originate(n, slot, &hops, &bytes),
                Action::Receive(l) => {
                    let rx = RxLink {
                        expires_ns: l.expires_ns,
                        neighbour: neighbour_id(l.peer.public_key()),
                        keys: l.keys,
                        index: l.index,
                        slot: l.slot,
                        flags: l.flags(),
                        ..RxLink::default()
                    };
                    let Ok(()) = host.tables.set_receive(&rx, l.endpoint);
                }
                Action::Transmit(l) => {
                    let Ok(()) = host.tables.set_transmit(&tx(&l), l.endpoint);
                    host.links.insert(l.slot, l);
                }
                Action::Forget(index) => {
                    let Ok(_) = host.tables.clear_receive(index);
                }
                Action::Silence(slot) => {
                    let Ok(()) = host.tables.clear_transmit(slot);
                    host.links.remove(&slot);
                }
                Action::Beacon(..)
                | Action::Expect(_)
                | Action::Connected(_)
                | Action::Disconnected(_)
                | Action::Unreachable(_) => {}
            }
        }
    }

    fn originate(&mut self, n: usize, slot: u16, hops: &[u8], message: &[u8]) {
        let mut buf = vec![0; HEADROOM];
        buf.extend_from_slice(message);
        let inner = HEADROOM..buf.len();
        buf.resize(inner.end + TAILROOM, 0);
        self.originate_in(n, (slot, hops), buf, inner);
    }

    fn originate_in(&mut self, n: usize, route: (u16, &[u8]), mut buf: Vec<u8>, inner: std::ops::Range<usize>) {
        let now = self.now();
        let host = &mut self.hosts[n];
        match originate(&mut host.node, &mut host.tables, now, route, &mut buf, inner) {
            Ok((range, to)) => self.put(n, &to, buf[range].to_vec()),
            Err(reason) => self.drops.push((n, reason)),
        }
    }

    /// Has a frame arrive, as the agent has it.
    fn deliver(&mut self, mut frame: Frame) {
        let (n, now) = (frame.to, self.now());
        let host = &mut self.hosts[n];
        let (node, tables, message) = (&mut host.node, &mut host.tables, &mut frame.bytes[..]);
        let mut buf = std::mem::take(&mut host.buf);
        let came = if check_bytes(message, true).expect("a message").0 == MessageType::Transit {
            tables.switch(now.mono_ns, message, 0).and_then(|switched| match switched {
                Switched::Forward(to, range) => Ok(Some((to, message[range].to_vec()))),
                Switched::Seal(sealing) => {
                    let (range, to) = seal(node, tables, now, sealing, message, &mut buf)?;
                    Ok(Some((to, buf[range].to_vec())))
                }
                Switched::Here { inner, slot, hops } => {
                    let inner = &mut message[inner];
                    let inbound = node.message(now, &Origin::Routed { slot, hops }, inner)?;
                    self.arrived.extend(packet(inbound, inner).map(|p| (n, p)));
                    Ok(None)
                }
            })
        } else {
            node.message(now, &Origin::Direct(endpoint(frame.from)), message).and_then(|inbound| match inbound {
                Inbound::Sealed(sealed) => match pass_sealed(node, tables, now, &sealed, message, &mut buf)? {
                    Switched::Forward(to, range) => Ok(Some((to, buf[range].to_vec()))),
                    Switched::Seal(_) => panic!("it is sealed already"),
                    Switched::Here { inner, slot, hops } => {
                        let inner = &mut buf[inner];
                        let inbound = node.message(now, &Origin::Routed { slot, hops }, inner)?;
                        self.arrived.extend(packet(inbound, inner).map(|p| (n, p)));
                        Ok(None)
                    }
                },
                other => {
                    self.arrived.extend(packet(other, message).map(|p| (n, p)));
                    Ok(None)
                }
            })
        };
        host.buf = buf;
        match came {
            Ok(Some((to, bytes))) => self.put(n, &to, bytes),
            Ok(None) => {}
            Err(reason) => self.drops.push((n, reason)),
        }
        self.collect(n);
    }

    fn settle(&mut self) {
        for n in 0..self.hosts.len() {
            self.collect(n);
        }
        while !self.wire.is_empty() {
            let frame = self.wire.remove(0);
            self.deliver(frame);
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now_ns + seconds * SECOND;
        while self.now_ns < end {
            let next = self.hosts.iter().map(|h| h.node.deadline()).min().unwrap_or(end);
            self.now_ns = next.clamp(self.now_ns + 1, end);
            let now = self.now();
            for host in &mut self.hosts {
                host.node.timeout(now);
            }
            self.settle();
        }
    }

    fn connect(&mut self, from: usize, to: usize) {
        let (id, now) = (self.id(to), self.now());
        self.hosts[from].node.connect(now, id, vec![endpoint(to)], true);
        self.settle();
    }

    /// Routes from one end to the other along nodes, and makes the session.
    fn route(&mut self, nodes: &[usize]) {
        let slots: Vec<u16> = nodes.windows(2).map(|w| self.slot(w[0], w[1])).collect();
        let (id, now) = (self.id(nodes[nodes.len() - 1]), self.now());
        let hops = slots[1..].iter().map(|s| *s as u8).collect();
        self.hosts[nodes[0]].node.add_route(now, id, slots[0], hops);
        self.settle();
    }

    /// Sends an IPv6 packet as from the TUN.
    fn send(&mut self, from: usize, to: usize, note: u8) {
        let packet = ipv6(self.id(from), self.id(to), note);
        let mut buf = vec![0; HEADROOM];
        buf.extend_from_slice(&packet);
        buf.resize(buf.len() + TAILROOM, 0);
        let now = self.now();
        let sealed = self.hosts[from].node.packet(now, &mut buf, HEADROOM..HEADROOM + packet.len());
        match sealed.expect("sealed").expect("a session").clone() {
            Outgoing { path: Path::Direct(to), message } => self.put(from, &to, buf[message].to_vec()),
            Outgoing { path: Path::Routed { slot, hops }, message } => {
                self.originate_in(from, (slot, &hops), buf, message);
            }
        }
        self.settle();
    }

    /// Messages between two nodes, in either direction, from the `since`th on.
    fn between(&self, a: usize, b: usize, since: usize) -> Vec<MessageType> {
        let frames = self.seen[since..].iter();
        frames.filter(|f| (f.from, f.to) == (a, b) || (f.to, f.from) == (a, b)).map(Frame::kind).collect()
    }

    fn sealed(&self, at: usize, of: usize) -> bool {
        self.hosts[at].node.peers().find(|p| p.id == self.id(of)).expect("a peer").sealed
    }
}

fn tx(l: &LinkTx) -> TxLink {
    TxLink {
        expires_ns: l.expires_ns,
        neighbour: neighbour_id(l.peer.public_key()),
        keys: l.keys,
        index: l.index,
        counter: u32::from(l.slot) * 2,
        mtu: 1500,
        kind: kind::UDP4,
        slot: u32::from(l.slot),
        flags: l.flags(),
        ..TxLink::default()
    }
}

fn packet(inbound: Inbound, message: &[u8]) -> Option<Vec<u8>> {
    match inbound {
        Inbound::Packet(range) => Some(message[range].to_vec()),
        Inbound::Done => None,
        Inbound::Sealed(_) => panic!("transit inside transit"),
    }
}

/// Sends a message along `route` of a's that ends in `hops`, and tells what r dropped it for.
fn dropped_at_r(net: &mut Net, hops: &[u8]) -> Option<DropReason> {
    net.drops.clear();
    let slot = net.slot(A, R);
    let mut inner = vec![0; 36];
    inner[..4].copy_from_slice(&[4, 1, 36, 0]);
    net.originate(A, slot, hops, &inner);
    net.settle();
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
