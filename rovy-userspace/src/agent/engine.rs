//! The packet path: from sockets and TUN through dataplane and core, and back out. Nothing here waits.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use rovy_common::maps::Secrets;
use rovy_common::wire::{self, MessageType};
use rovy_common::{Counter, DropReason, ecn};
use tokio::sync::Notify;

use super::book::Book;
use super::clock;
use super::discovery::Discovery;
use super::kernel::Kernel;
use super::linker::Links;
use super::listeners::Listeners;
use super::memory::Memory;
use super::names;
use super::outbox::Outbox;
use super::tun::Host;
use crate::core::{ALL_NODES, Action, BEACON_INTERVAL, HEADROOM, Inbound, Node, Origin, Path, TAILROOM};
use crate::dataplane::{self, Admission, Dataplane as _, Gate, Tables};
use crate::fc00::firewall::{Firewall, Setup};
use crate::fc00::packet;
use crate::fc00::trace::Traces;
use crate::transport::{Batch, Endpoint, Received, drop_reason};

/// Actions that may wait for the linker before sockets are read no further.
pub(super) const BACKLOG: usize = 1024;

/// The ECN bits of a message.
pub(super) fn marks(message: &[u8]) -> u8 {
    message.get(1).map_or(ecn::NOT_ECT, |flags| ecn::of_flags(*flags))
}

/// Everything the packet thread owns.
pub(super) struct Engine {
    pub(super) node: Node,
    pub(super) tables: Tables,
    pub(super) gate: Gate,
    pub(super) kernel: Kernel,
    pub(super) listeners: Listeners,
    pub(super) links: Links,
    pub(super) host: Host,
    pub(super) traces: Traces,
    pub(super) firewall: Firewall,
    pub(super) discovery: Discovery,
    /// Every peer ever seen.
    pub(super) book: Book,
    /// Names, and DNS for this host.
    pub(super) names: names::Service,
    /// What outlives the agent; `None` when nothing is to.
    pub(super) memory: Option<Memory>,
    /// Transit that this agent sent on itself.
    pub(super) forwarded: u64,
    pub(super) actions: std::collections::VecDeque<Action>,
    /// Wakes the linker when there is something to do.
    pub(super) work: Arc<Notify>,
    /// Wakes the timer when the deadline moved.
    pub(super) timer: Arc<Notify>,
    /// Wakes readers when the backlog is gone.
    pub(super) room: Arc<Notify>,
    pub(super) scratch: Vec<u8>,
    outbox: Outbox,
    /// What the way of the message at hand says of congestion: ECN bits.
    pub(super) marks: u8,
}

/// The engine as the tasks of the packet thread share it. Borrowed between two waits only.
pub(super) type Shared = Rc<RefCell<Engine>>;

impl Engine {
    pub(super) fn new(
        node: Node,
        tables: Tables,
        gate: Gate,
        kernel: Kernel,
        listeners: Listeners,
        host: Host,
    ) -> Self {
        let firewall = Firewall::new(node.id().address(), Setup::default());
        Self {
            firewall,
            node,
            tables,
            gate,
            kernel,
            listeners,
            links: Links::default(),
            host,
            traces: Traces::default(),
            discovery: Discovery::new(false, BEACON_INTERVAL),
            book: Book::default(),
            names: names::Service::default(),
            memory: None,
            forwarded: 0,
            actions: std::collections::VecDeque::new(),
            work: Arc::new(Notify::new()),
            timer: Arc::new(Notify::new()),
            room: Arc::new(Notify::new()),
            scratch: Vec::new(),
            outbox: Outbox::default(),
            marks: ecn::NOT_ECT,
        }
    }

    /// Takes what the core wants done; wakes who does it.
    pub(super) fn collect(&mut self) {
        let before = self.actions.len();
        self.actions.extend(std::iter::from_fn(|| self.node.poll()));
        if self.actions.len() > before {
            self.timer.notify_one();
            self.work.notify_one();
        }
    }

    /// Has the linker look at the underlay anew.
    pub(super) fn touch(&mut self) {
        self.links.refresh = true;
        self.work.notify_one();
    }

    /// Tells the neighbours where this node is now. What is to be sent goes before the links are published anew: then the
    /// kernel asks for forgotten next hops from the address they are to learn.
    pub(super) fn announce(&mut self) {
        self.node.announce(clock::now());
        self.collect();
        self.touch();
    }

    /// Takes from the kernel what is no longer used.
    pub(super) fn tidy(&mut self) {
        let Some(xdp) = self.kernel.xdp() else { return };
        xdp.flush_log();
        match xdp.tidy(clock::mono_ns()) {
            Ok(ended) => {
                for slot in ended {
                    let Ok(()) = self.tables.clear_transmit(slot);
                }
            }
            Err(error) => tracing::debug!(%error, "keys that are no longer used stay in the kernel"),
        }
    }

    /// Whether readers should pause.
    pub(super) fn busy(&self) -> bool {
        self.actions.len() >= BACKLOG
    }

