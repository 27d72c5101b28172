use super::*;
use crate::maps::neighbour_id;
use crate::replay::Window;
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

/// A node with links by slot. Link `s` has receiver index `100 + s` and keys derived from `s`.
struct Node {
    rx: BTreeMap<u32, (RxLink, Box<Window>)>,
    tx: BTreeMap<u16, TxLink>,
    counter: AtomicU64,
    /// Tokens for refused messages.
    tokens: AtomicU64,
    rates: BTreeMap<u16, TransitRate>,
    spent: AtomicU64,
    now_ns: u64,
}

struct Spent<'a>(&'a AtomicU64);

impl Bucket for Spent<'_> {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn exchange(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

const fn keys(n: u64) -> HopKeys {
    HopKeys { tag: [n, n + 1], mask: [n + 2, n + 3] }
}

fn node(slots: &[u16]) -> Node {
    let (rx, tx, rates) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut n = Node {
        rx,
        tx,
        counter: AtomicU64::new(7),
        rates,
        spent: AtomicU64::new(0),
        now_ns: 500,
        tokens: AtomicU64::new(0),
    };
    for s in slots {
        let neighbour = neighbour_id(&[*s as u8; 32]);
        let index = 100 + u32::from(*s);
        let rx =
            RxLink { expires_ns: 1_000, neighbour, keys: keys(u64::from(*s)), index, slot: *s, ..RxLink::default() };
        n.rx.insert(index, (rx, Box::new(Window::new())));
        let tx = TxLink {
            expires_ns: 1_000,
            neighbour,
            keys: keys(50 + u64::from(*s)),
            index: 900 + u32::from(*s),
            mtu: 1500,
            kind: crate::maps::kind::ETHERNET,
            flags: tx_flag::REDIRECT,
            slot: u32::from(*s),
            ..TxLink::default()
        };
        n.tx.insert(*s, tx);
    }
    n
}

impl Tables for Node {
    type Window = Window;
    type Bucket<'a> = Spent<'a>;
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn rx(&self, index: u32) -> Option<&RxLink> {
        self.rx.get(&index).map(|r| &r.0)
    }
    fn window(&self, index: u32) -> Option<&Window> {
        self.rx.get(&index).map(|r| &*r.1)
    }
    fn tx(&self, slot: u16) -> Option<&TxLink> {
        self.tx.get(&slot)
    }
    fn draw(&self, _: u32) -> Option<u64> {
        Some(self.counter.fetch_add(1, Ordering::Relaxed))
    }
    fn afford_refused(&self, _: u16) -> bool {
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
    fn rate(&self, slot: u16) -> Option<(&TransitRate, Spent<'_>)> {
        self.rates.get(&slot).map(|rate| (rate, Spent(&self.spent)))
    }
}

const INNER: [u64; 2] = [4 | 1 << 8 | 36 << 16, 77];
const KERNEL: Place = Place::Kernel { moved: false };

/// A message from the neighbour on `slot`, as that neighbour would send it.
fn from(slot: u16, counter: u64, route: &[u8]) -> Message<2> {
    let head0 = 6 | 1 << 8 | 100 << 16;
    let label = Label::from_route(route).expect("fits");
    seal(&keys(u64::from(slot)), 100 + u32::from(slot), counter, head0, &label, INNER)
}

fn run<'t>(n: &'t Node, m: &Message<2>) -> Verdict<&'t TxLink, 2> {
    hop(n, Width::One, KERNEL, n.rx(m.index()).expect("known"), m)
}

#[test]
fn a_packet_crosses_and_the_next_hop_can_open_it() {
    let n = node(&[1, 2]);
    let Verdict::Forward(tx, out) = run(&n, &from(1, 0, &[2, 9])) else { panic!("not forwarded") };
    assert_eq!((tx.slot, out.index(), out.head[1], out.length()), (2, 902, 7, 100));
    assert_eq!(out.inner, INNER);
    assert_eq!(tag(&keys(52).tag, &out), out.tag);
    let label = Label(xor(out.label, &mask(&keys(52).mask, 7)));
    assert_eq!(
        label,
        Label::<2>::from_route(&[1, 9])
            .map(|mut l| {
                l.0[0] += 1;
                l
            })
            .expect("fits")
    );
}

