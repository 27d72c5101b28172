//! Routes: found, kept, healed, and what others may make of them.

use super::*;

mod abuse;
mod bad_input;
mod finding;
mod healing;
mod multipath;
mod steady;
mod taught;

const MS: u64 = SECOND / 1000;

/// Nodes that are neighbours as the pairs say, and no more.
fn net(n: usize, links: &[(usize, usize)]) -> World {
    let mut w = World::of((0..n).map(|i| Node::new(NodeConfig { peers: 64, ..config_of(i) }, [i as u8; 32])).collect());
    for (a, b) in links {
        w.connect(*a, *b);
    }
    w.pass_ns(100 * MS);
    w
}

fn config_of(n: usize) -> NodeConfig {
    NodeConfig { secret: secret_of(n), ..config(1) }
}

/// More keys than a byte has seeds.
fn secret_of(n: usize) -> SecretKey {
    let mut state = n as u64 + 1;
    SecretKey::generate(&mut |out| {
        for b in out {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *b = (state >> 56) as u8;
        }
    })
}

fn line_of(n: usize) -> World {
    net(n, &(1..n).map(|i| (i - 1, i)).collect::<Vec<_>>())
}

fn ring_of(n: usize) -> World {
    net(n, &(0..n).map(|i| (i, (i + 1) % n)).collect::<Vec<_>>())
}

impl World {
    /// Looks for a node by its key.
    fn seek(&mut self, a: usize, b: usize) {
        let (id, now) = (self.id(b), self.now());
        self.nodes[a].connect(now, id, Vec::new(), true);
        self.settle();
    }

    fn routes(&self, at: usize, to: usize) -> Vec<RouteView> {
        let id = self.id(to);
        self.nodes[at].routes().into_iter().filter(|r| r.peer == id).collect()
    }

    /// The nodes of the route in use, the sender first.
    fn path(&self, at: usize, to: usize) -> Vec<usize> {
        let id = self.id(to);
        let path = self.nodes[at].peers().find(|p| p.id == id).and_then(|p| p.path);
        path.and_then(|p| self.way(at, &p)).map(|(nodes, _)| nodes).unwrap_or_default()
    }

    fn cut(&mut self, a: usize, b: usize) {
        self.dead.insert((a.min(b), a.max(b)));
    }

    fn delay_all(&mut self, ns: u64) {
        for a in 0..self.nodes.len() {
            for b in a..self.nodes.len() {
                self.delays.entry((a, b)).or_insert(ns);
            }
        }
    }

    /// Packets to and fro every 10 ms for `ns`; how many went from `a` and how many arrived at `b`, in time.
    fn talk(&mut self, a: usize, b: usize, ns: u64) -> (usize, Vec<u64>) {
        let (end, mut sent, mut arrived) = (self.now_ns + ns, 0, Vec::new());
        while self.now_ns < end {
            let _ = self.send(a, b, 1);
            let _ = self.send(b, a, 2);
            sent += 1;
            self.pass_ns(10 * MS);
            let now_ns = self.now_ns;
            arrived.extend(self.arrived.drain(..).filter(|(at, _)| *at == b).map(|_| now_ns));
        }
        (sent, arrived)
    }
}
