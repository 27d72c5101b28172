//! Network namespaces.

use crate::command::{self, run};
use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const DIR: &str = "/run/netns";

/// A named network namespace, deleted on drop.
///
/// Programs enter the network namespace only (`nsenter --net`): `ip netns exec` would give each a private mount
/// namespace, and BPF pins made there die with it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates `rv<pid>-<n>-<role>` with the loopback device up and duplicate address detection off (addresses
    /// serve at once).
    ///
    /// # Errors
    /// When `ip netns add` fails (not root, or a container without CAP_SYS_ADMIN).
    pub fn new(role: &str) -> Result<Self> {
        let name = format!("rv{}-{}-{role}", std::process::id(), crate::scratch::number());
        command::sh("ip", &format!("netns add {name}")).context("cannot create a network namespace")?;
        let ns = Self { name };
        ns.ip("link set lo up")?;
        ns.enter(|| {
            let ipv6 = "/proc/sys/net/ipv6/conf";
            for conf in ["all", "default"] {
                fs::write(format!("{ipv6}/{conf}/disable_ipv6"), "0")?;
                fs::write(format!("{ipv6}/{conf}/accept_dad"), "0")?;
                fs::write(format!("{ipv6}/{conf}/accept_ra"), "0")?;
            }
            std::io::Result::Ok(())
        })?
        .with_context(|| format!("cannot set up IPv6 in {}", ns.name))?;
        Ok(ns)
    }

    /// Its name below `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIR).join(&self.name)
    }

    /// What enters it from threads that outlive a borrow of it.
    pub(crate) fn handle(&self) -> Handle {
        Handle(self.path())
    }

    /// A command that will run `program` inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a short command line (split at spaces) inside and returns what it printed.
    ///
    /// # Errors
    /// As [`command::run`].
    pub fn exec(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        run(self.command(words.next().unwrap_or_default()).args(words))
    }

    /// `ip` with `args`, inside.
    ///
    /// # Errors
    /// As [`command::run`].
    pub fn ip(&self, args: &str) -> Result<String> {
        command::sh("ip", &format!("-n {} {args}", self.name))
    }

    /// Starts a command line (split at spaces) inside, in a process group of its own, without input or output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, line: &str) -> Result<Child> {
        use std::os::unix::process::CommandExt as _;
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or_default());
        command.args(words).process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("cannot start {line}"))
    }

    /// Runs `f` on a new thread inside. Sockets it opens stay inside wherever they are used later.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or when `f` panics.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        self.handle().enter(f)
    }
}

/// The way into a namespace. It keeps nothing alive.
#[derive(Debug)]
pub(crate) struct Handle(PathBuf);

impl Handle {
    /// As [`Namespace::enter`].
    pub(crate) fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let path = &self.0;
                    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .with_context(|| format!("cannot enter {}", path.display()))?;
                    Ok(f())
                })
                .join()
                .map_err(|_| anyhow!("a thread in {} panicked", self.0.display()))?
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = command::sh("ip", &format!("netns del {}", self.name));
    }
}

/// Deletes the namespaces that earlier processes of this library left behind because they were killed.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(DIR) else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        if owner(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = command::sh("ip", &format!("netns del {name}"));
        }
    }
}

/// The process that created a namespace of this name, `None` when the name is none of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("rv")?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next().map(|_| pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_have_an_owner() {
        assert_eq!(owner("rv4711-3-a"), Some(4711));
        for other in ["rv", "rv4711", "rv4711-3", "rvx-3-a", "lab-1-a", "rv4711-a-3"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
