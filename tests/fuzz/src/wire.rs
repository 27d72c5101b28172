//! Bytes from the network: headers, labels, the hop; and IPv6 packets from the TUN.

use std::cell::RefCell;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use rovy_common::DropReason;
use rovy_common::hop::{self, Message};
use rovy_common::label::{Label, Next, Width};
use rovy_common::maps::{HopKeys, RxLink, TxLink, kind, rx_flag, tx_flag};
use rovy_common::wire::{FLAG_LONG_LABEL, MessageType, VERSION, check_bytes};
use rovy_userspace::core::{Node, Now, Sealed};
use rovy_userspace::dataplane::{Dataplane, Switched, Tables, pass_sealed};
use rovy_userspace::fc00::firewall::{Firewall, Setup, Verdict};
use rovy_userspace::fc00::packet::{self, Unreachable, check, too_big, unreachable};
use rovy_userspace::transport::Endpoint;

use crate::keys::node;

/// The index of the link that everything comes by.
const INDEX: u32 = 0x0abc_0001;

/// The slots of that link, of another neighbour's, and of a third one's, which is sealed.
fn slots(width: Width) -> [u16; 3] {
    if width == Width::One { [1, 2, 3] } else { [0x0101, 0x0203, 0x0304] }
}

const KEYS: HopKeys = HopKeys { tag: [1, 2], mask: [3, 4] };

fn make(width: Width) -> Tables {
    let mut tables = Tables::new(width, None);
    for (n, slot) in slots(width).into_iter().enumerate() {
        let tx = TxLink {
            expires_ns: u64::MAX,
            neighbour: 7 + n as u64,
            keys: HopKeys { tag: [5, 6], mask: [7, 8] },
            index: 0x77,
            mtu: 1500,
            kind: kind::UDP4,
            flags: if n == 2 { tx_flag::SEALED } else { 0 },
            slot: u32::from(slot),
            ..TxLink::default()
        };
        let Ok(()) = tables.set_transmit(&tx, at());
    }
    tables
}

fn at() -> Endpoint {
    Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, 1], 1312)), local: None }
}

/// Tables with an empty window for the index. They are made once: the counters of two-byte slots take a megabyte.
fn with_tables<T>(width: Width, flags: u16, run: impl FnOnce(&mut Tables) -> T) -> T {
    thread_local! {
        static TABLES: [RefCell<Tables>; 2] = [Width::One, Width::Two].map(|w| RefCell::new(make(w)));
    }
    TABLES.with(|both| {
        let tables = &mut *both[usize::from(width == Width::Two)].borrow_mut();
        let Ok(_) = tables.clear_receive(INDEX);
        let (expires_ns, slot) = (u64::MAX, slots(width)[0]);
        let rx = RxLink { expires_ns, neighbour: 7, keys: KEYS, index: INDEX, slot, flags, ..RxLink::default() };
        let Ok(()) = tables.set_receive(&rx, at());
        run(tables)
    })
}

/// A header check, a label step, and the hop over tables with two neighbours, for the bytes as they are and with a tag
/// that is right.
pub fn wire(data: &[u8]) {
    for exact in [false, true] {
        if let Ok((kind, length)) = check_bytes(data, exact) {
            assert!(length <= data.len() && length >= kind.min_len());
            assert!(!exact || length == data.len());
        }
    }
    for width in [Width::One, Width::Two] {
        label::<2>(width, data);
        label::<4>(width, data);
        let _ = with_tables(width, 0, |tables| tables.switch(1, &mut data.to_vec()));
        sealed::<2>(width, data);
        sealed::<4>(width, data);
        opened::<2>(width, data);
        opened::<4>(width, data);
    }
}

fn label<const W: usize>(width: Width, data: &[u8]) {
    let Some(label) = Label::<W>::read(data) else { return };
    let mut out = vec![0; 8 * W];
    label.write(&mut out);
    assert_eq!(out[..], data[..8 * W]);
    if let Ok(Next::Slot(_)) = label.next(width) {
        let next = label.advance(width, 0x0405);
        assert_eq!(u32::from(next.pos()), u32::from(label.pos()) + width.bytes());
        assert_eq!(next.len(), label.len());
        let mut back = [0; 30];
        assert_eq!(next.way_back(&mut back), Some(usize::from(next.pos())));
    }
}

