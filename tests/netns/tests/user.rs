//! An ordinary user, who may neither load BPF programs nor make a TUN device.

use anyhow::{Context as _, Result};
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Agent, Config, Mode, Namespace, wait};
use rovy_userspace::api::{Fc00Status, Listener};

/// An agent of the user nobody with a listener on this port, XDP in native mode wished for.
fn agent(ns: &Namespace, name: &str, port: u16) -> Result<Agent> {
    let mut agent = Agent::new(ns, name)?;
    agent.configure(&Config {
        listen: vec![format!("/ip4/127.0.0.1/udp/{port}"), format!("/ip6/::1/udp/{port}")],
        mode: Mode::Native,
        ..Config::default()
    })?;
    agent.become_nobody()?;
    agent.start_with(&["--no-fc00"])?;
    Ok(agent)
}

#[test]
fn an_ordinary_user_runs_the_userspace_switch() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let (mut x, y) = (agent(&ns, "x", 41_312)?, agent(&ns, "y", 41_313)?);
    let status = std::fs::read_to_string(format!("/proc/{}/status", x.pid().context("it does not run")?))?;
    assert!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");

    let info = x.info()?;
    assert!(info.xdp.starts_with("off: ") && info.xdp.to_lowercase().contains("permi"), "{}", info.xdp);
    let listeners: Vec<Listener> = x.json(&["listener", "list"])?;
    assert_eq!(listeners.len(), 2, "{listeners:?}\n{}", x.log_tail());
    assert!(listeners.iter().all(|l| l.xdp_mode == "off" && info.xdp.contains(&l.xdp_why)), "{listeners:?}");
    assert!(!x.json::<Fc00Status>(&["fc00", "status"])?.running);

    for address in ["/ip4/127.0.0.1/udp/41313", "/ip6/::1/udp/41313"] {
        let connected = x.cli(&["peer", "connect", &format!("{address}/rovy/{}", y.peer_id())])?;
        assert!(connected.status.success(), "{address}: {connected:?}\n{}", x.log_tail());
        x.wait_neighbour(y.peer_id())?;
        y.wait_neighbour(x.peer_id())?;
        assert!(x.cli(&["peer", "disconnect", &y.peer_id().to_string()])?.status.success());
    }

    // What needs more than the user has says so, with the status for it, and the agent carries on.
    for refused in [&["fc00", "start"][..], &["listener", "start", "/ip4/0.0.0.0/udp/80"]] {
        let output = x.cli(refused)?;
        assert_eq!(output.status.code(), Some(4), "{refused:?}: {output:?}");
    }

    assert!(x.cli(&["stop"])?.status.success());
    let ended = wait::until("x's agent to end", DEADLINE, || x.ended())?;
    assert!(ended.success(), "{ended}\n{}", x.log_tail());
    assert!(!x.dir().join("api.sock").exists());
    assert!(y.info()?.peers_connected <= 1);
    Ok(())
}
