use super::*;
use crate::core::action::Hops;

const MS: u64 = SECOND / 1000;

/// Slot 0 is nobody's.
fn way(n: u8) -> Way {
    (u16::from(n) + 1, Hops::from_iter([n]))
}

fn number(way: &Way) -> u8 {
    (way.0 - 1) as u8
}

/// Routes, each with a round trip, over virtual time: an echo comes back after it unless the route is cut.
struct Bench {
    routes: Routes,
    rtt: Vec<Option<u64>>,
    back: Vec<(u64, Way, u64)>,
    now_ns: u64,
    busy: bool,
    waits_ns: Option<u64>,
    echoes: Vec<(u64, u8)>,
    searches: Vec<u64>,
    used: Vec<(u64, u8)>,
}

impl Bench {
    fn new(rtt_ms: &[u64]) -> Self {
        let rtt = rtt_ms.iter().map(|ms| Some(ms * MS)).collect();
        let (back, echoes, searches, used) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let routes = Routes::default();
        Self { routes, rtt, back, now_ns: SECOND, busy: true, waits_ns: None, echoes, searches, used }
    }

    /// Learns all of them, used the first.
    fn learned(rtt_ms: &[u64]) -> Self {
        let mut b = Self::new(rtt_ms);
        for n in 0..rtt_ms.len() {
            b.routes.learn(b.now_ns, &way(n as u8));
        }
        b
    }

    fn load(&self) -> Load {
        Load { busy: self.busy, waits_ns: self.waits_ns, links: false, yields: false }
    }

    fn used(&self) -> u8 {
        self.routes.in_use().map_or(u8::MAX, number)
    }

    fn pass(&mut self, ns: u64) {
        let end = self.now_ns + ns;
        loop {
            self.back.sort_by_key(|(at, ..)| *at);
            while let Some((_, way, nonce)) = self.back.first().filter(|(at, ..)| *at <= self.now_ns).cloned() {
                self.back.remove(0);
                self.routes.answered(self.now_ns, &way, nonce);
            }
            // Packets travel all the time, and are answered when their route lives.
            let alive = self.rtt.get(usize::from(self.used())).is_some_and(Option::is_some);
            self.waits_ns = if alive || !self.busy { None } else { self.waits_ns.or(Some(self.now_ns)) };
            for order in self.routes.pass(self.now_ns, self.load()) {
                match order {
                    Order::Echo(way, nonce) => {
                        self.echoes.push((self.now_ns, number(&way)));
                        if let Some(rtt) = self.rtt[usize::from(number(&way))] {
                            self.back.push((self.now_ns + rtt, way, nonce));
                        }
                    }
                    Order::Search => self.searches.push(self.now_ns),
                }
            }
            let used = self.used();
            if self.used.last().is_none_or(|(_, u)| *u != used) {
                self.used.push((self.now_ns, used));
            }
            if self.now_ns >= end {
                return;
            }
            let next = self.routes.next(self.load()).min(self.back.iter().map(|b| b.0).min().unwrap_or(u64::MAX));
            self.now_ns = next.clamp(self.now_ns + 1, end);
        }
    }

    fn state(&self, n: u8) -> Option<RouteState> {
        self.routes.state(&way(n))
    }

    fn echoes_of(&self, n: u8) -> usize {
        self.echoes.iter().filter(|(_, r)| *r == n).count()
    }
}

#[test]
fn a_learnt_route_is_good_once_an_echo_came_back() {
    let mut b = Bench::learned(&[10]);
    assert_eq!(b.state(0), Some(RouteState::Candidate));
    b.pass(9 * MS);
    assert_eq!(b.state(0), Some(RouteState::Candidate));
    b.pass(2 * MS);
    assert_eq!(b.state(0), Some(RouteState::Good));
}

