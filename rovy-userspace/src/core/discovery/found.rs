//! Peers that beacons named and that are not connected: where to try them, and how many at a time.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use arrayvec::ArrayVec;
use rovy_common::DropReason;

use super::bucket::{Rate, take};
use crate::core::action::Path;
use crate::core::time::SECOND;
use crate::identity::PeerId;
use crate::transport::Endpoint;

/// Strangers tried at a time.
pub(in crate::core) const TRIED: usize = 32;
/// One that was tried for so long makes room for another.
const PATIENCE_NS: u64 = 10 * SECOND;
/// Places of one peer that hellos go to.
const PLACES: usize = 4;
/// How long a place is tried after the last beacon from there.
const STALE_NS: u64 = 100 * SECOND;
/// Stations whose beacons are counted. With more, counting starts anew.
const SOURCES: usize = 1024;

/// Peers whose beacons are not heeded. Beyond it the one longest in here counts again.
const IGNORED: usize = 256;

/// Hellos that the beacons of one station bring about.
const BY_SOURCE: Rate = Rate { burst: 4, each_ns: 5 * SECOND };
/// Hellos to one peer that beacons bring about.
const BY_PEER: Rate = Rate { burst: 4, each_ns: 5 * SECOND };
/// Hellos to peers never met before, and to all others.
const NEW: Rate = Rate { burst: 32, each_ns: SECOND / 10 };
const KNOWN: Rate = Rate { burst: 32, each_ns: SECOND / 10 };

/// A station of the link, whichever port it names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Station {
    Ip(IpAddr, u32),
    Mac(u32, [u8; 6]),
}

fn station(endpoint: &Endpoint) -> Station {
    match *endpoint {
        Endpoint::Ethernet { ifindex, mac } => Station::Mac(ifindex, mac),
        Endpoint::Udp { remote: std::net::SocketAddr::V6(a), .. } => Station::Ip((*a.ip()).into(), a.scope_id()),
        Endpoint::Udp { remote, .. } => Station::Ip(remote.ip(), 0),
    }
}

struct Place {
    endpoint: Endpoint,
    heard_ns: u64,
}

struct Candidate {
    places: ArrayVec<Place, PLACES>,
    since_ns: u64,
    stranger: bool,
    bucket: u64,
}

/// What is known of whom a beacon named.
#[derive(Clone, Copy, Default)]
pub(in crate::core) struct Standing {
    /// Nobody here named it.
    pub(in crate::core) stranger: bool,
    /// It had a session with this node.
    pub(in crate::core) met: bool,
    /// A hello to it is so fresh that a copy of it will do.
    pub(in crate::core) under_way: bool,
}

/// What becomes of a beacon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::core) enum Verdict {
    /// The place is being tried already.
    Nothing,
    /// Send the hello under way there too.
    Copy,
    /// Send a new hello.
    Hello,
}

/// The peers to try.
#[derive(Default)]
pub(in crate::core) struct Found {
    candidates: BTreeMap<PeerId, Candidate>,
    sources: BTreeMap<Station, u64>,
    ignored: VecDeque<PeerId>,
    new: u64,
    known: u64,
}

impl Found {
    /// A beacon of `id` came from `endpoint`.
    ///
    /// # Errors
    /// `RateLimited` when there were enough of them.
    pub(in crate::core) fn heard(
        &mut self,
        now_ns: u64,
        id: PeerId,
        endpoint: Endpoint,
        standing: Standing,
    ) -> Result<Verdict, DropReason> {
        let candidate = self.candidates.get_mut(&id);
        let place = candidate.and_then(|c| c.places.iter_mut().find(|p| p.endpoint == endpoint));
        let tried = place.is_some();
        if let Some(place) = place {
            place.heard_ns = now_ns;
        }
        if tried && standing.under_way {
            return Ok(Verdict::Nothing);
        }
        if !self.afford(now_ns, id, &endpoint, standing) {
            return Err(DropReason::RateLimited);
        }
        let Standing { stranger, .. } = standing;
        let new = || Candidate { places: ArrayVec::new(), since_ns: now_ns, stranger, bucket: 0 };
        let candidate = self.candidates.entry(id).or_insert_with(new);
        candidate.stranger = stranger;
        take(&mut candidate.bucket, now_ns, BY_PEER);
        if !tried {
            if candidate.places.is_full() {
                candidate.places.sort_by_key(|p| p.heard_ns);
                candidate.places.remove(0);
            }
            candidate.places.push(Place { endpoint, heard_ns: now_ns });
        }
        Ok(if standing.under_way { Verdict::Copy } else { Verdict::Hello })
    }

