//! `cargo xtask sim`: the simulator is a program of its own, built optimised.

use std::ffi::OsString;

use anyhow::Result;

use crate::sh;

/// The arguments of `cargo xtask sim`, which the simulator reads itself.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the simulator; --help tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// Builds and runs it.
///
/// # Errors
///
/// When it does not build or fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut build = sh::cargo();
    build.args(["build", "--package", "rovy-sim", "--profile", "demo"]);
    if !sh::target("demo/rovy-sim").exists() {
        eprintln!("sim: building the simulator (the first time takes some minutes)");
    } else {
        build.arg("--quiet");
    }
    sh::run(&mut build)?;
    sh::run(sh::cmd(sh::target("demo/rovy-sim")).args(&args.options))
}
