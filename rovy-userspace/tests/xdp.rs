//! The XDP program on real devices: attach, adopt, replace, refuse. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;

use rovy_common::DropReason;
use rovy_common::label::Width;
use rovy_common::maps::{HopKeys, LAYOUT, LINKS_SINCE, Limits, LocalKey, RxLink, TransitRate, TxLink, kind};
use rovy_userspace::dataplane::xdp::{Mode, Params, Wish, Xdp, XdpError, make_for_others};
use rovy_userspace::dataplane::{Dataplane as _, Tables};
use rovy_userspace::transport::Endpoint;
use support::{Netns, rooted};

/// A pin directory that goes with this value.
struct Pins(PathBuf);

impl Pins {
    fn new(tag: &str) -> Self {
        Self(format!("/sys/fs/bpf/rovy-test-{tag}-{}", std::process::id()).into())
    }

    fn params(&self) -> Params {
        Params {
            pin_dir: self.0.join(format!("v{LAYOUT}")),
            sessions: 128,
            width: Width::One,
            ethertype: 0x88b5,
            mac1: [0; 2],
            limits: Limits::default(),
            log_level: 0,
        }
    }

    fn open(&self) -> Xdp {
        Xdp::open(&self.params()).expect("XDP opens").0
    }

    fn links(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.params().pin_dir).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).filter(|n| n.starts_with("link-")).collect();
        names.sort();
        names
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn veth(tag: &str) -> (Netns, Netns, u32) {
    let (here, there) = (Netns::new(tag), Netns::new("peer"));
    here.connect("v0", &there, "v1");
    here.enter();
    let ifindex = here.ifindex("v0");
    (here, there, ifindex)
}

#[test]
fn native_on_veth_generic_on_loopback() {
    rooted("native_on_veth_generic_on_loopback", || async {
        let (_here, _there, v0) = veth("modes");
        let pins = Pins::new("modes");
        let mut xdp = pins.open();
        let native = xdp.attach(v0, "v0", Wish::Auto).expect("veth takes it");
        assert_eq!((native.mode, native.why.as_str()), (Mode::Native, "driver veth"));
        let generic = xdp.attach(1, "lo", Wish::Auto).expect("anything takes generic");
        assert_eq!(generic.mode, Mode::Generic);
        assert!(generic.why.starts_with("native failed: "), "{}", generic.why);
        assert!(generic.why.contains("not supported"), "{}", generic.why);
        assert_ne!(native.port, generic.port);
        assert_eq!(xdp.attach(v0, "v0", Wish::Generic).expect("is there"), native);
        assert_eq!(pins.links(), ["link-1-generic".to_owned(), format!("link-{v0}-native")]);
        xdp.detach(1).expect("on it");
        let error = xdp.attach(1, "lo", Wish::Native).expect_err("loopback has no driver hook");
        assert!(matches!(error, XdpError::Attach { .. }), "{error}");
        assert!(matches!(xdp.detach(1), Err(XdpError::NotAttached(1))));
        let asked = xdp.attach(1, "lo", Wish::Generic).expect("generic");
        assert_eq!(asked.why, "asked for");
        xdp.unpin_all().expect("unpin");
        assert!(!pins.params().pin_dir.exists());
    });
}

#[test]
fn another_program_is_named_and_stays() {
    rooted("another_program_is_named_and_stays", || async {
        let (here, _there, v0) = veth("occupied");
        let (mine, other) = (Pins::new("mine"), Pins::new("other"));
        let (mut xdp, mut theirs) = (mine.open(), other.open());
        theirs.attach(v0, "v0", Wish::Native).expect("free");
        for wish in [Wish::Auto, Wish::Native, Wish::Generic] {
            let error = xdp.attach(v0, "v0", wish).expect_err("occupied");
            let text = error.to_string();
            let XdpError::Occupied { id, name, .. } = error else { panic!("{text}") };
            assert_eq!(name, "rovy");
            assert!(text.contains("v0") && text.contains(&id.to_string()), "{text}");
            assert!(here.ip("link show dev v0").contains(&format!("prog/xdp id {id}")));
        }
        theirs.unpin_all().expect("unpin");
        xdp.unpin_all().expect("unpin");
    });
}

