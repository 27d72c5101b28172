use super::*;
use crate::core::time::SECOND;
use rovy_common::DropReason;
use rovy_common::label::Width;
use std::net::Ipv6Addr;

fn probes() -> Probes {
    Probes::new(Budget::default())
}

fn node(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfc01, 0, 0, 0, 0, 0, 0, n)
}

#[test]
fn the_first_copy_then_another_neighbour_then_one_over_another_first_hop() {
    let mut p = probes();
    assert!(p.relay(0, 7, 1, 50));
    assert!(!p.relay(0, 7, 1, 60), "the same neighbour again");
    assert!(p.relay(0, 7, 2, 50), "another neighbour, whatever its copy says: the first may have lied");
    assert!(!p.relay(0, 7, 3, 50), "nothing new");
    assert!(p.relay(0, 7, 3, 60) && !p.relay(0, 7, 4, 70), "three copies in all");
    assert!(p.relay(0, 8, 1, 50), "another probe");
    assert!(p.relay(10 * SECOND, 7, 1, 50), "after ten seconds it is new");
}

#[test]
fn copies_that_went_different_ways_are_answered_and_one_that_did_not() {
    let mut p = probes();
    assert!(p.answer(0, 7, &[1, 2, 3, 4]));
    assert!(p.answer(0, 7, &[1, 2, 3, 5]), "in case there is nothing else");
    assert!(!p.answer(0, 7, &[1, 2, 3, 6]), "nor a third of the kind");
    assert!(p.answer(0, 7, &[9, 2, 3, 4]) && !p.answer(0, 7, &[8, 2, 3, 4]), "another first hop alone counts once");
    assert!(p.answer(0, 7, &[6, 7]), "a way of its own");
    assert!(!p.answer(0, 7, &[8]), "four in all");
    assert!(p.answer(0, 8, &[1, 2, 3, 4]) && p.answer(0, 8, &[1, 6, 7, 8]) && p.answer(0, 8, &[1, 2, 3]));
    let mut p = probes();
    assert_eq!((0..9).filter(|n| p.answer(0, 7, &[*n, 1])).count(), 2);
    assert_eq!((0..9).filter(|n| p.answer(0, 8, &[*n, n + 10])).count(), 4);
    assert!(p.answer(0, 9, &[]) && p.answer(0, 9, &[]) && !p.answer(0, 9, &[]), "of a neighbour itself");
}

#[test]
fn memory_is_bounded_forgets_the_oldest_and_is_given_back() {
    let mut p = probes();
    for what in 0..10_000 {
        assert!(p.relay(what, what, 1, 0));
        assert!(p.remembered().0 <= memory::PROBES);
    }
    assert!(!p.relay(10_000, 9_999, 1, 0) && p.relay(10_000, 0, 1, 0));
    for n in 0..1000 {
        assert!(p.afford(10_000, n % 9, n));
    }
    assert!(p.memory.room() >= memory::PROBES && p.budgets.len() > 100 && p.next_ns() < u64::MAX);
    p.tidy(11 * SECOND);
    assert_eq!((p.remembered().0, p.budgets.len(), p.next_ns()), (0, 0, u64::MAX));
    assert!(p.memory.room() <= 64, "{}", p.memory.room());
    // Oldest or newest, a clock that jumps breaks nothing.
    assert!(p.relay(u64::MAX / 2, 9_999, 1, 0));
    assert!(p.relay(0, 5, 1, 0) && !p.relay(0, 5, 1, 0));
}

#[test]
fn one_neighbour_spends_nothing_of_another() {
    let mut p = probes();
    let spent = (0..1000).filter(|origin| p.afford(0, 1, *origin)).count();
    assert_eq!(spent, 200, "a thousand origins share their neighbour's bucket");
    assert!(p.afford(0, 2, 5));
    assert!(p.budgets.len() <= 2 + 2 * budget::ORIGINS);
    assert!(p.afford(SECOND / 100, 1, 1) && !p.afford(SECOND / 100, 1, 2), "a hundred a second come back");
}