#[test]
fn every_flipped_bit_is_a_bad_tag() {
    let n = node(&[1, 2]);
    let good = from(1, 0, &[2]);
    for bit in 0..64 {
        let mut m = good;
        m.tag ^= 1 << bit;
        assert_eq!(run(&n, &m), Verdict::Drop(DropReason::BadTag), "tag bit {bit}");
        for word in 0..2 {
            let mut m = good;
            m.label[word] ^= 1 << bit;
            assert_eq!(run(&n, &m), Verdict::Drop(DropReason::BadTag));
            let mut m = good;
            m.inner[word] ^= 1 << bit;
            assert_eq!(run(&n, &m), Verdict::Drop(DropReason::BadTag));
        }
    }
    assert!(matches!(run(&n, &good), Verdict::Forward(..)));
}

#[test]
fn a_counter_seen_before_is_a_replay() {
    let n = node(&[1, 2]);
    assert!(matches!(run(&n, &from(1, 5, &[2])), Verdict::Forward(..)));
    assert_eq!(run(&n, &from(1, 5, &[2])), Verdict::Drop(DropReason::Replay));
}

#[test]
fn each_reason() {
    let n = node(&[1, 2]);
    assert_eq!(run(&n, &from(1, 0, &[3])), Verdict::Drop(DropReason::NoSlot));
    assert_eq!(run(&n, &from(1, 1, &[0])), Verdict::Drop(DropReason::NoSlot));
    assert_eq!(run(&n, &from(1, 2, &[1])), Verdict::Drop(DropReason::UTurn));
    assert_eq!(run(&n, &from(1, 3, &[])), Verdict::Here(Label([0; 2])));
    let bad = seal(&keys(1), 101, 4, 6, &Label([0x01_02, 0]), INNER);
    assert_eq!(run(&n, &bad), Verdict::Drop(DropReason::BadLabel));
    for inner in [0, 5, 6, 8, 255] {
        let label = Label::from_route(&[2]).expect("fits");
        let m = seal(&keys(1), 101, 10 + inner, 6 | 100 << 16, &label, [inner, 0]);
        assert_eq!(run(&n, &m), Verdict::Drop(DropReason::Malformed), "inner type {inner}");
    }
}

#[test]
fn limits_of_the_link() {
    let mut n = node(&[1, 2]);
    let big = seal(&keys(1), 101, 0, 6 | 1501 << 16, &Label::from_route(&[2]).expect("fits"), INNER);
    assert_eq!(run(&n, &big), Verdict::Drop(DropReason::TooBig));
    n.tx.get_mut(&2).expect("there").flags = 0;
    assert_eq!(run(&n, &from(1, 1, &[2])), Verdict::Up(UpReason::EgressUnsupported));
    let rx = n.rx[&101].0;
    let m = from(1, 2, &[2]);
    assert!(matches!(hop(&n, Width::One, Place::Agent, &rx, &m), Verdict::Forward(..)));
    n.tx.get_mut(&2).expect("there").expires_ns = 500;
    assert_eq!(run(&n, &from(1, 3, &[2])), Verdict::Drop(DropReason::Expired));
    n.rx.get_mut(&101).expect("there").0.flags = rx_flag::NO_TRANSIT;
    assert_eq!(run(&n, &from(1, 4, &[2])), Verdict::Drop(DropReason::NotAllowed));
    n.rx.get_mut(&101).expect("there").0.expires_ns = 500;
    assert_eq!(run(&n, &from(1, 5, &[2])), Verdict::Drop(DropReason::Expired));
}

#[test]
fn a_moved_source_goes_up_only_when_authentic() {
    let n = node(&[1, 2]);
    let moved = Place::Kernel { moved: true };
    let rx = n.rx[&101].0;
    let mut m = from(1, 0, &[2]);
    assert_eq!(hop(&n, Width::One, moved, &rx, &m), Verdict::Up(UpReason::Moved));
    m.tag ^= 1;
    assert_eq!(hop(&n, Width::One, moved, &rx, &m), Verdict::Drop(DropReason::BadTag));
}

