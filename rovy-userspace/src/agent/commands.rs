//! What the API asks for, done.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::engine::Shared;
use super::listeners::{self, Socket};
use super::views;
use super::{clock, firewall, tun};
use crate::api::{Command, Failure, FailureKind, Fc00Device, Fc00Status, Reply, Request};
use crate::config::{self, Config};
use crate::core::{Hops, PeerState};
use crate::fc00::Fc00Error;
use crate::fc00::firewall::Action;
use crate::identity::PeerId;
use crate::multiaddr::{Multiaddr, Route};
use crate::netlink::{Interface, Netlink, check_ethernet_listener, usable};
use crate::transport::{Endpoint, TransportError, ethernet::BROADCAST};

/// How long `peer connect` waits for the handshake before it reports how far it is.
const CONNECT: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

/// What commands need beside the engine.
pub(super) struct Control {
    pub(super) engine: Shared,
    pub(super) netlink: Netlink,
    pub(super) config: Config,
    pub(super) config_path: PathBuf,
    pub(super) started: Instant,
    /// Where a stop is announced: whether transit stays.
    pub(super) stop: mpsc::Sender<bool>,
    /// Peers to keep connected, with the addresses they were given.
    pub(super) dials: std::cell::RefCell<Vec<(PeerId, Vec<Multiaddr>)>>,
    /// Peers that stand in the configuration.
    pub(super) configured: std::cell::RefCell<Vec<PeerId>>,
    pub(super) ifname: String,
    /// Held by who changes the file of names.
    pub(super) naming: tokio::sync::Mutex<()>,
    /// Commands that are being answered.
    pub(super) waiting: std::cell::Cell<usize>,
}

type Answer = Result<Reply, Failure>;

pub(super) fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Internal, error.to_string())
}

impl Control {
    /// Answers one request.
    pub(super) async fn serve(&self, request: Request) {
        let answer = self.answer(request.command, request.descriptors).await;
        // The client may have given up waiting.
        let _ = request.reply.send(answer);
    }

    async fn answer(&self, command: Command, descriptors: Vec<OwnedFd>) -> Answer {
        match command {
            Command::Info => Ok(Reply::Info(views::info(self))),
            Command::Stop { keep_transit: true } if self.engine.borrow().kernel.ends_with_agent() => {
                let message =
                    "root handed the XDP program to this agent, and it ends with the agent: transit cannot stay";
                Err(Failure::new(FailureKind::Unsupported, message).with_next("rovy stop"))
            }
            Command::Stop { keep_transit } => {
                let _ = self.stop.try_send(keep_transit);
                Ok(Reply::Stopped)
            }
            Command::ListenerList => Ok(Reply::Listeners(views::listeners(self))),
            Command::ListenerStart { address, persist } => {
                // One that runs can still be written to the configuration.
                if !(persist && self.runs(&address)) {
                    self.listen(&address).await?;
                }
                self.listening(&address, persist).await
            }
            Command::GiveListener { address, persist } => {
                self.take_listener(&address, descriptors).await?;
                self.listening(&address, persist).await
            }
            Command::ListenerStop { address, persist } => {
                let known = self.unlisten(&address);
                let what = "it is stopped, but still stands in the configuration";
                let remove = || config::persist::remove_listener(&self.config_path, &address);
                let stored = self.persist(persist, what, remove)?;
                if known || stored { Ok(Reply::Done) } else { Err(self.no_listener(&address)) }
            }
            Command::PeerList => Ok(Reply::Peers(views::peers(self))),
            Command::PeerConnect { address, peer, persist } => self.connect(address, self.whom(&peer)?, persist).await,
            Command::PeerDisconnect { peer } => {
                let peer = self.whom(&peer)?;
                self.dials.borrow_mut().retain(|(id, _)| *id != peer);
                let mut e = self.engine.borrow_mut();
                self.note_peers(&mut e);
                let known = e.node.disconnect(clock::now(), peer);
                e.collect();
                if known { Ok(Reply::Done) } else { Err(no_peer(&peer)) }
            }
            Command::PeerLimit { peer, limit, persist } => self.limit_peer(self.whom(&peer)?, limit, persist),
            Command::DiscoveryList => Ok(Reply::Discovery(views::discovery(self))),
            Command::DiscoverySwitch { listener, on } => self.switch_discovery(listener.as_ref(), on),
            Command::RouteList => Ok(Reply::Routes(views::routes(self))),
            Command::RouteAdd { peer, route } => self.add_route(self.whom(&peer)?, &route),
            Command::RouteDel { peer, route } => self.remove_route(self.whom(&peer)?, route.as_ref()),
            Command::Ping { peer } => self.ping(self.whom(&peer)?).await,
            Command::Trace { peer, probes } => self.trace(self.whom(&peer)?, probes).await,
            Command::NameList => Ok(Reply::Names(self.names())),
            Command::NameAdd { name, peer } => self.add_name(name, peer).await,
            Command::NameDel { name } => self.remove_name(name).await,
            Command::Fc00Start(device) => self.start_fc00(&device).await,
            Command::Fc00Stop => {
                let netns = views::fc00(self).netns;
                match tun::stop(&self.engine).await {
                    Ok(true) => Ok(Reply::Fc00(Fc00Status { netns, ..views::fc00(self) })),
                    Ok(false) => {
                        Err(Failure::new(FailureKind::Conflict, "fc00 is not running").with_next("rovy fc00 start"))
                    }
                    Err(error) => Err(internal(error)),
                }
            }
            Command::GiveFc00 { netns } => {
                self.take_fc00(descriptors, netns).await?;
                Ok(Reply::Fc00(views::fc00(self)))
            }
            Command::Wants => Ok(Reply::Wants(self.wants())),
            Command::Fc00Status => Ok(Reply::Fc00(views::fc00(self))),
            Command::Fc00Allow { services, from } => self.change_rules(Action::Allow, &services, from),
            Command::Fc00Deny { services, from } => self.change_rules(Action::Deny, &services, from),
            Command::Fc00Ports => Ok(Reply::Ports(firewall::ports(self))),
            Command::Stats => Ok(Reply::Stats(Box::new(views::stats(self).map_err(internal)?))),
        }
    }

