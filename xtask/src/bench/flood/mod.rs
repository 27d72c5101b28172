//! A node under a flood of hellos: what is left for an established stream, what it costs, whether a new peer connects.
//!
//! The stage is `rovy_netns::flood::Siege`. Slices of flood and of baseline follow each other at once: the baseline is the same
//! generator at the same rate, whose frames meet a program that does nothing but drop.

mod measure;
mod report;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use measure::Bench;
use report::{KindReport, Report};
use rovy_netns::flood::{Kind, MAXIMUM};
use rovy_netns::{Link, Mode, namespace, wait};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The rate whose figures stand directly at a kind, and that the other links are measured at.
const SUMMARY: Rate = Rate(200_000);

/// The arguments of `cargo xtask bench flood`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    /// Hellos a second, or `maximum`; may be given again [default: 1000 10000 200000 maximum]
    #[arg(long = "rate", value_name = "N")]
    rates: Vec<Rate>,
    /// What the hellos are; may be given again [default: all]
    #[arg(long = "kind", value_enum, value_name = "KIND")]
    kinds: Vec<KindArg>,
    /// How long each rate is measured with the flood, and as long without
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Use this rovy binary instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// Hellos a second; [`MAXIMUM`] for as fast as it goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rate(u64);

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "maximum" => Ok(Self(MAXIMUM)),
            _ => text
                .parse()
                .ok()
                .filter(|n| (1..MAXIMUM).contains(n))
                .map(Self)
                .ok_or_else(|| format!("'{text}' is neither a number of hellos a second nor 'maximum'")),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == MAXIMUM { f.write_str("maximum") } else { self.0.fmt(f) }
    }
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum KindArg {
    /// Random bytes behind the header of a hello
    Random,
    /// Hellos to another node
    WrongMac1,
    /// Hellos to the victim from forged addresses
    Spoofed,
    /// One recorded hello over and over
    Replayed,
    /// Messages that no session knows, instead of hellos
    Strays,
}

impl From<KindArg> for Kind {
    fn from(arg: KindArg) -> Self {
        match arg {
            KindArg::Random => Self::Random,
            KindArg::WrongMac1 => Self::WrongMac1,
            KindArg::Spoofed => Self::Spoofed,
            KindArg::Replayed => Self::Replayed,
            KindArg::Strays => Self::Strays,
        }
    }
}

/// Runs the benchmark, as root: through sudo when this process is not.
///
/// # Errors
/// When something cannot be built or set up.
pub(super) fn run(args: &Args) -> Result<()> {
    let binary = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
        None => crate::demo::rovy(true)?,
    };
    if !crate::sh::is_root() {
        ensure!(crate::sh::find("sudo").is_some(), "network namespaces need root and there is no sudo");
        let mut command = crate::sh::as_root(std::env::current_exe()?);
        command.args(std::env::args().skip(1));
        if args.binary.is_none() {
            command.arg("--binary").arg(binary);
        }
        return crate::sh::run(&mut command);
    }
    ctrlc::set_handler(wait::interrupt).context("cannot handle Ctrl-C")?;
    namespace::sweep();
    let report = measure(args, &binary)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    let missed = report.missed();
    if !missed.is_empty() {
        eprintln!("bench: aims that were missed:\n  {}", missed.join("\n  "));
    }
    Ok(())
}

fn measure(args: &Args, binary: &std::path::Path) -> Result<Report> {
    let mut rates = args.rates.clone();
    if rates.is_empty() {
        rates = vec![Rate(1000), Rate(10_000), SUMMARY, Rate(MAXIMUM)];
    }
    rates.sort_unstable();
    rates.dedup();
    let mut kinds: Vec<Kind> = args.kinds.iter().map(|k| (*k).into()).collect();
    if kinds.is_empty() {
        kinds = Kind::ALL.to_vec();
    }
    let slice = Duration::from_secs(args.seconds);
    eprintln!("bench: making the hosts");
    let mut bench = Bench::start(binary, Link::Udp4, Mode::Native)?;
    let quiet = bench.quiet(slice)?;
    let mut report = Report { seconds: args.seconds, cpus: cpus(), quiet, kinds: BTreeMap::new() };
    for kind in kinds {
        let mut of = KindReport::default();
        for link in [Link::Udp4, Link::Udp6, Link::Eth] {
            let main = link == Link::Udp4;
            let wanted: Vec<Rate> = rates.iter().copied().filter(|r| main || *r == SUMMARY).collect();
            if wanted.is_empty() {
                continue;
            }
            let flood = bench.flood(kind, link)?;
            for rate in wanted {
                eprintln!("bench: {kind} hellos over {link}, {rate} a second");
                let cell = bench.cell(&flood, rate.0, slice)?;
                if main && rate == SUMMARY {
                    of.summary = Some(cell.clone());
                }
                if main {
                    of.rates.insert(rate.to_string(), cell);
                } else {
                    of.links.insert(link.to_string(), cell);
                }
            }
            if flood.finish()? == 0 {
                bail!("the generator sent nothing");
            }
        }
        report.kinds.insert(kind.to_string(), of);
    }
    bench.finish()?;
    Ok(report)
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_the_maximum() {
        assert_eq!("1000".parse(), Ok(Rate(1000)));
        assert_eq!("maximum".parse(), Ok(Rate(MAXIMUM)));
        for bad in ["0", "", "-1", "fast", "18446744073709551615"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert!(Rate(MAXIMUM) > SUMMARY);
    }
}
