//! Shortest paths: what the routes found are compared with.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::topology::Graph;

/// Distances from one node to all, over the links that live.
#[derive(Clone, Debug)]
pub(crate) struct Distances {
    /// The least latency in ns; `None` where no path leads.
    pub(crate) latency_ns: Vec<Option<u64>>,
    /// The fewest links.
    pub(crate) links: Vec<Option<u32>>,
}

/// Which links and nodes are gone.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) links: Vec<bool>,
    pub(crate) nodes: Vec<bool>,
}

impl Dead {
    /// Nobody yet.
    pub(crate) fn none(graph: &Graph) -> Self {
        Self { links: vec![false; graph.edges.len()], nodes: vec![false; graph.nodes()] }
    }

    fn passes(&self, link: usize, to: usize) -> bool {
        !self.links[link] && !self.nodes[to]
    }
}

impl Distances {
    pub(crate) fn from(graph: &Graph, dead: &Dead, start: usize) -> Self {
        Self { latency_ns: latencies(graph, dead, start), links: links(graph, dead, start) }
    }

    /// The nodes of a fastest path to `end`, which comes first. `None` without any.
    pub(crate) fn back_from(&self, graph: &Graph, end: usize) -> Option<Vec<usize>> {
        let mut nodes = vec![end];
        loop {
            let at = *nodes.last()?;
            let latency_ns = self.latency_ns[at]?;
            if latency_ns == 0 {
                return Some(nodes);
            }
            let before = |(n, link): &&(usize, usize)| {
                self.latency_ns[*n].is_some_and(|l| l + graph.edges[*link].latency_ns == latency_ns)
            };
            nodes.push(graph.around(at).iter().find(before)?.0);
        }
    }
}

fn latencies(graph: &Graph, dead: &Dead, start: usize) -> Vec<Option<u64>> {
    let mut best: Vec<Option<u64>> = vec![None; graph.nodes()];
    let mut open = BinaryHeap::from([Reverse((0, start))]);
    while let Some(Reverse((so_far, node))) = open.pop() {
        if best[node].is_some() {
            continue;
        }
        best[node] = Some(so_far);
        for (next, link) in graph.around(node) {
            if best[*next].is_none() && dead.passes(*link, *next) {
                open.push(Reverse((so_far + graph.edges[*link].latency_ns, *next)));
            }
        }
    }
    best
}

fn links(graph: &Graph, dead: &Dead, start: usize) -> Vec<Option<u32>> {
    let mut best: Vec<Option<u32>> = vec![None; graph.nodes()];
    best[start] = Some(0);
    let mut open = VecDeque::from([(start, 0)]);
    while let Some((node, so_far)) = open.pop_front() {
        for (next, link) in graph.around(node) {
            if best[*next].is_none() && dead.passes(*link, *next) {
                best[*next] = Some(so_far + 1);
                open.push_back((*next, so_far + 1));
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Shape;

    #[test]
    fn along_a_line_everything_adds_up() {
        let graph = Graph::new(Shape::Line, 6, 0, 1);
        let mut dead = Dead::none(&graph);
        let from = Distances::from(&graph, &dead, 0);
        assert_eq!(from.links[5], Some(5));
        assert_eq!(from.latency_ns[5], Some(graph.edges.iter().map(|e| e.latency_ns).sum()));
        assert_eq!(from.back_from(&graph, 3), Some(vec![3, 2, 1, 0]));
        dead.links[2] = true;
        let cut = Distances::from(&graph, &dead, 0);
        assert_eq!((cut.links[2], cut.links[3], cut.latency_ns[3]), (Some(2), None, None));
    }

    #[test]
    fn latency_and_links_are_least_over_all_paths() {
        let graph = Graph::new(Shape::Geometric, 40, 6, 2);
        let dead = Dead::none(&graph);
        // Bellman-Ford as the other opinion.
        let mut by_latency = vec![u64::MAX; 40];
        let mut by_links = vec![u32::MAX; 40];
        (by_latency[3], by_links[3]) = (0, 0);
        for _ in 0..40 {
            for e in &graph.edges {
                for (a, b) in [(e.a, e.b), (e.b, e.a)] {
                    by_latency[b] = by_latency[b].min(by_latency[a].saturating_add(e.latency_ns));
                    by_links[b] = by_links[b].min(by_links[a].saturating_add(1));
                }
            }
        }
        let from = Distances::from(&graph, &dead, 3);
        assert_eq!(from.latency_ns.iter().map(|l| l.unwrap_or(u64::MAX)).collect::<Vec<_>>(), by_latency);
        assert_eq!(from.links.iter().map(|l| l.unwrap_or(u32::MAX)).collect::<Vec<_>>(), by_links);
    }

    #[test]
    fn a_dead_node_is_not_passed() {
        let graph = Graph::new(Shape::Grid, 9, 0, 1);
        let mut dead = Dead::none(&graph);
        dead.nodes[1] = true;
        assert_eq!(Distances::from(&graph, &dead, 0).links[2], Some(4), "below it");
        dead.nodes[3] = true;
        assert_eq!(Distances::from(&graph, &dead, 0).links[8], None);
    }
}
