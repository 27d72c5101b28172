//! Setup, builds, demo, tests and benchmarks of rovy.

mod bench;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod install;
mod setup;
mod sh;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Setup, builds, demo, tests and benchmarks of rovy
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what the BPF build, the tests and the demo need
    Setup(setup::Args),
    /// Build the BPF objects, or check that the committed ones belong to their sources
    BuildEbpf(ebpf::Args),
    /// Run every check and test
    Test(test::Args),
    /// Three hosts on this machine, one of them switching in its kernel
    Demo(demo::Args),
    /// Measure
    Bench(bench::Args),
    /// Search inputs that break a parser or the core, and keep those that reach something new
    Fuzz(fuzz::Args),
    /// Boot another kernel under QEMU and load the BPF programs there
    Vm(vm::Args),
    /// Build rovy and install it
    Install(install::Args),
    /// Build rovy and pack it with its licences
    Dist(dist::Args),
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup(args) => setup::run(&args),
        Command::BuildEbpf(args) => ebpf::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Dist(args) => dist::run(&args),
    }
}

fn main() -> ExitCode {
    if let Some(code) = ebpf::intercept() {
        return code;
    }
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
