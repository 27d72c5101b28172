//! The XDP dataplane: loads the committed BPF object, mirrors the agent's tables into its maps, and attaches it. The only
//! place that knows aya.
//!
//! Everything is pinned: maps, and the links that hold the program at its devices. An agent that is killed leaves transit
//! running; the next one opens the same directory, adopts the maps and replaces the program under the links at once. Only what
//! another process made (`given.rs`) is not pinned.

mod attach;
mod bpffs;
mod counters;
mod device;
mod error;
mod given;
mod left;
mod maps;
mod object;
mod pod;
mod sys;

pub use attach::{Attached, Mode, Wish};
pub use counters::{Buckets, Counters, Windows};
pub use error::XdpError;
pub use given::make as make_for_others;
pub use left::{Agent, Left, ROOT as PIN_ROOT, left};

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::Ebpf;
use aya::programs::{TestRun, TestRunOptions};
use rovy_common::label::Width;
use rovy_common::maps::{Limits, LocalKey, RxLink, Secrets, SlotStats, TransitRate, TxLink};
use rovy_common::siphash::Key;

use super::{Dataplane, Seen};
use crate::transport::Endpoint;
use attach::Links;
use maps::Maps;

/// What the dataplane is opened with.
#[derive(Clone, Debug)]
pub struct Params {
    /// Where maps and links are pinned: one directory per agent and [`rovy_common::maps::LAYOUT`], on a bpffs.
    pub pin_dir: PathBuf,
    /// Receiver indexes there is room for, a power of two. Each takes about 2.2 kB of kernel memory.
    pub sessions: u32,
    /// Bytes of this node's slots.
    pub width: Width,
    /// EtherType of raw frames.
    pub ethertype: u16,
    /// Key of mac1 for messages to this node.
    pub mac1: Key,
    /// How many hellos are let through.
    pub limits: Limits,
    /// What the program logs: 0 nothing, 4 drops. Takes effect with the program's load.
    pub log_level: u8,
}

/// What an earlier agent left in the kernel.
#[derive(Debug, Default)]
pub struct Adopted {
    /// The sending sides in use, by slot.
    pub links: Vec<(u16, TxLink)>,
    /// The receiving sides in use. Their positions are taken until their keys expire.
    pub receivers: Vec<RxLink>,
    /// The devices the program runs on.
    pub attached: Vec<Attached>,
}

/// The kernel's side of this node.
pub struct Xdp {
    program: Program,
    maps: Maps,
    counters: Arc<Counters>,
    windows: Arc<Windows>,
    buckets: Arc<Buckets>,
    log: object::Log,
}

/// Where the program comes from.
enum Program {
    Own(Own),
    /// Another process loaded it; nothing is pinned.
    Given(given::Held),
}

/// A program that this process loaded. It is pinned.
struct Own {
    ebpf: Ebpf,
    links: Links,
    pin_dir: PathBuf,
    /// Tells others that somebody is here.
    hold: left::Hold,
}

/// What needs CAP_SYS_ADMIN and CAP_SYS_RESOURCE, for an agent that gives them up: mounts the BPF file system and lifts the
/// limit of locked memory, and learns the names of the programs of others. What fails shows in [`Xdp::open`].
pub fn prepare_host() {
    device::remember_programs();
    bpffs::raise_memlock();
    if let Err(error) = bpffs::mounted() {
        tracing::debug!(%error, "no BPF file system");
    }
}

/// Ends what an earlier agent of this node left in the kernel, of any layout: for an agent that runs without XDP. Whether
/// there was anything.
///
/// # Errors
/// A pin cannot be removed.
pub fn clear(pin_dir: &Path) -> Result<bool, XdpError> {
    let Some(node) = pin_dir.parent().filter(|n| n.exists()) else { return Ok(false) };
    for version in bpffs::names(node)? {
        bpffs::remove(&node.join(version))?;
    }
    Ok(true)
}

