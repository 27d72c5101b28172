//! Skips that are seen: on the terminal although the harness captures what passing tests print, and counted by `cargo xtask test`.

use std::io::Write as _;

/// Tells that `test`, or a part of it, does not run, and why.
///
/// # Panics
/// With `CI=true`: there everything has to run.
#[allow(clippy::panic)]
pub(crate) fn skip(test: &str, reason: &str) {
    let line = format!("SKIP {test}: {reason}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line} (not allowed with CI=true)");
    let _ = writeln!(std::io::stderr(), "{line}");
    if let Some(path) = std::env::var_os("ROVY_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = log.and_then(|mut log| writeln!(log, "{line}"));
    }
}

/// Whether `test`, which needs root, may run; skips it when not. `ROVY_NO_ROOT` asks for the tests that need no privileges.
pub(crate) fn root(test: &str) -> bool {
    let reason = if std::env::var_os("ROVY_NO_ROOT").is_some() {
        "needs root, and --no-root was asked for"
    } else if rustix::process::geteuid().is_root() {
        return true;
    } else {
        "needs root"
    };
    skip(test, reason);
    false
}
