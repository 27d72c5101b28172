use super::*;
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
        assert!(t.switch(1, &mut sent.clone()).is_ok());
        // What roaming and a new route of the underlay write.
        let Ok(()) = t.set_receive(&rx(10 + n), endpoint(n as u8));
        let Ok(()) = t.set_transmit(&tx(1400 - n as u32), endpoint(n as u8));
        assert_eq!(t.switch(1, &mut sent.clone()).err(), Some(DropReason::Replay));
    }
}

#[test]
fn keys_end_for_sending_and_receiving() {
    let mut t = tables();
    let sent = originate(&mut t);
    assert_eq!(t.switch(9, &mut sent.clone()).err(), Some(DropReason::Expired));
    let mut buf = vec![0; 72];
    assert_eq!(t.originate(9, 3, &[], &mut buf, 40..72).err(), Some(DropReason::Expired));
}