impl Xdp {
    /// Loads the program and opens or makes the maps. What is pinned is adopted when it has the sizes that `params`
    /// ask for, and replaced otherwise; devices that carry an earlier program get the new one without a gap.
    ///
    /// # Errors
    /// This machine cannot load BPF, or may not: the error says which, and what to do.
    pub fn open(params: &Params) -> Result<(Self, Adopted), XdpError> {
        Self::open_object(params, object::committed())
    }

    /// [`Xdp::open`] with another build of the object, which is to be tested. It must be aligned to 4 bytes.
    ///
    /// # Errors
    /// As [`Xdp::open`].
    pub fn open_object(params: &Params, object: &[u8]) -> Result<(Self, Adopted), XdpError> {
        bpffs::raise_memlock();
        bpffs::prepare(&params.pin_dir)?;
        let hold = left::Hold::take(&params.pin_dir);
        object::drop_unfit_maps(params)?;
        object::inherit_links(params)?;
        let mut ebpf = object::load(params, object)?;
        let log = object::Log::open(&mut ebpf, params.log_level);
        let mut maps = Maps::take(object::take_maps(&mut ebpf), params)?;
        maps.configure(params)?;
        let mut links = Links::new(&params.pin_dir);
        let attached = links.adopt(&mut ebpf, &mut maps)?;
        bpffs::unmark_kept(&params.pin_dir)?;
        let adopted = Adopted { links: maps.adopt()?, receivers: maps.receivers()?, attached };
        let program = Program::Own(Own { ebpf, links, pin_dir: params.pin_dir.clone(), hold });
        Ok((Self::over(program, maps, params, log)?, adopted))
    }

    /// The program and maps that another process made by [`make_for_others`] for the sizes in `params`, whose directory and log
    /// level are of no matter. It takes no privileges. The program is on no device yet, and ends with this value.
    ///
    /// # Errors
    /// The descriptors are something else; all of them are closed. Or this kernel lets nobody without privileges use them.
    pub fn given(params: &Params, descriptors: Vec<OwnedFd>) -> Result<Self, XdpError> {
        let (program, maps) = given::check(descriptors, params.sessions, params.width)?;
        let mut maps = Maps::take(maps, params)?;
        maps.configure(params)?;
        Self::over(Program::Given(given::Held::new(program)), maps, params, object::Log::none())
    }

    fn over(program: Program, maps: Maps, params: &Params, log: object::Log) -> Result<Self, XdpError> {
        let counters = Arc::new(Counters::map(maps.counters_fd(), maps.counters_len())?);
        let windows = Arc::new(Windows::map(maps.replay_fd(), params.sessions)?);
        let buckets = Arc::new(Buckets::map(maps.spent_fd(), maps.slot_count())?);
        Ok(Self { program, maps, counters, windows, buckets, log })
    }

    /// Puts the program onto a device and the device among the redirect targets. An attached device stays as it is.
    ///
    /// # Errors
    /// The device refuses, is gone, or carries another's program, which is named and never replaced.
    pub fn attach(&mut self, ifindex: u32, ifname: &str, wish: Wish) -> Result<Attached, XdpError> {
        let known = match &self.program {
            Program::Own(own) => own.links.get(ifindex),
            Program::Given(held) => held.get(ifindex),
        };
        if let Some(attached) = known {
            return Ok(attached.clone());
        }
        let port = self.maps.add_port(ifindex)?;
        match &mut self.program {
            Program::Own(own) => own.links.attach(&mut own.ebpf, ifindex, ifname, wish, port),
            Program::Given(held) => held.attach(ifindex, ifname, wish, port),
        }
    }

