//! Kernel and agent share a replay window: a message counts once, whichever way it comes.

use rovy_common::DropReason;
use rovy_common::label::Width;
use rovy_common::replay::WORDS;
use rovy_userspace::dataplane::{Dataplane as _, Switched, Tables};
use rovy_userspace::transport::Endpoint;

use crate::frames::{Draft, frame, inner};
use crate::{Bench, Link, skip};

const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// Both switches of one node.
struct Node {
    bench: Bench,
    tables: Tables,
    from: Link,
    to: Vec<u8>,
    /// The agent's clock.
    now_ns: u64,
}

impl Node {
    fn new(name: &str) -> Self {
        let bench = Bench::new(Width::One, name);
        let mut tables = Tables::new(Width::One, Some(bench.xdp()));
        let at = Endpoint::Ethernet { ifindex: 1, mac: [2; 6] };
        for link in bench.links.values() {
            let Ok(()) = tables.set_receive(&link.rx, at);
            let Ok(()) = tables.set_transmit(&link.tx, at);
        }
        let (from, to) = (bench.links["udp4"].clone(), vec![bench.links["eth"].rx.slot as u8]);
        Self { bench, tables, from, to, now_ns: 1 }
    }

    fn kernel(&self, draft: &Draft) -> u32 {
        self.bench.xdp().test_run(&frame(&self.from, draft), &mut Vec::new()).expect("test run")
    }

    fn agent(&mut self, draft: &Draft) -> Result<Switched, DropReason> {
        self.tables.switch(self.now_ns, &mut draft.message(&self.from.rx))
    }

    fn drops(&self) -> u64 {
        let counts = self.bench.xdp().counts().expect("counts");
        counts[rovy_common::Counter::Drop(DropReason::Replay).index() as usize]
    }
}

fn limited(result: &Result<Switched, DropReason>) -> bool {
    matches!(result, Ok(Switched::Refused(DropReason::RateLimited)))
}

#[test]
fn kernel_and_agent_pay_from_one_bucket() {
    if !skip::root("kernel_and_agent_pay_from_one_bucket") {
        return;
    }
    let mut node = Node::new("shared-rate");
    node.from = node.bench.links["limited"].clone();
    // The kernel's own, to which the minutes of a token are long.
    let uptime = std::fs::read_to_string("/proc/uptime").expect("/proc/uptime");
    let seconds = uptime.split('.').next().and_then(|s| s.parse::<u64>().ok()).expect("seconds");
    node.now_ns = seconds * 1_000_000_000;
    let from = &node.from.rx;
    let rate = node.bench.xdp().rate(from.slot).expect("rate");
    let Ok(()) = node.tables.set_rate(from.slot, &rate);
    let route = node.to.clone();
    for counter in 0..100 {
        let draft = Draft::new(counter, &route);
        if counter % 2 == 0 {
            assert_eq!(node.kernel(&draft), REDIRECT, "{counter}");
        } else {
            let switched = node.agent(&draft);
            assert!(matches!(switched, Ok(Switched::Forward(..))), "{counter}: {switched:?}");
        }
    }
    // It goes up so that its sender is told; what the agent finds is the same.
    assert_eq!(node.kernel(&Draft::new(100, &route)), PASS);
    for counter in [100, 101] {
        let switched = node.agent(&Draft::new(counter, &route));
        assert!(limited(&switched), "{switched:?}");
    }
    let slot = node.from.rx.slot;
    let Ok(mine) = node.tables.slot_stats(slot);
    assert_eq!((mine.refused_packets, node.bench.xdp().slot_stats(slot).expect("stats").refused_packets), (2, 0));
}

fn replayed(result: &Result<Switched, DropReason>) -> bool {
    matches!(result, Err(DropReason::Replay))
}

#[test]
fn transit_counts_once_in_kernel_and_agent() {
    if !skip::root("transit_counts_once_in_kernel_and_agent") {
        return;
    }
    let mut node = Node::new("shared-transit");
    let route = node.to.clone();
    // In order, in reverse, and far apart: the window's words are reached from both sides.
    for counter in [0, 1, 3, 2, 5000, 4000, 63, 64] {
        let first_kernel = Draft::new(2 * counter, &route);
        assert_eq!(node.kernel(&first_kernel), REDIRECT, "{counter}");
        let again = node.agent(&first_kernel);
        assert!(replayed(&again), "{counter}: {again:?}");

        let first_agent = Draft::new(2 * counter + 1, &route);
        let switched = node.agent(&first_agent);
        assert!(matches!(switched, Ok(Switched::Forward(..))), "{counter}: {switched:?}");
        let before = node.drops();
        assert_eq!((node.kernel(&first_agent), node.drops()), (DROP, before + 1), "{counter}");
        let again = node.agent(&first_agent);
        assert!(replayed(&again), "{counter}: {again:?}");
    }
    // Once one of them has moved a word of the window on, both refuse what it stood for before.
    let lap = 32 * WORDS as u64;
    for ahead_by_agent in [true, false] {
        let old = Draft::new(if ahead_by_agent { 20_000 } else { 20_032 }, &route);
        let ahead = Draft { counter: old.counter + 3 * lap, ..old.clone() };
        if ahead_by_agent {
            assert!(node.agent(&ahead).is_ok());
        } else {
            assert_eq!(node.kernel(&ahead), REDIRECT);
        }
        assert_eq!(node.kernel(&old), DROP);
        assert!(replayed(&node.agent(&old)));
    }
}

#[test]
fn the_kernel_leaves_the_marking_of_what_it_passes_up_to_the_agent() {
    if !skip::root("the_kernel_leaves_the_marking_of_what_it_passes_up_to_the_agent") {
        return;
    }
    let mut node = Node::new("shared-here");
    for (counter, len) in [(7, 16), (6, 60), (9000, 1000)] {
        let draft = Draft { inner: inner(len), ..Draft::new(counter, &[]) };
        // Whatever never arrives in the agent may come again.
        for _ in 0..3 {
            assert_eq!(node.kernel(&draft), PASS, "{counter}");
        }
        let here = node.agent(&draft);
        let Ok(Switched::Here { inner, slot, .. }) = here else { panic!("{counter}: {here:?}") };
        assert_eq!((inner, slot), (40..40 + len, node.from.rx.slot));
        let before = node.drops();
        assert_eq!((node.kernel(&draft), node.drops()), (DROP, before + 1), "{counter}");
        let again = node.agent(&draft);
        assert!(replayed(&again), "{counter}: {again:?}");
    }
}
