//! A neighbour that sends what it should not, while others talk: their routes stay as they are, whatever it is.

use super::abuse::key_answer;
use super::*;
use crate::core::probes::Search;
use rovy_common::wire::{PROBE_HOPS, Response};

/// Who lies.
const LIAR: usize = 6;
const YEAR: i64 = 365 * 86_400;

/// The routes of a node as they are compared: what is measured of them changes all the time.
type Kept = Vec<(u16, Hops, RouteState, bool)>;

/// 0 and 3 talk around a ring of six, and 6 hangs at 0.
struct Ring {
    w: World,
    before: [Kept; 2],
    probes: u64,
}

impl Ring {
    fn new() -> Self {
        let links: Vec<_> = (0..6).map(|i| (i, (i + 1) % 6)).chain([(0, LIAR)]).collect();
        let mut w = net(7, &links);
        w.delay_all(2 * MS);
        w.delays.insert((4, 5), 20 * MS);
        w.seek(0, 3);
        w.talk(0, 3, 2 * SECOND);
        w.drops.clear();
        let (before, probes) = (kept(&w), w.nodes[0].probe_counts().own);
        assert!(before.iter().all(|r| r.len() == 2 && r.iter().all(|r| r.2 == RouteState::Good)), "{before:?}");
        Self { w, before, probes }
    }

    /// The liar's slot at 0.
    fn liars_slot(&self) -> u16 {
        *self.w.slots[0].iter().find(|(_, p)| **p == self.w.id(LIAR)).expect("a neighbour").0
    }

    /// The liar sends a probe to 0, which has come there then.
    fn lie(&mut self, body: &[u8]) {
        self.w.inject(LIAR, 0, body);
        self.w.pass_ns(3 * MS);
    }

    /// Both ends have the routes they had, in the same states, and lose nothing over them.
    fn untouched(&mut self) {
        let (sent, arrived) = self.w.talk(0, 3, SECOND);
        // What was sent last is under way.
        assert!(arrived.len() + 3 >= sent, "{} of {sent}", arrived.len());
        let learnt_later = |r: &(u16, Hops, RouteState, bool)| r.2 != RouteState::Good && !r.3;
        for (before, mut now) in self.before.iter().zip(kept(&self.w)) {
            now.retain(|r| !learnt_later(r));
            assert_eq!(now, *before);
        }
        assert_eq!(self.w.nodes[0].probe_counts().own, self.probes, "nobody had to look again");
        for node in &self.w.nodes {
            assert!(node.limits().iter().all(|(_, u)| u.used <= u.max), "{:?}", node.limits());
        }
    }
}

fn kept(w: &World) -> [Kept; 2] {
    [(0, 3), (3, 0)].map(|(at, to)| {
        let mut routes: Kept = w.routes(at, to).into_iter().map(|r| (r.slot, r.hops, r.state, r.in_use)).collect();
        routes.sort_by(|a, b| (a.0, a.1.as_slice()).cmp(&(b.0, b.1.as_slice())));
        routes
    })
}

/// A probe with this label and hop limit that claims to have been at as many nodes; the counts may be wrong.
fn probe(w: &World, id: u64, label: &[u8], left: u8, visited: u8) -> Vec<u8> {
    let mut body = w.forged(id, id, 3, 30).bytes();
    (body[32], body[33], body[34]) = (left, visited, label.len() as u8);
    let at = 36 + 4 * PROBE_HOPS;
    for (to, from) in body[at..].iter_mut().zip(label) {
        *to = *from;
    }
    body
}

#[test]
fn probes_with_forged_paths() {
    let mut ring = Ring::new();
    for n in 0..60_u8 {
        let label: Vec<u8> = (0..n % 31).map(|i| n.wrapping_mul(37).wrapping_add(i.wrapping_mul(11))).collect();
        let body = probe(&ring.w, n.into(), &label, 30, n % 31);
        assert!(Search::read(&body).is_ok());
        ring.lie(&body);
        ring.w.pass_ns(50 * MS);
    }
    // The answers went astray, and who got one had not asked.
    assert!(
        ring.w.drops.iter().all(|d| [DropReason::NotAllowed, DropReason::BadLabel].contains(d)),
        "{:?}",
        ring.w.drops
    );
    ring.untouched();
}

#[test]
fn probes_that_claim_to_have_been_everywhere() {
    let mut ring = Ring::new();
    let before = ring.w.nodes[3].probe_counts().received;
    for id in 0..20 {
        let mut forged = ring.w.forged(id, id, 3, 30);
        for n in [1, 5, 2, 4, 3] {
            let address = ring.w.id(n).address();
            forged = forged.onward(address, Width::One, 7).expect("fits").expect("goes on");
        }
        ring.lie(&forged.bytes());
    }
    assert_eq!(ring.w.nodes[3].probe_counts().received, before, "a mark keeps that probe away and no other");
    ring.untouched();
    ring.w.seek(4, LIAR);
    ring.w.pass(1);
    assert_eq!(ring.w.state(4, LIAR), PeerState::Connected, "others' searches go where they have to");
}

