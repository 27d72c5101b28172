//! What the agent says, as text for people. Each text ends with the next useful command.

use super::table::{bytes, list, seconds, table};
use crate::api::{
    Discovery, ErrorStats, Fc00Status, Info, Large, LinkState, LinkStats, Listener, ListenerState, NameInfo, Peer,
    PeerState, PeerTransit, PortRule, Ports, RouteInfo, RouteSource, Stats, Trace, TraceHop,
};
use crate::config::Firewall;
use crate::fc00::firewall::Action;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn name(n: &NameInfo) -> String {
    format!("{}.rovy is {} ({})\n\nnext: rovy ping {}\n", n.name, n.peer_id, n.address, n.name)
}

pub(super) fn names(all: &[NameInfo]) -> String {
    let Some(first) = all.first() else {
        return "no names\n\nnext: rovy name add NAME PEERID\n".into();
    };
    let rows: Vec<_> = all.iter().map(|n| [n.name.clone(), n.address.to_string(), n.peer_id.to_string()]).collect();
    format!("{}\nnext: rovy ping {}\n", table(["NAME", "ADDRESS", "PEERID"], &rows), first.name)
}

fn text(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// Once the agent runs: identity, listeners, the next command.
pub(super) fn started(i: &Info, listeners: &[Listener], fc00: &Fc00Status) {
    let mut out = identity(i);
    out.push_str(&list(&[("fc00   ", fc00_line(fc00))]));
    out.push('\n');
    out.push_str(&listener_table(listeners));
    out.push_str(&format!(
        "\nnext: rovy peer connect /ip4/ADDRESS/udp/1312/rovy/PEERID   (this node: {})\n",
        i.peer_id
    ));
    super::outcome::print(&out);
}

/// The same as one line of JSON.
pub(super) fn started_json(info: &Info, listeners: &[Listener], fc00: &Fc00Status) {
    let line = serde_json::json!({ "info": info, "listeners": listeners, "fc00": fc00 });
    super::outcome::print(&format!("{line}\n"));
}

fn identity(i: &Info) -> String {
    list(&[
        ("peer id", i.peer_id.to_string()),
        ("address", i.address.to_string()),
        ("version", i.version.clone()),
        ("config", i.config.clone()),
        ("xdp", i.xdp.clone()),
    ])
}

pub(super) fn info(i: &Info) -> String {
    identity(i)
        + &list(&[
            ("pid    ", i.pid.to_string()),
            ("uptime ", seconds(i.uptime_s)),
            ("peers  ", format!("{} connected of {}", i.peers_connected, i.peers)),
            ("fc00   ", i.fc00_ifname.clone().unwrap_or_else(|| "not running".into())),
        ])
        + "\nnext: rovy listener list\n"
}

pub(super) fn status(i: &Info, listeners: &[Listener], peers: &[Peer]) -> String {
    let mut out = format!(
        "{} up for {}, transit in XDP: {}\npeer id {}\n\n{}",
        i.address,
        seconds(i.uptime_s),
        i.xdp,
        i.peer_id,
        listener_table(listeners)
    );
    let peers: Vec<_> = peers.iter().filter(|p| p.configured || p.state != PeerState::Disconnected).cloned().collect();
    if peers.is_empty() {
        out.push_str("\nnext: rovy peer connect /ip4/ADDRESS/udp/1312/rovy/PEERID\n");
    } else {
        out.push_str(&format!("\n{}\nnext: rovy stats\n", peer_table(&peers)));
    }
    out
}

fn listener_table(listeners: &[Listener]) -> String {
    if listeners.is_empty() {
        return "no listeners\n".into();
    }
    let rows: Vec<_> = listeners
        .iter()
        .map(|l| {
            let state = match l.state {
                ListenerState::Up => "up",
                ListenerState::Down => "down",
            };
            let xdp = if l.xdp_why.is_empty() { l.xdp_mode.clone() } else { format!("{}: {}", l.xdp_mode, l.xdp_why) };
            [l.address.to_string(), state.into(), l.effective.join(" "), xdp]
        })
        .collect();
    let mut out = table(["LISTENER", "STATE", "REACHED AT", "XDP"], &rows);
    for l in listeners {
        out.push_str(&l.advice.as_ref().map(|text| format!("{}: {text}\n", l.address)).unwrap_or_default());
    }
    out
}

pub(super) fn discovery(d: &Discovery) -> String {
    let rows: Vec<_> = d
        .listeners
        .iter()
        .map(|l| {
            [
                l.address.to_string(),
                if l.linklocal { "on" } else { "off" }.into(),
                l.interfaces.join(" "),
                l.beacons_sent.to_string(),
                l.beacons_heard.to_string(),
                l.last_heard_s.map(|s| format!("{} ago", seconds(s))).unwrap_or_default(),
            ]
        })
        .collect();
    let mut out = format!("new listeners: linklocal {}\n", if d.linklocal { "on" } else { "off" });
    if !rows.is_empty() {
        out.push_str(&format!("\n{}", table(["LISTENER", "LINKLOCAL", "OVER", "SENT", "HEARD", "LAST"], &rows)));
    }
    for l in &d.listeners {
        out.push_str(&l.advice.as_ref().map(|text| format!("{}: {text}\n", l.address)).unwrap_or_default());
    }
    out + "\nnext: rovy peer list\n"
}

pub(super) fn listeners(listeners: &[Listener]) -> String {
    let next = if listeners.is_empty() { "rovy listener start /ip6/::/udp/1312" } else { "rovy peer list" };
    format!("{}\nnext: {next}\n", listener_table(listeners))
}

pub(super) fn listener(l: &Listener) -> String {
    let state = if l.state == ListenerState::Up { "" } else { " (down: it starts when its interface does)" };
    let mut out = format!("listening on {}{state}\n", l.address);
    out.push_str(&list(&[("reached at", l.effective.join(" ")), ("xdp", format!("{}: {}", l.xdp_mode, l.xdp_why))]));
    out + "\nnext: rovy peer list\n"
}

fn peer_table(peers: &[Peer]) -> String {
    let rows: Vec<_> = peers
        .iter()
        .map(|p| {
            let state = match p.state {
                PeerState::Connected => "connected",
                PeerState::Connecting => "connecting",
                PeerState::Disconnected => "disconnected",
            };
            let state = p.why.as_ref().map_or_else(|| state.to_owned(), |why| format!("{state}: {why}"));
            [
                p.peer_id.to_string(),
                p.address.to_string(),
                state,
                text(p.slot_text.as_ref()),
                match (p.state, p.direct) {
                    (PeerState::Connected, false) => "routed".into(),
                    _ => text(p.endpoint.as_ref()),
                },
                transit(p),
                p.rtt_us.map(|us| format!("{}.{} ms", us / 1000, us % 1000 / 100)).unwrap_or_default(),
                p.last_seen_s.map(seconds).unwrap_or_default(),
            ]
        })
        .collect();
    table(["PEER", "ADDRESS", "STATE", "SLOT", "ENDPOINT", "TRANSIT", "RTT", "SEEN"], &rows)
}

/// The links of neighbours that have several; empty when nobody has.
fn peer_links(peers: &[Peer]) -> String {
    let several = peers.iter().filter(|p| p.links.len() > 1);
    let rows: Vec<_> = several
        .flat_map(|p| p.links.iter().map(move |l| (p, l)))
        .map(|(p, l)| {
            let state = match (l.state, l.active) {
                (LinkState::Opening, _) => "opening",
                (LinkState::Up, true) => "in use",
                (LinkState::Up, false) => "up",
                (LinkState::Dead, _) => "dead",
            };
            [p.peer_id.to_string(), text(l.slot_text.as_ref()), l.endpoint.clone(), state.into()]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", table(["NEIGHBOUR", "SLOT", "LINK", "STATE"], &rows))
}

/// Those that are there or should be; of the others how many there are.
pub(super) fn peers(all: &[Peer]) -> String {
    let wanted = |p: &&Peer| p.configured || p.state != PeerState::Disconnected;
    let peers: Vec<_> = all.iter().filter(wanted).cloned().collect();
    let others = match all.len() - peers.len() {
        0 => String::new(),
        n => format!("{n} more seen before: rovy peer list --json\n"),
    };
    let Some(up) = peers.iter().find(|p| p.state == PeerState::Connected).or(peers.first()) else {
        return format!("no peers\n{others}\nnext: rovy peer connect /ip4/ADDRESS/udp/1312/rovy/PEERID\n");
    };
    format!("{}{others}{}\nnext: ping {}\n", peer_table(&peers), peer_links(&peers), up.address)
}

pub(super) fn peer(p: &Peer) -> String {
    let how = match p.state {
        PeerState::Connected => "connected to",
        PeerState::Connecting => "connecting to",
        PeerState::Disconnected => "not connected to",
    };
    format!("{how} {} ({})\n\nnext: rovy peer list\n", p.peer_id, p.address)
}

pub(super) fn limit(p: &Peer) -> String {
    let much = p.rate_limit.map_or_else(|| "whatever comes".into(), |limit| format!("at most {limit}"));
    format!("transit of {}: {much}\n\nnext: rovy peer list\n", p.peer_id)
}

/// What becomes of a peer's transit.
fn transit(p: &Peer) -> String {
    let how = match (p.transit, p.sealed) {
        (PeerTransit::Kernel, _) => "kernel",
        (PeerTransit::Sealed, _) => "sealed",
        (PeerTransit::Deny, false) => "deny",
        (PeerTransit::Deny, true) => "deny, sealed",
    };
    let limit = p.rate_limit.filter(|_| p.transit != PeerTransit::Deny);
    let limit = limit.map(|limit| format!(", {limit}")).unwrap_or_default();
    let refused = if p.refused_packets == 0 { String::new() } else { format!(" ({} refused)", p.refused_packets) };
    format!("{how}{limit}{refused}")
}

pub(super) fn routes(routes: &[RouteInfo]) -> String {
    if routes.is_empty() {
        return "no routes: they are found when a program sends to an address\n\nnext: rovy route add PEERID /rovyrt/SLOT.SLOT   (`rovy peer list` shows the slots)\n"
            .into();
    }
    let rows: Vec<_> = routes
        .iter()
        .map(|r| {
            let source = match r.source {
                RouteSource::Configured => "configured",
                RouteSource::Direct => "direct",
                RouteSource::Learned => "learned",
            };
            let used = if r.in_use { "yes" } else { "" };
            let rtt = r.rtt_ns.map(|ns| format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10)).unwrap_or_default();
            [
                r.peer_id.to_string(),
                r.route.to_string(),
                r.hops.to_string(),
                source.into(),
                r.state.clone(),
                used.into(),
                rtt,
                format!("{:.0} %", r.loss * 100.0),
                r.mtu_bytes.map(|mtu| mtu.to_string()).unwrap_or_default(),
                r.age_s.map(seconds).unwrap_or_default(),
                text(r.why.as_ref()),
            ]
        })
        .collect();
    let head = ["PEER", "ROUTE", "HOPS", "SOURCE", "STATE", "IN USE", "RTT", "LOSS", "MTU", "AGE", "WHY"];
    format!("{}\nnext: ping {}\n", table(head, &rows), routes[0].peer_id.address())
}

/// A round trip.
pub(super) fn milliseconds(us: u64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

pub(super) fn trace(t: &Trace) -> String {
    let row = |(n, h): (usize, &TraceHop)| {
        let rtt = match (h.rtt_us, h.rtt_avg_us) {
            (Some(min), Some(avg)) if h.answers > 1 => format!("{}, avg {}", milliseconds(min), milliseconds(avg)),
            (Some(us), _) => milliseconds(us),
            (None, _) => "*".into(),
        };
        let peer = match (&h.peer_id, h.rtt_us) {
            (Some(peer), Some(_)) => peer.to_string(),
            (Some(peer), None) => format!("* (lately {peer})"),
            (None, _) => "*".into(),
        };
        [(n + 1).to_string(), h.route.clone(), peer, text(h.address.as_ref()), text(h.back_slot.as_ref()), rtt]
    };
    let rows: Vec<_> = t.hops.iter().enumerate().map(row).collect();
    let why = t.why.as_ref().map(|why| format!("\nstopped: {why}\n")).unwrap_or_default();
    let hops = table(["HOP", "ROUTE", "PEER", "ADDRESS", "SLOT BACK", "RTT"], &rows);
    format!("{hops}{why}\nnext: rovy ping {}\n", t.peer_id)
}

fn large(l: Large, verb: &str, way: &str) -> String {
    format!("{} {way} ({} packets {verb})", l.packets, l.parts)
}

fn fc00_line(s: &Fc00Status) -> String {
    if s.running {
        let mtu = s.mtu.map(|m| format!(", mtu {m}")).unwrap_or_default();
        return format!("{}{mtu}", text(s.ifname.as_ref()));
    }
    s.why.as_ref().map_or_else(|| "not running".into(), |why| format!("not running: {why}"))
}

pub(super) fn fc00(s: &Fc00Status) -> String {
    let mut out = list(&[("fc00   ", fc00_line(s))]);
    if !s.running {
        return out + "\nnext: sudo rovy fc00 start\n";
    }
    out.push_str(&list(&[
        ("address", text(s.address.as_ref())),
        ("table  ", text(s.table.as_ref())),
        ("packets", format!("{} in, {} out", s.rx_packets, s.tx_packets)),
        ("large  ", format!("{}, {}", large(s.rx_joined, "joined", "in"), large(s.tx_split, "split", "out"))),
        ("offload", if s.offloads.is_empty() { "none".into() } else { s.offloads.join(", ") }),
    ]));
    if let Some(netns) = &s.netns {
        out.push_str(&list(&[("netns  ", netns.clone())]));
    }
    if let Some(advice) = &s.advice {
        out.push_str(&format!("\n{advice}\n"));
    }
    out + "\nnext: rovy peer list\n"
}

pub(super) fn ports(p: &Ports) -> String {
    if p.firewall == Firewall::Off {
        return "the firewall is off: everything comes in (`fc00.firewall` in the configuration)\n\nnext: rovy info\n"
            .into();
    }
    let action = |a: &Action| match a {
        Action::Allow => "comes in",
        Action::Deny => "is refused",
    };
    let row = |r: &PortRule| {
        [
            r.service.clone(),
            r.from.map_or("everybody".into(), |f| f.to_string()),
            action(&r.action).into(),
            r.packets.to_string(),
        ]
    };
    let mut rows: Vec<_> = p.rules.iter().map(row).collect();
    if !p.rules.iter().any(|r| r.service == "/icmp" && r.from.is_none()) {
        rows.push(["/icmp".into(), "everybody".into(), action(&p.default_icmp).into(), String::new()]);
    }
    rows.push(["all else".into(), "everybody".into(), action(&p.default).into(), String::new()]);
    let told = if p.reject { "who is refused is told so" } else { "nobody is told" };
    let answers = "and answers to what this host began";
    format!(
        "{}{answers}; {} packets came in, {} did not; {told}\n\nnext: rovy fc00 allow /tcp/80\n",
        table(["SERVICE", "FROM", "WHAT", "PACKETS"], &rows),
        p.passed_packets,
        p.refused_packets
    )
}

pub(super) fn stats(s: &Stats) -> String {
    let mut out = list(&[
        (
            "transit",
            format!("{} packets by the kernel, {} by the agent", s.transit.kernel_packets, s.transit.agent_packets),
        ),
        ("sessions", format!("{}, {} handshakes so far", s.sessions, s.handshakes)),
        (
            "probes ",
            format!(
                "{} searches of its own, {} received, {} of them passed on and {} answered",
                s.probes.own, s.probes.received, s.probes.relayed, s.probes.answered
            ),
        ),
    ]);
    let reasons: BTreeSet<_> = s.drops.kernel.keys().chain(s.drops.agent.keys()).collect();
    let drops: Vec<_> = reasons
        .iter()
        .map(|r| (r, s.drops.kernel.get(*r).copied().unwrap_or(0), s.drops.agent.get(*r).copied().unwrap_or(0)))
        .filter(|(_, kernel, agent)| *kernel > 0 || *agent > 0)
        .map(|(r, kernel, agent)| [r.to_string(), kernel.to_string(), agent.to_string()])
        .collect();
    if drops.is_empty() {
        out.push_str("\nnothing dropped\n");
    } else {
        out.push_str(&format!("\n{}", table(["DROPPED", "KERNEL", "AGENT"], &drops)));
    }
    let up: Vec<_> = s.up.iter().filter(|(_, n)| **n > 0).map(|(r, n)| [r.clone(), n.to_string()]).collect();
    if !up.is_empty() {
        out.push_str(&format!("\n{}", table(["HANDED TO THE AGENT", "PACKETS"], &up)));
    }
    let errors = error_rows(&s.errors);
    if !errors.is_empty() {
        out.push_str(&format!("\n{}", table(["ERROR", "SENT", "RECEIVED", "DISBELIEVED"], &errors)));
    }
    if !s.links.is_empty() {
        out.push_str(&format!("\n{}", link_table(&s.links)));
    }
    let limits: Vec<_> =
        s.limits.iter().map(|(name, l)| [name.clone(), l.used.to_string(), l.max.to_string()]).collect();
    if !limits.is_empty() {
        out.push_str(&format!("\n{}", table(["LIMIT", "USED", "OF"], &limits)));
    }
    out + "\nnext: rovy stats --json\n"
}

/// Kinds of errors that there were any of.
fn error_rows(e: &ErrorStats) -> Vec<[String; 4]> {
    let of = |counts: &BTreeMap<String, u64>, kind| counts.get(kind).copied().unwrap_or(0);
    let kinds: BTreeSet<&String> = e.sent.keys().chain(e.received.keys()).collect();
    let counts = kinds.into_iter().map(|k| (k, [of(&e.sent, k), of(&e.received, k), of(&e.disbelieved, k)]));
    let any = counts.filter(|(_, n)| n.iter().any(|n| *n > 0));
    any.map(|(k, [sent, received, not])| [k.clone(), sent.to_string(), received.to_string(), not.to_string()]).collect()
}

fn link_table(links: &[LinkStats]) -> String {
    let rows: Vec<_> = links
        .iter()
        .map(|l| {
            let sends = if l.redirect { "kernel" } else { "agent" };
            [
                l.slot_text.clone(),
                l.peer_id.to_string(),
                l.endpoint.clone(),
                format!("{} ({})", l.rx_packets, bytes(l.rx_bytes)),
                format!("{} ({})", l.tx_packets, bytes(l.tx_bytes)),
                if l.why.is_empty() { sends.into() } else { format!("{sends}: {}", l.why) },
            ]
        })
        .collect();
    table(["SLOT", "NEIGHBOUR", "ENDPOINT", "IN", "OUT", "SENT BY"], &rows)
}

#[cfg(test)]
mod tests;
