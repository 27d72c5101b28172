//! `rovy listener`: what it refuses, what it says, and with which status.

use anyhow::{Context as _, Result};
use rovy_netns::{Agent, Config, Mode, Namespace, device};
use rovy_userspace::api::Listener;
use std::process::{Command, Output};

/// One namespace with an agent that listens nowhere and all sorts of interfaces.
fn host(mode: Mode) -> Result<(Agent, Namespace)> {
    let ns = Namespace::new("host")?;
    device::idle(&ns, "wan0", "wan1")?;
    device::idle(&ns, "port0", "port1")?;
    device::bridge(&ns, "br0", &["port0"])?;
    device::tun(&ns, "tun9")?;
    device::idle(&ns, "off0", "off1")?;
    ns.ip("link set off0 down")?;
    let mut agent = Agent::new(&ns, "host")?;
    agent.configure(&Config { mode, ..Config::default() })?;
    agent.start()?;
    Ok((agent, ns))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

#[test]
fn each_interface_that_cannot_be_used_has_an_error_of_its_own() -> Result<()> {
    rovy_netns::root_only!();
    let (agent, _ns) = host(Mode::Userspace)?;
    let mut seen = Vec::new();
    for (interface, word) in [("nope0", "nope0"), ("off0", "down"), ("tun9", "Ethernet"), ("port0", "br0")] {
        let output = agent.cli(&["listener", "start", &format!("/ethif/{interface}")])?;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{interface}: {text}");
        assert!(text.contains(word) && text.contains(interface), "{interface}: {text}");
        assert!(text.contains("wan0"), "the usable interfaces are not named: {text}");
        seen.push(text.replace(interface, ""));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:#?}");
    assert!(agent.json::<Vec<Listener>>(&["listener", "list"])?.is_empty());
    Ok(())
}

#[test]
fn a_listener_starts_once_stops_once_and_starts_again() -> Result<()> {
    rovy_netns::root_only!();
    let (agent, _ns) = host(Mode::Native)?;
    for address in ["/ethif/wan0", "/ip4/127.0.0.1/udp/13120", "/ip6/::1/udp/13120"] {
        for _ in 0..2 {
            let started = agent.cli(&["listener", "start", address])?;
            assert!(started.status.success(), "{address}: {}", said(&started));
            let again = agent.cli(&["listener", "start", address])?;
            assert_eq!(again.status.code(), Some(1), "{address} again: {}", said(&again));
            assert!(said(&again).contains("already"), "{}", said(&again));
            let list: Vec<Listener> = agent.json(&["listener", "list"])?;
            let there = list.iter().find(|l| l.address.to_string() == address).context("not in the list")?;
            assert!(!there.xdp_why.is_empty(), "{there:?}");
            let stopped = agent.cli(&["listener", "stop", address])?;
            assert!(stopped.status.success(), "{address}: {}", said(&stopped));
            let again = agent.cli(&["listener", "stop", address])?;
            assert_eq!(again.status.code(), Some(1), "{address} stopped again: {}", said(&again));
        }
    }
    Ok(())
}

#[test]
fn the_mode_a_listener_got_is_told() -> Result<()> {
    rovy_netns::root_only!();
    for (mode, word) in [(Mode::Native, "native"), (Mode::Generic, "generic"), (Mode::Userspace, "off")] {
        let (agent, ns) = host(mode)?;
        let listener: Listener = agent.json(&["listener", "start", "/ethif/wan0"])?;
        assert_eq!(listener.xdp_mode, word, "{listener:?}");
        assert_eq!(ns.ip("link show wan0")?.contains("xdp"), mode.kernel());
        assert!(agent.cli(&["listener", "stop", "/ethif/wan0"])?.status.success());
        assert!(!ns.ip("link show wan0")?.contains("xdp"), "the program stays behind in {mode} mode");
    }
    Ok(())
}

#[test]
fn usage_and_absent_agents_have_their_own_status() -> Result<()> {
    rovy_netns::root_only!();
    let (mut agent, _ns) = host(Mode::Userspace)?;
    for wrong in [&["listener", "start", "wan0"][..], &["listener", "start", "/tcp/80"], &["listener"]] {
        let output = agent.cli(wrong)?;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", said(&output));
    }
    agent.terminate()?;
    let output = agent.cli(&["listener", "list"])?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("rovy start"), "{}", said(&output));
    let nobody = Command::new(rovy_netns::agent::binary()?).args(["--socket", "/nonexistent", "info"]).output()?;
    assert_eq!(nobody.status.code(), Some(3), "{}", said(&nobody));
    Ok(())
}
