//! One route: what its echoes told.

use arrayvec::ArrayVec;

use crate::core::action::Hops;
use crate::core::time::SECOND;

/// A route: this node's first slot, then the label. Slot 0, which nobody has, stands for the links to the peer itself.
pub(in crate::core) type Way = (u16, Hops);

/// The way over the links to a peer that is a neighbour.
pub(in crate::core) fn direct() -> Way {
    (0, Hops::new())
}

/// How a route stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RouteState {
    /// An echo came back over it.
    Good,
    /// It was learnt and has not been tried.
    Candidate,
    /// The last echo did not come back.
    Suspect,
    /// Three echoes did not come back, or an error said so.
    Dead,
}

impl RouteState {
    /// Its name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Candidate => "candidate",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}

/// Echoes of one route under way.
const UNDER_WAY: usize = 4;
/// An echo is lost after this long, or three round trips.
const LOST_NS: u64 = SECOND / 2;
/// Longest time until an echo is lost.
const LONGEST_NS: u64 = 3 * SECOND;
/// Lost echoes in a row that make a route dead, of one that loses none otherwise; up to ten more, by its loss.
const DEAD_AFTER: u32 = 3;
const DEAD_AFTER_MORE: u32 = 10;
/// Longest pause between echoes of a dead route.
const PAUSE_NS: u64 = 60 * SECOND;
/// What a lost packet costs its sender, beside two more round trips.
const RESEND_NS: u64 = SECOND / 5;
/// What each byte of the label counts: of routes that are alike the shorter one is better.
const HOP_NS: u64 = SECOND / 10_000;
/// Loss is counted in parts of this.
pub(super) const ALL: u32 = 1024;
/// Loss up to which nothing is made of it: a single echo.
const FORGIVEN: u32 = ALL / 16;

pub(super) struct Route {
    pub(super) way: Way,
    /// The operator gave it.
    pub(super) configured: bool,
    pub(super) state: RouteState,
    pub(super) since_ns: u64,
    pub(super) rtt_ns: Option<u64>,
    /// In parts of [`ALL`], smoothed.
    pub(super) loss: u32,
    /// Nonces and times of the echoes under way, oldest first.
    under_way: ArrayVec<(u64, u64), UNDER_WAY>,
    /// Lost in a row.
    silent: u8,
    /// When the last echo was sent, and when one last came back.
    pub(super) asked_ns: Option<u64>,
    pub(super) answered_ns: Option<u64>,
    /// When one of several flows was last sent over it.
    pub(super) carried_ns: Option<u64>,
    /// Echoes of a dead route so far, and when the next is due.
    pub(super) tries: u32,
    pub(super) again_ns: u64,
}

impl Route {
    pub(super) fn new(now_ns: u64, way: Way, configured: bool) -> Self {
        Self {
            way,
            configured,
            state: RouteState::Candidate,
            since_ns: now_ns,
            rtt_ns: None,
            loss: 0,
            under_way: ArrayVec::new(),
            silent: 0,
            asked_ns: None,
            answered_ns: None,
            carried_ns: None,
            tries: 0,
            again_ns: 0,
        }
    }

    /// Whether it is the links to the peer itself.
    pub(super) fn is_direct(&self) -> bool {
        self.way.0 == 0
    }

    /// What comes first whatever was measured: the links to the peer itself, then what the operator gave.
    pub(super) fn class(&self) -> u8 {
        match self.is_direct() {
            true => 0,
            false => 2 - u8::from(self.configured),
        }
    }

    /// A share of what is sent over it, as [`Route::loss`] has it, in whole parts of `of`.
    pub(super) fn loss_of(&self, of: u32) -> u32 {
        self.loss * of / ALL
    }

    /// The mean time of a packet over it in ns when what is lost is sent again, and a little for each hop.
    pub(super) fn score(&self) -> u64 {
        let rtt = self.rtt_ns.unwrap_or(SECOND);
        let lost = u64::from(self.loss.saturating_sub(FORGIVEN));
        rtt + (RESEND_NS + 2 * rtt) * lost / u64::from(ALL) + HOP_NS * self.way.1.len() as u64
    }

    /// How long an answer may take before its absence means something: so many round trips, given the least.
    pub(super) fn patience(&self, round_trips: u64, least: u64) -> u64 {
        self.rtt_ns.map_or(least, |rtt| rtt.saturating_mul(round_trips).clamp(least, LONGEST_NS))
    }

    pub(super) fn asking(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// The echo sent first of those under way: when.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.under_way.first().map(|(_, at)| *at)
    }

    /// An echo leaves.
    pub(super) fn ask(&mut self, now_ns: u64, nonce: u64) {
        if self.under_way.is_full() {
            self.under_way.remove(0);
        }
        self.under_way.push((nonce, now_ns));
        self.asked_ns = Some(now_ns);
    }

    /// An echo came back. Whether it was one under way.
    pub(super) fn answered(&mut self, now_ns: u64, nonce: u64) -> bool {
        let Some(at) = self.under_way.iter().position(|(n, _)| *n == nonce) else { return false };
        let took = now_ns.saturating_sub(self.under_way[at].1);
        self.under_way.drain(..=at);
        self.rtt_ns = Some(self.rtt_ns.map_or(took, |rtt| rtt - rtt / 8 + took / 8));
        self.loss -= self.loss / 16;
        self.answered_ns = Some(now_ns);
        (self.silent, self.tries) = (0, 0);
        if self.state != RouteState::Good {
            self.become_(now_ns, RouteState::Good);
        }
        true
    }

    /// Counts the echoes that are lost by now.
    pub(super) fn pass(&mut self, now_ns: u64) {
        let patience = self.patience(3, LOST_NS);
        while self.oldest_ns().is_some_and(|at| now_ns >= at + patience) {
            self.under_way.remove(0);
            if self.state == RouteState::Dead {
                continue;
            }
            self.silent = self.silent.saturating_add(1);
            self.loss += (ALL - self.loss) / 16;
            match self.state {
                _ if u32::from(self.silent) >= DEAD_AFTER + self.loss_of(DEAD_AFTER_MORE) => self.die(now_ns),
                RouteState::Good => self.become_(now_ns, RouteState::Suspect),
                RouteState::Candidate | RouteState::Suspect | RouteState::Dead => {}
            }
        }
    }

    /// When [`Route::pass`] has something to do.
    pub(super) fn lost_at(&self) -> Option<u64> {
        self.oldest_ns().map(|at| at + self.patience(3, LOST_NS))
    }

    pub(super) fn die(&mut self, now_ns: u64) {
        if self.state != RouteState::Dead {
            self.become_(now_ns, RouteState::Dead);
            // Links that come back are used soon: what was lost while they were gone says nothing about them.
            if self.is_direct() {
                self.loss = self.loss.min(FORGIVEN);
            }
            self.under_way.clear();
            (self.tries, self.again_ns) = (0, now_ns + SECOND);
        }
    }

    /// A dead route is asked once more: the pause doubles.
    pub(super) fn ask_again(&mut self, now_ns: u64) {
        self.tries += 1;
        self.again_ns = now_ns + (SECOND << self.tries.min(16)).min(PAUSE_NS);
    }

    /// Something came over a route that was taken for dead: it is worth a try.
    pub(super) fn revive(&mut self, now_ns: u64) {
        if self.state == RouteState::Dead {
            self.silent = 0;
            self.become_(now_ns, RouteState::Candidate);
        }
    }

    fn become_(&mut self, now_ns: u64, state: RouteState) {
        (self.state, self.since_ns) = (state, now_ns);
    }
}
