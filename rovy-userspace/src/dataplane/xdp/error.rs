//! What can go wrong between the agent and the kernel's BPF.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::ProgramError;

/// Lines of the verifier's log that an error keeps: the last ones tell the reason.
const LOG_LINES: usize = 6;
/// Bytes of them at most.
const LOG_BYTES: usize = 800;

/// An error of the XDP dataplane.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The directory for pins cannot be had.
    #[error("cannot {what} {}: {source}; BPF maps are pinned there: run as root, or set `xdp.mode = \"off\"`", path.display())]
    Pins {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A parameter that no map can have.
    #[error("{0}")]
    Params(String),
    /// The object does not fit this kernel, or the kernel has no BPF.
    #[error("cannot load the XDP program: {reason}; {hint}{log}")]
    Load {
        /// What the kernel or the loader said.
        reason: String,
        /// What to do next.
        hint: &'static str,
        /// The end of the verifier's log, or nothing.
        log: String,
    },
    /// A map operation failed.
    #[error("cannot {what} the BPF map {map}: {source}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// A program operation failed.
    #[error("cannot {what} the XDP program: {reason}")]
    Program {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// Counters or windows cannot be shared with the kernel.
    #[error("cannot map counters and replay windows into memory: {0}; kernel 5.5 or newer is needed")]
    Counters(io::Error),
    /// Somebody else's program is on the device.
    #[error(
        "interface {ifname} already runs the XDP program `{name}` (id {id}), which rovy does not replace: remove it, \
         use another interface, or go on without XDP there"
    )]
    Occupied {
        /// The interface.
        ifname: String,
        /// The program's id.
        id: u32,
        /// The program's name.
        name: String,
    },
    /// The device takes the program in none of the modes that were asked for.
    #[error("interface {ifname} does not take the XDP program: {reason}")]
    Attach {
        /// The interface.
        ifname: String,
        /// What each mode failed with.
        reason: String,
    },
    /// What another process handed over is not the program with its maps.
    #[error("what was handed over is not the XDP program with its maps: {0}")]
    Given(String),
    /// The kernel wants privileges for every use of BPF.
    #[error(
        "this kernel lets no process without CAP_BPF use the BPF maps it is given: 5.19 or newer is needed, or \
         `sysctl kernel.unprivileged_bpf_disabled=0`"
    )]
    Unprivileged,
    /// There is no program to take off.
    #[error("the XDP program is not on interface {0}")]
    NotAttached(u32),
    /// More devices than the map of redirect targets holds.
    #[error("interface {ifindex} cannot become a redirect target: all {ports} places are taken")]
    PortsFull {
        /// The device.
        ifindex: u32,
        /// Places there are.
        ports: u32,
    },
    /// A slot or index that no map has a place for.
    #[error("there is no place for {what} {number} in the BPF maps")]
    OutOfRange {
        /// Slot or receiver index.
        what: &'static str,
        /// Which.
        number: u32,
    },
}

impl XdpError {
    pub(super) fn map(what: &'static str, map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { what, map, source }
    }

    pub(super) fn program(what: &'static str, error: ProgramError) -> Self {
        Self::Program { what, reason: reason(&error) }
    }

    /// An error of loading the object.
    pub(super) fn load(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut log = String::new();
        let mut source = Some(error);
        while let Some(e) = source {
            if let Some(ProgramError::LoadError { verifier_log, .. }) = e.downcast_ref() {
                log = excerpt(&verifier_log.to_string());
            }
            source = e.source();
        }
        let hint = match kernel_said(error).map(|e| e.raw_os_error()) {
            Some(Some(libc::EPERM | libc::EACCES)) if log.is_empty() => {
                "run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; without them rovy switches in the agent"
            }
            Some(Some(libc::ENOSYS | libc::EINVAL)) if log.is_empty() => {
                "this kernel lacks what the program needs (6.1 or newer is tested); rovy switches in the agent"
            }
            Some(Some(libc::ENOMEM | libc::E2BIG)) => "lower `limits.sessions`; meanwhile rovy switches in the agent",
            _ => "rovy switches in the agent",
        };
        Self::Load { reason: reason(error), hint, log }
    }
}

/// What the kernel answered, somewhere below an error.
fn kernel_said<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut source = Some(error);
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref() {
            return Some(io);
        }
        source = e.source();
    }
    None
}

/// An error in one line: never the verifier's whole log.
pub(super) fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(ProgramError::LoadError { io_error, .. }) = error.downcast_ref() {
        return format!("the kernel's verifier refused it ({io_error})");
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        if let Some(ProgramError::LoadError { .. }) = e.downcast_ref() {
            return reason(e);
        }
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = e.source();
    }
    text
}

/// The last lines of a verifier log.
fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).collect();
    let mut out = String::new();
    for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
        let line: String = line.chars().take(LOG_BYTES / LOG_LINES).collect();
        out.push_str("\n  ");
        out.push_str(&line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_log_is_kept_short() {
        let log: String = (0..10_000).map(|i| format!("{i}: {}\n", "r1 = r2 ".repeat(100))).collect();
        let short = excerpt(&log);
        assert!(short.len() <= LOG_BYTES + 3 * LOG_LINES, "{} bytes", short.len());
        assert!(short.contains("\n  9999: "), "the end is what tells");
    }

    #[test]
    fn without_privileges_the_hint_says_so() {
        let e = MapError::CreateError { name: "RX".into(), io_error: io::Error::from_raw_os_error(libc::EPERM) };
        let text = XdpError::load(&e).to_string();
        assert!(text.contains("CAP_BPF") && text.contains("RX"), "{text}");
    }
}
