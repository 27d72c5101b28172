//! Waiting for a state, with a deadline; never for a time.

use anyhow::{Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every present and future wait end with an error, so that the stack unwinds and cleans up.
/// For signal handlers' threads.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Whether [`interrupt`] was called.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// An error when [`interrupt`] was called.
///
/// # Errors
/// "interrupted".
pub fn check() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Polls `probe` every few milliseconds until it returns something, and returns that.
///
/// # Errors
/// When `deadline` has passed (the error names `what` and the last error of the probe), or on [`interrupt`].
pub fn until<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        check()?;
        let last = match probe() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        if start.elapsed() >= deadline {
            let s = deadline.as_secs_f32();
            match last {
                Some(e) => return Err(e.context(format!("waited {s} s for: {what}"))),
                None => bail!("waited {s} s for: {what}"),
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
