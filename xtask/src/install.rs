//! `cargo xtask install`.

use std::path::PathBuf;

use anyhow::Result;

use crate::sh;

/// The arguments of `cargo xtask install`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory that has, or gets, bin/rovy
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
}

/// Builds the release binary as this user.
///
/// # Errors
///
/// When the build fails.
pub(crate) fn build() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--release", "--locked", "--package", "rovy-userspace", "--bin", "rovy"]))?;
    Ok(sh::target("release/rovy"))
}

/// Builds as this user; only putting the binary into place uses sudo, and only where it must.
///
/// # Errors
///
/// When the build fails or the directory cannot be written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let built = build()?;
    let target = std::path::absolute(&args.prefix)?.join("bin/rovy");
    let command = ["-D", "-m", "0755"];
    let mut own = sh::cmd("install");
    own.args(command).arg(&built).arg(&target).stderr(std::process::Stdio::null());
    if sh::is_root() || !own.status().is_ok_and(|status| status.success()) {
        let mut install = sh::as_root("install");
        install.args(command).arg(&built).arg(&target);
        println!("install: {}", sh::line(&install));
        sh::run(&mut install)?;
    }
    println!("installed {}; next: sudo rovy start", target.display());
    Ok(())
}
