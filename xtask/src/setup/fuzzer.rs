//! What runs the fuzzers: cargo-fuzz, and a nightly compiler with the instrumentation they need.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::toolchain::{self, NIGHTLY};
use crate::sh;

/// The release that is installed where there is none.
const VERSION: &str = "0.13.2";

fn own() -> PathBuf {
    sh::target(format!("toolchain/cargo-fuzz-{VERSION}"))
}

fn cargo_fuzz() -> Option<PathBuf> {
    let own = own().join("bin/cargo-fuzz");
    sh::find("cargo-fuzz").or_else(|| Some(own).filter(|file| file.is_file()))
}

/// Where the nightly is, when rustup has it.
fn sysroot() -> Option<PathBuf> {
    let mut command = sh::cmd(toolchain::rustup()?);
    sh::scrub(&mut command).args(["run", NIGHTLY, "rustc", "--print", "sysroot"]);
    sh::read(&mut command).ok().map(PathBuf::from)
}

/// What is missing, as one would say it.
pub(crate) fn missing() -> Vec<String> {
    let nightly = sysroot().is_none().then(|| format!("rustup's {NIGHTLY}"));
    let runner = cargo_fuzz().is_none().then(|| format!("cargo-fuzz {VERSION} (built by cargo)"));
    nightly.into_iter().chain(runner).collect()
}

/// Installs what is missing: the nightly beside other toolchains, cargo-fuzz below the build directory.
///
/// # Errors
///
/// When there is no rustup, or something cannot be fetched or built.
pub(crate) fn install() -> Result<()> {
    if sysroot().is_none() {
        toolchain::install_nightly().with_context(|| {
            format!("fuzzing needs rustup (https://rustup.rs): Debian's compilers lack the fuzzer's instrumentation; then {NIGHTLY}")
        })?;
    }
    if cargo_fuzz().is_none() {
        let mut command = sh::cargo();
        command.args(["install", "cargo-fuzz", "--version", VERSION, "--locked", "--root"]).arg(own());
        println!("setup: {}", sh::line(&command));
        sh::run(&mut command)?;
    }
    Ok(())
}

/// cargo-fuzz with the nightly.
///
/// # Errors
///
/// When it is missing.
pub(crate) fn command() -> Result<Command> {
    let rustup = toolchain::rustup().context("there is no rustup; `cargo xtask fuzz` tells what is missing")?;
    let runner = cargo_fuzz().context("there is no cargo-fuzz; `cargo xtask fuzz` installs it")?;
    let mut command = sh::cmd(rustup);
    sh::scrub(&mut command).args(["run", NIGHTLY]).arg(runner).arg("fuzz");
    Ok(command)
}

/// The sanitizer to build with: that of addresses, where the nightly brings its runtime.
pub(crate) fn sanitizer() -> &'static str {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let lib = sysroot().map(|root| root.join("lib/rustlib").join(host).join("lib/librustc-nightly_rt.asan.a"));
    if lib.is_some_and(|lib| lib.is_file()) { "address" } else { "none" }
}
