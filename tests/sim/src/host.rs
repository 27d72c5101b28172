//! One simulated machine: the core of the agent and the agent's own switch, with its tables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use rovy_common::label::Width;
use rovy_common::maps::{RxLink, Source, TxLink, neighbour_id};
use rovy_common::wire::{self, MessageType};
use rovy_common::{Counter, DropReason};
use rovy_userspace::core::{
    Action, Budget, HEADROOM, Inbound, LinkRx, LinkTx, Node, NodeConfig, Now, Origin, Path, Psk, TAILROOM,
};
use rovy_userspace::dataplane::{Dataplane as _, Start, Switched, Tables, tell};
use rovy_userspace::identity::{PeerId, SecretKey};
use rovy_userspace::transport::Endpoint;

/// Something to carry to a neighbour.
pub(crate) struct Departure {
    /// The neighbour.
    pub(crate) to: usize,
    /// A whole message.
    pub(crate) message: Vec<u8>,
    /// It carries a packet of the workload.
    pub(crate) workload: bool,
}

/// What a machine produced.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) departures: Vec<Departure>,
    /// IPv6 packets for programs on it.
    pub(crate) packets: Vec<Vec<u8>>,
}

/// One node of the network.
pub(crate) struct Host {
    pub(crate) node: Node,
    tables: Tables,
    mtu: u32,
    /// Length of a data message that carries a packet of the workload.
    workload_len: usize,
}

/// Neighbours from which a node needs slots of two bytes.
pub(crate) const WIDE: usize = 250;

/// Where node number `n` is reached.
pub(crate) fn endpoint(n: usize) -> Endpoint {
    let [_, b, c, d] = (n as u32).to_be_bytes();
    Endpoint::Udp { remote: SocketAddr::from((Ipv4Addr::new(10, b, c, d), 1312)), local: None }
}

/// The node at an endpoint.
pub(crate) fn number(endpoint: &Endpoint) -> Option<usize> {
    match endpoint {
        Endpoint::Udp { remote, .. } => match remote.ip() {
            IpAddr::V4(ip) => Some((u32::from(ip) & 0x00ff_ffff) as usize),
            IpAddr::V6(_) => None,
        },
        Endpoint::Ethernet { .. } => None,
    }
}

impl Host {
    /// A machine with room for `links` neighbours, with the agent's default limits as far as they suffice.
    pub(crate) fn new(secret: SecretKey, links: usize, mtu: u32, packet_len: usize, seed: [u8; 32]) -> Self {
        let width = if links < WIDE { Width::One } else { Width::Two };
        let config = NodeConfig {
            secret,
            width,
            transit: true,
            sessions: 1024.max(4 * links as u32),
            peers: 256.max(2 * links),
            handshakes: 256.max(2 * links),
            receive_mtu: None,
            aes: true,
            psk: Psk::default(),
            probes: Budget::default(),
        };
        // Header and codec in front, tag behind.
        let workload_len = size_of::<wire::Data>() + 4 + packet_len + wire::AEAD_TAG;
        Self { node: Node::new(config, seed), tables: Tables::new(width, None), mtu, workload_len }
    }

    /// Neighbours that messages can be sent to.
    pub(crate) fn links(&self) -> usize {
        self.tables.transmitting().count()
    }

    /// The neighbour behind a slot.
    pub(crate) fn neighbour(&self, slot: u16) -> Option<usize> {
        self.tables.transmit(slot).and_then(|(_, endpoint)| number(endpoint))
    }

    /// The slot towards a neighbour, as it stands in a label.
    pub(crate) fn slot_to(&self, to: usize) -> Option<u16> {
        self.tables.transmitting().find(|(_, endpoint)| number(endpoint) == Some(to)).map(|(tx, _)| tx.slot as u16)
    }

