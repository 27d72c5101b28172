//! Directories for one run.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A number no other caller in this process gets.
pub(crate) fn number() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A directory of its own below the system's temporary directory, removed on drop; `ROVY_KEEP=1` keeps it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates an empty directory, mode 0700, with `name` in its name.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(name: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("rovy-{}-{}-{name}", std::process::id(), number()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create the directory {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("ROVY_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
