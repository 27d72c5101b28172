//! The inbound firewall: what of the packets that peers send reaches this host. Pure; it is told the time.
//!
//! Nothing comes in but what a rule lets in, answers to what this host began, and echo requests. A packet's source is the
//! address of the key it was sealed with, so nobody but the other end of a connection can send in its name: numbers within
//! a connection are left to the host.

mod answer;
mod flows;
mod parse;
pub mod rules;
pub mod sockets;

use std::net::Ipv6Addr;

use crate::core::ALL_NODES;
use flows::{Flow, Flows};
use parse::{Load, Seen, proto, see, tcp};
pub use rules::{Action, Entry, Full, Rule, RuleError, Rules, Sender, Service};

/// Connections that are remembered: so many begun by this host, and so many that rules let in.
const FLOWS: usize = 32_768;
/// Fragmented packets whose first fragment came in, while others follow.
const FRAGMENTED: usize = 1024;
/// Refused packets answered a second, and at once.
const ANSWERS: u64 = 100;

const SECOND: u64 = 1_000_000_000;
/// A TCP connection that is being made.
const OPENING: u64 = 120 * SECOND;
/// An established one that says nothing. RFC 5382 wants two hours and four minutes at least.
const ESTABLISHED: u64 = 24 * 3600 * SECOND;
/// One that both ends closed, or one of them broke off.
const CLOSED: u64 = 120 * SECOND;
/// UDP. RFC 4787 wants two minutes at least.
const DATAGRAMS: u64 = 180 * SECOND;
/// An echo request.
const ECHO: u64 = 30 * SECOND;
/// Any other protocol.
const OTHERS: u64 = 600 * SECOND;
/// What the host waits for the rest of a fragmented packet.
const FRAGMENTS: u64 = 60 * SECOND;

/// What is remembered of a TCP connection.
mod seen {
    pub(super) const ANSWERED: u8 = 1;
    pub(super) const FIN_IN: u8 = 2;
    pub(super) const FIN_OUT: u8 = 4;
    pub(super) const RESET: u8 = 8;
}

/// ICMPv6 message types.
mod icmp {
    pub(super) const ERRORS: std::ops::RangeInclusive<u8> = 1..=4;
    pub(super) const ECHO_REQUEST: u8 = 128;
    pub(super) const ECHO_REPLY: u8 = 129;
}

/// Both ends of a connection: the other node, the protocol, the port here and the port there. Of echoes, the identifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    peer: Ipv6Addr,
    protocol: u8,
    here: u16,
    there: u16,
}

/// What becomes of a packet from the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes to the host.
    Pass,
    /// It does not, and nobody is told.
    Drop,
    /// It does not, and its sender gets this packet.
    Answer(Vec<u8>),
}

/// How a firewall is set up.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Setup {
    /// Everything comes in but what only makes sense between stations of one link.
    pub off: bool,
    /// What is refused is answered.
    pub reject: bool,
    /// What comes in, what does not.
    pub rules: Rules,
}

/// The firewall of one node.
pub struct Firewall {
    own: Ipv6Addr,
    setup: Setup,
    /// What this host began.
    begun: Flows<Key>,
    /// What rules let in, from the host's first answer on. Others can fill this table, and only lose by it: as long as the
    /// rule stands it is not needed.
    let_in: Flows<Key>,
    fragmented: Flows<(Ipv6Addr, u32)>,
    /// Monotonic time in ns until which the answers are used up.
    answered_until: u64,
    passed: u64,
    refused: u64,
}

impl Firewall {
    /// The firewall of the node with the address `own`.
    #[must_use]
    pub fn new(own: Ipv6Addr, setup: Setup) -> Self {
        Self {
            own,
            setup,
            begun: Flows::new(FLOWS),
            let_in: Flows::new(FLOWS),
            fragmented: Flows::new(FRAGMENTED),
            answered_until: 0,
            passed: 0,
            refused: 0,
        }
    }

