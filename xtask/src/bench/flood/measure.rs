//! One flood on the stage.

use super::report::{Cell, Quiet};
use anyhow::Result;
use rovy_netns::flood::{DROP, Flood, Kind, OPEN, SOURCES, Siege};
use rovy_netns::ping::{Ping, Summary};
use rovy_netns::stream::Stream;
use rovy_netns::{Link, Mode, process, wait};
use std::path::Path;
use std::time::{Duration, Instant};

/// Flood and baseline take turns this long: short, so that what else the machine does falls on both.
const SLICE: Duration = Duration::from_millis(500);
/// The beginning of a slice, in which the stream finds its speed.
const SETTLE: Duration = Duration::from_millis(150);
/// 100 pings a second.
const INTERVAL: Duration = Duration::from_millis(10);
/// Answers older than this are lost.
const LATE: Duration = Duration::from_millis(500);

/// The stage with its established traffic.
pub(super) struct Bench {
    stream: Stream,
    ping: Ping,
    siege: Siege,
    mode: Mode,
}

/// Sums over the slices of one side.
#[derive(Default)]
struct Side {
    time: Duration,
    bytes: u64,
    sent: u64,
    cpu: Duration,
    pings: Vec<(usize, usize)>,
    /// The victim's counters are asked for by the command line, outside of `time`.
    counted: Duration,
    dropped: u64,
    replies: u64,
    up: u64,
}

/// What is counted, as it stands.
struct Counts {
    at: Instant,
    bytes: u64,
    sent: u64,
    cpu: Duration,
    ping: usize,
}

/// What the victim has counted.
struct Victim {
    at: Instant,
    dropped: u64,
    replies: u64,
    up: u64,
}

impl Bench {
    pub(super) fn start(binary: &Path, link: Link, mode: Mode) -> Result<Self> {
        let siege = Siege::start(binary, link, mode)?;
        let line = &siege.line;
        let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
        let ping = Ping::start(&line.ns_b, line.r.address(), INTERVAL, 56)?;
        Ok(Self { stream, ping, siege, mode })
    }

    /// What the flood of this kind sends, by the last CPU.
    pub(super) fn flood(&self, kind: Kind, link: Link) -> Result<Flood> {
        self.siege.flood(kind, link, SOURCES)
    }

    /// The stream without any flood.
    pub(super) fn quiet(&mut self, time: Duration) -> Result<Quiet> {
        let mut side = Side::default();
        pause(SETTLE)?;
        while side.time < time {
            self.slice(None, &mut side)?;
        }
        Ok(Quiet {
            tcp_gbit_s: side.gbit_s(),
            ping_loss_percent: self.loss(&side)?,
            agent_cpu_percent: side.cpu_percent(),
            agent_rss_bytes: process::resident(self.siege.pid()?)?,
        })
    }

    /// Flood and baseline in turns for `time` each, then a new peer beside the flood.
    pub(super) fn cell(&mut self, flood: &Flood, rate: u64, time: Duration) -> Result<Cell> {
        let pid = self.siege.pid()?;
        let before = process::resident(pid)?;
        let (mut with, mut without) = (Side::default(), Side::default());
        let mut first = OPEN;
        while with.time < time || without.time < time {
            // In turns who comes first: what the stream still has from the slice before falls on both.
            let second = if first == OPEN { DROP } else { OPEN };
            for device in [first, second] {
                flood.send(&self.siege.ns_x, device, rate)?;
                self.slice(Some(flood), if device == OPEN { &mut with } else { &mut without })?;
            }
            first = second;
        }
        flood.send(&self.siege.ns_x, OPEN, rate)?;
        let connected = self.siege.newcomer(self.mode)?;
        let growth = process::resident(pid)?.cast_signed() - before.cast_signed();
        flood.pause();
        Ok(Cell {
            established_ratio: with.gbit_s() / without.gbit_s(),
            tcp_gbit_s: with.gbit_s(),
            baseline_gbit_s: without.gbit_s(),
            ping_loss_percent: self.loss(&with)?,
            baseline_ping_loss_percent: self.loss(&without)?,
            agent_cpu_percent: with.cpu_percent(),
            baseline_agent_cpu_percent: without.cpu_percent(),
            sent_pps: rate_of(with.sent, with.time),
            baseline_sent_pps: rate_of(without.sent, without.time),
            xdp_dropped_pps: rate_of(with.dropped, with.counted),
            cookie_replies_pps: rate_of(with.replies, with.counted),
            to_agent_pps: rate_of(with.up, with.counted),
            agent_rss_growth_bytes: growth,
            new_peer_connect_s: connected.map(|d| d.as_secs_f64()),
        })
    }

    /// One slice of what is going on. The victim is asked for its counters outside of the time that is measured.
    fn slice(&self, flood: Option<&Flood>, side: &mut Side) -> Result<()> {
        pause(SETTLE)?;
        let (victim, before) = (self.victim()?, self.counts(flood)?);
        pause(SLICE - SETTLE)?;
        let after = self.counts(flood)?;
        let (now, time) = (self.victim()?, after.at - before.at);
        side.time += time;
        side.bytes += after.bytes - before.bytes;
        side.sent += after.sent - before.sent;
        side.cpu += after.cpu.saturating_sub(before.cpu);
        side.pings.push((before.ping, after.ping));
        side.counted += now.at - victim.at;
        side.dropped += now.dropped - victim.dropped;
        side.replies += now.replies - victim.replies;
        side.up += now.up - victim.up;
        Ok(())
    }

    fn counts(&self, flood: Option<&Flood>) -> Result<Counts> {
        let cpu = process::cpu_time(self.siege.pid()?)?;
        let sent = flood.map_or(0, Flood::sent);
        Ok(Counts { at: Instant::now(), bytes: self.stream.bytes(), sent, cpu, ping: self.ping.mark() })
    }

    fn victim(&self) -> Result<Victim> {
        let stats = self.siege.line.r.stats()?;
        let up = stats.up.get("control").copied().unwrap_or_default();
        Ok(Victim { at: Instant::now(), dropped: stats.drops.kernel.values().sum(), replies: stats.cookie_replies, up })
    }

    /// Lost pings of a side, in percent, once late answers are in.
    fn loss(&self, side: &Side) -> Result<f64> {
        let all = |s: &Side| {
            s.pings.iter().fold(Summary::default(), |sum, (from, to)| {
                let s = self.ping.summary(*from, *to);
                Summary { sent: sum.sent + s.sent, received: sum.received + s.received, ..sum }
            })
        };
        let start = Instant::now();
        while start.elapsed() < LATE && all(side).lost() > 0 {
            pause(Duration::from_millis(10))?;
        }
        let sum = all(side);
        Ok(100.0 * sum.lost() as f64 / sum.sent.max(1) as f64)
    }

    /// Ends the established traffic.
    pub(super) fn finish(self) -> Result<()> {
        self.stream.finish()?;
        self.ping.finish(LATE)?;
        Ok(())
    }
}

impl Side {
    fn gbit_s(&self) -> f64 {
        self.bytes as f64 * 8e-9 / self.time.as_secs_f64()
    }

    fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.time.as_secs_f64()
    }
}

/// `n` in so long, a second.
fn rate_of(n: u64, time: Duration) -> u64 {
    (n as f64 / time.as_secs_f64()) as u64
}

fn pause(time: Duration) -> Result<()> {
    std::thread::sleep(time);
    wait::check()
}
