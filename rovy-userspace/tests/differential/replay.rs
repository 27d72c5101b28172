//! The replay window as a table of steps, for both who hold windows: the agent's, and the kernel's through test runs.
//!
//! The cases are those of the selftest of WireGuard's counter: in order, out of order, at the window's edges, at the last
//! counter, and sweeps over a whole window. What is expected follows from this window: every counter less than [`WINDOW`]
//! behind the newest is accepted once; an older one is accepted, once too, for as long as its word (32 counters) still
//! stands, and refused from when the word has moved on; from [`COUNTER_LIMIT`] on nothing is.

use rovy_common::maps::{RxLink, TxLink};
use rovy_common::replay::{self, COUNTER_LIMIT, WINDOW, WORDS, Window};
use rovy_common::{Counter, DropReason};

use crate::frames::{Draft, frame};
use crate::{Bench, Width, skip};

/// Counters from one use of a word to the next.
const RING: u64 = 32 * WORDS as u64;
const LAST: u64 = COUNTER_LIMIT - 1;

/// What becomes of a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    Accepted,
    /// It was seen, or may have been.
    Replay,
    /// No window goes so far.
    Limit,
}
use Expect::{Accepted, Limit, Replay};

/// One counter after the other, on a window that has seen nothing.
struct Case {
    name: &'static str,
    steps: Vec<(u64, Expect)>,
}

fn case(name: &'static str, steps: impl IntoIterator<Item = (u64, Expect)>) -> Case {
    Case { name, steps: steps.into_iter().collect() }
}

fn all(counters: impl IntoIterator<Item = u64>, expect: Expect) -> impl Iterator<Item = (u64, Expect)> {
    counters.into_iter().map(move |c| (c, expect))
}

fn table() -> Vec<Case> {
    let beyond = RING + WINDOW;
    vec![
        case("in order, and each again", (0..200).flat_map(|c| [(c, Accepted), (c, Replay)])),
        case(
            "a gap, filled out of order",
            [
                (0, Accepted),
                (1, Accepted),
                (1, Replay),
                (9, Accepted),
                (8, Accepted),
                (7, Accepted),
                (7, Replay),
                (9, Replay),
                (2, Accepted),
            ],
        ),
        case(
            "at the edge of the first window",
            [
                (WINDOW, Accepted),
                (WINDOW - 1, Accepted),
                (WINDOW - 1, Replay),
                (WINDOW - 2, Accepted),
                (1, Accepted),
                (1, Replay),
                // Older than the window, but its word was not used again: it is known not to have been seen.
                (0, Accepted),
                (0, Replay),
            ],
        ),
        case(
            "the first word moves on",
            [
                (3, Accepted),
                (RING - 1, Accepted),
                (4, Accepted),
                // The newest is now in the first word's next turn.
                (RING, Accepted),
                (5, Replay),
                (3, Replay),
                (RING, Replay),
                // The word after it has not moved on.
                (32, Accepted),
                (RING + 32, Accepted),
                (33, Replay),
            ],
        ),
        case(
            "a jump over several windows",
            [
                (5, Accepted),
                (4 * RING, Accepted),
                (4 * RING - (WINDOW - 1), Accepted),
                (4 * RING - (WINDOW - 1), Replay),
                (4 * RING - (WINDOW - 2), Accepted),
                (10, Replay),
                (0, Replay),
                // Not within the window, and in a word that was last used for counter 5's turn or not at all: never seen.
                (4 * RING - WINDOW, Accepted),
                (4 * RING + 16, Accepted),
                (4 * RING, Replay),
            ],
        ),
        case(
            "at the last counter",
            [
                (COUNTER_LIMIT, Limit),
                (LAST, Accepted),
                (COUNTER_LIMIT, Limit),
                (LAST, Replay),
                (LAST - 1, Accepted),
                (COUNTER_LIMIT + 1, Limit),
                (u64::MAX, Limit),
                (LAST - 1, Replay),
                (LAST - 2, Accepted),
                (LAST - (WINDOW - 1), Accepted),
                (LAST - 2, Replay),
            ],
        ),
        case("a window upwards", all(1..=WINDOW, Accepted).chain([(0, Accepted), (0, Replay)])),
        case("a window upwards from 2, then what is in front of it", {
            all(2..=WINDOW + 1, Accepted).chain([(1, Accepted), (0, Accepted), (1, Replay), (0, Replay)])
        }),
        case("a window downwards", all((0..WINDOW).rev(), Accepted).chain(all(0..WINDOW, Replay))),
        case("a window downwards behind a newer one", {
            [(WINDOW, Accepted)].into_iter().chain(all((1..WINDOW).rev(), Accepted)).chain([(1, Replay)])
        }),
        case("a window downwards, then one further", {
            all((1..=WINDOW).rev(), Accepted).chain([(WINDOW + 1, Accepted), (0, Accepted), (0, Replay)])
        }),
        case("round the ring, every 32nd counter, and back", {
            let turn = (0..2 * RING).step_by(32);
            all(turn.clone(), Accepted)
                .chain(all(turn, Replay))
                .chain(all((RING..2 * RING).map(|c| c | 1).step_by(32), Accepted))
                .chain(all((0..RING).map(|c| c | 1).step_by(32), Replay))
        }),
        case("the window as it stands behind the newest, wherever that is", {
            (0..40).flat_map(|i| {
                let newest = beyond + i * (RING / 4 + 7);
                let oldest = newest - (WINDOW - 1);
                // The oldest comes into the window of `newest` for the first time: windows of 40 steps do not overlap there.
                [(newest, Accepted), (newest, Replay), (oldest, Accepted), (oldest, Replay)]
            })
        }),
    ]
}