#[test]
fn long_labels_cross_too() {
    let n = node(&[1, 2]);
    let route = [2; 30];
    let label = Label::<4>::from_route(&route).expect("fits");
    let m = seal(&keys(1), 101, 0, 6 | 0x11 << 8 | 100 << 16, &label, INNER);
    let Verdict::Forward(_, out) = hop(&n, Width::One, KERNEL, n.rx(101).expect("known"), &m) else {
        panic!("not forwarded")
    };
    let mut bytes = [0; 72];
    out.write(&mut bytes).expect("fits");
    bytes[56..64].copy_from_slice(&out.inner[0].to_le_bytes());
    bytes[64..72].copy_from_slice(&out.inner[1].to_le_bytes());
    assert_eq!(Message::<4>::read(&bytes), Some(out));
    assert_eq!(xor(out.label, &mask(&keys(52).mask, 7))[0] & 0xff_ffff, 0x01_1e_01);
}

#[test]
fn a_sealed_link_takes_no_transit_message_whatever_its_label() {
    let mut n = node(&[1, 2]);
    n.rx.get_mut(&101).expect("there").0.flags = rx_flag::SEALED;
    let rx = n.rx[&101].0;
    for (i, route) in [&[2][..], &[], &[1], &[9]].iter().enumerate() {
        for (j, place) in [KERNEL, Place::Kernel { moved: true }, Place::Agent].iter().enumerate() {
            let m = from(1, (3 * i + j) as u64, route);
            assert_eq!(
                hop(&n, Width::One, *place, &rx, &m),
                Verdict::Drop(DropReason::NotAllowed),
                "{route:?} {place:?}"
            );
        }
    }
    let mut forged = from(1, 100, &[2]);
    forged.tag ^= 1;
    assert_eq!(run(&n, &forged), Verdict::Drop(DropReason::BadTag), "nothing is said to strangers");
}

#[test]
fn the_kernel_never_sends_on_a_sealed_link() {
    let mut n = node(&[1, 2]);
    for flags in [tx_flag::SEALED, tx_flag::SEALED | tx_flag::REDIRECT] {
        n.tx.get_mut(&2).expect("there").flags = flags;
        assert_eq!(run(&n, &from(1, u64::from(flags), &[2])), Verdict::Up(UpReason::Sealed));
    }
    let (rx, m) = (n.rx[&101].0, from(1, 1, &[2, 9]));
    let Verdict::Seal(tx, label) = hop(&n, Width::One, Place::Agent, &rx, &m) else { panic!("not to be sealed") };
    assert_eq!((tx.slot, label.0[0]), (2, 0x09_01_02_01));
    assert_eq!(hop(&n, Width::One, Place::Agent, &rx, &m), Verdict::Drop(DropReason::Replay));
    assert_eq!(n.counter.load(Ordering::Relaxed), 7, "no counter is spent on what the session protects");
    let fits = |length: u64| {
        let label = Label::from_route(&[2]).expect("fits");
        seal(&keys(1), 101, 10 + length, 6 | length << 16, &label, INNER)
    };
    assert_eq!(run(&n, &fits(1488)), Verdict::Up(UpReason::Sealed));
    assert_eq!(run(&n, &fits(1489)), Verdict::Drop(DropReason::TooBig), "twelve bytes more than in a transit message");
}

