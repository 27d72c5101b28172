//! The committed BPF object: its maps' sizes, its load, its log.

use std::collections::HashMap;
use std::path::Path;

use aya::maps::{MapData, MapInfo, MapType};
use aya::programs::Xdp as Program;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use rovy_common::count::COUNTERS;
use rovy_common::hello::{LOADS, Prefix};
use rovy_common::label::Width;
use rovy_common::maps::{
    Buckets, Config, LAYOUT, LINKS_SINCE, LocalKey, ReplayWords, RxLink, Secrets, SlotStats, TransitRate, TxLink,
};

use super::{Params, XdpError, bpffs};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../rovy-ebpf/prebuilt/rovy.bpf.o");

/// The program, and its section's function.
pub(super) const PROGRAM: &str = "rovy";
/// Devices that can be redirect targets.
pub(super) const PORTS: u32 = 256;
/// Addresses of this node's own.
const LOCALS: u32 = 4096;
/// Sources of hellos that are remembered: about 1.5 MB of kernel memory.
const BUCKETS: u32 = 16_384;

/// The shape of a map.
pub(super) struct Shape {
    pub(super) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

/// The maps that links consist of. They name each other's entries, so they stay together.
const OF_LINKS: [&str; 6] = ["RX", "REPLAY", "SLOTS", "TX", "COUNTERS", "PORTS"];
/// Those that the agent maps into its memory (`BPF_F_MMAPABLE`).
const SHARED: [&str; 3] = ["REPLAY", "COUNTERS", "SPENT"];
const MMAPABLE: u32 = 1 << 10;

pub(super) fn shapes(sessions: u32, width: Width) -> [Shape; 17] {
    let slots = width.slots();
    let array = |name, value, entries| Shape { name, kind: MapType::Array, key: 4, value, entries };
    let per_cpu = |name, value, entries| Shape { name, kind: MapType::PerCpuArray, key: 4, value, entries };
    [
        array("CONFIG", size_of::<Config>(), 1),
        array("RX", size_of::<RxLink>(), sessions),
        array("GIVEN", 4, sessions),
        array("REPLAY", size_of::<ReplayWords>(), sessions),
        array("SLOTS", 4, slots),
        array("TX", size_of::<TxLink>(), 2 * slots),
        array("COUNTERS", 8, 2 * slots),
        array("REFUSED", 8, slots),
        array("RATES", size_of::<TransitRate>(), slots),
        array("SPENT", 8, slots),
        per_cpu("COUNTS", 8, COUNTERS),
        per_cpu("SLOT_STATS", size_of::<SlotStats>(), slots),
        Shape { name: "PORTS", kind: MapType::DevMap, key: 4, value: 8, entries: PORTS },
        Shape { name: "LOCALS", kind: MapType::Hash, key: size_of::<LocalKey>(), value: 8, entries: LOCALS },
        array("SECRETS", size_of::<Secrets>(), 1),
        array("LOAD", 8, LOADS),
        Shape {
            name: "BUCKETS",
            kind: MapType::LruHash,
            key: size_of::<Prefix>(),
            value: size_of::<Buckets>(),
            entries: BUCKETS,
        },
    ]
}

/// Unpins all maps when one of them has not the shape it should have: they name each other's entries.
pub(super) fn drop_unfit_maps(params: &Params) -> Result<(), XdpError> {
    if !params.sessions.is_power_of_two() {
        return Err(XdpError::Params(format!("{} sessions: the number must be a power of two", params.sessions)));
    }
    let pinned = bpffs::names(&params.pin_dir)?;
    let shapes = shapes(params.sessions, params.width);
    let present = shapes.iter().filter(|s| pinned.iter().any(|p| p == s.name)).count();
    let fit = present == shapes.len() && shapes.iter().all(|s| pinned_fits(&params.pin_dir, s));
    if present != 0 && !fit {
        tracing::info!(dir = %params.pin_dir.display(), "the pinned BPF maps have other sizes: starting afresh");
    }
    if !fit {
        for shape in &shapes {
            bpffs::unpin(&params.pin_dir.join(shape.name))?;
        }
    }
    Ok(())
}

fn pinned_fits(dir: &Path, shape: &Shape) -> bool {
    MapInfo::from_pin(dir.join(shape.name)).is_ok_and(|info| fits(&info, shape))
}

/// Whether a map has the shape.
pub(super) fn fits(info: &MapInfo, shape: &Shape) -> bool {
    info.map_type().is_ok_and(|kind| kind == shape.kind)
        && info.key_size() as usize == shape.key
        && info.value_size() as usize == shape.value
        && info.max_entries() == shape.entries
        && (info.map_flags() & MMAPABLE != 0) == SHARED.contains(&shape.name)
}

/// Pins the maps of links that an agent of another layout left here too, where their layout is the same: both programs use
/// the same maps then, and the change from one to the other loses nothing. Only into a directory without maps.
pub(super) fn inherit_links(params: &Params) -> Result<(), XdpError> {
    if params.pin_dir.join("RX").exists() {
        return Ok(());
    }
    let shapes: Vec<_> =
        shapes(params.sessions, params.width).into_iter().filter(|s| OF_LINKS.contains(&s.name)).collect();
    // The newest first: an agent of an older layout ran before that of a newer one.
    let mut others = bpffs::other_versions(&params.pin_dir)?;
    others.retain(|dir| bpffs::version(dir).is_some_and(|v| (LINKS_SINCE..LAYOUT).contains(&v)));
    others.sort_by_key(|dir| std::cmp::Reverse(bpffs::version(dir)));
    let Some(from) = others.iter().find(|dir| shapes.iter().all(|s| pinned_fits(dir, s))) else { return Ok(()) };
    for shape in shapes {
        let repin = || {
            MapData::from_pin(from.join(shape.name))?
                .pin(params.pin_dir.join(shape.name))
                .map_err(|e| aya::maps::MapError::PinError { name: Some(shape.name.into()), error: e })
        };
        repin().map_err(XdpError::map("take over", shape.name))?;
    }
    tracing::info!(from = %from.display(), "took over the links of an agent of another layout");
    Ok(())
}

/// The object that is committed beside the sources of the programs.
pub(super) const fn committed() -> &'static [u8] {
    OBJECT
}

