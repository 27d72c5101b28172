use std::collections::BTreeMap;

use proptest::prelude::*;
use rovy_common::DropReason;
use rovy_common::wire::FRAGMENTED;

use super::join::{OF_ALL, OF_PEER, PATIENCE_NS, PIECES};
use super::*;
use crate::core::tests::peer_ids;
use crate::identity::PeerId;

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn piece<'a>(from: (PeerId, u32), id: u32, packet: &'a [u8], range: Range<usize>) -> Piece<'a> {
    Piece { from, id, offset: range.start, more: range.end < packet.len(), bytes: &packet[range] }
}

#[test]
fn pieces_are_few_of_one_size_and_cover_everything() {
    for length in 1..=FRAGMENTED {
        for room in [1, 90, 600, 1114, 1279, 1280, 5000] {
            let pieces: Vec<_> = cut(length, room).collect();
            assert_eq!(pieces.len(), length.div_ceil(room));
            assert!(pieces.iter().all(|p| (1..=room).contains(&p.len())));
            assert_eq!((pieces[0].start, pieces[pieces.len() - 1].end), (0, length));
            assert!(pieces.windows(2).all(|w| w[0].end == w[1].start && w[0].len() >= w[1].len()));
        }
    }
}

#[test]
fn overlaps_and_contradictions_end_the_packet() {
    let from = (peer_ids(1)[0], 1);
    let packet = bytes(300, 0);
    let half = |range: Range<usize>, more| Piece { more, ..piece(from, 7, &packet, range) };
    let other = bytes(300, 9);
    for (first, second) in [
        (half(0..100, true), half(50..150, true)),
        (half(0..100, true), half(0..99, true)),
        (half(0..100, true), Piece { bytes: &other[..100], ..half(0..100, true) }),
        (half(0..100, true), half(0..100, false)),
        (half(200..300, false), half(100..200, false)),
        (half(100..200, false), half(200..300, true)),
        (half(200..300, true), half(100..200, false)),
        (half(100..200, false), half(100..200, true)),
    ] {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.take(0, &first), Ok(None));
        assert_eq!(joiner.take(0, &second), Err(DropReason::Reassembly), "{first:?} {second:?}");
        assert_eq!(joiner.used().0, 0, "the packet is given up");
    }
}

#[test]
fn a_copy_changes_nothing() {
    let from = (peer_ids(1)[0], 1);
    let packet = bytes(300, 0);
    let mut joiner = Joiner::default();
    for _ in 0..100 {
        assert_eq!(joiner.take(0, &piece(from, 7, &packet, 100..200)), Ok(None));
        assert_eq!(joiner.take(0, &piece(from, 7, &packet, 200..300)), Ok(None));
    }
    assert_eq!(joiner.take(0, &piece(from, 7, &packet, 0..100)), Ok(Some(packet)));
}

#[test]
fn what_is_empty_or_reaches_too_far_is_refused() {
    let from = (peer_ids(1)[0], 1);
    let long = bytes(FRAGMENTED + 1, 0);
    let mut joiner = Joiner::default();
    let whole = Piece { from, id: 1, offset: 0, more: false, bytes: &long };
    let empty = Piece { bytes: &[], ..whole };
    let far = Piece { offset: 0x7fff, bytes: &long[..1], ..whole };
    for bad in [whole, empty, far] {
        assert_eq!(joiner.take(0, &bad), Err(DropReason::BadLength));
    }
    assert_eq!(joiner.used().0, 0);
    let fits = Piece { bytes: &long[..FRAGMENTED], ..whole };
    assert_eq!(joiner.take(0, &fits), Ok(Some(long[..FRAGMENTED].to_vec())), "one piece may be all");
}

#[test]
fn more_pieces_than_any_sender_makes_end_the_packet() {
    let from = (peer_ids(1)[0], 1);
    let packet = bytes(100, 0);
    let mut joiner = Joiner::default();
    for i in 0..PIECES {
        assert_eq!(joiner.take(0, &piece(from, 7, &packet, i..i + 1)), Ok(None));
    }
    assert_eq!(joiner.take(0, &piece(from, 7, &packet, PIECES..PIECES + 1)), Err(DropReason::Reassembly));
}

#[test]
fn an_id_used_again_after_a_while_is_another_packet() {
    let from = (peer_ids(1)[0], 1);
    let (old, new) = (bytes(200, 1), bytes(200, 2));
    let mut joiner = Joiner::default();
    assert_eq!(joiner.take(0, &piece(from, 7, &old, 0..100)), Ok(None));
    assert_eq!(joiner.take(PATIENCE_NS, &piece(from, 7, &new, 100..200)), Ok(None));
    assert_eq!(joiner.tidy(PATIENCE_NS), 1);
    assert_eq!(joiner.take(PATIENCE_NS, &piece(from, 7, &new, 0..100)), Ok(Some(new)));
    assert_eq!((joiner.used().0, joiner.next()), (0, u64::MAX));
}

