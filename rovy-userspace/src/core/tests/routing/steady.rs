//! While nothing happens, nothing changes.

use super::*;

/// Talks with 0 for `seconds`, and counts how often either end takes another route.
fn changes(w: &mut World, with: usize, seconds: usize) -> usize {
    let mut before = (w.path(0, with), w.path(with, 0));
    let mut changes = 0;
    for _ in 0..10 * seconds {
        let (sent, arrived) = w.talk(0, with, 100 * MS);
        assert!(arrived.len() + 3 >= sent);
        let now = (w.path(0, with), w.path(with, 0));
        changes += usize::from(now.0 != before.0) + usize::from(now.1 != before.1);
        before = now;
    }
    changes
}

#[test]
fn two_routes_that_are_alike_do_not_take_turns() {
    let mut w = ring_of(6);
    w.delay_all(3 * MS);
    w.seek(0, 3);
    w.talk(0, 3, 5 * SECOND);
    assert_eq!(w.routes(0, 3).iter().filter(|r| r.state == RouteState::Good).count(), 2);
    // The second best is asked a dozen times: neither the question nor the answer is a reason to change over.
    assert_eq!(changes(&mut w, 3, 60), 0);
}

#[test]
fn ends_that_take_different_ways_agree_and_stay() {
    let mut w = ring_of(6);
    w.delay_all(3 * MS);
    w.seek(0, 3);
    w.seek(3, 0);
    w.talk(0, 3, 20 * SECOND);
    assert_eq!(changes(&mut w, 3, 60), 0);
}

#[test]
fn neighbours_that_are_reached_over_others_too_stay_on_their_link() {
    let mut w = ring_of(3);
    w.delay_all(3 * MS);
    // One that is no neighbour of 0's yet: both ends know the way over 1, too.
    let mut late = net(3, &[(0, 1), (1, 2)]);
    late.delay_all(3 * MS);
    late.seek(0, 2);
    late.talk(0, 2, 2 * SECOND);
    late.connect(0, 2);
    late.talk(0, 2, 5 * SECOND);
    for mut w in [w, late] {
        assert_eq!(w.path(0, 2), [0, 2]);
        let before = w.nodes[0].probe_counts().own;
        assert_eq!(changes(&mut w, 2, 60), 0);
        assert_eq!((w.path(0, 2), w.nodes[0].probe_counts().own), (vec![0, 2], before));
    }
}
