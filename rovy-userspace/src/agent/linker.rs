//! Does what the core wants done, in order: sends its messages, and tells tables and kernel about links. One task, the only
//! one that writes tables, so no older state overwrites a newer one while it waits for an answer of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use rovy_common::encap::Macs;
use rovy_common::maps::{RxLink, Source, TxLink, neighbour_id, tx_flag};

use super::counters::Positions;
use super::double;
use super::engine::Shared;
use crate::core::{Action, LinkRx, LinkTx};
use crate::dataplane::{Dataplane, Wire};
use crate::netlink::{Interface, Netlink, ResolveError};
use crate::transport::Endpoint;

/// How long an answer of the kernel may take before the link is published without it.
const PATIENCE: Duration = Duration::from_millis(200);

/// A neighbour of the underlay: the interface and its address.
pub(super) type NextHop = (u32, IpAddr);

/// Where an endpoint is.
struct Place {
    /// What the link's frames look like, or why that is not known.
    wire: Result<Wire, String>,
    next_hop: Option<NextHop>,
}

/// A sending side as the core wants it, and what became of it.
#[derive(Clone)]
pub(super) struct Sending {
    pub(super) link: LinkTx,
    pub(super) next_hop: Option<NextHop>,
    /// Empty while the kernel sends by itself; else why it does not.
    pub(super) why: String,
}

/// The links as the core wants them.
#[derive(Default)]
pub(super) struct Links {
    rx: BTreeMap<u32, LinkRx>,
    pub(super) tx: BTreeMap<u16, Sending>,
    pub(super) counters: Positions,
    /// Everything is to be published anew: the underlay changed.
    pub(super) refresh: bool,
    pub(super) interfaces: Vec<Interface>,
}

impl Links {
    /// The name of an interface.
    pub(super) fn name(&self, ifindex: u32) -> String {
        let found = self.interfaces.iter().find(|i| i.index == ifindex);
        found.map_or_else(|| format!("#{ifindex}"), |i| i.name.clone())
    }

    /// Whether the core told of this receiver index.
    pub(super) fn rx_is_told(&self, index: u32) -> bool {
        self.rx.contains_key(&index)
    }

    /// The neighbours of the underlay that the links lead through.
    pub(super) fn next_hops(&self) -> BTreeSet<NextHop> {
        self.tx.values().filter_map(|s| s.next_hop).collect()
    }
}

/// Runs for ever.
pub(super) async fn run(engine: Shared, netlink: Netlink, ethertype: u16) {
    let linker = Linker { engine, netlink, ethertype };
    loop {
        let (action, refresh, work) = {
            let mut e = linker.engine.borrow_mut();
            let action = e.actions.pop_front();
            let refresh = action.is_none() && std::mem::take(&mut e.links.refresh);
            if action.is_none() {
                e.room.notify_waiters();
            }
            (action, refresh, e.work.clone())
        };
        match action {
            Some(action) => linker.apply(action).await,
            None if refresh => linker.refresh().await,
            None => work.notified().await,
        }
    }
}

/// Whether others may have to reach this host elsewhere.
fn moved(before: &[Interface], now: &[Interface]) -> bool {
    fn at(i: &Interface) -> impl PartialEq + '_ {
        (i.index, i.up && i.carrier, i.mac, &i.addrs)
    }
    !before.iter().map(at).eq(now.iter().map(at))
}

/// Has the kernel find or confirm a neighbour's MAC address. What comes of it is told by netlink.
pub(super) async fn confirm(netlink: &Netlink, ifindex: u32, addr: IpAddr) {
    match tokio::time::timeout(PATIENCE, netlink.probe_neighbour(ifindex, addr)).await {
        Ok(Ok(())) => {}
        // Not a matter of life: an ordinary user may not, and the sockets make the kernel ask as well.
        Ok(Err(error)) => tracing::debug!(%error, "cannot have the neighbour confirmed"),
        Err(_) => tracing::debug!(%addr, "the kernel does not answer"),
    }
}

struct Linker {
    engine: Shared,
    netlink: Netlink,
    ethertype: u16,
}

