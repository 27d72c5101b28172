//! XDP programs that are not rovy's: a generator, a bare redirect, a sink, and one that does nothing. From
//! `rovy-ebpf/src/bin/traffic.rs`.

use crate::{Namespace, device};
use anyhow::{Context as _, Result};
use aya::maps::{Array, DevMap, PerCpuArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::time::{Duration, Instant};

pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rovy-ebpf/prebuilt/traffic.bpf.o"));

/// Frames a generator's run has under way at once.
const BATCH: u32 = 64;

/// Bytes all frames of a generator have in common: Ethernet, IPv6 and UDP headers, type, flags, length and receiver
/// index of a transit message.
pub const TEMPLATE: usize = 70;

/// What differs from frame to frame: counter, tag and masked label of a transit message, as little-endian words.
pub type Stamp = [u64; 4];

/// The programs and their maps. Each instance has maps of its own; what is attached is detached on drop.
#[derive(Debug)]
pub struct Traffic(Ebpf);

impl Traffic {
    /// Loads the object. `stamps` are what [`Traffic::generate`] works off, behind `template`.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(template: &[u8; TEMPLATE], stamps: &[Stamp]) -> Result<Self> {
        let count = u32::try_from(stamps.len())?;
        let mut ebpf = EbpfLoader::new()
            .override_global("STAMP_COUNT", &count, true)
            .map_max_entries("STAMPS", count.max(1))
            .load(OBJECT)
            .context("cannot load the traffic programs")?;
        let mut map: Array<_, [u8; TEMPLATE]> = ebpf.map_mut("TEMPLATE").context("no TEMPLATE")?.try_into()?;
        map.set(0, template, 0)?;
        let mut map: Array<_, Stamp> = ebpf.map_mut("STAMPS").context("no STAMPS")?.try_into()?;
        for (i, stamp) in (0..).zip(stamps) {
            map.set(i, stamp, 0)?;
        }
        Ok(Self(ebpf))
    }

    /// An instance that generates nothing.
    ///
    /// # Errors
    /// As [`Traffic::load`].
    pub fn passive() -> Result<Self> {
        Self::load(&[0; TEMPLATE], &[])
    }

    fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program: &mut Xdp = self.0.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("cannot load the program {name}"))?;
        }
        Ok(program)
    }

    /// Takes a program off all devices.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn detach(&mut self, program: &str) -> Result<()> {
        self.program(program)?.unload().with_context(|| format!("cannot unload {program}"))
    }

    /// Attaches `redirect`, `sink`, `refuse` or `pass` to a device, in the driver.
    ///
    /// # Errors
    /// When it cannot be attached.
    pub fn attach(&mut self, ns: &Namespace, program: &str, interface: &str) -> Result<()> {
        let xdp = self.program(program)?;
        ns.enter(|| xdp.attach(interface, XdpMode::Driver))?
            .with_context(|| format!("cannot attach {program} to {interface}"))?;
        Ok(())
    }

    /// Has `generate` and `redirect` send by a device.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn send_by(&mut self, ns: &Namespace, interface: &str) -> Result<()> {
        let index = device::index(ns, interface)?;
        let mut map: DevMap<_> = self.0.map_mut("OUT").context("no OUT")?.try_into()?;
        ns.enter(|| map.set(0, index, None, 0))?.with_context(|| format!("cannot redirect to {interface}"))
    }

    /// Sends one frame for each of the first `count` stamps, as fast as the CPU `cpu` can: `frame` with the template and the
    /// stamp written over its beginning. Returns how long it took.
    ///
    /// # Errors
    /// When the kernel refuses the run.
    pub fn generate(&mut self, ns: &Namespace, frame: &[u8], count: u32, cpu: usize) -> Result<Duration> {
        let mut next: Array<_, u32> = self.0.map_mut("NEXT").context("no NEXT")?.try_into()?;
        next.set(0, 0, 0)?;
        let program = self.program("generate")?;
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let run = ns.enter(|| {
            let mut set = CpuSet::new();
            set.set(cpu);
            sched_setaffinity(None, &set)?;
            let start = Instant::now();
            program.test_run(options)?;
            anyhow::Ok(start.elapsed())
        });
        run?.context("cannot run the generator")
    }

    /// Frames the sink has counted on all CPUs.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn swallowed(&self) -> Result<u64> {
        let map: PerCpuArray<_, u64> = self.0.map("SWALLOWED").context("no SWALLOWED")?.try_into()?;
        Ok(map.get(&0, 0)?.iter().sum())
    }
}