    /// Messages dropped here, by reason.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let Ok(counts) = self.tables.counts();
        DropReason::ALL.iter().map(move |reason| (*reason, counts[Counter::Drop(*reason).index() as usize]))
    }

    /// Time has come for what [`Node::deadline`] announced.
    pub(crate) fn timeout(&mut self, now: Now, out: &mut Output) {
        self.node.timeout(now);
        self.collect(now, out);
    }

    /// A message of the neighbour `from`.
    pub(crate) fn receive(&mut self, now: Now, from: usize, message: &mut [u8], out: &mut Output) {
        if let Err(reason) = self.take(now, endpoint(from), message, out) {
            self.tables.count(Counter::Drop(reason));
        }
    }

    fn take(&mut self, now: Now, from: Endpoint, message: &mut [u8], out: &mut Output) -> Result<(), DropReason> {
        let (kind, _) = wire::check_bytes(message, true)?;
        if kind != MessageType::Transit {
            return self.hand_over(now, &Origin::Direct(from), message, out);
        }
        let start = Start::of(message);
        match self.tables.switch(now.mono_ns, message)? {
            Switched::Forward(to, range) => {
                self.depart(&to, message.get(range).ok_or(DropReason::BadLength)?, out);
                Ok(())
            }
            Switched::Refused(reason) => {
                let quote = self.tables.quote(&start);
                tell(&mut self.node, &self.tables, now, quote, reason);
                self.collect(now, out);
                Err(reason)
            }
            // No link is sealed here.
            Switched::Seal(_) => Err(DropReason::NotAllowed),
            Switched::Here { inner, slot, hops } => {
                let inner = message.get_mut(inner).ok_or(DropReason::BadLength)?;
                self.hand_over(now, &Origin::Routed { slot, hops }, inner, out)
            }
        }
    }

    fn hand_over(&mut self, now: Now, origin: &Origin, message: &mut [u8], out: &mut Output) -> Result<(), DropReason> {
        let taken = self.node.message(now, origin, message);
        self.collect(now, out);
        if let Inbound::Packet(range) = taken? {
            out.packets.push(message.get(range).ok_or(DropReason::BadLength)?.to_vec());
        }
        Ok(())
    }

    /// A program knows somebody's key.
    pub(crate) fn connect(&mut self, now: Now, id: PeerId, out: &mut Output) {
        self.node.connect(now, id, Vec::new(), false);
        self.collect(now, out);
    }

    /// The device towards a neighbour says that it has no carrier.
    pub(crate) fn carrier_lost(&mut self, now: Now, neighbour: usize, out: &mut Output) {
        if let Some(slot) = self.slot_to(neighbour) {
            let Ok(()) = self.tables.clear_transmit(slot);
            self.node.route_error(now, slot, None);
            self.collect(now, out);
        }
    }

    /// A program on this machine sends an IPv6 packet.
    pub(crate) fn send(&mut self, now: Now, packet: &[u8], out: &mut Output) {
        let mut buf = vec![0; HEADROOM + packet.len() + TAILROOM];
        let range = HEADROOM..HEADROOM + packet.len();
        buf[range.clone()].copy_from_slice(packet);
        let sealed = self.node.packet(now, &mut buf, range);
        self.collect(now, out);
        let sent = match sealed {
            Ok(Some(ready)) => self.dispatch(now, &ready.path, &mut buf, ready.message, out),
            Ok(None) => Ok(()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = sent {
            self.tables.count(Counter::Drop(reason));
        }
    }

    /// Does what the core wants done.
    pub(crate) fn collect(&mut self, now: Now, out: &mut Output) {
        while let Some(action) = self.node.poll() {
            match action {
                Action::Send(path, message) => {
                    let mut buf = vec![0; HEADROOM + message.len()];
                    buf[HEADROOM..].copy_from_slice(&message);
                    if let Err(reason) = self.dispatch(now, &path, &mut buf, HEADROOM..HEADROOM + message.len(), out) {
                        self.tables.count(Counter::Drop(reason));
                    }
                }
                Action::Receive(link) => self.set_receive(&link),
                Action::Transmit(link) => self.set_transmit(&link),
                Action::Forget(index) => {
                    let Ok(_) = self.tables.clear_receive(index);
                }
                Action::Silence(slot) => {
                    let Ok(()) = self.tables.clear_transmit(slot);
                }
                // The workload repeats its packets by itself, there is no kernel to tell, and links are configured.
                Action::Connected(_)
                | Action::Disconnected(_)
                | Action::Unreachable(_)
                | Action::Expect(_)
                | Action::PathMtu { .. }
                | Action::Beacon(..) => {}
            }
        }
    }

    fn dispatch(
        &mut self,
        now: Now,
        path: &Path,
        buf: &mut [u8],
        message: Range<usize>,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let (range, to) = match path {
            Path::Direct(to) => (message, *to),
            Path::Routed { slot, hops } => self.tables.originate(now.mono_ns, *slot, hops, buf, message)?,
        };
        let message = buf.get(range).ok_or(DropReason::BadLength)?;
        self.depart(&to, message, out);
        Ok(())
    }

    fn depart(&mut self, to: &Endpoint, message: &[u8], out: &mut Output) {
        // IPv4 and UDP headers count against the link's MTU.
        if message.len() + 28 > self.mtu as usize {
            return self.tables.count(Counter::Drop(DropReason::TooBig));
        }
        let Some(to) = number(to) else { return };
        out.departures.push(Departure { to, workload: self.is_workload(message), message: message.to_vec() });
    }

    /// Packets of the workload have a length that nothing else has: the core's own messages are shorter.
    fn is_workload(&self, message: &[u8]) -> bool {
        let front = match message.first() {
            Some(kind) if *kind == MessageType::Transit as u8 => {
                let long = message.get(1).is_some_and(|flags| flags & wire::FLAG_LONG_LABEL != 0);
                if long { 56 } else { 40 }
            }
            _ => 0,
        };
        message.get(front) == Some(&(MessageType::Data as u8)) && message.len() - front == self.workload_len
    }

    fn set_receive(&mut self, link: &LinkRx) {
        let rx = RxLink {
            expires_ns: link.expires_ns,
            neighbour: neighbour_id(link.peer.public_key()),
            keys: link.keys,
            source: Source::default(),
            index: link.index,
            slot: link.slot,
            flags: link.flags(),
        };
        let Ok(()) = self.tables.set_rate(link.slot, &link.rate);
        let Ok(()) = self.tables.set_receive(&rx, link.endpoint);
    }

    fn set_transmit(&mut self, link: &LinkTx) {
        let old = self.tables.transmit(link.slot).map(|(tx, _)| *tx);
        let counter = match old {
            Some(old) if old.index == link.index && old.keys == link.keys => old.counter,
            // Every key has a counter of its own, beginning at zero.
            _ => {
                let counter = u32::from(link.slot) * 2 + old.map_or(0, |tx| (tx.counter + 1) & 1);
                self.tables.counters().reset(counter);
                counter
            }
        };
        let tx = TxLink {
            expires_ns: link.expires_ns,
            neighbour: neighbour_id(link.peer.public_key()),
            keys: link.keys,
            index: link.index,
            counter,
            mtu: self.mtu,
            slot: u32::from(link.slot),
            public_key: *link.peer.public_key(),
            flags: link.flags(),
            ..TxLink::default()
        };
        let Ok(()) = self.tables.set_transmit(&tx, link.endpoint);
    }

    /// The way packets to a peer take now.
    pub(crate) fn path_to(&self, peer: PeerId) -> Option<Path> {
        self.node.peers().find(|view| view.id == peer).and_then(|view| view.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_an_endpoint_of_its_own() {
        for n in [0, 1, 255, 256, 999, 70_000] {
            assert_eq!(number(&endpoint(n)), Some(n));
        }
    }
}
