use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// The `rovy` binary: `ROVY_BIN`, otherwise the one cargo built beside the running program.
///
/// # Errors
/// When there is none; the error tells how to build it.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ROVY_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("ROVY_BIN names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let me = std::env::current_exe().context("cannot tell which program is running")?;
    beside(&me).with_context(|| {
        format!(
            "there is no rovy binary beside {}; build it with `cargo build -p rovy-userspace`, or name one in ROVY_BIN",
            me.display()
        )
    })
}

/// Tests lie in `target/<profile>/deps`, programs one above.
fn beside(me: &Path) -> Option<PathBuf> {
    me.ancestors().skip(1).take(2).map(|dir| dir.join("rovy")).find(|path| path.is_file())
}
