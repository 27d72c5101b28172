//! Who is whose neighbour, how far apart they are, and where to draw them.

use crate::random::Random;

/// Nanoseconds in a millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// A shape of networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// One behind the other
    Line,
    /// Rows and columns
    Grid,
    /// Points in a square, linked to those nearby
    Geometric,
    /// Few with many links, many with few (Barabási and Albert)
    Powerlaw,
}

/// A link between two nodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Edge {
    /// One end.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// Time from one to the other in ns.
    pub latency_ns: u64,
}

/// A network before anything runs on it.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Where each node is, in a square of side 1.
    pub places: Vec<(f64, f64)>,
    /// The links.
    pub edges: Vec<Edge>,
    /// Of each node: its links, by neighbour.
    around: Vec<Vec<(usize, usize)>>,
}

impl Graph {
    /// A network of `shape`. `degree` is the mean number of links of a node where the shape leaves it open.
    #[must_use]
    pub fn new(shape: Shape, nodes: usize, degree: usize, seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let (places, edges) = match shape {
            Shape::Line => line(nodes, &mut random),
            Shape::Grid => grid(nodes, &mut random),
            Shape::Geometric => geometric(nodes, degree, &mut random),
            Shape::Powerlaw => powerlaw(nodes, degree, &mut random),
        };
        let mut around = vec![Vec::new(); nodes];
        for (i, edge) in edges.iter().enumerate() {
            around[edge.a].push((edge.b, i));
            around[edge.b].push((edge.a, i));
        }
        for neighbours in &mut around {
            neighbours.sort_unstable();
        }
        Self { places, edges, around }
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.around.len()
    }

    /// The neighbours of a node, each with its link.
    #[must_use]
    pub fn around(&self, node: usize) -> &[(usize, usize)] {
        &self.around[node]
    }

    /// The link between two nodes.
    #[must_use]
    pub fn between(&self, a: usize, b: usize) -> Option<usize> {
        let around = self.around.get(a)?;
        around.binary_search_by_key(&b, |(neighbour, _)| *neighbour).ok().map(|i| around[i].1)
    }
}

type Drawn = (Vec<(f64, f64)>, Vec<Edge>);

/// 1 to 20 ms: from the same city to the same continent.
fn some_latency(random: &mut Random) -> u64 {
    MS + random.below(19 * MS)
}

fn line(nodes: usize, random: &mut Random) -> Drawn {
    let places = (0..nodes).map(|i| ((i as f64 + 0.5) / nodes as f64, 0.5)).collect();
    let edges = (1..nodes).map(|b| Edge { a: b - 1, b, latency_ns: some_latency(random) }).collect();
    (places, edges)
}

fn grid(nodes: usize, random: &mut Random) -> Drawn {
    let side = (nodes as f64).sqrt().ceil().max(1.0) as usize;
    let place = |i: usize| ((i % side) as f64 + 0.5, (i / side) as f64 + 0.5);
    let places = (0..nodes).map(|i| (place(i).0 / side as f64, place(i).1 / side as f64)).collect();
    let mut edges = Vec::new();
    for a in 0..nodes {
        let right = Some(a + 1).filter(|b| b % side != 0);
        for b in [right, Some(a + side)].into_iter().flatten().filter(|b| *b < nodes) {
            edges.push(Edge { a, b, latency_ns: some_latency(random) });
        }
    }
    (places, edges)
}

/// Links between the nearest pairs, as many as make the mean degree. Latency is distance: 20 ms for the side of the square.
fn geometric(nodes: usize, degree: usize, random: &mut Random) -> Drawn {
    let places: Vec<_> = (0..nodes).map(|_| (random.unit(), random.unit())).collect();
    let mut pairs = Vec::with_capacity(nodes * nodes / 2);
    for b in 0..nodes {
        for a in 0..b {
            let (x, y) = (places[a].0 - places[b].0, places[a].1 - places[b].1);
            pairs.push((x.hypot(y), a, b));
        }
    }
    pairs.sort_unstable_by(|x, y| x.partial_cmp(y).unwrap_or(std::cmp::Ordering::Equal));
    pairs.truncate(nodes * degree / 2);
    let latency = |distance: f64| MS / 5 + (distance * 20.0 * MS as f64) as u64;
    let edges = pairs.into_iter().map(|(d, a, b)| Edge { a, b, latency_ns: latency(d) }).collect();
    (places, edges)
}

/// Each node comes with links to half of `degree` earlier ones, the more linked the likelier.
fn powerlaw(nodes: usize, degree: usize, random: &mut Random) -> Drawn {
    let each = (degree / 2).max(1);
    let mut edges: Vec<Edge> = Vec::new();
    // Every end of every link: drawing from it prefers who has many.
    let mut ends: Vec<usize> = Vec::new();
    for b in 1..nodes {
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < each.min(b) {
            let a = if ends.is_empty() || b <= each { random.index(b) } else { ends[random.index(ends.len())] };
            if !chosen.contains(&a) {
                chosen.push(a);
            }
        }
        for a in chosen {
            edges.push(Edge { a, b, latency_ns: some_latency(random) });
            ends.extend([a, b]);
        }
    }
    let angle = |i: usize| i as f64 * 2.399_963;
    let radius = |i: usize| 0.48 * (i as f64 / nodes as f64).sqrt();
    let places = (0..nodes).map(|i| (0.5 + radius(i) * angle(i).cos(), 0.5 + radius(i) * angle(i).sin())).collect();
    (places, edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degrees(graph: &Graph) -> Vec<usize> {
        (0..graph.nodes()).map(|n| graph.around(n).len()).collect()
    }

    #[test]
    fn a_line_and_a_grid_have_their_links() {
        let line = Graph::new(Shape::Line, 6, 12, 1);
        assert_eq!(degrees(&line), [1, 2, 2, 2, 2, 1]);
        let grid = Graph::new(Shape::Grid, 25, 12, 1);
        assert_eq!(grid.edges.len(), 40);
        assert_eq!((grid.around(0).len(), grid.around(12).len()), (2, 4));
        assert!(grid.between(12, 13).is_some() && grid.between(4, 5).is_none(), "rows do not run into each other");
    }

    #[test]
    fn the_mean_degree_is_the_one_asked_for() {
        let geometric = Graph::new(Shape::Geometric, 200, 12, 3);
        assert_eq!(geometric.edges.len(), 1200);
        let powerlaw = Graph::new(Shape::Powerlaw, 200, 12, 3);
        let degrees = degrees(&powerlaw);
        let mean = degrees.iter().sum::<usize>() as f64 / 200.0;
        assert!((11.0..=12.0).contains(&mean), "{mean}");
        assert!(degrees.iter().max().is_some_and(|most| *most > 40), "some have many links: {degrees:?}");
    }

    #[test]
    fn a_seed_gives_one_network() {
        for shape in [Shape::Line, Shape::Grid, Shape::Geometric, Shape::Powerlaw] {
            let edges = |seed| Graph::new(shape, 50, 6, seed).edges;
            assert_eq!(edges(4), edges(4));
            assert_ne!(edges(4), edges(5));
        }
    }

    #[test]
    fn no_link_twice_and_none_to_itself() {
        for shape in [Shape::Grid, Shape::Geometric, Shape::Powerlaw] {
            let graph = Graph::new(shape, 120, 8, 9);
            let mut pairs: Vec<_> = graph.edges.iter().map(|e| (e.a.min(e.b), e.a.max(e.b))).collect();
            assert!(pairs.iter().all(|(a, b)| a != b));
            pairs.sort_unstable();
            pairs.dedup();
            assert_eq!(pairs.len(), graph.edges.len());
        }
    }
}
