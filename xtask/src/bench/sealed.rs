//! What sealed links cost: a TCP stream from a over r to b, with r's transit in the kernel, in its agent, and sealed.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, namespace, wait};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a stream is measured.
const RUN: Duration = Duration::from_secs(3);

/// One way for r to pass transit on.
#[derive(Serialize)]
pub(crate) struct Way {
    /// `kernel`, `agent` or `sealed`.
    pub(crate) transit: &'static str,
    /// What arrives over TCP.
    pub(crate) mbit_s: u64,
    /// CPU time of r's agent for each packet that r passed on.
    pub(crate) agent_us_a_packet: f64,
}

/// Measures all three in turn, so often; medians.
///
/// # Errors
/// Without root, or when something does not come about.
pub(crate) fn measure(rounds: usize, progress: impl Fn(&str)) -> Result<Vec<Way>> {
    ensure!(crate::sh::is_root(), "network namespaces need root: run `cargo xtask bench sealed` as root");
    let binary = crate::demo::optimised()?;
    namespace::sweep();
    let ways = ["kernel", "agent", "sealed"];
    let mut seen = [const { Vec::new() }; 3];
    for round in 1..=rounds {
        for (way, seen) in ways.iter().zip(&mut seen) {
            progress(&format!("{way}, round {round} of {rounds}"));
            seen.push(once(&binary, way)?);
        }
    }
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().context("no round was run")
    };
    let way = |(transit, seen): (&&'static str, Vec<(f64, f64)>)| {
        let (rates, costs) = seen.into_iter().unzip();
        Ok(Way { transit, mbit_s: median(rates)? as u64, agent_us_a_packet: median(costs)? })
    };
    ways.iter().zip(seen).map(way).collect()
}

/// Mbit/s over TCP, and microseconds of r's agent a packet.
fn once(binary: &Path, way: &str) -> Result<(f64, f64)> {
    let mode = if way == "agent" { Mode::Userspace } else { Mode::Native };
    let mut line = Line::with_binary(binary, Link::Udp4, [Mode::Native, mode, Mode::Native])?;
    if way == "sealed" {
        for end in [&line.a, &line.b] {
            line.r.set_transit(end.peer_id(), "sealed")?;
        }
    }
    line.start()?;
    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    wait::until("a stream under way", Duration::from_secs(10), || Ok((stream.bytes() > 1_000_000).then_some(())))?;
    let passed = || line.r.stats().map(|s| s.transit.kernel_packets + s.transit.agent_packets);
    let (packets, bytes, cpu, began) = (passed()?, stream.bytes(), cpu_us(&line)?, Instant::now());
    wait::until("the measured time", RUN * 2, || Ok((began.elapsed() >= RUN).then_some(())))?;
    let mbit_s = (stream.bytes() - bytes) as f64 * 8e-6 / began.elapsed().as_secs_f64();
    let (packets, cpu) = (passed()?.saturating_sub(packets), cpu_us(&line)?.saturating_sub(cpu));
    stream.finish()?;
    ensure!(packets > 0, "{way}: r passed nothing on");
    Ok((mbit_s, cpu as f64 / packets as f64))
}

/// CPU time r's agent has used, in microseconds.
fn cpu_us(line: &Line) -> Result<u64> {
    let pid = line.r.pid().context("r has no process")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<u64, _>>().context("no CPU times in stat")?;
    // The unit of /proc is a hundredth of a second on every kernel that runs XDP.
    Ok(ticks * 10_000)
}
