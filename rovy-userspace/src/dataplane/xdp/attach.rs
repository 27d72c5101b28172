//! The program on its devices: pinned links, native before generic, never instead of another's program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId, XdpMode};

use super::error::reason;
use super::maps::Maps;
use super::object::program_mut;
use super::{XdpError, bpffs, device, sys};

/// How the program runs on a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In the driver, before the kernel makes a packet of a frame.
    Native,
    /// In the generic hook, on any device.
    Generic,
}

impl Mode {
    /// The name in configuration and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flags(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// How the program should run on a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Native, else generic.
    Auto,
    /// Native or not at all.
    Native,
    /// Generic or not at all.
    Generic,
}

/// A device the program is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Its index.
    pub ifindex: u32,
    /// Its name when the program came onto it.
    pub ifname: String,
    /// How the program runs.
    pub mode: Mode,
    /// Why so, as a sentence for people.
    pub why: String,
    /// Its key among the redirect targets.
    pub port: u32,
}

/// Dropping it leaves the program where it is: the pin holds the link.
struct Held {
    _link: FdLink,
    pin: PathBuf,
    attached: Attached,
}

/// The pinned links of this agent.
pub(super) struct Links {
    dir: PathBuf,
    held: BTreeMap<u32, Held>,
}

impl Links {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), held: BTreeMap::new() }
    }

    /// The mode stands in the name because the kernel does not tell it with the link.
    fn pin(&self, ifindex: u32, mode: Mode) -> PathBuf {
        self.dir.join(format!("link-{ifindex}-{}", mode.name()))
    }

    /// Whether a pin of this name is one of a link.
    pub(super) fn is_pin(name: &str) -> bool {
        Self::parse_pin(name).is_some()
    }

    fn parse_pin(name: &str) -> Option<(u32, Mode)> {
        let (ifindex, mode) = name.strip_prefix("link-")?.split_once('-')?;
        let mode = [Mode::Native, Mode::Generic].into_iter().find(|m| m.name() == mode)?;
        Some((ifindex.parse().ok()?, mode))
    }

    pub(super) fn get(&self, ifindex: u32) -> Option<&Attached> {
        self.held.get(&ifindex).map(|h| &h.attached)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attached> {
        self.held.values().map(|h| &h.attached)
    }

    /// Puts the program under every link that an earlier agent pinned, one of another version included; pins whose device
    /// is gone are removed.
    pub(super) fn adopt(&mut self, ebpf: &mut Ebpf, maps: &mut Maps) -> Result<Vec<Attached>, XdpError> {
        self.adopt_from(ebpf, maps, &self.dir.clone())?;
        for other in bpffs::other_versions(&self.dir)? {
            self.adopt_from(ebpf, maps, &other)?;
            bpffs::remove(&other)?;
        }
        Ok(self.iter().cloned().collect())
    }

    fn adopt_from(&mut self, ebpf: &mut Ebpf, maps: &mut Maps, dir: &Path) -> Result<(), XdpError> {
        for name in bpffs::names(dir)? {
            let Some((ifindex, mode)) = Self::parse_pin(&name) else { continue };
            let pin = dir.join(&name);
            match self.adopt_one(ebpf, maps, ifindex, mode, &pin) {
                Ok(held) => {
                    self.held.insert(ifindex, held);
                }
                Err(why) => {
                    tracing::info!(ifindex, why, "removing the pin of an XDP link that no longer serves");
                    bpffs::unpin(&pin)?;
                }
            }
        }
        Ok(())
    }

    fn adopt_one(
        &self,
        ebpf: &mut Ebpf,
        maps: &mut Maps,
        ifindex: u32,
        mode: Mode,
        pin: &Path,
    ) -> Result<Held, String> {
        match sys::link_ifindex(pin) {
            Ok(i) if i == ifindex => {}
            Ok(_) => return Err("its device is gone".into()),
            Err(e) => return Err(e.to_string()),
        }
        let device = device::query(ifindex).map_err(|e| e.to_string())?;
        let device = device.ok_or("its device is not in this network namespace")?;
        let port = maps.add_port(ifindex).map_err(|e| e.to_string())?;
        let link = FdLink::from(PinnedLink::from_pin(pin).map_err(|e| e.to_string())?);
        let link = XdpLink::try_from(link).map_err(|e| e.to_string())?;
        let program = program_mut(ebpf).map_err(|e| e.to_string())?;
        let id = program.attach_to_link(link).map_err(|e| reason(&e))?;
        let mut link = take(program, id).map_err(|e| e.to_string())?;
        let own = self.pin(ifindex, mode);
        if own != pin {
            link = link.pin(&own).map_err(|e| reason(&e))?.into();
        }
        let why = format!("taken over from the agent before, driver {}", device.driver());
        let attached = Attached { ifindex, ifname: device.name, mode, why, port };
        Ok(Held { _link: link, pin: own, attached })
    }

    pub(super) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        ifindex: u32,
        ifname: &str,
        wish: Wish,
        port: u32,
    ) -> Result<Attached, XdpError> {
        let put = |mode: Mode| {
            let done = program_mut(ebpf).map(|p| p.attach_to_if_index(ifindex, mode.flags()).map_err(|e| reason(&e)));
            done.unwrap_or_else(|e| Err(e.to_string()))
        };
        let (id, attached) = try_modes(ifindex, ifname, wish, port, put)?;
        self.hold(ebpf, id, attached)
    }

    fn hold(&mut self, ebpf: &mut Ebpf, id: XdpLinkId, attached: Attached) -> Result<Attached, XdpError> {
        let link = take(program_mut(ebpf)?, id)?;
        let pin = self.pin(attached.ifindex, attached.mode);
        bpffs::unpin(&pin)?;
        let pinned = link.pin(&pin).map_err(|e| XdpError::Program { what: "pin", reason: reason(&e) })?;
        let held = Held { _link: pinned.into(), pin, attached: attached.clone() };
        self.held.insert(attached.ifindex, held);
        Ok(attached)
    }

    pub(super) fn detach(&mut self, ifindex: u32) -> Result<(), XdpError> {
        let held = self.held.get(&ifindex).ok_or(XdpError::NotAttached(ifindex))?;
        bpffs::unpin(&held.pin)?;
        self.held.remove(&ifindex);
        Ok(())
    }

    pub(super) fn detach_all(&mut self) -> Result<(), XdpError> {
        while let Some(ifindex) = self.held.keys().next().copied() {
            self.detach(ifindex)?;
        }
        Ok(())
    }
}

