//! bpf-linker: it generates the code, so its LLVM must understand the compiler's bitcode.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::toolchain::{self, Compiler, Toolchain};
use crate::sh;

/// The release that is used.
pub(crate) const VERSION: &str = "0.13.0";

/// The LLVM versions this release builds with and Debian packages.
pub(crate) const LLVM: [u32; 2] = [22, 21];

/// LLVM does its work; optimising what is around it would only take longer.
const QUICK: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
];

/// Where setup puts it: beside, not over, what the user has.
fn own(llvm: u32) -> PathBuf {
    sh::target(format!("toolchain/bpf-linker-{VERSION}-llvm{llvm}"))
}

/// Where this LLVM is with its headers: where the package puts it, or in the unpacked package.
pub(crate) fn llvm_prefix(llvm: u32) -> Option<PathBuf> {
    let places = [PathBuf::from("/usr"), toolchain::private().join("usr")];
    let mut prefixes = places.iter().map(|usr| usr.join(format!("lib/llvm-{llvm}")));
    prefixes.find(|prefix| prefix.join("bin/llvm-config").is_file() && prefix.join("include/llvm-c").is_dir())
}

/// The packages its build needs.
pub(crate) fn packages(llvm: u32) -> [String; 2] {
    [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")]
}

/// The linker for this compiler, when the machine has one of the right release and LLVM.
pub(crate) fn find(compiler: &Compiler) -> Option<Toolchain> {
    let own = own(compiler.llvm).join("bin/bpf-linker");
    let cargo_bin = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin/bpf-linker"));
    [Some(own), sh::find("bpf-linker"), cargo_bin].into_iter().flatten().find_map(|linker| {
        let version = sh::read(compiler.command(&linker).arg("--version")).ok()?;
        if version.split_whitespace().last() != Some(VERSION) {
            return None;
        }
        let linker_llvm = llvm_of(compiler, &linker)?;
        (linker_llvm.split('.').next() == Some(&compiler.llvm.to_string())).then(|| Toolchain {
            compiler: compiler.clone(),
            linker,
            linker_llvm,
        })
    })
}

/// Version of the shared LLVM that the linker loads, asked from the `llvm-config` of the package it comes from.
fn llvm_of(compiler: &Compiler, linker: &Path) -> Option<String> {
    let loaded = sh::read(compiler.command(Path::new("ldd")).arg(linker)).ok()?;
    let library = loaded.lines().find(|line| line.trim().starts_with("libLLVM") && !line.contains("not found"))?;
    let major = library.trim().trim_start_matches(|c: char| !c.is_ascii_digit()).split(['.', ' ']).next()?;
    let config = llvm_prefix(major.parse().ok()?)?.join("bin/llvm-config");
    let mut command = sh::cmd(&config);
    if config.starts_with(toolchain::private()) {
        command.env("LD_LIBRARY_PATH", toolchain::private_libraries());
    }
    sh::read(command.arg("--version")).ok()
}

/// Builds and installs it for this LLVM, whose packages must be there.
///
/// # Errors
///
/// When cargo cannot fetch or build it.
pub(crate) fn install(llvm: u32) -> Result<()> {
    let prefix = llvm_prefix(llvm).with_context(|| format!("LLVM {llvm} is not installed with its headers"))?;
    let mut command = sh::cargo();
    command.args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force", "--no-default-features"]);
    command.arg(format!("--features=llvm-{llvm}")).arg("--root").arg(own(llvm));
    command.env("LLVM_PREFIX", &prefix).envs(QUICK);
    if prefix.starts_with(toolchain::private()) {
        // The old kind of search path holds for the libraries that libLLVM needs in its turn.
        let libraries = toolchain::private_libraries();
        let search = libraries.replace(':', " -L");
        let flags = format!("-L{search} -Clink-arg=-Wl,--disable-new-dtags,-rpath,{libraries}");
        command.env("LD_LIBRARY_PATH", &libraries).env("RUSTFLAGS", flags);
    }
    println!("setup: LLVM_PREFIX={} {}", prefix.display(), sh::line(&command));
    sh::run(&mut command)
}
