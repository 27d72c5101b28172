//! `cargo xtask dist`.

use std::fs;

use anyhow::{Context, Result};

use crate::{ebpf, install, setup, sh};

/// The arguments of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Packs the binary, the NSS module, its unit, manual pages, completions, the licences and the README; the archive depends on
/// nothing but its files.
///
/// # Errors
///
/// When the committed BPF objects do not belong to the sources, or a build fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Needs { ebpf: true, ..setup::Needs::default() }, args.yes)?;
    ebpf::check()?;
    let (binary, module) = (install::build()?, install::build_module()?);

    let name = format!("rovy-{}-{}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let dist = sh::target("dist");
    let dir = dist.join(&name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let files = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"].map(|file| sh::root().join(file));
    for file in files.iter().chain([&binary, &module, &install::unit()]) {
        let target = dir.join(file.file_name().context("a file without a name")?);
        fs::copy(file, &target).with_context(|| format!("cannot copy {} into the archive", file.display()))?;
    }

    for (made, place) in install::described(&binary)? {
        let target = dir.join(place);
        fs::create_dir_all(target.parent().context("a place without a directory")?)?;
        fs::copy(&made, &target).with_context(|| format!("cannot copy {} into the archive", made.display()))?;
    }

    let archive = dist.join(format!("{name}.tar.gz"));
    let mut tar = sh::cmd("tar");
    tar.current_dir(&dist).args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]);
    // gzip would otherwise write the time into its header.
    tar.args(["--use-compress-program=gzip -n", "-cf"]);
    sh::run(tar.arg(&archive).arg(&name))?;
    println!("dist: {}", archive.display());
    Ok(())
}
