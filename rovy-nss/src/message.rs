//! As much of DNS as one question to the agent and its answer need. A whole library would be loaded by every program.

use std::net::Ipv6Addr;

/// Type of an IPv6 address.
pub(crate) const AAAA: u16 = 28;
/// Type of the name of an address.
pub(crate) const PTR: u16 = 12;
/// Bytes of a header.
const HEADER: usize = 12;
/// Longest name in bytes.
const NAME_MAX: usize = 255;
/// Records looked at.
const RECORDS: u16 = 16;

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said<T> {
    /// This, for so many seconds.
    Yes(T, u32),
    /// There is no such thing.
    No,
    /// Nothing that helps.
    Unclear,
}

/// A question. Labels are at most 63 bytes long.
pub(crate) fn question(id: u16, labels: &[&[u8]], kind: u16) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    // One question, recursion wished for as everybody does.
    (bytes[2], bytes[5]) = (1, 1);
    for label in labels {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1_u16.to_be_bytes());
    bytes
}

/// The labels of an address below `ip6.arpa`.
pub(crate) fn nibbles(address: Ipv6Addr) -> [u8; 32] {
    let bits = u128::from(address);
    std::array::from_fn(|n| b"0123456789abcdef"[(bits >> (4 * n) & 0xf) as usize])
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// Whether a message answers a question.
pub(crate) fn answers(message: &[u8], question: &[u8]) -> bool {
    let echoed = message.get(HEADER..question.len()) == question.get(HEADER..);
    message.get(..2) == question.get(..2) && message.get(2).is_some_and(|b| b & 0xf8 == 0x80) && echoed
}

/// The data of the first record of a type: its place, and how long it holds. The message answers `question`.
fn record(message: &[u8], question: &[u8], kind: u16) -> Said<std::ops::Range<usize>> {
    let found = || {
        let mut at = question.len();
        for _ in 0..be16(message, 6)?.min(RECORDS) {
            at = skip_name(message, at)?;
            let (found, class) = (be16(message, at)?, be16(message, at + 2)?);
            let ttl = message.get(at + 4..at + 8)?.first_chunk().map(|b| u32::from_be_bytes(*b))?;
            let data = at + 10..at + 10 + usize::from(be16(message, at + 8)?);
            message.get(data.clone())?;
            if (found, class) == (kind, 1) {
                return Some((data, ttl));
            }
            at = data.end;
        }
        None
    };
    match message.get(3).map(|flags| flags & 0xf) {
        Some(0) if be16(message, 6) == Some(0) => Said::No,
        Some(0) => found().map_or(Said::Unclear, |(data, ttl)| Said::Yes(data, ttl)),
        Some(3) => Said::No,
        _ => Said::Unclear,
    }
}

/// The address in an answer.
pub(crate) fn address(message: &[u8], question: &[u8]) -> Said<Ipv6Addr> {
    match record(message, question, AAAA) {
        Said::Yes(data, ttl) => match message.get(data).and_then(|d| <[u8; 16]>::try_from(d).ok()) {
            Some(octets) => Said::Yes(octets.into(), ttl),
            None => Said::Unclear,
        },
        Said::No => Said::No,
        Said::Unclear => Said::Unclear,
    }
}

/// The name in an answer.
pub(crate) fn name(message: &[u8], question: &[u8]) -> Said<String> {
    match record(message, question, PTR) {
        Said::Yes(data, ttl) => read_name(message, data.start).map_or(Said::Unclear, |name| Said::Yes(name, ttl)),
        Said::No => Said::No,
        Said::Unclear => Said::Unclear,
    }
}

/// Where a name ends.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..64 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// A host name. Pointers lead back only, so this ends; letters, digits and `-` are all that a host name has.
fn read_name(message: &[u8], mut at: usize) -> Option<String> {
    let mut name = String::new();
    loop {
        match *message.get(at)? {
            0 => return (!name.is_empty()).then_some(name),
            length @ 1..64 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                if !label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(label).ok()?);
                if name.len() > NAME_MAX {
                    return None;
                }
                at += 1 + label.len();
            }
            high @ 192.. => {
                let to = usize::from(high & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                if to >= at {
                    return None;
                }
                at = to;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OCTETS: [u8; 16] = [0xfc, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn asked(kind: u16) -> Vec<u8> {
        question(0x1234, &[b"alice", b"rovy"], kind)
    }

    fn answer(kind: u16, code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut message = asked(kind);
        (message[2], message[3], message[7]) = (0x85, code, records.len() as u8);
        message.extend(records.concat());
        message
    }

    fn a_record(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xc0, 12];
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 60]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn answers_are_read() {
        let good = answer(AAAA, 0, &[&a_record(1, &[1, 2, 3, 4]), &a_record(AAAA, &OCTETS)]);
        assert!(answers(&good, &asked(AAAA)));
        assert_eq!(address(&good, &asked(AAAA)), Said::Yes(OCTETS.into(), 60));
        let name_data = [&[3][..], b"bob", &[0xc0, 18]].concat();
        let good = answer(PTR, 0, &[&a_record(PTR, &name_data)]);
        assert_eq!(name(&good, &asked(PTR)), Said::Yes("bob.rovy".to_owned(), 60));
        assert_eq!(address(&answer(AAAA, 3, &[]), &asked(AAAA)), Said::No);
        assert_eq!(address(&answer(AAAA, 0, &[]), &asked(AAAA)), Said::No);
        assert_eq!(address(&answer(AAAA, 5, &[]), &asked(AAAA)), Said::Unclear);
    }

    #[test]
    fn what_is_not_an_answer_is_told_from_one() {
        let good = answer(AAAA, 0, &[&a_record(AAAA, &OCTETS)]);
        for at in [0, 2, 13] {
            let mut other = good.clone();
            other[at] ^= 0x80;
            assert!(!answers(&other, &asked(AAAA)), "byte {at}");
        }
        for length in 0..good.len() {
            let cut = &good[..length];
            assert!(!answers(cut, &asked(AAAA)) || address(cut, &asked(AAAA)) == Said::Unclear, "{length} bytes");
        }
        assert_eq!(address(&answer(AAAA, 0, &[&a_record(AAAA, &OCTETS[..15])]), &asked(AAAA)), Said::Unclear);
    }

    #[test]
    fn names_that_are_no_host_names_are_refused() {
        let at = answer(PTR, 0, &[]).len() + 12;
        for data in [
            &[0xc0, at as u8][..],
            &[0xc0, at as u8 + 2, 0xc0, at as u8],
            &[0],
            &[4, b'a', b'/', b'.', b'.', 0],
            &[2, b'a', 0, 0],
            &[0x40, b'a', 0],
            &[63, b'a'],
        ] {
            assert_eq!(name(&answer(PTR, 0, &[&a_record(PTR, data)]), &asked(PTR)), Said::Unclear, "{data:?}");
        }
        let long = [&[63][..], &[b'a'; 63]].concat().repeat(5);
        assert_eq!(name(&answer(PTR, 0, &[&a_record(PTR, &[&long[..], &[0]].concat())]), &asked(PTR)), Said::Unclear);
    }

    #[test]
    fn the_labels_of_an_address_start_with_its_end() {
        let all = nibbles("fc00::12".parse().expect("an address"));
        assert_eq!((&all[..3], &all[28..]), (&b"210"[..], &b"00cf"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_harm(tail in proptest::collection::vec(any::<u8>(), 0..200), count in any::<u16>()) {
            for kind in [AAAA, PTR] {
                let mut message = answer(kind, 0, &[]);
                message[6..8].copy_from_slice(&count.to_be_bytes());
                message.extend(&tail);
                let _ = (address(&message, &asked(kind)), name(&message, &asked(kind)));
            }
        }
    }
}
