//! The XDP program against the pure hop function: the same frames through `BPF_PROG_TEST_RUN` and through a model of the
//! node in memory must give the same verdict, the same bytes and the same counter.
//!
//! Needs root. `ROVY_SEED=<number>` repeats a run, `ROVY_BPF_OBJECT=<file>` tests another build of the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod frames;
mod hellos;
mod long;
mod model;
mod random;
mod replay;
mod shared;
#[path = "../support/skip.rs"]
mod skip;

use std::collections::BTreeMap;

use model::{Model, Outcome, XDP_TX};
use rovy_common::count::COUNTERS;
use rovy_common::label::Width;
use rovy_common::maps::{LAYOUT, LocalKey, RxLink, TransitRate, TxLink, kind, rx_flag, tx_flag};
use rovy_common::{Counter, DropReason, UpReason};
use rovy_userspace::dataplane::xdp::{Adopted, Params, Xdp, XdpError};

/// Receiver indexes of the node under test: few, so that positions collide.
const SESSIONS: u32 = 64;
/// A port of the redirect map that no device has.
const NO_PORT: u32 = 200;

/// Nothing grows while a test runs, and the last message that passes leaves half of another.
const RATE: TransitRate = TransitRate { byte_cost: 0, packet_ns: 1 << 41, burst_ns: 201 << 40, bucket: 0, padding: 0 };

/// A link of the node under test, with what its neighbour needs to send over it.
#[derive(Clone)]
struct Link {
    rx: RxLink,
    tx: TxLink,
}

/// The program in the kernel and the model, with the same tables.
struct Bench {
    xdp: Option<Xdp>,
    model: Model,
    links: BTreeMap<&'static str, Link>,
    expected: [u64; COUNTERS as usize],
    out: Vec<u8>,
}

impl Bench {
    fn new(width: Width, name: &str) -> Self {
        let pin_dir = format!("/sys/fs/bpf/rovy-differential-{name}-{}/v{LAYOUT}", std::process::id()).into();
        let params = Params {
            pin_dir,
            sessions: SESSIONS,
            width,
            ethertype: rovy_common::wire::ETHERTYPE,
            mac1: hellos::MAC1,
            limits: hellos::LIMITS,
            log_level: 0,
        };
        let (mut xdp, adopted) = open(&params).expect("the program loads");
        assert!(adopted.links.is_empty() && adopted.attached.is_empty());
        xdp.set_secrets(hellos::SECRETS).expect("set_secrets");
        let port = xdp.add_port(1).expect("loopback is a redirect target");
        let mut model = Model::new(width, [port].into());
        let links = links(width, port);
        for link in links.values() {
            xdp.set_rx(link.rx.index, &link.rx).expect("set_rx");
            xdp.set_tx(link.rx.slot, &link.tx).expect("set_tx");
            model.add(link.rx, link.tx);
            if link.rx.flags & rx_flag::LIMITED != 0 {
                let rate = TransitRate { bucket: u32::from(links["limited"].rx.slot), ..RATE };
                xdp.set_rate(link.rx.slot, &rate).expect("set_rate");
                model.limit(link.rx.slot, rate);
            }
        }
        for index in hellos::GIVEN.into_iter().chain(links.values().map(|l| l.rx.index)) {
            xdp.expect_index(index).expect("expect_index");
            model.given.insert(index);
        }
        let mut bench = Self { xdp: None, model, links, expected: [0; COUNTERS as usize], out: Vec::new() };
        for key in frames::locals() {
            xdp.add_local(key).expect("add_local");
            bench.model.locals.insert(key);
        }
        bench.xdp = Some(xdp);
        bench
    }

    fn xdp(&self) -> &Xdp {
        self.xdp.as_ref().expect("open")
    }

    /// Runs a frame through both and compares verdict and bytes. The counters are compared by [`Bench::settle`].
    fn check(&mut self, frame: &[u8], what: &str) -> Outcome {
        let mut outcome = self.model.judge(frame);
        let mut out = std::mem::take(&mut self.out);
        let action = self.xdp().test_run(frame, &mut out).expect("test run");
        assert_eq!(action, outcome.action, "{what}: verdict, expected {outcome:?} for {frame:02x?}");
        if outcome.action == XDP_TX {
            outcome.bytes = hellos::answer(frame, &out);
            self.expected[Counter::CookieReply.index() as usize] += 1;
        }
        assert!(out == outcome.bytes, "{what}: bytes for {frame:02x?}: {out:02x?} instead of {:02x?}", outcome.bytes);
        if let Some(counter) = outcome.counter {
            self.expected[counter.index() as usize] += 1;
        }
        self.out = out;
        outcome
    }

    /// Compares all counters.
    fn settle(&self, what: &str) {
        let counts = self.xdp().counts().expect("counts");
        let named = |c: &[u64; COUNTERS as usize]| {
            let mut all: Vec<(String, u64)> = Vec::new();
            for r in DropReason::ALL {
                all.push((r.name().into(), c[Counter::Drop(*r).index() as usize]));
            }
            for r in UpReason::ALL {
                all.push((format!("up {}", r.name()), c[Counter::Up(*r).index() as usize]));
            }
            all.push(("cookie replies".into(), c[Counter::CookieReply.index() as usize]));
            all.push(("forwarded".into(), c[Counter::Forwarded.index() as usize]));
            all
        };
        assert_eq!(named(&counts), named(&self.expected), "{what}: counters");
        assert_eq!(counts, self.expected, "{what}: a counter that has no name");
    }

