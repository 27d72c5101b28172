//! Pre-shared keys between real agents: only who has the right one gets a session, and the others are told.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::{Agent, Config, Mode, Namespace, wait};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const RIGHT: &str = "5a17000000000000000000000000000000000000000000000000000000c0ffee";
const WRONG: &str = "5a17000000000000000000000000000000000000000000000000000000c0ffef";

/// Where a key stands in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Network,
    Peer,
}

struct Pair {
    _ns: Namespace,
    ends: [Agent; 2],
}

fn address(n: usize) -> String {
    format!("/ip4/127.0.0.1/udp/{}", 13_300 + n)
}

/// Two agents that know each other, each with the key of `keys`; those of `dials` connect.
fn pair(scope: Scope, keys: [Option<&str>; 2], dials: [bool; 2]) -> Result<Pair> {
    let ns = Namespace::new("host")?;
    let ends = [Agent::new(&ns, "x")?, Agent::new(&ns, "y")?];
    for n in 0..2 {
        if let Some(key) = keys[n] {
            let file = ends[n].dir().join("psk");
            fs::write(&file, format!("{key}\n"))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        let file = keys[n].map(|_| "psk".to_owned());
        let addresses = if dials[n] { vec![address(1 - n)] } else { Vec::new() };
        ends[n].configure(&Config {
            mode: Mode::Userspace,
            listen: vec![address(n)],
            peers: vec![Peer { id: ends[1 - n].peer_id(), addresses }],
            psk_file: file.clone().filter(|_| scope == Scope::Network),
            peer_psk_file: file.filter(|_| scope == Scope::Peer),
            ..Config::default()
        })?;
    }
    let mut pair = Pair { _ns: ns, ends };
    for end in &mut pair.ends {
        end.start()?;
    }
    Ok(pair)
}

#[test]
fn both_ends_with_the_key_connect_for_the_network_and_for_one_peer() -> Result<()> {
    rovy_netns::root_only!();
    for scope in [Scope::Network, Scope::Peer] {
        let pair = pair(scope, [Some(RIGHT); 2], [true, false])?;
        let [x, y] = &pair.ends;
        x.wait_neighbour(y.peer_id()).context(format!("{scope:?}"))?;
        y.wait_neighbour(x.peer_id())?;
        ensure!(x.peers()?.iter().all(|p| p.why.is_none()));
    }
    Ok(())
}

#[test]
fn another_key_or_none_connects_in_neither_direction_and_is_told() -> Result<()> {
    rovy_netns::root_only!();
    for (scope, keys) in [
        (Scope::Network, [Some(RIGHT), Some(WRONG)]),
        (Scope::Network, [Some(RIGHT), None]),
        (Scope::Peer, [Some(WRONG), Some(RIGHT)]),
        (Scope::Peer, [None, Some(RIGHT)]),
    ] {
        for dialer in [0, 1] {
            let what = format!("{scope:?}, keys {:?}, end {dialer} connects", keys.map(|k| k.map(|k| &k[60..])));
            let pair = pair(scope, keys, [dialer == 0, dialer == 1])?;
            let (from, to) = (&pair.ends[dialer], &pair.ends[1 - dialer]);
            let told = wait::until("a refusal", DEADLINE, || {
                let peers = from.peers()?;
                Ok(peers.into_iter().find(|p| p.peer_id == to.peer_id()).and_then(|p| p.why))
            });
            let told = told.map_err(|e| from.explain(e)).context(what.clone())?;
            ensure!(told.contains("pre-shared key"), "{what}: {told}");
            ensure!(from.stats()?.drops.agent["bad_handshake"] > 0, "{what}: not counted");
            let list = String::from_utf8(from.cli(&["peer", "list"])?.stdout)?;
            ensure!(list.contains("connecting: ") && list.contains("pre-shared key"), "{what}: {list}");
            ensure!(
                fs::read_to_string(from.log())?.contains("is the pre-shared key the same"),
                "{what}: not in the log"
            );
            ensure!(!from.connected(to.peer_id())? && !to.connected(from.peer_id())?, "{what}: a session");
            // Waits five seconds: once is enough.
            if (scope, dialer, keys[1]) != (Scope::Network, 0, None) {
                continue;
            }
            let again = from.cli(&["peer", "connect", &format!("{}/rovy/{}", address(1 - dialer), to.peer_id())])?;
            ensure!(again.status.code() == Some(1), "{what}: {again:?}");
            ensure!(String::from_utf8_lossy(&again.stderr).contains("pre-shared key"), "{what}: {again:?}");
        }
    }
    Ok(())
}

#[test]
fn a_file_that_is_no_key_keeps_the_agent_from_starting() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let mut agent = Agent::new(&ns, "x")?;
    agent.configure(&Config {
        mode: Mode::Userspace,
        listen: vec![address(0)],
        psk_file: Some("psk".into()),
        ..Config::default()
    })?;
    let file = agent.dir().join("psk");
    for (text, mode, says) in [
        (None, 0o600, "cannot read the pre-shared key"),
        (Some("hunter2hunter2"), 0o600, "64 hex digits"),
        (Some(&RIGHT[1..]), 0o600, "64 hex digits"),
        (Some(RIGHT), 0o622, "lets others replace"),
    ] {
        if let Some(text) = text {
            fs::write(&file, text)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        }
        let Err(error) = agent.start() else { anyhow::bail!("it started with {text:?}") };
        let said = format!("{error:#}");
        ensure!(said.contains(says) && said.contains(&file.display().to_string()), "{text:?}: {said}");
        ensure!(text.is_none_or(|t| !said.contains(t)), "the text is shown: {said}");
    }
    fs::write(&file, RIGHT)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    agent.start()?;
    ensure!(fs::read_to_string(agent.log())?.contains("lets others read the pre-shared key"), "no warning");
    Ok(())
}
