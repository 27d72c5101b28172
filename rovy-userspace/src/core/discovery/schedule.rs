//! When beacons go out: some at once where a listener or an interface is new, then seldom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::bucket::{Rate, take};
use crate::core::random::Rng;
use crate::core::time::SECOND;

/// Time between two beacons, unless the operator wants another.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// Pauses between the first beacons of an outlet.
const FIRST_NS: [u64; 3] = [SECOND, 2 * SECOND, 4 * SECOND];
/// Nodes that started at the same moment do not speak at the same moment.
const SPREAD_NS: u64 = SECOND / 4;
/// Beacons of all outlets: interfaces that come and go make no storm.
const RATE: Rate = Rate { burst: 64, each_ns: SECOND / 16 };

/// Where beacons go out: a listener on an interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outlet {
    /// To all nodes of the link over UDP.
    Udp {
        /// What the socket is bound to.
        listener: SocketAddr,
        /// The interface.
        ifindex: u32,
        /// This host's address there: link-local, or IPv4.
        source: IpAddr,
    },
    /// To all stations of the segment.
    Ethernet {
        /// The interface.
        ifindex: u32,
    },
}

impl Outlet {
    /// What a beacon says of where its sender listens.
    pub(in crate::core) fn port(&self) -> u16 {
        match self {
            Self::Udp { listener, .. } => listener.port(),
            Self::Ethernet { .. } => 0,
        }
    }
}

struct Turn {
    at_ns: u64,
    sent: usize,
}

/// Whose turn it is when.
pub(in crate::core) struct Schedule {
    turns: BTreeMap<Outlet, Turn>,
    interval_ns: u64,
    bucket: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { turns: BTreeMap::new(), interval_ns: INTERVAL.as_nanos() as u64, bucket: 0 }
    }
}

impl Schedule {
    pub(in crate::core) fn set_interval(&mut self, interval: Duration) {
        self.interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(SECOND);
    }

    /// The outlets there are from now on. New ones begin at once.
    pub(in crate::core) fn set_outlets(&mut self, now_ns: u64, rng: &mut Rng, outlets: &BTreeSet<Outlet>) {
        self.turns.retain(|outlet, _| outlets.contains(outlet));
        for outlet in outlets {
            let new = || Turn { at_ns: now_ns.saturating_add(rng.jitter_ns(SPREAD_NS)), sent: 0 };
            self.turns.entry(*outlet).or_insert_with(new);
        }
    }

    /// The outlets whose turn it is; their next one is set.
    pub(in crate::core) fn due(&mut self, now_ns: u64, rng: &mut Rng) -> Vec<Outlet> {
        let mut due = Vec::new();
        for (outlet, turn) in &mut self.turns {
            // After a clock that was set back nobody waits longer than usual.
            turn.at_ns = turn.at_ns.min(now_ns.saturating_add(2 * self.interval_ns));
            if turn.at_ns > now_ns {
                continue;
            }
            if !take(&mut self.bucket, now_ns, RATE) {
                turn.at_ns = now_ns.saturating_add(SECOND);
                continue;
            }
            let pause = FIRST_NS.get(turn.sent).copied().unwrap_or(self.interval_ns).min(self.interval_ns);
            turn.sent += 1;
            // From seven eighths of the pause to nine.
            turn.at_ns = now_ns.saturating_add(pause - pause / 8).saturating_add(rng.jitter_ns(pause / 4));
            due.push(*outlet);
        }
        due
    }

    /// When somebody's turn is next.
    pub(in crate::core) fn next_ns(&self) -> u64 {
        self.turns.values().map(|t| t.at_ns).min().unwrap_or(u64::MAX)
    }
}
