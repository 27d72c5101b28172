//! Bytes from the network: headers, labels, the hop; and IPv6 packets from the TUN.

use std::net::{Ipv6Addr, SocketAddr};

use rovy_common::DropReason;
use rovy_common::hop::{self, Message};
use rovy_common::label::{Label, Next, Width};
use rovy_common::maps::{HopKeys, RxLink, TxLink, kind};
use rovy_common::wire::{FLAG_LONG_LABEL, MessageType, VERSION, check_bytes};
use rovy_userspace::dataplane::{Dataplane, Switched, Tables};
use rovy_userspace::fc00::packet::{self, Unreachable, check, too_big, unreachable};
use rovy_userspace::transport::Endpoint;

/// The index and the slots of the links in the tables.
const INDEX: u32 = 0x0abc_0001;
const SLOTS: [u16; 2] = [1, 0x0203];

const KEYS: HopKeys = HopKeys { tag: [1, 2], mask: [3, 4] };

fn tables(width: Width) -> Tables {
    let mut tables = Tables::new(width, None);
    let at = Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, 1], 1312)), local: None };
    let rx = RxLink { expires_ns: u64::MAX, neighbour: 7, keys: KEYS, index: INDEX, slot: 9, ..RxLink::default() };
    let Ok(()) = tables.set_receive(&rx, at);
    for (n, slot) in SLOTS.into_iter().enumerate() {
        let tx = TxLink {
            expires_ns: u64::MAX,
            neighbour: 7 + n as u64,
            keys: HopKeys { tag: [5, 6], mask: [7, 8] },
            index: 0x77,
            mtu: 1500,
            kind: kind::UDP4,
            slot: u32::from(slot),
            ..TxLink::default()
        };
        let Ok(()) = tables.set_transmit(&tx, at);
    }
    tables
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
        let _ = tables(width).switch(1, &mut data.to_vec());
        sealed::<2>(width, data);
        sealed::<4>(width, data);
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
    let (mut tables, sent) = (tables(width), bytes.clone());
    let switched = tables.switch(1, &mut bytes);
    assert!(!matches!(switched, Ok(Switched::Seal(_))), "no link is sealed");
    match switched {
        Ok(Switched::Forward(..)) => {
            assert_eq!(label.next(width), Ok(Next::Slot(SLOTS[1])), "only one slot leads to another neighbour");
            assert_eq!(bytes[Message::<W>::HEAD..], *inner, "the inner message changed");
        }
        Ok(Switched::Here { inner, hops, .. }) => {
            assert_eq!(label.next(width), Ok(Next::Here));
            assert!(inner.end == bytes.len() && hops.len() <= Label::<W>::CAPACITY);
        }
        Ok(Switched::Seal(_)) => {}
        Err(_) => assert_eq!(bytes, sent, "a dropped message was changed"),
    }
    let again = tables.switch(1, &mut sent.clone());
    assert_eq!(again.err(), Some(DropReason::Replay), "a counter was taken twice");
}

/// Packets from the TUN, and the errors that answer them.
pub fn packet(data: &[u8]) {
    let from = Ipv6Addr::new(0xfc01, 0, 0, 0, 0, 0, 0, 1);
    let sane = check(data).is_ok();
    assert!(!sane || (packet::source(data).is_some() && packet::destination(data).is_some()));
    let mtu = data.first().map_or(0, |b| u32::from(*b) * 8);
    let codes = [Unreachable::NoRoute, Unreachable::Prohibited, Unreachable::Address, Unreachable::Port];
    let answers = codes.into_iter().filter_map(|code| unreachable(data, code, from)).chain(too_big(data, mtu, from));
    for answer in answers {
        assert!(sane, "something that is no packet was answered");
        assert!(check(&answer).is_ok() && answer.len() <= packet::MIN_MTU as usize);
        assert_eq!(packet::destination(&answer), packet::source(data));
        assert!(unreachable(&answer, Unreachable::Port, from).is_none(), "an error about an error");
        assert!(too_big(&answer, 1280, from).is_none(), "an error about an error");
    }
}