    /// A listener has started: what follows from it, and the answer.
    async fn listening(&self, address: &Multiaddr, persist: bool) -> Answer {
        self.redial().await;
        self.persist(persist, "it runs now, but was not written to the configuration", || {
            config::persist::add_listener(&self.config_path, address)
        })?;
        Ok(Reply::Listener(views::listener(self, address)?))
    }

    pub(super) fn persist(
        &self,
        wanted: bool,
        otherwise: &str,
        write: impl FnOnce() -> Result<bool, config::ConfigError>,
    ) -> Result<bool, Failure> {
        if !wanted {
            return Ok(false);
        }
        write().map_err(|e| {
            let next = format!("mend {} and say it again", self.config_path.display());
            Failure::new(FailureKind::Internal, format!("{otherwise}: {e}")).with_next(next)
        })
    }

    /// Starts a listener. Peers are not dialled: a hello must not leave by the first of several listeners because the
    /// right one is not there yet.
    pub(super) async fn listen(&self, address: &Multiaddr) -> Result<(), Failure> {
        let interface = self.interface_for(address).await?;
        let socket = listeners::open(address, interface.as_ref(), self.config.listen.ethertype);
        let socket = socket.map_err(|e| transport_failure(address, &e))?;
        listeners::start(&self.engine, address.clone(), socket);
        self.started(interface.as_ref().map(|i| (i.index, i.name.as_str())));
        Ok(())
    }

    /// The interface of an Ethernet listener to be.
    pub(super) async fn interface_for(&self, address: &Multiaddr) -> Result<Option<Interface>, Failure> {
        config::listenable(address).map_err(|why| Failure::new(FailureKind::Usage, why))?;
        let interfaces = self.netlink.interfaces().await.map_err(internal)?;
        if self.runs(address) {
            let message = format!("a listener on {address} exists already; {}", usable(&interfaces));
            return Err(Failure::new(FailureKind::Conflict, message).with_next("rovy listener list"));
        }
        let Multiaddr::Ethernet { ifname, .. } = address else { return Ok(None) };
        let found = check_ethernet_listener(&interfaces, ifname);
        let found = found.map_err(|p| Failure::new(FailureKind::Unsupported, p.to_string()).with_next("ip link"))?;
        Ok(Some(found.clone()))
    }

