//! Data in both directions: IPv6 packets between the TUN and the sessions.

use std::net::Ipv6Addr;
use std::ops::Range;

use rovy_common::DropReason;
use rovy_common::wire::{Data, codec};
use zerocopy::FromBytes;

use super::{Inbound, Node, Origin, all_nodes};
use crate::core::buffer::Outgoing;
use crate::core::peer::QUEUE;
use crate::core::time::Now;
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// Bytes of an IPv6 header.
pub(super) const IPV6: usize = 40;

/// Source and destination of something that looks like an IPv6 packet.
pub(super) fn addresses(packet: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
    let header = packet.first_chunk::<IPV6>().filter(|h| h[0] >> 4 == 6)?;
    let at = |i: usize| header[i..].first_chunk::<16>().map(|a| Ipv6Addr::from(*a));
    Some((at(8)?, at(24)?))
}

/// A number that the packets of one connection share: ports where there are some, else the flow label.
fn flow(packet: &[u8]) -> u64 {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let word = |at: usize| packet.get(at..at + 4).and_then(|w| w.first_chunk()).map_or(0, |w| u32::from_be_bytes(*w));
    let kind = packet.get(6).copied().unwrap_or_default();
    let rest = if matches!(kind, TCP | UDP) { word(IPV6) } else { word(0) & 0x000f_ffff };
    u64::from(kind) << 32 | u64::from(rest)
}

