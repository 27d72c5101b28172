//! Programs that look names up, with the host's configuration of names changed for them alone.

use crate::scratch::Scratch;
use crate::{Namespace, command};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Mounts the files in `$1` over the host's where nobody else sees it, then runs the rest with the module in `$1`.
const INSIDE: &str = r#"mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf && mount --bind "$1/resolv.conf" /etc/resolv.conf &&
export LD_LIBRARY_PATH="$1" && shift && exec "$@""#;

/// An nsswitch.conf that asks `libnss_rovy.so.2`, the module, and a DNS server at 127.0.0.1 for everything else.
#[derive(Debug)]
pub struct Switch {
    dir: Scratch,
}

impl Switch {
    /// As the manual says to set it up.
    ///
    /// # Errors
    /// When cargo has not built the module beside the agent.
    pub fn new() -> Result<Self> {
        let dir = Scratch::new("nss")?;
        let module = module()?;
        fs::copy(&module, dir.path().join("libnss_rovy.so.2"))
            .with_context(|| format!("no {}: `cargo build -p rovy-nss` builds it", module.display()))?;
        fs::write(dir.path().join("nsswitch.conf"), "hosts: files rovy [!UNAVAIL=return] dns\n")?;
        fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
        Ok(Self { dir })
    }

    /// Runs a command line (split at spaces) in `ns`, in a mount namespace of its own.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, ns: &Namespace, line: &str) -> Result<Output> {
        let mut command = ns.command("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", INSIDE, "sh"]);
        command::output(command.arg(self.dir.path()).args(line.split_whitespace()))
    }

    /// As [`Switch::run`]: what it printed.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn read(&self, ns: &Namespace, line: &str) -> Result<String> {
        let output = self.run(ns, line)?;
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{line}: {}\n{error}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Where cargo puts the module.
fn module() -> Result<PathBuf> {
    let binary = crate::agent::binary()?;
    Ok(binary.parent().context("the binary has no directory")?.join("libnss_rovy.so"))
}

/// What `dig` prints for a question to fc00::1.
///
/// # Errors
/// When it cannot be run, or gets no answer.
pub fn dig(ns: &Namespace, question: &str) -> Result<String> {
    let mut command: Command = ns.command("dig");
    command::run(command.args(["@fc00::1", "+time=5", "+tries=2"]).args(question.split_whitespace()))
}
