//! This program as cargo's `RUSTC_WRAPPER`.
//!
//! Cargo derives the `-C metadata` of a crate outside its workspace, such as `rovy-common` and `core`, from its absolute path, and of
//! whatever depends on it from that; the compiler puts it into symbol names. Name and version in its place make the objects the same
//! wherever checkout and toolchain are.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

/// Set for the compiler calls of the BPF build.
pub(super) const VARIABLE: &str = "ROVY_XTASK_AS_RUSTC";

/// Calls the compiler when cargo started this program in its place.
pub(crate) fn intercept() -> Option<ExitCode> {
    env::var_os(VARIABLE)?;
    let mut args = env::args_os().skip(1);
    let rustc = args.next()?;
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match Command::new(&rustc).args(with_fixed_metadata(args.collect(), &version)).status() {
        Ok(status) => {
            Some(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Err(error) => {
            eprintln!("error: cannot start {}: {error}", rustc.display());
            Some(ExitCode::FAILURE)
        }
    }
}

/// Changes what is compiled for BPF; macros and build scripts run on the host and do not reach the object.
fn with_fixed_metadata(mut args: Vec<OsString>, version: &str) -> Vec<OsString> {
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)?.to_str());
    if let Some(name) = value("--crate-name")
        && value("--target").is_some_and(|target| target.starts_with("bpf"))
    {
        let fixed = OsString::from(format!("metadata={name}-{version}"));
        for arg in &mut args {
            if arg.to_str().is_some_and(|text| text.starts_with("metadata=")) {
                arg.clone_from(&fixed);
            }
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(args: &[&str]) -> Vec<OsString> {
        with_fixed_metadata(args.iter().map(OsString::from).collect(), "0.1.0")
    }

    #[test]
    fn what_is_compiled_for_bpf_is_the_same_everywhere() {
        let args =
            ["--crate-name", "core", "-C", "metadata=01", "-C", "extra-filename=-01", "--target", "bpfel-unknown-none"];
        let here = fixed(&args);
        assert_eq!(here, fixed(&args.map(|arg| if arg == "metadata=01" { "metadata=45" } else { arg })));
        assert_eq!(here[3], "metadata=core-0.1.0");
        assert_eq!(here[5], "extra-filename=-01");
    }

    #[test]
    fn what_runs_on_the_host_keeps_its_own() {
        let args = ["--crate-name", "serde", "-C", "metadata=0123"];
        assert_eq!(fixed(&args), args.map(OsString::from));
        assert_eq!(fixed(&["-vV"]), [OsString::from("-vV")]);
    }
}
