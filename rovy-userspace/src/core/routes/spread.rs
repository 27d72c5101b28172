//! Several routes at once, each flow over one of them.

use rovy_common::siphash::sip64;

use super::route::Route;
use super::{LATE_NS, RouteState, Routes, TOLERATED, Way};

/// Routes that flows are spread over.
const SPREAD: usize = 4;

/// How much a way draws a flow: of several the one that draws most is taken, so a way that goes moves only its own flows.
fn pull(flow: u64, way: &Way) -> u64 {
    let bytes = way.1.chunks(8).map(|c| c.iter().fold(u64::from(c.len() as u8), |word, b| word << 8 | u64::from(*b)));
    let words: Vec<u64> = std::iter::once(u64::from(way.0)).chain(bytes).collect();
    sip64(&[flow, 0], &words)
}

impl Routes {
    /// The route that a flow takes when flows are spread: one that is hardly slower than the one in use, loses hardly more, and
    /// whose echoes come back in time. `None` while there is nothing to choose from.
    pub(in crate::core) fn of_flow(&mut self, now_ns: u64, flow: u64) -> Option<Way> {
        let present =
            self.present().filter(|r| self.doubt.is_none() && r.class() > 1 && r.state == RouteState::Good)?;
        let (rtt_ns, loss) = (present.rtt_ns?, present.loss + TOLERATED);
        let in_time = |r: &Route| r.oldest_ns().is_none_or(|at| now_ns < at + r.patience(2, LATE_NS));
        let fits = |r: &&mut Route| {
            let fast = r.rtt_ns.is_some_and(|t| t <= rtt_ns + rtt_ns / 4);
            r.class() > 1 && r.state == RouteState::Good && fast && r.loss <= loss && in_time(r)
        };
        let route = self.all.iter_mut().filter(fits).take(SPREAD).max_by_key(|r| pull(flow, &r.way))?;
        route.carried_ns = Some(now_ns);
        Some(route.way.clone())
    }
}
