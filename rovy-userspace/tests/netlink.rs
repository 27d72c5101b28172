//! What netlink tells, against interfaces, routes and neighbours made for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/xdp.rs"]
mod xdp;

use std::net::IpAddr;

use rovy_common::encap::Macs;
use rovy_userspace::netlink::features::{self, XDP_ACT_BASIC, XDP_ACT_NDO_XMIT};
use rovy_userspace::netlink::interfaces::XdpAttached;
use rovy_userspace::netlink::watch::watch;
use rovy_userspace::netlink::{Change, ListenerProblem, Netlink, ResolveError, Transmit, check_ethernet_listener};
use support::{Netns, rooted, skip, soon, until};
use tokio::sync::mpsc::Receiver;

fn pair() -> (Netns, Netns) {
    let (a, b) = (Netns::new("a"), Netns::new("b"));
    a.connect("va", &b, "vb");
    (a, b)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn see(changes: &mut Receiver<Change>, wanted: Change) {
    soon(&format!("{wanted:?}"), async { while changes.recv().await.expect("the watch ended") != wanted {} }).await;
}

#[test]
fn interfaces_and_which_can_listen() {
    rooted("interfaces_and_which_can_listen", || async {
        let (a, _b) = pair();
        a.ip("link add br0 type bridge");
        a.ip("link add port type veth peer name loose");
        a.ip("link set port master br0 up");
        a.ip("link set br0 up");
        a.ip("tuntap add tun0 mode tun");
        a.enter();
        let netlink = Netlink::new().unwrap();
        let _program = xdp::attach(a.ifindex("va"), xdp::GENERIC);
        let all = netlink.interfaces().await.unwrap();
        let get = |name: &str| all.iter().find(|i| i.name == name).unwrap();

        let va = get("va");
        assert_eq!((va.index, va.mac), (a.ifindex("va"), Some(a.mac("va"))));
        assert_eq!(
            (va.mtu, va.up, va.ethernet, va.wireless, va.kind.as_deref()),
            (1500, true, true, false, Some("veth"))
        );
        assert!(va.addrs.contains(&ip("10.0.0.1")) && va.addrs.contains(&ip("fd01::1")));
        assert!(matches!(va.xdp, Some((XdpAttached::Generic, id)) if id > 0), "{:?}", va.xdp);
        assert_eq!(get("br0").xdp, None);
        let master = get("port").master.clone().unwrap();
        assert_eq!((master.name.as_str(), master.kind.as_str()), ("br0", "bridge"));
        assert!(!get("loose").up && !get("lo").ethernet && !get("tun0").ethernet);

        assert_eq!(check_ethernet_listener(&all, "va"), Ok(va));
        assert_eq!(check_ethernet_listener(&all, "br0"), Ok(get("br0")));
        let problem = |name: &str| check_ethernet_listener(&all, name).unwrap_err();
        assert!(matches!(problem("eth7"), ListenerProblem::Unknown { .. }));
        assert!(matches!(problem("loose"), ListenerProblem::Down { .. }));
        assert!(matches!(problem("lo"), ListenerProblem::NotEthernet { .. }));
        assert!(matches!(problem("tun0"), ListenerProblem::NotEthernet { .. }));
        assert!(matches!(problem("port"), ListenerProblem::Enslaved { .. }));
        assert!(problem("port").to_string().starts_with("interface port belongs to bridge br0: listen on br0 instead"));
        for name in ["eth7", "loose", "lo", "port"] {
            assert!(problem(name).to_string().contains("usable interfaces: va, br0"), "{}", problem(name));
        }
        assert!(check_ethernet_listener(&[], "x").unwrap_err().to_string().ends_with("no interface is usable now"));
    });
}

#[test]
fn resolves_on_the_segment_and_through_gateways() {
    rooted("resolves_on_the_segment_and_through_gateways", || async {
        let (a, b) = pair();
        a.ip("route add 198.51.100.0/24 via 10.0.0.2 mtu 1400");
        a.ip("route add 2001:db8::/32 via fd01::2");
        a.ip("route add 203.0.113.0/24 via inet6 fd01::2");
        a.ip("route add blackhole 192.0.2.0/24");
        a.ip("addr add 10.0.0.7/24 dev va");
        a.enter();
        let netlink = Netlink::new().unwrap();
        let (mut changes, run) = watch().unwrap();
        let run = tokio::spawn(run);
        let va = a.ifindex("va");
        let macs = Macs { dst: b.mac("vb"), src: a.mac("va") };

        for (remote, gateway, src, mtu) in [
            ("10.0.0.2", "10.0.0.2", "10.0.0.1", 1500),
            ("198.51.100.9", "10.0.0.2", "10.0.0.1", 1400),
            ("fd01::2", "fd01::2", "fd01::1", 1500),
            ("2001:db8::9", "fd01::2", "fd01::1", 1500),
            ("203.0.113.5", "fd01::2", "10.0.0.1", 1500),
        ] {
            a.ip("neigh flush dev va");
            match netlink.resolve(ip(remote), None).await {
                Err(ResolveError::NoNeighbour { ifindex, ifname, next_hop, .. }) => {
                    assert_eq!((ifindex, ifname.as_str(), next_hop), (va, "va", ip(gateway)));
                }
                other => panic!("{remote}: {other:?}"),
            }
            netlink.probe_neighbour(va, ip(gateway)).await.unwrap();
            let found = loop {
                see(&mut changes, Change::Neighbour { ifindex: va, addr: ip(gateway) }).await;
                match netlink.resolve(ip(remote), None).await {
                    Ok(found) => break found,
                    Err(ResolveError::NoNeighbour { .. }) => {}
                    Err(other) => panic!("{remote}: {other:?}"),
                }
            };
            assert_eq!((found.ifindex, found.ifname.as_str(), found.macs), (va, "va", macs), "{remote}");
            assert_eq!((found.src, found.mtu), (ip(src), mtu), "{remote}");
        }
        let own = netlink.resolve(ip("198.51.100.9"), Some(ip("10.0.0.7"))).await;
        assert!(own.is_err(), "the neighbour was flushed");
        netlink.probe_neighbour(va, ip("10.0.0.2")).await.unwrap();
        let own = until("the neighbour", async || netlink.resolve(ip("198.51.100.9"), Some(ip("10.0.0.7"))).await.ok());
        assert_eq!(own.await.src, ip("10.0.0.7"));

        for remote in ["10.0.0.1", "127.0.0.1", "::1", "fd01::1"] {
            let found = netlink.resolve(ip(remote), None).await;
            assert!(matches!(found, Err(ResolveError::NotEthernet { ref ifname, .. }) if ifname == "lo"), "{found:?}");
        }
        for remote in ["192.0.2.1", "8.8.8.8", "2600::1"] {
            let found = netlink.resolve(ip(remote), None).await;
            assert!(matches!(found, Err(ResolveError::NoRoute { .. })), "{found:?}");
        }
        let foreign = netlink.resolve(ip("10.0.0.2"), Some(ip("10.66.0.1"))).await;
        assert!(matches!(foreign, Err(ResolveError::NoRoute { .. })), "{foreign:?}");
        a.ip("tuntap add tun0 mode tun");
        a.ip("link set tun0 up");
        a.ip("route add 100.64.0.0/10 dev tun0 src 10.0.0.1");
        let tunnel = netlink.resolve(ip("100.64.0.1"), None).await;
        assert!(matches!(tunnel, Err(ResolveError::NotEthernet { ref ifname, .. }) if ifname == "tun0"), "{tunnel:?}");
        drop(changes);
        soon("the end of the watch", run).await.unwrap().unwrap();
    });
}

#[test]
fn resolves_link_local_addresses_on_a_given_interface() {
    rooted("resolves_link_local_addresses_on_a_given_interface", || async {
        let (a, b) = pair();
        b.ip("addr add fe80::b/64 dev vb nodad");
        a.ip("addr add fe80::a/64 dev va nodad");
        a.enter();
        let netlink = Netlink::new().unwrap();
        let va = a.ifindex("va");
        netlink.probe_neighbour(va, ip("fe80::b")).await.unwrap();
        let resolve = async || netlink.resolve_on(ip("fe80::b"), Some(ip("fe80::a")), Some(va)).await.ok();
        let found = until("the neighbour", resolve).await;
        assert_eq!((found.macs.dst, found.src), (b.mac("vb"), ip("fe80::a")));
    });
}

#[test]
fn watch_sees_links_addresses_routes_and_overruns() {
    rooted("watch_sees_links_addresses_routes_and_overruns", || async {
        let (a, _b) = pair();
        a.enter();
        let (mut changes, run) = watch().unwrap();
        let run = tokio::spawn(run);
        let va = a.ifindex("va");
        a.ip("addr add 10.5.0.1/24 dev va");
        see(&mut changes, Change::Address(va)).await;
        see(&mut changes, Change::Route).await;
        a.ip("neigh replace 10.0.0.9 lladdr 02:00:00:00:00:09 dev va");
        see(&mut changes, Change::Neighbour { ifindex: va, addr: ip("10.0.0.9") }).await;
        a.ip("link set va mtu 1400");
        see(&mut changes, Change::Link(va)).await;

        a.ip("link add br0 type bridge");
        let br = a.ifindex("br0");
        see(&mut changes, Change::Link(br)).await;
        a.ip("link set va master br0");
        a.ip("link set va nomaster");
        a.ip("link del br0");
        let mut port_gone = false;
        soon("the bridge's end", async {
            loop {
                match changes.recv().await.unwrap() {
                    Change::LinkGone(i) if i == br => break,
                    Change::LinkGone(i) if i == va => port_gone = true,
                    _ => {}
                }
            }
        })
        .await;
        assert!(!port_gone, "a port that leaves a bridge is not gone");

        // More than the channel and the socket's buffer hold, while nobody reads.
        let lines: String = (0..20_000_u32)
            .map(|i| format!("neigh replace 10.0.{}.{} lladdr 02:00:00:00:00:01 dev va\n", i >> 8, i & 255))
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        a.ip(&format!("-batch {}", file.path().display()));
        see(&mut changes, Change::Overrun).await;
        a.ip("link set va mtu 1450");
        see(&mut changes, Change::Link(va)).await;
        drop(changes);
        soon("the end of the watch", run).await.unwrap().unwrap();
    });
}

#[test]
fn veth_transmits_redirected_frames_while_its_peer_can_take_them() {
    rooted("veth_transmits_redirected_frames_while_its_peer_can_take_them", || async {
        let (a, b) = pair();
        b.enter();
        // Held elsewhere: the requests below ask in the other namespace.
        let vb = b.ifindex("vb");
        a.enter();
        let netlink = Netlink::new().unwrap();
        let va = a.ifindex("va");
        b.enter();
        let Some(bits) = netlink.xdp_features(va).unwrap() else {
            skip::skip(
                "veth_transmits_redirected_frames_while_its_peer_can_take_them",
                "this kernel has no netdev family",
            );
            assert_eq!(netlink.can_transmit_redirected(va), Transmit::Unknown);
            return;
        };
        assert_eq!(bits & (XDP_ACT_BASIC | XDP_ACT_NDO_XMIT), XDP_ACT_BASIC);
        assert_eq!(netlink.can_transmit_redirected(va), Transmit::No);

        let program = xdp::attach(vb, xdp::NATIVE);
        assert_eq!(netlink.can_transmit_redirected(va), Transmit::Yes);
        drop(program);
        until("detaching", async || (netlink.can_transmit_redirected(va) == Transmit::No).then_some(())).await;
        let program = xdp::attach(vb, xdp::GENERIC);
        assert_eq!(netlink.can_transmit_redirected(va), Transmit::No);
        drop(program);

        if std::process::Command::new("ethtool").arg("--version").output().is_ok() {
            b.exec("ethtool -K vb gro on");
            assert_eq!(netlink.can_transmit_redirected(va), Transmit::Yes);
        } else {
            skip::skip("veth_transmits_redirected_frames_while_its_peer_can_take_them", "no ethtool to switch GRO on");
        }
        a.enter();
        assert_eq!(features::xdp_features(va).unwrap(), netlink.xdp_features(va).unwrap());
        assert!(netlink.xdp_features(4711).is_err());
        assert_eq!(features::can_transmit_redirected(4711), Transmit::Unknown);
    });
}
