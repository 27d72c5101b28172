//! Six hosts in a row, of whom each knows its neighbours only.
//!
//! ```text
//!   h0 ---- h1 ---- h2 ---- h3 ---- h4 ---- h5
//! ```

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::net::row;
use rovy_netns::{Cables, Link, Mode, Net, skip, wait};
use rovy_userspace::api::{PeerSource, RouteSource};
use serde_json::Value;
use std::process::Command;

/// TCP from the first host to the last with iperf3; the bytes that arrived, and how many a second.
fn iperf3(net: &Net, from: usize, to: usize) -> Result<(u64, f64)> {
    let at = net.agents[to].address();
    let mut server = net.hosts[to].spawn(&format!("iperf3 --server --one-off --bind {at}"))?;
    let client = || {
        // Until the server listens the client says that it cannot connect.
        let json = net.hosts[from].exec(&format!("iperf3 --client {at} --time 1 --json"))?;
        let said: Value = serde_json::from_str(&json)?;
        let sum = &said["end"]["sum_received"];
        let bytes = sum["bytes"].as_u64().with_context(|| format!("no sum in {json}"))?;
        Ok(Some((bytes, sum["bits_per_second"].as_f64().unwrap_or(0.0))))
    };
    let result = wait::until("iperf3", DEADLINE, client).map_err(|e| net.explain(from, to, e));
    if result.is_err() {
        let _ = server.kill();
    }
    server.wait()?;
    result
}

#[test]
fn the_ends_of_a_row_of_six_reach_each_other() -> Result<()> {
    rovy_netns::root_only!();
    if Command::new("iperf3").arg("--version").output().is_err() {
        skip::skip("the_ends_of_a_row_of_six_reach_each_other", "iperf3 is missing: `cargo xtask setup` installs it");
        return Ok(());
    }
    let mut net = Net::new(Link::Udp4, Mode::Native, Cables::Plain, 6, &row(6))?;
    net.start()?;
    net.reach(0, 5)?;

    let trace = net.trace(0, 5)?;
    let shown: Vec<_> = trace.hops.iter().map(|h| (h.peer_id, h.address)).collect();
    let expected: Vec<_> = net.agents[1..].iter().map(|a| (Some(a.peer_id()), Some(a.address()))).collect();
    ensure!(shown == expected && trace.reached, "{trace:?}");
    ensure!(trace.hops.iter().all(|h| h.rtt_us > Some(0) && h.back_slot.is_some() && !h.slot.is_empty()), "{trace:?}");

    let routes = net.wait_good(0, 5, 1)?;
    ensure!(routes.iter().all(|r| r.source == RouteSource::Learned), "nobody typed a route: {routes:?}");
    let known = net.agents[0].peers()?;
    let end = known.iter().find(|p| p.peer_id == net.agents[5].peer_id()).context("it is not listed")?;
    ensure!(end.source == PeerSource::Probed && !end.direct && end.last_seen.is_some(), "{end:?}");

    let before = transit(&net)?;
    let (bytes, rate) = iperf3(&net, 0, 5)?;
    println!("iperf3 over five links: {bytes} bytes, {:.1} Mbit/s", rate / 1e6);
    ensure!(bytes > 100_000, "{bytes} bytes arrived");
    for (host, (before, after)) in (1..5).zip(before.into_iter().zip(transit(&net)?)) {
        ensure!(after.0 - before.0 >= bytes / 1500, "{host}: {before:?}, {after:?}");
        ensure!(after.1 == before.1, "the agent of {host} switched packets: {before:?}, {after:?}");
    }
    Ok(())
}

/// Packets that kernel and agent of each host between the ends have switched.
fn transit(net: &Net) -> Result<Vec<(u64, u64)>> {
    let of = |a: &rovy_netns::Agent| a.stats().map(|s| (s.transit.kernel_packets, s.transit.agent_packets));
    net.agents[1..5].iter().map(of).collect()
}

#[test]
fn what_a_user_is_told_by_ping_and_trace() -> Result<()> {
    rovy_netns::root_only!();
    let mut net = Net::new(Link::Udp6, Mode::Generic, Cables::Plain, 3, &row(3))?;
    // Somebody who is named, and nowhere.
    let nowhere = rovy_netns::Agent::new(&net.hosts[0], "y")?.peer_id();
    net.agents[0].edit("\n[[peer]]", &format!("\n[[peer]]\nid = \"{nowhere}\"\naddresses = []\n\n[[peer]]"))?;
    net.start()?;
    net.reach(0, 2)?;
    let (me, hop, end) = (net.agents[0].peer_id(), net.agents[1].peer_id(), net.agents[2].peer_id());
    let says = |arguments: &[&str], code: i32| -> Result<(String, String)> {
        let output = net.agents[0].cli(arguments)?;
        let texts = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.code() == Some(code), "{arguments:?}: {:?}, {texts:?}", output.status);
        Ok(texts)
    };
    let (out, _) = says(&["trace", &end.to_string()], 0)?;
    let lines: Vec<_> = out.lines().collect();
    ensure!(["HOP", "ROUTE", "PEER", "ADDRESS", "SLOT BACK", "RTT"].iter().all(|c| lines[0].contains(c)), "{out}");
    for (line, agent) in lines[1..3].iter().zip(&net.agents[1..]) {
        let told = [agent.peer_id().to_string(), agent.address().to_string(), "/rovyrt/".into(), " ms".into()];
        ensure!(told.iter().all(|t| line.contains(t)), "{out}");
    }
    let (out, _) = says(&["ping", &hop.to_string(), "-c", "1"], 0)?;
    ensure!(out.contains("1 sent, 1 received, 0% lost") && out.contains("\nnext: rovy trace"), "{out}");

    let stranger = rovy_netns::Agent::new(&net.hosts[0], "x")?.peer_id();
    for command in ["ping", "trace"] {
        let (_, said) = says(&[command, &me.to_string()], 2)?;
        ensure!(said.contains("that is this node itself") && said.contains("next: "), "{said}");
        let (_, said) = says(&[command, &stranger.to_string()], 1)?;
        ensure!(said.contains("no peer") && said.contains("next: rovy peer list"), "{said}");
        let (_, said) = says(&[command, &nowhere.to_string()], 1)?;
        ensure!(said.contains("no route to") && said.contains("next: rovy route list"), "{said}");
        let (_, said) = says(&[command, "nobody"], 1)?;
        ensure!(said.contains("no peer has the name nobody") && said.contains("next: rovy name list"), "{said}");
    }
    Ok(())
}
