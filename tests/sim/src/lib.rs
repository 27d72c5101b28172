//! Networks in one process: the core of the agent and its own switch, with virtual time, over links that are slow, lose
//! and reorder messages, and die. `cargo xtask sim` runs it; `docs/design/014-simulator.md` tells what is real in it.

mod growth;
mod host;
mod memory;
mod metrics;
mod network;
mod options;
mod paths;
mod random;
mod report;
mod run;
mod svg;
mod topology;
mod workload;

pub use metrics::{Figures, Outcome};
pub use options::{Cli, Options, Seeds, Victim};
pub use report::{Report, main};
pub use run::{Picture, simulate};
pub use topology::{Edge, Graph, Shape};
