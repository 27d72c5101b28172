//! The packet path: from sockets and TUN through dataplane and core, and back out. Nothing here waits.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use rovy_common::maps::Secrets;
use rovy_common::wire::{self, MessageType};
use rovy_common::{Counter, DropReason};
use tokio::sync::Notify;

use super::book::Book;
use super::clock;
use super::discovery::Discovery;
use super::kernel::Kernel;
use super::linker::Links;
use super::listeners::Listeners;
use super::memory::Memory;
use super::names;
use super::tun::Host;
use crate::core::{ALL_NODES, Action, BEACON_INTERVAL, HEADROOM, Inbound, Node, Origin, Path, TAILROOM};
use crate::dataplane::{self, Admission, Dataplane as _, Gate, Tables};
use crate::fc00::firewall::{Firewall, Setup};
use crate::fc00::packet;
use crate::transport::{Batch, Endpoint, Received, drop_reason};

/// Actions that may wait for the linker before sockets are read no further.
pub(super) const BACKLOG: usize = 1024;

/// Everything the packet thread owns.
pub(super) struct Engine {
    pub(super) node: Node,
    pub(super) tables: Tables,
    pub(super) gate: Gate,
    pub(super) kernel: Kernel,
    pub(super) listeners: Listeners,
    pub(super) links: Links,
    pub(super) host: Host,
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
        for (received, message) in batch.messages_mut() {
            self.receive(received, message, exact);
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
        if kind == MessageType::Transit {
            return self.take_transit(from, message);
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
        match taken? {
            Inbound::Done => Ok(()),
            Inbound::Packet(range) => self.let_in(message.get(range).ok_or(DropReason::BadLength)?),
            Inbound::Sealed(sealed) => self.take_sealed(&sealed, message),
        }
    }

    /// An IPv6 packet from the TUN, at `packet` of a buffer with room around it.
    pub(super) fn take_packet(&mut self, buf: &mut [u8], packet: Range<usize>) {
        if let Err(reason) = self.seal_packet(buf, packet.clone()) {
            self.tables.count(Counter::Drop(reason));
            self.refuse(reason, buf.get(packet).unwrap_or_default());
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
        let sealed = self.node.packet(clock::now(), buf, packet);
        if self.node.deadline() < before {
            self.timer.notify_one();
        }
        self.collect();
        match sealed? {
            Some(out) => self.send(&out.path, buf, out.message),
            None => Ok(()),
        }
    }

    /// A packet waited for a node that was not found.
    pub(super) fn unreachable(&mut self, packet: &[u8]) {
        self.tables.count(Counter::Drop(DropReason::NoRoute));
        self.refuse(DropReason::NoRoute, packet);
    }

    /// Tells a program on this host what became of its packet, if it is one of which programs are told.
    fn refuse(&mut self, reason: DropReason, packet: &[u8]) {
        let from = self.node.id().address();
        let known = packet::destination(packet).is_some_and(|to| self.node.knows(to));
        let code = packet::Unreachable::of(reason, known);
        if let Some(answer) = code.and_then(|code| packet::unreachable(packet, code, from)) {
            // The program only waits longer when this does not fit either.
            let _ = self.host.deliver(&answer);
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

    /// Sends a message. When the endpoint cannot be reached from here, a link that ends there is dead at once.
    pub(super) fn transmit_or_mourn(&mut self, to: &Endpoint, message: &[u8]) -> Result<(), DropReason> {
        let sent = self.transmit(to, message);
        if sent == Err(DropReason::EgressDown) {
            self.node.lost(clock::now(), |at| at == to);
            self.collect();
        }
        sent
    }

    fn transmit(&self, to: &Endpoint, message: &[u8]) -> Result<(), DropReason> {
        self.listeners.send(to, message).map_err(|e| drop_reason(&e))
    }
}