#[test]
fn one_origin_spends_little_of_its_neighbours() {
    let mut p = probes();
    assert_eq!((0..1000).filter(|_| p.afford(0, 1, 9)).count(), 30);
    assert!(p.afford(0, 1, 10));
    assert_eq!((0..1000).filter(|_| p.afford(SECOND, 1, 9)).count(), 10);
}

#[test]
fn budgets_are_bounded_and_bear_clocks_that_jump() {
    let mut p = probes();
    for n in 0..5_000 {
        assert!(p.afford(u64::from(n % 7 == 0) * 900 * SECOND, n, n));
    }
    assert!(p.budgets.len() <= 2 * budget::NEIGHBOURS);
    assert!(p.afford(0, 4_999, 1) && p.afford(u64::MAX / 2, 4_999, 1) && p.afford(0, 4_999, 1));
}

#[test]
fn a_label_grows_by_slots_of_both_widths_until_it_is_full() {
    let mut s = Search::new(1, 2, node(9), 30, &[]);
    for (n, width, slot) in [(1, Width::One, 4), (2, Width::Two, 0x0205), (3, Width::One, 7)] {
        s = s.onward(node(n), width, slot).expect("fits").expect("may go on");
    }
    assert_eq!(s.label().as_slice(), [7, 2, 5, 4]);
    assert!(s.visited(node(2)) && !s.visited(node(4)));
    let again = Search::read(&s.bytes()).expect("reads");
    assert_eq!((again.label(), again.hops(), again.target()), (s.label(), 3, node(9)));
    for n in 4..17 {
        s = s.onward(node(n), Width::Two, n).expect("fits").expect("may go on");
    }
    assert_eq!(s.label().len(), 30);
    assert_eq!(s.onward(node(17), Width::One, 1).err(), Some(DropReason::BadLabel));
}

#[test]
fn the_hop_limit_ends_it_and_nobody_raises_it() {
    let s = Search::new(1, 2, node(9), 1, &[]).onward(node(1), Width::One, 1).expect("fits").expect("one hop");
    assert!(s.onward(node(2), Width::One, 1).expect("fits").is_none());
    let mut forged = s.bytes();
    forged[32] = 255;
    let s = Search::read(&forged).expect("reads").onward(node(2), Width::One, 1).expect("fits").expect("goes on");
    assert_eq!(s.bytes()[32], 28, "thirty hops in all");
}

#[test]
fn counts_beyond_their_arrays_and_other_lengths_are_refused() {
    let good = Search::new(1, 2, node(9), 30, &[]).bytes();
    for at in [33, 34] {
        let mut bad = good.clone();
        bad[at] = 31;
        assert_eq!(Search::read(&bad).err(), Some(DropReason::BadLabel));
    }
    assert_eq!(Search::read(&good[..185]).err(), Some(DropReason::BadLength));
    assert!(Search::read(&[&good[..], &[1, 1, 64, 1]].concat()).is_err(), "half a hello");
    assert!(Search::read(&[&good[..], &[4; 320]].concat()).is_err(), "no hello");
}

#[test]
fn a_changed_copy_is_another_probe() {
    let key = [1, 2];
    let hello = {
        let mut hello = vec![0; 320];
        hello[..4].copy_from_slice(&[1, 1, 64, 1]);
        hello
    };
    let what = |id, origin, target, hello: &[u8]| Search::new(id, origin, target, 30, hello).what(&key);
    let first = what(1, 2, node(9), &hello);
    let onward = Search::new(1, 2, node(9), 30, &hello).onward(node(1), Width::One, 1).expect("fits").expect("goes on");
    assert_eq!(onward.what(&key), first, "hops, label and marks are the copy's own");
    let mut other = hello.clone();
    other[319] ^= 1;
    for changed in [what(3, 2, node(9), &hello), what(1, 3, node(9), &hello), what(1, 2, node(8), &hello)] {
        assert_ne!(changed, first);
    }
    assert_ne!(what(1, 2, node(9), &other), first);
}