#[test]
fn what_came_sealed_is_switched_like_everything_else() {
    let mut n = node(&[1, 2, 3]);
    n.rx.get_mut(&101).expect("there").0.flags = rx_flag::SEALED;
    n.tx.get_mut(&3).expect("there").flags = tx_flag::SEALED;
    let head0 = 6 | 1 << 8 | 100 << 16;
    let arrive = |n: &Node, head0: u64, route: &[u8]| -> Verdict<TxLink, 2> {
        let label = Label::from_route(route).expect("fits");
        match opened(n, Width::One, n.rx(101).expect("known"), head0, &label, INNER) {
            Verdict::Forward(tx, out) => Verdict::Forward(*tx, out),
            Verdict::Seal(tx, label) => Verdict::Seal(*tx, label),
            Verdict::Here(label) => Verdict::Here(label),
            Verdict::Up(reason) => Verdict::Up(reason),
            Verdict::Drop(reason) => Verdict::Drop(reason),
            Verdict::Refused(reason) => Verdict::Refused(reason),
        }
    };
    let Verdict::Forward(tx, out) = arrive(&n, head0, &[2]) else { panic!("not forwarded") };
    assert_eq!((tx.slot, out.index(), out.head[1], out.length(), out.inner), (2, 902, 7, 100, INNER));
    assert_eq!(tag(&keys(52).tag, &out), out.tag);
    assert_eq!(xor(out.label, &mask(&keys(52).mask, 7))[0], 0x01_01_01, "slot 1 leads back");
    assert!(matches!(arrive(&n, head0, &[3]), Verdict::Seal(tx, Label([0x01_01_01, 0])) if tx.slot == 3));
    assert_eq!(arrive(&n, head0, &[]), Verdict::Here(Label([0; 2])));
    assert_eq!(arrive(&n, head0, &[1]), Verdict::Drop(DropReason::UTurn));
    assert_eq!(arrive(&n, head0, &[9]), Verdict::Refused(DropReason::NoSlot));
    assert_eq!(arrive(&n, 6 | 1501 << 16, &[2]), Verdict::Refused(DropReason::TooBig));
    assert_eq!(arrive(&n, 6 | 1489 << 16, &[3]), Verdict::Refused(DropReason::TooBig));
    n.tx.get_mut(&2).expect("there").expires_ns = 500;
    assert_eq!(arrive(&n, head0, &[2]), Verdict::Refused(DropReason::Expired));
    n.rx.get_mut(&101).expect("there").0.flags |= rx_flag::NO_TRANSIT;
    assert_eq!(arrive(&n, head0, &[3]), Verdict::Refused(DropReason::NotAllowed));
    assert_eq!(arrive(&n, head0, &[]), Verdict::Here(Label([0; 2])), "what is for this node is no transit");
    n.rx.get_mut(&101).expect("there").0.expires_ns = 500;
    assert_eq!(arrive(&n, head0, &[]), Verdict::Drop(DropReason::Expired));
    let label = Label::<2>::from_route(&[2]).expect("fits");
    let rx = node(&[1, 2]).rx[&101].0;
    let n = node(&[1, 2]);
    let nested = opened(&n, Width::One, &rx, head0, &label, [6, 0]);
    assert_eq!(nested, Verdict::Drop(DropReason::Malformed), "transit does not travel inside transit");
}

/// Every refusal: its reason, and a message from neighbour 1 that meets it.
fn refusals(n: &mut Node) -> Vec<(DropReason, Message<2>)> {
    n.tx.get_mut(&3).expect("there").expires_ns = 500;
    n.tx.get_mut(&4).expect("there").mtu = 99;
    let strict = (n.rx[&105].0, n.rx.get_mut(&105).expect("there"));
    strict.1.0 = RxLink { flags: rx_flag::NO_TRANSIT, ..strict.0 };
    [
        (DropReason::NoSlot, from(1, 0, &[9])),
        (DropReason::Expired, from(1, 1, &[3])),
        (DropReason::TooBig, from(1, 2, &[4])),
        (DropReason::NotAllowed, from(5, 0, &[2])),
    ]
    .into()
}

#[test]
fn what_is_refused_goes_up_within_its_budget_and_counts_once() {
    for (place, budget) in [(KERNEL, 0), (KERNEL, 1), (Place::Agent, 0)] {
        let mut n = node(&[1, 2, 3, 4, 5]);
        for (reason, m) in refusals(&mut n) {
            n.tokens.store(budget, Ordering::Relaxed);
            let rx = n.rx(m.index()).expect("known");
            let verdict = hop(&n, Width::One, place, rx, &m);
            let again = |place| hop(&n, Width::One, place, rx, &m);
            match (place, budget) {
                (Place::Kernel { .. }, 1) => {
                    assert_eq!(verdict, Verdict::Up(UpReason::Refused), "{reason:?}");
                    assert_eq!(again(Place::Agent), Verdict::Refused(reason), "the agent finds the same, and marks it");
                }
                (Place::Kernel { .. }, _) => assert_eq!(verdict, Verdict::Drop(reason)),
                (Place::Agent, _) => assert_eq!(verdict, Verdict::Refused(reason)),
            }
            n.tokens.store(1, Ordering::Relaxed);
            assert_eq!(again(KERNEL), Verdict::Drop(DropReason::Replay), "{reason:?}");
            assert_eq!(n.tokens.load(Ordering::Relaxed), 1, "a replay takes no token");
        }
    }
}

