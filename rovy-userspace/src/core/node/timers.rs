//! What happens because time passes.

use rovy_common::wire::codec;

use super::{Action, Entry, Node, Path};
use crate::core::session::{HALF_OPEN_NS, REJECT_NS, Session, rekey_responder_ns};
use crate::core::time::{Now, SECOND};
use crate::identity::PeerId;

/// Silence after received data that a keepalive ends.
const KEEPALIVE_NS: u64 = 10 * SECOND;
/// Sent data without any answer for this long makes a new session.
const DEAD_NS: u64 = KEEPALIVE_NS + 5 * SECOND;

/// How often something is sent through a NAT in front of this node, so that it keeps the way back open: many forget after 30 s.
pub(super) const NAT_KEEPALIVE_NS: u64 = 25 * SECOND;

/// What a session is due for.
#[derive(PartialEq, Eq)]
enum Due {
    Rekey,
    Keepalive,
}

fn due(session: &Session, now_ns: u64, rekey_ns: u64, keepalive_ns: Option<u64>) -> Option<Due> {
    let age = session.age(now_ns);
    // A link carries transit the agent never sees, so it is kept fresh; other sessions only while in use.
    let wanted = session.used || matches!(session.path, Path::Direct(_));
    let rekey = if session.initiator { rekey_ns } else { rekey_responder_ns(rekey_ns) };
    let unanswered = session.waits_since.is_some_and(|t| now_ns.saturating_sub(t) >= DEAD_NS);
    if (wanted && age >= rekey) || unanswered || session.worn() {
        return Some(Due::Rekey);
    }
    let owes = session.owes_since.is_some_and(|t| now_ns.saturating_sub(t) >= KEEPALIVE_NS);
    let silent = keepalive_ns.is_some_and(|every| now_ns.saturating_sub(session.sent_ns) >= every);
    let repeat = session.repeat_ns().is_some_and(|at| now_ns >= at);
    (owes || silent || repeat).then_some(Due::Keepalive)
}

/// When the next of these is due.
fn next_due(session: &Session, rekey_ns: u64, keepalive_ns: Option<u64>) -> u64 {
    let rekey = session.created_ns + if session.initiator { rekey_ns } else { rekey_responder_ns(rekey_ns) };
    let owes = session.owes_since.map_or(u64::MAX, |t| t + KEEPALIVE_NS);
    let waits = session.waits_since.map_or(u64::MAX, |t| t + DEAD_NS);
    let keepalive = keepalive_ns.map_or(u64::MAX, |every| session.sent_ns.saturating_add(every));
    let repeat = session.repeat_ns().unwrap_or(u64::MAX);
    rekey.min(owes).min(waits).min(keepalive).min(repeat).min(session.expires_ns())
}

impl Node {
    /// Does what is due. The next deadline is [`Node::deadline`]; at most a second away while there are sessions, as
    /// packets move their timers without setting it.
    pub fn timeout(&mut self, now: Now) {
        self.deadline_ns = u64::MAX;
        self.drop_reserved(now.mono_ns);
        self.lookups_due(now);
        self.probes.tidy(now.mono_ns);
        self.wake(self.probes.next_ns().max(now.mono_ns + SECOND));
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.expire(now, id);
            self.peer_due(now, id);
            if self.peers.get(&id).is_some_and(super::Peer::idle) {
                self.peers.remove(&id);
                self.slots.leave(now.mono_ns, id);
                self.by_address.remove(&id.address());
            }
        }
        self.beacons_due(now);
        // One peer's end may have given another, looked at before, something to do: that is the next time.
        self.deadline_ns = self.deadline_ns.max(now.mono_ns + 1);
    }

    fn drop_reserved(&mut self, now_ns: u64) {
        let gone: Vec<u32> = self.reserved().filter(|(_, until)| *until <= now_ns).map(|(i, _)| i).collect();
        for index in gone {
            self.release(index);
        }
        let next = self.reserved().map(|(_, until)| until).min();
        self.wake(next.unwrap_or(u64::MAX));
    }

    fn reserved(&self) -> impl Iterator<Item = (u32, u64)> {
        self.entries.iter().enumerate().filter_map(|(position, entry)| match entry {
            Some(Entry::Reserved(until)) => Some((self.indices.at(position), *until)),
            _ => None,
        })
    }

    /// Ends sessions past their time.
    fn expire(&mut self, now: Now, id: PeerId) {
        let now_ns = now.mono_ns;
        let Some(peer) = self.peers.get(&id) else { return };
        let indices: Vec<u32> = peer.sessions().collect();
        for index in indices {
            let Some(session) = self.session(index) else { continue };
            let life = if session.confirmed { REJECT_NS } else { HALF_OPEN_NS };
            if session.age(now_ns) < life {
                let end = session.created_ns + life;
                self.wake(end);
                continue;
            }
            let unconfirmed = !session.confirmed;
            if unconfirmed && !self.stranger(id) {
                tracing::info!(peer = %id, "it did not take up the answer to its hello; with another pre-shared key it cannot");
            }
            self.end_session(index);
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            peer.next = peer.next.filter(|i| *i != index);
            peer.previous = peer.previous.filter(|i| *i != index);
            if peer.current == Some(index) {
                peer.current = None;
                self.actions.push_back(Action::Disconnected(id));
                self.silence(now, id);
            }
        }
    }

    fn peer_due(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let (current, persistent, again) = (peer.current, peer.persistent, peer.again_ns);
        let behind_nat = peer.behind_nat;
        let retry = peer.attempt.as_ref().map(|a| a.retry_ns);
        if let Some(at) = retry {
            if at <= now.mono_ns { self.retry(now, id) } else { self.wake(at) }
        }
        let attempting = self.peers.get(&id).is_some_and(|p| p.attempt.is_some());
        match (again, current) {
            (Some(at), _) if at <= now.mono_ns => self.start_handshake(now, id),
            (Some(at), _) => self.wake(at),
            (None, None) if persistent && !attempting => self.start_handshake(now, id),
            _ => {}
        }
        let Some(index) = current else { return };
        let (rekey_ns, nat_ns) = (self.rekey_ns, self.nat_keepalive_ns);
        let configured_ns = self.policies.get(&id).and_then(|p| p.keepalive_ns);
        self.routes_due(now, id, index);
        self.links_due(now, id);
        let attempting = self.peers.get(&id).is_some_and(|p| p.attempt.is_some());
        let Some(session) = self.session(index) else { return };
        let through_nat = behind_nat && matches!(session.path, Path::Direct(_));
        let keepalive_ns = configured_ns.or(through_nat.then_some(nat_ns));
        let (due, next) =
            (due(session, now.mono_ns, rekey_ns, keepalive_ns), next_due(session, rekey_ns, keepalive_ns));
        match due {
            Some(Due::Rekey) if !attempting && again.is_none() => self.start_handshake(now, id),
            Some(Due::Keepalive) => {
                self.send_data(now, index, codec::KEEPALIVE, &[]);
                // Whoever is behind a NAT keeps all its links open.
                if keepalive_ns.is_some() {
                    self.probe_links(now, id);
                }
            }
            _ => {}
        }
        self.wake(next.min(now.mono_ns + SECOND).max(now.mono_ns + SECOND / 4));
    }
}
