//! Handshake timestamps that outlive peers and restarts: the newest of each peer that had a session here.

use std::collections::BTreeMap;

use super::time::TAI64N_LEN;
use crate::identity::PeerId;

/// Peers whose newest timestamp is remembered. Beyond it the one that was longest without a new session is forgotten;
/// a hello of its that is replayed then costs an unconfirmed session and replaces nothing.
pub const STAMPS: usize = 4096;

/// A handshake timestamp, TAI64N.
pub type Stamp = [u8; TAI64N_LEN];

#[derive(Default)]
pub(super) struct Stamps {
    newest: BTreeMap<PeerId, (Stamp, u64)>,
    /// Who was noted when, oldest first.
    order: BTreeMap<u64, PeerId>,
    next: u64,
}

impl Stamps {
    /// Notes a peer's timestamp, unless a newer one is known.
    pub(super) fn note(&mut self, peer: PeerId, stamp: Stamp) {
        if stamp == Stamp::default() {
            return;
        }
        if let Some((known, at)) = self.newest.get(&peer) {
            if *known >= stamp {
                return;
            }
            self.order.remove(at);
        } else if self.newest.len() >= STAMPS
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.newest.remove(&oldest);
        }
        self.next += 1;
        self.newest.insert(peer, (stamp, self.next));
        self.order.insert(self.next, peer);
    }

    /// The newest timestamp known of a peer; all zero, older than any, when there is none.
    pub(super) fn of(&self, peer: PeerId) -> Stamp {
        self.newest.get(&peer).map_or([0; TAI64N_LEN], |(stamp, _)| *stamp)
    }

    /// Grows with every change.
    pub(super) fn version(&self) -> u64 {
        self.next
    }

    /// All of them, longest unchanged first, as they are to be noted again.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerId, Stamp)> {
        self.order.values().map(|peer| (*peer, self.of(*peer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::peer_ids;

    #[test]
    fn only_newer_ones_count_and_the_longest_unchanged_goes() {
        let ids = peer_ids(STAMPS + 1);
        let mut stamps = Stamps::default();
        for id in &ids[..STAMPS] {
            stamps.note(*id, [5; TAI64N_LEN]);
        }
        stamps.note(ids[0], [4; TAI64N_LEN]);
        assert_eq!((stamps.of(ids[0]), stamps.version()), ([5; TAI64N_LEN], STAMPS as u64));
        stamps.note(ids[0], [6; TAI64N_LEN]);
        stamps.note(ids[STAMPS], [1; TAI64N_LEN]);
        assert_eq!(stamps.of(ids[1]), [0; TAI64N_LEN], "the second was longest unchanged");
        assert_eq!((stamps.of(ids[0]), stamps.iter().count()), ([6; TAI64N_LEN], STAMPS));
        let again = stamps.iter().fold(Stamps::default(), |mut s, (peer, stamp)| {
            s.note(peer, stamp);
            s
        });
        assert!(again.iter().eq(stamps.iter()), "what is noted again is the same, in the same order");
    }
}
