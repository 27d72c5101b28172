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

/// What has network managers leave the agent's devices alone, and where it goes.
const LEFT_ALONE: [(&str, &str); 2] =
    [("70-rovy.rules", "lib/udev/rules.d"), ("10-rovy.network", "lib/systemd/network")];

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

/// What the binary says about itself, made anew: manual pages and completions, as paths below a prefix.
///
/// # Errors
///
/// When the binary does not run or the directory cannot be written.
pub(crate) fn described(binary: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let dir = sh::target("share");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let man = dir.join("man/man1");
    fs::create_dir_all(&man).with_context(|| format!("cannot create {}", man.display()))?;
    sh::run(sh::cmd(binary).arg("man").arg(&man))?;
    let mut files = Vec::new();
    for page in fs::read_dir(&man)? {
        let page = page?;
        files.push((page.path(), Path::new("share/man/man1").join(page.file_name())));
    }
    files.sort();
    for (shell, place) in COMPLETIONS {
        let made = dir.join(shell);
        fs::write(&made, sh::read(sh::cmd(binary).args(["completions", shell]))?)?;
        files.push((made, place.into()));
    }
    Ok(files)
}

/// Where each shell looks, below a prefix.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/rovy"),
    ("zsh", "share/zsh/site-functions/_rovy"),
    ("fish", "share/fish/vendor_completions.d/rovy.fish"),
];

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
    for (file, to) in LEFT_ALONE {
        put("0644", &sh::root().join("packaging").join(file), &prefix.join(to).join(file))?;
    }
    for (made, place) in described(&built)? {
        put("0644", &made, &prefix.join(place))?;
    }
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
