//! A neighbour whose transit has a rate.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, ping, wait};
use rovy_userspace::api::{Peer, Stats};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// What r lets a send through it.
const BITS_S: f64 = 4e6;
/// What a full bucket holds of that: 64 KiB take longer than a tenth of a second.
const BURST_BYTES: u64 = 65_536;
/// Data that is measured.
const BYTES: u64 = 1_500_000;

/// What `rovy peer list --json` of r says about a.
fn seen(line: &Line) -> Result<Peer> {
    let peers = line.r.peers()?;
    peers.into_iter().find(|p| p.peer_id == line.a.peer_id()).context("r does not know a")
}

/// What r refused because of a rate: in the kernel, and in the agent.
fn refused(stats: &Stats) -> [u64; 2] {
    [&stats.drops.kernel, &stats.drops.agent].map(|d| d.get("rate_limited").copied().unwrap_or(0))
}

/// Waits until so many more bytes have come through; how many came, and how long it took.
fn pass(line: &Line, stream: &Stream, bytes: u64) -> Result<(u64, Duration)> {
    let (start, began) = (stream.bytes(), Instant::now());
    wait::until("the stream to go on", 4 * DEADLINE, || Ok((stream.bytes() >= start + bytes).then_some(())))
        .map_err(|e| line.r.explain(e))?;
    Ok((stream.bytes() - start, began.elapsed()))
}

fn limit(line: &Line, rate: &str) -> Result<Peer> {
    line.r.json(&["peer", "limit", &line.a.peer_id().to_string(), rate])
}

/// a streams to b through r, which sends on only so much; then all of it.
fn held(link: Link, mode: Mode, sealed: bool) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    let id = format!("id = \"{}\"", line.a.peer_id());
    line.r.edit(&id, &format!("{id}\nrate_limit = \"4mbit\""))?;
    if sealed {
        line.r.set_transit(line.a.peer_id(), "sealed")?;
    }
    line.start()?;
    let by_kernel = mode.kernel() && !sealed;
    // A veth transmits redirected frames once its peer has XDP, which the agent finds out within a second.
    line.r.wait_stats("r to send as it will", DEADLINE, |s| !by_kernel || s.links.iter().all(|l| l.redirect))?;
    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    line.r.wait_stats("r to refuse something", DEADLINE, |s| refused(s).iter().sum::<u64>() > 0)?;
    let (bytes, took) = pass(&line, &stream, BYTES)?;
    // Payload is less than what pays; so this holds all the more.
    let least = Duration::from_secs_f64(bytes.saturating_sub(BURST_BYTES) as f64 * 8.0 / BITS_S);
    ensure!(took >= least, "{bytes} bytes came through in {took:?}: it takes {least:?} at that rate");
    let stats = line.r.stats()?;
    let [kernel, agent] = refused(&stats);
    // The first ones go up to the agent, which tells a.
    ensure!((kernel > 0) == by_kernel, "{stats:?}");
    let peer = seen(&line)?;
    ensure!(peer.rate_limit == "4mbit".parse().ok(), "{peer:?}");
    ensure!(peer.refused_packets >= kernel + agent, "{peer:?} {stats:?}");

    let peer = limit(&line, "none")?;
    ensure!(peer.rate_limit.is_none(), "{peer:?}");
    let (bytes, took) = pass(&line, &stream, 4 * BYTES)?;
    ensure!(took.as_secs_f64() < bytes as f64 * 8.0 / BITS_S, "{bytes} bytes took {took:?} without a limit");

    limit(&line, "4mbit")?;
    let (bytes, took) = pass(&line, &stream, BYTES)?;
    // What was on its way and in the sockets' buffers when the limit came to be is not paid for.
    let least = Duration::from_secs_f64(bytes.saturating_sub(BURST_BYTES + BYTES / 2) as f64 * 8.0 / BITS_S);
    ensure!(took >= least, "limited again: {bytes} bytes came through in {took:?}");
    stream.finish()?;
    Ok(())
}

#[test]
fn a_neighbour_is_held_to_its_rate_by_the_kernel() -> Result<()> {
    rovy_netns::root_only!();
    held(Link::Udp4, Mode::Native, false)
}

#[test]
fn a_neighbour_is_held_to_its_rate_by_the_agent() -> Result<()> {
    rovy_netns::root_only!();
    held(Link::Eth, Mode::Userspace, false)
}

#[test]
fn a_neighbour_is_held_to_its_rate_over_a_sealed_link() -> Result<()> {
    rovy_netns::root_only!();
    held(Link::Udp4, Mode::Native, true)
}

/// The links of a former agent, which the kernel switches by for minutes, are held to what the next one is configured to.
#[test]
fn links_of_a_former_agent_obey_the_new_configuration() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    line.start()?;
    line.sends_in_kernel()?;
    line.r.leave()?;
    let id = format!("id = \"{}\"", line.a.peer_id());
    // With a key that a does not have, no new session takes the place of the old links.
    let psk = line.r.dir().join("other.psk");
    std::fs::write(&psk, "5a".repeat(32))?;
    std::fs::set_permissions(&psk, std::fs::Permissions::from_mode(0o600))?;
    line.r.edit(&id, &format!("{id}\ntransit = \"deny\"\npsk_file = \"other.psk\""))?;
    ensure!(ping::once(&line.ns_a, line.b.address(), DEADLINE)?, "the kernel goes on alone");
    line.r.start()?;
    let denied = |s: &Stats| [&s.drops.kernel, &s.drops.agent].iter().filter_map(|d| d.get("not_allowed")).sum::<u64>();
    let pings = ping::Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(20), 56)?;
    line.r.wait_stats("r's kernel to refuse", DEADLINE, |s| denied(s) >= 2)?;
    let mark = pings.mark();
    line.r.wait_stats("r's kernel to refuse all", DEADLINE, |s| denied(s) >= 20)?;
    let summary = pings.summary(mark, pings.mark());
    ensure!(summary.received == 0, "{summary:?}");
    Ok(())
}