    /// Has the kernel serve a new listener.
    pub(super) fn started(&self, interface: Option<(u32, &str)>) {
        let mut e = self.engine.borrow_mut();
        if let Some((index, name)) = interface {
            e.kernel.attach(index, name);
        }
        e.touch();
    }

    fn unlisten(&self, address: &Multiaddr) -> bool {
        let mut e = self.engine.borrow_mut();
        let Some(gone) = e.listeners.remove(address) else { return false };
        if let Some(Socket::Ethernet(socket)) = &gone.socket {
            e.kernel.detach(socket.ifindex());
        }
        e.discovery.forget(address);
        e.touch();
        true
    }

    fn switch_discovery(&self, listener: Option<&Multiaddr>, on: bool) -> Answer {
        if let Some(address) = listener.filter(|a| self.engine.borrow().listeners.find(a).is_none()) {
            return Err(self.no_listener(address));
        }
        {
            let mut e = self.engine.borrow_mut();
            e.discovery.switch(listener, on);
            e.spread_beacons();
        }
        Ok(Reply::Discovery(views::discovery(self)))
    }

    fn no_listener(&self, address: &Multiaddr) -> Failure {
        let all: Vec<String> = self.engine.borrow().listeners.iter().map(|l| l.address.to_string()).collect();
        let there = if all.is_empty() { "there are none".to_owned() } else { format!("there are: {}", all.join(", ")) };
        Failure::new(FailureKind::NotFound, format!("no listener on {address}; {there}"))
            .with_next("rovy listener list")
    }

    fn runs(&self, address: &Multiaddr) -> bool {
        self.engine.borrow().listeners.find(address).is_some_and(|l| l.socket.is_some())
    }

    async fn connect(&self, address: Multiaddr, peer: PeerId, persist: bool) -> Answer {
        if peer == self.engine.borrow().node.id() {
            return Err(Failure::new(FailureKind::Usage, "that is this node itself").with_next("rovy peer list"));
        }
        if !self.engine.borrow().node.has_room_for(peer) {
            let message = "no room for another peer: all that [limits] peers allows are in use";
            return Err(Failure::new(FailureKind::Unavailable, message).with_next("rovy peer disconnect PEERID"));
        }
        let endpoints = self.endpoints(&address).await?;
        {
            let mut dials = self.dials.borrow_mut();
            match dials.iter_mut().find(|(id, _)| *id == peer) {
                // The configuration may name the peer behind the address again.
                Some((_, addresses)) if !addresses.iter().any(|a| a.clone().with_peer(None) == address) => {
                    addresses.push(address.clone());
                }
                Some(_) => {}
                None => dials.push((peer, vec![address.clone()])),
            }
        }
        self.dial(peer, endpoints);
        let what = "it is connected to, but was not written to the configuration";
        let stored = self.persist(persist, what, || config::persist::add_peer(&self.config_path, peer, &address))?;
        if stored {
            self.configured.borrow_mut().push(peer);
        }
        let deadline = Instant::now() + CONNECT;
        loop {
            let view = self.engine.borrow().node.peers().find(|p| p.id == peer);
            match view {
                Some(p) if p.state == PeerState::Connected || Instant::now() >= deadline => {
                    return Ok(Reply::Peer(views::peer(self, &p)));
                }
                Some(_) => tokio::time::sleep(LOOK).await,
                None => return Err(no_peer(&peer)),
            }
        }
    }

    fn dial(&self, peer: PeerId, endpoints: Vec<Endpoint>) {
        self.handshake(peer, endpoints, true);
    }

    /// Makes a session with a neighbour of the former agent, if it still answers.
    pub(super) fn reconnect(&self, peer: PeerId, endpoints: Vec<Endpoint>) {
        let under_way = |p: &crate::core::PeerView| p.id == peer && p.state != PeerState::Disconnected;
        if !self.engine.borrow().node.peers().any(|p| under_way(&p)) {
            self.handshake(peer, endpoints, false);
        }
    }

