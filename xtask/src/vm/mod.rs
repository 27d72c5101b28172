//! `cargo xtask vm`: the BPF programs in another kernel, under QEMU.

mod initramfs;
mod kernel;
mod machine;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
pub(crate) use machine::Outcome;

use crate::{
    ebpf,
    setup::{self, Needs, apt},
    sh, test,
};

/// The arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Release of the kernel, such as 6.1 or 6.12; the distribution's own when it is not given
    #[arg(long)]
    kernel: Option<String>,
    /// What executes the machine: KVM is faster, and fails where this machine is itself a virtual one
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
    /// A directory with other objects than the committed ones
    #[arg(long)]
    objects: Option<PathBuf>,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum Accel {
    /// QEMU itself
    #[default]
    Tcg,
    /// The processor
    Kvm,
}

/// What the initramfs brings besides what is built in.
const MODULES: [&str; 1] = ["veth"];

/// Boots one kernel and says what passed.
///
/// # Errors
///
/// When there is no such kernel, or something failed in it.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Needs { vm: true, ..Needs::default() }, args.yes)?;
    if let Some(reason) = lacking() {
        bail!("{reason}");
    }
    test::build()?;
    let kernel = kernel::get(args.kernel.as_deref())?;
    let objects = args.objects.clone().unwrap_or_else(ebpf::prebuilt);
    let outcome = boot(&kernel, args.accel, &objects)?;
    if outcome.failed.is_empty() { Ok(()) } else { bail!("failed: {}", outcome.failed.join("; ")) }
}

/// Boots the distribution's kernel with these objects for the test run, which has built everything; or says why it cannot.
///
/// # Errors
///
/// When the machine does not come to the end of its report.
pub(crate) fn test(objects: &Path) -> Result<Result<Outcome, String>> {
    if let Some(reason) = lacking() {
        return Ok(Err(reason));
    }
    match kernel::get(None) {
        Ok(kernel) => boot(&kernel, Accel::Tcg, objects).map(Ok),
        Err(error) => Ok(Err(format!("no kernel to boot: {error:#}").replace('\n', " "))),
    }
}

/// Why no kernel can be booted here.
fn lacking() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("the kernels it boots are for x86_64".to_owned());
    }
    if !apt::present() {
        return Some("the kernels it boots come from Debian, and this machine has no apt".to_owned());
    }
    setup::qemu().is_none().then(|| "qemu-system-x86 is not installed; `cargo xtask setup` tries to".to_owned())
}

fn boot(kernel: &kernel::Kernel, accel: Accel, objects: &Path) -> Result<Outcome> {
    let dir = sh::target("vm");
    let (init, archive) = (dir.join("init"), dir.join("initramfs.cpio"));
    // Without its symbols the program is a tenth of its size.
    sh::read(sh::cmd("strip").arg("-o").arg(&init).arg(sh::target("debug/rovy-vm")))?;
    let modules = kernel.modules(&MODULES)?;
    fs::write(&archive, initramfs::build(&init, &modules, &ebpf::objects(objects)?)?)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    let start = Instant::now();
    let outcome = machine::boot(&kernel.image, &archive, accel)?;
    println!(
        "vm: kernel {}: {} passed, {} failed in {:.1} s",
        outcome.kernel,
        outcome.passed.len(),
        outcome.failed.len(),
        start.elapsed().as_secs_f32()
    );
    Ok(outcome)
}
