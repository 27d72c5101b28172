//! What was found, and whether it is what was aimed at.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Aims of the design: what is left for an established stream at 200,000 hellos a second, and what a flood of any rate may cost.
const RATIO: f64 = 0.95;
const CPU_PERCENT: f64 = 10.0;
const CONNECT_S: f64 = 10.0;
/// A heap that grew once and is used again counts as flat.
const GROWTH_BYTES: i64 = 4 << 20;

/// The object `--json` prints.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    /// How long each cell was measured with the flood, and as long without.
    pub(super) seconds: u64,
    /// CPUs that generator, victim and neighbours share.
    pub(super) cpus: usize,
    /// No flood at all.
    pub(super) quiet: Quiet,
    /// By the name of the kind.
    pub(super) kinds: BTreeMap<String, KindReport>,
}

/// Before the first flood.
#[derive(Clone, Copy, Serialize, Debug)]
pub(super) struct Quiet {
    pub(super) tcp_gbit_s: f64,
    pub(super) ping_loss_percent: f64,
    pub(super) agent_cpu_percent: f64,
    pub(super) agent_rss_bytes: u64,
}

/// One kind of hellos.
#[derive(Serialize, Debug, Default)]
pub(super) struct KindReport {
    /// At 200,000 a second over UDP and IPv4.
    #[serde(flatten)]
    pub(super) summary: Option<Cell>,
    /// Over UDP and IPv4, by rate.
    pub(super) rates: BTreeMap<String, Cell>,
    /// At 200,000 a second, by the other links.
    pub(super) links: BTreeMap<String, Cell>,
}

/// One flood.
#[derive(Clone, Serialize, Debug)]
pub(super) struct Cell {
    /// The stream's throughput beside the flood, over that beside the baseline.
    pub(super) established_ratio: f64,
    /// The stream beside the flood.
    pub(super) tcp_gbit_s: f64,
    /// The stream beside the baseline.
    pub(super) baseline_gbit_s: f64,
    /// Of pings from a neighbour to the victim, beside the flood.
    pub(super) ping_loss_percent: f64,
    /// The same beside the baseline.
    pub(super) baseline_ping_loss_percent: f64,
    /// Of one core.
    pub(super) agent_cpu_percent: f64,
    /// Of one core, beside the baseline.
    pub(super) baseline_agent_cpu_percent: f64,
    /// Hellos sent.
    pub(super) sent_pps: u64,
    /// Hellos sent to the program that only drops.
    pub(super) baseline_sent_pps: u64,
    /// Hellos that rovy's program dropped, those included that it answered.
    pub(super) xdp_dropped_pps: u64,
    /// Cookie replies among them.
    pub(super) cookie_replies_pps: u64,
    /// What went up to the agent as a handshake or data.
    pub(super) to_agent_pps: u64,
    /// Resident memory of the agent after the flood, less before.
    pub(super) agent_rss_growth_bytes: i64,
    /// From the start of a new peer's agent to its session with the victim; absent when it took more than a minute.
    pub(super) new_peer_connect_s: Option<f64>,
}

impl Report {
    /// The tables.
    pub(super) fn text(&self) -> String {
        let q = &self.quiet;
        let mut out = format!(
            "no flood: TCP {:.2} Gbit/s, {:.2} % of pings lost, agent {:.1} % of a core, {:.1} MB resident\n",
            q.tcp_gbit_s,
            q.ping_loss_percent,
            q.agent_cpu_percent,
            q.agent_rss_bytes as f64 / 1e6
        );
        for (name, kind) in &self.kinds {
            let _ = writeln!(
                out,
                "\n{name:<12} established   TCP     baseline  pings lost   agent     sent     XDP drops   to agent  memory  new peer\n\
                 {:<12}    ratio      Gbit/s    Gbit/s       %       % core   hellos/s      /s         /s       kB        s",
                "  hellos/s"
            );
            let rates = kind.rates.iter().map(|(rate, cell)| (rate.clone(), cell));
            let mut rows: Vec<_> = rates.collect();
            rows.sort_by_key(|(rate, _)| rate.parse().unwrap_or(u64::MAX));
            rows.extend(kind.links.iter().map(|(link, cell)| (format!("200000 {link}"), cell)));
            for (label, c) in rows {
                let connect = c.new_peer_connect_s.map_or_else(|| "never".to_owned(), |s| format!("{s:.2}"));
                let _ = writeln!(
                    out,
                    "  {label:<12}{:>8.3} {:>10.2} {:>9.2} {:>10.2} {:>9.1} {:>10} {:>11} {:>9} {:>8} {:>9}",
                    c.established_ratio,
                    c.tcp_gbit_s,
                    c.baseline_gbit_s,
                    c.ping_loss_percent,
                    c.agent_cpu_percent,
                    c.sent_pps,
                    c.xdp_dropped_pps,
                    c.to_agent_pps,
                    c.agent_rss_growth_bytes / 1024,
                    connect
                );
            }
        }
        out
    }

    /// The aims that were missed, with what was found instead.
    pub(super) fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for (name, kind) in &self.kinds {
            let rates = kind.rates.iter().map(|(rate, c)| (rate.clone(), rate == "200000", c));
            let links = kind.links.iter().map(|(link, c)| (format!("200000 over {link}"), true, c));
            for (label, summary, c) in rates.chain(links) {
                let mut aim = |kept: bool, what: String| {
                    if !kept {
                        missed.push(format!("{name} {label}: {what}"));
                    }
                };
                aim(!summary || c.established_ratio >= RATIO, format!("established ratio {:.3}", c.established_ratio));
                aim(c.agent_cpu_percent < CPU_PERCENT, format!("agent {:.1} % of a core", c.agent_cpu_percent));
                aim(c.agent_rss_growth_bytes < GROWTH_BYTES, format!("memory {} bytes", c.agent_rss_growth_bytes));
                let connected = c.new_peer_connect_s.is_some_and(|s| s <= CONNECT_S);
                aim(connected, format!("a new peer after {:?} s", c.new_peer_connect_s));
            }
        }
        missed
    }
}