    /// Whether everything comes in.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.setup.off
    }

    /// Whether what is refused is answered.
    #[must_use]
    pub fn rejects(&self) -> bool {
        self.setup.reject
    }

    /// What comes in.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.setup.rules
    }

    /// Says what comes in from now on. Connections that were let in go on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.setup.rules = rules;
    }

    /// Packets let in and refused.
    #[must_use]
    pub fn counts(&self) -> [u64; 2] {
        [self.passed, self.refused]
    }

    /// What is bounded, by name: how much is in use, and how much there is.
    #[must_use]
    pub fn limits(&self) -> [(&'static str, (usize, usize)); 4] {
        [
            ("firewall_begun", self.begun.used()),
            ("firewall_let_in", self.let_in.used()),
            ("firewall_fragmented", self.fragmented.used()),
            ("firewall_rules", (self.setup.rules.len(), rules::RULES)),
        ]
    }

    /// A packet from the host is about to be sent: what answers it may come in.
    pub fn outgoing(&mut self, now_ns: u64, packet: &[u8]) {
        let Some(Seen { destination: peer, load, .. }) = see(packet).filter(|_| !self.setup.off) else { return };
        if peer.is_multicast() && peer != ALL_NODES {
            return;
        }
        let (key, flow) = match load {
            Load::Tcp { from, to, flags } => {
                return self.tcp_out(now_ns, Key { peer, protocol: proto::TCP, here: from, there: to }, flags);
            }
            Load::Udp { from, to } => {
                let key = Key { peer, protocol: proto::UDP, here: from, there: to };
                if let Some(flow) = self.flow(now_ns, &key) {
                    flow.until_ns = now_ns + DATAGRAMS;
                    return;
                }
                return self.remember(now_ns, key, Service::Udp(from), DATAGRAMS, 0);
            }
            Load::Icmp { kind: icmp::ECHO_REQUEST, message } => (echo(peer, message), ECHO),
            Load::Other(protocol) => (Key { peer, protocol, here: 0, there: 0 }, OTHERS),
            Load::Icmp { .. } | Load::Rest | Load::Odd => return,
        };
        self.begun.put(now_ns, key, Flow { until_ns: now_ns + flow, seen: 0 });
    }

    fn tcp_out(&mut self, now_ns: u64, key: Key, flags: u8) {
        if flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN {
            self.begun.put(now_ns, key, Flow { until_ns: now_ns + OPENING, seen: 0 });
        } else if let Some(flow) = self.flow(now_ns, &key) {
            tcp_goes_on(now_ns, flow, flags, seen::FIN_OUT);
        } else if flags & tcp::RST == 0 {
            // The answer to what a rule let in, or a connection from before the agent's start.
            self.remember(now_ns, key, Service::Tcp(key.here), ESTABLISHED, seen::ANSWERED);
        }
    }

    /// What is known of a connection.
    fn flow(&mut self, now_ns: u64, key: &Key) -> Option<&mut Flow> {
        match self.begun.get(now_ns, key) {
            Some(flow) => Some(flow),
            None => self.let_in.get(now_ns, key),
        }
    }

    fn remember(&mut self, now_ns: u64, key: Key, service: Service, time: u64, seen: u8) {
        let open = self.setup.rules.look(key.peer, service) == Action::Allow;
        let flows = if open { &mut self.let_in } else { &mut self.begun };
        flows.put(now_ns, key, Flow { until_ns: now_ns + time, seen });
    }

    /// Takes up connections that this host had before the agent began, so that those which only receive go on.
    pub fn adopt(&mut self, now_ns: u64, sockets: &[sockets::Connected]) {
        let own = self.own;
        for socket in sockets.iter().filter(|s| s.local.0 == own) {
            let ((_, here), (peer, there)) = (socket.local, socket.remote);
            let (protocol, service, time) = match socket.tcp {
                true => (proto::TCP, Service::Tcp(here), ESTABLISHED),
                false => (proto::UDP, Service::Udp(here), DATAGRAMS),
            };
            self.remember(now_ns, Key { peer, protocol, here, there }, service, time, seen::ANSWERED);
        }
    }

    /// Judges a packet from the network, whose source is the address of the key it was sealed with.
    pub fn incoming(&mut self, now_ns: u64, packet: &[u8]) -> Verdict {
        let Some(seen) = see(packet) else { return Verdict::Drop };
        let pass = if self.setup.off { !between_stations(&seen) } else { self.lets_in(now_ns, &seen) };
        if pass {
            self.passed += 1;
            return Verdict::Pass;
        }
        self.refused += 1;
        self.answer(now_ns, &seen, packet).map_or(Verdict::Drop, Verdict::Answer)
    }

    fn lets_in(&mut self, now_ns: u64, seen: &Seen<'_>) -> bool {
        let fragment = seen.fragment.map(|id| (seen.source, id));
        if seen.load == Load::Rest {
            return fragment.is_some_and(|id| self.fragmented.get(now_ns, &id).is_some());
        }
        let pass = self.whole(now_ns, seen);
        if let Some(id) = fragment.filter(|_| pass) {
            self.fragmented.put(now_ns, id, Flow { until_ns: now_ns + FRAGMENTS, seen: 0 });
        }
        pass
    }

    /// A packet, or the fragment of one that has its ports.
    fn whole(&mut self, now_ns: u64, seen: &Seen<'_>) -> bool {
        let peer = seen.source;
        match seen.load {
            Load::Tcp { from, to, flags } => {
                let key = Key { peer, protocol: proto::TCP, here: to, there: from };
                // Who opens a connection goes by the rules, whatever else there is between the two ports.
                let opens = flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
                if let Some(flow) = self.flow(now_ns, &key).filter(|_| !opens) {
                    tcp_goes_on(now_ns, flow, flags, seen::FIN_IN);
                    return true;
                }
                self.rule(peer, Service::Tcp(to))
            }
            Load::Udp { from, to } => {
                let key = Key { peer, protocol: proto::UDP, here: to, there: from };
                if let Some(flow) = self.flow(now_ns, &key) {
                    flow.until_ns = now_ns + DATAGRAMS;
                    return true;
                }
                self.rule(peer, Service::Udp(to))
            }
            Load::Icmp { kind: icmp::ECHO_REQUEST, .. } => self.rule(peer, Service::Icmp),
            Load::Icmp { kind: icmp::ECHO_REPLY, message } => {
                let asked = [echo(peer, message), echo(ALL_NODES, message)];
                asked.iter().any(|key| self.begun.get(now_ns, key).is_some())
            }
            Load::Icmp { kind, message } => icmp::ERRORS.contains(&kind) && self.about_ours(now_ns, peer, message),
            Load::Other(protocol) => self.begun.get(now_ns, &Key { peer, protocol, here: 0, there: 0 }).is_some(),
            Load::Rest | Load::Odd => false,
        }
    }

    fn rule(&mut self, peer: Ipv6Addr, service: Service) -> bool {
        self.setup.rules.decide(peer, service) == Action::Allow
    }

    /// Whether an error quotes a packet that this host sent to whoever reports it.
    fn about_ours(&mut self, now_ns: u64, peer: Ipv6Addr, message: &[u8]) -> bool {
        let Some(quoted) = message.get(8..).and_then(see) else { return false };
        if quoted.source != self.own || quoted.destination != peer {
            return false;
        }
        let key = match quoted.load {
            Load::Tcp { from, to, .. } => Key { peer, protocol: proto::TCP, here: from, there: to },
            Load::Udp { from, to } => Key { peer, protocol: proto::UDP, here: from, there: to },
            Load::Icmp { kind: icmp::ECHO_REQUEST, message } => echo(peer, message),
            Load::Other(protocol) => Key { peer, protocol, here: 0, there: 0 },
            Load::Icmp { .. } | Load::Rest | Load::Odd => return false,
        };
        self.flow(now_ns, &key).is_some()
    }

    /// What the sender of a refused packet is told, if anything.
    fn answer(&mut self, now_ns: u64, seen: &Seen<'_>, packet: &[u8]) -> Option<Vec<u8>> {
        if !self.setup.reject || self.setup.off {
            return None;
        }
        let answer = answer::to(seen, packet, self.own)?;
        let each = SECOND / ANSWERS;
        let until = self.answered_until.max(now_ns) + each;
        if until > now_ns + ANSWERS * each {
            return None;
        }
        self.answered_until = until;
        Some(answer)
    }
}

