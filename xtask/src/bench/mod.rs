//! Benchmarks.

mod kernel;

use anyhow::Result;
use serde::Serialize;

/// The arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// What one hop costs in the kernel
    Switch(Switch),
}

/// The arguments of `cargo xtask bench switch`.
#[derive(clap::Args)]
struct Switch {
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    /// Rounds, in each of which everything is measured once; the median counts
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

#[derive(Serialize)]
struct Report {
    ns: kernel::Nanoseconds,
}

/// Runs a benchmark.
///
/// # Errors
///
/// When something cannot be measured here; the text says what is missing.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.what {
        What::Switch(args) => switch(&args),
    }
}

fn switch(args: &Switch) -> Result<()> {
    let ns = kernel::measure(args.rounds)?;
    if args.json {
        println!("{}", serde_json::to_string(&Report { ns })?);
        return Ok(());
    }
    println!("ns a packet, median of {} rounds of test runs", args.rounds);
    println!("  empty program           {:>5}", ns.empty);
    println!("  packet restored only    {:>5}", ns.restore);
    println!("  label switch alone      {:>5}", ns.label);
    println!("  full hop                {:>5}   (+{} over empty)", ns.hop, ns.hop.saturating_sub(ns.empty));
    Ok(())
}