impl Node {
    pub(super) fn data(&mut self, now: Now, origin: &Origin, message: &mut [u8]) -> Result<Inbound, DropReason> {
        let (head, _) = Data::ref_from_prefix(message).map_err(|_| DropReason::BadLength)?;
        let index = head.receiver_index.get();
        let Some(session) = self.session(index) else {
            self.no_session(now, origin, message);
            return Err(DropReason::UnknownIndex);
        };
        let id = session.peer;
        let (kind, body) = session.open(now.mono_ns, message)?;
        self.heard(now, origin, id, index, kind);
        let body_of = |message: &[u8]| message.get(body.clone()).map(<[u8]>::to_vec).ok_or(DropReason::BadLength);
        match kind {
            codec::LINK => {
                let body = message.get(body).ok_or(DropReason::BadLength)?;
                self.link_message(now, origin, index, body).map(|()| Inbound::Done)
            }
            codec::KEEPALIVE => Ok(Inbound::Done),
            codec::ECHO => self.echo(now, origin, index, &body_of(message)?).map(|()| Inbound::Done),
            codec::PROBE => self.probe(now, origin, id, &body_of(message)?).map(|()| Inbound::Done),
            codec::IPV6 => {
                let packet = message.get(body.clone()).ok_or(DropReason::BadLength)?;
                let (source, destination) = addresses(packet).ok_or(DropReason::Malformed)?;
                if source != id.address() {
                    return Err(DropReason::BadInnerSource);
                }
                if destination != self.address && !all_nodes::accepts(origin, packet) {
                    return Err(DropReason::NotAllowed);
                }
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.packets[0] += 1;
                    peer.bytes[0] += packet.len() as u64;
                }
                Ok(Inbound::Packet(body))
            }
            codec::TRANSIT | codec::LONG_TRANSIT => {
                self.sealed_transit(origin, index, kind == codec::LONG_TRANSIT, body)
            }
            _ => Err(DropReason::Malformed),
        }
    }

    /// An authentic message came over a session: it confirms the session and tells where the peer is.
    fn heard(&mut self, now: Now, origin: &Origin, id: PeerId, index: u32, kind: u32) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.received_ns = Some(now.mono_ns);
        // An opened link says nothing about link 0, and may overtake the message that does.
        let confirms = peer.next == Some(index) && kind != codec::LINK;
        let direct = matches!(origin, Origin::Direct(_));
        // What confirming sends goes to where the peer is now.
        if direct {
            self.follow(now, origin, id, index, kind);
        }
        if confirms {
            self.confirmed(now, id, index);
        }
        if !direct {
            self.follow(now, origin, id, index, kind);
        }
    }

    /// Follows a peer to where its message came from.
    fn follow(&mut self, now: Now, origin: &Origin, id: PeerId, index: u32, kind: u32) {
        let Some(session) = self.session(index) else { return };
        match origin {
            Origin::Direct(at) => {
                let back = kind != codec::ECHO && std::mem::take(&mut session.strayed);
                let routed = session.endpoint().is_none();
                if let Some(n) = session.link_at(at) {
                    if let Some(health) = session.links.health_mut(n) {
                        health.heard(now.mono_ns);
                    }
                } else if kind != codec::LINK && !session.links.several() {
                    // Which of several links moved, only their own messages tell.
                    self.move_link(now, index, 0, *at);
                }
                if back || (routed && self.session(index).is_some_and(|s| s.endpoint().is_some())) {
                    self.heard_over(now, id, origin);
                }
            }
            // Each route is echoed; which one the peer uses, its other messages tell.
            Origin::Routed { .. } if kind == codec::ECHO => self.learn(now, id, origin),
            Origin::Routed { .. } => {
                session.strayed = session.endpoint().is_some();
                self.heard_over(now, id, origin);
            }
        }
    }

    /// The peer has the keys of the session it was answered with, and learns that this is known: until then it repeats itself.
    fn confirmed(&mut self, now: Now, id: PeerId, index: u32) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let current = peer.current;
        let waiting = !peer.queue.is_empty();
        let created = |node: &mut Self, at: Option<u32>| at.and_then(|i| node.session(i)).map(|s| s.created_ns);
        if created(self, current) > created(self, Some(index)) {
            // One of this node's own was made meanwhile, and the peer will find it newer too.
            return self.set_aside(id, index);
        }
        self.promote(now, id, index);
        self.flush(now, id);
        if !waiting {
            self.send_data(now, index, codec::KEEPALIVE, &[]);
        }
    }

    /// Authentic transit of the link behind `index` came from `endpoint`: the link follows.
    pub fn moved_to(&mut self, now: Now, index: u32, endpoint: Endpoint) {
        if let Some((session, link)) = self.link_of(index) {
            self.move_link(now, session, link, endpoint);
        }
    }

    /// A packet for an address is about to be sent: who has it. `None`: it is looked for, and the packet waits.
    fn destination(&mut self, now: Now, to: Ipv6Addr, packet: &[u8]) -> Result<Option<PeerId>, DropReason> {
        match self.by_address.get(&to).copied().or_else(|| self.meet(now, to)) {
            Some(id) => Ok(Some(id)),
            None => self.look_up(now, to, packet).map(|()| None),
        }
    }

    /// Whether this is a peer's address: one that nothing gets to now is unreachable, and not unknown.
    #[must_use]
    pub fn knows(&self, address: Ipv6Addr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// An IPv6 packet from the TUN at `packet` of `buf`, with [`HEADROOM`](crate::core::HEADROOM) in front and
    /// [`TAILROOM`](crate::core::TAILROOM) behind. `None`: it waits for a session.
    ///
    /// # Errors
    /// The reason to count; `NoRoute` when nobody with this address is known or found, or who has it does not answer.
    pub fn packet(&mut self, now: Now, buf: &mut [u8], packet: Range<usize>) -> Result<Option<Outgoing>, DropReason> {
        let bytes = buf.get(packet.clone()).ok_or(DropReason::BadLength)?;
        let (source, destination) = addresses(bytes).ok_or(DropReason::Malformed)?;
        if source != self.address {
            return Err(DropReason::BadInnerSource);
        }
        let Some(id) = self.destination(now, destination, bytes)? else { return Ok(None) };
        if self.is_cut(now, id) {
            return Err(DropReason::NoRoute);
        }
        let peer = self.peers.get_mut(&id).ok_or(DropReason::NoRoute)?;
        if let Some(index) = peer.current {
            peer.packets[1] += 1;
            peer.bytes[1] += packet.len() as u64;
            let flow = self.multipath.then(|| flow(bytes));
            let way = flow.and_then(|f| self.way_of_flow(now, id, f));
            let session = self.session(index).ok_or(DropReason::NoRoute)?;
            let path = way.unwrap_or_else(|| session.way());
            let message = session.seal(now.mono_ns, codec::IPV6, buf, packet)?;
            self.watch(now, id, index);
            return Ok(Some(Outgoing { path, message }));
        }
        let nowhere = peer.attempt.is_none() && peer.next.is_none() && peer.paths().is_empty();
        if nowhere && self.neighbours().is_empty() {
            return Err(DropReason::NoRoute);
        }
        let peer = self.peers.get_mut(&id).ok_or(DropReason::NoRoute)?;
        if peer.in_vain(now.mono_ns) {
            return Err(DropReason::NoRoute);
        }
        if peer.queue.len() >= QUEUE {
            return Err(DropReason::QueueFull);
        }
        peer.queue.push_back(bytes.to_vec());
        let answered = peer.next.is_some();
        if peer.attempt.is_none() && peer.again_ns.is_none() {
            if answered {
                // The session is there once the peer's first message is: a hello of this node's would make a second one.
                self.retry_later(now, id);
            } else {
                self.start_handshake(now, id);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
impl Node {
    /// Sends any packet over the session with a peer, without the checks of [`Node::packet`].
    pub(in crate::core) fn send_to(&mut self, now: Now, id: PeerId, packet: &[u8]) {
        if let Some(index) = self.peers.get(&id).and_then(|p| p.current) {
            self.send_data(now, index, codec::IPV6, packet);
        }
    }

    /// Sends anything over the session with a peer, as a peer could that follows no rule.
    pub(in crate::core) fn send_as(&mut self, now: Now, id: PeerId, codec: u32, body: &[u8]) {
        if let Some(index) = self.peers.get(&id).and_then(|p| p.current) {
            self.send_data(now, index, codec, body);
        }
    }

    /// The body of a data message of a peer's, of whatever codec.
    pub(in crate::core) fn open_for_test(&mut self, now: Now, id: PeerId, message: &mut [u8]) -> Vec<u8> {
        let index = self.receiver_index(id);
        let range = self.session(index).and_then(|s| s.open(now.mono_ns, message).ok()).map(|(_, range)| range);
        range.and_then(|r| message.get(r)).map(<[u8]>::to_vec).unwrap_or_default()
    }

    /// The receiver index of the session in use.
    pub(in crate::core) fn receiver_index(&self, id: PeerId) -> u32 {
        self.peers.get(&id).and_then(|p| p.current).unwrap_or(0)
    }

    /// Own and remote index of the session in use.
    pub(in crate::core) fn current_for_test(&self, id: PeerId) -> Option<(u32, u32)> {
        let index = self.peers.get(&id)?.current?;
        let position = self.indices.position(index)?;
        match self.entries.get(position)? {
            Some(super::Entry::Session(s)) => Some((index, s.remote)),
            _ => None,
        }
    }

    /// Lets the session with a peer have sent so many messages.
    pub(in crate::core) fn wear(&mut self, id: PeerId, counter: u64) {
        if let Some(session) = self.peers.get(&id).and_then(|p| p.current).and_then(|i| self.session(i)) {
            session.wear(counter);
        }
    }

    /// Gives a slot to a peer of the operator's.
    pub(in crate::core) fn slot_for_test(&mut self, now_ns: u64, id: PeerId) -> Option<u16> {
        self.named(id);
        self.slot_for(now_ns, id, 0)
    }
}
