//! The test binaries: built once, as this user; those that need it run as root.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::report::{Counts, Skip};
use crate::sh;

/// One line of `cargo build --message-format=json`, as far as it is needed.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// A test binary.
#[derive(Debug)]
pub(super) struct Binary {
    /// Package and target.
    pub(super) name: String,
    executable: PathBuf,
    /// The directory of its package, where cargo runs tests.
    directory: PathBuf,
}

/// How the binaries run.
#[derive(Debug, Default)]
pub(super) struct How {
    /// Only tests whose name contains this.
    pub(super) filter: Option<String>,
    /// Root tests skip themselves.
    pub(super) no_root: bool,
    /// Tests that skipped themselves for lack of root run again through sudo.
    pub(super) sudo: bool,
    /// Another BPF object than the committed one.
    pub(super) object: Option<PathBuf>,
}

/// Builds the agent and every test binary, with one resolution of features so that nothing is compiled twice.
///
/// # Errors
///
/// When something does not compile.
pub(super) fn build() -> Result<Vec<Binary>> {
    let mut command = sh::cargo();
    command.args(["build", "--workspace", "--lib", "--bins", "--tests", "--message-format=json-render-diagnostics"]);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{}`", sh::line(&command)))?;
    let mut binaries = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        binaries.extend(serde_json::from_str(&line?).ok().and_then(binary));
    }
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "`{}` failed: {status}", sh::line(&command));
    // From the pure to the whole: rovy-common, rovy-userspace, then the namespaces; what fails below explains what fails above.
    let rank = |binary: &Binary| {
        ["rovy-common", "xtask", "rovy-userspace"].iter().position(|name| binary.name.starts_with(name))
    };
    binaries.sort_by_cached_key(|binary| (rank(binary).unwrap_or(usize::MAX), binary.name.clone()));
    Ok(binaries)
}

fn binary(message: Message) -> Option<Binary> {
    let directory = message.manifest_path?.parent()?.to_path_buf();
    let package = directory.file_name()?.to_string_lossy().into_owned();
    let target = message.target?.name;
    let name = if target.replace('_', "-") == package { package } else { format!("{package}/{target}") };
    let executable = message.executable.filter(|_| message.profile.is_some_and(|profile| profile.test))?;
    Some(Binary { name, executable, directory })
}

impl Binary {
    /// Runs it, prints what it prints, and counts.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(super) fn run(&self, how: &How) -> Result<Counts> {
        println!("==> {}", self.name);
        let start = Instant::now();
        let mut counts = self.once(how, false)?;
        if how.sudo && counts.skips.iter().any(|skip| skip.root) {
            println!("==> {} as root: sudo {}", self.name, self.executable.display());
            counts = self.once(how, true)?;
        }
        println!("==> {}: {:.1} s", self.name, start.elapsed().as_secs_f32());
        Ok(counts)
    }

    fn once(&self, how: &How, sudo: bool) -> Result<Counts> {
        let log = sh::target(format!("skips-{}.log", std::process::id()));
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = self.command(how, sudo, &log).stdout(Stdio::piped()).spawn();
        let child =
            child.as_mut().map_err(|error| anyhow::anyhow!("cannot start {}: {error}", self.executable.display()))?;
        let mut counts = Counts::default();
        for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
            let line = line?;
            println!("{line}");
            counts.line(&line);
        }
        let status = child.wait()?;
        if !status.success() && counts.failures.is_empty() {
            // It died before it could name the test.
            counts.failures.push(status.to_string());
        }
        for failure in &mut counts.failures {
            *failure = format!("{} {failure}", self.name);
        }
        let text = fs::read_to_string(&log)?;
        fs::remove_file(&log)?;
        text.lines().filter_map(Skip::parse).for_each(|skip| counts.skipped(skip));
        Ok(counts)
    }

    fn command(&self, how: &How, sudo: bool, log: &Path) -> Command {
        let mut variables = vec![("ROVY_SKIP_LOG", log.as_os_str().to_owned())];
        variables.push(("CARGO_MANIFEST_DIR", self.directory.as_os_str().to_owned()));
        variables.extend(how.object.as_ref().map(|object| ("ROVY_BPF_OBJECT", object.as_os_str().to_owned())));
        variables.extend(how.no_root.then(|| ("ROVY_NO_ROOT", "1".into())));
        let mut command = if sudo {
            // sudo drops the environment, so `env` on its other side brings back what the tests look at.
            variables.extend(
                ["PATH", "RUST_BACKTRACE", "ROVY_SEED"]
                    .into_iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            );
            let mut command = sh::as_root("env");
            for (name, value) in &variables {
                let mut assignment = std::ffi::OsString::from(format!("{name}="));
                assignment.push(value);
                command.arg(assignment);
            }
            command.arg(&self.executable);
            command
        } else {
            let mut command = sh::cmd(&self.executable);
            // In CI a skipped root test fails by itself. Here skips are counted, because the test may yet run through sudo.
            command.envs(variables).env_remove("CI");
            command
        };
        command.current_dir(&self.directory).args(&how.filter);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Binary> {
        serde_json::from_str(line).ok().and_then(binary)
    }

    #[test]
    fn only_test_binaries_are_run() {
        let line = |test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/rovy-common/Cargo.toml","target":{{"name":"rovy_common"}},
                "profile":{{"test":{test}}},"executable":"/r/target/debug/deps/rovy_common-1"}}"#
            )
        };
        let found = read(&line(true)).unwrap();
        assert_eq!(found.name, "rovy-common");
        assert_eq!(found.directory, Path::new("/r/rovy-common"));
        assert!(read(&line(false)).is_none());
        assert!(read(r#"{"reason":"build-finished","success":true}"#).is_none());
    }
}
