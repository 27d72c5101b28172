use super::*;
use crate::core::{HEADROOM, TAILROOM};
use rovy_common::maps::{HopKeys, RxLink, TxLink};

const KEYS: HopKeys = HopKeys { tag: [1, 2], mask: [3, 4] };
const INDEX: u32 = 0x1234_0001;

fn endpoint(n: u8) -> Endpoint {
    Endpoint::Udp { remote: ([192, 0, 2, n], 1312).into(), local: None }
}

/// A node with one link whose neighbour is itself: what it sends, it can receive.
fn tables() -> Tables {
    let mut t = Tables::new(Width::One, None);
    let Ok(()) = t.set_receive(&rx(9), endpoint(1));
    let Ok(()) = t.set_transmit(&tx(1500), endpoint(1));
    t
}

fn rx(expires_ns: u64) -> RxLink {
    RxLink { expires_ns, index: INDEX, slot: 3, keys: KEYS, ..RxLink::default() }
}

fn tx(mtu: u32) -> TxLink {
    TxLink { expires_ns: 9, index: INDEX, counter: 6, slot: 3, mtu, keys: KEYS, ..TxLink::default() }
}

fn originate(t: &mut Tables) -> Vec<u8> {
    let mut buf = vec![0; 40 + 32];
    buf[40] = 4;
    buf[41] = 1;
    buf[42] = 32;
    let (range, _) = t.originate(1, 3, &[], &mut buf, 40..72).expect("sealed");
    buf[range].to_vec()
}

fn counter(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[8..16].try_into().expect("eight bytes"))
}

#[test]
fn an_update_rewinds_neither_hop_counters_nor_windows() {
    let mut t = tables();
    for n in 0..50 {
        let sent = originate(&mut t);
        assert_eq!(counter(&sent), n);
        assert!(t.switch(1, &mut sent.clone(), 0).is_ok());
        // What roaming and a new route of the underlay write.
        let Ok(()) = t.set_receive(&rx(10 + n), endpoint(n as u8));
        let Ok(()) = t.set_transmit(&tx(1400 - n as u32), endpoint(n as u8));
        assert_eq!(t.switch(1, &mut sent.clone(), 0).err(), Some(DropReason::Replay));
    }
}

#[test]
fn keys_end_for_sending_and_receiving() {
    let mut t = tables();
    let sent = originate(&mut t);
    assert_eq!(t.switch(9, &mut sent.clone(), 0).err(), Some(DropReason::Expired));
    let mut buf = vec![0; 72];
    assert_eq!(t.originate(9, 3, &[], &mut buf, 40..72).err(), Some(DropReason::Expired));
}

/// What the core seals out of the TUN has room for the transit header of any route.
#[test]
fn the_longest_route_fits_in_front_of_a_packet() {
    let mut tables = Tables::new(Width::One, None);
    let tx = TxLink { slot: 4, counter: 8, expires_ns: 10, mtu: 1500, ..TxLink::default() };
    let endpoint = Endpoint::Ethernet { ifindex: 1, mac: [2; 6] };
    let Ok(()) = tables.set_transmit(&tx, endpoint);
    for hops in [0, 1, 14, 15, 30] {
        let mut buf = vec![0; HEADROOM + 1376 + TAILROOM];
        let inner = HEADROOM - 20..buf.len();
        let sent = tables.originate(1, 4, &vec![3; hops], &mut buf, inner.clone());
        let (range, to) = sent.unwrap_or_else(|reason| panic!("{hops} hops: {reason:?}"));
        let label = if hops > 14 { 56 } else { 40 };
        assert_eq!((range, to), (inner.start - label..inner.end, endpoint), "{hops} hops");
    }
    let mut buf = vec![0; 200];
    assert_eq!(tables.originate(1, 4, &[3; 31], &mut buf, 100..200).err(), Some(DropReason::BadLabel));
    assert_eq!(tables.originate(10, 4, &[3], &mut buf, 100..200).err(), Some(DropReason::Expired));
    assert_eq!(tables.originate(1, 5, &[3], &mut buf, 100..200).err(), Some(DropReason::NoSlot));
}

/// The slot of a dead link sends by another link's entry: the same keys, and the same counter, so that none is used twice.
#[test]
fn slots_that_send_by_the_same_keys_count_together() {
    let mut t = tables();
    let alias = TxLink { slot: 4, link: 1, ..tx(1500) };
    let Ok(()) = t.set_transmit(&alias, endpoint(1));
    let send = |t: &mut Tables, slot, hops: &[u8]| {
        let mut buf = vec![0; 72];
        (buf[40], buf[41], buf[42]) = (4, 1, 32);
        let (range, to) = t.originate(1, slot, hops, &mut buf, 40..72).expect("sealed");
        (to, buf[range].to_vec())
    };
    for n in 0..20 {
        let (to, mut sent) = send(&mut t, if n % 3 == 0 { 3 } else { 4 }, &[]);
        assert_eq!((to, counter(&sent)), (endpoint(1), n));
        assert!(t.switch(1, &mut sent, 0).is_ok(), "one window takes them all");
    }
    // Both lead to the neighbour it came from.
    let (_, mut sent) = send(&mut t, 3, &[4]);
    assert_eq!(t.switch(1, &mut sent, 0).err(), Some(DropReason::UTurn));
    // The link is back: its own keys and counter, and the other slot's go on.
    let Ok(()) = t.set_transmit(&TxLink { counter: 8, ..alias }, endpoint(2));
    assert_eq!(send(&mut t, 4, &[]).0, endpoint(2));
    assert_eq!(counter(&send(&mut t, 3, &[]).1), 21);
    let Ok(stats) = t.slot_stats(4);
    assert_eq!(stats.tx_packets, 14, "each slot's own traffic is counted");
}
