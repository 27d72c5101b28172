//! Skips that are seen: printed with their reason, logged, and a failure where everything has to run.

use std::io::Write as _;

/// Tells that `test` is not run and why. Appends the line to the file named by `ROVY_SKIP_LOG`, for counting.
///
/// # Panics
/// With `CI=true`: there a root test that does not run is a failure, unless `ROVY_NO_ROOT` asks for it.
#[allow(clippy::panic)]
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIP {test}: {reason}\n");
    if std::env::var("CI").is_ok_and(|v| v == "true") && !no_root() {
        panic!("with CI=true nothing may be skipped: {line}");
    }
    // Straight to the terminal: the test harness captures what `println!` prints. In one piece: tests run side by side.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("ROVY_SKIP_LOG")
        && let Ok(mut log) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = log.write_all(line.as_bytes());
    }
}

/// Whether root tests are not wanted, even where they could run.
fn no_root() -> bool {
    std::env::var_os("ROVY_NO_ROOT").is_some()
}

/// Whether this process may do what root tests do. When not, says so with [`skip`]. `ROVY_NO_ROOT` asks for the tests that need no
/// privileges.
#[must_use]
pub fn root(test: &str) -> bool {
    let reason = if no_root() {
        "needs root, and --no-root was asked for"
    } else if rustix::process::geteuid().is_root() {
        return true;
    } else {
        "needs root"
    };
    skip(test, reason);
    false
}

/// Makes a test of each line `name: words;`, that runs as root only: `line_cases! { check: eth_native: Eth Native; }` calls
/// `check` with `Link::Eth` and `Mode::Native`.
#[macro_export]
macro_rules! line_cases {
    ($check:ident: $($name:ident: $link:ident $mode:ident;)*) => {$(
        #[test]
        fn $name() -> anyhow::Result<()> {
            $crate::root_only!();
            $check($crate::Link::$link, $crate::Mode::$mode)
        }
    )*};
}

/// Ends the test that calls it, with [`skip`], unless it runs as root. The test returns a `Result`.
#[macro_export]
macro_rules! root_only {
    () => {{
        fn here() {}
        if !$crate::skip::root(std::any::type_name_of_val(&here).trim_end_matches("::here")) {
            return Ok(());
        }
    }};
}
