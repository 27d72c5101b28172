//! The same kind of network, larger and larger: what grows, and how.

use anyhow::Result;
use serde::Serialize;

use crate::options::{Cli, Options, Seeds};
use crate::report::{Report, Row, cells, save, table};
use crate::svg::{self, Chart};

/// Nodes of the networks.
const SIZES: [u32; 5] = [100, 200, 400, 700, 1000];

#[derive(Serialize)]
struct Growth {
    growth: Vec<Report>,
}

/// Runs all sizes, prints their figures and draws them.
///
/// # Errors
/// When the drawing cannot be written.
pub(crate) fn main(cli: &Cli, seeds: Seeds, mut progress: impl FnMut(&Row)) -> Result<()> {
    let mut growth = Vec::new();
    for nodes in SIZES {
        eprintln!("{nodes} nodes");
        // As many lookups and flows for each node everywhere.
        let options = Options { nodes, pairs: nodes / 10, ..cli.options.clone() };
        growth.push(Report::make(&options, seeds, &mut progress).0);
    }
    if let Some(file) = &cli.svg {
        save(file, &svg::charts(&charts(&growth)))?;
    }
    if cli.json {
        println!("{}", serde_json::to_string(&Growth { growth })?);
    } else {
        let rows = SIZES.iter().zip(&growth).map(|(n, report)| (n.to_string(), cells(&report.figures)));
        print!("{}", table("nodes", &rows.collect::<Vec<_>>()));
    }
    Ok(())
}

fn charts(growth: &[Report]) -> [Chart; 4] {
    let points = |value: fn(&Report) -> f64| -> Vec<(f64, f64)> {
        SIZES.iter().zip(growth).map(|(n, report)| (f64::from(*n), value(report))).collect()
    };
    [
        Chart {
            title: "kB a node sends when every node looks for one other",
            points: points(|r| r.figures.control_bytes_per_lookup.unwrap_or(0.0) / 1000.0),
        },
        Chart {
            title: "control bytes per node and second, one flow for ten nodes",
            points: points(|r| r.figures.control_bytes_per_node_s),
        },
        Chart { title: "first byte, median, ms", points: points(|r| r.figures.first_byte_ms_p50.unwrap_or(0.0)) },
        Chart { title: "memory per node, KiB", points: points(|r| r.figures.memory_bytes_per_node as f64 / 1024.0) },
    ]
}
