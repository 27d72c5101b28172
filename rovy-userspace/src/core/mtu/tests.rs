use proptest::prelude::*;

use super::*;
use crate::core::time::SECOND;

const MS: u64 = SECOND / 1000;
const LIMIT: u16 = 9000;

/// A path on which echoes of at most `carries` bytes come back after `rtt_ns`; every `loses`-th is lost, and while
/// `says`, hops tell what is too big.
struct Path {
    mtu: PathMtu,
    carries: u16,
    rtt_ns: u64,
    loses: u32,
    says: bool,
    sent: u32,
    now_ns: u64,
    nonce: u64,
    back: Vec<(u64, u64)>,
}

impl Path {
    fn new(carries: u16) -> Self {
        let (mtu, back) = Default::default();
        Self { mtu, carries, rtt_ns: 20 * MS, loses: u32::MAX, says: false, sent: 0, now_ns: SECOND, nonce: 1, back }
    }

    fn usable(&self) -> u16 {
        self.mtu.usable(LIMIT)
    }

    /// Time passes while messages as long as possible are sent.
    fn run(&mut self, ns: u64, wanted: bool) {
        let end = self.now_ns + ns;
        while self.now_ns < end {
            if wanted {
                self.mtu.want(self.now_ns, self.usable().max(FLOOR + 1));
            }
            let next = self.back.iter().map(|(at, _)| *at).chain([self.mtu.next(LIMIT), self.now_ns + 50 * MS, end]);
            self.now_ns = next.min().unwrap().max(self.now_ns + 1);
            let now_ns = self.now_ns;
            let there: Vec<u64> = self.back.extract_if(.., |(at, _)| *at <= now_ns).map(|(_, nonce)| nonce).collect();
            for nonce in there {
                self.mtu.answered(now_ns, nonce);
            }
            self.nonce += 2;
            let Some(ask) = self.mtu.pass(now_ns, LIMIT, self.nonce) else { continue };
            assert!(ask.size > FLOOR && ask.size <= LIMIT);
            for (size, nonce) in [(ask.size, ask.nonces[0]), (100, ask.nonces[1])] {
                self.sent += 1;
                if size > self.carries {
                    if self.says {
                        self.mtu.too_big(now_ns, self.carries, LIMIT);
                    }
                } else if !self.sent.is_multiple_of(self.loses) {
                    self.back.push((now_ns + self.rtt_ns, nonce));
                }
            }
        }
    }
}

#[test]
fn what_is_not_contradicted_is_used_and_proven_once_a_second() {
    let mut path = Path::new(LIMIT);
    path.run(10 * SECOND, true);
    assert_eq!(path.usable(), LIMIT);
    assert!((18..=24).contains(&path.sent), "{} echoes in ten seconds", path.sent);
    let sent = path.sent;
    path.run(100 * SECOND, false);
    assert!(path.sent <= sent + 2, "nothing travels, nothing is proven");
}

#[test]
fn a_search_ends_close_below_what_passes() {
    for carries in [FLOOR, FLOOR + 1, 1200, 1280, 1384, 1424, 1500, 4000, 8999] {
        let mut path = Path::new(carries);
        path.run(30 * SECOND, true);
        let found = path.usable();
        assert!(found <= carries && carries - found <= 8, "{carries}: {found}");
    }
}

#[test]
fn a_hop_that_says_how_much_passes_is_right_at_once() {
    let mut path = Path::new(1384);
    path.says = true;
    path.run(200 * MS, true);
    assert_eq!(path.usable(), 1384);
    path.run(300 * SECOND, true);
    assert_eq!(path.usable(), 1384);
    path.carries = LIMIT;
    path.run(70 * SECOND, true);
    assert_eq!(path.usable(), LIMIT);
}

#[test]
fn a_lost_echo_now_and_then_shortens_nothing() {
    let mut path = Path::new(LIMIT);
    path.loses = 7;
    for _ in 0..600 {
        path.run(SECOND, true);
        assert_eq!(path.usable(), LIMIT, "after {} echoes", path.sent);
    }
}

#[test]
fn answers_that_take_longer_and_longer_shorten_nothing() {
    let mut path = Path::new(LIMIT);
    for _ in 0..20 {
        path.run(5 * SECOND, true);
        path.rtt_ns = (path.rtt_ns * 3 / 2).min(1500 * MS);
        assert_eq!(path.usable(), LIMIT, "{} ms", path.rtt_ns / MS);
    }
}

#[test]
fn paths_that_were_not_used_for_long_are_forgotten_first() {
    let mut mtus = Mtus::default();
    let way = |n: u16| (n, crate::core::Hops::new());
    mtus.of(&way(0)).too_big(0, 1200, LIMIT);
    for n in 1..100 {
        mtus.of(&way(n));
        mtus.of(&way(0));
    }
    assert_eq!(mtus.0.len(), PATHS);
    assert_eq!(mtus.get(&way(0)).map(|p| p.usable(LIMIT)), Some(1200));
}

proptest! {
    /// Whatever is said and answered, in any order: never less than the floor, never more than the first link takes, and nothing
    /// wants to be called for ever.
    #[test]
    fn nothing_leads_out_of_bounds(steps in proptest::collection::vec((0..6_u8, any::<u16>(), 0..3000_u64), 0..200)) {
        let (mut mtu, mut now_ns, mut limit, mut asked) = (PathMtu::default(), SECOND, 1400_u16, Vec::new());
        for (what, value, ms) in steps {
            now_ns += ms * MS;
            match what {
                0 => drop(mtu.want(now_ns, value)),
                1 => mtu.too_big(now_ns, value, limit),
                2 => mtu.too_big(now_ns, mtu.usable(limit).saturating_sub(value % 300), limit),
                3 => limit = value.max(FLOOR),
                4 => if let Some(nonce) = asked.get(usize::from(value) % asked.len().max(1)) { mtu.answered(now_ns, *nonce) },
                _ => {
                    let mut turns = 0;
                    while let Some(ask) = mtu.pass(now_ns, limit, u64::from(value) * 2) {
                        prop_assert!(ask.size > FLOOR && ask.size <= limit, "{ask:?} {limit}");
                        asked.extend(ask.nonces);
                        turns += 1;
                        prop_assert!(turns < 3);
                    }
                    prop_assert!(mtu.next(limit) > now_ns, "called again at once");
                }
            }
            prop_assert!((FLOOR..=limit).contains(&mtu.usable(limit)));
        }
    }
}
