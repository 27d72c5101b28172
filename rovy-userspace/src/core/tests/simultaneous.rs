//! Two nodes that start at about the same time, over links that take their time.

use super::*;

/// Hundredths of a second.
const STEP: u64 = SECOND / 100;

/// Two nodes whose messages take so long each way.
struct Slow {
    w: World,
    latency_ns: [u64; 2],
    under_way: Vec<(u64, Flight)>,
}

impl Slow {
    fn new(latency_ns: [u64; 2]) -> Self {
        Self { w: World::new(2), latency_ns, under_way: Vec::new() }
    }

    fn start(&mut self, n: usize) {
        let (id, now) = (self.w.id(1 - n), self.w.now());
        self.w.nodes[n].connect(now, id, vec![endpoint(1 - n)], true);
        self.send(n);
    }

    fn send(&mut self, from: usize) {
        self.w.collect(from);
        let arrives = self.w.now_ns + self.latency_ns[from];
        self.under_way.extend(self.w.flights.drain(..).map(|f| (arrives, f)));
    }

    /// Lets time pass, from one thing that happens to the next.
    fn pass(&mut self, steps: u64, mut lost: impl FnMut(&Flight) -> bool) {
        let end = self.w.now_ns + steps * STEP;
        while self.w.now_ns < end {
            let timers = self.w.nodes.iter().map(Node::deadline);
            let next = timers.chain(self.under_way.iter().map(|(at, _)| *at)).min().unwrap_or(end);
            self.w.now_ns = next.clamp(self.w.now_ns + 1, end);
            self.happen(&mut lost);
        }
    }

    /// Timers, and what arrives. `lost` are messages that do not.
    fn happen(&mut self, mut lost: impl FnMut(&Flight) -> bool) {
        let now = self.w.now();
        for n in 0..2 {
            self.w.nodes[n].timeout(now);
            self.send(n);
        }
        let (here, later) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= now.mono_ns);
        self.under_way = later;
        let here: Vec<(u64, Flight)> = here;
        for (_, flight) in here {
            let to = flight.to;
            if !lost(&flight) {
                self.w.deliver(flight);
            }
            self.send(to);
        }
    }

    /// Both send over the same session and keep no more than its predecessor.
    fn assert_one(&self, what: &str) {
        let [a, b] = [0, 1].map(|n| self.w.nodes[n].current_for_test(self.w.id(1 - n)));
        assert!(a.is_some() && b.is_some(), "{what}: {a:?} {b:?}");
        assert_eq!(a, b.map(|(own, remote)| (remote, own)), "{what}: each sends over another one");
        assert!(self.w.sessions().iter().all(|n| *n <= 2), "{what}: {:?} sessions", self.w.sessions());
    }
}

#[test]
fn whenever_the_second_starts_one_session_results() {
    for first in [0, 1] {
        for latency in [[1, 1], [10, 10], [45, 45], [80, 80], [150, 150], [5, 160], [160, 5], [240, 240]] {
            for apart in [0, 2, 9, 30, 70, 99, 101, 130, 180, 250, 333, 480] {
                let mut s = Slow::new(latency.map(|steps| steps * STEP));
                s.start(first);
                s.pass(apart, |_| false);
                s.start(1 - first);
                s.pass(4000, |_| false);
                s.assert_one(&format!("{first} first, latency {latency:?}, {apart} steps apart"));
            }
        }
    }
}

#[test]
fn whoever_starts_just_after_the_others_hello_was_lost_waits_for_no_retry() {
    for first in [0, 1] {
        let mut s = Slow::new([STEP; 2]);
        s.start(first);
        s.pass(50, |_| true);
        s.start(1 - first);
        s.pass(10, |_| false);
        s.assert_one(&format!("{first} first"));
    }
}

#[test]
fn a_confirmation_that_is_lost_is_repeated_until_it_is_heard() {
    let mut s = Slow::new([STEP; 2]);
    s.start(0);
    let mut lost = 0;
    s.pass(1000, |f| {
        let data = f.to == 1 && f.bytes[0] == rovy_common::wire::MessageType::Data as u8 && lost < 5;
        lost += usize::from(data);
        data
    });
    assert_eq!(lost, 5);
    s.assert_one("five losses");
    s.pass(2000, |_| panic!("nothing is sent once it was heard"));
}

#[test]
fn an_unconfirmed_session_beside_a_confirmed_one_ends_after_20_s() {
    let mut w = World::new(2);
    w.connect(0, 1);
    // The key of node 0 says hello from elsewhere and never confirms.
    let mut copy = Node::new(config(1), [77; 32]);
    w.now_ns += SECOND;
    let (now, id) = (w.now(), w.id(1));
    copy.connect(now, id, vec![endpoint(1)], true);
    let hello = std::iter::from_fn(|| copy.poll()).find_map(|action| match action {
        Action::Send(_, bytes) => Some(bytes),
        _ => None,
    });
    let bytes = hello.expect("a hello");
    w.deliver(Flight { to: 1, origin: Origin::Direct(endpoint(9)), bytes });
    w.flights.clear();
    assert_eq!(w.nodes[1].sessions().0, 2);
    w.pass(19);
    assert_eq!(w.nodes[1].sessions().0, 2);
    w.pass(2);
    assert_eq!(w.nodes[1].sessions().0, 1);
    w.send(1, 0, 1).expect("the confirmed one is as it was");
    assert_eq!(w.arrived.len(), 1);
}
