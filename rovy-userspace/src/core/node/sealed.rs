//! Sealed transit: label and inner message inside a data message between neighbours. The core opens and seals; where a
//! message goes is the tables' business, as for all transit.

use std::ops::Range;

use rovy_common::DropReason;
use rovy_common::wire::{INNER_MIN, codec};

use super::{Inbound, Node, Origin, Path};
use crate::core::time::Now;
use crate::identity::PeerId;

/// Transit that came sealed, opened: authentic, and not seen before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The receiver index of the session it came in, and of its link.
    pub index: u32,
    /// Whether the label block has 32 bytes, rather than 16.
    pub long: bool,
    /// Where label block and inner message stand in the message's buffer.
    pub body: Range<usize>,
}

/// Bytes of a label block.
pub(crate) const fn block(long: bool) -> usize {
    if long { 32 } else { 16 }
}

impl Node {
    /// Transit from and to this peer is to be sealed. Sessions made from now on are; one there is stays as it is.
    pub fn set_sealed(&mut self, id: PeerId) {
        self.named(id).sealed = true;
    }

    /// Whether this node wants the link with a peer sealed.
    pub(super) fn wants_sealed(&self, id: PeerId) -> bool {
        self.policies.get(&id).is_some_and(|p| p.sealed)
    }

    /// What a data message turned out to be that carries transit.
    pub(super) fn sealed_transit(
        &mut self,
        origin: &Origin,
        index: u32,
        long: bool,
        body: Range<usize>,
    ) -> Result<Inbound, DropReason> {
        // Between neighbours only: in a session over hops it would be transit inside transit.
        let direct = matches!(origin, Origin::Direct(_));
        if !direct || !self.session(index).is_some_and(|s| s.sealed && matches!(s.path, Path::Direct(_))) {
            return Err(DropReason::NotAllowed);
        }
        if body.len() < block(long) + INNER_MIN {
            return Err(DropReason::BadLength);
        }
        Ok(Inbound::Sealed(Sealed { index, long, body }))
    }

    /// Seals `buf[body]`, a label block and the inner message behind it, for the neighbour that holds `slot`. The message's
    /// range; [`HEADROOM`](crate::core::HEADROOM) in front of the inner message and
    /// [`TAILROOM`](crate::core::TAILROOM) behind it are room enough.
    ///
    /// # Errors
    /// `NoSlot`, `EgressDown` when there is no sealed session with the neighbour, or what keeps a session from sending.
    pub fn seal_transit(
        &mut self,
        now: Now,
        slot: u16,
        long: bool,
        buf: &mut [u8],
        body: Range<usize>,
    ) -> Result<Range<usize>, DropReason> {
        let id = self.slots.owner(slot).ok_or(DropReason::NoSlot)?;
        let index = self.peers.get(&id).and_then(|p| p.current).ok_or(DropReason::EgressDown)?;
        let session = self.session(index).filter(|s| s.sealed && matches!(s.path, Path::Direct(_)));
        let kind = if long { codec::LONG_TRANSIT } else { codec::TRANSIT };
        session.ok_or(DropReason::EgressDown)?.seal(now.mono_ns, kind, buf, body)
    }
}
