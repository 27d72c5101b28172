//! Benchmarks.

mod firewall;
mod flood;
mod forward;
mod handshake;
mod kernel;
mod sealed;

use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// Handshakes a second on one core, as initiator and as responder
    Handshake(Handshake),
    /// What a node under a flood of hellos still does
    Flood(flood::Args),
    /// What a router passes on in its kernel, in its agent, and sealed; as root
    Sealed(Sealed),
    /// What the firewall costs a TCP stream, beside none and one of nftables; as root
    Firewall(Firewall),
}

/// The arguments of `cargo xtask bench firewall`.
#[derive(clap::Args)]
struct Firewall {
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    /// Rounds, in each of which everything is measured once; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// The arguments of `cargo xtask bench sealed`.
#[derive(clap::Args)]
struct Sealed {
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    /// Rounds, in each of which everything is measured once; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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

/// The arguments of `cargo xtask bench handshake`.
#[derive(clap::Args)]
struct Handshake {
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    /// Rounds of 500 handshakes; the median counts
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

#[derive(Serialize)]
struct Report {
    ns: kernel::Nanoseconds,
    sizes: BTreeMap<usize, forward::Size>,
}

/// Runs a benchmark.
///
/// # Errors
///
/// When something cannot be measured here; the text says what is missing.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.what {
        What::Switch(args) => switch(&args),
        What::Handshake(args) => handshake(&args),
        What::Flood(args) => flood::run(&args),
        What::Sealed(args) => sealed(&args),
        What::Firewall(args) => firewall(&args),
    }
}

fn firewall(args: &Firewall) -> Result<()> {
    let kinds = firewall::measure(args.rounds, |what| eprintln!("bench: {what}"))?;
    if args.json {
        println!("{}", serde_json::to_string(&kinds)?);
        return Ok(());
    }
    println!("a TCP stream between two hosts, median of {} rounds", args.rounds);
    println!("  firewall   Mbit/s   of off   CPU of the receiving agent, us a packet");
    for kind in &kinds {
        let (rate, ratio, cost) = (kind.mbit_s, kind.of_off, kind.agent_us_a_packet);
        println!("  {:<8} {rate:>8.0} {ratio:>8.2} {cost:>40.2}", kind.firewall);
    }
    Ok(())
}

fn sealed(args: &Sealed) -> Result<()> {
    let ways = sealed::measure(args.rounds, |what| eprintln!("bench: {what}"))?;
    if args.json {
        println!("{}", serde_json::to_string(&ways)?);
        return Ok(());
    }
    println!("a TCP stream over a router, median of {} rounds", args.rounds);
    println!("  transit at the router   Mbit/s   CPU of its agent, us a packet");
    for way in &ways {
        println!("  {:<22} {:>7} {:>31.2}", way.transit, way.mbit_s, way.agent_us_a_packet);
    }
    Ok(())
}

fn handshake(args: &Handshake) -> Result<()> {
    if cfg!(debug_assertions) {
        // What is measured runs in this program, so another build of it measures.
        eprintln!("bench: building an optimised xtask (the first time takes some minutes)");
        let mut command = crate::sh::cargo();
        command.args(["run", "--quiet", "--profile", "demo", "--package", "xtask", "--", "bench", "handshake"]);
        command.args(["--rounds", &args.rounds.to_string()]);
        if args.json {
            command.arg("--json");
        }
        return crate::sh::run(&mut command);
    }
    let rates = handshake::measure(args.rounds)?;
    if args.json {
        println!("{}", serde_json::to_string(&rates)?);
        return Ok(());
    }
    println!("on one core, a second, median of {} rounds", args.rounds);
    println!("  handshakes as initiator      {:>9}", rates.initiator_per_s);
    println!("  handshakes as responder      {:>9}", rates.responder_per_s);
    println!("  wrong mac1 refused           {:>9}", rates.wrong_mac1_per_s);
    Ok(())
}

fn switch(args: &Switch) -> Result<()> {
    eprintln!("bench: a packet in the kernel");
    let ns = kernel::measure(args.rounds)?;
    let sizes = forward::measure(args.rounds, |what| eprintln!("bench: {what}"))?;
    if args.json {
        println!("{}", serde_json::to_string(&Report { ns, sizes })?);
        return Ok(());
    }
    let hop = ns.hop;
    println!("ns a packet, median of {} rounds of test runs", args.rounds);
    println!("  empty program           {:>5}", ns.empty);
    println!("  packet restored only    {:>5}", ns.restore);
    println!("  label switch alone      {:>5}", ns.label);
    println!("  full hop                {:>5}   (+{} over empty)", ns.hop, ns.hop.saturating_sub(ns.empty));
    for (name, ns) in [("long label", ns.hop_long), ("rate limit", ns.hop_limited)] {
        let more = i128::from(ns) - i128::from(hop);
        println!("  full hop, {name}    {ns:>5}   ({more:+} to a full hop)");
    }
    println!("  hello refused           {:>5}   (+{} over empty)", ns.refusal, ns.refusal.saturating_sub(ns.empty));
    println!();
    println!("packets a second over veth, median of {} rounds", args.rounds);
    println!("  bytes   full hop  with checksum  bare redirect  kernel IPv6   hop/redirect  hop/kernel");
    for (bytes, s) in &sizes {
        println!(
            "  {bytes:>5} {:>10} {:>14} {:>14} {:>12} {:>14.2} {:>11.2}",
            s.hop_pps,
            s.hop_checksum_pps,
            s.redirect_pps,
            s.kernel_ipv6_pps,
            s.hop_over_redirect,
            s.hop_over_kernel_ipv6
        );
    }
    Ok(())
}
