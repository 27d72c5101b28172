//! Where pins live: the BPF file system, and this agent's directory on it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::XdpError;

/// Where a bpffs is mounted by convention.
const BPFFS: &str = "/sys/fs/bpf";
/// `f_type` of a bpffs.
const MAGIC: u64 = 0xcafe_4a11;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> XdpError {
    move |source| XdpError::Pins { what, path: path.to_owned(), source }
}

/// Kernels before 5.11 count maps against this limit. Failing is no harm on others.
pub(super) fn raise_memlock() {
    if let Err(error) = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }) {
        tracing::debug!(%error, "the limit of locked memory stays as it is");
    }
}

/// Makes `dir`, mounting a bpffs first when the usual place has none.
pub(super) fn prepare(dir: &Path) -> Result<(), XdpError> {
    if dir.starts_with(BPFFS) {
        mounted()?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
    if !is_bpffs(dir)? {
        let error = io::Error::new(io::ErrorKind::Unsupported, "it is not on a BPF file system");
        return Err(failed("pin to", dir)(error));
    }
    Ok(())
}

/// Mounts the BPF file system where it belongs, if it is not there.
pub(super) fn mounted() -> Result<(), XdpError> {
    let root = Path::new(BPFFS);
    if is_bpffs(root)? {
        return Ok(());
    }
    mount("bpf", root, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .map_err(|e| failed("mount a BPF file system at", root)(e.into()))
}

fn is_bpffs(path: &Path) -> Result<bool, XdpError> {
    let stat = rustix::fs::statfs(path).map_err(|e| failed("examine", path)(e.into()))?;
    Ok(stat.f_type as u64 & 0xffff_ffff == MAGIC)
}

/// Removes a pin, if it is there.
pub(super) fn unpin(path: &Path) -> Result<(), XdpError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove the pin", path)(e)),
        _ => Ok(()),
    }
}

/// The names of the pins in `dir`.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, XdpError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// The layout that a directory of pins belongs to: its name is `v` and a number.
pub(super) fn version(dir: &Path) -> Option<u32> {
    dir.file_name()?.to_str()?.strip_prefix('v')?.parse().ok()
}

/// The directories beside `dir` in which an agent of another layout pinned.
pub(super) fn other_versions(dir: &Path) -> Result<Vec<PathBuf>, XdpError> {
    let (Some(parent), Some(_)) = (dir.parent(), version(dir)) else { return Ok(Vec::new()) };
    let all = names(parent)?.into_iter().map(|n| parent.join(n));
    Ok(all.filter(|other| version(other).is_some() && other != dir).collect())
}

/// The directory in `dir` that tells that an agent ended and left transit on purpose. The file system knows no plain files.
const KEPT: &str = "kept";

/// Notes that the agent of `dir` ends and transit is to go on.
pub(super) fn mark_kept(dir: &Path) -> Result<(), XdpError> {
    let mark = dir.join(KEPT);
    match fs::create_dir(&mark) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("create", &mark)(e)),
        _ => Ok(()),
    }
}

/// Takes [`mark_kept`] back.
pub(super) fn unmark_kept(dir: &Path) -> Result<(), XdpError> {
    let mark = dir.join(KEPT);
    match fs::remove_dir(&mark) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &mark)(e)),
        _ => Ok(()),
    }
}

/// Whether the agent of `dir` left transit on purpose.
pub(super) fn is_kept(dir: &Path) -> bool {
    dir.join(KEPT).exists()
}

/// Removes `dir` with all pins in it, and the directory above when nothing else is there.
pub(super) fn remove(dir: &Path) -> Result<(), XdpError> {
    unmark_kept(dir)?;
    for name in names(dir)? {
        unpin(&dir.join(name))?;
    }
    fs::remove_dir(dir).map_err(failed("remove", dir))?;
    if let Some(parent) = dir.parent() {
        // Refused while another version, or the file system itself, is there.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}
