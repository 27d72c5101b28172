//! A small IP stack inside the agent: UDP and TCP at fc00::1, for packets that come from this host.
//!
//! Time and packets go in, packets come out; nothing is opened on the host. Everything is bounded.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv6Cidr};

use super::dns::{Over, PORT, SERVICE, UDP_MAX};
use super::packet::{HEADER, MIN_MTU};

/// TCP connections at one time. With the next one the longest idle one ends.
pub const CONNECTIONS: usize = 8;
/// Datagrams that wait for an answer.
const DATAGRAMS: usize = 16;
/// Longest question in bytes: a name has 255, and options of EDNS are short. A longer one over TCP ends its connection.
pub const QUESTION_MAX: usize = 2048;
/// Bytes that a connection holds of answers.
const SEND: usize = 16 << 10;
/// Packets that wait for the host. What finds no room is sent again, or asked again.
pub const OUTGOING: usize = 64;
/// A connection on which nothing came for so long ends; ns.
const IDLE_NS: u64 = 10_000_000_000;
/// Bytes of the length in front of a message in a stream.
const LENGTH: usize = 2;

/// What answers a question.
pub type Service<'a> = &'a mut dyn FnMut(&[u8], Over) -> Option<Vec<u8>>;

/// The stack.
pub struct Stack {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    udp: SocketHandle,
    connections: Vec<Connection>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("outgoing", &self.queues.outgoing.len()).finish_non_exhaustive()
    }
}

/// A TCP socket and what of a message is there.
struct Connection {
    handle: SocketHandle,
    /// Whether somebody was on it at the last look.
    active: bool,
    /// When something last came, in ns.
    heard_ns: u64,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Stack {
    /// A stack at fc00::1. `seed` makes its sequence numbers, and no other stack's.
    #[must_use]
    pub fn new(seed: u64, now_ns: u64) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queues, instant(now_ns));
        // All of fc00::/8 is on this link: nodes' addresses are this host's alone, as nobody else's packets come here.
        interface.update_ip_addrs(|all| {
            // There is room for the first one.
            let _ = all.push(IpCidr::Ipv6(Ipv6Cidr::new(SERVICE, 8)));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let ring = |bytes| udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; bytes]);
        let mut socket = udp::Socket::new(ring(DATAGRAMS * QUESTION_MAX), ring(DATAGRAMS * UDP_MAX));
        // Only a second bind of the same socket fails.
        let _ = socket.bind(PORT);
        let udp = sockets.add(socket);
        let connections = (0..CONNECTIONS).map(|_| Connection::new(&mut sockets)).collect();
        Self { interface, queues, sockets, udp, connections }
    }

    /// Takes a packet of this host's to fc00::1, and answers what it completes.
    pub fn packet(&mut self, now_ns: u64, packet: &[u8], service: Service<'_>) {
        self.queues.incoming = Some(packet.to_vec());
        self.poll(now_ns, service);
    }

    /// Does what is due: repeats, acknowledges, gives up.
    pub fn poll(&mut self, now_ns: u64, service: Service<'_>) {
        let now = instant(now_ns);
        self.interface.poll(now, &mut self.queues, &mut self.sockets);
        self.datagrams(service);
        for connection in &mut self.connections {
            connection.serve(now_ns, &mut self.sockets, service);
        }
        self.make_room(now_ns);
        self.interface.poll(now, &mut self.queues, &mut self.sockets);
        // What ended has said so by now.
        for connection in &mut self.connections {
            connection.listen_again(&mut self.sockets);
        }
    }

    /// When [`Stack::poll`] wants to be called; monotonic ns.
    pub fn deadline(&mut self, now_ns: u64) -> u64 {
        let due = self.interface.poll_at(instant(now_ns), &self.sockets);
        let due = due.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        let sockets = &self.sockets;
        let idle = self.connections.iter().filter(|c| c.socket(sockets).is_active()).map(|c| c.heard_ns + IDLE_NS);
        idle.fold(due, u64::min)
    }

    /// The next packet for this host.
    pub fn outgoing(&mut self) -> Option<Vec<u8>> {
        self.queues.outgoing.pop_front()
    }

    fn datagrams(&mut self, service: Service<'_>) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
        while let Ok((question, from)) = socket.recv() {
            let Some(answer) = service(question, Over::Udp) else { continue };
            // Back from the address that was asked. What has no room is asked again.
            let mut to = udp::UdpMetadata::from(from.endpoint);
            to.local_address = from.local_address;
            let _ = socket.send_slice(&answer, to);
        }
    }

    /// Ends the connection that has been idle for longest when none is left for the next caller.
    fn make_room(&mut self, now_ns: u64) {
        let sockets = &mut self.sockets;
        if self.connections.iter().any(|c| c.socket(sockets).state() == tcp::State::Listen) {
            return;
        }
        if let Some(oldest) = self.connections.iter_mut().min_by_key(|c| c.heard_ns) {
            oldest.end(now_ns, sockets);
        }
    }
}

