//! Nodes with their tables in memory, and a wire on which every message can be looked at.

use rovy_common::maps::{RxLink, TxLink, kind, neighbour_id};
use rovy_common::wire::{MessageType, check_bytes};

use super::*;
use crate::dataplane::{Dataplane as _, Start, Switched, Tables, originate, pass_sealed, seal, tell};

pub(super) const A: usize = 0;
pub(super) const R: usize = 1;
pub(super) const B: usize = 2;
pub(super) const C: usize = 3;

/// A node as an agent runs it.
pub(super) struct Host {
    pub(super) node: Node,
    pub(super) tables: Tables,
    buf: Vec<u8>,
    /// Its sending sides, by slot.
    pub(super) links: BTreeMap<u16, LinkTx>,
}

/// A message outermost on the underlay.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) bytes: Vec<u8>,
}

impl Frame {
    pub(super) fn kind(&self) -> MessageType {
        check_bytes(&self.bytes, true).expect("a message").0
    }
}

pub(super) struct Net {
    pub(super) hosts: Vec<Host>,
    pub(super) wire: Vec<Frame>,
    /// All that was ever on it.
    pub(super) seen: Vec<Frame>,
    pub(super) arrived: Vec<(usize, Vec<u8>)>,
    pub(super) drops: Vec<(usize, DropReason)>,
    /// Sizes of routes that were told: to which node, route, bytes.
    pub(super) sizes: Vec<(usize, u16, Hops, u16)>,
    /// Packets given back.
    pub(super) refused: Vec<Vec<u8>>,
    /// Pairs of nodes between which nothing can be sent, smaller number first: the sender's socket says so.
    pub(super) down: BTreeSet<(usize, usize)>,
    /// What is sent stays where it is.
    pub(super) wire_off: bool,
    /// Bytes behind the header of packets that are sent.
    pub(super) send_size: usize,
    pub(super) now_ns: u64,
}

fn endpoint_number(e: &Endpoint) -> usize {
    (0..16).find(|n| endpoint(*n) == *e).expect("one of these")
}

impl Net {
    /// So many nodes without a link.
    pub(super) fn new(nodes: u8) -> Self {
        let host = |n: u8| Host {
            node: Node::new(config(n * 16 + 1), [n; 32]),
            tables: Tables::new(Width::One, None),
            buf: Vec::new(),
            links: BTreeMap::new(),
        };
        let (wire, seen, arrived, drops, sizes, refused, down) = Default::default();
        Self {
            hosts: (0..nodes).map(host).collect(),
            wire,
            seen,
            arrived,
            drops,
            sizes,
            refused,
            down,
            wire_off: false,
            send_size: 8,
            now_ns: SECOND,
        }
    }

    /// a - r - b - c and r - c, the links of `sealed` sealed by the wish of their first end.
    pub(super) fn line(sealed: &[(usize, usize)]) -> Self {
        let mut net = Self::new(4);
        for (from, to) in sealed {
            let id = net.id(*to);
            net.hosts[*from].node.set_sealed(id);
        }
        for (from, to) in [(A, R), (R, B), (C, B), (C, R)] {
            net.connect(from, to);
        }
        net
    }

