use std::net::Ipv6Addr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, Ipv6Cidr};

use super::{CONNECTIONS, IDLE_NS, LENGTH, Over, PORT, QUESTION_MAX, Queues, SERVICE, Stack, instant, is_ours};

const HOST: Ipv6Addr = Ipv6Addr::new(0xfc12, 0, 0, 0, 0, 0, 0, 7);
const MS: u64 = 1_000_000;

/// The host's side, with a stack of its own, and a service that says a question back.
struct Pair {
    now_ns: u64,
    stack: Stack,
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    next_port: u16,
    asked: Vec<(Vec<u8>, Over)>,
}

impl Pair {
    fn new() -> Self {
        let now_ns = 5_000 * MS;
        let mut queues = Queues::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut queues, instant(now_ns));
        interface.update_ip_addrs(|all| all.push(IpCidr::Ipv6(Ipv6Cidr::new(HOST, 8))).unwrap());
        let sockets = SocketSet::new(Vec::new());
        let stack = Stack::new(7, now_ns);
        Self { now_ns, stack, interface, queues, sockets, next_port: 40_000, asked: Vec::new() }
    }

    /// Lets packets cross until none is left.
    fn settle(&mut self) {
        for _ in 0..100 {
            let asked = &mut self.asked;
            let mut service = |question: &[u8], over| {
                asked.push((question.to_vec(), over));
                (question != b"silence").then(|| [b"re:", question].concat())
            };
            self.interface.poll(instant(self.now_ns), &mut self.queues, &mut self.sockets);
            let mut quiet = true;
            while let Some(packet) = self.queues.outgoing.pop_front() {
                assert!(is_ours(&packet));
                self.stack.packet(self.now_ns, &packet, &mut service);
                quiet = false;
            }
            self.stack.poll(self.now_ns, &mut service);
            while let Some(packet) = self.stack.outgoing() {
                assert!(packet.len() <= 1280, "{} bytes", packet.len());
                assert_eq!((&packet[8..24], &packet[24..40]), (&SERVICE.octets()[..], &HOST.octets()[..]));
                self.queues.incoming = Some(packet);
                self.interface.poll(instant(self.now_ns), &mut self.queues, &mut self.sockets);
                quiet = false;
            }
            if quiet {
                return;
            }
            self.now_ns += MS;
        }
        panic!("packets never end");
    }

    fn tcp(&mut self) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; 70_000]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        let handle = self.sockets.add(socket);
        self.next_port += 1;
        let (to, from) = (IpEndpoint::new(SERVICE.into(), PORT), self.next_port);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), to, from).unwrap();
        self.settle();
        handle
    }

    fn send(&mut self, handle: SocketHandle, bytes: &[u8]) {
        assert_eq!(self.sockets.get_mut::<tcp::Socket<'_>>(handle).send_slice(bytes), Ok(bytes.len()));
        self.settle();
    }

    fn read(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut bytes = vec![0; 70_000];
        let n = self.sockets.get_mut::<tcp::Socket<'_>>(handle).recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(n);
        bytes
    }

    fn state(&self, handle: SocketHandle) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(handle).state()
    }
}

fn framed(question: &[u8]) -> Vec<u8> {
    [&(question.len() as u16).to_be_bytes()[..], question].concat()
}

#[test]
fn datagrams_are_answered() {
    let mut pair = Pair::new();
    let ring = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 64_000]);
    let mut socket = udp::Socket::new(ring(), ring());
    socket.bind(4000).unwrap();
    for n in 0..40_u8 {
        socket.send_slice(&[n], IpEndpoint::new(SERVICE.into(), PORT)).unwrap();
    }
    socket.send_slice(b"silence", IpEndpoint::new(SERVICE.into(), PORT)).unwrap();
    let handle = pair.sockets.add(socket);
    pair.settle();
    let socket = pair.sockets.get_mut::<udp::Socket<'_>>(handle);
    for n in 0..40_u8 {
        let (answer, from) = socket.recv().unwrap();
        assert_eq!((answer, from.endpoint), (&[b'r', b'e', b':', n][..], IpEndpoint::new(SERVICE.into(), PORT)));
    }
    assert!(socket.recv().is_err());
    assert!(pair.asked.iter().all(|(_, over)| *over == Over::Udp) && pair.asked.len() == 41);
}

