use super::*;
use proptest::prelude::*;
use std::{vec, vec::Vec};

fn short(pos: u8, len: u8, route: &[u8]) -> Short {
    let mut bytes = [0; 16];
    bytes[0] = pos;
    bytes[1] = len;
    bytes[2..2 + route.len()].copy_from_slice(route);
    Short::read(&bytes).expect("16 bytes")
}

/// The worked example of the protocol: label `07 | 0113` over hops of width 1 and 2, in-slots 04 and 0205.
#[test]
fn the_example_of_the_protocol() {
    let label = Short::from_route(&[0x07, 0x01, 0x13]).expect("fits");
    assert_eq!(label.next(Width::One), Ok(Next::Slot(0x07)));
    let label = label.advance(Width::One, 0x04);
    assert_eq!(label.next(Width::Two), Ok(Next::Slot(0x0113)));
    let label = label.advance(Width::Two, 0x0205);
    assert_eq!(label.next(Width::One), Ok(Next::Here));
    assert_eq!(label, short(3, 3, &[0x04, 0x05, 0x02]));
    let mut back = [0; 14];
    assert_eq!(label.way_back(&mut back), Some(3));
    assert_eq!(back[..3], [0x02, 0x05, 0x04]);
}

#[test]
fn len_255_pos_200() {
    assert_eq!(short(200, 255, &[1; 14]).next(Width::One), Err(DropReason::BadLabel));
    assert_eq!(short(200, 255, &[1; 14]).way_back(&mut [0; 255]), None);
}

#[test]
fn pos_equals_len_is_here() {
    for n in 0..=14 {
        assert_eq!(short(n, n, &[1; 14]).next(Width::Two), Ok(Next::Here));
    }
    assert_eq!(short(15, 15, &[1; 14]).next(Width::One), Err(DropReason::BadLabel));
}

#[test]
fn pos_beyond_len_is_bad() {
    for len in 0..=14 {
        for pos in len + 1..=255 {
            assert_eq!(short(pos, len, &[1; 14]).next(Width::One), Err(DropReason::BadLabel));
        }
    }
}

#[test]
fn a_two_byte_slot_on_the_last_byte_is_bad() {
    assert_eq!(short(13, 14, &[1; 14]).next(Width::Two), Err(DropReason::BadLabel));
    assert_eq!(short(13, 14, &[1; 14]).next(Width::One), Ok(Next::Slot(1)));
    assert_eq!(short(0, 1, &[1]).next(Width::Two), Err(DropReason::BadLabel));
}

#[test]
fn two_byte_slots_straddle_words() {
    let label = short(5, 14, &[0, 0, 0, 0, 0, 0xab, 0xcd]);
    assert_eq!(label.next(Width::Two), Ok(Next::Slot(0xabcd)));
    let label = label.advance(Width::Two, 0x1234);
    assert_eq!(label, short(7, 14, &[0, 0, 0, 0, 0, 0x34, 0x12]));
}

#[test]
fn the_longest_legal_route_reaches_the_last_hop() {
    let mut label = Short::from_route(&[9; 14]).expect("fits");
    for _ in 0..14 {
        assert_eq!(label.next(Width::One), Ok(Next::Slot(9)));
        label = label.advance(Width::One, 3);
    }
    assert_eq!(label.next(Width::One), Ok(Next::Here));
    assert!(Short::from_route(&[9; 15]).is_none());
    assert!(Long::from_route(&[9; 30]).is_some() && Long::from_route(&[9; 31]).is_none());
}

/// The same step on a plain byte array, as the protocol text words it.
fn reference(block: &mut [u8], width: usize, back: u16) -> Result<Next, DropReason> {
    let (pos, len) = (usize::from(block[0]), usize::from(block[1]));
    if pos > len || len > block.len() - 2 || (pos < len && pos + width > len) {
        return Err(DropReason::BadLabel);
    }
    if pos == len {
        return Ok(Next::Here);
    }
    let slot = block[2 + pos..2 + pos + width].iter().fold(0, |n, b| n << 8 | u16::from(*b));
    for i in 0..width {
        block[2 + pos + i] = (back >> (8 * i)) as u8;
    }
    block[0] += width as u8;
    Ok(Next::Slot(slot))
}

fn same_as_reference<const W: usize>(bytes: &[u8], width: Width, back: u16) -> Result<(), TestCaseError> {
    let label = Label::<W>::read(bytes).expect("whole block");
    let mut expected: Vec<u8> = bytes.to_vec();
    let verdict = reference(&mut expected, width.bytes() as usize, back);
    prop_assert_eq!(label.next(width), verdict);
    if let Ok(Next::Slot(_)) = verdict {
        let mut got = vec![0; 8 * W];
        label.advance(width, back).write(&mut got);
        prop_assert_eq!(got, expected);
    }
    Ok(())
}

proptest! {
    #[test]
    fn short_steps_match_the_text(mut b: [u8; 16], near: bool, two: bool, back: u16) {
        if near { b[0] %= 17; b[1] %= 17; }
        let (width, back) = if two { (Width::Two, back) } else { (Width::One, back & 0xff) };
        same_as_reference::<2>(&b, width, back)?;
    }

    #[test]
    fn long_steps_match_the_text(mut b: [u8; 32], near: bool, two: bool, back: u16) {
        if near { b[0] %= 33; b[1] %= 33; }
        let (width, back) = if two { (Width::Two, back) } else { (Width::One, back & 0xff) };
        same_as_reference::<4>(&b, width, back)?;
    }

    /// Hops of any widths: the way back, walked by the same hops in reverse, names their in-slots.
    #[test]
    fn the_way_back_leads_back(hops in prop::collection::vec((any::<bool>(), 1u16..=255, 1u16..=255), 0..7)) {
        let mut route = Vec::new();
        for (two, out, _) in &hops {
            if *two { route.extend(out.to_be_bytes()); } else { route.push(*out as u8); }
        }
        let width = |two: bool| if two { Width::Two } else { Width::One };
        let mut label = Short::from_route(&route).expect("fits");
        for (two, out, back) in &hops {
            prop_assert_eq!(label.next(width(*two)), Ok(Next::Slot(*out)));
            label = label.advance(width(*two), *back);
        }
        let mut way = [0; 14];
        let n = label.way_back(&mut way).expect("legal");
        let mut home = Short::from_route(&way[..n]).expect("fits");
        for (two, _, back) in hops.iter().rev() {
            prop_assert_eq!(home.next(width(*two)), Ok(Next::Slot(*back)));
            home = home.advance(width(*two), 1);
        }
        prop_assert_eq!(home.next(Width::One), Ok(Next::Here));
    }
}
