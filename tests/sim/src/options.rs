//! What can be asked of the simulator.

use std::path::PathBuf;

use crate::topology::Shape;

/// What dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Victim {
    /// A link: what is sent over it vanishes
    Link,
    /// A node in the middle of a route
    Node,
}

/// One network and what is done with it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Nodes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    pub nodes: u32,
    /// Who is linked with whom
    #[arg(long, value_enum, default_value_t = Shape::Geometric)]
    pub topology: Shape,
    /// Mean number of links of a node, of geometric and powerlaw
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub degree: u32,
    /// Pairs of nodes that look for each other and then keep a flow running
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pairs: u32,
    /// Time between the beginnings of two lookups, in ms
    #[arg(long, default_value_t = 100)]
    pub pace: u32,
    /// Share of messages that every link loses, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub loss: f64,
    /// Every message takes up to so many ms longer, so that they overtake each other
    #[arg(long, default_value_t = 0)]
    pub reorder: u32,
    /// Bytes of the longest IP packet on a link
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65_535))]
    pub mtu: u32,
    /// Deaths on routes in use, one after the other
    #[arg(long, default_value_t = 0)]
    pub kill: u32,
    /// What dies
    #[arg(long, value_enum, default_value_t = Victim::Link)]
    pub victim: Victim,
    /// Both ends of a link that dies notice it at once
    #[arg(long)]
    pub carrier: bool,
    /// The programs know the keys, as from names, and not the addresses alone
    #[arg(long)]
    pub keys: bool,
    /// Tell on standard error what every death does to the routes of its flow
    #[arg(long)]
    pub trace: bool,
    /// Give both ends of every pair their fastest route by hand, to compare with
    #[arg(long)]
    pub by_hand: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 100,
            topology: Shape::Geometric,
            degree: 12,
            pairs: 100,
            pace: 100,
            loss: 0.0,
            reorder: 0,
            mtu: 1500,
            kill: 0,
            victim: Victim::Link,
            carrier: false,
            keys: false,
            trace: false,
            by_hand: false,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "not a number from 0 to below 1, as 0.01 for one message of a hundred".to_owned())
}

/// Seeds from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no range of seeds: write first..last, as 1..10");
        let (first, last) = text.split_once("..").ok_or_else(error)?;
        let (first, last) = (first.parse().map_err(|_| error())?, last.parse().map_err(|_| error())?);
        if first > last { Err(error()) } else { Ok(Self { first, last }) }
    }
}

/// Simulate networks: the core of the agent with virtual time
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
pub struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    /// All randomness of a run; the same seed gives the same output
    #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
    pub(crate) seed: u64,
    /// A run for each seed, from the first to the last: 1..10
    #[arg(long)]
    pub(crate) seeds: Option<Seeds>,
    /// Networks of 100, 200, 400, 700 and 1,000 nodes instead of one of --nodes, each with a pair for ten nodes
    #[arg(long)]
    pub(crate) growth: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the network, or with --growth how the figures grow
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        let cli = Cli::try_parse_from(["sim"]).expect("no argument is needed");
        assert_eq!(format!("{:?}", cli.options), format!("{:?}", Options::default()));
    }

    #[test]
    fn bad_input_is_refused_with_a_reason() {
        for (arguments, reason) in [
            (["--seeds", "10..1"], "no range of seeds"),
            (["--seeds", "3"], "no range of seeds"),
            (["--loss", "1.5"], "not a number from 0"),
            (["--nodes", "1"], "not in 2..=20000"),
        ] {
            let error = Cli::try_parse_from(["sim"].into_iter().chain(arguments)).expect_err("refused").to_string();
            assert!(error.contains(reason), "{arguments:?}: {error}");
        }
    }
}
