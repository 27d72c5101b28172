//! Whatever comes in.

use super::*;
use rovy_common::wire::{Hello, MessageType};

#[test]
fn truncated_messages_of_every_type_at_every_length() {
    let mut w = World::new(2);
    w.connect(0, 1);
    for kind in 1..=7u8 {
        let len = MessageType::from_byte(kind).expect("a type").min_len();
        for n in 0..len {
            let mut bytes = vec![0xa5; n];
            for (i, b) in [kind, 1, n as u8, (n >> 8) as u8].into_iter().enumerate().take(n) {
                bytes[i] = b;
            }
            let now = w.now();
            assert!(w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut bytes).is_err(), "{kind} at {n}");
        }
    }
    let now = w.now();
    assert!(w.nodes[1].message(now, &Origin::Direct(endpoint(0)), &mut [1, 0, 0, 0]).is_err());
    w.send(0, 1, 1).expect("still fine");
    assert_eq!(w.arrived.len(), 1);
}

#[test]
fn noise_of_the_right_shape_costs_no_state() {
    let mut w = World::new(1);
    let key = mac1_key(w.id(0).public_key());
    for n in 0..=255u8 {
        let mut bytes = vec![n; size_of::<Hello>()];
        bytes[..4].copy_from_slice(&[1, 1, 64, 1]);
        let now = w.now();
        assert_eq!(w.nodes[0].message(now, &Origin::Direct(endpoint(1)), &mut bytes), Err(DropReason::BadMac1));
        let mac = mac1(&key, &bytes).expect("long enough");
        bytes[288..304].copy_from_slice(&mac);
        assert_eq!(w.nodes[0].message(now, &Origin::Direct(endpoint(1)), &mut bytes), Err(DropReason::BadHandshake));
    }
    assert_eq!((w.nodes[0].peers().count(), w.nodes[0].sessions().0), (0, 0));
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut w = World::new(2);
        let (b, now) = (w.id(1), w.now());
        w.nodes[0].connect(now, b, vec![endpoint(1)], true);
        w.collect(0);
        w.flights[0].bytes.clone()
    };
    assert_eq!(run(), run());
}
