//! A gateway that runs rovy itself and routes the rovy traffic of others.
//!
//! ```text
//!   a 10.77.1.1 ==== 10.77.1.2 g 10.77.2.2 ==== 10.77.2.1 b
//!                      agent on 1312, XDP on both sides, net.ipv4.ip_forward = 1
//! ```
//!
//! a and b are each other's peers and know nothing of g's agent.

use anyhow::{Context as _, Result};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::ping::Ping;
use rovy_netns::{Agent, Config, Mode, Namespace, device, wait};
use std::time::Duration;

fn passes(mode: Mode) -> Result<()> {
    let (ns_a, ns_g, ns_b) = (Namespace::new("a")?, Namespace::new("g")?, Namespace::new("b")?);
    device::veth(&ns_a, "to-g", &ns_g, "to-a", 1500)?;
    device::veth(&ns_b, "to-g", &ns_g, "to-b", 1500)?;
    for (ns, interface, address) in [
        (&ns_a, "to-g", "10.77.1.1/24"),
        (&ns_g, "to-a", "10.77.1.2/24"),
        (&ns_g, "to-b", "10.77.2.2/24"),
        (&ns_b, "to-g", "10.77.2.1/24"),
    ] {
        device::address(ns, interface, address)?;
    }
    ns_g.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?.context("cannot route in g")?;
    ns_a.ip("route add default via 10.77.1.2")?;
    ns_b.ip("route add default via 10.77.2.2")?;

    let (mut a, mut g, mut b) = (Agent::new(&ns_a, "a")?, Agent::new(&ns_g, "g")?, Agent::new(&ns_b, "b")?);
    g.configure(&Config {
        listen: ["/ip4/0.0.0.0/udp/1312", "/ethif/to-a", "/ethif/to-b"].map(String::from).to_vec(),
        mode,
        xdp_interfaces: ["to-a", "to-b"].map(String::from).to_vec(),
        ..Config::default()
    })?;
    let end = |net: u8, other: u8, peer| Config {
        listen: vec![format!("/ip4/10.77.{net}.1/udp/1312")],
        mode: Mode::Userspace,
        peers: vec![Peer { id: peer, addresses: vec![format!("/ip4/10.77.{other}.1/udp/1312")] }],
        tun: Some("rovy0".into()),
        ..Config::default()
    };
    a.configure(&end(1, 2, b.peer_id()))?;
    b.configure(&end(2, 1, a.peer_id()))?;
    g.start()?;
    a.start()?;
    b.start()?;
    a.wait_neighbour(b.peer_id())?;
    let ping = Ping::start(&ns_a, b.address(), Duration::from_millis(5), 1000)?;
    wait::until("100 answers", DEADLINE, || Ok((ping.summary(0, ping.mark()).received >= 100).then_some(())))
        .map_err(|e| g.explain(a.explain(e)))?;

    let stats = g.stats()?;
    let dropped: u64 = stats.drops.kernel.values().chain(stats.drops.agent.values()).sum();
    assert_eq!(dropped, 0, "{stats:?}");
    assert_eq!((stats.transit.kernel_packets, stats.transit.agent_packets), (0, 0), "{stats:?}");
    assert_eq!(stats.up.values().sum::<u64>(), 0, "{stats:?}");
    assert_eq!((stats.sessions, g.peers()?.len()), (0, 0), "{stats:?}");
    Ok(())
}

#[test]
fn a_gateway_passes_the_traffic_of_others_in_native_mode() -> Result<()> {
    rovy_netns::root_only!();
    passes(Mode::Native)
}

#[test]
fn a_gateway_passes_the_traffic_of_others_in_generic_mode() -> Result<()> {
    rovy_netns::root_only!();
    passes(Mode::Generic)
}
