//! The live table: one row a second, the last one redrawn in between where somebody watches.

use super::Out;
use anyhow::Result;
use rovy_netns::line::TUN;
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Line, count, wait};
use std::time::{Duration, Instant};

/// Pings younger than this may still be answered and do not count as lost yet.
const SETTLED: Duration = Duration::from_millis(500);

pub(super) struct Table {
    out: Out,
    start: Instant,
    base: Base,
}

/// r's counters when its links were ready.
#[derive(Clone, Copy, Default)]
pub(super) struct Base {
    pub(super) kernel: u64,
    pub(super) agent: u64,
}

/// What the table reads.
pub(super) struct Sources<'s> {
    pub(super) line: &'s Line,
    pub(super) ping: &'s Ping,
    pub(super) stream: Option<&'s Stream>,
    /// What the killed agent had switched; the new one counts from zero.
    pub(super) agent_before: u64,
}

impl Table {
    pub(super) fn new(out: Out, base: Base) -> Self {
        Self { out, start: Instant::now(), base }
    }

    fn head(&self) {
        self.out.line("");
        self.out
            .line("                                  TCP   RTT µs   pings  switched by r's    switched by  packets");
        self.out.line("     s  now                    Gbit/s   median    lost         kernel      r's agent     at b");
    }

    /// Shows rows called `phase` for `time`, at least one, or until `until` says so.
    ///
    /// # Errors
    /// When the demo was interrupted or a counter at b cannot be read.
    pub(super) fn show(
        &self,
        phase: &str,
        time: Duration,
        sources: &Sources<'_>,
        mut until: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        if self.start.elapsed() < Duration::from_millis(200) {
            self.head();
        }
        let began = Instant::now();
        let mut row = Row::begin(sources);
        loop {
            let over = began.elapsed() >= time || until()?;
            if over || row.at.elapsed() >= Duration::from_secs(1) {
                self.out.line(&format!("{}{}", self.again(), self.row(phase, &row, sources)?));
                row = Row::begin(sources);
            } else if self.out.terminal() {
                self.out.part(&format!("{}{}", self.again(), self.row(phase, &row, sources)?));
            }
            if over {
                return Ok(());
            }
            wait::check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn again(&self) -> &'static str {
        if self.out.terminal() { "\r\x1b[K" } else { "" }
    }

    fn row(&self, phase: &str, row: &Row, sources: &Sources<'_>) -> Result<String> {
        let bytes = sources.stream.map(Stream::bytes).unwrap_or_default() - row.bytes;
        let gbit_s = bytes as f64 * 8e-9 / row.at.elapsed().as_secs_f64();
        let now = sources.ping.summary(row.mark, sources.ping.mark());
        let lost = sources.ping.summary(0, sources.ping.settled_mark(SETTLED)).lost();
        let (kernel, agent) = match sources.line.r.stats() {
            Ok(s) => (
                s.transit.kernel_packets.saturating_sub(self.base.kernel).to_string(),
                (sources.agent_before + s.transit.agent_packets).saturating_sub(self.base.agent).to_string(),
            ),
            Err(_) => ("nobody to ask".into(), "dead".into()),
        };
        let at_b = count::traffic(&sources.line.ns_b, TUN)?.rx_packets;
        Ok(format!(
            "{:6.1}  {phase:<21} {gbit_s:>7.2} {:>8} {lost:>7} {kernel:>14} {agent:>14} {at_b:>8}",
            self.start.elapsed().as_secs_f64(),
            now.rtt_us_median,
        ))
    }
}

/// Where a row began.
struct Row {
    at: Instant,
    bytes: u64,
    mark: usize,
}

impl Row {
    fn begin(sources: &Sources<'_>) -> Self {
        let bytes = sources.stream.map(Stream::bytes).unwrap_or_default();
        Self { at: Instant::now(), bytes, mark: sources.ping.mark() }
    }
}
