use core::cell::Cell;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;
use crate::maps::Buckets;

const MAC1: Key = [11, 12];

#[derive(Default)]
struct Node {
    now_ns: Cell<u64>,
    secrets: Secrets,
    sources: core::cell::RefCell<BTreeMap<Prefix, std::rc::Rc<[Cell<u64>; 2]>>>,
    loads: [Cell<u64>; LOADS as usize],
}

struct One<'a>(std::rc::Rc<[Cell<u64>; 2]>, usize, Option<&'a Cell<u64>>);

impl One<'_> {
    fn cell(&self) -> &Cell<u64> {
        self.2.unwrap_or(&self.0[self.1])
    }
}

impl Bucket for One<'_> {
    fn load(&self) -> u64 {
        self.cell().get()
    }
    fn exchange(&self, old: u64, new: u64) -> bool {
        self.cell().replace(new) == old
    }
}

impl Gate for Node {
    type Bucket<'a> = One<'a>;
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }
    fn secrets(&self) -> Option<&Secrets> {
        Some(&self.secrets)
    }
    fn bucket(&self, prefix: &Prefix, proven: bool) -> Option<One<'_>> {
        let source = self.sources.borrow_mut().entry(*prefix).or_default().clone();
        Some(One(source, usize::from(proven), None))
    }
    fn load(&self, of: Load) -> Option<One<'_>> {
        Some(One(std::rc::Rc::default(), 0, Some(&self.loads[of as usize])))
    }
    fn nonce(&self) -> u64 {
        77
    }
}

fn node() -> Node {
    let secrets = Secrets { current: [1, 2], previous: [3, 4] };
    Node { now_ns: Cell::new(1 << 40), secrets, ..Node::default() }
}

fn hello(n: u64) -> Sealed {
    let covered = [0x0140_0101 | n << 32, n, 3, 4, 5];
    Sealed { covered, mac1: mac(&MAC1, &covered), mac2: [0; 2] }
}

fn with(mut m: Sealed, cookie: &Key) -> Sealed {
    m.mac2 = mac(cookie, &m.covered);
    m
}

fn at(text: &str) -> Whence {
    Whence::udp(text.parse().expect("an address"))
}

fn run(node: &Node, m: &Sealed, from: &Whence) -> Verdict {
    judge(node, &MAC1, &Limits::default(), m, from)
}

/// A node from which everybody has taken what goes through unproven.
fn loaded() -> Node {
    let n = node();
    n.loads[0].set(u64::MAX >> 1);
    n
}

#[test]
fn a_hello_for_another_node_is_dropped_whatever_the_load() {
    let mut m = hello(1);
    for n in [node(), loaded()] {
        for bit in 0..128 {
            m.mac1[bit / 64] ^= 1 << (bit % 64);
            assert_eq!(run(&n, &m, &at("192.0.2.1:1")), Verdict::Drop(DropReason::BadMac1));
            m.mac1[bit / 64] ^= 1 << (bit % 64);
        }
        assert!(n.sources.borrow().is_empty(), "noise takes nobody's tokens");
    }
}

#[test]
fn the_words_of_a_message_are_read_where_they_stand() {
    let mut bytes: Vec<u8> = (0..320).map(|i| i as u8).collect();
    bytes[0] = 1;
    let m = Sealed::read(&bytes).expect("a hello");
    assert_eq!(m.mac1[0].to_le_bytes(), bytes[288..296]);
    assert_eq!(m.mac2[1].to_le_bytes(), bytes[312..320]);
    bytes[0] = 2;
    bytes.truncate(156);
    let m = Sealed::read(&bytes).expect("a response");
    assert_eq!(
        (m.mac1[0].to_le_bytes(), m.mac2[1].to_le_bytes()),
        (bytes[124..132].try_into().unwrap(), bytes[148..156].try_into().unwrap())
    );
    assert_eq!(m.covered[4].to_le_bytes(), bytes[32..40]);
    bytes.truncate(155);
    assert_eq!(Sealed::read(&bytes), None);
}

