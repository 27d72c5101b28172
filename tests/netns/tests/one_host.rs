//! Two agents with keys of their own on one host.
//!
//! ```text
//!   namespace host                            namespace far
//!   x  rovyx  UDP 1312 \                      z  rovy0
//!   y  rovyy  UDP 1313 / to-far ======== to-host  UDP 1312
//!                    10.77.4.1             10.77.4.2
//! ```

use anyhow::{Context as _, Result};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::{Agent, Config, Mode, Namespace, device, ping, wait};
use std::time::Duration;

/// Waits until `to` answers a ping from `ns`.
fn answers(ns: &Namespace, to: &Agent, what: &str) -> Result<()> {
    wait::until(&format!("an answer from {what}"), DEADLINE, || {
        Ok(ping::once(ns, to.address(), Duration::from_millis(500))?.then_some(()))
    })
    .map_err(|e| to.explain(e))
}

#[test]
fn two_agents_share_a_host() -> Result<()> {
    rovy_netns::root_only!();
    let (host, far) = (Namespace::new("host")?, Namespace::new("far")?);
    device::veth(&host, "to-far", &far, "to-host", 1500)?;
    device::address(&host, "to-far", "10.77.4.1/24")?;
    device::address(&far, "to-host", "10.77.4.2/24")?;
    let (mut x, mut y, mut z) = (Agent::new(&host, "x")?, Agent::new(&host, "y")?, Agent::new(&far, "z")?);
    for (agent, port, tun) in [(&mut x, 1312, "rovyx"), (&mut y, 1313, "rovyy")] {
        agent.configure(&Config {
            listen: vec![format!("/ip4/0.0.0.0/udp/{port}")],
            mode: Mode::Native,
            tun: Some(tun.into()),
            ..Config::default()
        })?;
        agent.start()?;
    }
    let peer =
        |agent: &Agent, port| Peer { id: agent.peer_id(), addresses: vec![format!("/ip4/10.77.4.1/udp/{port}")] };
    z.configure(&Config {
        listen: vec!["/ip4/10.77.4.2/udp/1312".into()],
        mode: Mode::Userspace,
        peers: vec![peer(&x, 1312), peer(&y, 1313)],
        tun: Some("rovy0".into()),
        ..Config::default()
    })?;
    z.start()?;

    // Each answers through its own device, though both have a route to all of fc00::/8.
    for (agent, tun) in [(&x, "rovyx"), (&y, "rovyy")] {
        z.wait_neighbour(agent.peer_id())?;
        answers(&far, agent, tun)?;
        let status: rovy_userspace::api::Fc00Status = agent.json(&["fc00", "status"])?;
        assert_eq!((status.ifname.as_deref(), status.tx_packets > 0), (Some(tun), true), "{status:?}");
    }

    let connected = x.cli(&["peer", "connect", &format!("/ip4/127.0.0.1/udp/1313/rovy/{}", y.peer_id())])?;
    assert!(connected.status.success(), "rovy peer connect: {connected:?}");
    x.wait_neighbour(y.peer_id())?;
    y.wait_neighbour(x.peer_id())?;
    answers(&host, &x, "x on its own host")?;
    answers(&host, &y, "y on its own host")?;

    let rules = |agent: &Agent| -> Result<usize> {
        let all: serde_json::Value = serde_json::from_str(&host.ip("-6 -j rule")?)?;
        let address = agent.address().to_string();
        let all = all.as_array().context("no list of rules")?;
        Ok(all.iter().filter(|r| r.get("src").and_then(|v| v.as_str()) == Some(&address)).count())
    };
    assert_eq!((rules(&x)?, rules(&y)?), (1, 1));
    // The first one goes: what it had for unbound sockets is nobody's business but its own.
    assert!(x.terminate()?.success());
    assert_eq!((rules(&x)?, rules(&y)?), (0, 1));
    answers(&far, &y, "y without x")?;
    answers(&host, &z, "z, from the host that has y left")?;
    Ok(())
}
