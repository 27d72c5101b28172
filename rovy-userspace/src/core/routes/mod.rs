//! The routes to one peer: which there are, which of them live, and which is used.
//!
//! A value that is told facts and asked what to do. It knows neither sessions nor slots; time comes in.

mod pause;
mod route;
mod spread;

pub use route::RouteState;
pub(super) use route::{Way, direct};

use std::cmp::Ordering;

use super::time::SECOND;
use pause::Pause;
use route::{ALL, Route};

/// Routes of a peer. The operator's own are not counted out, but leave others at least two places.
pub(super) const ROUTES: usize = 8;
/// Places that the operator's routes leave to others.
const OTHERS: usize = 2;

/// Data without an answer for so long, or two round trips, makes an echo over the route in use.
const QUIET_NS: u64 = SECOND / 5;
/// An echo over the route in use without an answer for so long, or two round trips, makes it doubtful: others are asked.
const LATE_NS: u64 = SECOND / 10;
/// While nothing answers, all is asked again so often: at first, and after three times.
const ROUND_NS: u64 = SECOND / 10;
const LATER_NS: u64 = SECOND / 2;
const QUICK_ROUNDS: u32 = 3;
/// Nothing answered for so long, or two round trips of those that were asked, and more when they lose much: others are looked for.
const SEARCH_NS: u64 = SECOND * 3 / 20;
const SEARCH_MORE: u32 = 10;
/// How much longer one of the two ends waits before it looks, so that not both do.
const YIELD_NS: u64 = SECOND * 3 / 20;
/// How long the links of a neighbour, if they are several, are left to find out by themselves which of them lives.
const LINKS_NS: u64 = SECOND * 3 / 5;
/// Time between two echoes because the peer changed its way.
const CHANGES_NS: u64 = SECOND;
/// Time between echoes: of the route in use, of the next best, of other good ones.
const FIRST_NS: u64 = SECOND;
const SECOND_NS: u64 = 5 * SECOND;
const OTHER_NS: u64 = 30 * SECOND;
/// A learnt route that is dead is forgotten after so many tries.
const TRIES: u32 = 8;
/// How long a candidate is not pushed out by others.
const TRIAL_NS: u64 = 2 * SECOND;
/// What a route of a better kind may lose more than another, in parts of [`ALL`]; twice that makes it give way.
const TOLERATED: u32 = ALL / 10;
/// How often in a row a route must be better than the one in use.
const TWICE: u8 = 2;

/// What is to be done about a peer's routes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Send an echo with this nonce over a route.
    Echo(Way, u64),
    /// None answers: look for others.
    Search,
}

/// What the session tells.
#[derive(Clone, Copy)]
pub(super) struct Load {
    /// Whether packets travel.
    pub(super) busy: bool,
    /// Since when what was sent waits for any answer.
    pub(super) waits_ns: Option<u64>,
    /// Whether the peer is a neighbour with several links.
    pub(super) links: bool,
    /// Whether the peer is left to look for other routes first.
    pub(super) yields: bool,
}

/// Nothing came back over the route in use in time.
#[derive(Clone, Copy)]
struct Doubt {
    since_ns: u64,
    /// When all was asked last, and how often.
    asked_ns: u64,
    rounds: u32,
}

/// The routes to a peer.
#[derive(Default)]
pub(super) struct Routes {
    all: Vec<Route>,
    in_use: Option<Way>,
    doubt: Option<Doubt>,
    searches: Pause,
    /// The way the peer sends, and when a change of it was last a reason to ask.
    heard: Option<Way>,
    changed_ns: Option<u64>,
    /// The peer changed over, which has not been a reason to ask yet.
    ask: bool,
    /// Who was better than the route in use, and how often in a row.
    better: Option<(Way, u8)>,
    why: Why,
    nonce: u64,
}