    pub(super) fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: Duration::from_nanos(1_700_000_000 * SECOND + self.now_ns) }
    }

    pub(super) fn id(&self, n: usize) -> PeerId {
        self.hosts[n].node.id()
    }

    /// The slot that `at` has for `of`.
    pub(super) fn slot(&self, at: usize, of: usize) -> u16 {
        *self.hosts[at].links.iter().find(|(_, l)| l.peer == self.id(of)).expect("a link").0
    }

    pub(super) fn put(&mut self, from: usize, to: &Endpoint, bytes: Vec<u8>) {
        let frame = Frame { from, to: endpoint_number(to), bytes };
        if self.down.contains(&between(from, frame.to)) {
            return self.drops.push((from, DropReason::EgressDown));
        }
        self.seen.push(frame.clone());
        self.wire.push(frame);
    }

    pub(super) fn collect(&mut self, n: usize) {
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
                Action::PathMtu { slot, hops, mtu } => self.sizes.push((n, slot, hops, mtu)),
                Action::Unreachable(packet) => self.refused.push(packet),
                Action::Beacon(..) | Action::Expect(_) | Action::Connected(_) | Action::Disconnected(_) => {}
            }
        }
    }

    pub(super) fn originate(&mut self, n: usize, slot: u16, hops: &[u8], message: &[u8]) {
        let mut buf = vec![0; HEADROOM];
        buf.extend_from_slice(message);
        let inner = HEADROOM..buf.len();
        buf.resize(inner.end + TAILROOM, 0);
        self.originate_in(n, (slot, hops), buf, inner);
    }

    pub(super) fn originate_in(
        &mut self,
        n: usize,
        route: (u16, &[u8]),
        mut buf: Vec<u8>,
        inner: std::ops::Range<usize>,
    ) {
        let now = self.now();
        let host = &mut self.hosts[n];
        match originate(&mut host.node, &mut host.tables, now, route, &mut buf, inner) {
            Ok((range, to)) => self.put(n, &to, buf[range].to_vec()),
            Err(reason) => self.drops.push((n, reason)),
        }
    }

    /// Has a frame arrive, as the agent has it.
    pub(super) fn deliver(&mut self, mut frame: Frame) {
        let (n, now) = (frame.to, self.now());
        let host = &mut self.hosts[n];
        let (node, tables, message) = (&mut host.node, &mut host.tables, &mut frame.bytes[..]);
        let mut buf = std::mem::take(&mut host.buf);
        let transit = check_bytes(message, true).expect("a message").0 == MessageType::Transit;
        let start = Start::of(message);
        let mut body = None;
        // What was not authentic is not told of, nor what came to its end.
        let passing = std::cell::Cell::new(true);
        let came = if transit {
            let switched = tables.switch(now.mono_ns, message).inspect_err(|_| passing.set(false));
            switched.and_then(|switched| match switched {
                Switched::Forward(to, range) => Ok(Some((to, message[range].to_vec()))),
                Switched::Seal(sealing) => {
                    let (range, to) = seal(node, tables, now, sealing, message, &mut buf)?;
                    Ok(Some((to, buf[range].to_vec())))
                }
                Switched::Refused(reason) => Err(reason),
                Switched::Here { inner, slot, hops } => {
                    passing.set(false);
                    let inner = &mut message[inner];
                    let inbound = node.message(now, &Origin::Routed { slot, hops }, inner)?;
                    self.arrived.extend(packet(inbound, inner).map(|p| (n, p)));
                    Ok(None)
                }
            })
        } else {
            node.message(now, &Origin::Direct(endpoint(frame.from)), message).and_then(|inbound| match inbound {
                Inbound::Sealed(sealed) => {
                    body = Some(sealed.clone());
                    match pass_sealed(node, tables, now, &sealed, message, &mut buf)? {
                        Switched::Forward(to, range) => Ok(Some((to, buf[range].to_vec()))),
                        Switched::Seal(_) => panic!("it is sealed already"),
                        Switched::Refused(reason) => Err(reason),
                        Switched::Here { inner, slot, hops } => {
                            passing.set(false);
                            let inner = &mut buf[inner];
                            let inbound = node.message(now, &Origin::Routed { slot, hops }, inner)?;
                            self.arrived.extend(packet(inbound, inner).map(|p| (n, p)));
                            Ok(None)
                        }
                    }
                }
                other => {
                    self.arrived.extend(packet(other, message).map(|p| (n, p)));
                    Ok(None)
                }
            })
        };
        let down = |to: &Endpoint| self.down.contains(&between(n, endpoint_number(to)));
        let came = came.and_then(|sent| match sent {
            Some((to, _)) if down(&to) => Err(DropReason::EgressDown),
            sent => Ok(sent),
        });
        if let Err(reason) = &came
            && passing.get()
        {
            let quote =
                if transit { tables.quote(&start) } else { body.and_then(|s| tables.quote_sealed(&s, message)) };
            tell(node, tables, now, quote, *reason);
        }
        host.buf = buf;
        match came {
            Ok(Some((to, bytes))) => self.put(n, &to, bytes),
            Ok(None) => {}
            Err(reason) => self.drops.push((n, reason)),
        }
        self.collect(n);
    }

    pub(super) fn settle(&mut self) {
        for n in 0..self.hosts.len() {
            self.collect(n);
        }
        while !self.wire_off && !self.wire.is_empty() {
            let frame = self.wire.remove(0);
            self.deliver(frame);
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.pass_ns(seconds * SECOND);
    }

    pub(super) fn pass_ns(&mut self, ns: u64) {
        let end = self.now_ns + ns;
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

    pub(super) fn connect(&mut self, from: usize, to: usize) {
        let (id, now) = (self.id(to), self.now());
        self.hosts[from].node.connect(now, id, vec![endpoint(to)], true);
        self.settle();
    }

    /// Routes from one end to the other along nodes, and makes the session.
    pub(super) fn route(&mut self, nodes: &[usize]) {
        let slots: Vec<u16> = nodes.windows(2).map(|w| self.slot(w[0], w[1])).collect();
        let (id, now) = (self.id(nodes[nodes.len() - 1]), self.now());
        let hops = slots[1..].iter().map(|s| *s as u8).collect();
        self.hosts[nodes[0]].node.add_route(now, id, slots[0], hops);
        self.settle();
    }

    /// Sends an IPv6 packet as from the TUN.
    pub(super) fn send(&mut self, from: usize, to: usize, note: u8) {
        self.try_send(from, to, note, self.send_size).expect("sealed");
    }

    /// As [`Net::send`], with so many bytes behind the header.
    pub(super) fn try_send(&mut self, from: usize, to: usize, note: u8, payload: usize) -> Result<(), DropReason> {
        let mut packet = ipv6(self.id(from), self.id(to), note);
        packet.resize(40 + payload, 0);
        packet[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
        let mut buf = vec![0; HEADROOM];
        buf.extend_from_slice(&packet);
        buf.resize(buf.len() + TAILROOM, 0);
        let now = self.now();
        let sealed = self.hosts[from].node.packet(now, &mut buf, HEADROOM..HEADROOM + packet.len());
        match sealed? {
            Some(Outgoing { path: Path::Direct(to), message }) => self.put(from, &to, buf[message].to_vec()),
            Some(Outgoing { path: Path::Routed { slot, hops }, message }) => {
                self.originate_in(from, (slot, &hops), buf, message);
            }
            None => {}
        }
        self.settle();
        Ok(())
    }

    /// Messages between two nodes, in either direction, from the `since`th on.
    pub(super) fn between(&self, a: usize, b: usize, since: usize) -> Vec<MessageType> {
        let frames = self.seen[since..].iter();
        frames.filter(|f| (f.from, f.to) == (a, b) || (f.to, f.from) == (a, b)).map(Frame::kind).collect()
    }

    pub(super) fn sealed(&self, at: usize, of: usize) -> bool {
        self.hosts[at].node.peers().find(|p| p.id == self.id(of)).expect("a peer").sealed
    }
}

pub(super) fn tx(l: &LinkTx) -> TxLink {
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

/// The name of a link.
pub(super) fn between(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn packet(inbound: Inbound, message: &[u8]) -> Option<Vec<u8>> {
    match inbound {
        Inbound::Packet(range) => Some(message[range].to_vec()),
        Inbound::Done => None,
        Inbound::Sealed(_) => panic!("transit inside transit"),
    }
}