#[test]
fn replay_table_in_the_agent() {
    for case in table() {
        let window = Window::new();
        for (i, (counter, expect)) in case.steps.iter().enumerate() {
            let got = match replay::accept(&window, *counter) {
                Ok(()) => Accepted,
                Err(DropReason::Limit) => Limit,
                Err(_) => Replay,
            };
            assert_eq!(got, *expect, "{}: step {i}, counter {counter}", case.name);
        }
    }
}

#[test]
fn replay_table_in_the_kernel() {
    if !skip::root("replay_table_in_the_kernel") {
        return;
    }
    let mut bench = Bench::new(Width::One, "replay");
    let link = bench.links["eth"].clone();
    let route = [bench.links["udp4"].rx.slot as u8];
    for case in table() {
        // Publishing the index anew after it was cleared gives it a window that has seen nothing.
        let xdp = bench.xdp.as_mut().expect("open");
        xdp.clear_rx(link.rx.index).expect("clear_rx");
        xdp.set_rx(link.rx.index, &link.rx).expect("set_rx");
        let mut out = Vec::new();
        let mut counted = bench.xdp().counts().expect("counts");
        for (i, (counter, expect)) in case.steps.iter().enumerate() {
            let reason = match expect {
                Accepted => Counter::Forwarded,
                Replay => Counter::Drop(DropReason::Replay),
                Limit => Counter::Drop(DropReason::Limit),
            };
            counted[reason.index() as usize] += 1;
            let action =
                bench.xdp().test_run(&frame(&link, &Draft::new(*counter, &route)), &mut out).expect("test run");
            let wanted = if *expect == Accepted { 4 } else { 1 };
            assert_eq!(action, wanted, "{}: step {i}, counter {counter}, expected {expect:?}", case.name);
        }
        let after = bench.xdp().counts().expect("counts");
        assert_eq!(after, counted, "{}: reasons", case.name);
    }
}

#[test]
fn a_map_update_rewinds_neither_hop_counters_nor_windows() {
    if !skip::root("a_map_update_rewinds_neither_hop_counters_nor_windows") {
        return;
    }
    let mut bench = Bench::new(Width::One, "rewind");
    let (from, to) = (bench.links["eth"].clone(), bench.links["udp4"].clone());
    let route = [to.rx.slot as u8];
    let mut out = Vec::new();
    for n in 0..50_u32 {
        let counter = u64::from(n);
        assert_eq!(bench.xdp().counters().peek(to.tx.counter), Some(counter), "drawn once a packet, never set back");
        let sent = frame(&from, &Draft::new(counter, &route));
        assert_eq!(bench.xdp().test_run(&sent, &mut out).expect("test run"), 4);
        // What roaming, a new route of the underlay and a longer life of the keys write.
        let xdp = bench.xdp.as_mut().expect("open");
        let rx = RxLink { expires_ns: u64::MAX - counter, ..from.rx };
        xdp.set_rx(rx.index, &rx).expect("set_rx");
        xdp.set_tx(to.tx.slot as u16, &TxLink { mtu: 9000 - n, ..to.tx }).expect("set_tx");
        assert_eq!(bench.xdp().test_run(&sent, &mut out).expect("test run"), 1, "a replay after the update");
    }
    let counts = bench.xdp().counts().expect("counts");
    assert_eq!(counts[Counter::Drop(DropReason::Replay).index() as usize], 50);
}