#[test]
fn an_echo_never_sent_or_over_another_route_proves_nothing() {
    let mut b = Bench::learned(&[10, 10]);
    b.rtt = vec![None, None];
    b.pass(MS);
    let (at, way_, nonce) = (b.now_ns, way(0), b.routes.nonce);
    for n in 0..100 {
        b.routes.answered(at, &way_, nonce + 1 + n);
    }
    // The last nonce went over the second route.
    b.routes.answered(at, &way_, nonce);
    assert_eq!(b.state(0), Some(RouteState::Candidate));
    b.routes.answered(at, &way(1), nonce);
    assert_eq!(b.state(1), Some(RouteState::Good));
    b.routes.answered(at, &way(1), nonce);
    assert_eq!(b.routes.all[1].rtt_ns, Some(MS), "a reply counts once");
}

#[test]
fn the_one_in_use_every_second_and_the_next_every_five() {
    let mut b = Bench::learned(&[10, 20, 30]);
    b.pass(SECOND);
    b.echoes.clear();
    b.pass(60 * SECOND);
    let of = |n| b.echoes_of(n);
    assert!(
        (56..=61).contains(&of(0)) && (11..=13).contains(&of(1)) && (1..=3).contains(&of(2)),
        "{:?}",
        (of(0), of(1), of(2))
    );
}

#[test]
fn a_session_without_traffic_sends_nothing() {
    let mut b = Bench::learned(&[10, 20]);
    b.pass(SECOND);
    b.busy = false;
    b.pass(SECOND);
    b.echoes.clear();
    b.pass(600 * SECOND);
    assert_eq!(b.echoes, []);
    assert_eq!(b.routes.next(b.load()), u64::MAX);
}

#[test]
fn data_that_nothing_answers_finds_the_living_route_in_under_half_a_second() {
    let mut b = Bench::learned(&[10, 20, 30]);
    b.pass(10 * SECOND);
    b.rtt[0] = None;
    let cut = b.now_ns;
    b.pass(SECOND);
    assert_eq!(b.used(), 1);
    let (at, _) = *b.used.last().expect("a change");
    assert!(at - cut <= 330 * MS, "{} ms", (at - cut) / MS);
    assert!(b.searches.is_empty(), "no flood while another route answers");
    b.pass(3 * SECOND);
    assert_eq!(b.state(0), Some(RouteState::Dead));
}

#[test]
fn a_dead_route_that_lives_again_is_good_again() {
    let mut b = Bench::learned(&[10, 20]);
    b.pass(5 * SECOND);
    b.rtt[0] = None;
    b.pass(20 * SECOND);
    assert_eq!((b.state(0), b.used()), (Some(RouteState::Dead), 1));
    b.echoes.clear();
    b.pass(60 * SECOND);
    assert!(b.echoes_of(0) <= 4, "the pause doubles: {}", b.echoes_of(0));
    b.rtt[0] = Some(10 * MS);
    b.pass(70 * SECOND);
    assert_eq!((b.state(0), b.used()), (Some(RouteState::Good), 1), "what died lately is not trusted at once");
    b.pass(200 * SECOND);
    assert_eq!((b.state(0), b.used()), (Some(RouteState::Good), 0));
}

#[test]
fn when_nothing_answers_others_are_looked_for_ever_more_seldom() {
    let mut b = Bench::learned(&[10, 20]);
    b.pass(5 * SECOND);
    b.rtt = vec![None, None];
    let cut = b.now_ns;
    b.pass(30 * SECOND);
    assert!(b.searches[0] - cut <= 600 * MS, "{} ms", (b.searches[0] - cut) / MS);
    assert_eq!(b.searches.len(), 5, "after 1, 2, 4, 8 s");
}

#[test]
fn a_better_route_takes_over_when_it_is_better_twice() {
    let mut b = Bench::learned(&[100]);
    b.pass(20 * SECOND);
    b.rtt.push(Some(50 * MS));
    b.routes.learn(b.now_ns, &way(1));
    b.pass(SECOND);
    assert_eq!(b.used(), 0, "measured once");
    b.pass(6 * SECOND);
    assert_eq!(b.used(), 1);
}

#[test]
fn a_route_that_is_hardly_better_does_not() {
    let mut b = Bench::learned(&[100, 85]);
    b.routes.arrived(b.now_ns, &way(0));
    b.pass(SECOND);
    let used = b.used();
    b.used.clear();
    b.pass(600 * SECOND);
    assert_eq!(b.used, [(b.used[0].0, used)]);
}

