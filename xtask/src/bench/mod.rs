//! Benchmarks.

use anyhow::{Result, bail};

/// The arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// What one hop costs in the kernel
    Switch,
}

/// Runs a benchmark.
///
/// # Errors
///
/// Always, for now.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.what {
        What::Switch => bail!("the switch benchmark is not built yet"),
    }
}
