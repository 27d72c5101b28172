//! Beacons between sockets and core: where they go out, what was heard, and what to do when nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use rovy_common::DropReason;

use super::clock;
use super::engine::Engine;
use super::listeners::{Listener, Socket};
use crate::core::{ALL_NODES, Heard, Outlet};
use crate::multiaddr::Multiaddr;
use crate::netlink::Interface;
use crate::transport::{Endpoint, Received, ethernet};

/// After so long without a beacon an Ethernet listener says so.
const SILENCE: Duration = Duration::from_secs(30);

/// Which listeners take part.
pub(super) struct Discovery {
    on: bool,
    except: BTreeSet<Multiaddr>,
    /// Time between beacons.
    pub(super) interval: Duration,
    counts: BTreeMap<Multiaddr, Counts>,
}

/// Beacons of one listener.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) heard: u64,
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Discovery {
    pub(super) fn new(on: bool, interval: Duration) -> Self {
        Self { on, except: BTreeSet::new(), interval, counts: BTreeMap::new() }
    }

    /// Whether listeners take part that nobody said anything about.
    pub(super) fn by_default(&self) -> bool {
        self.on
    }

    /// Whether a listener takes part.
    pub(super) fn on(&self, listener: &Multiaddr) -> bool {
        self.on != self.except.contains(listener)
    }

    /// Switches one listener, or all there are and will be.
    pub(super) fn switch(&mut self, listener: Option<&Multiaddr>, on: bool) {
        match listener {
            None => {
                self.on = on;
                self.except.clear();
            }
            Some(listener) if self.on == on => drop(self.except.remove(listener)),
            Some(listener) => drop(self.except.insert(listener.clone())),
        }
    }

    /// A listener is gone, and what was said about it.
    pub(super) fn forget(&mut self, listener: &Multiaddr) {
        self.except.remove(listener);
        self.counts.remove(listener);
    }

    pub(super) fn counts(&self, listener: &Multiaddr) -> Counts {
        self.counts.get(listener).copied().unwrap_or_default()
    }

    fn count(&mut self, listener: &Multiaddr) -> &mut Counts {
        self.counts.entry(listener.clone()).or_default()
    }

    /// What an Ethernet listener says that hears nobody.
    pub(super) fn advice(&self, listener: &Multiaddr, wireless: bool) -> Option<String> {
        let counts = self.counts(listener);
        let silent = counts.last.or(counts.since)?.elapsed();
        // Who was heard once is due again after an interval and a little more.
        let patience = if counts.last.is_some() { SILENCE + 2 * self.interval } else { SILENCE };
        if !self.on(listener) || silent < patience {
            return None;
        }
        let why = if wireless {
            "nobody else is here, or the access point keeps its clients apart or drops this EtherType"
        } else {
            "nobody else is here, or a switch drops multicast or this EtherType"
        };
        let s = silent.as_secs();
        Some(format!(
            "no beacon heard for {s} s: {why}; UDP on the same interface (rovy listener start /ip6/::/udp/1312) may get through, and stays as a second link"
        ))
    }
}

impl Counts {
    /// Since the last beacon was heard.
    pub(super) fn last(&self) -> Option<Duration> {
        self.last.map(|at| at.elapsed())
    }
}

/// The outlets of a listener, each with the name of its interface.
fn outlets<'a>(listener: &Listener, interfaces: &'a [Interface]) -> Vec<(Outlet, &'a str)> {
    match &listener.socket {
        Some(Socket::Ethernet(s)) => {
            let found = interfaces.iter().find(|i| i.index == s.ifindex() && i.up && i.carrier);
            found.map(|i| (Outlet::Ethernet { ifindex: i.index }, i.name.as_str())).into_iter().collect()
        }
        Some(Socket::Udp(s)) => {
            let bound = s.local_addr();
            let sources = |i: &'a Interface| {
                i.addrs.iter().filter(move |a| may_leave_from(&bound, a, i)).map(move |source| {
                    (Outlet::Udp { listener: bound, ifindex: i.index, source: *source }, i.name.as_str())
                })
            };
            interfaces.iter().filter(|i| i.beacons()).flat_map(sources).collect()
        }
        None => Vec::new(),
    }
}

/// Whether a listener's beacons leave an interface with this address: receivers answer to link-local IPv6 and to IPv4 of their
/// own network only.
fn may_leave_from(bound: &SocketAddr, source: &IpAddr, interface: &Interface) -> bool {
    let own = bound.ip().is_unspecified() || bound.ip() == *source;
    let near = match source {
        IpAddr::V6(a) => a.is_unicast_link_local(),
        IpAddr::V4(a) => interface.networks.iter().any(|(own, length)| own == a && (1..32).contains(length)),
    };
    own && near && bound.is_ipv6() == source.is_ipv6()
}

impl Engine {
    /// Has beacons go out where listeners and interfaces are now.
    pub(super) fn spread_beacons(&mut self) {
        let interfaces = &self.links.interfaces;
        let on = self.listeners.iter().filter(|l| self.discovery.on(&l.address));
        let all = on.flat_map(|l| outlets(l, interfaces)).map(|(outlet, _)| outlet).collect();
        self.node.set_outlets(clock::now(), &all);
        self.timer.notify_one();
    }

