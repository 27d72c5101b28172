//! What a process costs, from `/proc`.

use anyhow::{Context as _, Result};
use std::time::Duration;

/// Ticks a second of the times in `/proc`: the same on every architecture rovy runs on.
const TICKS: f64 = 100.0;

/// CPU time a process has used so far, all threads, in user and kernel mode.
///
/// # Errors
/// When there is no such process.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&text).map(|t| Duration::from_secs_f64(t as f64 / TICKS)).with_context(|| format!("{path} holds no times"))
}

/// Bytes of memory a process has resident.
///
/// # Errors
/// When there is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kb =
        text.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kb.map(|kb| kb * 1024).with_context(|| format!("{path} holds no VmRSS"))
}

/// The fields `utime` and `stime`, the twelfth and thirteenth behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(|v| v.parse::<u64>().ok());
    Some(fields.next()?? + fields.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "1 (a) b) (c) S 1 1 1 0 -1 0 10 0 0 0 30 12 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("1 (x) S 1"), None);
        let me = std::process::id();
        assert!(resident(me).expect("memory") > 0);
        cpu_time(me).expect("time");
    }
}
