//! The sockets this node listens on, and the tasks that read them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use rovy_common::encap;
use tokio::task::JoinHandle;

use super::engine::Shared;
use crate::core::Path;
use crate::multiaddr::Multiaddr;
use crate::netlink::Interface;
use crate::transport::{Batch, Endpoint, EthernetError, EthernetSocket, TransportError, UdpSocket};

/// Receives at once: enough to be worth the system call, few enough that nobody waits long. One of UDP may bring many messages.
const BATCH: usize = 16;
/// Frames read at once: as many as the host gets joined.
const FRAMES: usize = 64;
/// The largest frame read from Ethernet, jumbo frames included.
const FRAME: usize = 9_216;
/// The largest message this node takes: what is left of a frame.
pub(super) const LARGEST: u16 = (FRAME - encap::ETH) as u16;

/// The socket of a listener.
#[derive(Clone)]
pub(super) enum Socket {
    Udp(Rc<UdpSocket>),
    Ethernet(Rc<EthernetSocket>),
}

/// One listener. Without a socket it is down and comes back with its interface.
pub(super) struct Listener {
    pub(super) address: Multiaddr,
    pub(super) socket: Option<Socket>,
    reader: Option<JoinHandle<()>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

/// All listeners.
#[derive(Default)]
pub(super) struct Listeners {
    all: Vec<Listener>,
}

impl Listeners {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.all.iter()
    }

    pub(super) fn find(&self, address: &Multiaddr) -> Option<&Listener> {
        self.all.iter().find(|l| l.address == *address)
    }

    pub(super) fn remove(&mut self, address: &Multiaddr) -> Option<Listener> {
        let at = self.all.iter().position(|l| l.address == *address)?;
        Some(self.all.remove(at))
    }

    /// Has frames leave with the MAC addresses that the interfaces have now.
    pub(super) fn follow_macs(&self, interfaces: &[Interface]) {
        for l in &self.all {
            let Some(Socket::Ethernet(s)) = &l.socket else { continue };
            if let Some(mac) = interfaces.iter().find(|i| i.index == s.ifindex()).and_then(|i| i.mac) {
                s.set_mac(mac);
            }
        }
    }

    /// The socket to reach `remote` from: the one bound to `local`, or to the address the host would send from, or to all.
    fn udp(&self, remote: &SocketAddr, local: Option<IpAddr>) -> Option<&Rc<UdpSocket>> {
        let family = |s: &Rc<UdpSocket>| s.local_addr().is_ipv6() == remote.is_ipv6();
        let sockets: Vec<_> = self.udp_sockets().filter(|s| family(s)).collect();
        if let [only] = sockets[..] {
            return Some(only);
        }
        let any = sockets.iter().find(|s| s.local_addr().ip().is_unspecified());
        let source = local.or_else(|| if any.is_some() { None } else { source_towards(remote) });
        let exact = sockets.iter().find(|s| Some(s.local_addr().ip()) == source);
        exact.or(any).or(sockets.first()).copied()
    }

    fn udp_sockets(&self) -> impl Iterator<Item = &Rc<UdpSocket>> {
        self.all.iter().filter_map(|l| match &l.socket {
            Some(Socket::Udp(s)) => Some(s),
            _ => None,
        })
    }

    /// The Ethernet socket on an interface.
    pub(super) fn ethernet(&self, ifindex: u32) -> Option<&Rc<EthernetSocket>> {
        self.all.iter().find_map(|l| match &l.socket {
            Some(Socket::Ethernet(s)) if s.ifindex() == ifindex => Some(s),
            _ => None,
        })
    }

    /// The Ethernet socket on an interface, by its name.
    pub(super) fn ethernet_named(&self, name: &str) -> Option<&Rc<EthernetSocket>> {
        self.all.iter().find_map(|l| match &l.socket {
            Some(Socket::Ethernet(s)) if s.ifname() == name => Some(s),
            _ => None,
        })
    }

    /// Whether the kernel is asked to split several datagrams of one call.
    pub(super) fn set_splits(&self, on: bool) {
        self.udp_sockets().for_each(|s| s.set_splits(on));
    }

    /// Addresses of the UDP listeners.
    pub(super) fn udp_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.udp_sockets().map(|s| s.local_addr())
    }

    /// The address that messages to an endpoint leave from, if it is certain, and the port; `None` when no listener can
    /// reach it.
    pub(super) fn from(&self, remote: &SocketAddr, local: Option<IpAddr>) -> Option<(Option<IpAddr>, u16)> {
        let bound = self.udp(remote, local)?.local_addr();
        let ip = if bound.ip().is_unspecified() { local } else { Some(bound.ip()) };
        Some((ip, bound.port()))
    }

    /// Sends messages of `size` bytes, which stand one behind the other in `bytes`; the last may be shorter.
    ///
    /// # Errors
    /// How many were not sent, and why.
    pub(super) fn send_run(&self, to: &Endpoint, ecn: u8, bytes: &[u8], size: usize) -> Result<(), (usize, io::Error)> {
        let none = || io::Error::from_raw_os_error(libc::ENETDOWN);
        let all = bytes.len().div_ceil(size.max(1)).max(1);
        match to {
            Endpoint::Udp { remote, local } => {
                let socket = self.udp(remote, *local).ok_or_else(|| (all, none()))?;
                socket.send_run(*remote, *local, ecn, bytes, size)
            }
            Endpoint::Ethernet { ifindex, mac } => {
                let socket = self.ethernet(*ifindex).ok_or_else(|| (all, none()))?;
                socket.send_run(*mac, bytes, size).map_err(|(lost, e)| match e {
                    EthernetError::Io { source, .. } => (lost, source),
                    EthernetError::Down { .. } | EthernetError::Gone { .. } => (lost, none()),
                })
            }
        }
    }
}