/// The echo with the identifier of `message`.
fn echo(peer: Ipv6Addr, message: &[u8]) -> Key {
    let id = message.get(4..).and_then(|m| m.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b));
    Key { peer, protocol: proto::ICMPV6, here: id, there: 0 }
}

fn tcp_goes_on(now_ns: u64, flow: &mut Flow, flags: u8, fin: u8) {
    if flags & tcp::RST != 0 {
        flow.seen |= seen::RESET;
    }
    if flags & tcp::FIN != 0 {
        flow.seen |= fin;
    }
    if fin == seen::FIN_IN && flags & tcp::ACK != 0 {
        flow.seen |= seen::ANSWERED;
    }
    let both = seen::FIN_IN | seen::FIN_OUT;
    let time = match flow.seen {
        s if s & seen::RESET != 0 || s & both == both => CLOSED,
        s if s & seen::ANSWERED != 0 => ESTABLISHED,
        _ => OPENING,
    };
    flow.until_ns = now_ns + time;
}

/// Whether it is an ICMPv6 message that only makes sense between stations of one link, as neighbour discovery and router
/// advertisements do. A peer is no station of a link of this host's.
fn between_stations(seen: &Seen<'_>) -> bool {
    matches!(seen.load, Load::Icmp { kind: 130..=138 | 141..=143 | 148 | 149 | 151..=153 | 155, .. })
}

#[cfg(test)]
mod tests;
