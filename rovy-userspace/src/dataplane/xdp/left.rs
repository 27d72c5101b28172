//! What lies below `/sys/fs/bpf/rovy`, and whose it still is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, futimens};

use super::attach::Links;
use super::{XdpError, bpffs, sys};

/// Where every node has its directory.
pub const ROOT: &str = "/sys/fs/bpf/rovy";

/// What became of the agent that pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agent {
    /// It runs.
    Alive,
    /// It ended and left transit on purpose, so long ago.
    Kept(Duration),
    /// It ended without tidying up; it was alive so long ago.
    Crashed(Duration),
}

/// The pins of one node and one layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// The directory.
    pub dir: PathBuf,
    /// Whose they are.
    pub agent: Agent,
    /// Pins of XDP links whose device is gone.
    pub dead_links: Vec<PathBuf>,
}

/// Marks a directory as held for as long as the value lives.
pub(super) struct Hold(Option<File>);

impl Hold {
    pub(super) fn take(dir: &Path) -> Self {
        let file = File::open(dir).ok();
        Self(file.filter(|file| flock(file, FlockOperation::NonBlockingLockShared).is_ok()))
    }

    /// Tells that the agent is alive now: the directory's time of change is its last sign of life.
    pub(super) fn beat(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        if let Some(file) = &self.0
            && let Err(error) = futimens(file, &times)
        {
            tracing::debug!(%error, "cannot leave a sign of life");
        }
    }
}

/// Every directory of pins below `root`, normally [`ROOT`].
///
/// # Errors
/// A directory cannot be listed. That there is none is no error.
pub fn left(root: &Path) -> Result<Vec<Left>, XdpError> {
    let mut all = Vec::new();
    if !root.try_exists().unwrap_or(true) {
        return Ok(all);
    }
    for node in directories(root)? {
        for dir in directories(&node)? {
            let names = names(&dir)?;
            let pins = names.iter().filter(|name| Links::is_pin(name)).map(|name| dir.join(name));
            let dead_links = pins.filter(|pin| matches!(sys::link_ifindex(pin), Ok(0))).collect();
            all.push(Left { agent: agent(&dir), dir, dead_links });
        }
    }
    all.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(all)
}

/// Directories in a directory. What somebody else pins there is no agent's.
fn directories(dir: &Path) -> Result<Vec<PathBuf>, XdpError> {
    Ok(names(dir)?.into_iter().map(|name| dir.join(name)).filter(|path| path.is_dir()).collect())
}

/// Names in a directory; none in one that an agent has just removed.
fn names(dir: &Path) -> Result<Vec<String>, XdpError> {
    match bpffs::names(dir) {
        Err(_) if !dir.exists() => Ok(Vec::new()),
        names => names,
    }
}

fn agent(dir: &Path) -> Agent {
    let held = |file: File| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
    if File::open(dir).is_ok_and(held) {
        return Agent::Alive;
    }
    let changed = dir.metadata().and_then(|m| m.modified()).ok();
    let age = changed.and_then(|at| at.elapsed().ok()).unwrap_or_default();
    if bpffs::is_kept(dir) { Agent::Kept(age) } else { Agent::Crashed(age) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_directory_is_nobodys() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(root.path().join("node/v1")).expect("made");
        std::fs::create_dir(root.path().join("other")).expect("made");
        std::fs::write(root.path().join("other/MAP"), "").expect("written");
        std::fs::write(root.path().join("stray"), "").expect("written");
        let found = left(root.path()).expect("listed");
        assert_eq!(found.iter().map(|l| l.dir.clone()).collect::<Vec<_>>(), [root.path().join("node/v1")]);
    }
}
