//! `cargo xtask build-ebpf`: the committed BPF objects, and whether they belong to their sources.

mod build;
mod sources;
mod wrapper;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub(crate) use wrapper::intercept;

use crate::{
    setup::{self, Needs},
    sh,
};

/// The arguments of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing: fail when the committed objects do not belong to the sources
    #[arg(long)]
    check: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// What stands beside the objects.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Record {
    /// BLAKE2s-256 of the sources and the recipe.
    sources: String,
    /// What built the objects.
    toolchain: String,
    /// BLAKE2s-256 of each object, by its file name.
    objects: BTreeMap<String, String>,
}

/// How the committed objects compare with a build of today.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The recorded toolchain built the same bytes.
    Same,
    /// Another toolchain built these objects here, which have to pass the tests in their turn.
    Fresh(PathBuf),
}

/// Where the committed objects are.
pub(crate) fn prebuilt() -> PathBuf {
    sh::root().join("rovy-ebpf/prebuilt")
}

/// The file that `ROVY_BPF_OBJECT` names for tests of another than the committed object.
pub(crate) fn object(dir: &Path) -> PathBuf {
    dir.join("rovy.bpf.o")
}

/// All objects in a directory.
///
/// # Errors
///
/// When there are none.
pub(crate) fn objects(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut objects: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    objects.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
    objects.sort();
    ensure!(!objects.is_empty(), "there are no BPF objects in {}: run `cargo xtask build-ebpf`", dir.display());
    Ok(objects)
}

fn record() -> Result<Record> {
    let path = prebuilt().join("rovy.bpf.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a record of a build", path.display()))
}

/// What built the committed objects.
pub(crate) fn recorded_toolchain() -> Option<String> {
    record().ok().map(|record| record.toolchain)
}

/// Builds, or checks.
///
/// # Errors
///
/// When the build fails, or the check finds a difference.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Needs { ebpf: true, ..Needs::default() }, args.yes)?;
    if !args.check {
        return write();
    }
    match check()? {
        Verdict::Same => Ok(()),
        Verdict::Fresh(dir) => crate::test::differential(&object(&dir)),
    }
}

fn write() -> Result<()> {
    let toolchain = setup::chosen().context("no toolchain: run `cargo xtask setup`")?;
    println!("build-ebpf: {}", toolchain.describe());
    let objects = build::objects(&toolchain)?;
    let dir = prebuilt();
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut hashes = BTreeMap::new();
    for (name, bytes) in &objects {
        let path = dir.join(name);
        let changed = fs::read(&path).ok().as_ref() != Some(bytes);
        if changed {
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        println!("build-ebpf: {name} {} bytes, {}", bytes.len(), if changed { "new" } else { "unchanged" });
        hashes.insert(name.clone(), sources::hash_bytes(bytes));
    }
    let record = Record { sources: sources::hash()?, toolchain: toolchain.describe(), objects: hashes };
    let text =
        format!("# Written by `cargo xtask build-ebpf`; checked by `cargo xtask test`.\n{}", toml::to_string(&record)?);
    let path = dir.join("rovy.bpf.toml");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Whether the committed objects belong to the sources.
///
/// # Errors
///
/// When the sources or the objects are not the recorded ones, or the recorded toolchain builds something else from them.
pub(crate) fn check() -> Result<Verdict> {
    let record = record().context("run `cargo xtask build-ebpf` and commit rovy-ebpf/prebuilt")?;
    if sources::hash()? != record.sources {
        bail!("the sources of the BPF objects changed: run `cargo xtask build-ebpf` and commit rovy-ebpf/prebuilt");
    }
    for (name, hash) in &record.objects {
        let path = prebuilt().join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if sources::hash_bytes(&bytes) != *hash {
            bail!("{} is not the object its record describes: run `cargo xtask build-ebpf`", path.display());
        }
    }
    let toolchain = setup::chosen().context("no toolchain: run `cargo xtask setup`")?;
    let fresh = build::objects(&toolchain)?;
    if toolchain.describe() == record.toolchain {
        compare(&record, &fresh)?;
        println!("build-ebpf: the committed objects are what {} builds", record.toolchain);
        return Ok(Verdict::Same);
    }
    println!("build-ebpf: recorded: {}", record.toolchain);
    println!("build-ebpf: here:     {}", toolchain.describe());
    println!("build-ebpf: the bytes of two toolchains cannot be compared, so the fresh build is tested too");
    let dir = sh::target("ebpf/fresh");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (name, bytes) in &fresh {
        fs::write(dir.join(name), bytes)?;
    }
    Ok(Verdict::Fresh(dir))
}

fn compare(record: &Record, fresh: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let hashes: BTreeMap<String, String> =
        fresh.iter().map(|(name, bytes)| (name.clone(), sources::hash_bytes(bytes))).collect();
    if hashes != record.objects {
        let differing: Vec<&str> = hashes
            .iter()
            .filter(|(name, hash)| record.objects.get(*name) != Some(hash))
            .map(|(name, _)| name.as_str())
            .collect();
        bail!("a build with the recorded toolchain gives other bytes for {}", differing.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_object_is_found() {
        let objects = BTreeMap::from([("rovy.bpf.o".to_owned(), sources::hash_bytes(b"as committed"))]);
        let record = Record { sources: String::new(), toolchain: String::new(), objects };
        let fresh = |bytes: &[u8]| BTreeMap::from([("rovy.bpf.o".to_owned(), bytes.to_vec())]);
        assert!(compare(&record, &fresh(b"as committed")).is_ok());
        let error = compare(&record, &fresh(b"as built")).unwrap_err().to_string();
        assert!(error.contains("rovy.bpf.o"), "{error}");
    }
}