    /// Has the device lose what the program sends back, or not any more.
    fn mute(&mut self, mute: bool) {
        let (key, xdp) = (LocalKey::mute(1), self.xdp.as_mut().expect("open"));
        if mute {
            xdp.add_local(key).expect("add_local");
            self.model.locals.insert(key);
        } else {
            xdp.remove_local(key).expect("remove_local");
            self.model.locals.remove(&key);
        }
    }

    /// One named case: verdict, bytes and exactly this counter.
    fn case(&mut self, what: &str, frame: &[u8], counter: Option<Counter>) {
        let outcome = self.check(frame, what);
        assert_eq!(outcome.counter, counter, "{what}");
        self.settle(what);
    }

    /// The per-slot statistics and the shared counters agree with the model's at the end.
    fn finish(self) {
        self.settle("end");
        let xdp = self.xdp();
        for (name, link) in &self.links {
            let slot = link.rx.slot;
            assert_eq!(xdp.slot_stats(slot).expect("stats"), self.model.stats(slot), "statistics of {name}");
            let counters = xdp.counters();
            assert_eq!(counters.peek(link.tx.counter), self.model.drawn(link.tx.counter), "counter of {name}");
            let seen = xdp.rx(link.rx.index).expect("rx").expect("there");
            assert_eq!(seen, link.rx);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A failed test leaves no pins behind.
        if let Some(xdp) = self.xdp.take() {
            let dir = xdp.pin_dir().and_then(std::path::Path::parent).map(std::path::Path::to_owned);
            xdp.unpin_all().expect("unpin");
            let _ = dir.map(std::fs::remove_dir);
        }
    }
}

/// Links of every kind in both directions, and one for each way to fail.
fn links(width: Width, port: u32) -> BTreeMap<&'static str, Link> {
    let mut links = BTreeMap::new();
    let mut add = |name: &'static str, kind: u32, change: fn(&mut Link)| {
        let n = links.len() as u16 + 1;
        let slot = if width == Width::Two { n * 0x0101 } else { n };
        let mut link = frames::link(kind, n, slot, port);
        change(&mut link);
        links.insert(name, link);
    };
    add("eth", kind::ETHERNET, |_| {});
    add("udp4", kind::UDP4, |_| {});
    add("udp6", kind::UDP6, |_| {});
    add("udp4 zero", kind::UDP4, |l| l.tx.flags |= tx_flag::ZERO_CHECKSUM);
    add("udp6 zero", kind::UDP6, |l| l.tx.flags |= tx_flag::ZERO_CHECKSUM);
    add("no transit", kind::UDP4, |l| l.rx.flags = rx_flag::NO_TRANSIT);
    add("sealed in", kind::ETHERNET, |l| l.rx.flags = rx_flag::SEALED);
    add("sealed out", kind::UDP4, |l| {
        l.tx.flags |= tx_flag::SEALED;
        l.tx.mtu = 1500;
    });
    add("rx expired", kind::ETHERNET, |l| l.rx.expires_ns = 1);
    add("tx expired", kind::UDP6, |l| l.tx.expires_ns = 1);
    add("no redirect", kind::ETHERNET, |l| l.tx.flags = 0);
    add("no port", kind::UDP4, |l| l.tx.port = NO_PORT);
    add("no counter", kind::ETHERNET, |l| l.tx.counter = u32::MAX);
    add("narrow", kind::UDP6, |l| l.tx.mtu = 200);
    // These two pay from one bucket.
    add("limited", kind::UDP4, |l| l.rx.flags = rx_flag::LIMITED);
    add("limited too", kind::ETHERNET, |l| l.rx.flags = rx_flag::LIMITED);
    add("source unknown", kind::UDP4, |l| l.rx.source.kind = 0);
    links
}

/// The committed object, or the one that `ROVY_BPF_OBJECT` names.
fn open(params: &Params) -> Result<(Xdp, Adopted), XdpError> {
    let Some(path) = std::env::var_os("ROVY_BPF_OBJECT") else { return Xdp::open(params) };
    let object = std::fs::read(&path).expect("ROVY_BPF_OBJECT is readable");
    Xdp::open_object(params, &object)
}

fn is_local(model: &Model, key: LocalKey) -> bool {
    model.locals.contains(&key)
}

#[test]
fn bad_input_of_the_kernel() {
    if !skip::root("bad_input_of_the_kernel") {
        return;
    }
    for (width, name) in [(Width::One, "cases-1"), (Width::Two, "cases-2")] {
        let mut bench = Bench::new(width, name);
        cases::run(&mut bench, width);
        long::run(&mut bench, width);
        cases::limits(&mut bench, width);
        hellos::run(&mut bench);
        bench.finish();
    }
}

#[test]
fn random_and_adversarial_packets() {
    if !skip::root("random_and_adversarial_packets") {
        return;
    }
    let seed = std::env::var("ROVY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_nanos() as u64
    });
    println!("ROVY_SEED={seed}");
    for (width, name) in [(Width::One, "random-1"), (Width::Two, "random-2")] {
        let mut bench = Bench::new(width, name);
        random::run(&mut bench, width, seed, 75_000);
        bench.finish();
    }
}