/// Why a route is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Why {
    /// There was no other.
    #[default]
    Only,
    /// The operator gave it.
    Configured,
    /// It answered first when the one before did not.
    FirstToAnswer,
    /// The peer is a neighbour.
    Direct,
    /// It was better for a while.
    Better,
    /// The one before died.
    Survivor,
}

impl Why {
    /// The same in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Only => "there was no other",
            Self::Configured => "configured",
            Self::FirstToAnswer => "first to answer when the one before did not",
            Self::Direct => "a neighbour",
            Self::Better => "better for a while",
            Self::Survivor => "the one before died",
        }
    }
}

/// A route as it is shown.
pub(super) struct Shown<'a> {
    pub(super) way: &'a Way,
    /// It is the links to the peer itself; `way` means nothing then.
    pub(super) direct: bool,
    pub(super) configured: bool,
    pub(super) state: RouteState,
    pub(super) since_ns: u64,
    pub(super) rtt_ns: Option<u64>,
    /// Lost echoes of a thousand.
    pub(super) loss_permille: u16,
    pub(super) in_use: Option<Why>,
}

impl Routes {
    /// The route that packets take.
    pub(super) fn in_use(&self) -> Option<&Way> {
        self.in_use.as_ref()
    }

    /// All of them.
    pub(super) fn ways(&self) -> impl Iterator<Item = &Way> {
        self.all.iter().map(|r| &r.way)
    }

    /// Whether the operator gave one.
    pub(super) fn any_configured(&self) -> bool {
        self.all.iter().any(|r| r.configured)
    }

    /// Those worth a hello, best first: three that are not dead, and the operator's in any case.
    pub(super) fn worth_a_hello(&self) -> Vec<Way> {
        let mut order: Vec<&Route> = self.all.iter().filter(|r| !r.is_direct()).collect();
        order.sort_by_key(|r| (Some(&r.way) != self.in_use.as_ref(), !r.configured, r.state, r.score()));
        let mut room = 3_usize;
        order.retain(|r| {
            let alive = r.state != RouteState::Dead && room > 0;
            room -= usize::from(alive);
            alive || r.configured
        });
        order.into_iter().map(|r| r.way.clone()).collect()
    }