    /// Takes the program off a device. The device stays a redirect target.
    ///
    /// # Errors
    /// The program is not on it.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), XdpError> {
        match &mut self.program {
            Program::Own(own) => own.links.detach(ifindex),
            Program::Given(held) => held.detach(ifindex),
        }
    }

    /// The devices the program is on.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        let (own, given) = match &self.program {
            Program::Own(own) => (Some(own.links.iter()), None),
            Program::Given(held) => (None, Some(held.iter())),
        };
        own.into_iter().flatten().chain(given.into_iter().flatten())
    }

    /// Makes a device a redirect target and returns its key for [`TxLink::port`].
    ///
    /// # Errors
    /// The device is gone, or there are too many.
    pub fn add_port(&mut self, ifindex: u32) -> Result<u32, XdpError> {
        self.maps.add_port(ifindex)
    }

    /// Hands up from now on what is sent to a receiver index of the agent's.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn expect_index(&mut self, index: u32) -> Result<(), XdpError> {
        self.maps.expect_index(index)
    }

    /// Drops from now on what is sent to a receiver index. Nothing happens when another has taken its place.
    ///
    /// # Errors
    /// The map cannot be written or read.
    pub fn forget_index(&mut self, index: u32) -> Result<(), XdpError> {
        self.maps.forget_index(index)
    }

    /// Accepts transit on a receiver index from now on. A new index starts with an empty replay window.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_rx(&mut self, index: u32, rx: &RxLink) -> Result<(), XdpError> {
        self.maps.set_rx(index, rx)
    }

    /// Ends a receiver index and returns what the kernel's window has seen. `None` when it was not there.
    ///
    /// # Errors
    /// The map cannot be written or read.
    pub fn clear_rx(&mut self, index: u32) -> Result<Option<Seen>, XdpError> {
        self.maps.clear_rx(index)
    }

    /// What the kernel knows of a receiver index.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rx(&self, index: u32) -> Result<Option<RxLink>, XdpError> {
        self.maps.rx(index)
    }

    /// Sends over a slot by this entry from now on. Writes the slot's idle entry and switches to it; waits, at most 10 ms,
    /// while a program may still be reading that entry.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_tx(&mut self, slot: u16, tx: &TxLink) -> Result<(), XdpError> {
        self.maps.set_tx(slot, tx)
    }

    /// Ends a slot.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn clear_tx(&mut self, slot: u16) -> Result<(), XdpError> {
        self.maps.clear_tx(slot)
    }

    /// What the kernel sends over a slot by.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn tx(&self, slot: u16) -> Result<Option<TxLink>, XdpError> {
        self.maps.tx(slot)
    }

    /// Makes an address this node's own.
    ///
    /// # Errors
    /// The map is full.
    pub fn add_local(&mut self, key: LocalKey) -> Result<(), XdpError> {
        self.maps.add_local(key)
    }

    /// The address is no longer this node's own. Nothing happens when it was not.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn remove_local(&mut self, key: LocalKey) -> Result<(), XdpError> {
        self.maps.remove_local(key)
    }

    /// The secrets of cookies as the program knows them: zero before they are set for the first time.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn secrets(&self) -> Result<Secrets, XdpError> {
        self.maps.secrets()
    }

    /// Makes and checks cookies by these secrets from now on.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_secrets(&mut self, secrets: Secrets) -> Result<(), XdpError> {
        self.maps.set_secrets(secrets)
    }

    /// The replay windows that kernel and agent mark in.
    #[must_use]
    pub fn windows(&self) -> Arc<Windows> {
        Arc::clone(&self.windows)
    }

    /// The buckets of transit rates that kernel and agent take from.
    #[must_use]
    pub fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.buckets)
    }

    /// The rate of what comes over a slot by links that have one.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rate(&self, slot: u16) -> Result<TransitRate, XdpError> {
        self.maps.rate(slot)
    }

    /// Sends on from now on at most so much of what comes over a slot. Where that is new the bucket is full: what was spent at
    /// another rate could take any time to grow again.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_rate(&mut self, slot: u16, rate: &TransitRate) -> Result<(), XdpError> {
        if self.maps.rate(slot)? == *rate {
            return Ok(());
        }
        self.maps.set_rate(slot, rate)?;
        if let Some(word) = self.buckets.word(rate.bucket) {
            word.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The counters of type 6 that kernel and agent draw from.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Counters by [`rovy_common::Counter::index`], summed over CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counts(&self) -> Result<[u64; rovy_common::count::COUNTERS as usize], XdpError> {
        self.maps.counts()
    }

    /// Traffic of a slot that the kernel switched, summed over CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn slot_stats(&self, slot: u16) -> Result<SlotStats, XdpError> {
        self.maps.slot_stats(slot)
    }

    /// Hands what the program has logged to `tracing`. Call it now and then while a log level is set.
    pub fn flush_log(&mut self) {
        self.log.flush();
    }

    /// Ends slots of an earlier agent whose keys have expired at `now_ns` of the monotonic clock, and returns them; wipes the
    /// keys of entries that nothing sends by any more; leaves a sign of life. Call it every few seconds.
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn tidy(&mut self, now_ns: u64) -> Result<Vec<u16>, XdpError> {
        if let Program::Own(own) = &mut self.program {
            own.hold.beat();
        }
        let ended = self.maps.end_expired(now_ns)?;
        self.maps.wipe_idle()?;
        Ok(ended)
    }

    /// Entries of sending sides that hold anything, those in use and those to be wiped; for tests.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn written_entries(&self) -> Result<usize, XdpError> {
        self.maps.written_entries()
    }

    /// Notes, for `rovy doctor` on this host, that transit is left on purpose. What is dropped without this has crashed.
    ///
    /// # Errors
    /// The mark cannot be made; transit goes on all the same.
    pub fn keep(&mut self) -> Result<(), XdpError> {
        match &mut self.program {
            Program::Own(own) => {
                own.hold.beat();
                bpffs::mark_kept(&own.pin_dir)
            }
            Program::Given(_) => Ok(()),
        }
    }

    /// Takes the program off all devices and removes every pin: transit in the kernel ends. Dropping an [`Xdp`] instead
    /// leaves all of it running, unless it was given.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn unpin_all(mut self) -> Result<(), XdpError> {
        match &mut self.program {
            Program::Own(own) => {
                own.links.detach_all()?;
                bpffs::remove(&own.pin_dir)
            }
            Program::Given(_) => Ok(()),
        }
    }

    /// Where everything is pinned; `None` for what was given, which ends with this value.
    #[must_use]
    pub fn pin_dir(&self) -> Option<&Path> {
        match &self.program {
            Program::Own(own) => Some(&own.pin_dir),
            Program::Given(_) => None,
        }
    }

    /// Runs the program once over a frame, as if it had come in by the loopback device of this network namespace. The XDP
    /// action and what the frame has become.
    ///
    /// # Errors
    /// The kernel cannot run programs for testing, or the frame is too short or too long for that; or the program was given.
    pub fn test_run(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<u32, XdpError> {
        let Program::Own(own) = &self.program else {
            return Err(XdpError::Program { what: "test", reason: "another process loaded it".into() });
        };
        let program = object::program(&own.ebpf)?;
        // Room for what the longest header adds.
        out.clear();
        out.resize(frame.len() + rovy_common::maps::HEADER, 0);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(out);
        let result = program.test_run(options).map_err(|e| XdpError::program("test", e))?;
        out.truncate(result.data_size_out as usize);
        Ok(result.return_value)
    }
}

impl Dataplane for Xdp {
    type Error = XdpError;

    fn set_receive(&mut self, rx: &RxLink, _: Endpoint) -> Result<(), XdpError> {
        self.set_rx(rx.index, rx)
    }

    fn clear_receive(&mut self, index: u32) -> Result<Option<Seen>, XdpError> {
        self.clear_rx(index)
    }

    fn set_transmit(&mut self, tx: &TxLink, _: Endpoint) -> Result<(), XdpError> {
        self.set_tx(tx.slot as u16, tx)
    }

    fn clear_transmit(&mut self, slot: u16) -> Result<(), XdpError> {
        self.clear_tx(slot)
    }

    fn set_rate(&mut self, slot: u16, rate: &TransitRate) -> Result<(), XdpError> {
        self.set_rate(slot, rate)
    }

    fn counts(&self) -> Result<[u64; 64], XdpError> {
        self.counts()
    }

    fn slot_stats(&self, slot: u16) -> Result<SlotStats, XdpError> {
        self.slot_stats(slot)
    }
}
