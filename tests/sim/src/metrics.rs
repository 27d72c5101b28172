//! What runs gave, and the figures made of it.

use std::collections::BTreeMap;

use serde::Serialize;

/// Bytes, and over how many seconds of how many nodes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Rate {
    bytes: u64,
    node_seconds: f64,
}

impl Rate {
    pub(crate) fn add(&mut self, bytes: u64, node_seconds: f64) {
        self.bytes += bytes;
        self.node_seconds += node_seconds;
    }

    fn per_node_s(self) -> f64 {
        if self.node_seconds > 0.0 { round(self.bytes as f64 / self.node_seconds) } else { 0.0 }
    }
}

/// What one run gave, or several together.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    pub(crate) runs: u64,
    pub(crate) nodes: u64,
    pub(crate) links: u64,
    pub(crate) links_up: u64,
    pub(crate) pairs_sampled: u64,
    pub(crate) pairs_fitting: u64,
    pub(crate) stretch: Vec<f64>,
    pub(crate) hops_stretch: Vec<f64>,
    pub(crate) first_byte_ms: Vec<f64>,
    pub(crate) quiet: Rate,
    pub(crate) lookup: Rate,
    pub(crate) lookups: u64,
    pub(crate) lookup_messages: u64,
    pub(crate) steady: Rate,
    pub(crate) deaths: u64,
    pub(crate) unhealed: u64,
    pub(crate) heal_ms: Vec<f64>,
    pub(crate) memory_bytes: u64,
    pub(crate) drops: BTreeMap<&'static str, u64>,
}

/// The figures of one run, or of several together. `None` where nothing was measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figures {
    /// Share of links over which both ends can send after the bring-up.
    pub links_up: f64,
    /// Pairs of nodes drawn.
    pub pairs_sampled: u64,
    /// Share of them whose path of the fewest links fits a long label: 31 links.
    pub pairs_fitting: f64,
    /// Share of the fitting ones that exchanged a packet in both directions within ten seconds.
    pub pairs_connected: Option<f64>,
    /// Latency of the route in use over the least latency, mean over the connected pairs.
    pub mean_stretch: Option<f64>,
    /// The same, 99th percentile.
    pub stretch_p99: Option<f64>,
    /// Links of the route in use over the fewest links, mean.
    pub mean_hops_stretch: Option<f64>,
    /// From a program's first packet until the answer, median in ms.
    pub first_byte_ms_p50: Option<f64>,
    /// The same, 99th percentile.
    pub first_byte_ms_p99: Option<f64>,
    /// Bytes of messages without a packet of the workload, sent over links, per node and second, while flows run.
    pub control_bytes_per_node_s: f64,
    /// The same while nobody talks.
    pub quiet_bytes_per_node_s: f64,
    /// The same while lookups run.
    pub lookup_bytes_per_node_s: f64,
    /// Such bytes of the whole network for one lookup.
    pub control_bytes_per_lookup: Option<f64>,
    /// Such messages of the whole network for one lookup.
    pub control_messages_per_lookup: Option<f64>,
    /// From a death on the route in use until an answer to a packet sent after it, median in ms.
    pub heal_ms_p50: Option<f64>,
    /// The same, 99th percentile.
    pub heal_ms_p99: Option<f64>,
    /// Deaths.
    pub deaths: u64,
    /// Deaths after which no answer came for thirty seconds; they count as thirty seconds.
    pub unhealed: u64,
    /// What core and tables of a node hold, mean at the end of the run.
    pub memory_bytes_per_node: u64,
    /// Messages dropped by nodes, by reason.
    pub drops: BTreeMap<&'static str, u64>,
}

/// Four decimals: what more there is, is noise.
fn round(x: f64) -> f64 {
    (x * 10_000.0).round() / 10_000.0
}

fn mean(all: &[f64]) -> Option<f64> {
    (!all.is_empty()).then(|| round(all.iter().sum::<f64>() / all.len() as f64))
}

/// The least value that at least this share of all values does not exceed.
fn percentile(all: &[f64], share: f64) -> Option<f64> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().map(round)
}

fn share(part: usize, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Outcome {
    /// Adds what another run gave.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.nodes += other.nodes;
        self.links += other.links;
        self.links_up += other.links_up;
        self.pairs_sampled += other.pairs_sampled;
        self.pairs_fitting += other.pairs_fitting;
        self.stretch.extend(&other.stretch);
        self.hops_stretch.extend(&other.hops_stretch);
        self.first_byte_ms.extend(&other.first_byte_ms);
        for (all, one) in
            [(&mut self.quiet, other.quiet), (&mut self.lookup, other.lookup), (&mut self.steady, other.steady)]
        {
            all.add(one.bytes, one.node_seconds);
        }
        self.lookups += other.lookups;
        self.lookup_messages += other.lookup_messages;
        self.deaths += other.deaths;
        self.unhealed += other.unhealed;
        self.heal_ms.extend(&other.heal_ms);
        self.memory_bytes += other.memory_bytes;
        for (reason, count) in &other.drops {
            *self.drops.entry(reason).or_default() += count;
        }
    }

    /// The figures of it.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let per_lookup = |n: u64| (self.lookups > 0).then(|| round(n as f64 / self.lookups as f64));
        Figures {
            links_up: share(self.links_up as usize, self.links).unwrap_or(1.0),
            pairs_sampled: self.pairs_sampled,
            pairs_fitting: share(self.pairs_fitting as usize, self.pairs_sampled).unwrap_or(0.0),
            pairs_connected: share(self.first_byte_ms.len(), self.pairs_fitting),
            mean_stretch: mean(&self.stretch),
            stretch_p99: percentile(&self.stretch, 0.99),
            mean_hops_stretch: mean(&self.hops_stretch),
            first_byte_ms_p50: percentile(&self.first_byte_ms, 0.5),
            first_byte_ms_p99: percentile(&self.first_byte_ms, 0.99),
            control_bytes_per_node_s: self.steady.per_node_s(),
            quiet_bytes_per_node_s: self.quiet.per_node_s(),
            lookup_bytes_per_node_s: self.lookup.per_node_s(),
            control_bytes_per_lookup: per_lookup(self.lookup.bytes),
            control_messages_per_lookup: per_lookup(self.lookup_messages),
            heal_ms_p50: percentile(&self.heal_ms, 0.5),
            heal_ms_p99: percentile(&self.heal_ms, 0.99),
            deaths: self.deaths,
            unhealed: self.unhealed,
            memory_bytes_per_node: self.memory_bytes / self.nodes.max(1),
            drops: self.drops.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let all: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&all, 0.5), Some(50.0));
        assert_eq!(percentile(&all, 0.99), Some(99.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn outcomes_add_up() {
        let mut one = Outcome { pairs_sampled: 10, pairs_fitting: 8, nodes: 5, memory_bytes: 50, ..Outcome::default() };
        one.first_byte_ms = vec![1.0; 8];
        one.steady.add(1000, 10.0);
        let mut both = one.clone();
        one.first_byte_ms.truncate(4);
        both.merge(&one);
        let figures = both.figures();
        assert_eq!((figures.pairs_connected, figures.pairs_fitting), (Some(0.75), 0.8));
        assert_eq!((figures.control_bytes_per_node_s, figures.memory_bytes_per_node), (100.0, 10));
        assert_eq!((figures.heal_ms_p50, figures.mean_stretch), (None, None), "nothing was measured");
    }
}
