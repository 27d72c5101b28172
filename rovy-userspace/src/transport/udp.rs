//! A UDP socket with packet information, batches and zero checksums.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::{Batch, Endpoint, Received, TransportError, sockopt};

/// Bytes of the kernel's buffers: some 20 ms of full-size datagrams at 1 Gbit/s, several times over.
const BUFFER: usize = 8 << 20;

/// A bound UDP socket.
///
/// Datagrams are never fragmented, neither here nor on the way. ICMP errors are not reported: they are not
/// authenticated, and one peer's must not disturb another's datagrams.
#[derive(Debug)]
pub struct UdpSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    splits: AtomicBool,
}

impl UdpSocket {
    /// Binds to `addr`; IPv6 sockets take IPv6 only. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address is taken or not this host's, or the kernel refused.
    pub fn bind(addr: SocketAddr) -> Result<Self, TransportError> {
        Self::open(addr).map_err(|source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => TransportError::InUse { addr },
            Some(libc::EADDRNOTAVAIL) => TransportError::NoSuchAddress { addr },
            Some(libc::EACCES | libc::EPERM) => {
                TransportError::Permission { what: format!("UDP {addr}"), capability: "CAP_NET_BIND_SERVICE" }
            }
            _ => TransportError::Io { what: format!("UDP {addr}"), source },
        })
    }

    fn open(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
            sockopt::accept_zero_checksums(&socket)?;
            // This host's own beacons are of no use to it.
            socket.set_multicast_loop_v6(false)?;
        } else {
            socket.set_broadcast(true)?;
        }
        enlarge_buffers(&socket);
        socket.bind(&addr.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let io = tokio::net::UdpSocket::from_std(socket.into())?;
        let local = io.local_addr()?;
        Ok(Self { io, state, local, splits: AtomicBool::new(false) })
    }

    /// The address it is bound to, with the port the kernel chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for messages. Returns how many buffers of `batch` are filled, at least one.
    ///
    /// # Errors
    /// Only what leaves the socket unusable.
    pub async fn recv(&self, batch: &mut Batch) -> io::Result<usize> {
        loop {
            self.io.readable().await?;
            match self.try_recv(batch) {
                Ok(0) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Takes what is there. `Ok(0)` when all of it was thrown away: see [`Batch::take_truncated`].
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, otherwise as [`Self::recv`].
    pub fn try_recv(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.clear();
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let count = self.io.try_io(Interest::READABLE, || {
            let mut buffers: ArrayVec<IoSliceMut<'_>, BATCH_SIZE> =
                batch.buffers.iter_mut().take(BATCH_SIZE).map(|b| IoSliceMut::new(b)).collect();
            self.receive(&mut buffers, &mut metas)
        })?;
        for (i, meta) in metas.iter().take(count).enumerate() {
            batch.keep(i, self.received(meta));
        }
        Ok(batch.received().len())
    }

    /// Errors that belong to an earlier datagram are taken off the socket, a few of them at most.
    fn receive(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        let mut tries = 0;
        loop {
            match self.state.recv(UdpSockRef::from(&self.io), buffers, metas) {
                Err(e) if tries < 16 && of_another_datagram(&e) => tries += 1,
                done => return done,
            }
        }
    }

    fn received(&self, meta: &RecvMeta) -> Received {
        let broadcast = match meta.dst_ip {
            Some(IpAddr::V4(a)) => a.is_broadcast() || a.is_multicast(),
            Some(IpAddr::V6(a)) => a.is_multicast(),
            None => false,
        };
        let local = meta.dst_ip.filter(|_| !broadcast);
        Received {
            len: meta.len,
            stride: meta.stride,
            from: Endpoint::Udp { remote: meta.addr, local },
            to_port: self.local.port(),
            ifindex: meta.interface_index.unwrap_or(0),
            broadcast,
            ecn: meta.ecn.map_or(0, |e| e as u8),
        }
    }

    /// Sends one datagram, from the address `from` of this host if given. Never waits.
    ///
    /// # Errors
    /// What the kernel said; [`super::drop_reason`] sorts it.
    pub fn send(&self, to: SocketAddr, from: Option<IpAddr>, message: &[u8]) -> io::Result<()> {
        self.send_run(to, from, 0, message, message.len()).map_err(|(_, e)| e)
    }

    /// Sends datagrams of `size` bytes, which stand one behind the other in `bytes`; the last may be shorter. As one system
    /// call where the kernel and the device split them. `ecn`: the two bits of the IP header.
    ///
    /// # Errors
    /// How many were not sent, and what the kernel said of the first of them.
    pub fn send_run(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        ecn: u8,
        bytes: &[u8],
        size: usize,
    ) -> Result<(), (usize, io::Error)> {
        let all = bytes.len().div_ceil(size.max(1)).max(1);
        if to.is_ipv6() != self.local.is_ipv6() {
            return Err((all, io::Error::from_raw_os_error(libc::EAFNOSUPPORT)));
        }
        let src_ip = from.filter(|f| f.is_ipv6() == to.is_ipv6() && !f.is_unspecified());
        let ecn = EcnCodepoint::from_bits(ecn);
        if all == 1 {
            let transmit = Transmit { destination: to, ecn, contents: bytes, segment_size: None, src_ip };
            return self.try_send(&transmit).map_err(|e| (1, e));
        }
        if self.splits.load(Ordering::Relaxed) && self.state.max_gso_segments() >= all {
            let transmit = Transmit { destination: to, ecn, contents: bytes, segment_size: Some(size), src_ip };
            match self.try_send(&transmit) {
                // A way narrower than the messages, or a device that cannot: each by itself tells.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE)) => {}
                done => return done.map_err(|e| (all, e)),
            }
        }
        let mut failed = None;
        for contents in bytes.chunks(size.max(1)) {
            let transmit = Transmit { destination: to, ecn, contents, segment_size: None, src_ip };
            if let Err(error) = self.try_send(&transmit) {
                failed.get_or_insert((0, error)).0 += 1;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether the kernel is asked to split several datagrams of one call. Not at first: the way they take has to be known.
    pub fn set_splits(&self, on: bool) {
        self.splits.store(on, Ordering::Relaxed);
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = || self.state.try_send(UdpSockRef::from(&self.io), transmit);
        match send() {
            Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => send(),
            done => done,
        }
    }
}

/// The forced sizes need CAP_NET_ADMIN; without it the kernel's limits hold (`net.core.rmem_max`).
fn enlarge_buffers(socket: &Socket) {
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER);
    }
    if rustix::net::sockopt::set_socket_send_buffer_size_force(socket, BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER);
    }
}

fn of_another_datagram(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::EMSGSIZE
                | libc::EPROTO
                | libc::ENOPROTOOPT
        )
    )
}