    fn handshake(&self, peer: PeerId, endpoints: Vec<Endpoint>, persistent: bool) {
        let mut e = self.engine.borrow_mut();
        e.node.connect(clock::now(), peer, endpoints, persistent);
        e.collect();
        e.timer.notify_one();
    }

    /// The endpoints an address stands for.
    async fn endpoints(&self, address: &Multiaddr) -> Result<Vec<Endpoint>, Failure> {
        let udp = |remote: SocketAddr| Endpoint::Udp { remote, local: None };
        match address {
            Multiaddr::Udp { addr, .. } => {
                if self.engine.borrow().listeners.from(addr, None).is_none() {
                    let family = if addr.is_ipv4() { "/ip4/0.0.0.0/udp/1312" } else { "/ip6/::/udp/1312" };
                    let message = format!("no listener can send to {address}");
                    let next = format!("rovy listener start {family}");
                    return Err(Failure::new(FailureKind::NotFound, message).with_next(next));
                }
                Ok(vec![udp(*addr)])
            }
            Multiaddr::Ethernet { ifname, .. } => {
                let e = self.engine.borrow();
                let Some(socket) = e.listeners.ethernet_named(ifname) else {
                    let message = format!("no listener on interface {ifname}");
                    let next = format!("rovy listener start /ethif/{ifname}");
                    return Err(Failure::new(FailureKind::NotFound, message).with_next(next));
                };
                // Whose MAC address it is the answer tells; only the right peer can answer.
                Ok(vec![Endpoint::Ethernet { ifindex: socket.ifindex(), mac: BROADCAST }])
            }
            Multiaddr::Dns { name, port, .. } => {
                let found = tokio::net::lookup_host((name.as_str(), *port)).await;
                let found = found.map_err(|e| {
                    let message = format!("cannot resolve {name}: {e}");
                    Failure::new(FailureKind::NotFound, message).with_next(format!("getent ahosts {name}"))
                })?;
                Ok(found.map(|a| SocketAddr::new(IpAddr::to_canonical(&a.ip()), a.port())).map(udp).collect())
            }
        }
    }

    /// Tries peers that should be connected and are not, with names resolved anew. Those with several addresses may lack
    /// a link to one of them.
    pub(super) async fn redial(&self) {
        let dials = self.dials.borrow().clone();
        for (peer, addresses) in dials {
            let up = self.engine.borrow().node.peers().any(|p| p.id == peer && p.state == PeerState::Connected);
            if up && addresses.len() < 2 {
                continue;
            }
            let mut endpoints = Vec::new();
            for address in &addresses {
                match self.endpoints(address).await {
                    Ok(more) => endpoints.extend(more),
                    Err(failure) => tracing::debug!(%peer, %failure, "an address of the peer is of no use now"),
                }
            }
            self.dial(peer, endpoints);
        }
    }

    fn add_route(&self, peer: PeerId, route: &Route) -> Answer {
        let hops = Hops::try_from(route.rest()).map_err(|e| Failure::new(FailureKind::Usage, e.to_string()))?;
        let mut e = self.engine.borrow_mut();
        if peer == e.node.id() {
            return Err(Failure::new(FailureKind::Usage, "that is this node itself").with_next("rovy peer list"));
        }
        if e.node.slot_owner(route.first()).is_none() {
            let message = format!("this node has no slot {:02x}, with which {route} starts", route.first());
            return Err(Failure::new(FailureKind::NotFound, message).with_next("rovy peer list"));
        }
        if !e.node.has_room_for(peer) {
            let message = "no room for another peer: all that [limits] peers allows are in use";
            return Err(Failure::new(FailureKind::Unavailable, message).with_next("rovy peer disconnect PEERID"));
        }
        let new = e.node.add_route(clock::now(), peer, route.first(), hops);
        e.collect();
        e.timer.notify_one();
        if new {
            Ok(Reply::Done)
        } else {
            let message = format!("the route {route} to {peer} exists already");
            Err(Failure::new(FailureKind::Conflict, message).with_next("rovy route list"))
        }
    }