/// Puts the program onto a device by `put`, in the first mode of the wish that works, and never instead of another's program.
pub(super) fn try_modes<L>(
    ifindex: u32,
    ifname: &str,
    wish: Wish,
    port: u32,
    mut put: impl FnMut(Mode) -> Result<L, String>,
) -> Result<(L, Attached), XdpError> {
    let failed = |reason| XdpError::Attach { ifname: ifname.into(), reason };
    let device = device::query(ifindex).map_err(|e| failed(e.to_string()))?;
    let device = device.ok_or_else(|| failed("it is gone: see `ip link`".into()))?;
    let occupied = |id| XdpError::Occupied { ifname: ifname.into(), id, name: device::program_name(id) };
    if let Some(id) = device.program {
        return Err(occupied(id));
    }
    let modes: &[Mode] = match wish {
        Wish::Auto => &[Mode::Native, Mode::Generic],
        Wish::Native => &[Mode::Native],
        Wish::Generic => &[Mode::Generic],
    };
    let mut failures: Vec<String> = Vec::new();
    for mode in modes {
        match put(*mode) {
            Ok(link) => {
                let why = match (mode, failures.first()) {
                    (Mode::Native, _) => format!("driver {}", device.driver()),
                    (Mode::Generic, Some(failure)) => failure.clone(),
                    (Mode::Generic, None) => "asked for".into(),
                };
                return Ok((link, Attached { ifindex, ifname: ifname.into(), mode: *mode, why, port }));
            }
            Err(error) => failures.push(format!("{} failed: {error}", mode.name())),
        }
    }
    // Somebody may have been faster.
    if let Ok(Some(device::Device { program: Some(id), .. })) = device::query(ifindex) {
        return Err(occupied(id));
    }
    Err(failed(failures.join("; ")))
}

/// The link itself; aya would end it together with the program.
fn take(program: &mut aya::programs::Xdp, id: XdpLinkId) -> Result<FdLink, XdpError> {
    let link = program.take_link(id).map_err(|e| XdpError::program("keep", e))?;
    link.try_into().map_err(|e| XdpError::Program { what: "keep", reason: reason(&e) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_names_device_and_mode() {
        let links = Links::new(Path::new("/x"));
        let name = links.pin(17, Mode::Generic);
        let name = name.file_name().and_then(|n| n.to_str()).expect("a name");
        assert_eq!(Links::parse_pin(name), Some((17, Mode::Generic)));
        assert_eq!(Links::parse_pin("link-x-native"), None);
        assert_eq!(Links::parse_pin("link-3-other"), None);
        assert_eq!(Links::parse_pin("RX"), None);
    }
}