    /// Messages from the underlay. `exact`: nothing may follow one.
    pub(super) fn receive_all(&mut self, batch: &mut Batch, exact: bool) {
        self.turn(|e| {
            for (received, message) in batch.messages_mut() {
                e.receive(received, message, exact);
            }
        });
    }

    /// Handles several packets or messages; what they send, and what they bring the host, leaves together at the end.
    pub(super) fn turn<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        (self.outbox.open, self.host.holds) = (true, true);
        let done = work(self);
        (self.outbox.open, self.host.holds) = (false, false);
        self.flush();
        done
    }

    fn flush(&mut self) {
        let (mut dead, mut narrow) = (Vec::new(), Vec::new());
        let (listeners, tables) = (&self.listeners, &mut self.tables);
        self.outbox.flush(
            |run, bytes| listeners.send_run(&run.to, run.ecn, bytes, run.size),
            |run, count, error| {
                let reason = drop_reason(&error);
                (0..count).for_each(|_| tables.count(Counter::Drop(reason)));
                match reason {
                    DropReason::EgressDown if !dead.contains(&run.to) => dead.push(run.to),
                    DropReason::TooBig if !narrow.contains(&run.to) => narrow.push(run.to),
                    _ => {}
                }
            },
        );
        for to in dead.iter().chain(&narrow) {
            self.outbox.doubt(clock::mono_ns(), *to);
        }
        for to in dead {
            self.mourn(&to);
        }
        // The host knows of less than the device takes, and does not say how much: until the link is looked at anew it carries
        // what every link does.
        for (slot, least) in narrow.iter().filter_map(|to| self.tables.least(to)) {
            self.node.set_link_mtu(slot, Some(least));
        }
        self.flush_host();
    }

    fn flush_host(&mut self) {
        for (reason, count) in self.host.flush() {
            (0..count).for_each(|_| self.tables.count(Counter::Drop(reason)));
        }
    }

    fn receive(&mut self, received: &Received, message: &mut [u8], exact: bool) {
        if let Err(reason) = self.take(received, message, exact) {
            self.tables.count(Counter::Drop(reason));
            tracing::trace!(from = ?received.from, reason = reason.name(), "dropped");
        }
    }

    fn take(&mut self, received: &Received, message: &mut [u8], exact: bool) -> Result<(), DropReason> {
        let from = received.from;
        let (kind, length) = wire::check_bytes(message, exact)?;
        let message = message.get_mut(..length).ok_or(DropReason::BadLength)?;
        let inner = marks(message);
        self.marks = if ecn::lost(inner, received.ecn) { ecn::CE } else { ecn::inside(inner, received.ecn) };
        if kind == MessageType::Transit {
            return self.take_transit(received, message);
        }
        if wire::receiver_index(kind, message).is_some_and(|index| !self.node.expects(index)) {
            return Err(DropReason::UnknownIndex);
        }
        if matches!(kind, MessageType::Hello | MessageType::Response) {
            self.admit(&from, message)?;
        }
        if kind == MessageType::Beacon {
            return self.hear(received, message);
        }
        self.hand_over(&Origin::Direct(from), message)
    }

    /// Makes and checks cookies by new secrets, here and in the kernel.
    pub(super) fn set_secrets(&mut self, secrets: Secrets) {
        self.gate.set_secrets(secrets);
        if let Some(xdp) = self.kernel.xdp()
            && let Err(error) = xdp.set_secrets(secrets)
        {
            tracing::warn!(%error, "cannot give the kernel new secrets for cookies");
        }
    }

    /// Lets a hello or response through to the handshake, or answers that its source is to be proven.
    fn admit(&mut self, from: &Endpoint, message: &[u8]) -> Result<(), DropReason> {
        match self.gate.outermost(clock::mono_ns(), from, message)? {
            Admission::Admit => Ok(()),
            Admission::Reply(reply) => {
                if self.transmit(from, &reply).is_ok() {
                    self.tables.count(Counter::CookieReply);
                }
                Err(DropReason::BadMac2)
            }
        }
    }

    /// Gives a message to the core, and what comes out to the TUN.
    pub(super) fn hand_over(&mut self, origin: &Origin, message: &mut [u8]) -> Result<(), DropReason> {
        let taken = self.node.message(clock::now(), origin, message);
        self.collect();
        self.answer_traces();
        match taken? {
            Inbound::Done => Ok(()),
            Inbound::Packet(range) => self.marked_in(message.get_mut(range).ok_or(DropReason::BadLength)?),
            Inbound::Joined(mut packet) => self.marked_in(&mut packet),
            Inbound::Sealed(sealed) => self.take_sealed(&sealed, message),
        }
    }

    /// A packet out of a session comes in, with what its links said of congestion.
    fn marked_in(&mut self, packet: &mut [u8]) -> Result<(), DropReason> {
        packet::mark(packet, self.marks)?;
        self.let_in(packet)
    }

    /// Gives a packet to the host.
    pub(super) fn deliver(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        self.host.deliver(packet)?;
        if !self.host.holds {
            self.flush_host();
        }
        Ok(())
    }

    /// An IPv6 packet from the TUN, at `packet` of a buffer with room around it.
    pub(super) fn take_packet(&mut self, buf: &mut [u8], packet: Range<usize>) {
        if self.passes_hops(buf.get_mut(packet.clone()).unwrap_or_default()) {
            self.leave(buf, packet);
        }
    }

    /// Sends a packet on its way.
    pub(super) fn leave(&mut self, buf: &mut [u8], packet: Range<usize>) {
        if let Err(reason) = self.seal_packet(buf, packet) {
            self.tables.count(Counter::Drop(reason));
        }
    }

    fn seal_packet(&mut self, buf: &mut [u8], packet: Range<usize>) -> Result<(), DropReason> {
        let bytes = buf.get(packet.clone()).ok_or(DropReason::BadLength)?;
        packet::check(bytes).map_err(packet::Insane::reason)?;
        if self.names.takes(bytes) {
            return self.serve_host(bytes);
        }
        self.firewall.outgoing(clock::mono_ns(), bytes);
        if packet::destination(bytes) == Some(ALL_NODES) {
            let sent = self.node.packet_to_all(clock::now(), bytes);
            self.collect();
            return sent.map(drop);
        }
        let before = self.node.deadline();
        let sealed = self.node.packet(clock::now(), buf, packet.clone());
        if self.node.deadline() < before {
            self.timer.notify_one();
        }
        self.collect();
        match sealed {
            Ok(Some(out)) => self.send(&out.path, buf, out.message),
            Ok(None) => self.send_pieces(),
            Err(reason) => {
                self.refuse(reason, buf.get(packet).unwrap_or_default());
                Err(reason)
            }
        }
    }

    /// Sends the message at `range` of a buffer, under a transit header if its path is routed.
    pub(super) fn send(&mut self, path: &Path, buf: &mut [u8], range: Range<usize>) -> Result<(), DropReason> {
        match path {
            Path::Direct(to) => {
                let length = range.len();
                let sent = self.transmit_or_mourn(to, buf.get(range).ok_or(DropReason::BadLength)?);
                if sent == Err(DropReason::TooBig)
                    && let Some((slot, mtu)) = self.tables.fits_direct(to, length)
                {
                    self.note_mtu(slot, &[], mtu);
                }
                sent
            }
            Path::Routed { slot, hops } => {
                let (node, tables) = (&mut self.node, &mut self.tables);
                let inner = range.len();
                let (range, to) = dataplane::originate(node, tables, clock::now(), (*slot, hops), buf, range)?;
                let sent = self.transmit_or_mourn(&to, buf.get(range).ok_or(DropReason::BadLength)?);
                if sent == Err(DropReason::TooBig) {
                    let mtu = self.tables.fits_first(*slot, hops, inner);
                    self.note_mtu(*slot, hops, mtu);
                }
                sent
            }
        }
    }

    /// A message of this node's own was too large for the first link of its route.
    fn note_mtu(&mut self, slot: u16, hops: &[u8], mtu: u16) {
        self.node.note_mtu(clock::now(), slot, hops, mtu);
        self.collect();
    }

    /// Sends a message of the core's, which has no room in front.
    pub(super) fn send_message(&mut self, path: &Path, message: &[u8]) {
        let mut buf = std::mem::take(&mut self.scratch);
        buf.clear();
        buf.resize(HEADROOM, 0);
        let start = buf.len();
        buf.extend_from_slice(message);
        let range = start..buf.len();
        buf.resize(range.end + TAILROOM, 0);
        if let Err(reason) = self.send(path, &mut buf, range) {
            self.tables.count(Counter::Drop(reason));
            tracing::debug!(?path, reason = reason.name(), "a message of our own could not be sent");
        }
        self.scratch = buf;
    }

    /// Sends a message, or has it leave at the end of the turn. When the endpoint cannot be reached from here, a link that ends
    /// there is dead at once.
    pub(super) fn transmit_or_mourn(&mut self, to: &Endpoint, message: &[u8]) -> Result<(), DropReason> {
        let sent = self.transmit(to, message);
        if sent == Err(DropReason::EgressDown) {
            self.mourn(to);
        }
        sent
    }

    fn mourn(&mut self, to: &Endpoint) {
        self.node.lost(clock::now(), |at| at == to);
        self.collect();
    }

    fn transmit(&mut self, to: &Endpoint, message: &[u8]) -> Result<(), DropReason> {
        let ecn = marks(message);
        if !self.outbox.takes(clock::mono_ns, to) {
            let sent = self.listeners.send_run(to, ecn, message, message.len());
            return sent.map_err(|(_, e)| drop_reason(&e));
        }
        self.outbox.push(to, ecn, message);
        if self.outbox.full() {
            self.flush();
        }
        Ok(())
    }
}