#[test]
fn labels_that_go_round_in_a_loop() {
    let mut ring = Ring::new();
    // From each node on to the next of the ring, five times around.
    let on = |w: &World, n: usize| *w.slots[n].iter().find(|(_, p)| **p == w.id((n + 1) % 6)).expect("a slot").0 as u8;
    let round: Vec<u8> = (0..PROBE_HOPS).map(|i| on(&ring.w, (i + 2) % 6)).collect();
    for (id, length) in [6, 12, 13, 29, 30].into_iter().enumerate() {
        let body = probe(&ring.w, id as u64, &round[..length], 30, 0);
        ring.lie(&body);
        ring.w.pass_ns(100 * MS);
    }
    assert!(
        ring.w.drops.iter().all(|d| [DropReason::NotAllowed, DropReason::BadLabel].contains(d)),
        "{:?}",
        ring.w.drops
    );
    ring.untouched();
}

#[test]
fn hop_counts_at_and_over_the_limit() {
    let mut ring = Ring::new();
    let relayed = |ring: &Ring| ring.w.nodes[0].probe_counts().relayed;
    let before = relayed(&ring);
    for (id, (left, visited)) in [(0, 0), (0, 30), (30, 30), (255, 30)].into_iter().enumerate() {
        let body = probe(&ring.w, id as u64, &[], left, visited);
        ring.lie(&body);
    }
    assert_eq!(relayed(&ring), before, "at the limit it ends");
    ring.w.drops.clear();
    for (id, (left, visited)) in [(0, 31), (30, 31), (255, 255)].into_iter().enumerate() {
        let body = probe(&ring.w, 10 + id as u64, &[], left, visited);
        ring.lie(&body);
    }
    assert_eq!((relayed(&ring), &ring.w.drops[..]), (before, &[DropReason::BadLabel; 3][..]), "over it it is refused");
    // A limit of 255 is cut down to thirty hops by the first that passes it on.
    let body = probe(&ring.w, 20, &[], 255, 29);
    ring.lie(&body);
    assert_eq!(relayed(&ring), before + 1);
    ring.untouched();
}

#[test]
fn labels_longer_than_fourteen_bytes() {
    let mut ring = Ring::new();
    for (id, length) in [14, 15, 16, 28, 29, 30].into_iter().enumerate() {
        let body = probe(&ring.w, id as u64, &vec![9; length], 30, 0);
        ring.lie(&body);
    }
    let full = ring.w.drops.iter().filter(|d| **d == DropReason::BadLabel).count();
    assert!(full >= 1, "no room for another slot behind thirty bytes");
    ring.w.drops.clear();
    for length in [31, 255] {
        let mut body = probe(&ring.w, 50 + length, &[], 30, 0);
        body[34] = length as u8;
        ring.lie(&body);
    }
    assert_eq!(ring.w.drops, [DropReason::BadLabel; 2]);
    ring.untouched();
}

#[test]
fn answers_to_probes_never_sent() {
    let mut ring = Ring::new();
    let (third, now) = (*ring.w.id(3).public_key(), ring.w.now());
    for n in 0..100_u64 {
        let origin = Origin::Routed { slot: ring.liars_slot(), hops: Hops::from_iter([n as u8]) };
        let mut answer = key_answer(n, third);
        assert_eq!(ring.w.nodes[0].message(now, &origin, &mut answer), Err(DropReason::NotAllowed));
        let mut response = vec![0; size_of::<Response>()];
        let length = (response.len() as u16).to_le_bytes();
        response[..4].copy_from_slice(&[MessageType::Response as u8, 1, length[0], length[1]]);
        response[8..12].copy_from_slice(&(n as u32).to_le_bytes());
        assert!(ring.w.nodes[0].message(now, &origin, &mut response).is_err());
    }
    ring.untouched();
}

