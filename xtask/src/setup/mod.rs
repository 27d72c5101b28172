//! `cargo xtask setup`: finds or installs what builds and tests need, and says what it does.

pub(crate) mod apt;
pub(crate) mod fuzzer;
mod linker;
mod programs;
pub(crate) mod toolchain;

use std::io::Write;

use anyhow::{Context, Result, bail};

use linker::VERSION as LINKER_VERSION;
pub(crate) use programs::qemu;
use toolchain::{Compiler, Toolchain};

use crate::{ebpf, sh};

/// The arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// What a command cannot do without.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// The compiler and linker of the XDP programs.
    pub(crate) ebpf: bool,
    /// The programs that make namespaces and devices.
    pub(crate) net: bool,
    /// The emulator that boots other kernels.
    pub(crate) vm: bool,
    /// The compiler and the program that search inputs.
    pub(crate) fuzz: bool,
}

/// Finds everything, installs what is missing, and says both.
///
/// # Errors
///
/// When something can neither be found nor installed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let needs = Needs { ebpf: true, net: true, vm: true, fuzz: false };
    ensure(needs, args.yes)?;
    let toolchain = chosen().context("setup ended without a toolchain for the BPF build")?;
    println!("setup: BPF build: {}", toolchain.describe());
    println!("setup:   rustc      {}", toolchain.compiler.rustc.display());
    println!("setup:   bpf-linker {}", toolchain.linker.display());
    for program in ["ip", "ping", "nsenter", "ethtool", "dig", "curl"] {
        let place = sh::find(program).map_or("missing".to_owned(), |path| path.display().to_string());
        println!("setup:   {program:<10} {place}");
    }
    let emulator = programs::qemu().map(|command| command.get_program().to_string_lossy().into_owned());
    println!(
        "setup:   qemu       {}",
        emulator.as_deref().unwrap_or("missing: the tests under other kernels are skipped")
    );
    Ok(())
}

/// The toolchain that builds the XDP programs here, the recorded one where there are several.
pub(crate) fn chosen() -> Option<Toolchain> {
    toolchain::choose(ebpf::recorded_toolchain().as_deref())
}

/// Installs what is missing of `needs`; asks first on a terminal, unless `yes`. Silent when nothing is missing.
///
/// # Errors
///
/// When the answer is no, or something cannot be installed. What only the tests under other kernels need is never an error
/// here: without it they are skipped with the reason.
pub(crate) fn ensure(needs: Needs, yes: bool) -> Result<()> {
    let net = if needs.net { programs::missing_net() } else { Vec::new() };
    let vm = if needs.vm { programs::missing_vm() } else { Vec::new() };
    let qemu = programs::missing_qemu().filter(|_| needs.vm);
    let resolved = if needs.net { programs::missing_resolved() } else { Vec::new() };
    let ebpf = needs.ebpf && chosen().is_none();
    let fuzz = if needs.fuzz { fuzzer::missing() } else { Vec::new() };
    let packages: Vec<&String> = net.iter().chain(&vm).chain(&qemu).chain(&resolved).collect();
    if packages.is_empty() && !ebpf && fuzz.is_empty() {
        return Ok(());
    }
    consent(&packages, ebpf, &fuzz, yes)?;
    install_programs(&net)?;
    if !fuzz.is_empty() {
        fuzzer::install()?;
    }
    if ebpf {
        install_toolchain()?;
    }
    if let Err(error) = unpack(&resolved) {
        println!("setup: the test with systemd-resolved is skipped: {error:#}");
    }
    let emulator = qemu.map_or(Ok(()), |package| install_or_unpack(&[package]));
    if let Err(error) = emulator.and_then(|()| install_programs(&vm)) {
        println!("setup: other kernels cannot be booted here: {error:#}");
    }
    Ok(())
}

/// Installs a component of the toolchain that runs this xtask, for `cargo <subcommand>`, when it is not there.
///
/// # Errors
///
/// When it is missing and there is no rustup to ask.
pub(crate) fn component(component: &str, subcommand: &str) -> Result<()> {
    if sh::read(sh::cargo().args([subcommand, "--version"])).is_ok() {
        return Ok(());
    }
    let mut command = sh::cmd("rustup");
    command.args(["component", "add", component]);
    println!("setup: {}", sh::line(&command));
    sh::run(&mut command).with_context(|| format!("`cargo {subcommand}` is missing: install {component}"))
}

