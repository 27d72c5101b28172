//! Running programs with errors that tell the whole story.

use anyhow::{Context as _, Result, bail};
use std::process::{Command, Output};

/// Runs `command` to its end and returns what it printed on standard output.
///
/// # Errors
/// When it cannot be started or ends with another status than 0; the error holds the command line and what it
/// printed on standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "{}: {}\n{}{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end, whatever its status.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot run {}; is the program installed?", line(command)))
}

/// Runs `program` with `args` split at spaces: short commands stay readable.
///
/// # Errors
/// As [`run`].
pub fn sh(program: &str, args: &str) -> Result<String> {
    run(Command::new(program).args(args.split_whitespace()))
}

/// The command line as one would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