#[test]
fn a_dropped_agent_leaves_everything_running_and_the_next_adopts_it() {
    rooted("a_dropped_agent_leaves_everything_running_and_the_next_adopts_it", || async {
        let (here, _there, v0) = veth("adopt");
        let pins = Pins::new("adopt");
        let mut xdp = pins.open();
        let before = xdp.attach(v0, "v0", Wish::Auto).expect("attach");
        let rx = RxLink { expires_ns: 5, index: 0x1234_5601, slot: 9, ..RxLink::default() };
        let tx = TxLink { expires_ns: 6, counter: 19, slot: 9, public_key: [7; 32], ..TxLink::default() };
        xdp.set_rx(rx.index, &rx).expect("set");
        xdp.set_tx(9, &tx).expect("set");
        assert_eq!(xdp.counters().draw(19), Some(0));
        let rate = TransitRate { packet_ns: 5, burst_ns: 50, bucket: 9, ..TransitRate::default() };
        let spend = |xdp: &Xdp| xdp.buckets().word(9).unwrap().store(77, std::sync::atomic::Ordering::Relaxed);
        spend(&xdp);
        xdp.set_rate(9, &rate).expect("set");
        let full = xdp.buckets().word(9).unwrap().load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(full, 0, "a new rate begins with a full bucket");
        spend(&xdp);
        xdp.set_rate(9, &rate).expect("nothing new");
        let program = |ns: &Netns| {
            let text = ns.ip("link show dev v0");
            text.split("prog/xdp id ").nth(1).map(|t| t.split_whitespace().next().unwrap().to_owned())
        };
        let first = program(&here).expect("attached");
        drop(xdp);
        assert_eq!(program(&here).as_ref(), Some(&first), "a dropped handle leaves the program");

        let (xdp, adopted) = Xdp::open(&pins.params()).expect("again");
        assert_eq!(xdp.rate(9).expect("read"), rate);
        let word = || xdp.buckets().word(9).map(|w| w.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(word(), Some(77), "what was spent stays spent");
        assert_eq!(adopted.links, [(9, tx)]);
        assert_eq!(adopted.receivers, [rx]);
        assert_eq!(adopted.attached.len(), 1);
        let after = &adopted.attached[0];
        assert_eq!(
            (after.ifindex, &after.ifname, after.mode, after.port),
            (v0, &"v0".into(), Mode::Native, before.port)
        );
        assert_ne!(program(&here).expect("attached"), first, "the new agent's program is under the old link");
        assert_eq!(xdp.counters().draw(19), Some(1), "a counter is never used twice");
        drop(xdp);

        // Other sizes: the maps start afresh, the device keeps a program all the while.
        let (xdp, adopted) = Xdp::open(&Params { sessions: 256, ..pins.params() }).expect("larger");
        assert!(adopted.links.is_empty() && adopted.receivers.is_empty());
        assert_eq!(adopted.attached.len(), 1);
        drop(xdp);

        // The device goes: so does the pin.
        here.ip("link del v0");
        let (xdp, adopted) = Xdp::open(&Params { sessions: 256, ..pins.params() }).expect("without the device");
        assert!(adopted.attached.is_empty());
        assert_eq!(pins.links(), [""; 0]);
        xdp.unpin_all().expect("unpin");
    });
}

#[test]
fn an_agent_of_another_version_is_replaced() {
    rooted("an_agent_of_another_version_is_replaced", || async {
        let (_here, _there, v0) = veth("version");
        let pins = Pins::new("version");
        let old = Params { pin_dir: pins.0.join("v0"), ..pins.params() };
        let (mut xdp, _) = Xdp::open(&old).expect("open");
        xdp.attach(v0, "v0", Wish::Auto).expect("attach");
        let tx = TxLink { slot: 1, ..TxLink::default() };
        xdp.set_tx(1, &tx).expect("set");
        drop(xdp);
        let (mut xdp, adopted) = Xdp::open(&pins.params()).expect("the new version");
        assert!(adopted.links.is_empty(), "maps of another version are not read");
        assert_eq!(adopted.attached.len(), 1);
        assert_eq!(pins.links(), [format!("link-{v0}-native")]);
        assert!(!old.pin_dir.exists());
        xdp.detach(v0).expect("the link has moved with its pin");
        xdp.attach(v0, "v0", Wish::Native).expect("free again");
        xdp.unpin_all().expect("unpin");
        assert!(!pins.0.exists());
    });
}

#[test]
fn links_come_and_go() {
    rooted("links_come_and_go", || async {
        let pins = Pins::new("links");
        let mut xdp = pins.open();
        let rx = RxLink { index: 0xabcd_0005, slot: 3, ..RxLink::default() };
        xdp.set_rx(rx.index, &rx).expect("set");
        assert_eq!(xdp.rx(rx.index).expect("read"), Some(rx));
        assert_eq!(xdp.rx(0x1111_0005).expect("read"), None, "the whole index counts, not its position");
        assert!(xdp.clear_rx(0x1111_0005).expect("clear").is_none());
        let seen = xdp.clear_rx(rx.index).expect("clear").expect("was there");
        assert!(seen.iter().all(|w| *w == 0));
        assert_eq!(xdp.rx(rx.index).expect("read"), None);
        assert!(matches!(xdp.set_rx(0, &RxLink::default()), Err(XdpError::OutOfRange { .. })));

        let tx = |mtu| TxLink { mtu, slot: 3, ..TxLink::default() };
        for mtu in 0..5 {
            xdp.set_tx(3, &tx(mtu)).expect("set");
            assert_eq!(xdp.tx(3).expect("read"), Some(tx(mtu)));
        }
        xdp.clear_tx(3).expect("clear");
        assert_eq!(xdp.tx(3).expect("read"), None);
        xdp.clear_tx(3).expect("nothing to do");
        assert!(matches!(xdp.set_tx(300, &TxLink { slot: 300, ..tx(1) }), Err(XdpError::OutOfRange { .. })));
        assert!(matches!(xdp.set_tx(0, &TxLink { slot: 0, ..tx(1) }), Err(XdpError::OutOfRange { .. })));
        let port = xdp.add_port(1).expect("loopback");
        assert_eq!(xdp.add_port(1).expect("the same"), port);
        assert!(xdp.add_port(0x7fff_ffff).is_err(), "no such device");
        assert_eq!(xdp.counters().draw(1 << 20), None);
        xdp.unpin_all().expect("unpin");
    });
}

#[test]
fn sizes_no_map_can_have_are_refused() {
    rooted("sizes_no_map_can_have_are_refused", || async {
        let pins = Pins::new("sizes");
        let Err(error) = Xdp::open(&Params { sessions: 100, ..pins.params() }) else {
            panic!("100 is no power of two")
        };
        assert!(error.to_string().contains("power of two"), "{error}");
        let elsewhere = Params { pin_dir: std::env::temp_dir().join("rovy-no-bpffs"), ..pins.params() };
        let Err(error) = Xdp::open(&elsewhere) else { panic!("not a bpffs") };
        assert!(error.to_string().contains("rovy-no-bpffs"), "{error}");
        let _ = std::fs::remove_dir(&elsewhere.pin_dir);
    });
}

#[test]
fn jumbo_traffic_of_others_passes() {
    rooted("jumbo_traffic_of_others_passes", || async {
        let (here, there, v0) = veth("jumbo");
        here.ip("link set v0 mtu 9000");
        there.ip("link set v1 mtu 9000");
        let pins = Pins::new("jumbo");
        let mut xdp = pins.open();
        let attached = xdp.attach(v0, "v0", Wish::Native).expect("a program that takes fragments attaches at any MTU");
        assert_eq!(attached.mode, Mode::Native);
        there.exec("ping -q -c 3 -i 0.01 -W 5 -M do -s 8900 10.0.0.1");
        there.exec("ping -q -c 3 -i 0.01 -W 5 -M do -s 8900 fd01::1");
        assert_eq!(xdp.counts().expect("counts"), [0; 64], "what is not rovy's is not counted");
        xdp.unpin_all().expect("unpin");
    });
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn drops_are_logged_when_asked_for() {
    rooted("drops_are_logged_when_asked_for", || async {
        let pins = Pins::new("log");
        let log = Written::default();
        for (level, expected) in [(0, false), (4, true)] {
            let (mut xdp, _) = Xdp::open(&Params { log_level: level, ..pins.params() }).expect("open");
            let mut addr = [0; 16];
            addr[..6].copy_from_slice(&[2; 6]);
            xdp.add_local(LocalKey { addr, port_or_ifindex: 1, kind: kind::ETHERNET }).expect("local");
            let mut frame = [&[2; 12][..], &0x88b5_u16.to_be_bytes(), &[6, 1, 56, 0]].concat();
            frame.extend(0xdead_beef_u32.to_le_bytes());
            frame.resize(14 + 56, 0);
            assert_eq!(xdp.test_run(&frame, &mut Vec::new()).expect("run"), 1, "dropped");
            log.0.lock().unwrap().clear();
            let to = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::DEBUG)
                .with_writer(move || to.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, || xdp.flush_log());
            let text = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
            assert_eq!(text.contains("deadbeef"), expected, "level {level}: {text}");
            xdp.unpin_all().expect("unpin");
        }
    });
}

/// Runs `f` as the user nobody, on a thread of its own.
fn as_nobody<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let run = || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        f()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn what_root_made_serves_a_process_without_privileges() {
    rooted("what_root_made_serves_a_process_without_privileges", || async {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        a.connect("va", &b, "vb");
        a.enter();
        let ifindex = a.ifindex("va");
        // Nothing is pinned: the directory is of no matter.
        let params = Pins::new("given").params();
        let given = make_for_others(params.sessions, params.width).unwrap();
        // The namespace of the thread; nobody could not enter it by name.
        let shown = || {
            let out = std::process::Command::new("ip").args(["link", "show", "va"]).output().unwrap();
            String::from_utf8_lossy(&out.stdout).contains("xdp")
        };
        as_nobody(|| {
            assert!(make_for_others(params.sessions, params.width).is_err(), "nobody loads programs");
            let mut xdp = Xdp::given(&params, given).unwrap();
            for (wish, mode) in [(Wish::Native, Mode::Native), (Wish::Generic, Mode::Generic)] {
                assert_eq!(xdp.attach(ifindex, "va", wish).unwrap().mode, mode);
                assert!(shown(), "{mode:?}");
                xdp.detach(ifindex).unwrap();
                assert!(!shown(), "{mode:?}");
            }
            let rx = RxLink { index: 129, slot: 3, ..RxLink::default() };
            xdp.set_rx(129, &rx).unwrap();
            assert_eq!(xdp.rx(129).unwrap(), Some(rx));
            let tx = TxLink { slot: 3, counter: 6, ..TxLink::default() };
            xdp.set_tx(3, &tx).unwrap();
            assert_eq!(xdp.tx(3).unwrap(), Some(tx));
            assert_eq!((xdp.counters().draw(6), xdp.counters().draw(6)), (Some(0), Some(1)));
            let local = LocalKey { addr: [1; 16], port_or_ifindex: 1, kind: kind::UDP6 };
            xdp.add_local(local).unwrap();
            xdp.remove_local(local).unwrap();
            xdp.set_secrets(rovy_common::maps::Secrets { current: [1; 2], previous: [2; 2] }).unwrap();
            assert!(xdp.counts().unwrap().iter().all(|n| *n == 0));
            assert_eq!(xdp.slot_stats(3).unwrap().rx_packets, 0);
            xdp.attach(ifindex, "va", Wish::Native).unwrap();
            assert!(xdp.pin_dir().is_none());
        });
        assert!(!a.ip("link show va").contains("xdp"), "the program stays without its holder");
    });
}

#[test]
fn what_is_not_the_program_with_its_maps_is_refused() {
    rooted("what_is_not_the_program_with_its_maps_is_refused", || async {
        let params = Pins::new("wrong").params();
        let made = |sessions| make_for_others(sessions, params.width).unwrap();
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let (mut short, mut swapped, mut no_program, mut others) = (made(128), made(128), made(128), made(128));
        short.pop();
        swapped.swap(2, 3);
        no_program[0] = no_program[3].try_clone().unwrap();
        // Of the right shape, but another program's.
        others[2] = made(128).swap_remove(2);
        let mut strange = made(128);
        strange[5] = null();
        let nulls = (0..made(128).len()).map(|_| null()).collect();
        for (what, given) in [
            ("too few", short),
            ("another order", swapped),
            ("a map for the program", no_program),
            ("a map of another program", others),
            ("a file", strange),
            ("files", nulls),
            ("other sizes", made(256)),
        ] {
            assert!(matches!(Xdp::given(&params, given), Err(XdpError::Given(_))), "{what}");
        }
        assert!(Xdp::given(&params, made(128)).is_ok());
    });
}

#[test]
fn links_that_the_agent_switched_go_on_in_the_kernel() {
    rooted("links_that_the_agent_switched_go_on_in_the_kernel", || async {
        let params = Pins::new("share").params();
        let endpoint = Endpoint::Udp { remote: ([192, 0, 2, 1], 1312).into(), local: None };
        let keys = HopKeys { tag: [1, 2], mask: [3, 4] };
        // The neighbour is the node itself: what it sends, it can receive.
        let rx = RxLink { expires_ns: 9, index: 129, slot: 3, keys, ..RxLink::default() };
        let tx = TxLink { expires_ns: 9, index: 129, counter: 6, slot: 3, mtu: 1500, keys, ..TxLink::default() };
        let mut tables = Tables::new(params.width, None);
        let rate = TransitRate { packet_ns: 5, burst_ns: 10, bucket: 3, ..TransitRate::default() };
        let Ok(()) = tables.set_rate(3, &rate);
        let Ok(()) = tables.set_receive(&rx, endpoint);
        let Ok(()) = tables.set_transmit(&tx, endpoint);
        let message = |tables: &mut Tables| {
            let mut buf = vec![0; 40 + 32];
            buf[40..43].copy_from_slice(&[4, 1, 32]);
            let (range, _) = tables.originate(1, 3, &[], &mut buf, 40..72).unwrap();
            buf[range].to_vec()
        };
        let (first, second) = (message(&mut tables), message(&mut tables));
        tables.switch(1, &mut first.clone()).unwrap();

        let given = make_for_others(params.sessions, params.width).unwrap();
        let mut xdp = Xdp::given(&params, given).unwrap();
        tables.share(&mut xdp).unwrap();
        assert_eq!((xdp.rx(129).unwrap(), xdp.tx(3).unwrap()), (Some(rx), Some(tx)));
        assert_eq!(xdp.rate(3).unwrap(), rate);
        assert_eq!(tables.switch(1, &mut first.clone()).unwrap_err(), DropReason::Replay);
        tables.switch(1, &mut second.clone()).unwrap();
        assert_eq!(tables.switch(1, &mut second.clone()).unwrap_err(), DropReason::Replay);
        // No value of the counter comes twice.
        assert_eq!(xdp.counters().peek(6), Some(2));
        let third = message(&mut tables);
        assert_eq!(third[8..16], 2_u64.to_le_bytes());
        assert_eq!(xdp.counters().peek(6), Some(3), "kernel and agent draw from one counter");
    });
}

/// Tidies until so many entries are left; the slots that ended.
fn tidied(xdp: &mut Xdp, now_ns: u64, left: usize) -> Vec<u16> {
    let (start, mut ended) = (std::time::Instant::now(), Vec::new());
    while xdp.written_entries().expect("read") != left {
        assert!(start.elapsed().as_secs() < 5, "{} entries are left", xdp.written_entries().expect("read"));
        ended.extend(xdp.tidy(now_ns).expect("tidied"));
    }
    ended
}

#[test]
fn keys_that_are_no_longer_used_are_wiped_from_the_map() {
    rooted("keys_that_are_no_longer_used_are_wiped_from_the_map", || async {
        let pins = Pins::new("wipe");
        let mut xdp = pins.open();
        let keys = HopKeys { tag: [1, 2], mask: [3, 4] };
        let tx = |slot: u32, mtu| TxLink { expires_ns: 1000, keys, slot, mtu, ..TxLink::default() };
        xdp.set_tx(9, &tx(9, 1)).expect("set");
        xdp.set_tx(9, &tx(9, 2)).expect("switched over");
        xdp.set_tx(10, &tx(10, 1)).expect("set");
        xdp.clear_tx(10).expect("cleared");
        xdp.set_tx(11, &tx(11, 1)).expect("set");
        assert_eq!(xdp.written_entries().expect("read"), 4, "a program may still read what was switched away from");
        assert!(tidied(&mut xdp, 999, 2).is_empty(), "nothing is an earlier agent's");
        xdp.set_tx(9, &tx(9, 3)).expect("switched over");
        drop(xdp);

        // What a crashed agent had no time to wipe, and what it sent by until the keys expired.
        let mut xdp = pins.open();
        xdp.set_tx(11, &TxLink { expires_ns: 5000, ..tx(11, 1) }).expect("renewed");
        assert!(tidied(&mut xdp, 999, 2).is_empty());
        assert_eq!(tidied(&mut xdp, 1000, 1), [9], "11 was taken up again");
        assert!(xdp.tx(9).expect("read").is_none() && xdp.tx(11).expect("read").is_some());
        let rx = RxLink { index: 0x1234_5601, keys, ..RxLink::default() };
        xdp.set_rx(rx.index, &rx).expect("set");
        xdp.clear_rx(rx.index).expect("cleared");
        xdp.unpin_all().expect("unpin");
    });
}

#[test]
fn links_of_a_layout_with_the_same_maps_are_taken_over() {
    rooted("links_of_a_layout_with_the_same_maps_are_taken_over", || async {
        if LINKS_SINCE == LAYOUT {
            return;
        }
        let (here, _there, v0) = veth("layout");
        let pins = Pins::new("layout");
        let mut xdp = pins.open();
        xdp.attach(v0, "v0", Wish::Auto).expect("attach");
        let rx = RxLink { expires_ns: 5, index: 0x1234_5601, slot: 9, ..RxLink::default() };
        let tx = TxLink { expires_ns: 6, counter: 19, slot: 9, ..TxLink::default() };
        xdp.set_rx(rx.index, &rx).expect("set");
        xdp.set_tx(9, &tx).expect("set");
        assert_eq!(xdp.counters().draw(19), Some(0));
        drop(xdp);
        let older = pins.0.join(format!("v{}", LAYOUT - 1));
        std::fs::rename(pins.params().pin_dir, &older).expect("renamed");
        let (xdp, adopted) = Xdp::open(&pins.params()).expect("opens");
        assert_eq!((adopted.links, adopted.receivers), (vec![(9, tx)], vec![rx]));
        assert_eq!(xdp.counters().draw(19), Some(1), "no counter twice");
        assert_eq!(adopted.attached.len(), 1);
        assert!(here.ip("link show dev v0").contains("prog/xdp"));
        assert!(!older.exists());
        xdp.unpin_all().expect("unpin");
    });
}