impl Connection {
    fn new(sockets: &mut SocketSet<'static>) -> Self {
        let ring = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut socket = tcp::Socket::new(ring(LENGTH + QUESTION_MAX), ring(SEND));
        // An answer is whole when it is written: nothing is to be waited for.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_timeout(Some(Duration::from_micros(IDLE_NS / 1000)));
        // Only a port of 0 is refused.
        let _ = socket.listen(PORT);
        Self { handle: sockets.add(socket), active: false, heard_ns: 0, incoming: Vec::new(), outgoing: Vec::new() }
    }

    fn socket<'s>(&self, sockets: &'s SocketSet<'static>) -> &'s tcp::Socket<'static> {
        sockets.get(self.handle)
    }

    /// Ends it at once, and waits for the next one.
    fn end(&mut self, now_ns: u64, sockets: &mut SocketSet<'static>) {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.abort();
        (self.heard_ns, self.incoming, self.outgoing) = (now_ns, Vec::new(), Vec::new());
    }

    /// Nothing of an old connection comes late on this wire: its socket takes the next one at once.
    fn listen_again(&mut self, sockets: &mut SocketSet<'static>) {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait) {
            socket.abort();
            (self.incoming, self.outgoing) = (Vec::new(), Vec::new());
            let _ = socket.listen(PORT);
        }
    }

    fn serve(&mut self, now_ns: u64, sockets: &mut SocketSet<'static>, service: Service<'_>) {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let before = std::mem::replace(&mut self.active, socket.is_active());
        if !self.active || !before {
            self.heard_ns = now_ns;
        }
        if !self.active {
            return;
        }
        if now_ns.saturating_sub(self.heard_ns) >= IDLE_NS {
            return self.end(now_ns, sockets);
        }
        loop {
            if !self.outgoing.is_empty() {
                let sent = socket.send_slice(&self.outgoing).unwrap_or(0);
                self.outgoing.drain(..sent);
            }
            // The next question waits until the answer before it is on its way: then one answer is all that is held.
            if !self.outgoing.is_empty() {
                return;
            }
            let mut more = [0; LENGTH + QUESTION_MAX];
            let room = more.len() - self.incoming.len().min(more.len());
            let came = more.get_mut(..room).map_or(0, |more| socket.recv_slice(more).unwrap_or(0));
            if came > 0 {
                self.heard_ns = now_ns;
                self.incoming.extend_from_slice(&more[..came]);
            }
            match self.incoming.split_first_chunk::<LENGTH>() {
                Some((length, _)) if usize::from(u16::from_be_bytes(*length)) > QUESTION_MAX => {
                    return self.end(now_ns, sockets);
                }
                Some((length, rest)) if rest.len() >= usize::from(u16::from_be_bytes(*length)) => {
                    let length = usize::from(u16::from_be_bytes(*length));
                    let answer = rest.get(..length).and_then(|question| service(question, Over::Tcp));
                    self.incoming.drain(..LENGTH + length);
                    let Some(answer) = answer else { return self.end(now_ns, sockets) };
                    let length = u16::try_from(answer.len()).unwrap_or(0);
                    self.outgoing.extend(length.to_be_bytes());
                    self.outgoing.extend(answer.iter().take(usize::from(length)));
                }
                // The other side said that it is done, or has not said all of it.
                _ => {
                    if socket.state() == tcp::State::CloseWait {
                        socket.close();
                    }
                    return;
                }
            }
        }
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX))
}

/// The stack's side of the wire.
#[derive(Default)]
struct Queues {
    incoming: Option<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Device for Queues {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        (self.outgoing.len() < OUTGOING).then_some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut abilities = DeviceCapabilities::default();
        abilities.medium = Medium::Ip;
        abilities.max_transmission_unit = MIN_MTU as usize;
        // What comes never left this host.
        abilities.checksum.udp = Checksum::Tx;
        abilities.checksum.tcp = Checksum::Tx;
        abilities.checksum.icmpv6 = Checksum::Tx;
        abilities
    }
}

struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        // An answer to a packet comes although the queue is full; one more is no harm.
        self.0.push_back(packet);
        result
    }
}

/// Whether a packet is for the stack.
#[must_use]
pub fn is_ours(packet: &[u8]) -> bool {
    packet.get(24..HEADER).is_some_and(|to| to == SERVICE.octets())
}

#[cfg(test)]
mod tests;
