//! The play itself, as root: three hosts, traffic, a killed agent.

use super::report::{self, AgentKill, Report};
use super::table::{Base, Sources, Table};
use super::{Out, report::Tcp};
use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::line::TUN;
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, count, namespace, wait};
use rovy_userspace::api::{Listener, TransitStats};
use std::path::Path;
use std::time::{Duration, Instant};

/// 200 pings a second.
const INTERVAL: Duration = Duration::from_millis(5);
/// Pings alone.
const QUIET: Duration = Duration::from_secs(1);
/// The TCP stream at full speed.
const FULL: Duration = Duration::from_secs(4);
/// How long r has no agent.
const DEAD: Duration = Duration::from_millis(3500);
/// How long the new agent is watched.
const AFTER: Duration = Duration::from_secs(2);
/// Late answers.
const GRACE: Duration = Duration::from_secs(1);

pub(super) fn run(link: Link, mode: Mode, binary: &Path, out: Out) -> Result<()> {
    ctrlc::set_handler(wait::interrupt).context("cannot handle Ctrl-C")?;
    namespace::sweep();
    let report = play(link, mode, binary, out).context("the demo did not get to its end; it has cleaned up")?;
    out.line(&report.summary());
    out.line(&report::next(link, mode));
    if out.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    report.check(mode)
}

fn play(link: Link, mode: Mode, binary: &Path, out: Out) -> Result<Report> {
    out.line(&format!("Making three hosts  a ---- r ---- b  with {link} links, {mode} mode ..."));
    let mut line = Line::with_binary(binary, link, [mode; 3])?;
    line.start()?;
    introduce(&line, mode, out)?;

    let ready = line.r.stats()?.transit;
    let table = Table::new(out, Base { kernel: ready.kernel_packets, agent: ready.agent_packets });
    let ping = Ping::start(&line.ns_a, line.b.address(), INTERVAL, 56)?;
    let never = || Ok(false);
    let sources = Sources { line: &line, ping: &ping, stream: None, agent_before: 0 };
    table.show("ping", QUIET, &sources, never)?;
    let quiet = ping.summary(0, ping.settled_mark(Duration::from_millis(100)));

    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    let (mark, began) = (ping.mark(), Instant::now());
    table.show("ping + TCP stream", FULL, &Sources { stream: Some(&stream), ..sources }, never)?;
    let bytes_s = stream.bytes() as f64 / began.elapsed().as_secs_f64();
    let loaded = ping.summary(mark, ping.settled_mark(Duration::from_millis(100)));

    // Held to a part of what is possible from here: a ping that a full queue drops would be blamed on the kill.
    let limit = bytes_s / 4.0;
    stream.limit(Some(limit as u64));
    let sources = Sources { line: &line, ping: &ping, stream: Some(&stream), agent_before: 0 };
    table.show("held to a quarter", Duration::from_secs(1), &sources, never)?;

    let before = line.r.stats()?.transit;
    let (killed, kill_mark) = (Instant::now(), ping.mark());
    line.r.kill9()?;
    let at_kill = Arrived::at(&line)?;
    out.line("        r's agent is killed (SIGKILL)");
    let sources = Sources { line: &line, ping: &ping, stream: Some(&stream), agent_before: before.agent_packets };
    table.show("r has no agent", DEAD, &sources, never)?;
    let dead = Arrived::at(&line)?.since(at_kill);
    let dead_ms = killed.elapsed().as_millis() as u64;

    let started = Instant::now();
    line.r.start()?;
    out.line("        r's agent is started again");
    let sources = Sources { line: &line, ping: &ping, stream: Some(&stream), agent_before: before.agent_packets };
    let (a, b) = (line.a.peer_id(), line.b.peer_id());
    table.show("r's agent takes over", DEADLINE, &sources, || Ok(line.r.connected(a)? && line.r.connected(b)?))?;
    ensure!(line.r.connected(a)? && line.r.connected(b)?, line.r.explain(anyhow::anyhow!("r has no sessions again")));
    let take_over_ms = started.elapsed().as_millis() as u64;
    table.show("r has an agent again", AFTER, &sources, never)?;

    let end = ping.mark();
    let bytes = stream.finish()?;
    wait::until("the last answers", GRACE, || Ok((ping.summary(kill_mark, end).lost() == 0).then_some(()))).ok();
    wait::check()?;
    let over_kill = ping.summary(kill_mark, end);
    let after = line.r.stats()?.transit;
    let all = ping.finish(GRACE)?;
    Ok(Report {
        link: link.to_string(),
        mode: mode.to_string(),
        ping: report::Ping {
            sent: all.sent,
            received: all.received,
            rtt_us_median: quiet.rtt_us_median,
            rtt_us_median_loaded: loaded.rtt_us_median,
        },
        tcp: Tcp { bytes, gbit_s: bytes_s * 8e-9 },
        transit: transit(ready, before, after),
        agent_kill: AgentKill {
            pings: over_kill.sent,
            lost_pings: over_kill.lost(),
            transit_packets_while_dead: dead.packets,
            echo_requests_while_dead: dead.echo_requests,
            dead_ms,
            take_over_ms,
            longest_gap_ms: over_kill.longest_gap_ms,
            tcp_limit_gbit_s: limit * 8e-9,
        },
    })
}

/// Tells who is there, and that r switches the way it was asked to.
fn introduce(line: &Line, mode: Mode, out: Out) -> Result<()> {
    for (name, agent) in [("a", &line.a), ("r", &line.r), ("b", &line.b)] {
        out.line(&format!("  {name}  {}  {}", agent.address(), agent.peer_id()));
    }
    let listeners: Vec<Listener> = line.r.json(&["listener", "list"])?;
    for l in &listeners {
        out.line(&format!("  r listens on {}, XDP {}: {}", l.address, l.xdp_mode, l.xdp_why));
    }
    let other = listeners.iter().find(|l| l.xdp_mode != mode.xdp());
    ensure!(
        other.is_none(),
        "r does not switch in {mode} mode on {}: {}",
        other.map(|l| l.address.to_string()).unwrap_or_default(),
        other.map(|l| l.xdp_why.as_str()).unwrap_or_default()
    );
    out.line("  a and b each have a session with r, and one with each other over r. Pings get through.");
    Ok(())
}

/// What both of r's agents report, less what was there at the beginning. The kernel's counters go on when the new
/// agent adopts its tables, and start again when it makes new ones.
fn transit(ready: TransitStats, before: TransitStats, after: TransitStats) -> report::Transit {
    let kernel_before = if after.kernel_packets < before.kernel_packets { before.kernel_packets } else { 0 };
    report::Transit {
        kernel_packets: kernel_before + after.kernel_packets - ready.kernel_packets,
        agent_packets: before.agent_packets + after.agent_packets - ready.agent_packets,
    }
}

/// What b has received.
#[derive(Clone, Copy)]
struct Arrived {
    packets: u64,
    echo_requests: u64,
}

impl Arrived {
    fn at(line: &Line) -> Result<Self> {
        let packets = count::traffic(&line.ns_b, TUN)?.rx_packets;
        Ok(Self { packets, echo_requests: count::echo_requests(&line.ns_b)? })
    }

    fn since(self, earlier: Self) -> Self {
        Self { packets: self.packets - earlier.packets, echo_requests: self.echo_requests - earlier.echo_requests }
    }
}
