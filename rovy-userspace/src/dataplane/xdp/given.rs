//! Programs and maps that another process made: root makes them for an agent that may not. Nothing is pinned: they live as long
//! as the agent holds them.
//!
//! Whoever holds the program may attach it, and whoever holds a map may write it, without privileges (since kernel 5.19;
//! before, every use of `bpf()` took CAP_BPF where `kernel.unprivileged_bpf_disabled` is set).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Map, MapData};
use rovy_common::label::Width;

use super::attach::{Attached, Mode, Wish, try_modes};
use super::object::{self, Shape};
use super::{XdpError, sys};

fn wrong(what: impl std::fmt::Display) -> XdpError {
    XdpError::Given(what.to_string())
}

/// Loads the program and makes its maps for another process: the program, then the maps in the order of their shapes.
///
/// # Errors
/// This machine cannot load BPF, or may not.
pub fn make(sessions: u32, width: Width) -> Result<Vec<OwnedFd>, XdpError> {
    super::bpffs::raise_memlock();
    let mut ebpf = object::load_unpinned(sessions, width)?;
    let failed = |e| XdpError::Program { what: "share", reason: format!("{e}") };
    let clone = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
    let program = object::program(&ebpf)?.fd().map_err(|e| XdpError::program("share", e))?;
    let mut all = vec![clone(program).map_err(failed)?];
    let maps = object::take_maps(&mut ebpf);
    for shape in object::shapes(sessions, width) {
        let map = maps.get(shape.name).and_then(data).ok_or_else(|| wrong(format!("no map {}", shape.name)))?;
        all.push(clone(map.fd()).map_err(failed)?);
    }
    Ok(all)
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(m) | Map::PerCpuArray(m) | Map::DevMap(m) | Map::HashMap(m) | Map::LruHashMap(m) => Some(m),
        _ => None,
    }
}

/// The program and its maps by name, if `descriptors` are what [`make`] gives for these sizes. What is refused is closed.
pub(super) fn check(
    descriptors: Vec<OwnedFd>,
    sessions: u32,
    width: Width,
) -> Result<(OwnedFd, HashMap<String, Map>), XdpError> {
    let shapes = object::shapes(sessions, width);
    if descriptors.len() != shapes.len() + 1 {
        return Err(wrong(format!("{} descriptors instead of {}", descriptors.len(), shapes.len() + 1)));
    }
    let mut descriptors = descriptors.into_iter();
    let program = descriptors.next().ok_or_else(|| wrong("no program"))?;
    let uses = sys::xdp_program_maps(program.as_fd(), object::PROGRAM);
    let uses = uses.map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => XdpError::Unprivileged,
        _ => wrong(format!("not the XDP program: {e}")),
    })?;
    let mut maps = HashMap::new();
    for (fd, shape) in descriptors.zip(&shapes) {
        maps.insert(shape.name.to_owned(), check_map(fd, shape, &uses)?);
    }
    Ok((program, maps))
}

fn check_map(fd: OwnedFd, shape: &Shape, used: &[u32]) -> Result<Map, XdpError> {
    let name = shape.name;
    let map = MapData::from_fd(fd).map_err(|e| wrong(format!("not the map {name}: {e}")))?;
    let info = map.info().map_err(|e| wrong(format!("not the map {name}: {e}")))?;
    if info.name_as_str() != Some(name) || !object::fits(&info, shape) {
        return Err(wrong(format!(
            "the map {} where {name} should be, or one of another size",
            printable(info.name())
        )));
    }
    if !used.contains(&info.id()) {
        return Err(wrong(format!("a map {name} that is not the program's")));
    }
    Map::from_map_data(map).map_err(|e| wrong(format!("the map {name}: {e}")))
}

fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).trim_end_matches('\0').escape_debug().collect()
}

/// The program and where it is attached.
pub(super) struct Held {
    program: OwnedFd,
    links: BTreeMap<u32, (OwnedFd, Attached)>,
}

impl Held {
    pub(super) fn new(program: OwnedFd) -> Self {
        Self { program, links: BTreeMap::new() }
    }

    pub(super) fn get(&self, ifindex: u32) -> Option<&Attached> {
        self.links.get(&ifindex).map(|l| &l.1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attached> {
        self.links.values().map(|l| &l.1)
    }

    pub(super) fn attach(&mut self, ifindex: u32, ifname: &str, wish: Wish, port: u32) -> Result<Attached, XdpError> {
        let put = |mode: Mode| {
            sys::attach_xdp(self.program.as_fd(), ifindex, mode == Mode::Native).map_err(|e| e.to_string())
        };
        let (link, attached) = try_modes(ifindex, ifname, wish, port, put)?;
        self.links.insert(ifindex, (link, attached.clone()));
        Ok(attached)
    }

    /// The link ends with its descriptor.
    pub(super) fn detach(&mut self, ifindex: u32) -> Result<(), XdpError> {
        self.links.remove(&ifindex).map(drop).ok_or(XdpError::NotAttached(ifindex))
    }
}
