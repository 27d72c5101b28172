//! What the firewall costs: a TCP stream between two hosts with the agent's own, with none, and with one of nftables that has the
//! kernel track connections.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, Namespace, count, line, namespace, process, wait};
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a stream is measured.
const RUN: Duration = Duration::from_secs(3);

/// What the kernel would be told instead.
const NFTABLES: &str = "table ip6 rovy {
  chain input {
    type filter hook input priority 0; policy accept;
    iifname \"rovy0\" ct state established,related accept
    iifname \"rovy0\" tcp dport 5201 accept
    iifname \"rovy0\" icmpv6 type echo-request accept
    iifname \"rovy0\" drop
  }
}
";

/// One kind of firewall.
#[derive(Serialize)]
pub(crate) struct Kind {
    /// `off`, `agent` or `nftables`.
    pub(crate) firewall: &'static str,
    /// What arrives over TCP.
    pub(crate) mbit_s: f64,
    /// CPU time of the receiving agent for each packet to or from its host.
    pub(crate) agent_us_a_packet: f64,
    /// Mbit/s, of those with the firewall off in the same round.
    pub(crate) of_off: f64,
}

/// Measures all three in turn, so often; medians.
///
/// # Errors
/// Without root, or when something does not come about.
pub(crate) fn measure(rounds: usize, progress: impl Fn(&str)) -> Result<Vec<Kind>> {
    ensure!(crate::sh::is_root(), "network namespaces need root: run `cargo xtask bench firewall` as root");
    let binary = crate::demo::optimised()?;
    namespace::sweep();
    let kinds = ["off", "agent", "nftables"];
    let mut seen = [const { Vec::new() }; 3];
    for round in 1..=rounds {
        let mut off = None;
        for (kind, seen) in kinds.iter().zip(&mut seen) {
            progress(&format!("{kind}, round {round} of {rounds}"));
            let (rate, cost) = once(&binary, kind)?;
            seen.push((rate, cost, rate / *off.get_or_insert(rate)));
        }
    }
    let median = |all: &[(f64, f64, f64)], of: fn(&(f64, f64, f64)) -> f64| {
        let mut all: Vec<f64> = all.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().context("no round was run")
    };
    let kind = |(firewall, seen): (&&'static str, &Vec<_>)| {
        Ok(Kind {
            firewall,
            mbit_s: median(seen, |s| s.0)?,
            agent_us_a_packet: median(seen, |s| s.1)?,
            of_off: median(seen, |s| s.2)?,
        })
    };
    kinds.iter().zip(&seen).map(kind).collect()
}

/// Mbit/s over TCP, and microseconds of b's agent a packet.
fn once(binary: &Path, kind: &str) -> Result<(f64, f64)> {
    let line = &mut Line::with_binary(binary, Link::Udp4, [Mode::Native; 3])?;
    for (agent, ns) in [(&line.a, &line.ns_a), (&line.b, &line.ns_b)] {
        if kind != "agent" {
            agent.edit("[fc00]", "[fc00]\nfirewall = \"off\"")?;
        }
        if kind == "nftables" {
            nft(ns)?;
        }
    }
    line.start()?;
    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    wait::until("a stream under way", Duration::from_secs(10), || Ok((stream.bytes() > 1_000_000).then_some(())))?;
    let packets = || count::traffic(&line.ns_b, line::TUN).map(|t| t.rx_packets + t.tx_packets);
    let cpu = || process::cpu_time(line.b.pid().context("b has no process")?);
    let (before, bytes, spent, began) = (packets()?, stream.bytes(), cpu()?, Instant::now());
    wait::until("the measured time", RUN * 2, || Ok((began.elapsed() >= RUN).then_some(())))?;
    let mbit_s = (stream.bytes() - bytes) as f64 * 8e-6 / began.elapsed().as_secs_f64();
    let (packets, spent) = (packets()?.saturating_sub(before), cpu()?.saturating_sub(spent));
    stream.finish()?;
    ensure!(packets > 0, "{kind}: nothing came to b");
    Ok((mbit_s, spent.as_secs_f64() * 1e6 / packets as f64))
}

fn nft(ns: &Namespace) -> Result<()> {
    let mut child = ns.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("cannot run nft")?;
    child.stdin.take().context("nft has no input")?.write_all(NFTABLES.as_bytes())?;
    ensure!(child.wait()?.success(), "nft refused the rules");
    Ok(())
}