#[test]
fn the_cookie_of_a_reply_lets_the_next_hello_through() {
    let n = loaded();
    let from = at("192.0.2.1:1312");
    let Verdict::Reply(words) = run(&n, &hello(1), &from) else { panic!("no reply") };
    assert_eq!(words[0], 0x0028_0103 | 1 << 32);
    let cookie = open(&hello(1).mac1, &words).expect("authentic");
    assert_eq!(run(&n, &with(hello(2), &cookie), &from), Verdict::Admit);
}

#[test]
fn a_reply_is_authentic_as_a_whole() {
    let words = reply(&hello(1), &[8, 9], 5);
    assert_eq!(open(&hello(1).mac1, &words), Some([8, 9]));
    assert_eq!(open(&hello(2).mac1, &words), None);
    for bit in 0..REPLY * 64 {
        let mut w = words;
        w[bit / 64] ^= 1 << (bit % 64);
        assert_eq!(open(&hello(1).mac1, &w), None, "bit {bit}");
    }
}

#[test]
fn a_cookie_binds_address_and_port() {
    let n = loaded();
    let from = at("192.0.2.1:1312");
    let m = with(hello(1), &from.cookie(&n.secrets.current));
    assert_eq!(run(&n, &m, &from), Verdict::Admit);
    for other in ["192.0.2.1:1313", "192.0.2.2:1312", "[::c000:201]:1312"] {
        assert!(matches!(run(&n, &m, &at(other)), Verdict::Reply(_)), "{other}");
    }
    let station = Whence::ethernet([2, 0, 0, 0, 0, 1], 3);
    let m = with(hello(1), &station.cookie(&n.secrets.current));
    assert_eq!(run(&n, &m, &station), Verdict::Admit);
    for other in [Whence::ethernet([2, 0, 0, 0, 0, 1], 4), Whence::ethernet([2, 0, 0, 0, 0, 2], 3)] {
        assert!(matches!(run(&n, &m, &other), Verdict::Reply(_)));
    }
}

#[test]
fn the_secret_before_is_accepted_and_older_ones_are_not() {
    let n = loaded();
    let from = at("192.0.2.1:1312");
    assert_eq!(run(&n, &with(hello(1), &from.cookie(&n.secrets.previous)), &from), Verdict::Admit);
    assert!(matches!(run(&n, &with(hello(1), &from.cookie(&[5, 6])), &from), Verdict::Reply(_)));
}

/// Not one bucket for all: who floods from one address takes nothing from another.
#[test]
fn the_limit_is_per_source() {
    let n = node();
    let from = at("192.0.2.1:1312");
    for _ in 0..5 {
        assert_eq!(run(&n, &hello(1), &from), Verdict::Admit);
    }
    for port in [1312, 1, 65_535] {
        let from = Whence::udp(([192, 0, 2, 1], port).into());
        assert_eq!(run(&n, &hello(1), &from), Verdict::Drop(DropReason::RateLimited));
    }
    assert_eq!(run(&n, &hello(1), &at("192.0.2.2:1312")), Verdict::Admit);
    n.now_ns.set(n.now_ns.get() + 50_000_000);
    assert_eq!(run(&n, &hello(1), &from), Verdict::Admit);
    assert_eq!(run(&n, &hello(1), &from), Verdict::Drop(DropReason::RateLimited));
}

#[test]
fn forged_hellos_take_no_tokens_of_proven_ones() {
    let n = node();
    let from = at("[2001:db8::1]:1312");
    while run(&n, &hello(1), &from) == Verdict::Admit {}
    // The whole /64 is one source.
    assert_eq!(run(&n, &hello(1), &at("[2001:db8::ffff:1]:1")), Verdict::Drop(DropReason::RateLimited));
    assert_eq!(run(&n, &hello(1), &at("[2001:db8:0:1::1]:1")), Verdict::Admit);
    assert_eq!(run(&n, &with(hello(1), &from.cookie(&[1, 2])), &from), Verdict::Admit);
}

