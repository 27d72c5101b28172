//! A flood of hellos at a steady rate, or as fast as one CPU can. From `rovy-ebpf/src/bin/traffic.rs`.

mod frames;
mod siege;

pub use frames::{Kind, SOURCES, Victim};
pub use siege::{DROP, OPEN, Siege};

use crate::{Link, Namespace, device};
use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, DevMap};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use frames::{BYTES, Frame};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Frames under way at once.
const BATCH: u32 = 64;
/// Most frames of one run: between two of them the flood listens to who commands it. Many, as the kernel waits for all its
/// CPUs at the end of a run, some 20 ms: a steady flood comes in bursts that far apart.
const RUN: u64 = 1 << 16;
/// Between two runs of a steady flood.
const TICK: Duration = Duration::from_millis(1);

/// The rate of a flood that is as fast as it goes.
pub const MAXIMUM: u64 = u64::MAX;

/// A flood. It pauses until it is told where to go; it ends on drop.
#[derive(Debug)]
pub struct Flood {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Hellos a second, 0 for a pause.
    rate: AtomicU64,
    /// Interface to send by.
    to: AtomicU64,
    sent: AtomicU64,
}

impl Flood {
    /// Makes hellos from `sources` sources (a power of two, at most [`SOURCES`]), to be sent from `ns` by the CPU `cpu`.
    ///
    /// # Errors
    /// When they cannot be made, or the kernel refuses the programs.
    pub fn new(ns: &Namespace, kind: Kind, link: Link, victim: &Victim, sources: u32, cpu: usize) -> Result<Self> {
        let frames = frames::make(kind, link, victim, sources)?;
        let count = u32::try_from(frames.len())?;
        anyhow::ensure!(count.is_power_of_two(), "{count} sources are no power of two");
        let mut ebpf = EbpfLoader::new()
            .override_global("FRAME_MASK", &(count - 1), true)
            .map_max_entries("FRAMES", count)
            .load(crate::traffic::OBJECT)
            .context("cannot load the traffic programs")?;
        let mut map: Array<_, Frame> = ebpf.map_mut("FRAMES").context("no FRAMES")?.try_into()?;
        for (i, frame) in (0..).zip(frames) {
            map.set(i, frame, 0)?;
        }
        let program: &mut Xdp = ebpf.program_mut("flood").context("no program flood")?.try_into()?;
        program.load().context("cannot load the program flood")?;
        let shared = Arc::new(Shared::default());
        let (s, ns) = (Arc::clone(&shared), ns.handle());
        let thread = std::thread::spawn(move || ns.enter(|| run(ebpf, &s, cpu))?);
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sends `rate` hellos a second by the device `interface` of `ns` from now on; [`MAXIMUM`] for as fast as it goes.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn send(&self, ns: &Namespace, interface: &str, rate: u64) -> Result<()> {
        let index = device::index(ns, interface)?;
        self.shared.to.store(u64::from(index), Ordering::SeqCst);
        self.shared.rate.store(rate, Ordering::SeqCst);
        Ok(())
    }

    /// Sends nothing for now.
    pub fn pause(&self) {
        self.shared.rate.store(0, Ordering::SeqCst);
    }

    /// Hellos sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Ends the flood; how many hellos were sent.
    ///
    /// # Errors
    /// When the generator failed.
    pub fn finish(mut self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the thread of the flood panicked"))??;
        }
        Ok(self.sent())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // The devices it sends by live as long as it.
            let _ = thread.join();
        }
    }
}

/// Sends as told, in the namespace of the calling thread.
fn run(mut ebpf: Ebpf, shared: &Shared, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)?;
    // What comes from a line does not wait until the victim has time for it. Of this thread alone.
    setpriority_process(None, -20).context("cannot put the generator first")?;
    let (mut to, mut rate, mut began, mut sent) = (0, 0, Instant::now(), 0);
    while !shared.stop.load(Ordering::SeqCst) {
        let wanted = (shared.to.load(Ordering::SeqCst), shared.rate.load(Ordering::SeqCst));
        if wanted.0 != to && wanted.1 != 0 {
            let mut map: DevMap<_> = ebpf.map_mut("OUT").context("no OUT")?.try_into()?;
            map.set(0, u32::try_from(wanted.0)?, None, 0).context("cannot redirect there")?;
        }
        if wanted != (to, rate) {
            ((to, rate), began, sent) = (wanted, Instant::now(), 0);
        }
        let due = match rate {
            0 => 0,
            MAXIMUM => RUN,
            _ => due(rate, began.elapsed(), sent),
        };
        if due > 0 {
            burst(&mut ebpf, due as u32)?;
            sent += due;
            shared.sent.fetch_add(due, Ordering::Relaxed);
        }
        if rate != MAXIMUM {
            std::thread::sleep(TICK);
        }
    }
    Ok(())
}

/// Hellos to be sent now. Who was held up makes up for it, in pieces.
fn due(rate: u64, elapsed: Duration, sent: u64) -> u64 {
    let wanted = u128::from(rate) * elapsed.as_micros() / 1_000_000;
    u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(sent).min(RUN)
}

fn burst(ebpf: &mut Ebpf, count: u32) -> Result<()> {
    let program: &mut Xdp = ebpf.program_mut("flood").context("no program flood")?.try_into()?;
    let options = TestRunOptions {
        data_in: Some(&[0; BYTES]),
        repeat: count,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH.min(count)),
        ..TestRunOptions::new()
    };
    program.test_run(options).context("cannot run the generator")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flood_keeps_its_rate() {
        assert_eq!(due(1000, Duration::from_millis(7), 0), 7);
        assert_eq!(due(1000, Duration::from_millis(7), 7), 0);
        assert_eq!(due(200_000, Duration::from_millis(20), 1000), 3000);
        assert_eq!(due(200_000, Duration::from_secs(1), 0), RUN);
        assert_eq!(due(1, Duration::from_millis(999), 0), 0);
    }
}