fn consent(packages: &[&String], ebpf: bool, others: &[String], yes: bool) -> Result<()> {
    println!("setup: missing:");
    for package in packages {
        println!("setup:   Debian package {package}");
    }
    for other in others {
        println!("setup:   {other}");
    }
    if ebpf {
        println!("setup:   a compiler for BPF: rustup's {} with rust-src, or Debian's rustc-web", toolchain::NIGHTLY);
        println!("setup:   bpf-linker {LINKER_VERSION} with the LLVM of that compiler");
    }
    if !sh::is_root() {
        println!("setup: packages are installed through sudo, everything else as this user");
    }
    if yes || !sh::on_terminal() {
        return Ok(());
    }
    print!("Install now? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes") {
        bail!("not installed; the same command asks again");
    }
    Ok(())
}

/// Installs packages where nothing has to go for them.
fn install_programs(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !apt::present() {
        bail!("this machine has no apt: install {} by hand", packages.join(", "));
    }
    apt::update();
    let simulation = apt::simulate(packages)?;
    if !simulation.removals.is_empty() {
        bail!("installing {} would remove {}: decide that yourself", packages.join(" "), simulation.removals.join(" "));
    }
    for package in &simulation.upgrades {
        println!("setup: apt brings {package} up to date, which others of these need");
    }
    apt::install(packages)
}

/// Unpacks packages that must not be installed.
fn unpack(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !apt::present() {
        bail!("this machine has no apt");
    }
    apt::update();
    apt::unpack(packages, &toolchain::private())
}

/// rustup's nightly where rustup has it, Debian's compiler otherwise; then the linker that belongs to it.
fn install_toolchain() -> Result<()> {
    if let Some(compiler) = toolchain::compilers().first() {
        println!("setup: found {} with the sources of core", compiler.version);
        match install_linker(compiler) {
            Ok(()) => return Ok(()),
            Err(error) => println!("setup: no bpf-linker for it: {error:#}"),
        }
    }
    let by_rustup = toolchain::install_nightly().and_then(|()| {
        let compilers = toolchain::compilers();
        install_linker(compilers.first().context("rustup installed a nightly without the sources of core")?)
    });
    let Err(error) = by_rustup else { return Ok(()) };
    println!("setup: not with rustup: {error:#}");
    install_debian()
}

/// Installs the packages, or unpacks them below the build directory when the machine would lose others or nobody is root.
fn install_or_unpack(packages: &[String]) -> Result<()> {
    if !apt::present() {
        bail!("there is no apt here: install {} by hand", packages.join(", "));
    }
    apt::update();
    if let Some(package) = packages.iter().find(|package| !apt::available(package)) {
        bail!("apt has no {package} here (LLVM for other releases: https://apt.llvm.org)");
    }
    let simulation = apt::simulate(packages)?;
    let root = sh::is_root() || sh::sudo_works();
    if simulation.removals.is_empty() && root {
        return apt::install(packages);
    }
    for package in &simulation.removals {
        println!("setup: not installing, because {package} would be removed for it");
    }
    if !root {
        println!("setup: not installing, because sudo does not work here");
    }
    let private = toolchain::private();
    println!("setup: unpacking below {} instead", private.display());
    apt::unpack(&apt::with_relatives(packages, simulation)?, &private)?;
    toolchain::mend_links(&private)
}

fn install_debian() -> Result<()> {
    if !apt::present() {
        bail!(
            "there is no apt here either: install rustup (https://rustup.rs) with {} and its rust-src, and bpf-linker {LINKER_VERSION} \
             built with that compiler's LLVM",
            toolchain::NIGHTLY
        );
    }
    let mut packages = toolchain::DEBIAN_PACKAGES.map(str::to_owned).to_vec();
    packages.extend(linker::packages(toolchain::DEBIAN_LLVM));
    install_or_unpack(&packages)?;
    let compilers = toolchain::compilers();
    let compiler = compilers.first().context("Debian's compiler is there and does not run")?;
    install_linker(compiler)
}

/// bpf-linker for a compiler that is there, with the LLVM packages its build needs.
fn install_linker(compiler: &Compiler) -> Result<()> {
    if linker::find(compiler).is_some() {
        return Ok(());
    }
    if linker::llvm_prefix(compiler.llvm).is_none() {
        install_or_unpack(&linker::packages(compiler.llvm))?;
    }
    linker::install(compiler.llvm)
}
