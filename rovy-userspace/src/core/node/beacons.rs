//! Beacons, sent and heard.

use std::collections::BTreeSet;
use std::time::Duration;

use rovy_common::DropReason;
use rovy_common::wire::{self, Beacon, MessageType};
use zerocopy::FromBytes;

use super::{Action, Node};
use crate::core::action::{Origin, Path};
use crate::core::discovery::{Heard, Outlet, Verdict, message};
use crate::core::link::same_way;
use crate::core::node::handshakes::RETRY_NS;
use crate::core::peer::PeerSource;
use crate::core::stamps::Stamp;
use crate::core::time::Now;
use crate::identity::PeerId;
use crate::transport::Endpoint;

impl Node {
    /// Where beacons go out from now on; new outlets begin at once.
    pub fn set_outlets(&mut self, now: Now, outlets: &BTreeSet<Outlet>) {
        self.discovery.schedule.set_outlets(now.mono_ns, &mut self.rng, outlets);
        self.wake(self.discovery.schedule.next_ns());
    }

    /// Time between two beacons of an outlet, a second at least.
    pub fn set_beacon_interval(&mut self, interval: Duration) {
        self.discovery.schedule.set_interval(interval);
    }

    /// Sends the beacons that are due, and forgets who is heard no more.
    pub(super) fn beacons_due(&mut self, now: Now) {
        for outlet in self.discovery.schedule.due(now.mono_ns, &mut self.rng) {
            self.actions.push_back(Action::Beacon(outlet, message(&self.id, outlet.port())));
        }
        self.tidy_found(now);
        self.wake(self.discovery.schedule.next_ns());
    }

    fn tidy_found(&mut self, now: Now) {
        let peers = &self.peers;
        let wanted = |id: PeerId| peers.get(&id).is_some_and(|p| p.current.is_none());
        self.discovery.found.tidy(now.mono_ns, wanted);
    }

    /// A beacon: whose, or `None` for this node's own. Its sender gets a hello where it was heard, unless it is connected.
    ///
    /// # Errors
    /// `NotAllowed` when it did not come from the link, `Malformed` without a valid key, `RateLimited` or `Limit` when
    /// enough peers are being tried.
    pub fn beacon(&mut self, now: Now, heard: &Heard<'_>, message: &[u8]) -> Result<Option<PeerId>, DropReason> {
        let (kind, _) = wire::check_bytes(message, true)?;
        if kind != MessageType::Beacon {
            return Err(DropReason::Malformed);
        }
        let beacon = Beacon::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
        let id = PeerId::new(beacon.public_key).map_err(|_| DropReason::Malformed)?;
        if id == self.id {
            return Ok(None);
        }
        let place = heard.place(beacon.port.get()).ok_or(DropReason::NotAllowed)?;
        if self.discovery.found.ignores(id) {
            return Ok(Some(id));
        }
        let known = self.peers.get(&id);
        let session = known.and_then(|p| p.current).and_then(|i| self.session_ref(i));
        let neighbour = session.is_some_and(|s| s.endpoint().is_some());
        let coming = known.is_some_and(|p| p.next.is_some());
        if neighbour {
            self.nearby(now, id, place);
        }
        // Who is reached over hops is nearer than was known.
        if neighbour || coming {
            return Ok(Some(id));
        }
        let known = self.peers.get(&id);
        let fresh = |sent_ns: u64| now.mono_ns.saturating_sub(sent_ns) < RETRY_NS;
        let under_way = known.and_then(|p| p.attempt.as_ref()).is_some_and(|a| fresh(a.sent_ns));
        let standing =
            super::Standing { stranger: self.stranger(id), met: self.stamps.of(id) != Stamp::default(), under_way };
        if standing.stranger {
            self.make_room(now, place, id, standing.met)?;
        }
        match self.discovery.found.heard(now.mono_ns, id, place, standing)? {
            Verdict::Nothing => {}
            Verdict::Copy => self.copy_hello(now, id, Path::Direct(place)),
            Verdict::Hello => {
                if !self.peers.contains_key(&id) {
                    self.peer(id).source = PeerSource::Discovered;
                }
                self.start_handshake(now, id);
            }
        }
        Ok(Some(id))
    }

    /// A neighbour of the operator's was heard on a segment. A link to it is tried there, if there is none: over Ethernet, which
    /// is the better kind, and to everybody on the segment, as anybody can send its beacon.
    fn nearby(&mut self, now: Now, id: PeerId, place: Endpoint) {
        let Endpoint::Ethernet { ifindex, .. } = place else { return };
        let everybody = Endpoint::Ethernet { ifindex, mac: [0xff; 6] };
        if self.stranger(id) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let known = peer.dial.iter().chain(&peer.nearby).any(|e| same_way(e, &everybody));
        if !known && peer.nearby.try_push(everybody).is_ok() {
            self.links_due(now, id);
        }
    }

    /// Room for one more stranger, within all that bounds strangers. Who was tried longest in vain makes it.
    fn make_room(&mut self, now: Now, place: Endpoint, id: PeerId, met: bool) -> Result<(), DropReason> {
        self.tidy_found(now);
        self.admit(now.mono_ns, &Origin::Direct(place), id)?;
        let Some(oldest) = self.discovery.found.room(now.mono_ns, id, met)? else { return Ok(()) };
        if self.peers.get(&oldest).is_some_and(|p| p.sessions().next().is_some()) {
            return Err(DropReason::Limit);
        }
        self.leave(now, oldest);
        self.tidy_found(now);
        Ok(())
    }

    /// Sends the hello under way over one more path.
    pub(super) fn copy_hello(&mut self, now: Now, id: PeerId, path: Path) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(attempt) = &mut peer.attempt else { return };
        let Some(mut hello) = attempt.asked.also(&path) else { return };
        peer.cookies.sign(now.mono_ns, &path, &mut hello);
        self.actions.push_back(Action::Send(path, hello));
    }
}
