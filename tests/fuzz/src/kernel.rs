//! What the kernel gives back: netlink answers, and the links that a former agent left pinned.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use rovy_common::maps::TxLink;
use rovy_userspace::core::Now;
use rovy_userspace::dataplane::endpoint_of;
use rovy_userspace::identity::PeerId;
use rovy_userspace::netlink::{read_answers, watch};
use rovy_userspace::transport::Endpoint;

use crate::keys::{SESSIONS, id, node};

/// Bytes of the header of a netlink message: there cannot be more messages than these fit in.
const HEADER: usize = 16;

/// A notice, an answer, or maps that are adopted.
pub fn kernel(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    match choice % 3 {
        0 => assert!(watch::changes(data).len() <= data.len() / HEADER),
        1 => {
            // The sequence number of the first message, so that it is an answer.
            let sequence = data.get(8..12).and_then(|b| Some(u32::from_ne_bytes(*b.first_chunk()?))).unwrap_or(1);
            let mut answers = Vec::new();
            let end = read_answers(data, sequence, &mut answers);
            assert!(answers.len() + usize::from(end.is_some()) <= data.len() / HEADER);
            let values: usize = answers.iter().flatten().map(|(_, value)| value.len() + 4).sum();
            assert!(values <= data.len(), "more was read than there is");
        }
        _ => drop(adopt(&mut Unstructured::new(data))),
    }
}

/// What an agent does with what it finds in its maps: any bytes, if something else wrote them.
fn adopt(u: &mut Unstructured<'_>) -> Result<()> {
    let mut node = node(0);
    let now = Now { mono_ns: 1, wall: Duration::from_secs(1_700_000_000) };
    let mut links = 0;
    while links < 16 && !u.is_empty() {
        links += 1;
        let mut tx = TxLink { kind: u.int_in_range(0..=4)?, slot: u.arbitrary()?, ..TxLink::default() };
        u.fill_buffer(&mut tx.header)?;
        tx.public_key = if u.arbitrary()? { *id(u.int_in_range(0..=2)?).public_key() } else { u.arbitrary()? };
        let ifindex: Option<u32> = u.arbitrary()?;
        if let Some(Endpoint::Ethernet { ifindex: at, .. }) = endpoint_of(&tx, ifindex) {
            assert_eq!(Some(at), ifindex);
        }
        if let Ok(peer) = PeerId::new(tx.public_key) {
            let slot = u.int_in_range(0..=300)?;
            node.restore_slot(now, slot, peer, u.int_in_range(0..=9)?);
            assert_eq!(node.slot_owner(slot), (1..256).contains(&slot).then_some(peer), "slot {slot}");
        }
        let (index, until) = (u.arbitrary()?, u.arbitrary::<u64>()?.max(2));
        let kept = node.restore_index(index, until);
        assert!(!kept || index != 0, "0 is no index");
        let (used, free) = node.sessions();
        assert_eq!(used + free, SESSIONS as usize);
    }
    let ns = u.arbitrary::<u64>()? >> 1;
    node.timeout(Now { mono_ns: ns, ..now });
    assert!(node.deadline() > ns, "the node wants to be called again at once");
    Ok(())
}
