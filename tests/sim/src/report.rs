//! What is printed: a table, or one JSON object. How long a run took goes to standard error, so that the same seed prints the
//! same bytes.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::metrics::{Figures, Outcome};
use crate::options::{Cli, Options, Seeds};
use crate::run::{Picture, simulate};
use crate::topology::Shape;
use crate::{growth, svg};

/// Raised when a key of the JSON output goes or changes its meaning.
const SCHEMA: u32 = 1;

/// The figures of one seed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Row {
    seed: u64,
    #[serde(flatten)]
    figures: Figures,
}

/// Everything about runs of one kind of network.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    schema: u32,
    topology: Shape,
    nodes: u32,
    degree: u32,
    seed: u64,
    seeds: u64,
    /// Of all runs together.
    #[serde(flatten)]
    pub figures: Figures,
    runs: Vec<Row>,
}

impl Report {
    /// Runs every seed, and the drawing of the last one. What takes long is told to `progress`.
    pub(crate) fn make(options: &Options, seeds: Seeds, mut progress: impl FnMut(&Row)) -> (Self, Option<Picture>) {
        let mut all = Outcome::default();
        let mut runs = Vec::new();
        let mut last = None;
        for seed in seeds.first..=seeds.last {
            let (outcome, picture) = simulate(options, seed);
            let row = Row { seed, figures: outcome.figures() };
            progress(&row);
            runs.push(row);
            all.merge(&outcome);
            last = Some(picture);
        }
        let report = Self {
            schema: SCHEMA,
            topology: options.topology,
            nodes: options.nodes,
            degree: options.degree,
            seed: seeds.first,
            seeds: seeds.last - seeds.first + 1,
            figures: all.figures(),
            runs,
        };
        (report, last)
    }
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.decimals$}"))
}

fn percent(value: Option<f64>) -> String {
    number(value.map(|v| v * 100.0), 2)
}

const HEAD: [&str; 12] = [
    "links up %",
    "fitting %",
    "connected %",
    "stretch",
    "hops",
    "first byte ms",
    "B/node/s",
    "quiet",
    "KB/lookup",
    "heal ms p50",
    "p99",
    "KiB/node",
];

pub(crate) fn cells(f: &Figures) -> [String; 12] {
    [
        percent(Some(f.links_up)),
        percent(Some(f.pairs_fitting)),
        percent(f.pairs_connected),
        number(f.mean_stretch, 3),
        number(f.mean_hops_stretch, 3),
        number(f.first_byte_ms_p50, 1),
        number(Some(f.control_bytes_per_node_s), 0),
        number(Some(f.quiet_bytes_per_node_s), 0),
        number(f.control_bytes_per_lookup.map(|b| b / 1000.0), 0),
        number(f.heal_ms_p50, 0),
        number(f.heal_ms_p99, 0),
        number(Some(f.memory_bytes_per_node as f64 / 1024.0), 0),
    ]
}

/// A table with `first` as the name of its first column.
pub(crate) fn table(first: &str, rows: &[(String, [String; 12])]) -> String {
    let width = |i: usize| rows.iter().map(|(_, cells)| cells[i].len()).chain([HEAD[i].len()]).max().unwrap_or(0);
    let name = rows.iter().map(|(name, _)| name.len()).chain([first.len()]).max().unwrap_or(0);
    let line = |label: &str, cells: [&str; 12]| {
        let cells = cells.iter().enumerate().map(|(i, cell)| format!("  {cell:>w$}", w = width(i)));
        format!("{label:<name$}{}\n", cells.collect::<String>())
    };
    let mut out = line(first, HEAD);
    for (label, cells) in rows {
        out += &line(label, std::array::from_fn(|i| cells[i].as_str()));
    }
    out
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self.runs.iter().map(|r| (r.seed.to_string(), cells(&r.figures))).collect();
        if self.seeds > 1 {
            rows.push(("all".to_owned(), cells(&self.figures)));
        }
        f.write_str(&table("seed", &rows))?;
        let drops: Vec<_> = self.figures.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        write!(f, "dropped: {}", if drops.is_empty() { "nothing".to_owned() } else { drops.join(", ") })
    }
}

pub(crate) fn save(file: &Path, text: &str) -> Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    }
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Does what the command line asks for.
///
/// # Errors
/// When a file cannot be written.
pub fn main(cli: &Cli) -> Result<()> {
    let seeds = cli.seeds.unwrap_or(Seeds { first: cli.seed, last: cli.seed });
    let mut start = Instant::now();
    let progress = |row: &Row| {
        let (connected, stretch) = (percent(row.figures.pairs_connected), number(row.figures.mean_stretch, 3));
        let took = start.elapsed().as_secs_f64();
        eprintln!("seed {}: {took:.1} s, {connected} % connected, stretch {stretch}", row.seed);
        start = Instant::now();
    };
    if cli.growth {
        return growth::main(cli, seeds, progress);
    }
    let (report, picture) = Report::make(&cli.options, seeds, progress);
    if let (Some(file), Some(picture)) = (&cli.svg, picture) {
        save(file, &svg::map(&picture))?;
    }
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