impl Linker {
    async fn apply(&self, action: Action) {
        match action {
            Action::Send(path, message) => self.engine.borrow_mut().send_message(&path, &message),
            Action::Beacon(outlet, message) => self.engine.borrow_mut().send_beacon(outlet, &message),
            Action::Receive(link) => self.receive(link).await,
            Action::Transmit(link) => self.transmit(link).await,
            Action::Expect(index) => self.expect(index),
            Action::Forget(index) => self.forget(index),
            Action::Silence(slot) => self.silence(slot),
            Action::Connected(peer) => tracing::info!(%peer, "connected"),
            Action::Disconnected(peer) => tracing::info!(%peer, "disconnected"),
            // Asked for when a packet comes: `Node::path_mtu`.
            Action::PathMtu { .. } => {}
            Action::Unreachable(packet) => self.engine.borrow_mut().unreachable(&packet),
        }
    }

    async fn locate(&self, endpoint: &Endpoint) -> Place {
        let mut next_hop = None;
        let wire = self.wire(endpoint, &mut next_hop).await;
        Place { wire, next_hop }
    }

    async fn wire(&self, endpoint: &Endpoint, next_hop: &mut Option<NextHop>) -> Result<Wire, String> {
        match *endpoint {
            Endpoint::Ethernet { ifindex, mac } => {
                let e = self.engine.borrow();
                let socket = e.listeners.ethernet(ifindex).ok_or("no listener on its interface")?;
                let mtu = e.links.interfaces.iter().find(|i| i.index == ifindex).map_or(1500, |i| i.mtu);
                Ok(Wire::ethernet(ifindex, Macs { dst: mac, src: socket.mac() }, mtu, self.ethertype))
            }
            Endpoint::Udp { remote, local } => {
                let from = self.engine.borrow().listeners.from(&remote, local);
                let (local, port) = from.ok_or("no listener that could send to it")?;
                let scope = match remote {
                    std::net::SocketAddr::V6(a) if a.scope_id() != 0 => Some(a.scope_id()),
                    _ => None,
                };
                let resolving = self.netlink.resolve_on(remote.ip(), local, scope);
                let resolved = tokio::time::timeout(PATIENCE, resolving).await;
                let underlay = resolved.map_err(|_| "the kernel does not answer".to_owned())?;
                match &underlay {
                    Ok(u) => *next_hop = Some((u.ifindex, u.next_hop)),
                    Err(ResolveError::NoNeighbour { ifindex, next_hop: at, .. }) => {
                        *next_hop = Some((*ifindex, *at));
                        // Nothing may be sent that would make the kernel ask, and a neighbour that has our former MAC
                        // address learns the new one by being asked.
                        confirm(&self.netlink, *ifindex, *at).await;
                    }
                    Err(_) => {}
                }
                let underlay = underlay.map_err(|e| e.to_string())?;
                Wire::udp(&underlay, remote, port).ok_or_else(|| "address families differ".to_owned())
            }
        }
    }

    /// Attaches XDP where the link comes in.
    fn attach(&self, wire: &Wire) {
        let mut e = self.engine.borrow_mut();
        let name = e.links.name(wire.ifindex);
        e.kernel.attach(wire.ifindex, &name);
    }

    async fn receive(&self, link: LinkRx) {
        let Place { wire, .. } = self.locate(&link.endpoint).await;
        if let Ok(wire) = &wire {
            self.attach(wire);
        }
        let rx = RxLink {
            expires_ns: link.expires_ns,
            neighbour: neighbour_id(link.peer.public_key()),
            keys: link.keys,
            source: wire.map_or_else(|_| Source::default(), |w| w.source),
            index: link.index,
            slot: link.slot,
            flags: link.flags(),
        };
        let (endpoint, rate) = (link.endpoint, link.rate);
        let mut e = self.engine.borrow_mut();
        e.links.rx.insert(link.index, link);
        let Ok(()) = e.tables.set_rate(rx.slot, &rate);
        let Ok(()) = e.tables.set_receive(&rx, endpoint);
        if let Some(xdp) = e.kernel.xdp()
            && let Err(error) = xdp.set_rate(rx.slot, &rate).and_then(|()| xdp.set_receive(&rx, endpoint))
        {
            tracing::warn!(%error, "cannot tell the kernel about a link");
        }
    }

