//! Running other programs, with errors that name the command.

use std::{
    ffi::OsStr,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// What `cargo run` puts into its child's environment: another cargo or another toolchain must not inherit it.
const LEAKED: &[&str] =
    &["CARGO", "RUSTC", "RUSTDOC", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "RUST_RECURSION_COUNT", "LD_LIBRARY_PATH"];

/// The checkout this xtask was built from.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A file or directory below the build directory, which is not part of the sources.
pub(crate) fn target(path: impl AsRef<Path>) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir)).join(path)
}

/// A command in the checkout's root directory.
pub(crate) fn cmd(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs this xtask, with the toolchain it runs with.
pub(crate) fn cargo() -> Command {
    let mut command = cmd(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
}

/// Takes away everything that would tie `command` to the toolchain and the flags of the cargo that runs this xtask.
pub(crate) fn scrub(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_TERM_"];
        let cargo = text.starts_with("CARGO_") && !kept.iter().any(|prefix| text.starts_with(prefix));
        if cargo || text.ends_with("RUSTFLAGS") || LEAKED.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs the command with this process's input and output.
///
/// # Errors
///
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs the command and returns what it wrote to its standard output, without the last line feed.
///
/// # Errors
///
/// When it cannot be started or does not succeed; the end of its standard error output is in the message.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.trim_end().lines().rev().take(8).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("`{}` failed: {}\n{}", line(command), output.status, last.join("\n"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Where a program of this name is: in `PATH`, or where Debian keeps what only root has in its path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a question can be asked.
pub(crate) fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether sudo works without a question, or can ask one.
pub(crate) fn sudo_works() -> bool {
    let mut command = cmd("sudo");
    if on_terminal() {
        command.arg("-v")
    } else {
        command.args(["-n", "true"]).stderr(Stdio::null())
    };
    find("sudo").is_some() && command.status().is_ok_and(|status| status.success())
}

/// A command that runs as root: itself when this process is root, through sudo otherwise.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return cmd(program);
    }
    let mut command = cmd("sudo");
    command.arg("--").arg(program);
    command
}