/// The address this host would send to `remote` from. Connecting a UDP socket looks it up and sends nothing.
fn source_towards(remote: &SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if remote.is_ipv6() { ([0; 16], 0).into() } else { ([0; 4], 0).into() };
    let probe = std::net::UdpSocket::bind(any).ok()?;
    probe.connect(remote).ok()?;
    probe.local_addr().ok().map(|a| a.ip())
}

/// Opens the socket of a listener. `interface` is needed for Ethernet.
pub(super) fn open(
    address: &Multiaddr,
    interface: Option<&Interface>,
    ethertype: u16,
) -> Result<Option<Socket>, TransportError> {
    match (address, interface) {
        (Multiaddr::Udp { addr, .. }, _) => Ok(Some(Socket::Udp(Rc::new(UdpSocket::bind(*addr)?)))),
        (Multiaddr::Ethernet { ifname, .. }, Some(Interface { index, mac: Some(mac), .. })) => {
            let socket = EthernetSocket::open(*index, ifname, *mac, ethertype)?;
            Ok(Some(Socket::Ethernet(Rc::new(socket))))
        }
        _ => Ok(None),
    }
}

/// Adds a listener, or gives one that was down its socket, and starts reading.
pub(super) fn start(engine: &Shared, address: Multiaddr, socket: Option<Socket>) {
    let reader = socket.clone().map(|s| {
        let (engine, address) = (engine.clone(), address.clone());
        tokio::task::spawn_local(async move {
            match s {
                Socket::Udp(s) => read_udp(&engine, &s).await,
                Socket::Ethernet(s) => read_ethernet(&engine, &s).await,
            }
            // The interface went away: the listener stays, without its socket.
            let mut e = engine.borrow_mut();
            if let Some(l) = e.listeners.all.iter_mut().find(|l| l.address == address) {
                tracing::warn!(%address, "the listener is down until its interface is back");
                l.socket = None;
                l.reader = None;
            }
        })
    });
    let mut e = engine.borrow_mut();
    let listener = Listener { address, socket, reader };
    match e.listeners.all.iter_mut().find(|l| l.address == listener.address) {
        Some(old) => *old = listener,
        None => e.listeners.all.push(listener),
    }
}

/// Waits while the linker is behind, so that a flood of handshakes fills the socket and not the memory.
async fn room(engine: &Shared) {
    loop {
        let wait = {
            let e = engine.borrow();
            if !e.busy() {
                return;
            }
            e.room.clone()
        };
        wait.notified().await;
    }
}

/// Gives the other tasks their turn after a full batch: a socket that is never empty keeps neither commands nor timers
/// from running.
async fn others(full: bool) {
    if full {
        tokio::task::yield_now().await;
    }
}

async fn read_udp(engine: &Shared, socket: &UdpSocket) {
    let mut batch = Batch::new(BATCH, Batch::LARGEST);
    loop {
        room(engine).await;
        match socket.recv(&mut batch).await {
            Ok(n) => {
                engine.borrow_mut().receive_all(&mut batch, true);
                others(n >= BATCH).await;
            }
            Err(error) => {
                tracing::warn!(%error, address = %socket.local_addr(), "cannot read the UDP socket");
                return;
            }
        }
    }
}

async fn read_ethernet(engine: &Shared, socket: &EthernetSocket) {
    let mut batch = Batch::new(FRAMES, FRAME);
    loop {
        room(engine).await;
        match socket.recv(&mut batch).await {
            Ok(n) => {
                engine.borrow_mut().receive_all(&mut batch, false);
                others(n >= FRAMES).await;
            }
            // The socket lives on; the interface may come up again.
            Err(error @ EthernetError::Down { .. }) => tracing::info!(%error, "nothing comes in here for now"),
            Err(error) => {
                tracing::warn!(%error, "cannot read the Ethernet socket");
                return;
            }
        }
    }
}

/// An endpoint as people write it.
pub(super) fn endpoint_text(path: Option<&Path>, name: impl Fn(u32) -> String) -> Option<String> {
    match path? {
        Path::Direct(e) => Some(endpoint_string(e, name)),
        Path::Routed { .. } => None,
    }
}

/// An endpoint as people write it; `name` gives an interface's name.
pub(super) fn endpoint_string(endpoint: &Endpoint, name: impl Fn(u32) -> String) -> String {
    match endpoint {
        Endpoint::Udp { remote: SocketAddr::V6(a), .. } if a.scope_id() != 0 => {
            format!("/ip6zone/{}/ip6/{}/udp/{}", a.scope_id(), a.ip(), a.port())
        }
        Endpoint::Udp { remote, .. } => {
            let family = if remote.is_ipv4() { "ip4" } else { "ip6" };
            format!("/{family}/{}/udp/{}", remote.ip(), remote.port())
        }
        Endpoint::Ethernet { ifindex, mac } => {
            let [a, b, c, d, e, f] = mac;
            format!("/ethif/{} {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}", name(*ifindex))
        }
    }
}