    async fn transmit(&self, link: LinkTx) {
        let Place { wire, next_hop } = self.locate(&link.endpoint).await;
        if let Ok(wire) = &wire {
            self.attach(wire);
        }
        let mut e = self.engine.borrow_mut();
        let e = &mut *e;
        let in_use = |counter| e.tables.transmitting().any(|(tx, _)| tx.counter == counter);
        let Some((counter, fresh)) = e.links.counters.of(link.slot, link.key, in_use) else {
            tracing::error!(slot = link.slot, peer = %link.peer, "no counter for new keys: the link stays as it was");
            return;
        };
        if fresh {
            e.tables.counters().reset(counter);
        }
        let mut tx = TxLink {
            expires_ns: link.expires_ns,
            neighbour: neighbour_id(link.peer.public_key()),
            keys: link.keys,
            index: link.index,
            counter,
            mtu: 1280,
            flags: link.flags(),
            slot: u32::from(link.slot),
            link: u32::from(link.link),
            public_key: *link.peer.public_key(),
            ..TxLink::default()
        };
        let why = match wire {
            Err(why) => why,
            Ok(wire) => {
                tx.kind = wire.kind;
                tx.mtu = wire.mtu;
                tx.header = wire.header;
                match e.kernel.port(wire.ifindex, &e.links.name(wire.ifindex)) {
                    Ok(port) => {
                        tx.port = port;
                        if link.sealed {
                            "transit over it is sealed".to_owned()
                        } else {
                            tx.flags |= tx_flag::REDIRECT;
                            String::new()
                        }
                    }
                    Err(why) => why,
                }
            }
        };
        let endpoint = link.endpoint;
        let known = e.tables.transmit(link.slot).is_some_and(|(old, at)| *old == tx && *at == endpoint);
        let slot = link.slot;
        if !why.is_empty() && e.links.tx.get(&slot).is_none_or(|old| old.why != why) {
            tracing::info!(slot, peer = %link.peer, why, "the agent sends on this link");
        }
        e.links.tx.insert(slot, Sending { link, next_hop, why });
        if known {
            return;
        }
        let Ok(()) = e.tables.set_transmit(&tx, endpoint);
        if let Some(xdp) = e.kernel.xdp()
            && let Err(error) = xdp.set_transmit(&tx, endpoint)
        {
            tracing::warn!(slot, %error, "cannot tell the kernel about a link");
        }
    }

    fn expect(&self, index: u32) {
        if let Some(xdp) = self.engine.borrow_mut().kernel.xdp()
            && let Err(error) = xdp.expect_index(index)
        {
            tracing::warn!(%error, "cannot tell the kernel a receiver index");
        }
    }

    fn forget(&self, index: u32) {
        let mut e = self.engine.borrow_mut();
        e.links.rx.remove(&index);
        let Ok(_) = e.tables.clear_receive(index);
        if let Some(xdp) = e.kernel.xdp()
            && let Err(error) = xdp.clear_receive(index).and_then(|_| xdp.forget_index(index))
        {
            tracing::warn!(%error, "cannot take a link from the kernel");
        }
    }

    fn silence(&self, slot: u16) {
        let mut e = self.engine.borrow_mut();
        e.links.tx.remove(&slot);
        let Ok(()) = e.tables.clear_transmit(slot);
        if let Some(xdp) = e.kernel.xdp()
            && let Err(error) = xdp.clear_transmit(slot)
        {
            tracing::warn!(slot, %error, "cannot take a link from the kernel");
        }
    }

    /// Publishes every link again: interfaces, addresses, next hops or abilities of devices have changed.
    async fn refresh(&self) {
        match self.netlink.interfaces().await {
            Ok(interfaces) => {
                let mut e = self.engine.borrow_mut();
                let e = &mut *e;
                let moved = moved(&e.links.interfaces, &interfaces);
                if e.links.interfaces != interfaces {
                    e.kernel.interfaces_changed(&interfaces);
                    e.links.interfaces = interfaces;
                }
                e.spread_beacons();
                double::find_lost(e);
                if moved {
                    e.listeners.follow_macs(&e.links.interfaces);
                    e.announce();
                    return;
                }
                let udp: Vec<_> = e.listeners.udp_addresses().collect();
                e.kernel.set_locals(&e.links.interfaces, &udp);
            }
            Err(error) => tracing::warn!(%error, "cannot list interfaces"),
        }
        let (rx, tx) = {
            let e = self.engine.borrow();
            let rx: Vec<_> = e.links.rx.values().cloned().collect();
            let tx: Vec<_> = e.links.tx.values().map(|s| s.link.clone()).collect();
            (rx, tx)
        };
        for link in rx {
            self.receive(link).await;
        }
        for link in tx {
            self.transmit(link).await;
        }
    }
}
