//! What r's kernel does while r has no agent.

use anyhow::{Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::{self, Ping};
use rovy_netns::{Line, Link, Mode, count, wait};
use std::path::PathBuf;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(5);

/// What r's agent has pinned.
fn pins(line: &Line) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/bpf/rovy").join(line.r.address().to_string())];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            if is_dir { dirs.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files
}

/// No ping is lost while r's agent is dead, nor while the next one takes over.
fn survives(link: Link, mode: Mode) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    line.start()?;
    line.sends_in_kernel()?;
    let ready = line.r.stats()?.transit;
    let ping = Ping::start(&line.ns_a, line.b.address(), INTERVAL, 56)?;
    wait::until("pings", DEADLINE, || Ok((ping.mark() >= 20).then_some(())))?;
    let before = line.r.stats()?.transit;
    ensure!(before.agent_packets == ready.agent_packets, "r's agent switched packets: {before:?}");

    line.r.kill9()?;
    let (dead, echoes) = (ping.mark(), count::echo_requests(&line.ns_b)?);
    wait::until("200 echo requests at b without an agent at r", DEADLINE, || {
        Ok((count::echo_requests(&line.ns_b)? >= echoes + 200).then_some(()))
    })?;

    line.r.start()?;
    line.r.wait_neighbour(line.a.peer_id())?;
    line.r.wait_neighbour(line.b.peer_id())?;
    let taken_over = ping.mark();
    wait::until("200 more pings", DEADLINE, || Ok((ping.mark() >= taken_over + 200).then_some(())))?;
    let all = ping.mark();
    wait::until("the last answers", Duration::from_secs(2), || Ok((ping.summary(dead, all).lost() == 0).then_some(())))
        .map_err(|e| line.r.explain(e.context(format!("{:?}", ping.summary(dead, all)))))?;
    let after = line.r.stats()?;
    ensure!(after.transit.agent_packets == 0, "the new agent switched packets: {after:?}");
    Ok(())
}

#[test]
fn transit_survives_the_agent_over_ethernet() -> Result<()> {
    rovy_netns::root_only!();
    survives(Link::Eth, Mode::Native)
}

#[test]
fn transit_survives_the_agent_over_udp4() -> Result<()> {
    rovy_netns::root_only!();
    survives(Link::Udp4, Mode::Native)
}

#[test]
fn transit_survives_the_agent_over_udp6_in_generic_mode() -> Result<()> {
    rovy_netns::root_only!();
    survives(Link::Udp6, Mode::Generic)
}

#[test]
fn a_stopped_agent_takes_its_programs_along() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Eth, Mode::Native)?;
    line.start()?;
    ensure!(!pins(&line).is_empty(), "nothing is pinned");
    let stopped = line.r.cli(&["stop"])?;
    ensure!(stopped.status.success(), "rovy stop: {stopped:?}");
    wait::until("r's agent to end", DEADLINE, || line.r.ended())?;
    wait::until("the pins to go", DEADLINE, || Ok(pins(&line).is_empty().then_some(())))?;
    ensure!(!ping::once(&line.ns_a, line.b.address(), Duration::from_millis(500))?, "transit goes on");
    ensure!(!line.ns_r.ip("link show to-a")?.contains("xdp"), "an XDP program is left on to-a");
    Ok(())
}

#[test]
fn a_stopped_agent_leaves_transit_when_asked_to() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Eth, Mode::Native)?;
    line.start()?;
    line.sends_in_kernel()?;
    let stopped = line.r.cli(&["stop", "--keep-transit"])?;
    ensure!(stopped.status.success(), "rovy stop --keep-transit: {stopped:?}");
    wait::until("r's agent to end", DEADLINE, || line.r.ended())?;
    ensure!(ping::once(&line.ns_a, line.b.address(), Duration::from_secs(1))?, "transit has stopped");
    Ok(())
}
