//! Hello and response: sessions come into being.

use std::net::SocketAddr;

use rovy_common::DropReason;
use rovy_common::wire::{CookieReply, Hello, Response, codec};
use zerocopy::FromBytes;

use super::{Action, Entry, Node, Origin, Path};
use crate::core::aead::Suite;
use crate::core::buffer::{HEADROOM, TAILROOM};
use crate::core::cookie::Asked;
use crate::core::handshake;
use crate::core::mac::mac1;
use crate::core::payload::{Choice, Offer};
use crate::core::peer::{Answered, Attempt, Finished};
use crate::core::session::{Session, Terms};
use crate::core::time::{Now, SECOND, TAI64N_LEN, tai64n};
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// Time between a hello and the next try.
pub(super) const RETRY_NS: u64 = 5 * SECOND;
/// Spread of the next try, so that two nodes do not keep meeting half-way.
const JITTER_NS: u64 = SECOND / 3;
/// A peer that is not to be kept is given up after this long.
const GIVE_UP_NS: u64 = 90 * SECOND;
/// Longest pause between searches for a peer that no way is known to.
const SEARCH_NS: u64 = 60 * SECOND;
/// Longest pause between tries of a peer that is to be kept.
const BACK_OFF_NS: u64 = 300 * SECOND;
/// A hello of the peer's that comes so soon after one of this node's own was sent at the same moment.
const SIMULTANEOUS_NS: u64 = SECOND;
/// How long, and how often, copies of an answered hello get the same response.
const COPIES_NS: u64 = 5 * SECOND;
const COPIES: u8 = 8;