    /// Names of the interfaces that a listener sends beacons over.
    pub(super) fn beacon_interfaces(&self, listener: &Listener) -> Vec<String> {
        if !self.discovery.on(&listener.address) {
            return Vec::new();
        }
        let mut names: Vec<_> =
            outlets(listener, &self.links.interfaces).into_iter().map(|(_, name)| name.to_owned()).collect();
        names.dedup();
        names
    }

    /// Sends a beacon.
    pub(super) fn send_beacon(&mut self, outlet: Outlet, message: &[u8]) {
        let found = self.listeners.iter().find(|l| is_behind(&outlet, l));
        let Some((address, Some(socket))) = found.map(|l| (l.address.clone(), l.socket.clone())) else { return };
        let sent = match (outlet, socket) {
            (Outlet::Udp { ifindex, source, listener }, Socket::Udp(s)) => {
                let to = match source {
                    IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::BROADCAST, listener.port())),
                    IpAddr::V6(_) => SocketAddrV6::new(ALL_NODES, listener.port(), 0, ifindex).into(),
                };
                s.send(to, Some(source), message).map_err(|e| e.to_string())
            }
            (Outlet::Ethernet { ifindex }, Socket::Ethernet(s)) => {
                let wireless = self.links.interfaces.iter().any(|i| i.index == ifindex && i.wireless);
                // Access points tend to pass one of the two.
                let everybody = if wireless { s.send(ethernet::BROADCAST, message) } else { Ok(()) };
                s.send(ethernet::NODES, message).and(everybody).map_err(|e| e.to_string())
            }
            _ => return,
        };
        match sent {
            Ok(()) => {
                let counts = self.discovery.count(&address);
                counts.sent += 1;
                counts.since.get_or_insert_with(Instant::now);
            }
            Err(error) => tracing::debug!(?outlet, error, "a beacon could not be sent"),
        }
    }

    /// A beacon came in.
    pub(super) fn hear(&mut self, received: &Received, message: &[u8]) -> Result<(), DropReason> {
        let listener = self.listeners.iter().find(|l| heard_by(received, l)).map(|l| l.address.clone());
        let listener = listener.filter(|l| self.discovery.on(l)).ok_or(DropReason::NotAllowed)?;
        let interface = self.links.interfaces.iter().find(|i| i.index == received.ifindex);
        let networks = interface.map_or(&[][..], |i| &i.networks);
        let heard = Heard { from: received.from, group: received.broadcast, networks };
        let whose = self.node.beacon(clock::now(), &heard, message);
        self.collect();
        if let Some(peer) = whose? {
            let counts = self.discovery.count(&listener);
            counts.heard += 1;
            counts.last = Some(Instant::now());
            tracing::trace!(%peer, from = ?received.from, "heard a beacon");
        }
        Ok(())
    }
}

fn is_behind(outlet: &Outlet, l: &Listener) -> bool {
    match (outlet, &l.socket) {
        (Outlet::Udp { listener, .. }, Some(Socket::Udp(s))) => s.local_addr() == *listener,
        (Outlet::Ethernet { ifindex }, Some(Socket::Ethernet(s))) => s.ifindex() == *ifindex,
        _ => false,
    }
}

fn heard_by(received: &Received, l: &Listener) -> bool {
    match (&received.from, &l.socket) {
        (Endpoint::Ethernet { ifindex, .. }, Some(Socket::Ethernet(s))) => s.ifindex() == *ifindex,
        (Endpoint::Udp { remote, .. }, Some(Socket::Udp(s))) => {
            let at = s.local_addr();
            at.port() == received.to_port && at.is_ipv6() == remote.is_ipv6() && at.ip().is_unspecified()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_listener_may_differ_until_all_are_switched() {
        let [a, b]: [Multiaddr; 2] = ["/ethif/a", "/ethif/b"].map(|t| t.parse().expect("an address"));
        let mut d = Discovery::new(true, SILENCE);
        d.switch(Some(&a), false);
        assert_eq!([d.on(&a), d.on(&b)], [false, true]);
        d.switch(Some(&a), true);
        assert_eq!([d.on(&a), d.on(&b)], [true, true]);
        d.switch(None, false);
        d.switch(Some(&b), true);
        assert_eq!([d.on(&a), d.on(&b)], [false, true]);
        d.forget(&b);
        assert!(!d.on(&b) && !d.by_default());
    }

    #[test]
    fn silence_is_told_after_thirty_seconds_and_not_where_somebody_is() {
        let a: Multiaddr = "/ethif/a".parse().expect("an address");
        let mut d = Discovery::new(true, SILENCE);
        assert_eq!(d.advice(&a, false), None, "nothing sent yet");
        let Some(before) = Instant::now().checked_sub(Duration::from_secs(31)) else { return };
        d.count(&a).since = Some(before);
        assert!(d.advice(&a, true).is_some_and(|t| t.contains("31 s") && t.contains("access point")));
        assert!(d.advice(&a, false).is_some_and(|t| t.contains("rovy listener start /ip6/::/udp/1312")));
        d.count(&a).last = Some(before);
        assert_eq!(d.advice(&a, false), None, "the next one may come");
        d.switch(None, false);
        d.count(&a).last = None;
        assert_eq!(d.advice(&a, false), None, "nobody listens");
    }
}
