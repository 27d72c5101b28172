//! What a peer can send in pieces: any pieces, of any packets, in any order.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use rovy_common::wire::codec;
use rovy_userspace::core::{Inbound, Origin};
use rovy_userspace::fc00::packet::{destination, source};

use crate::keys::{endpoint, id};
use crate::session::World;

const SECOND: u64 = 1_000_000_000;
/// Pieces in one run.
const STEPS: usize = 256;
/// Packets of one peer that may wait for pieces.
const WAITING: usize = 51;
const LONGEST: usize = 1280;

/// A packet from the peer to the node.
fn packet(note: u8, length: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(note | 1)).collect();
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, 64]);
    packet[8..24].copy_from_slice(&id(1).address().octets());
    packet[24..40].copy_from_slice(&id(0).address().octets());
    packet
}

/// Of each id, what was sent for each place since when.
type Sent = BTreeMap<u32, Vec<(u64, usize, Vec<u8>)>>;

fn waiting(world: &World) -> usize {
    world.node.limits().iter().find(|(name, _)| *name == "reassembly").map_or(usize::MAX, |(_, used)| used.used)
}

fn step(world: &mut World, sent: &mut Sent, u: &mut Unstructured<'_>) -> Result<()> {
    if u.ratio(1, 8)? {
        world.pass(u.int_in_range(0..=2 * SECOND)?);
    }
    let number = u32::from(u.int_in_range(0..=80_u8)?);
    let note = if u.ratio(7, 8)? { number as u8 } else { u.arbitrary()? };
    let length = if u.ratio(7, 8)? { 40 + usize::from(note) * 14 } else { u.int_in_range(40..=LONGEST)? };
    let whole = packet(note, length.min(LONGEST));
    let (from, to) = (u.int_in_range(0..=whole.len())?, u.int_in_range(0..=whole.len())?);
    let half = whole.len() / 2;
    let range = match u.int_in_range(0..=5)? {
        0 | 1 => 0..half,
        2 | 3 => half..whole.len(),
        _ => from.min(to)..from.max(to),
    };
    let more = (range.end < whole.len()) != u.ratio(1, 16)?;
    let offset = range.start as u16 | if more { 0x8000 } else { 0 };
    let offset = if u.ratio(1, 32)? { u.arbitrary()? } else { offset };
    let piece = whole.get(range).unwrap_or_default();
    let body = [&number.to_le_bytes()[..], &offset.to_le_bytes(), piece].concat();
    sent.entry(number).or_default().push((world.now_ns, usize::from(offset & 0x7fff), piece.to_vec()));
    let Some(mut message) = world.seal(codec::FRAGMENT, &body) else { return Ok(()) };
    if let Ok(Inbound::Joined(joined)) = world.node.message(world.now(), &Origin::Direct(endpoint(1)), &mut message) {
        assert!(joined.len() <= LONGEST);
        assert_eq!(source(&joined), Some(id(1).address()), "a source that is not the sender's");
        assert_eq!(destination(&joined), Some(id(0).address()), "a packet for somebody else");
        let pieces = sent.get(&number).map(Vec::as_slice).unwrap_or_default();
        for (place, byte) in joined.iter().enumerate() {
            let there = |(at, offset, bytes): &(u64, usize, Vec<u8>)| {
                world.now_ns < at + SECOND && place.checked_sub(*offset).and_then(|i| bytes.get(i)) == Some(byte)
            };
            assert!(pieces.iter().any(there), "byte {place} was never sent");
        }
    }
    world.collect();
    assert!(waiting(world) <= WAITING, "{} packets wait", waiting(world));
    Ok(())
}

/// A session in which the peer sends pieces.
pub fn fragment(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let world = World::meet(false);
    assert!(world.is_some(), "the target cannot play its part");
    let Some(mut world) = world else { return };
    world.collect();
    let mut sent = Sent::new();
    for _ in 0..STEPS {
        if u.is_empty() || step(&mut world, &mut sent, &mut u).is_err() {
            break;
        }
    }
    world.pass(SECOND);
    assert_eq!(waiting(&world), 0, "something waits for ever");
}
