use super::*;
use crate::api::{DiscoveryListener, Drops, PeerLink, PeerSource, TransitStats};
use crate::identity::PeerId;

fn peer_id() -> PeerId {
    "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee".parse().unwrap()
}

fn a_listener() -> Listener {
    Listener {
        address: "/ethif/eth0".parse().unwrap(),
        kind: "eth".into(),
        ifname: Some("eth0".into()),
        state: ListenerState::Up,
        xdp_mode: "generic".into(),
        xdp_why: "the driver has no native XDP".into(),
        effective: vec!["02:00:00:00:00:01".into()],
        beacons_sent: 5,
        beacons_heard: 0,
        advice: None,
    }
}

fn a_peer() -> Peer {
    Peer {
        peer_id: peer_id(),
        address: peer_id().address(),
        state: PeerState::Connected,
        endpoint: Some("/ip4/192.0.2.1/udp/1312".into()),
        kind: Some("udp4".into()),
        slot: Some(4),
        slot_text: Some("04".into()),
        why: None,
        links: Vec::new(),
        direct: true,
        rtt_us: Some(1_234),
        rx_packets: 1,
        rx_bytes: 2,
        tx_packets: 3,
        tx_bytes: 4,
        last_seen_s: Some(61),
        last_seen: Some(1_700_000_000),
        source: PeerSource::Discovered,
        nat: false,
        configured: false,
        transit: PeerTransit::Kernel,
        rate_limit: None,
        refused_packets: 0,
        sealed: false,
    }
}

fn an_info() -> Info {
    Info {
        peer_id: peer_id(),
        address: peer_id().address(),
        version: "1".into(),
        pid: 7,
        uptime_s: 3_700,
        xdp: "generic on eth0".into(),
        config: "/x".into(),
        listeners: 1,
        peers_connected: 1,
        peers: 2,
        fc00_ifname: None,
    }
}

/// Every text ends with one line that names the next command, and no line ends in blanks.
fn checked(text: String) -> String {
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("next: ") && last.len() > 6, "{text}");
    assert!(text.ends_with('\n') && text.lines().all(|l| l == l.trim_end()), "{text:?}");
    text
}

#[test]
fn what_matters_is_shown() {
    let text = checked(listener(&a_listener()));
    assert!(text.contains("generic: the driver has no native XDP"), "{text}");
    let text = checked(status(&an_info(), &[a_listener()], &[a_peer()]));
    assert!(
        text.contains("1 h 1 min") && text.contains("1.2 ms") && text.contains("/ip4/192.0.2.1/udp/1312"),
        "{text}"
    );
    assert!(checked(peers(&[a_peer()])).ends_with(&format!("next: ping {}\n", peer_id().address())));
    let link = |number: u8, state, active| PeerLink {
        number,
        slot: Some(4),
        slot_text: Some(format!("0{number}")),
        endpoint: "/ethif/eth0 02:00:00:00:00:01".into(),
        kind: "eth".into(),
        state,
        active,
    };
    let links = vec![link(4, LinkState::Up, true), link(5, LinkState::Dead, false)];
    let text = checked(peers(&[Peer { links, ..a_peer() }]));
    assert!(text.contains(" 04    /ethif/eth0 02:00:00:00:00:01  in use\n") && text.contains("  dead\n"), "{text}");
    assert!(checked(info(&an_info())).contains("1 connected of 2"));
    checked(peer(&a_peer()));
}

#[test]
fn the_kind_of_transit_is_shown() {
    for (transit, sealed, word) in [
        (PeerTransit::Kernel, false, " kernel "),
        (PeerTransit::Sealed, true, " sealed "),
        (PeerTransit::Deny, false, " deny "),
        (PeerTransit::Deny, true, " deny, sealed "),
    ] {
        let text = checked(peers(&[Peer { transit, sealed, ..a_peer() }]));
        assert!(text.contains(word), "{text}");
    }
    let json = serde_json::to_value(Peer { transit: PeerTransit::Sealed, sealed: true, ..a_peer() }).unwrap();
    assert_eq!((json["transit"].as_str(), json["sealed"].as_bool()), (Some("sealed"), Some(true)));
}