#[test]
fn a_hundred_a_second_need_no_cookie() {
    let n = node();
    let (mut admitted, mut replies) = (0, 0);
    for i in 0..1000_u32 {
        let from = Whence::udp((core::net::Ipv4Addr::from(i), 1).into());
        match run(&n, &hello(1), &from) {
            Verdict::Admit => admitted += 1,
            Verdict::Reply(_) => replies += 1,
            Verdict::Drop(reason) => panic!("{reason:?}"),
        }
    }
    assert_eq!((admitted, replies), (100, 900));
}

#[test]
fn a_hundred_responses_a_second_need_their_mac1_alone() {
    let n = loaded();
    let mut m = hello(1);
    m.covered[0] += 1;
    assert_eq!(run(&n, &m, &at("192.0.2.1:1")), Verdict::Drop(DropReason::BadMac1));
    m.mac1 = mac(&MAC1, &m.covered);
    for _ in 0..100 {
        assert_eq!(run(&n, &m, &at("192.0.2.1:1")), Verdict::Admit);
    }
    let limited = Verdict::Drop(DropReason::RateLimited);
    assert_eq!(run(&n, &m, &at("192.0.2.2:1")), limited, "wherever it comes from");
    assert_eq!(judge_routed(&n, &MAC1, &Limits::default(), &m, 3), limited);
    assert_eq!(within(&n, &Limits::default(), Load::Others), Verdict::Admit, "each kind has its own");
}

#[test]
fn transit_has_a_budget_for_each_slot() {
    let n = loaded();
    let run = |slot| judge_routed(&n, &MAC1, &Limits::default(), &hello(1), slot);
    for _ in 0..5 {
        assert_eq!(run(3), Verdict::Admit);
    }
    assert_eq!(run(3), Verdict::Drop(DropReason::RateLimited));
    assert_eq!(run(4), Verdict::Admit);
}

#[test]
fn a_bucket_never_holds_more_than_its_burst() {
    let rate = Rate::per_second(20, 5);
    for now in [0, 1, 1 << 50, u64::MAX >> 2] {
        let mut spent = 0;
        for _ in 0..5 {
            spent = spend(spent, now, &rate).expect("a token");
        }
        assert_eq!(spend(spent, now, &rate), None);
        assert_eq!(spend(spent, now + rate.interval_ns - 1, &rate), None);
        assert!(spend(spent, now + rate.interval_ns, &rate).is_some());
    }
    // A time that no clock reaches: spent for ever, as in a map that holds garbage.
    assert_eq!(spend(u64::MAX >> 1, 5, &rate), None);
}

#[test]
fn frames_and_sockets_agree_about_a_source() {
    let mut s = Source { kind: kind::UDP4, ports_be: u32::from_le_bytes([5, 32, 0, 9]), ..Source::default() };
    s.addrs_be[0] = u64::from_le_bytes([192, 0, 2, 7, 1, 2, 3, 4]);
    assert_eq!(Whence::of(&s), at("192.0.2.7:1312"));
    s.kind = kind::UDP6;
    let ip: core::net::Ipv6Addr = "2001:db8::5:6".parse().expect("an address");
    let ip = ip.octets();
    s.addrs_be[0] = u64::from_le_bytes(*ip.first_chunk().expect("eight"));
    s.addrs_be[1] = u64::from_le_bytes(*ip.last_chunk().expect("eight"));
    assert_eq!(Whence::of(&s), at("[2001:db8::5:6]:1312"));
    s.kind = kind::ETHERNET;
    s.ifindex = 9;
    s.macs = [0xffff_ffff, u32::from_le_bytes([1, 1, 2, 3]), u32::from_le_bytes([4, 5, 6, 7])];
    assert_eq!(Whence::of(&s), Whence::ethernet([2, 3, 4, 5, 6, 7], 9));
    assert_eq!(size_of::<Buckets>(), 2 * size_of::<u64>());
}