    pub(super) fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        self.all.iter().map(|r| Shown {
            direct: r.is_direct(),
            way: &r.way,
            configured: r.configured,
            state: r.state,
            since_ns: r.since_ns,
            rtt_ns: r.rtt_ns,
            loss_permille: (r.loss * 1000 / ALL) as u16,
            in_use: (Some(&r.way) == self.in_use.as_ref()).then_some(self.why),
        })
    }

    fn get(&mut self, way: &Way) -> Option<&mut Route> {
        self.all.iter_mut().find(|r| r.way == *way)
    }

    fn state(&self, way: &Way) -> Option<RouteState> {
        self.all.iter().find(|r| r.way == *way).map(|r| r.state)
    }

    /// Whether the route in use is known to work.
    fn present_good(&self) -> bool {
        self.in_use.as_ref().and_then(|w| self.state(w)) == Some(RouteState::Good)
    }

    /// Whether an echo over the route in use came back in the last `ns`.
    pub(super) fn fresh(&self, now_ns: u64, ns: u64) -> bool {
        let present = self.all.iter().find(|r| Some(&r.way) == self.in_use.as_ref());
        present.and_then(|r| r.answered_ns).is_some_and(|t| now_ns.saturating_sub(t) < ns)
    }

    /// The peer is a neighbour, or is none any more. The links of a new one are used at once: they brought the session.
    pub(super) fn neighbour(&mut self, now_ns: u64, is: bool, rtt_ns: Option<u64>) {
        let known = self.all.iter().any(Route::is_direct);
        if is && !known {
            let mut links = Route::new(now_ns, direct(), false);
            (links.state, links.rtt_ns) = (RouteState::Good, rtt_ns);
            self.all.push(links);
            self.take(direct(), Why::Direct);
        } else if known && !is {
            self.all.retain(|r| !r.is_direct());
            self.settle(Why::Survivor);
        }
    }

    /// A search is wanted for whatever reason: whether it may be.
    pub(super) fn may_search(&mut self, now_ns: u64) -> bool {
        self.searches.allows(now_ns)
    }

    /// There is a new link: what was looked for in vain may be behind it.
    pub(super) fn search_anew(&mut self) {
        self.searches.end();
    }

    /// Whether nothing is known to work.
    pub(super) fn lost(&self) -> bool {
        self.doubt.is_some() && !self.all.iter().any(|r| r.state == RouteState::Good)
    }

    /// The operator gives a route; whether it is new.
    pub(super) fn configure(&mut self, now_ns: u64, way: Way) -> bool {
        if let Some(known) = self.get(&way) {
            return !std::mem::replace(&mut known.configured, true);
        }
        self.all.push(Route::new(now_ns, way, true));
        self.settle(Why::Configured);
        true
    }

    /// The operator takes a route back, all of his without one given; how many went.
    pub(super) fn remove(&mut self, way: Option<&Way>) -> usize {
        let before = self.all.len();
        self.all.retain(|r| !r.configured || way.is_some_and(|gone| *gone != r.way));
        self.settle(Why::Survivor);
        before - self.all.len()
    }

    /// A way to the peer became known.
    pub(super) fn learn(&mut self, now_ns: u64, way: &Way) {
        if let Some(known) = self.get(way) {
            return known.revive(now_ns);
        }
        // Whether the peer is a neighbour, only its session tells.
        if way.0 == 0 {
            return;
        }
        let configured = self.all.iter().filter(|r| r.configured).count();
        let learnt = self.all.iter().filter(|r| !r.configured && !r.is_direct()).count();
        let most = ROUTES - configured.min(ROUTES - OTHERS);
        if learnt >= most && !self.make_room(now_ns) {
            return;
        }
        self.all.push(Route::new(now_ns, way.clone(), false));
        self.settle(Why::Only);
    }

    /// Forgets a learnt route that is not known to work: dead ones first, then whatever was learnt first. What was learnt just now
    /// is tried before.
    fn make_room(&mut self, now_ns: u64) -> bool {
        let tried = |r: &Route| r.state != RouteState::Candidate || now_ns.saturating_sub(r.since_ns) >= TRIAL_NS;
        let spare = |r: &&Route| {
            // In doubt only what answered since is known to work.
            let proven = self.doubt.is_none_or(|d| r.answered_ns.is_some_and(|t| t >= d.since_ns));
            let kept = r.configured || r.is_direct() || (r.state == RouteState::Good && proven);
            !kept && Some(&r.way) != self.in_use.as_ref()
        };
        let spare = self.all.iter().filter(spare).filter(|r| tried(r));
        let gone = spare.min_by_key(|r| (r.state != RouteState::Dead, r.since_ns)).map(|r| r.way.clone());
        self.all.retain(|r| Some(&r.way) != gone.as_ref());
        gone.is_some()
    }

    /// A session was made over this way: it is used unless another one is known to work.
    pub(super) fn arrived(&mut self, now_ns: u64, way: &Way) {
        self.learn(now_ns, way);
        let known = self.state(way).is_some();
        let hand = self.any_configured() && !self.all.iter().any(|r| r.configured && r.way == *way);
        if known && !self.present_good() && !(hand && self.in_use.is_some()) {
            self.take(way.clone(), Why::Only);
        }
    }

    /// Something authentic came over this way. Whether that changed anything.
    pub(super) fn heard(&mut self, now_ns: u64, way: &Way) -> bool {
        if self.heard.as_ref() == Some(way) {
            return false;
        }
        self.learn(now_ns, way);
        if self.state(way).is_none() {
            return false;
        }
        self.heard = Some(way.clone());
        if self.in_use.is_none() {
            self.arrived(now_ns, way);
        } else if self.in_use.as_ref() != Some(way)
            && self.changed_ns.is_none_or(|t| now_ns.saturating_sub(t) >= CHANGES_NS)
            && !self.fresh(now_ns, QUIET_NS)
        {
            // The peer changed over: it may know that the present route is dead.
            (self.changed_ns, self.ask) = (Some(now_ns), true);
        }
        true
    }

    /// An echo came back over this way.
    pub(super) fn answered(&mut self, now_ns: u64, way: &Way, nonce: u64) {
        let Some(route) = self.get(way) else { return };
        let first = route.state != RouteState::Good;
        if !route.answered(now_ns, nonce) {
            return;
        }
        let configured = route.configured;
        let present = self.in_use.as_ref() == Some(way);
        // In doubt the present one had its time to answer.
        if self.doubt.take().is_some() && !present {
            return self.take(way.clone(), Why::FirstToAnswer);
        }
        if !present && !self.present_good() {
            return self.take(way.clone(), Why::Survivor);
        }
        if configured && first && !self.present_configured() {
            return self.take(way.clone(), Why::Configured);
        }
        self.compare(way);
    }

    /// Whether the operator's wish comes before any measure: a route of his is in use, or a neighbour's links are.
    fn present_configured(&self) -> bool {
        self.all.iter().any(|r| (r.configured || r.is_direct()) && Some(&r.way) == self.in_use.as_ref())
    }

    /// `way` was measured: whether it is to take over.
    fn compare(&mut self, way: &Way) {
        let find = |way: &Way| self.all.iter().find(|r| r.way == *way);
        let present = self.in_use.as_ref().filter(|w| *w != way).and_then(find);
        let Some((new, present)) = find(way).zip(present) else { return };
        // Links to the peer itself, then the operator's routes, are given up for nothing but loss.
        let better = match new.class().cmp(&present.class()) {
            Ordering::Less => new.loss <= present.loss + TOLERATED,
            Ordering::Greater => present.loss > new.loss + 2 * TOLERATED && !present.configured,
            Ordering::Equal => new.score() * 5 <= present.score() * 4,
        };
        let why = if new.is_direct() { Why::Direct } else { Why::Better };
        let streak = self.better.take().filter(|(w, _)| w == way).map_or(0, |(_, n)| n);
        match better {
            true if streak + 1 >= TWICE => self.take(way.clone(), why),
            true => self.better = Some((way.clone(), streak + 1)),
            false => {}
        }
    }

    fn take(&mut self, way: Way, why: Why) {
        (self.in_use, self.why) = (Some(way), why);
        (self.doubt, self.better) = (None, None);
    }

    /// Nothing can go over the links to the peer itself.
    pub(super) fn links_lost(&mut self, now_ns: u64) {
        self.failed(now_ns, 0, None);
    }

    /// Nothing can go over routes that start with this slot, or over this one alone.
    pub(super) fn failed(&mut self, now_ns: u64, slot: u16, hops: Option<&[u8]>) {
        for route in &mut self.all {
            if route.way.0 == slot && hops.is_none_or(|h| route.way.1.as_slice() == h) {
                route.die(now_ns);
            }
        }
        self.settle(Why::Survivor);
        if self.in_use.as_ref().and_then(|w| self.state(w)) == Some(RouteState::Dead) {
            self.begin_doubt(now_ns);
        }
    }

    /// Uses another route when the present one is dead or gone.
    fn settle(&mut self, why: Why) {
        let state = self.in_use.as_ref().and_then(|w| self.state(w));
        if state.is_some_and(|s| s != RouteState::Dead) {
            return;
        }
        let best = self.all.iter().min_by_key(|r| (r.state, r.class(), r.score()));
        match best.filter(|b| state.is_none() || b.state != RouteState::Dead).map(|b| b.way.clone()) {
            Some(way) => self.take(way, why),
            None if state.is_none() => self.in_use = None,
            None => {}
        }
    }

    /// The route in use is late: who answered meanwhile takes over, else all are asked.
    fn begin_doubt(&mut self, now_ns: u64) {
        if self.doubt.is_some() {
            return;
        }
        let since = self.present().and_then(Route::oldest_ns);
        let good = self.all.iter().filter(|r| r.state == RouteState::Good && Some(&r.way) != self.in_use.as_ref());
        let proven = good.filter(|r| since.is_some_and(|s| r.answered_ns.is_some_and(|t| t >= s)));
        match proven.min_by_key(|r| (r.class(), r.score())).map(|r| r.way.clone()) {
            Some(way) => self.take(way, Why::FirstToAnswer),
            None => self.doubt = Some(Doubt { since_ns: now_ns, asked_ns: 0, rounds: 0 }),
        }
    }

    fn present(&self) -> Option<&Route> {
        self.all.iter().find(|r| Some(&r.way) == self.in_use.as_ref())
    }

    /// When the route in use is asked because data waits for an answer.
    fn quiet_at(&self, load: Load) -> Option<u64> {
        let present = self.present().filter(|r| !r.asking())?;
        Some(load.waits_ns? + present.patience(2, QUIET_NS))
    }

    /// When the route in use is in doubt because an echo is late.
    fn late_at(&self) -> Option<u64> {
        let present = self.present()?;
        Some(present.oldest_ns()? + present.patience(2, LATE_NS))
    }

    /// What is to be done now.
    pub(super) fn pass(&mut self, now_ns: u64, load: Load) -> Vec<Order> {
        for route in &mut self.all {
            route.pass(now_ns);
        }
        let kept = |r: &Route| r.configured || r.is_direct() || r.tries < TRIES || Some(&r.way) == self.in_use.as_ref();
        self.all.retain(kept);
        self.settle(Why::Survivor);
        let mut orders = Vec::new();
        if !load.busy {
            (self.doubt, self.ask) = (None, false);
            return orders;
        }
        if self.late_at().is_some_and(|at| now_ns >= at) {
            self.begin_doubt(now_ns);
        }
        let changed = std::mem::take(&mut self.ask) && self.present().is_some_and(|r| !r.asking());
        if (changed || self.quiet_at(load).is_some_and(|at| now_ns >= at))
            && let Some(way) = self.in_use.clone()
        {
            self.ask(now_ns, &way, &mut orders);
        }
        self.wonder(now_ns, load, &mut orders);
        for way in self.due(now_ns) {
            self.ask(now_ns, &way, &mut orders);
        }
        orders
    }

    /// Asks and looks around while the route in use is in doubt.
    fn wonder(&mut self, now_ns: u64, load: Load, orders: &mut Vec<Order>) {
        let Some(doubt) = self.doubt else { return };
        if now_ns >= self.round_at(doubt) {
            self.doubt = Some(Doubt { asked_ns: now_ns, rounds: doubt.rounds.saturating_add(1), ..doubt });
            let alone = load.links && now_ns < doubt.since_ns.saturating_add(LINKS_NS);
            for way in self.living(if alone { 1 } else { 3 }) {
                self.ask(now_ns, &way, orders);
            }
        }
        if now_ns >= self.search_at(doubt, load) && self.searches.allows(now_ns) {
            orders.push(Order::Search);
        }
    }

    /// The route in use and the next ones that live, so many in all.
    fn living(&self, most: usize) -> Vec<Way> {
        let living = |w: &Way| Some(w) == self.in_use.as_ref() || self.state(w) != Some(RouteState::Dead);
        self.order().into_iter().filter(living).take(most).collect()
    }

    /// When all is asked in a doubt.
    fn round_at(&self, doubt: Doubt) -> u64 {
        let pause = match doubt.rounds {
            0 => return 0,
            QUICK_ROUNDS.. => LATER_NS,
            _ => self.present().map_or(ROUND_NS, |r| r.patience(1, ROUND_NS).min(LATER_NS)),
        };
        doubt.asked_ns.saturating_add(pause)
    }

    /// When others are looked for in a doubt: those that are known had time to answer, and more than one try when they lose much.
    fn search_at(&self, doubt: Doubt, load: Load) -> u64 {
        if !self.any_alive() {
            return doubt.since_ns;
        }
        let asked = self.all.iter().filter(|r| r.state != RouteState::Dead || Some(&r.way) == self.in_use.as_ref());
        let time = |r: &Route| r.patience(2, SEARCH_NS).min(LATER_NS) * u64::from(1 + r.loss_of(SEARCH_MORE));
        let wait = asked.map(time).max().unwrap_or(SEARCH_NS);
        let links = if load.links { LINKS_NS } else { 0 };
        let yields = if load.yields { YIELD_NS } else { 0 };
        doubt.since_ns.saturating_add(wait).saturating_add(links + yields)
    }

    /// Whether one of them may work.
    pub(super) fn any_alive(&self) -> bool {
        self.all.iter().any(|r| r.state != RouteState::Dead)
    }

    /// The route in use, then the others, best first.
    fn order(&self) -> Vec<Way> {
        let mut order: Vec<&Route> = self.all.iter().collect();
        order.sort_by_key(|r| (Some(&r.way) != self.in_use.as_ref(), r.state, r.class(), r.score()));
        order.into_iter().map(|r| r.way.clone()).collect()
    }

    /// When each route's next echo is due, given that packets travel.
    fn dues(&self) -> impl Iterator<Item = (u64, &Route)> {
        let second = self.order().into_iter().nth(1);
        self.all.iter().map(move |r| {
            let pause = match r.state {
                RouteState::Dead => return (r.again_ns, r),
                // A verdict is wanted: as soon as the one under way is lost.
                RouteState::Candidate | RouteState::Suspect => 0,
                // Data tells whether links live, and they are no choice between alike.
                RouteState::Good if Some(&r.way) == self.in_use.as_ref() && r.is_direct() => return (u64::MAX, r),
                // It carries flows beside the one in use, whose silence nobody would notice.
                RouteState::Good if r.carried_ns > r.asked_ns => QUIET_NS,
                RouteState::Good if Some(&r.way) == self.in_use.as_ref() => FIRST_NS,
                RouteState::Good if Some(&r.way) == second.as_ref() => SECOND_NS,
                RouteState::Good => OTHER_NS,
            };
            (r.asked_ns.map_or(0, |t| t + pause), r)
        })
    }

    fn due(&self, now_ns: u64) -> Vec<Way> {
        self.dues().filter(|(at, r)| *at <= now_ns && !r.asking()).map(|(_, r)| r.way.clone()).collect()
    }

    fn ask(&mut self, now_ns: u64, way: &Way, orders: &mut Vec<Order>) {
        self.nonce += 1;
        let nonce = self.nonce;
        if let Some(route) = self.get(way) {
            if route.state == RouteState::Dead {
                route.ask_again(now_ns);
            }
            route.ask(now_ns, nonce);
            orders.push(Order::Echo(way.clone(), nonce));
        }
    }

    /// When [`Routes::pass`] has something to do.
    pub(super) fn next(&self, load: Load) -> u64 {
        let lost = self.all.iter().filter_map(Route::lost_at).min();
        if !load.busy {
            return lost.unwrap_or(u64::MAX);
        }
        let due = self.dues().filter(|(_, r)| !r.asking()).map(|(at, _)| at).min();
        let doubt = match self.doubt {
            Some(doubt) => Some(self.round_at(doubt).min(self.search_at(doubt, load).max(self.searches.until_ns()))),
            None => self.late_at(),
        };
        let quiet = if self.ask { Some(0) } else { self.quiet_at(load) };
        [lost, due, doubt, quiet].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