#[test]
fn a_limit_and_what_it_refused_are_shown() {
    let limited = Peer { rate_limit: "10mbit 2000pps".parse().ok(), refused_packets: 12, ..a_peer() };
    let text = checked(peers(std::slice::from_ref(&limited)));
    assert!(text.contains(" kernel, 10mbit 2000pps (12 refused) "), "{text}");
    assert!(checked(limit(&limited)).contains("at most 10mbit 2000pps"));
    assert!(checked(limit(&a_peer())).contains("whatever comes"));
    let json = serde_json::to_value(&limited).unwrap();
    assert_eq!((json["rate_limit"].as_str(), json["refused_packets"].as_u64()), (Some("10mbit 2000pps"), Some(12)));
    let denied = checked(peers(&[Peer { transit: PeerTransit::Deny, ..limited }]));
    assert!(denied.contains(" deny (12 refused) "), "{denied}");
}

#[test]
fn a_route_shows_how_it_stands() {
    let route = RouteInfo {
        peer_id: a_peer().peer_id,
        route: "/rovyrt/04.2a".parse().unwrap(),
        label: "2a".into(),
        hops: 2,
        source: RouteSource::Learned,
        in_use: true,
        state: "good".into(),
        age_s: Some(65),
        rtt_ns: Some(12_340_000),
        loss: 0.031,
        why: Some("better for a while".into()),
    };
    let text = checked(routes(std::slice::from_ref(&route)));
    for word in ["/rovyrt/04.2a", "good", "yes", "12.3 ms", "3 %", "1 min 5 s", "better for a while"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let json = serde_json::to_value(route).unwrap();
    let keys = ["route", "label", "hops", "state", "age_s", "rtt_ns", "loss", "why", "in_use"];
    assert!(keys.iter().all(|k| !json[k].is_null()), "{json}");
}

#[test]
fn who_was_only_seen_before_takes_no_line() {
    let gone = Peer { state: PeerState::Disconnected, ..a_peer() };
    let text = checked(peers(&[a_peer(), gone.clone()]));
    assert!(text.contains("1 more seen before") && text.matches(&peer_id().to_string()).count() == 1, "{text}");
    assert!(checked(peers(&[Peer { configured: true, ..gone.clone() }])).contains("disconnected"));
    let json = serde_json::to_value(gone).unwrap();
    assert_eq!((json["last_seen"].as_u64(), json["source"].as_str()), (Some(1_700_000_000), Some("discovered")));
}

#[test]
fn silence_is_shown_with_what_to_do() {
    let advice = Some("no beacon heard for 31 s: rovy listener start /ip6/::/udp/1312".to_owned());
    let text = checked(listeners(&[Listener { advice: advice.clone(), ..a_listener() }]));
    assert!(text.contains("/ethif/eth0: no beacon heard for 31 s"), "{text}");
    let entry = DiscoveryListener {
        address: a_listener().address,
        linklocal: true,
        interfaces: vec!["eth0".into()],
        beacons_sent: 5,
        beacons_heard: 0,
        last_heard_s: None,
        advice,
    };
    let text = checked(discovery(&Discovery { linklocal: true, interval_s: 30, listeners: vec![entry] }));
    assert!(text.contains("no beacon heard") && text.contains("SENT"), "{text}");
}

#[test]
fn empty_lists_say_so() {
    assert!(checked(listeners(&[])).contains("no listeners"));
    assert!(checked(peers(&[])).contains("no peers"));
    assert!(checked(routes(&[])).contains("no routes"));
    assert!(checked(stats(&Stats::default())).contains("nothing dropped"));
    assert!(
        checked(fc00(&Fc00Status { why: Some("no /dev/net/tun".into()), ..Default::default() }))
            .contains("/dev/net/tun")
    );
}

#[test]
fn drops_of_kernel_and_agent_stand_in_one_row() {
    let drops = Drops {
        kernel: [("replay".to_owned(), 3), ("bad_tag".to_owned(), 0)].into(),
        agent: [("replay".to_owned(), 1), ("limit".to_owned(), 2)].into(),
    };
    let transit = TransitStats { kernel_packets: 10, agent_packets: 20 };
    let text = checked(stats(&Stats { drops, transit, ..Stats::default() }));
    assert!(text.contains("\nreplay   3       1\n") && text.contains("\nlimit    0       2\n"), "{text}");
    assert!(!text.contains("bad_tag") && text.contains("10 packets by the kernel, 20 by the agent"), "{text}");
}

#[test]
fn errors_are_shown_by_kind() {
    let of = |n| [("no_slot".to_owned(), n), ("too_big".to_owned(), 0)].into();
    let errors = ErrorStats { sent: of(1), received: of(5), disbelieved: of(4) };
    let text = checked(stats(&Stats { errors, ..Stats::default() }));
    assert!(text.contains("\nERROR    SENT  RECEIVED  DISBELIEVED\nno_slot  1     5         4\n"), "{text}");
    assert!(!text.contains("too_big"), "{text}");
}

#[test]
fn a_trace_tells_who_answers_now_from_who_did_before() {
    let hop = |route: &str, peer_id, rtt_us: Option<u64>, answers| TraceHop {
        route: route.into(),
        slot: "04".into(),
        peer_id,
        address: None,
        back_slot: rtt_us.map(|_| "07".into()),
        rtt_us,
        rtt_avg_us: rtt_us.map(|us| us + 500),
        answers,
    };
    let hops = vec![
        hop("/rovyrt/04", Some(peer_id()), Some(250), 3),
        hop("/rovyrt/04.0113", Some(peer_id()), None, 0),
        hop("/rovyrt/04.0113.02", None, None, 0),
    ];
    let route = "/rovyrt/04.0113.02".parse().unwrap();
    let why = Some("the reason".into());
    let shown = trace(&Trace { peer_id: peer_id(), address: peer_id().address(), route, hops, reached: false, why });
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1].ends_with("07         0.250 ms, avg 0.750 ms"), "{shown}");
    assert!(lines[2].contains(&format!("/rovyrt/04.0113     * (lately {})", peer_id())), "{shown}");
    assert!(lines[3].contains("/rovyrt/04.0113.02  *  ") && lines[3].ends_with("-          *"), "{shown}");
    assert!(shown.contains("\nstopped: the reason\n"), "{shown}");
}

#[test]
fn what_comes_in_is_shown_with_what_holds_for_the_rest() {
    use crate::api::PortRule;
    let rule = |service: &str, from, action, packets| PortRule {
        service: service.into(),
        from,
        address: None,
        action,
        packets,
    };
    let from = Some(crate::fc00::firewall::Sender::Peer(peer_id()));
    let mut p = Ports {
        firewall: Firewall::On,
        reject: false,
        default_icmp: Action::Allow,
        default: Action::Deny,
        rules: vec![rule("/tcp/80", None, Action::Allow, 7), rule("/tcp/22", from, Action::Allow, 0)],
        passed_packets: 12,
        refused_packets: 3,
    };
    let text = ports(&p);
    for line in ["/tcp/80", "/icmp", "all else"] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{text}");
    }
    assert!(text.contains(&format!("/rovy/{}", peer_id())) && text.contains("12 packets came in, 3 did not"), "{text}");
    p.rules = vec![rule("/icmp", None, Action::Deny, 1)];
    let text = ports(&p);
    assert_eq!(text.matches("/icmp").count(), 1, "{text}");
    p.firewall = Firewall::Off;
    assert!(ports(&p).contains("everything comes in"));
}