    fn remove_route(&self, peer: PeerId, route: Option<&Route>) -> Answer {
        let gone = route.map(|r| (r.first(), r.rest().iter().copied().collect::<Hops>()));
        let mut e = self.engine.borrow_mut();
        let removed = e.node.remove_route(peer, gone.as_ref());
        e.collect();
        if removed > 0 {
            Ok(Reply::Done)
        } else {
            let message = format!("no such route to {peer} was set by hand");
            Err(Failure::new(FailureKind::NotFound, message).with_next("rovy route list"))
        }
    }

    /// Makes the TUN device, or uses one that is there.
    pub(super) async fn start_fc00(&self, device: &Fc00Device) -> Answer {
        self.no_fc00()?;
        if device.netns.is_some() {
            let message = "the agent may not enter network namespaces: root makes the device there and hands it over";
            return Err(Failure::new(FailureKind::Permission, message).with_next(device.as_root()));
        }
        if let Some(number) = device.existing.as_ref().filter(|e| e.parse::<u32>().is_ok()) {
            let message = format!("descriptor {number} is the caller's: root hands it over");
            return Err(Failure::new(FailureKind::Permission, message).with_next(device.as_root()));
        }
        if std::mem::replace(&mut self.engine.borrow_mut().host.starting, true) {
            return Err(Failure::new(FailureKind::Conflict, "fc00 is just being started").with_next("rovy fc00 status"));
        }
        let ifname = device.ifname.as_ref().unwrap_or(&self.ifname);
        let mtu = self.config.fc00.mtu.bytes();
        let started =
            tun::start(&self.engine, &self.netlink, device, ifname, (mtu, self.config.fc00.offload.into())).await;
        self.engine.borrow_mut().host.starting = false;
        started.map_err(|error| {
            let kind = match &error {
                Fc00Error::Permission { .. } => FailureKind::Permission,
                Fc00Error::NameTaken { .. } => FailureKind::Conflict,
                Fc00Error::NoInterface { .. } => FailureKind::NotFound,
                _ => FailureKind::Internal,
            };
            self.engine.borrow_mut().host.why = Some(error.to_string());
            let failure = Failure::new(kind, error.to_string());
            if kind == FailureKind::Permission { failure.with_next(device.as_root()) } else { failure }
        })?;
        Ok(Reply::Fc00(views::fc00(self)))
    }

    /// Makes a device anew that went away, and rules that somebody removed.
    pub(super) async fn mend_fc00(&self) {
        let (lost, routing) = {
            let e = self.engine.borrow();
            (e.host.lost.clone(), e.host.routing())
        };
        if let Some(device) = lost
            && self.start_fc00(&device).await.is_ok()
        {
            tracing::info!("the TUN device is back");
        }
        let Some(routing) = routing else { return };
        match routing.mend().await {
            Ok(true) => tracing::warn!("somebody removed the address or the rules of fc00; they are there again"),
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "the routing rules of fc00 cannot be looked after"),
        }
    }

    /// An error while the TUN device runs.
    pub(super) fn no_fc00(&self) -> Result<(), Failure> {
        match self.engine.borrow().host.device() {
            None => Ok(()),
            Some(device) => {
                let message = format!("fc00 runs already, on {}", device.name);
                Err(Failure::new(FailureKind::Conflict, message).with_next("rovy fc00 status"))
            }
        }
    }
}

/// A socket that could not be opened or taken. What the agent may not do root may.
pub(super) fn transport_failure(address: &Multiaddr, error: &TransportError) -> Failure {
    let kind = match error {
        TransportError::Permission { .. } => FailureKind::Permission,
        TransportError::InUse { .. } => FailureKind::Conflict,
        TransportError::NoSuchAddress { .. } | TransportError::NoInterface { .. } => FailureKind::NotFound,
        TransportError::NotOne { .. } => FailureKind::Usage,
        TransportError::Io { .. } => FailureKind::Internal,
    };
    let failure = Failure::new(kind, error.to_string());
    match (error, address) {
        (TransportError::Permission { .. }, Multiaddr::Ethernet { .. }) => {
            failure.with_next(format!("sudo rovy listener start {address}"))
        }
        _ => failure,
    }
}

pub(super) fn no_peer(peer: &PeerId) -> Failure {
    Failure::new(FailureKind::NotFound, format!("no peer {peer}")).with_next("rovy peer list")
}
