//! The compilers that can build the XDP programs, and which of them this machine has.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::linker;
use crate::sh;

/// The nightly that setup installs: its LLVM is one that Debian packages for bpf-linker, and a fixed day can be built again.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// Debian's compiler with the sources of `core`.
pub(crate) const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The LLVM of Debian's compiler.
pub(crate) const DEBIAN_LLVM: u32 = 22;

/// Where Debian's packages are unpacked when they cannot be installed.
pub(crate) fn private() -> PathBuf {
    sh::target("toolchain/debian")
}

/// Where the shared libraries of the unpacked packages are, as the dynamic linker wants it: older packages use `/lib`.
pub(crate) fn private_libraries() -> String {
    let place = |lib: &str| private().join(lib).join(format!("{}-linux-gnu", env::consts::ARCH)).display().to_string();
    format!("{}:{}", place("usr/lib"), place("lib"))
}

/// A compiler with the sources of `core`.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    /// `rustc`, by its absolute path: the one in `PATH` may be another.
    pub(crate) rustc: PathBuf,
    /// The cargo beside it.
    pub(crate) cargo: PathBuf,
    /// Directories of the shared libraries of a privately unpacked compiler.
    libraries: Option<String>,
    /// First line of `rustc -vV`.
    pub(crate) version: String,
    /// Major version of its LLVM.
    pub(crate) llvm: u32,
    /// What `rustc --print sysroot` says.
    pub(crate) sysroot: PathBuf,
}

/// A compiler and the bpf-linker that understands its bitcode.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) compiler: Compiler,
    /// `bpf-linker`, by its absolute path.
    pub(crate) linker: PathBuf,
    /// Version of the LLVM the linker uses, which is the one that generates the code.
    pub(crate) linker_llvm: String,
}

impl Compiler {
    fn at(bin: &Path, libraries: Option<String>) -> Option<Self> {
        let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
        if !rustc.is_file() || !cargo.is_file() {
            return None;
        }
        let mut found = Self { rustc, cargo, libraries, version: String::new(), llvm: 0, sysroot: PathBuf::new() };
        let text = sh::read(found.command(&found.rustc).arg("-vV")).ok()?;
        found.version = text.lines().next()?.to_owned();
        found.llvm =
            text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.parse().ok()?;
        found.sysroot = sh::read(found.command(&found.rustc).args(["--print", "sysroot"])).ok()?.into();
        let sources = found.sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        sources.is_file().then_some(found)
    }

    /// A program of this toolchain, with the environment it needs and nothing of another toolchain's.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = sh::cmd(program);
        sh::scrub(&mut command).env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

impl Toolchain {
    /// One line that names everything the object's bytes depend on.
    pub(crate) fn describe(&self) -> String {
        format!("{}, bpf-linker {}, LLVM {}", self.compiler.version, linker::VERSION, self.linker_llvm)
    }
}

fn rustup_home() -> Option<PathBuf> {
    env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")))
}

/// Every compiler on this machine that has the sources of `core`, the preferred one first.
pub(crate) fn compilers() -> Vec<Compiler> {
    let mut found = Vec::new();
    if let Some(home) = rustup_home() {
        let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        for name in [NIGHTLY, "nightly"] {
            let bin = home.join("toolchains").join(format!("{name}-{host}")).join("bin");
            found.extend(Compiler::at(&bin, None));
        }
    }
    found.extend(Compiler::at(Path::new("/usr/bin"), None));
    found.extend(Compiler::at(&private().join("usr/bin"), Some(private_libraries())));
    found.retain(|compiler| linker::LLVM.contains(&compiler.llvm));
    found
}

/// The toolchain to use: the one whose description is `recorded` where the machine has it, else the first complete one.
pub(crate) fn choose(recorded: Option<&str>) -> Option<Toolchain> {
    let complete: Vec<Toolchain> = compilers().iter().filter_map(linker::find).collect();
    let same = complete.iter().find(|toolchain| Some(toolchain.describe().as_str()) == recorded);
    same.or(complete.first()).cloned()
}

/// Whether rustup is here to be asked for a nightly.
pub(crate) fn rustup() -> Option<PathBuf> {
    sh::find("rustup")
}

/// Installs the nightly with the sources of `core` beside whatever toolchains there are.
///
/// # Errors
///
/// When rustup does not have it, or cannot be reached.
pub(crate) fn install_nightly() -> Result<()> {
    let rustup = rustup().context("there is no rustup")?;
    let mut command = sh::cmd(rustup);
    // Updating rustup itself is its owner's business.
    sh::scrub(&mut command).args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--no-self-update"]);
    command.args(["--component", "rust-src"]);
    println!("setup: {}", sh::line(&command));
    sh::read(&mut command)?;
    Ok(())
}

/// Debian's packages unpacked below the build directory have links that lead to the machine's root where they are absolute.
///
/// # Errors
///
/// When a link cannot be written.
pub(crate) fn mend_links(dir: &Path) -> Result<()> {
    let sources = dir.join("usr/lib/rustlib/src/rust");
    if let Ok(to) = fs::read_link(&sources)
        && let Ok(inside) = to.strip_prefix("/")
    {
        fs::remove_file(&sources)?;
        std::os::unix::fs::symlink(dir.join(inside), &sources)?;
    }
    Ok(())
}