impl Node {
    /// A timestamp later than all before, even if the clock was set back.
    fn timestamp(&mut self, now: Now) -> [u8; TAI64N_LEN] {
        let mut stamp = tai64n(now.wall);
        if stamp <= self.last_timestamp {
            stamp = self.last_timestamp;
            for byte in stamp.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
        self.last_timestamp = stamp;
        stamp
    }

    /// Sends a new hello over every path known, in place of one under way. Without a path it waits for one.
    pub(in crate::core) fn start_handshake(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.again_ns = None;
        if let Some(old) = peer.attempt.take() {
            self.release(old.index);
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mut paths = peer.paths();
        paths.extend(self.discovery.found.paths(id).filter(|p| !peer.dial.iter().any(|e| *p == Path::Direct(*e))));
        let (current, tried) = (peer.current, peer.tries > 0);
        let psk = self.psk(id);
        if let Some(session) = current.and_then(|i| self.session_ref(i)) {
            let path = session.own_way();
            if !paths.contains(&path) {
                paths.push(path);
            }
            // The links keep their numbers, and slots, when the new link 0 is the old one.
            let well = session.waits_since.is_none_or(|t| now.mono_ns.saturating_sub(t) < RETRY_NS);
            if !tried && well && session.links.several() {
                paths = vec![if session.links.alive(0) { session.path.clone() } else { session.own_way() }];
            }
        }
        let search = self.wants_search(now, id);
        if paths.is_empty() && !search {
            return;
        }
        let timestamp = self.timestamp(now);
        let room = self.half_open < self.config.handshakes.max(1);
        let Some(index) = Some(()).filter(|()| room).and_then(|()| self.indices.take(&mut self.rng)) else {
            let limit = if room { "sessions" } else { "handshakes" };
            tracing::warn!(peer = %id, limit, "no room for a handshake now: raise this one of [limits]");
            self.retry_later(now, id);
            return;
        };
        let sealed = self.wants_sealed(id);
        let offer = Offer { receive_mtu: self.config.receive_mtu, aes: self.config.aes, sealed };
        let rng = self.rng.fork();
        let made = handshake::initiate(rng, &self.config.secret, id.public_key(), &psk, index, &timestamp, &offer);
        let Ok((initiation, hello)) = made else {
            self.indices.release(index);
            return;
        };
        self.set_entry(index, Some(Entry::Attempt(id)));
        let retry_ns = self.retry_at(now, id);
        if let Some(peer) = self.peers.get_mut(&id) {
            let asked = Asked::new(hello.clone(), paths.clone());
            peer.attempt = Some(Attempt { initiation, index, sealed, sent_ns: now.mono_ns, retry_ns, asked });
            self.actions.extend(paths.into_iter().map(|path| {
                let mut message = hello.clone();
                peer.cookies.sign(now.mono_ns, &path, &mut message);
                Action::Send(path, message)
            }));
        }
        if search {
            self.flood(now, id.address(), &hello);
        }
        self.wake(retry_ns);
    }

    /// When the next try is due: every five seconds, and after ninety of them ever more seldom.
    fn retry_at(&mut self, now: Now, id: PeerId) -> u64 {
        let jitter = self.rng.jitter_ns(JITTER_NS);
        let Some(peer) = self.peers.get_mut(&id) else { return u64::MAX };
        if peer.tries == 0 {
            peer.since_ns = now.mono_ns;
        }
        peer.tries = peer.tries.saturating_add(1);
        let tried = now.mono_ns.saturating_sub(peer.since_ns);
        let pause = match tried {
            // Whoever is only looked for may be found at once, or not for long.
            _ if peer.paths().is_empty() && peer.current.is_none() && !peer.only_seen() => {
                (SECOND << (peer.tries - 1).min(6)).min(SEARCH_NS)
            }
            t if t < GIVE_UP_NS => RETRY_NS,
            t => (t / 4).min(BACK_OFF_NS),
        };
        now.mono_ns + pause + jitter
    }

    pub(super) fn retry_later(&mut self, now: Now, id: PeerId) {
        let at = self.retry_at(now, id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.again_ns = Some(at);
        }
        self.wake(at);
    }

    /// The time of a hello is over: try again, or give the peer up, or leave it when the peer's own hello was faster.
    pub(super) fn retry(&mut self, now: Now, id: PeerId) {
        let current = self.peers.get(&id).and_then(|p| p.current);
        let age = current.and_then(|i| self.session(i)).map(|s| s.age(now.mono_ns));
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let sent_ns = peer.attempt.as_ref().map_or(0, |a| a.sent_ns);
        if age.is_some_and(|age| age <= now.mono_ns.saturating_sub(sent_ns)) {
            if let Some(attempt) = peer.attempt.take() {
                self.release(attempt.index);
            }
            return;
        }
        if peer.in_vain(now.mono_ns) {
            self.actions.extend(peer.queue.drain(..).map(Action::Unreachable));
        }
        if peer.persistent || now.mono_ns.saturating_sub(peer.since_ns) < GIVE_UP_NS {
            return self.start_handshake(now, id);
        }
        let attempt = peer.attempt.take();
        let waited = std::mem::take(&mut peer.queue);
        peer.tries = 0;
        peer.again_ns = None;
        self.actions.extend(waited.into_iter().map(Action::Unreachable));
        if let Some(attempt) = attempt {
            self.release(attempt.index);
        }
    }

    pub(super) fn hello(&mut self, now: Now, origin: &Origin, message: &[u8]) -> Result<(), DropReason> {
        let hello = Hello::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
        if mac1(&self.mac1_key, message) != Some(hello.mac1) {
            return Err(DropReason::BadMac1);
        }
        let incoming = handshake::receive(self.rng.fork(), &self.config.secret, hello)?;
        let id = PeerId::new(incoming.public_key).map_err(|_| DropReason::BadHandshake)?;
        if id == self.id {
            return Err(DropReason::BadHandshake);
        }
        if let Some(answered) = self.peers.get_mut(&id).and_then(|p| p.answered.as_mut())
            && without_mac2(&answered.hello) == without_mac2(message)
            && answered.until_ns > now.mono_ns
            && answered.copies < COPIES
        {
            answered.copies += 1;
            let response = answered.response.clone();
            self.actions.push_back(Action::Send(origin.back(), response));
            self.learn(now, id, origin);
            return Ok(());
        }
        let newest = self.peers.get(&id).map_or_else(|| self.stamps.of(id), |p| p.newest);
        if incoming.timestamp <= newest || self.overrules(now, origin, id, &incoming.timestamp) {
            return Err(DropReason::BadHandshake);
        }
        self.admit(now.mono_ns, origin, id)?;
        let timestamp = incoming.timestamp;
        let suite = if self.config.aes && incoming.offer.aes { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 };
        // Who asked for it gets it, whichever end that is.
        let sealed = incoming.offer.sealed || self.wants_sealed(id);
        let choice = Choice { suite, receive_mtu: self.config.receive_mtu, observed: observed(origin), sealed };
        let index = self.indices.take(&mut self.rng).ok_or(DropReason::Limit)?;
        let psk = self.psk(id);
        let remote = hello.sender_index.get();
        let made = handshake::respond(incoming, &psk, index, remote, &choice).and_then(|(keys, response)| {
            let path = origin.back();
            let terms = Terms { peer: id, remote, initiator: false, path, suite, sealed };
            let session = Session::new(now.mono_ns, terms, &keys).ok_or(DropReason::BadHandshake)?;
            Ok((session, response))
        });
        let (session, response) = match made {
            Ok(made) => made,
            Err(reason) => {
                self.indices.release(index);
                return Err(reason);
            }
        };
        let until_ns = now.mono_ns + COPIES_NS;
        let peer = self.peer(id);
        peer.newest = timestamp;
        peer.answered = Some(Answered { hello: message.to_vec(), response: response.clone(), until_ns, copies: 0 });
        let unconfirmed = peer.next.replace(index);
        if let Some(unconfirmed) = unconfirmed {
            self.end_session(unconfirmed);
        }
        self.yield_to(now, id);
        self.install(now, index, session);
        self.learn(now, id, origin);
        self.actions.push_back(Action::Send(origin.back(), response));
        Ok(())
    }

    /// Whether a peer's hello loses against this node's own of the same moment: the greater PeerID's hello is the one
    /// answered. Only one hello of the peer's loses: when it sends another, this node's did not arrive. This node's goes to where
    /// that one came from once more: the peer may not have been there yet when it was sent.
    fn overrules(&mut self, now: Now, origin: &Origin, id: PeerId, timestamp: &[u8; TAI64N_LEN]) -> bool {
        let greater = self.id > id;
        let Some(peer) = self.peers.get_mut(&id).filter(|_| greater) else { return false };
        let fresh = |a: &&mut Attempt| now.mono_ns.saturating_sub(a.sent_ns) < SIMULTANEOUS_NS;
        let Some(attempt) = peer.attempt.as_mut().filter(fresh) else { return false };
        if let Some(before) = &peer.overruled {
            return before == timestamp;
        }
        peer.overruled = Some(*timestamp);
        let path = origin.back();
        let mut hello = attempt.asked.again(&path);
        peer.cookies.sign(now.mono_ns, &path, &mut hello);
        self.actions.push_back(Action::Send(path, hello));
        true
    }

    /// This node answered: its own hello is given up, and it sends another if the session is not confirmed soon. Not that of
    /// the greater PeerID, which the peer may have answered already: of two that each gave up, none would be left.
    fn yield_to(&mut self, now: Now, id: PeerId) {
        if self.id > id {
            return;
        }
        let Some(attempt) = self.peers.get_mut(&id).and_then(|p| p.attempt.take()) else { return };
        self.release(attempt.index);
        self.retry_later(now, id);
    }

    pub(super) fn response(&mut self, now: Now, origin: &Origin, message: &[u8]) -> Result<(), DropReason> {
        let response = Response::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
        if mac1(&self.mac1_key, message) != Some(response.mac1) {
            return Err(DropReason::BadMac1);
        }
        let index = response.receiver_index.get();
        let position = self.indices.position(index).ok_or(DropReason::UnknownIndex)?;
        let Some(Entry::Attempt(id)) = self.entries[position] else {
            return self.another_way(now, origin, index, message);
        };
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        let attempt = peer.attempt.as_mut().filter(|a| a.index == index).ok_or(DropReason::UnknownIndex)?;
        let finished = handshake::finish(&mut attempt.initiation, response);
        if finished.is_err() && !std::mem::replace(&mut peer.refused, true) {
            tracing::warn!(peer = %id, "its answer does not authenticate: is the pre-shared key the same at both ends?");
        }
        let (keys, choice) = finished?;
        // Only what was on offer can be chosen.
        if choice.suite == Suite::Aes256Gcm && !self.config.aes {
            return Err(DropReason::BadHandshake);
        }
        peer.rtt_ns = Some(now.mono_ns.saturating_sub(attempt.sent_ns));
        // Even when the other end does not say so: then nothing passes rather than something in the open.
        let sealed = attempt.sealed || choice.sealed;
        peer.attempt = None;
        peer.tries = 0;
        peer.received_ns = Some(now.mono_ns);
        peer.finished = Some(Finished { response: message.to_vec(), until_ns: now.mono_ns + COPIES_NS, copies: 0 });
        if let Some(behind) = translated(origin, choice.observed) {
            peer.behind_nat = behind;
        }
        let remote = response.sender_index.get();
        let path = origin.back();
        let terms = Terms { peer: id, remote, initiator: true, path, suite: choice.suite, sealed };
        let Some(session) = Session::new(now.mono_ns, terms, &keys) else {
            self.release(index);
            return Err(DropReason::BadHandshake);
        };
        if let Some(seen) = choice.observed {
            tracing::debug!(peer = %id, %seen, "the peer sees this node's hello come from there");
        }
        self.install(now, index, session);
        // The responder sends on the new session only after it heard of it: a keepalive tells it, before links are opened.
        self.send_data(now, index, codec::KEEPALIVE, &[]);
        self.promote(now, id, index);
        self.arrived(now, id, origin);
        self.flush(now, id);
        Ok(())
    }

    /// A response to a hello that was answered before: a copy of that answer which came over another way tells of it.
    fn another_way(&mut self, now: Now, origin: &Origin, index: u32, message: &[u8]) -> Result<(), DropReason> {
        let session = self.session(index).ok_or(DropReason::UnknownIndex)?;
        let (id, direct) = (session.peer, matches!(session.path, Path::Direct(_)));
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        let same = |f: &&mut Finished| f.response == message && now.mono_ns < f.until_ns && f.copies < COPIES;
        let finished = peer.finished.as_mut().filter(|_| !direct).filter(same).ok_or(DropReason::UnknownIndex)?;
        finished.copies += 1;
        match origin {
            // The peer is a neighbour after all.
            Origin::Direct(endpoint) => self.go_direct(now, id, index, *endpoint),
            Origin::Routed { .. } => self.learn(now, id, origin),
        }
        Ok(())
    }

    /// A responder under load wants to see that this node is where its hello came from.
    pub(super) fn cookie_reply(&mut self, now: Now, origin: &Origin, message: &[u8]) -> Result<(), DropReason> {
        let reply = CookieReply::ref_from_bytes(message).map_err(|_| DropReason::BadLength)?;
        let index = reply.receiver_index.get();
        let position = self.indices.position(index).ok_or(DropReason::UnknownIndex)?;
        let Some(Entry::Attempt(id)) = self.entries[position] else { return Err(DropReason::UnknownIndex) };
        let peer = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        let attempt = peer.attempt.as_mut().filter(|a| a.index == index).ok_or(DropReason::UnknownIndex)?;
        let (path, hello) = attempt.asked.reply(now.mono_ns, origin, message, &mut peer.cookies)?;
        self.actions.push_back(Action::Send(path, hello));
        Ok(())
    }

    fn install(&mut self, now: Now, index: u32, mut session: Session) {
        self.serial += 1;
        session.serial = self.serial;
        self.wake(session.expires_ns());
        self.set_entry(index, Some(Entry::Session(Box::new(session))));
        self.publish_receive(now.mono_ns, index, 0);
    }

    /// Makes a session the one to send on. The one before it still receives.
    pub(super) fn promote(&mut self, now: Now, id: PeerId, index: u32) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let first = peer.current.is_none();
        if peer.next == Some(index) {
            peer.next = None;
        }
        peer.tries = 0;
        peer.again_ns = None;
        peer.overruled = None;
        peer.refused = false;
        let newest = peer.newest;
        self.handshakes += 1;
        let before = peer.current.replace(index);
        let oldest = std::mem::replace(&mut peer.previous, before);
        if let Some(oldest) = oldest {
            self.end_session(oldest);
        }
        self.stamps.note(id, newest);
        let published = self.slots.of(id, 0).is_some();
        if self.confirm(index) && !published {
            self.publish_receive(now.mono_ns, index, 0);
        }
        let favourite = before.and_then(|i| self.session(i)).and_then(|s| s.end_of(s.links.active()));
        let link = before.and_then(|i| self.session(i)).is_some_and(|s| s.endpoint().is_some());
        let Some(session) = self.session(index) else { return };
        session.links.favourite = favourite;
        let routed = session.endpoint().is_none();
        self.publish_transmit(now, id);
        if !routed && !link {
            self.new_link(now, id);
        }
        self.steer(now, id);
        self.open_links(now, id);
        if first {
            self.actions.push_back(Action::Connected(id));
        }
        self.wake(now.mono_ns + SECOND);
    }

    /// Keeps a confirmed session that is older than the one in use, to receive what is still under way.
    pub(super) fn set_aside(&mut self, id: PeerId, index: u32) {
        self.confirm(index);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.next = peer.next.filter(|next| *next != index);
        if let Some(oldest) = peer.previous.replace(index) {
            self.end_session(oldest);
        }
    }

    /// Sends the packets that waited for a session.
    pub(super) fn flush(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(index) = peer.current else { return };
        for packet in std::mem::take(&mut peer.queue) {
            self.send_data(now, index, codec::IPV6, &packet);
        }
    }

    /// Sends a message of the node's own over a session.
    pub(super) fn send_data(&mut self, now: Now, index: u32, kind: u32, body: &[u8]) {
        self.send_data_over(now, index, kind, body, None);
    }

    /// As [`Node::send_data`], over another path than the session's own when one is given.
    pub(super) fn send_data_over(&mut self, now: Now, index: u32, kind: u32, body: &[u8], path: Option<Path>) {
        let mut buf = vec![0; HEADROOM + body.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(body);
        let Some(session) = self.session(index) else { return };
        let path = path.unwrap_or_else(|| session.way());
        let Ok(range) = session.seal(now.mono_ns, kind, &mut buf, HEADROOM..HEADROOM + body.len()) else { return };
        self.actions.push_back(Action::Send(path, buf[range].to_vec()));
    }
}

/// All of a hello but mac2, which differs from path to path.
fn without_mac2(hello: &[u8]) -> &[u8] {
    &hello[..hello.len().saturating_sub(16)]
}

/// Whether a NAT changes the address that this node's messages leave with: the peer saw another than the one it answered to.
/// `None` when that cannot be told.
fn translated(origin: &Origin, seen: Option<SocketAddr>) -> Option<bool> {
    match origin {
        Origin::Direct(Endpoint::Udp { local: Some(local), .. }) => Some(seen?.ip() != local.to_canonical()),
        Origin::Direct(Endpoint::Ethernet { .. }) => Some(false),
        _ => None,
    }
}

fn observed(origin: &Origin) -> Option<SocketAddr> {
    match origin {
        Origin::Direct(Endpoint::Udp { remote, .. }) => Some(*remote),
        Origin::Direct(Endpoint::Ethernet { .. }) | Origin::Routed { .. } => None,
    }
}