#[test]
fn a_connection_takes_one_question_after_the_other_however_it_is_cut() {
    let mut pair = Pair::new();
    let handle = pair.tcp();
    assert_eq!(pair.state(handle), tcp::State::Established);
    for byte in framed(b"who") {
        pair.send(handle, &[byte]);
    }
    assert_eq!(pair.read(handle), framed(b"re:who"));
    let long = vec![b'x'; QUESTION_MAX];
    pair.send(handle, &[framed(b"a"), framed(b"b"), framed(&long)].concat());
    assert_eq!(pair.read(handle), [framed(b"re:a"), framed(b"re:b"), framed(&[b"re:", &long[..]].concat())].concat());
    pair.sockets.get_mut::<tcp::Socket<'_>>(handle).close();
    pair.settle();
    assert!(matches!(pair.state(handle), tcp::State::TimeWait | tcp::State::Closed), "{}", pair.state(handle));
    assert_eq!(pair.asked.len(), 4);
}

#[test]
fn what_is_too_long_ends_the_connection_and_no_other() {
    let mut pair = Pair::new();
    let (good, bad) = (pair.tcp(), pair.tcp());
    let question = vec![0xff; 65_535];
    let sent = pair.sockets.get_mut::<tcp::Socket<'_>>(bad).send_slice(&framed(&question)).unwrap();
    assert_eq!(sent, LENGTH + 65_535);
    pair.settle();
    assert_eq!((pair.state(bad), pair.asked.len()), (tcp::State::Closed, 0));
    pair.send(good, &framed(b"still"));
    assert_eq!(pair.read(good), framed(b"re:still"));
    // What gets no answer ends it too.
    pair.send(good, &framed(b"silence"));
    assert_eq!(pair.state(good), tcp::State::Closed);
    let again = pair.tcp();
    pair.send(again, &framed(b"again"));
    assert_eq!(pair.read(again), framed(b"re:again"));
}

#[test]
fn connections_are_bounded_and_the_longest_idle_one_makes_room() {
    let mut pair = Pair::new();
    let first = pair.tcp();
    for n in 1..100_u8 {
        pair.now_ns += 10 * MS;
        let handle = pair.tcp();
        pair.send(handle, &framed(&[n]));
        assert_eq!(pair.read(handle), framed(&[b'r', b'e', b':', n]), "connection {n}");
    }
    assert_eq!(pair.state(first), tcp::State::Closed, "the one that never said a thing went first");
    let open = pair.sockets.iter().filter(|(_, s)| matches!(s, smoltcp::socket::Socket::Tcp(t) if t.is_active()));
    assert!(open.count() <= CONNECTIONS);
}

#[test]
fn an_idle_connection_ends() {
    let mut pair = Pair::new();
    let handle = pair.tcp();
    pair.send(handle, &[0]);
    let due = pair.stack.deadline(pair.now_ns);
    assert!(due > pair.now_ns && due <= pair.now_ns + IDLE_NS, "{due}");
    pair.now_ns += IDLE_NS + MS;
    pair.settle();
    assert_eq!(pair.state(handle), tcp::State::Closed);
    assert_eq!(pair.stack.deadline(pair.now_ns), u64::MAX, "nothing is left to be done");
}

#[test]
fn other_ports_are_closed() {
    let mut pair = Pair::new();
    let ring = || tcp::SocketBuffer::new(vec![0; 100]);
    let handle = pair.sockets.add(tcp::Socket::new(ring(), ring()));
    let to = IpEndpoint::new(SERVICE.into(), 80);
    pair.sockets.get_mut::<tcp::Socket<'_>>(handle).connect(pair.interface.context(), to, 4001).unwrap();
    pair.settle();
    assert_eq!(pair.state(handle), tcp::State::Closed);
}

#[test]
fn packets_of_any_bytes_do_no_harm() {
    use proptest::prelude::*;
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    proptest!(|(all in proptest::collection::vec((bytes(), any::<u8>()), 1..20))| {
        let mut stack = Stack::new(1, 0);
        let mut service = |question: &[u8], _| Some(question.to_vec());
        for (n, (payload, next)) in all.into_iter().enumerate() {
            let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
            packet.extend(HOST.octets());
            packet.extend(SERVICE.octets());
            packet.extend(&payload);
            stack.packet(n as u64 * MS, &packet, &mut service);
            stack.packet(n as u64 * MS, &payload, &mut service);
            let out = std::iter::from_fn(|| stack.outgoing()).count();
            prop_assert!(out <= 4, "{out} packets for two");
        }
    });
}