#[test]
fn nobody_is_told_of_control_messages_or_by_strangers() {
    let n = node(&[1, 2]);
    n.tokens.store(9, Ordering::Relaxed);
    let rx = n.rx(101).expect("known");
    let about = |counter, kind| {
        let label = Label::<2>::from_route(&[9]).expect("fits");
        seal(&keys(1), 101, counter, 6 | 100 << 16, &label, [kind, 0])
    };
    for (kind, told) in [(1, true), (2, true), (3, false), (4, true), (7, false)] {
        let in_kernel = hop(&n, Width::One, KERNEL, rx, &about(kind, kind));
        let in_agent = hop(&n, Width::One, Place::Agent, rx, &about(10 + kind, kind));
        let (up, refused) = (Verdict::Up(UpReason::Refused), Verdict::Refused(DropReason::NoSlot));
        let drop = Verdict::Drop(DropReason::NoSlot);
        assert_eq!((in_kernel, in_agent), if told { (up, refused) } else { (drop, drop) }, "inner type {kind}");
    }
    let mut forged = about(20, 4);
    forged.tag ^= 1;
    assert_eq!(hop(&n, Width::One, KERNEL, rx, &forged), Verdict::Drop(DropReason::BadTag));
    assert_eq!(n.tokens.load(Ordering::Relaxed), 6, "one for each that went up");
    let turn = from(1, 30, &[1]);
    assert_eq!(hop(&n, Width::One, KERNEL, rx, &turn), Verdict::Drop(DropReason::UTurn), "a fault of the sender's own");
}

#[test]
fn room_is_what_just_fits() {
    let n = node(&[1, 2]);
    let fits = |tx: &TxLink| room(tx);
    let mut tx = n.tx[&2];
    assert_eq!(fits(&tx), 1500);
    tx.kind = crate::maps::kind::UDP6;
    assert_eq!(fits(&tx), 1452);
    tx.flags = tx_flag::SEALED;
    assert_eq!(fits(&tx), 1440);
    tx.mtu = 3;
    assert_eq!(fits(&tx), 0);
}

/// A node whose neighbour on slot 1 may send so many messages at once, and one each 100 ns.
fn limited(at_once: u64) -> Node {
    let mut n = node(&[1, 2, 3]);
    n.rx.get_mut(&101).expect("there").0.flags = rx_flag::LIMITED;
    let rate = TransitRate { byte_cost: 1 << 16, packet_ns: 0, burst_ns: 100 * at_once, ..TransitRate::default() };
    n.rates.insert(1, rate);
    n
}

#[test]
fn a_neighbour_that_floods_is_held_to_its_rate() {
    let mut n = limited(3);
    for counter in 0..10 {
        let expected = matches!(run(&n, &from(1, counter, &[2])), Verdict::Forward(..));
        assert_eq!(expected, counter < 3, "{counter}");
    }
    assert_eq!(run(&n, &from(1, 20, &[2])), Verdict::Drop(DropReason::RateLimited));
    assert_eq!(run(&n, &from(1, 20, &[2])), Verdict::Drop(DropReason::Replay), "what was refused counts once");
    assert!(matches!(run(&n, &from(2, 0, &[3])), Verdict::Forward(..)), "others have no limit");
    assert_eq!(run(&n, &from(1, 21, &[])), Verdict::Here(Label([0; 2])), "what is for this node is no transit");
    n.now_ns = 600;
    assert!(matches!(run(&n, &from(1, 22, &[2])), Verdict::Forward(..)));
    assert_eq!(run(&n, &from(1, 23, &[2])), Verdict::Drop(DropReason::RateLimited));
    n.now_ns = 900;
    // Twice the bytes are twice the price, in a long label too.
    let label = Label::<4>::from_route(&[2; 20]).expect("fits");
    let big = |counter| seal(&keys(1), 101, counter, 6 | 0x11 << 8 | 200 << 16, &label, INNER);
    let rx = n.rx[&101].0;
    assert!(matches!(hop(&n, Width::One, KERNEL, &rx, &big(30)), Verdict::Forward(..)));
    assert_eq!(hop(&n, Width::One, KERNEL, &rx, &big(31)), Verdict::Drop(DropReason::RateLimited));
    assert!(matches!(run(&n, &from(1, 32, &[2])), Verdict::Forward(..)), "a smaller one still fits");
}

