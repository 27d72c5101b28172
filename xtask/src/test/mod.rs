//! `cargo xtask test`: every check and test, from the cheapest up.

mod binaries;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use binaries::{Binary, How};
use report::{Counts, Report, Skip};

use crate::{
    ebpf::{self, Verdict},
    setup::{self, Needs},
    sh, vm,
};

/// The arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what needs no privileges
    #[arg(long)]
    no_root: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
    /// Only tests whose name contains this, without the checks around them; `vm` is the test under another kernel
    filter: Option<String>,
}

/// Runs what `args` names.
///
/// # Errors
///
/// When anything failed, or in CI when a root test was skipped.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = args.filter.is_none();
    let kernels = all || args.filter.as_deref() == Some("vm");
    let needs = Needs { ebpf: all, net: !args.no_root, vm: kernels && !args.no_root, fuzz: false };
    setup::ensure(needs, args.yes)?;
    let sudo = !args.no_root && !sh::is_root() && sh::sudo_works();
    let how = How { filter: args.filter.clone(), no_root: args.no_root, sudo, object: None };

    let mut report = Report::default();
    let fresh = if all { checks(&mut report) } else { None };
    if let Some(binaries) = report.check("build", binaries::build) {
        for binary in &binaries {
            report.add(binary.run(&how)?);
        }
        if let Some(dir) = &fresh {
            println!("==> the object of this machine's toolchain");
            with_object(&binaries, ebpf::object(dir), sudo, &mut report)?;
        }
    }
    if all {
        report.check("examples in the documentation", || {
            sh::run(sh::cargo().args(["test", "--workspace", "--doc", "--quiet"]))
        });
    }
    if kernels {
        let objects = fresh.unwrap_or_else(ebpf::prebuilt);
        if let Some(outcome) = report.check("the BPF programs under another kernel", || vm::test(&objects)) {
            match outcome {
                Ok(outcome) => report.add(Counts {
                    passed: outcome.passed.len() as u64,
                    failures: outcome.failed.iter().map(|name| format!("vm {}: {name}", outcome.kernel)).collect(),
                    skips: Vec::new(),
                }),
                Err(reason) => report.skip(Skip { test: "vm".to_owned(), reason, root: false }),
            }
        }
    }
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") && !args.no_root {
        report.refuse_skips();
    }
    println!("{report}");
    if report.good() { Ok(()) } else { bail!("not everything passed") }
}

/// The test binary that holds the BPF object against the functions it is made of.
const DIFFERENTIAL: &str = "rovy-userspace/differential";

fn with_object(binaries: &[Binary], object: PathBuf, sudo: bool, report: &mut Report) -> Result<()> {
    let how = How { sudo, object: Some(object), ..How::default() };
    for binary in binaries.iter().filter(|binary| binary.name == DIFFERENTIAL) {
        report.add(binary.run(&how)?);
    }
    Ok(())
}

/// Runs the tests of a BPF object that is not the committed one.
///
/// # Errors
///
/// When one of them fails, or cannot run.
pub(crate) fn differential(object: &Path) -> Result<()> {
    let sudo = !sh::is_root() && sh::sudo_works();
    let mut report = Report::default();
    with_object(&binaries::build()?, object.to_path_buf(), sudo, &mut report)?;
    println!("{report}");
    if report.good() { Ok(()) } else { bail!("the fresh build of the BPF object does not pass its tests") }
}

/// Builds the agent, the tests and what the virtual machines start.
///
/// # Errors
///
/// When something does not compile.
pub(crate) fn build() -> Result<()> {
    binaries::build().map(drop)
}

/// What needs no running code. Returns where the BPF objects are that another toolchain than the recorded one built here.
fn checks(report: &mut Report) -> Option<PathBuf> {
    report.check("formatting", || {
        setup::component("rustfmt", "fmt")?;
        sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
        sh::run(sh::cargo().args(["fmt", "--check", "--manifest-path", "rovy-ebpf/Cargo.toml"]))
    });
    report.check("clippy", || {
        setup::component("clippy", "clippy")?;
        sh::run(sh::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
    });
    report.check("documentation", || {
        let mut command = sh::cargo();
        command.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
        sh::run(&mut command)
    });
    match report.check("the committed BPF objects", ebpf::check)? {
        Verdict::Same => None,
        Verdict::Fresh(dir) => Some(dir),
    }
}
