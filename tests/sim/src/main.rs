//! `rovy-sim`: what `cargo xtask sim` runs, optimised.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match rovy_sim::main(&rovy_sim::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
