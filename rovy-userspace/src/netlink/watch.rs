//! Notices of what changes in the kernel's tables.

use std::net::IpAddr;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::sync::mpsc;

use super::NetlinkError;

/// Something changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// An interface is new or has changed: up, down, MAC address, MTU, master, XDP.
    Link(u32),
    /// An interface was removed.
    LinkGone(u32),
    /// An address was added to or removed from an interface.
    Address(u32),
    /// A neighbour appeared, changed or went.
    Neighbour {
        /// On this interface.
        ifindex: u32,
        /// Its address.
        addr: IpAddr,
    },
    /// A route was added or removed.
    Route,
    /// Notices were lost: look at everything again.
    Overrun,
}

/// Notices that wait for the receiver; the kernel keeps more, and says when it could not.
const QUEUE: usize = 256;
/// Bytes the kernel keeps.
const BUFFER: usize = 1 << 20;

/// Starts watching, in the network namespace of the calling thread and within a tokio runtime. The future does the
/// work: spawn it. It ends when the receiver is dropped, or with an error when the socket fails.
///
/// # Errors
/// The kernel refused the socket.
pub fn watch()
-> Result<(mpsc::Receiver<Change>, impl Future<Output = Result<(), NetlinkError>> + Send + 'static), NetlinkError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let mask = groups.iter().fold(0, |mask, g| mask | 1 << (*g as u32 - 1));
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, mask))?;
    // Without CAP_NET_ADMIN the kernel's limit holds, and overruns are more likely.
    let _ = socket.socket_mut().set_rx_buf_sz(BUFFER as u32);
    let (sender, receiver) = mpsc::channel(QUEUE);
    Ok((receiver, run(socket, sender)))
}

async fn run(socket: TokioSocket, sender: mpsc::Sender<Change>) -> Result<(), NetlinkError> {
    loop {
        let received = tokio::select! {
            () = sender.closed() => return Ok(()),
            received = socket.recv_from_full() => received,
        };
        let changes = match received {
            // Only the kernel may speak here.
            Ok((_, from)) if from.port_number() != 0 => continue,
            Ok((datagram, _)) => changes(&datagram),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                drain(&socket);
                vec![Change::Overrun]
            }
            Err(e) => return Err(e.into()),
        };
        for change in changes {
            // Waiting here leaves the rest to the kernel's buffer, which has an end and tells when it is reached.
            if sender.send(change).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Until its queue was empty once the kernel drops notices without telling again, so [`Change::Overrun`] must come after.
fn drain(socket: &TokioSocket) {
    for _ in 0..100_000 {
        match socket.socket_ref().recv_from_full() {
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// The changes that a datagram of the kernel tells. What cannot be read counts as [`Change::Overrun`].
#[must_use]
pub fn changes(datagram: &[u8]) -> Vec<Change> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Ok(header) = NetlinkBuffer::new_checked(rest) {
        let change = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map(|m| m.payload) {
            Ok(NetlinkPayload::InnerMessage(message)) => change(&message),
            Ok(_) => None,
            // Something happened, but what is not known.
            Err(_) => Some(Change::Overrun),
        };
        found.extend(change);
        rest = rest.get((header.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn change(message: &RouteNetlinkMessage) -> Option<Change> {
    use RouteNetlinkMessage as M;
    match message {
        M::NewLink(l) => Some(Change::Link(l.header.index)),
        M::DelLink(l) => Some(link_gone(l)),
        M::NewAddress(a) | M::DelAddress(a) => Some(Change::Address(a.header.index)),
        M::NewNeighbour(n) | M::DelNeighbour(n) => neighbour(n),
        M::NewRoute(_) | M::DelRoute(_) => Some(Change::Route),
        _ => None,
    }
}

/// A port that leaves a bridge is announced as deleted too, in the bridge's family.
fn link_gone(message: &LinkMessage) -> Change {
    match message.header.interface_family {
        AddressFamily::Bridge => Change::Link(message.header.index),
        _ => Change::LinkGone(message.header.index),
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<Change> {
    let addr = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(IpAddr::from(*a)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(IpAddr::from(*a)),
        _ => None,
    })?;
    Some(Change::Neighbour { ifindex: message.header.ifindex, addr })
}