#[test]
fn the_same_id_of_another_peer_or_session_is_another_packet() {
    let ids = peer_ids(2);
    let senders = [(ids[0], 1), (ids[0], 2), (ids[1], 3)];
    let packets: Vec<_> = (0..3).map(|n| bytes(200, n)).collect();
    let mut joiner = Joiner::default();
    for (from, packet) in senders.iter().zip(&packets) {
        assert_eq!(joiner.take(0, &piece(*from, 7, packet, 0..100)), Ok(None));
    }
    joiner.forget(2);
    assert_eq!(joiner.take(0, &piece(senders[1], 7, &packets[1], 100..200)), Ok(None), "its session ended");
    for n in [0, 2] {
        assert_eq!(joiner.take(0, &piece(senders[n], 7, &packets[n], 100..200)), Ok(Some(packets[n].clone())));
    }
}

#[test]
fn what_one_peer_and_all_peers_can_fill_is_bounded_and_the_greedy_pays() {
    let ids = peer_ids(40);
    let packet = bytes(1000, 0);
    let mut joiner = Joiner::default();
    let mut given_up = 0;
    assert_eq!(joiner.take(0, &piece((ids[39], 9), 1, &packet, 0..500)), Ok(None));
    for id in 0..100 {
        for (n, peer) in ids.iter().take(30).enumerate() {
            assert_eq!(joiner.take(0, &piece((*peer, n as u32), id, &packet, 0..500)), Ok(None));
            given_up += joiner.tidy(0);
            assert!(joiner.used().0 <= OF_ALL);
        }
    }
    assert_eq!(given_up + joiner.used().0, 3001);
    // Who sent little was not pushed out by who sent much.
    assert_eq!(joiner.take(0, &piece((ids[39], 9), 1, &packet, 500..1000)), Ok(Some(packet.clone())));
    let mut alone = Joiner::default();
    for id in 0..200 {
        let _ = alone.take(0, &piece((ids[0], 1), id, &packet, 0..500));
        alone.tidy(0);
        assert!(alone.used().0 <= OF_PEER && OF_PEER * FRAGMENTED <= 64 * 1024);
    }
}

proptest! {
    /// Pieces of several packets in any order, some lost, some twice: exactly the packets of which all pieces came are there, as
    /// they were.
    #[test]
    fn whole_packets_come_out_and_nothing_else(
        packets in proptest::collection::vec((1..=FRAGMENTED, 80..1300_usize), 1..20),
        order in proptest::collection::vec(any::<u32>(), 200),
        lost in proptest::collection::vec(any::<bool>(), 200),
        twice in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let from = (peer_ids(1)[0], 1);
        let sent: Vec<Vec<u8>> = packets.iter().enumerate().map(|(n, (length, _))| bytes(*length, n as u8)).collect();
        let mut pieces = Vec::new();
        let mut complete = BTreeMap::new();
        for (n, (length, room)) in packets.iter().enumerate() {
            for range in cut(*length, *room) {
                let k = pieces.len();
                let here = !lost[k % 200] || k.is_multiple_of(3);
                *complete.entry(n).or_insert(true) &= here;
                pieces.push((order[k % 200], n, range, here));
            }
        }
        pieces.sort_by_key(|(order, ..)| *order);
        let mut joiner = Joiner::default();
        let mut got = BTreeMap::new();
        for (k, (_, n, range, here)) in pieces.iter().enumerate() {
            let part = piece(from, *n as u32, &sent[*n], range.clone());
            if *here {
                // A copy before the original: behind the last piece it would begin another packet.
                if twice[k % 200] && range.len() < sent[*n].len() && !got.contains_key(n) {
                    let copy = joiner.take(0, &part);
                    if let Ok(Some(packet)) = copy { got.insert(*n, packet); continue; }
                }
                if let Ok(Some(packet)) = joiner.take(0, &part) {
                    prop_assert!(got.insert(*n, packet).is_none());
                }
            }
        }
        for (n, packet) in &sent.iter().enumerate().collect::<BTreeMap<_, _>>() {
            prop_assert_eq!(got.get(n), complete[n].then_some(*packet));
        }
    }

    /// Whatever comes: never more than may be, nothing longer than a packet may be, and time clears everything.
    #[test]
    fn nothing_grows(pieces in proptest::collection::vec((0..3_u8, 0..4_u32, 0..1400_usize, any::<bool>(), 0..700_usize, 0..400_u64), 0..300)) {
        let ids = peer_ids(3);
        let (mut joiner, mut now_ns) = (Joiner::default(), 0);
        let source = bytes(1400, 0);
        for (who, id, offset, more, length, ms) in pieces {
            now_ns += ms * 1_000_000;
            let piece = Piece { from: (ids[usize::from(who)], 1), id, offset, more, bytes: &source[..length] };
            if let Ok(Some(packet)) = joiner.take(now_ns, &piece) {
                prop_assert!((1..=FRAGMENTED).contains(&packet.len()));
            }
            joiner.tidy(now_ns);
            prop_assert!(joiner.used().0 <= 12);
        }
        joiner.tidy(now_ns + PATIENCE_NS);
        prop_assert_eq!(joiner.used().0, 0);
    }
}