    /// Whether another hello may be spent. The station's bucket comes before those that are everybody's.
    fn afford(&mut self, now_ns: u64, id: PeerId, endpoint: &Endpoint, standing: Standing) -> bool {
        let spent = |c: &Candidate| !take(&mut { c.bucket }, now_ns, BY_PEER);
        if self.candidates.get(&id).is_some_and(spent) {
            return false;
        }
        let from = station(endpoint);
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&from) {
            self.sources.retain(|_, spent_until| *spent_until > now_ns);
            if self.sources.len() >= SOURCES {
                self.sources.clear();
            }
        }
        let (common, rate) =
            if standing.stranger && !standing.met { (&mut self.new, NEW) } else { (&mut self.known, KNOWN) };
        take(self.sources.entry(from).or_default(), now_ns, BY_SOURCE) && take(common, now_ns, rate)
    }

    /// Whether one more stranger may be tried: `Err` when not, `Ok` with the one to give up for it, if any. For one that was
    /// `met` before there is room at once.
    pub(in crate::core) fn room(&self, now_ns: u64, id: PeerId, met: bool) -> Result<Option<PeerId>, DropReason> {
        let strangers = || self.candidates.iter().filter(|(_, c)| c.stranger);
        if self.candidates.contains_key(&id) || strangers().count() < TRIED {
            return Ok(None);
        }
        let (oldest, since_ns) =
            strangers().map(|(id, c)| (*id, c.since_ns)).min_by_key(|(_, at)| *at).ok_or(DropReason::Limit)?;
        if !met && now_ns.saturating_sub(since_ns) < PATIENCE_NS { Err(DropReason::Limit) } else { Ok(Some(oldest)) }
    }

    /// Where beacons of a peer came from.
    pub(in crate::core) fn paths(&self, id: PeerId) -> impl Iterator<Item = Path> {
        self.candidates.get(&id).into_iter().flat_map(|c| c.places.iter().map(|p| Path::Direct(p.endpoint)))
    }

    /// Forgets places from where nothing is heard any more, and peers that are not `wanted`: connected, or given up.
    pub(in crate::core) fn tidy(&mut self, now_ns: u64, wanted: impl Fn(PeerId) -> bool) {
        self.candidates.retain(|id, c| {
            c.places.retain(|p| now_ns.saturating_sub(p.heard_ns) < STALE_NS);
            !c.places.is_empty() && wanted(*id)
        });
    }

    /// The operator dropped this peer: beacons do not bring it back.
    pub(in crate::core) fn ignore(&mut self, id: PeerId) {
        self.candidates.remove(&id);
        self.heed(id);
        if self.ignored.len() >= IGNORED {
            self.ignored.pop_front();
        }
        self.ignored.push_back(id);
    }

    /// The operator wants it again.
    pub(in crate::core) fn heed(&mut self, id: PeerId) {
        self.ignored.retain(|other| *other != id);
    }

    pub(in crate::core) fn ignores(&self, id: PeerId) -> bool {
        self.ignored.contains(&id)
    }

    /// Peers tried that nobody here named.
    pub(in crate::core) fn strangers(&self) -> usize {
        self.candidates.values().filter(|c| c.stranger).count()
    }
}
