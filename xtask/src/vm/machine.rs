//! QEMU, and what the machine reports on its serial console.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::Accel;
use crate::setup;

/// How long a machine may take; emulated, on a slow and busy host.
const WATCHDOG: Duration = Duration::from_secs(180);

/// What begins a line of the machine's report (see `tests/vm`).
const MARK: &str = "ROVY-VM ";

/// What the machine reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Release of its kernel.
    pub(crate) kernel: String,
    /// What passed.
    pub(crate) passed: Vec<String>,
    /// What failed, with the reason.
    pub(crate) failed: Vec<String>,
    done: bool,
}

impl Outcome {
    fn line(&mut self, line: &str) {
        // The kernel may write into the same line before.
        let Some((_, report)) = line.split_once(MARK) else { return };
        match report.trim_end().split_once(' ') {
            Some(("PASS", name)) => self.passed.push(name.to_owned()),
            Some(("FAIL", name)) => self.failed.push(name.to_owned()),
            Some(("KERNEL", release)) => release.clone_into(&mut self.kernel),
            _ => self.done = report.trim_end() == "DONE",
        }
    }
}

/// Boots a machine and waits until it powers off.
///
/// # Errors
///
/// When QEMU cannot be started, or the machine does not end with its whole report in time.
pub(super) fn boot(image: &Path, initramfs: &Path, accel: Accel) -> Result<Outcome> {
    let mut command = setup::qemu().context("qemu-system-x86 is not installed")?;
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.args(["-m", "1024", "-smp", "2"]);
    match accel {
        Accel::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
        Accel::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
    };
    command.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the emulator")?;
    let console = child.stdout.take().context("no console")?;
    let child = Arc::new(Mutex::new(child));
    let late = Arc::new(AtomicBool::new(false));
    let (ended, wait) = mpsc::channel::<()>();
    let watchdog = {
        let (child, late) = (Arc::clone(&child), Arc::clone(&late));
        std::thread::spawn(move || {
            if wait.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
                late.store(true, Ordering::Relaxed);
                with(&child, Child::kill);
            }
        })
    };

    let mut outcome = Outcome::default();
    let mut log = Vec::new();
    for line in BufReader::new(console).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        outcome.line(&line);
        if line.contains(MARK) {
            println!("{}", line.trim_end());
        }
        log.push(line);
    }
    drop(ended);
    let status = with(&child, Child::wait);
    drop(watchdog.join());
    if outcome.done {
        return Ok(outcome);
    }
    let last: Vec<&str> = log.iter().skip(log.len().saturating_sub(25)).map(|line| line.trim_end()).collect();
    let end = if late.load(Ordering::Relaxed) {
        format!("was stopped after {} s", WATCHDOG.as_secs())
    } else {
        format!("ended before its report did ({})", status.map_or("no status".to_owned(), |status| status.to_string()))
    };
    bail!("the machine {end}; its console ended with\n{}", last.join("\n"))
}

fn with<T>(child: &Mutex<Child>, act: impl FnOnce(&mut Child) -> std::io::Result<T>) -> Option<T> {
    act(&mut *child.lock().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_from_between_kernel_messages() {
        let mut outcome = Outcome::default();
        for line in [
            "[    0.1] Linux version 6.1\r",
            "ROVY-VM KERNEL 6.1.0-56-cloud-amd64\r",
            "[    2.0] veth: x ROVY-VM PASS object\r",
            "ROVY-VM FAIL rovy: refused\r",
        ] {
            outcome.line(line);
        }
        assert!(!outcome.done);
        outcome.line("ROVY-VM DONE\r");
        let expected = Outcome {
            kernel: "6.1.0-56-cloud-amd64".into(),
            passed: vec!["object".into()],
            failed: vec!["rovy: refused".into()],
            done: true,
        };
        assert_eq!(outcome, expected);
    }
}