/// Makes or reuses the maps and loads the program of an object.
pub(super) fn load(params: &Params, object: &[u8]) -> Result<Ebpf, XdpError> {
    let mut loader = EbpfLoader::new();
    let mask = params.sessions - 1;
    loader.default_map_pin_directory(&params.pin_dir).override_global("RX_MASK", &mask, true).override_global(
        aya_log::LEVEL,
        &params.log_level,
        true,
    );
    for shape in shapes(params.sessions, params.width) {
        loader.map_max_entries(shape.name, shape.entries).map_pin_path(shape.name, params.pin_dir.join(shape.name));
    }
    let mut ebpf = loader.load(object).map_err(|e| XdpError::load(&e))?;
    program_mut(&mut ebpf)?.load().map_err(|e| XdpError::load(&e))?;
    Ok(ebpf)
}

/// Makes the maps and loads the program of the committed object, pinning nothing. The program logs nothing.
pub(super) fn load_unpinned(sessions: u32, width: Width) -> Result<Ebpf, XdpError> {
    let mut loader = EbpfLoader::new();
    let (mask, level) = (sessions - 1, 0_u8);
    loader.override_global("RX_MASK", &mask, true).override_global(aya_log::LEVEL, &level, true);
    for shape in shapes(sessions, width) {
        loader.map_max_entries(shape.name, shape.entries);
    }
    let mut ebpf = loader.load(committed()).map_err(|e| XdpError::load(&e))?;
    program_mut(&mut ebpf)?.load().map_err(|e| XdpError::load(&e))?;
    Ok(ebpf)
}

/// The program of a loaded object.
pub(super) fn program(ebpf: &Ebpf) -> Result<&Program, XdpError> {
    ebpf.program(PROGRAM).and_then(|p| p.try_into().ok()).ok_or_else(no_program)
}

/// The program of a loaded object.
pub(super) fn program_mut(ebpf: &mut Ebpf) -> Result<&mut Program, XdpError> {
    ebpf.program_mut(PROGRAM).and_then(|p| p.try_into().ok()).ok_or_else(no_program)
}

fn no_program() -> XdpError {
    XdpError::Program { what: "find", reason: "the BPF object has none of this name; rebuild it".into() }
}

/// The maps of a loaded object, by name.
pub(super) fn take_maps(ebpf: &mut Ebpf) -> HashMap<String, aya::maps::Map> {
    let names: Vec<String> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
    names.into_iter().filter_map(|n| ebpf.take_map(&n).map(|m| (n, m))).collect()
}

/// The program's log on its way to `tracing`.
pub(super) struct Log(Option<EbpfLogger<Tracing>>);

impl Log {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    pub(super) fn open(ebpf: &mut Ebpf, level: u8) -> Self {
        if level == 0 {
            return Self(None);
        }
        match EbpfLogger::init_with_logger(ebpf, Tracing) {
            Ok(logger) => Self(Some(logger)),
            Err(error) => {
                tracing::warn!(%error, "the XDP program's log cannot be read");
                Self(None)
            }
        }
    }

    pub(super) fn flush(&mut self) {
        if let Some(log) = &mut self.0 {
            log.flush();
        }
    }
}

/// aya-log writes to the `log` crate's interface.
struct Tracing;

impl log::Log for Tracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "rovy_ebpf", "{}", record.args());
    }

    fn flush(&self) {}
}
