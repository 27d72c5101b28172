//! What lies below `/sys/fs/bpf/rovy`, and whose it still is.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::attach::Links;
use super::{XdpError, bpffs, sys};

/// Where every node has its directory.
pub const ROOT: &str = "/sys/fs/bpf/rovy";

/// The pins of one node and one layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// The directory.
    pub dir: PathBuf,
    /// Whether an agent runs that holds it.
    pub alive: bool,
    /// Pins of XDP links whose device is gone.
    pub dead_links: Vec<PathBuf>,
}

/// Marks a directory as held for as long as the file is open.
pub(super) fn hold(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
    Some(file)
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
    for node in names(root)? {
        let node = root.join(node);
        for version in names(&node)? {
            let dir = node.join(version);
            let names = names(&dir)?;
            let pins = names.iter().filter(|name| Links::is_pin(name)).map(|name| dir.join(name));
            let dead_links = pins.filter(|pin| matches!(sys::link_ifindex(pin), Ok(0))).collect();
            all.push(Left { alive: held(&dir), dir, dead_links });
        }
    }
    all.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(all)
}

/// Names in a directory; none in one that an agent has just removed.
fn names(dir: &Path) -> Result<Vec<String>, XdpError> {
    match bpffs::names(dir) {
        Err(_) if !dir.exists() => Ok(Vec::new()),
        names => names,
    }
}

fn held(dir: &Path) -> bool {
    let Ok(file) = File::open(dir) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}
