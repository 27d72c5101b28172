//! A switch that lets neither multicast nor rovy's EtherType through.
//!
//! ```text
//!   a -- to-a [ bridge br0, namespace m ] to-b -- b      10.77.3.1 and .2
//!              ports: multicast not flooded, 0x88b5 dropped on arrival
//! ```

use anyhow::Result;
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::ping::Ping;
use rovy_netns::{Agent, Config, Mode, Namespace, device, wait};
use std::time::Duration;

/// Two hosts behind a bridge, each with the other configured over Ethernet and over UDP.
fn over_a_bridge(dropping: bool) -> Result<String> {
    let (ns_a, ns_m, ns_b) = (Namespace::new("a")?, Namespace::new("m")?, Namespace::new("b")?);
    device::veth(&ns_a, "to-m", &ns_m, "to-a", 1500)?;
    device::veth(&ns_b, "to-m", &ns_m, "to-b", 1500)?;
    device::idle(&ns_m, "sink", "drain")?;
    device::bridge(&ns_m, "br0", &["to-a", "to-b"])?;
    for port in ["to-a", "to-b"].into_iter().filter(|_| dropping) {
        device::bridge_port(&ns_m, port, "mcast_flood off")?;
        device::drop_ethertype(&ns_m, port, 0x88b5, "sink")?;
    }
    let mut agents = Vec::new();
    for (ns, name, host) in [(&ns_a, "a", 1), (&ns_b, "b", 2)] {
        device::address(ns, "to-m", &format!("10.77.3.{host}/24"))?;
        agents.push(Agent::new(ns, name)?);
    }
    for (i, other) in [(0, 2), (1, 1)] {
        let peer = agents[1 - i].peer_id();
        agents[i].configure(&Config {
            listen: vec!["/ethif/to-m".into(), format!("/ip4/10.77.3.{}/udp/1312", i + 1)],
            mode: Mode::Generic,
            peers: vec![Peer {
                id: peer,
                addresses: vec!["/ethif/to-m".into(), format!("/ip4/10.77.3.{other}/udp/1312")],
            }],
            tun: Some("rovy0".into()),
            ..Config::default()
        })?;
    }
    for agent in &mut agents {
        agent.start()?;
    }
    agents[0].wait_neighbour(agents[1].peer_id())?;
    agents[1].wait_neighbour(agents[0].peer_id())?;
    let ping = Ping::start(&ns_a, agents[1].address(), Duration::from_millis(5), 1000)?;
    wait::until("50 answers", DEADLINE, || Ok((ping.summary(0, ping.mark()).received >= 50).then_some(())))
        .map_err(|e| agents[0].explain(agents[1].explain(e)))?;
    let peers = agents[0].peers()?;
    Ok(peers.iter().find(|p| p.peer_id == agents[1].peer_id()).and_then(|p| p.kind.clone()).unwrap_or_default())
}

#[test]
fn behind_a_bridge_that_drops_multicast_and_the_ethertype_udp_carries_on() -> Result<()> {
    rovy_netns::root_only!();
    assert_eq!(over_a_bridge(true)?, "udp4");
    Ok(())
}

/// The counter-check: without the drops there are answers too, so it is the drops the other test is about.
#[test]
fn behind_a_plain_bridge_there_is_a_link_too() -> Result<()> {
    rovy_netns::root_only!();
    assert!(["eth", "udp4"].contains(&over_a_bridge(false)?.as_str()));
    Ok(())
}
