//! What host and agent hand each other as one packet in place of several.

use rovy_userspace::fc00::offload::{HEADER_LEN, Header, Joiner, LARGEST, Offloads, Taken, take};

/// What the packet stands for; nothing when it is refused.
fn split(header: &[u8; HEADER_LEN], mut packet: Vec<u8>) -> Vec<Vec<u8>> {
    match take(&Header::read(header), &mut packet) {
        Err(_) => Vec::new(),
        Ok(Taken::Whole) => vec![packet],
        Ok(Taken::Many(segments)) => {
            let mut room = vec![0; LARGEST];
            let mut one = |i| segments.write(i, &packet, &mut room).map(|n| room[..n].to_vec());
            let parts: Vec<_> = (0..segments.count()).filter_map(&mut one).collect();
            assert_eq!(parts.len(), segments.count(), "no part is larger than the whole");
            parts
        }
    }
}

/// A header of the kernel's and a packet of whole length: its parts, joined, stand for the same parts.
pub fn offload(data: &[u8]) {
    let Some((header, packet)) = data.split_first_chunk::<HEADER_LEN>() else { return };
    let _ = split(header, packet.to_vec());
    let mut packet = packet.to_vec();
    let Some(length) = packet.len().checked_sub(40).and_then(|n| u16::try_from(n).ok()) else { return };
    packet[0] = 0x60 | packet[0] & 15;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    let parts = split(header, packet);
    let mut joiner = Joiner::new(Offloads::ALL);
    let mut joined = Vec::new();
    let mut out = |h: &[u8; HEADER_LEN], p: &[u8], n: usize| joined.push((*h, p.to_vec(), n));
    for part in &parts {
        joiner.push(part, &mut out);
    }
    joiner.flush(&mut out);
    let again: Vec<Vec<u8>> = joined
        .into_iter()
        .flat_map(|(header, packet, count)| {
            let parts = split(&header, packet);
            assert_eq!(parts.len(), count);
            parts
        })
        .collect();
    assert_eq!(again, parts);
}
