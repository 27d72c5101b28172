//! What status commands show.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rovy_common::wire::ErrorKind;
use rovy_common::{Counter, DropReason, UpReason};

use super::book::Seen;
use super::commands::Control;
use super::listeners::{Listener, Socket, endpoint_string, endpoint_text};
use super::{clock, kernel};
use crate::api::{self, Failure, FailureKind};
use crate::config::SlotWidth;
use crate::core::{self, Path};
use crate::dataplane::{Dataplane, xdp::XdpError};
use crate::fc00::offload::Offloads;
use crate::identity::PeerId;
use crate::multiaddr::{Multiaddr, Route};
use crate::rate::RateLimit;
use crate::transport::Endpoint;

/// The least MTU that IPv6 allows a device.
const IPV6_LEAST: u32 = 1280;

/// This node's own slot as it begins a route.
pub(super) fn slot_text(slot: u16) -> String {
    if slot < 256 { format!("{slot:02x}") } else { format!("{slot:04x}") }
}

/// This node's slot as others write it in their routes: in all its bytes.
fn hop_text(control: &Control, slot: u16) -> String {
    match control.config.node.slot_width {
        SlotWidth::One => format!("{slot:02x}"),
        SlotWidth::Two => format!("{slot:04x}"),
    }
}

fn endpoint_kind(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Ethernet { .. } => "eth",
        Endpoint::Udp { remote, .. } if remote.is_ipv4() => "udp4",
        Endpoint::Udp { .. } => "udp6",
    }
}

fn xdp_summary(control: &Control) -> String {
    let e = control.engine.borrow();
    if let Some(why) = e.kernel.why() {
        return format!("off: {why}");
    }
    let all: Vec<String> =
        e.kernel.attached().map(|a| format!("{} on {}", kernel::mode_name(a.mode), a.ifname)).collect();
    if all.is_empty() { "ready, attached nowhere yet".to_owned() } else { all.join(", ") }
}