/// What a neighbour with the keys can do: any label, any inner message.
fn sealed<const W: usize>(width: Width, data: &[u8]) {
    let (Some(label), Some(inner)) = (Label::<W>::read(data), data.get(8 * W..)) else { return };
    let mut bytes = vec![0; Message::<W>::HEAD];
    bytes.extend(inner);
    let Some(read) = Message::<W>::read(&bytes) else { return };
    let Ok(length) = u16::try_from(bytes.len()) else { return };
    let flags = VERSION | if W == 4 { FLAG_LONG_LABEL } else { 0 };
    let [l0, l1] = length.to_le_bytes();
    let head = u64::from(u32::from_le_bytes([MessageType::Transit as u8, flags, l0, l1]));
    let sealed = hop::seal(&KEYS, INDEX, 5, head, &label, read.inner);
    assert!(sealed.write(&mut bytes).is_some());
    let sent = bytes.clone();
    let (first, again) =
        with_tables(width, 0, |tables| (tables.switch(1, &mut bytes), tables.switch(1, &mut sent.clone())));
    let [_, other, sealed] = slots(width);
    match first {
        Ok(Switched::Forward(_, range)) => {
            assert_eq!(
                label.next(width),
                Ok(Next::Slot(other)),
                "only one slot leads to another neighbour in the open"
            );
            assert_eq!(range, 0..sent.len());
            assert_eq!(bytes[Message::<W>::HEAD..], *inner, "the inner message changed");
        }
        Ok(Switched::Here { inner, hops, .. }) => {
            assert_eq!(label.next(width), Ok(Next::Here));
            assert!(inner.end == bytes.len() && hops.len() <= Label::<W>::CAPACITY);
        }
        Ok(Switched::Seal(sealing)) => {
            assert_eq!(label.next(width), Ok(Next::Slot(sealed)), "only one slot leads to a sealed link");
            assert_eq!(bytes[sealing.body][8 * W..], *inner, "the inner message changed");
        }
        Ok(Switched::Refused(_)) | Err(_) => assert_eq!(bytes, sent, "a dropped message was changed"),
    }
    assert_eq!(again.err(), Some(DropReason::Replay), "a counter was taken twice");
}

/// What a neighbour can put into a data message on a sealed link: the core has opened it.
fn opened<const W: usize>(width: Width, data: &[u8]) {
    thread_local! {
        static NODE: RefCell<Node> = RefCell::new(node(0));
    }
    let now = Now { mono_ns: 1, wall: Duration::from_secs(1_700_000_000) };
    let sealed = Sealed { index: INDEX, long: W == 4, body: 0..data.len() };
    let mut buf = Vec::new();
    let outcome = NODE.with(|node| {
        let node = &mut *node.borrow_mut();
        with_tables(width, rx_flag::SEALED, |tables| pass_sealed(node, tables, now, &sealed, data, &mut buf))
    });
    let (Some(label), Some(inner)) = (Label::<W>::read(data), data.get(8 * W..)) else {
        return assert!(outcome.is_err(), "half a label was switched");
    };
    match outcome {
        Ok(Switched::Forward(_, range)) => {
            assert_eq!(label.next(width), Ok(Next::Slot(slots(width)[1])), "there is no session to seal for");
            let out = &buf[range];
            assert!(check_bytes(out, true).is_ok_and(|(kind, _)| kind == MessageType::Transit));
            assert_eq!(out[Message::<W>::HEAD..], *inner, "the inner message changed");
        }
        Ok(Switched::Here { inner: range, hops, .. }) => {
            assert_eq!(label.next(width), Ok(Next::Here));
            assert!(buf[range] == *inner && hops.len() <= Label::<W>::CAPACITY);
        }
        Ok(Switched::Seal(_)) => unreachable!("it is sealed when this returns"),
        Ok(Switched::Refused(_)) | Err(_) => {}
    }
}

/// Packets from the TUN and from peers, the errors that answer them, and what the firewall makes of them.
pub fn packet(data: &[u8]) {
    let from = Ipv6Addr::new(0xfc01, 0, 0, 0, 0, 0, 0, 1);
    let sane = check(data).is_ok();
    assert!(!sane || (packet::source(data).is_some() && packet::destination(data).is_some()));
    let mtu = data.first().map_or(0, |b| u32::from(*b) * 8);
    use Unreachable::{Address, NoRoute, Port, Prohibited, Source};
    let codes = [NoRoute, Prohibited, Address, Port, Source];
    let answers = codes.into_iter().filter_map(|code| unreachable(data, code, from)).chain(too_big(data, mtu, from));
    for answer in answers {
        assert!(sane, "something that is no packet was answered");
        assert!(check(&answer).is_ok() && answer.len() <= packet::MIN_MTU as usize);
        assert_eq!(packet::destination(&answer), packet::source(data));
        assert!(unreachable(&answer, Unreachable::Port, from).is_none(), "an error about an error");
        assert!(too_big(&answer, 1280, from).is_none(), "an error about an error");
    }
    let mut firewall = Firewall::new(from, Setup { reject: true, ..Setup::default() });
    match firewall.incoming(0, data) {
        Verdict::Pass => assert!(data[packet::HEADER..].contains(&128), "not an echo request"),
        Verdict::Answer(answer) => {
            assert!(!sane || check(&answer).is_ok());
            assert_eq!(packet::destination(&answer), packet::source(data));
        }
        Verdict::Drop => {}
    }
    firewall.outgoing(1, data);
    firewall.incoming(2, data);
}
