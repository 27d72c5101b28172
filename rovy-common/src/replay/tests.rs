use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

#[test]
fn in_order_and_again() {
    let w = Window::new();
    for c in 0..50_000 {
        assert_eq!(accept(&w, c), Ok(()), "{c}");
        assert_eq!(accept(&w, c), Err(DropReason::Replay), "{c}");
    }
}

#[test]
fn everything_inside_the_window_is_accepted_once() {
    for newest in [8191, 8192, 8223, 100_000, COUNTER_LIMIT - 1] {
        let w = Window::new();
        assert_eq!(accept(&w, newest), Ok(()));
        for c in (newest + 1 - WINDOW..newest).rev() {
            assert_eq!(accept(&w, c), Ok(()), "{c} behind {newest}");
            assert_eq!(accept(&w, c), Err(DropReason::Replay));
        }
    }
}

#[test]
fn a_word_that_moved_on_refuses_the_past() {
    let w = Window::new();
    let ring = 32 * WORDS as u64;
    assert_eq!(accept(&w, 5), Ok(()));
    assert_eq!(accept(&w, 5 + ring), Ok(()));
    assert_eq!(accept(&w, 5), Err(DropReason::Replay));
    assert_eq!(accept(&w, 6), Err(DropReason::Replay));
}

#[test]
fn counters_end() {
    assert_eq!(accept(&Window::new(), COUNTER_LIMIT), Err(DropReason::Limit));
    assert_eq!(accept(&Window::new(), u64::MAX), Err(DropReason::Limit));
}

#[test]
fn a_check_marks_nothing() {
    let w = Window::new();
    assert_eq!((check(&w, 9), check(&w, 9), accept(&w, 9)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(check(&w, 9), Err(DropReason::Replay));
    assert_eq!(check(&w, COUNTER_LIMIT), Err(DropReason::Limit));
}

#[test]
fn several_receivers_accept_each_counter_once() {
    let w = Window::new();
    let accepted: usize = std::thread::scope(|s| {
        let run = || (0..20_000).filter(|c| accept(&w, *c) == Ok(())).count();
        let threads: [_; 4] = core::array::from_fn(|_| s.spawn(run));
        threads.into_iter().map(|t| t.join().expect("no panic")).sum()
    });
    assert!(accepted <= 20_000, "{accepted} accepted of 20000 distinct");
    assert!(accepted > 19_000, "{accepted}: contention must not refuse the honest");
}

proptest! {
    #[test]
    fn never_twice(counters in prop::collection::vec(0u64..30_000, 1..2_000)) {
        let w = Window::new();
        let mut seen = HashSet::new();
        for c in counters {
            if accept(&w, c).is_ok() {
                prop_assert!(seen.insert(c));
            }
        }
    }
}