#[test]
fn round_trips_that_swing_do_not_make_routes_flap() {
    let mut b = Bench::learned(&[50, 50]);
    b.pass(SECOND);
    b.used.clear();
    for n in 0..600 {
        b.rtt = vec![Some((30 + 40 * (n % 2)) * MS), Some((70 - 40 * (n % 2)) * MS)];
        b.pass(SECOND);
    }
    assert!(b.used.len() <= 5, "{} changes in ten minutes", b.used.len());
}

#[test]
fn a_configured_route_comes_first_while_it_works() {
    let mut b = Bench::learned(&[10, 200]);
    b.pass(SECOND);
    assert!(b.routes.configure(b.now_ns, way(1)) && !b.routes.configure(b.now_ns, way(1)));
    b.pass(12 * SECOND);
    assert_eq!(b.used(), 1, "though it is slower");
    b.rtt[1] = None;
    b.pass(2 * SECOND);
    assert_eq!(b.used(), 0);
    assert_eq!((b.routes.remove(None), b.routes.any_configured()), (1, false));
}

#[test]
fn an_error_changes_over_at_once() {
    let mut b = Bench::learned(&[10, 20]);
    b.pass(SECOND);
    b.routes.failed(b.now_ns, 1, None);
    assert_eq!((b.used(), b.state(0)), (1, Some(RouteState::Dead)));
    b.routes.failed(b.now_ns, 2, Some(&[9]));
    assert_eq!(b.state(1), Some(RouteState::Good), "another label");
}

#[test]
fn a_peer_that_changes_its_way_makes_a_node_ask() {
    let mut b = Bench::learned(&[10, 20]);
    b.pass(SECOND / 2);
    b.routes.heard(b.now_ns, &way(0));
    b.rtt[0] = None;
    b.now_ns += MS;
    b.routes.heard(b.now_ns, &way(1));
    let cut = b.now_ns;
    b.pass(SECOND);
    assert_eq!(b.used(), 1);
    assert!(b.used.last().expect("a change").0 - cut <= 121 * MS);
}

#[test]
fn who_sends_over_ever_other_ways_makes_little_of_it() {
    let mut b = Bench::learned(&[10]);
    b.rtt = vec![None; 256];
    b.rtt[0] = Some(10 * MS);
    b.pass(SECOND);
    b.echoes.clear();
    for n in 0..1000_u32 {
        b.routes.heard(b.now_ns, &way((n % 255 + 1) as u8));
        b.pass(10 * MS);
        assert!(b.routes.all.len() <= ROUTES);
    }
    assert_eq!((b.used(), b.state(0)), (0, Some(RouteState::Good)));
    assert!(b.echoes.len() < 200, "{} echoes in ten seconds", b.echoes.len());
}

#[test]
fn routes_that_work_are_not_pushed_out() {
    let mut b = Bench::learned(&[10; 8]);
    b.pass(SECOND);
    for n in 8..200 {
        b.routes.learn(b.now_ns, &way(n));
    }
    assert!((0..8).all(|n| b.state(n) == Some(RouteState::Good)) && b.routes.all.len() == 8);
    // In doubt what was good before is only what was good before.
    b.rtt = vec![None; 256];
    b.pass(SECOND / 2);
    b.routes.learn(b.now_ns, &way(200));
    assert_eq!((b.state(200), b.routes.all.len()), (Some(RouteState::Candidate), 8));
    for n in 100..110 {
        b.routes.configure(b.now_ns, way(n));
    }
    assert_eq!(b.routes.all.len(), 18, "the operator's are not counted out");
}

#[test]
fn clocks_that_jump_break_nothing() {
    let mut b = Bench::learned(&[10, 20]);
    for at in [SECOND, 3600 * SECOND, 5, 86_400 * SECOND, 0, u64::MAX / 4, 7 * SECOND] {
        b.now_ns = at;
        b.back.clear();
        b.pass(20 * SECOND);
        assert!(b.routes.in_use().is_some());
    }
    b.pass(120 * SECOND);
    assert_eq!(b.state(b.used()), Some(RouteState::Good));
}
