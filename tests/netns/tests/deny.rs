//! Nodes that let nobody, or one peer not, route through them.

use anyhow::{Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::line::route;
use rovy_netns::{Agent, Line, Link, Mode, ping, wait};
use rovy_userspace::api::Stats;
use std::collections::BTreeMap;
use std::time::Duration;

/// Changes the configuration an agent will read.
fn edit(agent: &Agent, from: &str, to: &str) -> Result<()> {
    let path = agent.dir().join("config.toml");
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains(from), "no {from} in {text}");
    Ok(std::fs::write(&path, text.replace(from, to))?)
}

fn answers(line: &Line, agent: &Agent, within: Duration) -> Result<()> {
    wait::until("an answer", within, || {
        Ok(ping::once(&line.ns_a, agent.address(), Duration::from_millis(500))?.then_some(()))
    })
    .map_err(|e| agent.explain(e))
}

/// a and b have each other by r, which is told to deny by `change`. r drops, says so, and is reached itself.
fn denied(link: Link, change: impl Fn(&Line) -> Result<()>) -> Result<()> {
    let mut line = Line::new(link, Mode::Native)?;
    edit(&line.r, "enabled = false", "enabled = true")?;
    change(&line)?;
    line.r.start()?;
    line.a.start()?;
    line.b.start()?;
    let (a_to_r, b_to_r) = (line.a.wait_neighbour(line.r.peer_id())?, line.b.wait_neighbour(line.r.peer_id())?);
    let (r_to_a, r_to_b) = (line.r.wait_neighbour(line.a.peer_id())?, line.r.wait_neighbour(line.b.peer_id())?);
    answers(&line, &line.r, DEADLINE)?;
    let before = line.r.stats()?;
    // The first ones go up to r's agent, which tells a.
    let of = |counts: &BTreeMap<String, u64>| counts.get("not_allowed").copied().unwrap_or(0);
    let denied = |s: &Stats| of(&s.drops.kernel) + of(&s.drops.agent);
    ensure!(denied(&before) == 0, "{before:?}");

    route(&line.a, line.b.peer_id(), &format!("/rovyrt/{a_to_r}.{r_to_b}"))?;
    route(&line.b, line.a.peer_id(), &format!("/rovyrt/{b_to_r}.{r_to_a}"))?;
    let ping = ping::Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(20), 56)?;
    line.r.wait_stats("r to drop what is not allowed", DEADLINE, |s| denied(s) >= 2)?;
    line.a.wait_stats("a to be told", DEADLINE, |s| of(&s.errors.received) > of(&s.errors.disbelieved))?;
    answers(&line, &line.r, DEADLINE)?;
    let pings = ping.finish(Duration::ZERO)?;
    ensure!(pings.received == 0, "b answered: {pings:?}");
    Ok(())
}

#[test]
fn a_node_that_denies_transit_drops_it_and_is_reached_itself() -> Result<()> {
    rovy_netns::root_only!();
    denied(Link::Eth, |line| edit(&line.r, "[listen]", "[node]\ntransit = \"deny\"\n\n[listen]"))
}

#[test]
fn a_peer_that_is_denied_transit_reaches_the_node_only() -> Result<()> {
    rovy_netns::root_only!();
    denied(Link::Udp6, |line| {
        let id = format!("id = \"{}\"", line.a.peer_id());
        edit(&line.r, &id, &format!("{id}\ntransit = \"deny\""))
    })
}

/// What comes through others for such a node itself is no transit.
#[test]
fn a_node_that_denies_transit_is_an_end_of_routes() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    edit(&line.b, "[listen]", "[node]\ntransit = \"deny\"\n\n[listen]")?;
    line.start()?;
    answers(&line, &line.b, Duration::from_secs(5))
}