#[test]
fn only_what_is_sent_on_is_paid_for_and_by_whom_it_came_from() {
    let n = limited(1);
    let mut forged = from(1, 0, &[2]);
    forged.tag ^= 1;
    assert_eq!(run(&n, &forged), Verdict::Drop(DropReason::BadTag));
    assert_eq!(run(&n, &from(1, 1, &[9])), Verdict::Drop(DropReason::NoSlot));
    assert_eq!(run(&n, &from(1, 2, &[1])), Verdict::Drop(DropReason::UTurn));
    for counter in 0..5 {
        assert!(matches!(run(&n, &from(2, counter, &[1])), Verdict::Forward(..)), "to the limited neighbour");
    }
    assert!(matches!(run(&n, &from(1, 3, &[2])), Verdict::Forward(..)));
    assert_eq!(run(&n, &from(1, 3, &[2])), Verdict::Drop(DropReason::Replay));
    assert_eq!(run(&n, &from(1, 4, &[2])), Verdict::Drop(DropReason::RateLimited));
}

#[test]
fn what_the_agent_sends_on_is_paid_for_there_and_nothing_else_goes_up() {
    let mut n = limited(1);
    n.tx.get_mut(&2).expect("there").flags = 0;
    let rx = n.rx[&101].0;
    for _ in 0..3 {
        assert_eq!(run(&n, &from(1, 0, &[2])), Verdict::Up(UpReason::EgressUnsupported), "the kernel only looks");
    }
    assert!(matches!(hop(&n, Width::One, Place::Agent, &rx, &from(1, 0, &[2])), Verdict::Forward(..)));
    assert_eq!(run(&n, &from(1, 1, &[2])), Verdict::Drop(DropReason::RateLimited));
    assert_eq!(run(&n, &from(1, 1, &[2])), Verdict::Drop(DropReason::Replay), "it is counted once");
    let agent = hop(&n, Width::One, Place::Agent, &rx, &from(1, 2, &[2]));
    assert_eq!(agent, Verdict::Refused(DropReason::RateLimited));
    let label = Label::<2>::from_route(&[3]).expect("fits");
    let sealed = |n: &Node| matches!(opened(n, Width::One, &rx, 6 | 100 << 16, &label, INNER), Verdict::Forward(..));
    assert!(!sealed(&n), "sealed transit pays from the same bucket");
    n.now_ns = 600;
    assert!(sealed(&n) && !sealed(&n));
    // Until its rate is known, a link has none.
    n.rates.insert(1, TransitRate::default());
    assert!(sealed(&n) && sealed(&n));
}

#[test]
fn several_cpus_take_no_more_from_a_bucket_than_there_is() {
    let spent = AtomicU64::new(0);
    let rate = TransitRate { byte_cost: 0, packet_ns: 10, burst_ns: 10 * 1000, ..TransitRate::default() };
    let taken: usize = std::thread::scope(|s| {
        let run = || (0..2000).filter(|_| take(&Spent(&spent), 1 << 40, &rate.toll(100))).count();
        let threads: [_; 4] = core::array::from_fn(|_| s.spawn(run));
        threads.into_iter().map(|t| t.join().expect("no panic")).sum()
    });
    assert!((900..=1000).contains(&taken), "{taken}");
}