#[test]
fn answers_replayed_over_the_liars_link() {
    let mut ring = Ring::new();
    // 0 asks anew; every answer is overheard, and repeated by the liar over its own link, for a while.
    for node in &mut ring.w.nodes {
        node.set_rekey(Duration::from_secs(3));
    }
    let mut overheard = Vec::new();
    for _ in 0..500 {
        let _ = ring.w.send(0, 3, 1);
        ring.w.now_ns += 10 * MS;
        let end = ring.w.now_ns;
        ring.w.tick(end + 1);
        (0..7).for_each(|n| ring.w.collect(n));
        let answers =
            ring.w.late.iter().map(|(_, f)| f).filter(|f| f.to == 0 && f.bytes[0] == MessageType::Response as u8);
        overheard.extend(answers.map(|f| f.bytes.clone()));
        ring.w.settle();
    }
    assert!(!overheard.is_empty(), "no answer was overheard");
    let mut over_liar = 0;
    for (n, answer) in overheard.iter().cycle().take(60).enumerate() {
        let origin = Origin::Routed { slot: ring.liars_slot(), hops: Hops::from_iter([n as u8 + 1]) };
        let now = ring.w.now();
        over_liar += usize::from(ring.w.nodes[0].message(now, &origin, &mut answer.clone()).is_ok());
    }
    assert!(over_liar <= 8, "{over_liar} copies were heeded");
    ring.w.talk(0, 3, 3 * SECOND);
    let slot = ring.liars_slot();
    let routes = ring.w.routes(0, 3);
    assert!(routes.iter().all(|r| r.slot != slot || (r.state != RouteState::Good && !r.in_use)), "{routes:?}");
    ring.untouched();
}

#[test]
fn a_thousand_origins_from_one_neighbour() {
    let mut ring = Ring::new();
    let (before, start) = (ring.w.nodes[0].probe_counts().relayed, ring.w.now_ns);
    for id in 0..1000 {
        let body = ring.w.forged(id, 1_000_000 + id, 2, 30).bytes();
        ring.w.inject(LIAR, 0, &body);
        if id % 10 == 0 {
            ring.w.talk(0, 3, 10 * MS);
        }
    }
    let relayed = ring.w.nodes[0].probe_counts().relayed - before;
    let granted = 200 + (ring.w.now_ns - start) / (SECOND / 100);
    assert!(relayed <= granted + 1, "{relayed} of {granted} for one neighbour");
    assert!(ring.w.drops.iter().filter(|d| **d == DropReason::RateLimited).count() >= 500);
    ring.untouched();
    // Nor does it take from the searches of others.
    ring.w.seek(4, 1);
    ring.w.pass(1);
    assert_eq!(ring.w.state(4, 1), PeerState::Connected);
}

#[test]
fn beacons_that_claim_someone_elses_key() {
    let mut ring = Ring::new();
    // One's that is talked to over hops, a neighbour's, and one's that was never met: all from where the liar is.
    for n in [3, 1, 2] {
        let id = ring.w.id(n);
        let _ = ring.w.hear(0, endpoint(LIAR), id);
        ring.w.settle();
    }
    ring.untouched();
    assert_ne!(ring.w.state(0, 2), PeerState::Connected, "nobody proved to have that key");
    let now = ring.w.now();
    let id = ring.w.id(2);
    ring.w.nodes[0].connect(now, id, Vec::new(), true);
    ring.w.talk(0, 3, 10 * SECOND);
    assert_eq!((ring.w.state(0, 2), ring.w.path(0, 2)), (PeerState::Connected, vec![0, 1, 2]), "the real one is found");
    ring.probes = ring.w.nodes[0].probe_counts().own;
    ring.untouched();
}

#[test]
fn a_wall_clock_that_jumps_by_a_year() {
    let mut ring = Ring::new();
    for node in &mut ring.w.nodes {
        node.set_rekey(Duration::from_secs(3));
    }
    for (n, skew) in [(0, -YEAR), (0, YEAR), (3, YEAR), (0, -YEAR), (3, -YEAR), (3, 0), (0, 0)] {
        ring.w.skew.insert(n, skew);
        let before = ring.w.nodes[0].handshakes();
        let (sent, arrived) = ring.w.talk(0, 3, 8 * SECOND);
        assert!(arrived.len() + 3 >= sent, "{} of {sent} after a jump of {n}'s clock to {skew}", arrived.len());
        assert!(ring.w.nodes[0].handshakes() > before, "keys are renewed whatever the date");
        ring.untouched();
    }
}

#[test]
fn a_monotonic_clock_that_stalls() {
    let mut ring = Ring::new();
    let stalled = ring.w.now_ns;
    ring.w.delays.clear();
    for id in 0..500 {
        ring.w.send(0, 3, 1).expect("sealed");
        ring.w.send(3, 0, 2).expect("sealed");
        let body = ring.w.forged(id, id % 3, 2, 30).bytes();
        ring.w.inject(LIAR, 0, &body);
        for n in 0..7 {
            let now = ring.w.now_at(n);
            ring.w.nodes[n].timeout(now);
        }
        ring.w.settle();
    }
    assert_eq!((ring.w.now_ns, ring.w.arrived.len()), (stalled, 1000));
    ring.w.arrived.clear();
    ring.untouched();
}