pub(super) fn info(control: &Control) -> api::Info {
    let xdp = xdp_summary(control);
    let e = control.engine.borrow();
    let (mut peers, mut connected) = (0, 0);
    for p in e.node.peers() {
        peers += 1;
        connected += u32::from(p.state == core::PeerState::Connected);
    }
    api::Info {
        peer_id: e.node.id(),
        address: e.node.id().address(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: control.started.elapsed().as_secs(),
        xdp,
        config: control.config_path.display().to_string(),
        listeners: e.listeners.iter().count() as u32,
        peers_connected: connected,
        peers,
        fc00_ifname: e.host.device().map(|d| d.name.to_owned()),
    }
}

pub(super) fn listeners(control: &Control) -> Vec<api::Listener> {
    let e = control.engine.borrow();
    e.listeners.iter().map(|l| view_listener(&e, l)).collect()
}

pub(super) fn listener(control: &Control, address: &Multiaddr) -> Result<api::Listener, Failure> {
    let e = control.engine.borrow();
    let found = e.listeners.find(address).map(|l| view_listener(&e, l));
    found.ok_or_else(|| Failure::new(FailureKind::Internal, format!("the listener on {address} went away at once")))
}

fn view_listener(e: &super::engine::Engine, l: &Listener) -> api::Listener {
    let (ifname, (xdp_mode, xdp_why), effective) = match (&l.address, &l.socket) {
        (_, Some(Socket::Ethernet(s))) => {
            let [a, b, c, d, x, f] = s.mac();
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{x:02x}:{f:02x}");
            (Some(s.ifname().to_owned()), e.kernel.mode(s.ifindex()), vec![mac])
        }
        (_, Some(Socket::Udp(s))) => (None, udp_mode(e), effective(e, s.local_addr())),
        (Multiaddr::Ethernet { ifname, .. }, None) => {
            (Some(ifname.clone()), ("off", "the interface is gone or down".to_owned()), Vec::new())
        }
        (_, None) => (None, ("off", "the socket is closed".to_owned()), Vec::new()),
    };
    let state = if l.socket.is_some() { api::ListenerState::Up } else { api::ListenerState::Down };
    let kind = l.address.kind().to_owned();
    let beacons = e.discovery.counts(&l.address);
    api::Listener {
        address: l.address.clone(),
        kind,
        ifname,
        state,
        xdp_mode: xdp_mode.to_owned(),
        xdp_why,
        effective,
        beacons_sent: beacons.sent,
        beacons_heard: beacons.heard,
        advice: advice(e, l),
    }
}

fn advice(e: &super::engine::Engine, l: &Listener) -> Option<String> {
    let Some(Socket::Ethernet(s)) = &l.socket else { return None };
    let wireless = e.links.interfaces.iter().any(|i| i.index == s.ifindex() && i.wireless);
    e.discovery.advice(&l.address, wireless)
}

pub(super) fn discovery(control: &Control) -> api::Discovery {
    let e = control.engine.borrow();
    let view = |l: &Listener| {
        let beacons = e.discovery.counts(&l.address);
        api::DiscoveryListener {
            address: l.address.clone(),
            linklocal: e.discovery.on(&l.address),
            interfaces: e.beacon_interfaces(l),
            beacons_sent: beacons.sent,
            beacons_heard: beacons.heard,
            last_heard_s: beacons.last().map(|d| d.as_secs()),
            advice: advice(&e, l),
        }
    };
    api::Discovery {
        linklocal: e.discovery.by_default(),
        interval_s: e.discovery.interval.as_secs(),
        listeners: e.listeners.iter().map(view).collect(),
    }
}

/// UDP listeners are attached where neighbours are, so there may be several modes.
fn udp_mode(e: &super::engine::Engine) -> (&'static str, String) {
    if let Some(why) = e.kernel.why() {
        return ("off", why.to_owned());
    }
    let on: Vec<_> = e.kernel.attached().collect();
    let Some(first) = on.first() else {
        return ("off", "attaches when a neighbour is found behind an interface".to_owned());
    };
    let text: Vec<String> =
        on.iter().map(|a| format!("{} {}, {}", a.ifname, kernel::mode_name(a.mode), a.why)).collect();
    (kernel::mode_name(first.mode), text.join("; "))
}

fn effective(e: &super::engine::Engine, bound: std::net::SocketAddr) -> Vec<String> {
    let multiaddr = |ip: IpAddr| {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        format!("/{family}/{ip}/udp/{}", bound.port())
    };
    if !bound.ip().is_unspecified() {
        return vec![multiaddr(bound.ip())];
    }
    let own = e.links.interfaces.iter().flat_map(|i| &i.addrs);
    let usable = |ip: &&IpAddr| match ip {
        IpAddr::V4(a) => bound.is_ipv4() && !a.is_loopback(),
        // Link-local addresses need an interface beside them, and fc00::/8 is what runs on top.
        IpAddr::V6(a) => bound.is_ipv6() && !a.is_loopback() && !a.is_unicast_link_local() && a.octets()[0] != 0xfc,
    };
    own.filter(usable).map(|ip| multiaddr(*ip)).collect()
}

/// Those the core knows, then those only remembered.
pub(super) fn peers(control: &Control) -> Vec<api::Peer> {
    control.note_peers(&mut control.engine.borrow_mut());
    let all: Vec<_> = control.engine.borrow().node.peers().collect();
    let mut views: Vec<_> = all.iter().map(|p| peer(control, p)).collect();
    let e = control.engine.borrow();
    let gone = e.book.iter().filter(|(id, _)| all.binary_search_by_key(id, |p| p.id).is_err());
    views.extend(gone.map(|(id, seen)| remembered(control, id, seen, e.node.limit_of(id))));
    views
}

/// A peer that is not there.
fn remembered(control: &Control, id: PeerId, seen: Seen, limit: Option<RateLimit>) -> api::Peer {
    api::Peer {
        peer_id: id,
        address: id.address(),
        state: api::PeerState::Disconnected,
        endpoint: None,
        kind: None,
        slot: None,
        slot_text: None,
        direct: false,
        rtt_us: None,
        rx_packets: 0,
        rx_bytes: 0,
        tx_packets: 0,
        tx_bytes: 0,
        last_seen_s: None,
        last_seen: Some(seen.last),
        source: seen.source,
        nat: false,
        configured: control.configured.borrow().contains(&id),
        transit: api::PeerTransit::default(),
        rate_limit: limit,
        refused_packets: 0,
        sealed: false,
        links: Vec::new(),
        why: None,
    }
}

pub(super) fn peer(control: &Control, p: &core::PeerView) -> api::Peer {
    let e = control.engine.borrow();
    let direct = matches!(p.path, Some(Path::Direct(_)));
    let kind = match &p.path {
        Some(Path::Direct(at)) => Some(endpoint_kind(at).to_owned()),
        _ => None,
    };
    api::Peer {
        peer_id: p.id,
        address: p.address,
        state: match p.state {
            core::PeerState::Connected => api::PeerState::Connected,
            core::PeerState::Connecting => api::PeerState::Connecting,
            core::PeerState::Disconnected => api::PeerState::Disconnected,
        },
        why: p
            .refused
            .then(|| "its answers do not authenticate: is the pre-shared key the same at both ends?".to_owned()),
        endpoint: endpoint_text(p.path.as_ref(), |i| e.links.name(i)),
        kind,
        slot: p.slot,
        slot_text: p.slot.map(|slot| hop_text(control, slot)),
        links: p.links.iter().map(|l| peer_link(control, &e, l)).collect(),
        direct,
        rtt_us: p.rtt_ns.map(|ns| ns / 1_000),
        rx_packets: p.packets[0],
        rx_bytes: p.bytes[0],
        tx_packets: p.packets[1],
        tx_bytes: p.bytes[1],
        last_seen_s: p.received_ns.map(|t| clock::mono_ns().saturating_sub(t) / 1_000_000_000),
        last_seen: super::book::seen_at(p).or_else(|| e.book.get(&p.id).map(|s| s.last)),
        source: e.book.get(&p.id).map_or_else(|| super::book::source(p), |s| s.source),
        nat: p.behind_nat,
        configured: control.configured.borrow().contains(&p.id),
        transit: match (p.transit, p.sealed) {
            (false, _) => api::PeerTransit::Deny,
            (true, true) => api::PeerTransit::Sealed,
            (true, false) => api::PeerTransit::Kernel,
        },
        rate_limit: p.limit,
        refused_packets: refused(&e, p),
        sealed: p.sealed,
    }
}

/// What was refused of a peer's transit, over all its links, by kernel and agent.
fn refused(e: &super::engine::Engine, p: &core::PeerView) -> u64 {
    let slots: std::collections::BTreeSet<u16> = p.links.iter().filter_map(|l| l.slot).collect();
    let of = |slot: u16| {
        let Ok(mine) = e.tables.slot_stats(slot);
        let theirs = e.kernel.xdp_ref().and_then(|x| x.slot_stats(slot).ok()).unwrap_or_default();
        mine.refused_packets + theirs.refused_packets
    };
    slots.into_iter().map(of).sum()
}

fn peer_link(control: &Control, e: &super::engine::Engine, l: &core::LinkView) -> api::PeerLink {
    api::PeerLink {
        number: l.number,
        slot: l.slot,
        slot_text: l.slot.map(|slot| hop_text(control, slot)),
        endpoint: endpoint_string(&l.endpoint, |i| e.links.name(i)),
        kind: endpoint_kind(&l.endpoint).to_owned(),
        state: match l.state {
            core::LinkState::Opening => api::LinkState::Opening,
            core::LinkState::Up => api::LinkState::Up,
            core::LinkState::Dead => api::LinkState::Dead,
        },
        active: l.active,
    }
}

/// The slots of a route as text. How wide those of a hop are is known when it answered an echo lately.
fn slots(node: &core::Node, route: &core::RouteView) -> Vec<String> {
    let (mut slots, mut rest) = (vec![slot_text(route.slot)], route.hops.as_slice());
    while let Some(first) = rest.first() {
        let before = route.hops.iter().take(route.hops.len() - rest.len()).copied().collect();
        let width = node.met(clock::now(), route.slot, &before).map(|m| m.width.bytes() as usize);
        // Slot 0 is nobody's: such a byte begins a slot of two.
        let (slot, after) = rest.split_at(width.unwrap_or(if *first == 0 { 2 } else { 1 }).min(rest.len()));
        slots.push(slot.iter().map(|b| format!("{b:02x}")).collect());
        rest = after;
    }
    slots
}

pub(super) fn routes(control: &Control) -> Vec<api::RouteInfo> {
    let e = control.engine.borrow();
    let views = e.node.routes();
    let info = |r: &core::RouteView| {
        let spelled = format!("/rovyrt/{}", slots(&e.node, r).join(".")).parse();
        let route = spelled.or_else(|_| Route::new(r.slot, &r.hops)).ok()?;
        Some(api::RouteInfo {
            peer_id: r.peer,
            hops: route.hops(),
            route,
            label: r.hops.iter().map(|b| format!("{b:02x}")).collect(),
            source: match r.source {
                core::RouteSource::Direct => api::RouteSource::Direct,
                core::RouteSource::Configured => api::RouteSource::Configured,
                core::RouteSource::Learned => api::RouteSource::Learned,
            },
            in_use: r.in_use,
            state: r.state.name().to_owned(),
            age_s: r.since_ns.map(|t| clock::mono_ns().saturating_sub(t) / 1_000_000_000),
            rtt_ns: r.rtt_ns,
            loss: f64::from(r.loss_permille) / 1000.0,
            why: r.why.map(|w| w.words().to_owned()),
            mtu_bytes: r.mtu,
        })
    };
    views.iter().filter_map(info).collect()
}

/// What to do when full packets of the TUN device do not fit a sealed link.
fn too_large(e: &super::engine::Engine, mtu: u16) -> Option<String> {
    let (slot, room) = e.tables.sealed_room().min_by_key(|(_, room)| *room).filter(|(_, room)| *room < mtu.into())?;
    let what = format!(
        "the sealed link of slot {} takes packets of {room} bytes, and full ones of {mtu} are dropped",
        slot_text(slot)
    );
    Some(if room < IPV6_LEAST {
        format!("{what}: raise the MTU of its interface by {}, or do not seal it", IPV6_LEAST - room)
    } else {
        format!("{what}: set fc00.mtu = {room}")
    })
}

pub(super) fn fc00(control: &Control) -> api::Fc00Status {
    let e = control.engine.borrow();
    let device = e.host.device();
    let mtu = device.as_ref().map(|d| d.mtu);
    api::Fc00Status {
        running: device.is_some(),
        ifname: device.as_ref().map(|d| d.name.to_owned()),
        address: device.as_ref().map(|_| e.node.id().address()),
        mtu,
        table: device.as_ref().and_then(|d| d.table),
        netns: device.as_ref().and_then(|d| d.netns.map(str::to_owned)),
        offloads: device.map(|d| offloads(d.offloads)).unwrap_or_default(),
        rx_packets: e.host.packets[0],
        tx_packets: e.host.packets[1],
        rx_joined: large(e.host.large.joined),
        tx_split: large(e.host.large.split),
        why: e.host.why.clone(),
        advice: mtu.and_then(|mtu| too_large(&e, mtu)),
    }
}

fn large([packets, parts]: [u64; 2]) -> api::Large {
    api::Large { packets, parts }
}

fn offloads(o: Offloads) -> Vec<String> {
    let all = [(o.csum, "csum"), (o.tso, "tso"), (o.uso, "uso"), (o.gro, "gro"), (o.gro_udp, "gro_udp")];
    all.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect()
}

/// Every bound by its name.
fn limits(e: &super::engine::Engine, waiting: usize) -> BTreeMap<String, api::LimitUse> {
    let entry =
        |name: &str, used: usize, max: usize| (name.to_owned(), api::LimitUse { used: used as u64, max: max as u64 });
    let core = e.node.limits().into_iter().map(|(name, u)| entry(name, u.used, u.max));
    let queues = [
        entry("names", e.names.table().len(), crate::names::MOST),
        entry("action_queue", e.actions.len(), super::engine::BACKLOG),
        entry("request_queue", waiting, super::REQUESTS),
    ];
    let firewall = e.firewall.limits().map(|(name, (used, max))| entry(name, used, max));
    core.chain(queues).chain(firewall).collect()
}

fn errors(e: &super::engine::Engine) -> api::ErrorStats {
    let counts = e.node.error_counts();
    let named = |counts: [u64; 6]| ErrorKind::ALL.iter().map(|k| k.name().to_owned()).zip(counts).collect();
    api::ErrorStats {
        sent: named(counts.sent),
        received: named(counts.received),
        disbelieved: named(counts.disbelieved),
    }
}

const fn probes(c: core::ProbeCounts) -> api::ProbeStats {
    api::ProbeStats {
        own: c.own,
        received: c.received,
        relayed: c.relayed,
        sent: c.sent,
        answered: c.answered,
        copies: c.copies,
    }
}

pub(super) fn stats(control: &Control) -> Result<api::Stats, XdpError> {
    let e = control.engine.borrow();
    let Ok(agent) = e.tables.counts();
    let kernel = e.kernel.xdp_ref().map_or(Ok([0; 64]), Dataplane::counts)?;
    let mut stats = api::Stats {
        transit: api::TransitStats {
            kernel_packets: kernel[Counter::Forwarded.index() as usize],
            agent_packets: e.forwarded,
        },
        sessions: e.node.sessions().0 as u32,
        cookie_replies: [&kernel, &agent].map(|c| c[Counter::CookieReply.index() as usize]).iter().sum(),
        handshakes: e.node.handshakes(),
        probes: probes(e.node.probe_counts()),
        limits: limits(&e, control.waiting.get()),
        errors: errors(&e),
        ..api::Stats::default()
    };
    for reason in DropReason::ALL {
        let at = Counter::Drop(*reason).index() as usize;
        stats.drops.kernel.insert(reason.name().to_owned(), kernel[at]);
        stats.drops.agent.insert(reason.name().to_owned(), agent[at]);
    }
    for reason in UpReason::ALL {
        stats.up.insert(reason.name().to_owned(), kernel[Counter::Up(*reason).index() as usize]);
    }
    for (slot, sending) in &e.links.tx {
        let Ok(mine) = e.tables.slot_stats(*slot);
        let theirs = e.kernel.xdp_ref().map_or(Ok(Default::default()), |x| x.slot_stats(*slot))?;
        stats.links.push(api::LinkStats {
            slot: *slot,
            slot_text: hop_text(control, *slot),
            peer_id: sending.link.peer,
            endpoint: endpoint_string(&sending.link.endpoint, |i| e.links.name(i)),
            kind: endpoint_kind(&sending.link.endpoint).to_owned(),
            rx_packets: mine.rx_packets + theirs.rx_packets,
            rx_bytes: mine.rx_bytes + theirs.rx_bytes,
            tx_packets: mine.tx_packets + theirs.tx_packets,
            tx_bytes: mine.tx_bytes + theirs.tx_bytes,
            redirect: sending.why.is_empty(),
            why: sending.why.clone(),
        });
    }
    Ok(stats)
}
