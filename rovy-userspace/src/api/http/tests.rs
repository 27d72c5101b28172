use super::*;
use proptest::prelude::*;

const PEER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";

fn failure(path: &str, query: &str) -> Failure {
    Command::from_http(path, query).unwrap_err()
}

#[test]
fn every_command_survives_the_way() {
    let id: PeerId = PEER.parse().unwrap();
    let (peer, name): (Whom, Petname) = (id.into(), "alice".parse().unwrap());
    let route: Route = "/rovyrt/04.2a.0113".parse().unwrap();
    let eth: Multiaddr = "/ethif/a%b&c#d".parse().unwrap();
    let at: Multiaddr = "/ip6/2001:db8::1/udp/1312".parse().unwrap();
    let mut commands = vec![
        Command::Info,
        Command::ListenerList,
        Command::PeerList,
        Command::PeerDisconnect { peer: peer.clone() },
        Command::PeerDisconnect { peer: Whom::Name(name.clone()) },
        Command::NameList,
        Command::NameAdd { name: name.clone(), peer: id },
        Command::NameDel { name: name.clone() },
        Command::DiscoveryList,
        Command::RouteList,
        Command::RouteAdd { peer: peer.clone(), route: route.clone() },
        Command::RouteDel { peer: peer.clone(), route: None },
        Command::RouteDel { peer: peer.clone(), route: Some(route) },
        Command::Ping { peer: peer.clone() },
        Command::Ping { peer: Whom::Name(name.clone()) },
        Command::Trace { peer: peer.clone(), probes: 3 },
        Command::Fc00Start(Fc00Device::default()),
        Command::Fc00Start(Fc00Device { ifname: Some("r&v%0".into()), ..Fc00Device::default() }),
        Command::Fc00Start(Fc00Device { netns: Some("a=/b&c".into()), existing: Some("7".into()), ifname: None }),
        Command::Fc00Stop,
        Command::Fc00Status,
        Command::Fc00Allow { services: vec![Service::Tcp(80), Service::Udp(0)], from: None },
        Command::Fc00Allow { services: vec![Service::Tcp(22)], from: Some(NodeName::Whom(Whom::Id(id))) },
        Command::Fc00Allow { services: vec![Service::Tcp(22)], from: Some(NodeName::Whom(Whom::Name(name.clone()))) },
        Command::Fc00Deny { services: vec![Service::Icmp], from: Some("fc02::1".parse().unwrap()) },
        Command::Fc00Ports,
        Command::Stats,
        Command::Wants,
        Command::GiveFc00 { netns: None },
        Command::GiveFc00 { netns: Some("/proc/1/ns/net".into()) },
    ];
    for yes in [true, false] {
        commands.push(Command::Stop { keep_transit: yes });
        commands.push(Command::ListenerStart { address: eth.clone(), persist: yes });
        commands.push(Command::GiveListener { address: eth.clone(), persist: yes });
        commands.push(Command::ListenerStop { address: eth.clone(), persist: yes });
        commands.push(Command::DiscoverySwitch { listener: None, on: yes });
        commands.push(Command::DiscoverySwitch { listener: Some(eth.clone()), on: yes });
        commands.push(Command::PeerConnect { address: at.clone(), peer: peer.clone(), persist: yes });
        commands.push(Command::PeerConnect { address: eth.clone(), peer: Whom::Name(name.clone()), persist: yes });
        commands.push(Command::PeerLimit { peer: peer.clone(), limit: "10mbit 2000pps".parse().ok(), persist: yes });
        commands.push(Command::PeerLimit { peer: peer.clone(), limit: None, persist: yes });
    }
    for command in commands {
        let (used, target) = command.to_http();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        assert_eq!(Command::from_http(path, query), Ok(command.clone()), "{target}");
        assert_eq!(method(path), Some(used));
        assert!(target.parse::<hyper::Uri>().is_ok(), "{target}");
    }
}

#[test]
fn plain_queries_are_understood() {
    let start = |query| Command::from_http("/v0/listener/start", query);
    let address: Multiaddr = "/ethif/wlp3s0".parse().unwrap();
    assert_eq!(start("/ethif/wlp3s0"), Ok(Command::ListenerStart { address: address.clone(), persist: false }));
    assert_eq!(
        start("/ethif/wlp3s0&persist=true"),
        Ok(Command::ListenerStart { address: address.clone(), persist: true })
    );
    assert_eq!(start("%2Fethif%2fwlp3s0"), Ok(Command::ListenerStart { address, persist: false }));
}

#[test]
fn bad_queries_are_refused() {
    for (path, query, part) in [
        ("/v0/info", "x=1", "`x=1` does not belong"),
        ("/v0/listener/start", "", "multiaddr is missing"),
        ("/v0/listener/start", "/tcp/80", "not supported"),
        ("/v0/listener/start", "/dns/a/udp/1", "address of this host"),
        ("/v0/listener/start", "/ethif/a&/ethif/b", "does not belong"),
        ("/v0/listener/start", "/ethif/%ff", "not UTF-8"),
        ("/v0/peer/connect", "/ip4/192.0.2.1/udp/1", "append /rovy/<PeerID>"),
        ("/v0/peer/disconnect", "", "peer is missing"),
        ("/v0/peer/disconnect", "/rovy/bafzqai", "not a PeerID"),
        ("/v0/peer/disconnect", "/rovy/a b", "neither a PeerID nor a name"),
        ("/v0/name/add", "name=alice&peer=bob", "a name stands for a PeerID"),
        ("/v0/name/del", "name=b_b", "cannot be a name"),
        ("/v0/name/del", "", "name= is missing"),
        ("/v0/route/add", &format!("peer={PEER}"), "route= is missing"),
        ("/v0/route/add", &format!("peer={PEER}&route=/rovyrt/0"), "not a slot"),
        ("/v0/ping", "", "peer is missing"),
        ("/v0/trace", &format!("peer={PEER}&probes=11"), "from 1 to 10"),
        ("/v0/fc00/start", "ifname=a/b", "cannot be the name"),
        ("/v0/fc00/allow", "", "service is missing"),
        ("/v0/fc00/allow", "/tcp/80&/sctp/1", "not supported"),
        ("/v0/fc00/deny", "/tcp/80&from=abc", "neither a PeerID nor"),
        ("/v0/fc00/start", &"a".repeat(5000), "too long"),
    ] {
        let failure = failure(path, query);
        assert_eq!(failure.kind, FailureKind::Usage);
        assert!(failure.message.contains(part), "{path}?{query}: {failure}");
    }
    assert_eq!(failure("/v0/nothing", "").kind, FailureKind::NotFound);
}

proptest! {
    #[test]
    fn no_request_panics(at in 0..6_usize, query in "[/=&%a-z0-9\\PC]{0,60}") {
        let path = ["/v0/listener/start", "/v0/peer/connect", "/v0/peer/disconnect", "/v0/route/add", "/v0/stop", "/"][at];
        let _ = Command::from_http(path, &query);
    }
}
