//! The demo: three hosts on one machine.

use anyhow::{Result, bail};

/// The arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the demo.
///
/// # Errors
///
/// Always, for now.
pub(crate) fn run(_args: Args) -> Result<()> {
    bail!("the demo is not built yet")
}
