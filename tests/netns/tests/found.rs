//! a - r - b without a route by hand: a finds b through r.

use anyhow::{Context as _, Result};
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Line, Link, Mode, ping, wait};
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
    Ok(())
}

rovy_netns::line_cases! {
    found:
    eth_native: Eth Native;
    udp4_userspace: Udp4 Userspace;
    udp6_generic: Udp6 Generic;
}
