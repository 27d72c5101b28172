//! How the BPF objects are built.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};

use super::wrapper;
use crate::{setup::toolchain::Toolchain, sh};

/// The binaries of `rovy-ebpf` and the objects they become. A binary that the crate does not have is left out.
const OBJECTS: [(&str, &str); 3] = [("rovy", "rovy.bpf.o"), ("bench", "bench.bpf.o"), ("traffic", "traffic.bpf.o")];

/// What follows `cargo`.
const CARGO: [&str; 7] = [
    "build",
    "--release",
    "--locked",
    "-Zbuild-std=core",
    "--target=bpfel-unknown-none",
    "--manifest-path",
    "rovy-ebpf/Cargo.toml",
];

/// Compiler flags that are the same everywhere. Unaligned reads are one instruction only with the feature the linker gets, and the
/// atomic instructions exist from version 3 of the target on.
const FLAGS: [&str; 3] =
    ["-Ctarget-cpu=v3", "-Clink-arg=--cpu-features=+allows-misaligned-mem-access", "-Cdebuginfo=0"];

/// The recipe as text: changing it asks for new objects as changing a source does.
pub(super) fn recipe() -> String {
    format!("{} | {}", CARGO.join(" "), FLAGS.join(" "))
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

/// Builds the objects; their bytes do not depend on where the checkout, cargo's home or the toolchain are.
///
/// # Errors
///
/// When the build fails.
pub(super) fn objects(toolchain: &Toolchain) -> Result<BTreeMap<String, Vec<u8>>> {
    let compiler = &toolchain.compiler;
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
    flags.push(format!("-Clinker={}", toolchain.linker.display()));
    let mut remap =
        |from: &std::path::Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    // Of several that fit, the compiler takes the last one.
    remap(&compiler.sysroot, "/rust");
    if let Some(home) = cargo_home() {
        remap(&home, "/cargo");
    }
    remap(&sh::root(), "/rovy");

    let dir = sh::target("ebpf");
    let mut command = compiler.command(&compiler.cargo);
    command.args(CARGO).arg("--target-dir").arg(&dir).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command.env("RUSTC_WRAPPER", std::env::current_exe()?).env(wrapper::VARIABLE, "1");
    sh::run(&mut command).context("the BPF build failed")?;

    let mut objects = BTreeMap::new();
    for (binary, object) in OBJECTS {
        let path = dir.join("bpfel-unknown-none/release").join(binary);
        if has_binary(binary)? {
            let bytes = fs::read(&path).with_context(|| format!("the build left no {}", path.display()))?;
            objects.insert(object.to_owned(), bytes);
        }
    }
    Ok(objects)
}

/// An old build directory may hold a binary that the crate no longer has.
fn has_binary(name: &str) -> Result<bool> {
    let path = sh::root().join("rovy-ebpf/Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: toml::Table = toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    let bins = manifest.get("bin").and_then(toml::Value::as_array);
    Ok(bins.is_some_and(|bins| bins.iter().any(|bin| bin.get("name").and_then(toml::Value::as_str) == Some(name))))
}
