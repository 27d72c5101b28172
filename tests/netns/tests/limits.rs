//! At a bound the newest is dropped, counted and shown.

use anyhow::{Result, ensure};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::{Agent, Config, Mode, Namespace, wait};
use std::io::Write as _;

#[test]
fn a_peer_too_many_is_refused_and_rovy_stats_shows_why() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let listen = |n: u8| format!("/ip4/127.0.0.1/udp/{}", 13_200 + u16::from(n));
    let mut hub = Agent::new(&ns, "hub")?;
    hub.configure(&Config { mode: Mode::Userspace, listen: vec![listen(0)], ..Config::default() })?;
    let config = hub.dir().join("config.toml");
    writeln!(std::fs::File::options().append(true).open(config)?, "\n[limits]\npeers = 2")?;
    hub.start()?;
    let mut peers = Vec::new();
    for n in 1..=3 {
        let mut peer = Agent::new(&ns, &format!("peer{n}"))?;
        let hubs = vec![Peer { id: hub.peer_id(), addresses: vec![listen(0)] }];
        peer.configure(&Config { mode: Mode::Userspace, listen: vec![listen(n)], peers: hubs, ..Config::default() })?;
        peer.start()?;
        if n <= 2 {
            hub.wait_neighbour(peer.peer_id())?;
        }
        peers.push(peer);
    }
    let stats = hub.wait_stats("the third to be refused", DEADLINE, |s| s.drops.agent["limit"] > 0)?;
    let used = &stats.limits["peers"];
    ensure!((used.used, used.max) == (2, 2), "{used:?}");
    wait::until("the first two to stay", DEADLINE, || {
        let stay = hub.connected(peers[0].peer_id())? && hub.connected(peers[1].peer_id())?;
        Ok((stay && !hub.connected(peers[2].peer_id())?).then_some(()))
    })?;
    let text = String::from_utf8(hub.cli(&["stats"])?.stdout)?;
    let line = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap_or_default().to_owned();
    ensure!(line("peers").split_whitespace().eq(["peers", "2", "2"]), "{text}");
    ensure!(line("limit ").split_whitespace().count() == 3, "the count of drops is not shown: {text}");
    Ok(())
}
