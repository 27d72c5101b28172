use super::Out;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

/// Builds the `rovy` binary, optimised but without what makes a release slow to build, and returns its path.
///
/// # Errors
/// When it does not build.
pub(super) fn rovy(out: Out) -> Result<PathBuf> {
    out.line("Building rovy (the first time takes some minutes) ...");
    let start = Instant::now();
    let mut command = crate::sh::cargo();
    command.args(["build", "--package", "rovy-userspace", "--bin", "rovy", "--profile", "demo"]);
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut binary = None;
    for line in BufReader::new(stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(&line?).unwrap_or_default();
        let is_rovy = message.pointer("/target/name").is_some_and(|name| name == "rovy");
        if let Some(path) = message.get("executable").and_then(|e| e.as_str()).filter(|_| is_rovy) {
            binary = Some(PathBuf::from(path));
        }
    }
    if !child.wait()?.success() {
        bail!("rovy does not build; the compiler's messages are above");
    }
    out.line(&format!("Built in {} s.", start.elapsed().as_secs()));
    binary.context("cargo named no rovy binary")
}
