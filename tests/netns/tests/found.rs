//! a - r - b without a route by hand: a finds b through r.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::net::row;
use rovy_netns::{Cables, Line, Link, Mode, Net, ping, wait};
use rovy_userspace::api::{Peer, PeerSource, PeerState};
use std::time::Duration;

/// A program at a sends to b's address, of which a knows nothing else.
fn found(link: Link, mode: Mode) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    line.r.start()?;
    line.a.start()?;
    line.b.start()?;
    line.a.wait_neighbour(line.r.peer_id())?;
    line.b.wait_neighbour(line.r.peer_id())?;
    wait::until("a ping from a to b's address", DEADLINE, || {
        Ok(ping::once(&line.ns_a, line.b.address(), Duration::from_millis(500))?.then_some(()))
    })
    .map_err(|e| line.b.explain(line.r.explain(line.a.explain(e))))?;
    wait::until("a good route from a to b", DEADLINE, || {
        let output = line.a.cli(&["route", "list", "--json"])?;
        let routes: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let to_b = line.b.peer_id().to_string();
        let routes = routes.as_array().context("no list of routes")?;
        let route = routes.iter().find(|r| r["peer_id"] == to_b.as_str() && r["in_use"] == true);
        Ok(route.filter(|r| r["state"] == "good" && r["rtt_ns"].is_u64()).map(|_| ()))
    })
    .map_err(|e| line.r.explain(line.a.explain(e)))?;
    let before = listed(&line)?;
    ensure!(before.source == PeerSource::Probed && !before.configured && before.last_seen.is_some(), "{before:?}");
    // The next agent knows it by the book alone.
    ensure!(line.a.terminate()?.success());
    line.a.start()?;
    let after = listed(&line)?;
    ensure!(after.source == PeerSource::Probed && after.last_seen >= before.last_seen, "{after:?}");
    Ok(())
}

/// b as a lists it.
fn listed(line: &Line) -> Result<Peer> {
    let b = line.b.peer_id();
    line.a.peers()?.into_iter().find(|p| p.peer_id == b).context("b is not listed")
}

/// a has traced b and then talks to a hop of the way: it asks nobody for it.
#[test]
fn a_trace_teaches_the_way_to_a_hop() -> Result<()> {
    rovy_netns::root_only!();
    let mut net = Net::new(Link::Udp4, Mode::Native, Cables::Plain, 5, &row(5))?;
    net.start()?;
    net.reach(0, 4)?;
    ensure!(net.path(0, 4)? == [1, 2, 3, 4]);
    let searches = || Ok::<_, anyhow::Error>(net.agents[0].stats()?.probes.own);
    let before = searches()?;
    for hop in [2, 3] {
        net.reach(0, hop)?;
        let id = net.agents[hop].peer_id();
        let peer = net.agents[0].peers()?.into_iter().find(|p| p.peer_id == id).context("it is not listed")?;
        ensure!(peer.source == PeerSource::Probed && peer.state == PeerState::Connected, "{peer:?}");
    }
    ensure!(searches()? == before, "{} searches more", searches()? - before);
    Ok(())
}

rovy_netns::line_cases! {
    found:
    eth_native: Eth Native;
    udp4_userspace: Udp4 Userspace;
    udp6_generic: Udp6 Generic;
}
