//! `cargo xtask install`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sh;

/// The arguments of `cargo xtask install`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory that has, or gets, bin/rovy, lib/libnss_rovy.so.2 and lib/systemd/system/rovy.service
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

/// Where the dynamic linker finds libraries once `ldconfig` has run.
const LINKED: [&str; 2] = ["/usr", "/usr/local"];

/// Builds the NSS module as this user, with the profile that suits foreign programs; under the name that glibc looks for.
///
/// # Errors
///
/// When the build fails.
pub(crate) fn build_module() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--profile", "nss", "--locked", "--package", "rovy-nss"]))?;
    let named = sh::target("nss/libnss_rovy.so.2");
    fs::copy(sh::target("nss/libnss_rovy.so"), &named).context("cargo built no libnss_rovy.so")?;
    Ok(named)
}

/// The unit in the repository, for the usual prefix.
pub(crate) fn unit() -> PathBuf {
    sh::root().join("packaging/rovy.service")
}

/// The unit's text for another prefix.
fn unit_for(text: &str, binary: &Path) -> String {
    text.replace("/usr/local/bin/rovy", &binary.display().to_string())
}

/// Builds as this user; only putting files into place uses sudo, and only where it must.
///
/// # Errors
///
/// When the build fails or the directory cannot be written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (built, module) = (build()?, build_module()?);
    let prefix = std::path::absolute(&args.prefix)?;
    let target = prefix.join("bin/rovy");
    put("0755", &built, &target)?;
    put("0644", &module, &prefix.join("lib/libnss_rovy.so.2"))?;
    if LINKED.iter().any(|linked| prefix == Path::new(linked)) {
        let mut ldconfig = sh::as_root("ldconfig");
        println!("install: {}", sh::line(&ldconfig));
        sh::run(&mut ldconfig)?;
    } else {
        println!("install: programs find lib/libnss_rovy.so.2 below /usr and /usr/local only");
    }
    let text = fs::read_to_string(unit()).context("cannot read the unit file")?;
    let unit = sh::target("rovy.service");
    fs::write(&unit, unit_for(&text, &target)).with_context(|| format!("cannot write {}", unit.display()))?;
    put("0644", &unit, &prefix.join("lib/systemd/system/rovy.service"))?;
    println!("installed {}; next: sudo rovy start, or: sudo systemctl enable --now rovy", target.display());
    Ok(())
}

fn put(mode: &str, from: &Path, to: &Path) -> Result<()> {
    let command = ["-D", "-m", mode];
    let mut own = sh::cmd("install");
    own.args(command).arg(from).arg(to).stderr(std::process::Stdio::null());
    if sh::is_root() || !own.status().is_ok_and(|status| status.success()) {
        let mut install = sh::as_root("install");
        install.args(command).arg(from).arg(to);
        println!("install: {}", sh::line(&install));
        sh::run(&mut install)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_binary_that_was_installed() {
        let text = fs::read_to_string(unit()).expect("the unit");
        assert!(unit_for(&text, Path::new("/opt/bin/rovy")).contains("\nExecStart=/opt/bin/rovy start\n"));
    }
}
