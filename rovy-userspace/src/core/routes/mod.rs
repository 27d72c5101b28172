//! The routes to one peer: which there are, which of them live, and which is used.
//!
//! A value that is told facts and asked what to do. It knows neither sessions nor slots; time comes in.

mod route;

pub use route::RouteState;
pub(super) use route::Way;

use super::time::SECOND;
use route::{ALL, Route};

/// Routes of a peer. The operator's own are not counted out, but leave others at least two places.
pub(super) const ROUTES: usize = 8;
/// Places that the operator's routes leave to others.
const OTHERS: usize = 2;

/// Data without an answer, or an echo over the route in use, makes it doubtful after this long, or three round trips.
const DOUBT_NS: u64 = SECOND * 3 / 10;
/// While nothing answers, all is asked again this often.
const ROUND_NS: u64 = SECOND / 2;
/// Time between two rounds because the peer changed its way.
const CHANGES_NS: u64 = SECOND;
/// Time between echoes: of the route in use, of the next best, of other good ones.
const FIRST_NS: u64 = SECOND;
const SECOND_NS: u64 = 5 * SECOND;
const OTHER_NS: u64 = 30 * SECOND;
/// A learnt route that is dead is forgotten after so many tries.
const TRIES: u32 = 8;
/// How long a candidate is not pushed out by others.
const TRIAL_NS: u64 = 2 * SECOND;
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
}

/// The routes to a peer.
#[derive(Default)]
pub(super) struct Routes {
    all: Vec<Route>,
    in_use: Option<Way>,
    /// Since when the route in use is in doubt, and when all was asked last because of it.
    doubt: Option<(u64, u64)>,
    /// Whether a search was ordered in this doubt.
    searched: bool,
    /// The way the peer sends, and when a change of it was last a reason to ask.
    heard: Option<Way>,
    changed_ns: Option<u64>,
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
        let mut order: Vec<&Route> = self.all.iter().collect();
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
        let configured = self.all.iter().filter(|r| r.configured).count();
        let most = ROUTES - configured.min(ROUTES - OTHERS);
        if self.all.len() - configured >= most && !self.make_room(now_ns) {
            return;
        }
        self.all.push(Route::new(now_ns, way.clone(), false));
        self.settle(Why::Only);
    }

    /// Forgets a learnt route that is not known to work: dead ones first, then whatever was learnt first. What was learnt just now
    /// is tried before.
    fn make_room(&mut self, now_ns: u64) -> bool {
        let tried = |r: &Route| r.state != RouteState::Candidate || now_ns.saturating_sub(r.since_ns) >= TRIAL_NS;
        let spare = |r: &&Route| !r.configured && r.state != RouteState::Good && Some(&r.way) != self.in_use.as_ref();
        let spare = self.all.iter().filter(spare).filter(|r| tried(r));
        let gone = spare.min_by_key(|r| (r.state != RouteState::Dead, r.since_ns)).map(|r| r.way.clone());
        self.all.retain(|r| Some(&r.way) != gone.as_ref());
        gone.is_some()
    }

    /// A session was made over this way: it is used unless another one is known to work.
    pub(super) fn arrived(&mut self, now_ns: u64, way: &Way) {
        self.learn(now_ns, way);
        self.searched = false;
        let known = self.state(way).is_some();
        let hand = self.any_configured() && !self.all.iter().any(|r| r.configured && r.way == *way);
        if known && !self.present_good() && !(hand && self.in_use.is_some()) {
            self.take(way.clone(), Why::Only);
        }
    }

    /// Something authentic came over this way.
    pub(super) fn heard(&mut self, now_ns: u64, way: &Way) {
        if self.heard.as_ref() == Some(way) {
            return;
        }
        self.heard = Some(way.clone());
        self.learn(now_ns, way);
        if self.in_use.as_ref() == Some(way) {
            return;
        }
        if self.in_use.is_none() {
            return self.arrived(now_ns, way);
        }
        // The peer changed over: it may know that the present route is dead.
        if self.changed_ns.is_none_or(|t| now_ns.saturating_sub(t) >= CHANGES_NS) {
            self.changed_ns = Some(now_ns);
            self.begin_doubt(now_ns);
        }
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
        self.searched = false;
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

    fn present_configured(&self) -> bool {
        self.all.iter().any(|r| r.configured && Some(&r.way) == self.in_use.as_ref())
    }

    /// `way` was measured: whether it is to take over.
    fn compare(&mut self, way: &Way) {
        let find = |way: &Way| self.all.iter().find(|r| r.way == *way);
        let present = self.in_use.as_ref().filter(|w| *w != way).and_then(find);
        let Some((new, present)) = find(way).zip(present) else { return };
        let better = match (new.configured, present.configured) {
            (true, false) => true,
            (false, true) => false,
            _ => new.score() * 5 <= present.score() * 4,
        };
        let streak = self.better.take().filter(|(w, _)| w == way).map_or(0, |(_, n)| n);
        match better {
            true if streak + 1 >= TWICE => self.take(way.clone(), Why::Better),
            true => self.better = Some((way.clone(), streak + 1)),
            false => {}
        }
    }

    fn take(&mut self, way: Way, why: Why) {
        (self.in_use, self.why) = (Some(way), why);
        (self.doubt, self.better) = (None, None);
    }

    /// Nothing can go over routes that start with this slot, or over this one alone.
    pub(super) fn failed(&mut self, now_ns: u64, slot: u16, hops: Option<&[u8]>) {
        for route in &mut self.all {
            if route.way.0 == slot && hops.is_none_or(|h| route.way.1.as_slice() == h) {
                route.die(now_ns);
            }
        }
        self.settle(Why::Survivor);
    }

    /// Uses another route when the present one is dead or gone.
    fn settle(&mut self, why: Why) {
        let state = self.in_use.as_ref().and_then(|w| self.state(w));
        if state.is_some_and(|s| s != RouteState::Dead) {
            return;
        }
        let best = self.all.iter().min_by_key(|r| (r.state, !r.configured, r.score()));
        match best.filter(|b| state.is_none() || b.state != RouteState::Dead).map(|b| b.way.clone()) {
            Some(way) => self.take(way, why),
            None if state.is_none() => self.in_use = None,
            None => {}
        }
    }

    fn begin_doubt(&mut self, now_ns: u64) {
        if self.doubt.is_none() {
            self.doubt = Some((now_ns, 0));
        }
    }

    /// Since when the route in use owes an answer: to data, or to an echo.
    fn owes(&self, load: Load) -> Option<u64> {
        let present = self.all.iter().find(|r| Some(&r.way) == self.in_use.as_ref())?;
        let echo = present.oldest_ns();
        let since = [load.waits_ns, echo].into_iter().flatten().min()?;
        Some(since + present.patience(DOUBT_NS))
    }

    /// What is to be done now.
    pub(super) fn pass(&mut self, now_ns: u64, load: Load) -> Vec<Order> {
        for route in &mut self.all {
            route.pass(now_ns);
        }
        self.all.retain(|r| r.configured || r.tries < TRIES || Some(&r.way) == self.in_use.as_ref());
        self.settle(Why::Survivor);
        let mut orders = Vec::new();
        if !load.busy {
            self.doubt = None;
            return orders;
        }
        if self.owes(load).is_some_and(|at| now_ns >= at) {
            self.begin_doubt(now_ns);
        }
        if let Some((since, asked)) = self.doubt {
            if asked == 0 || now_ns >= asked + ROUND_NS {
                self.doubt = Some((since, now_ns));
                let living = |w: &Way| Some(w) == self.in_use.as_ref() || self.state(w) != Some(RouteState::Dead);
                let round: Vec<Way> = self.order().into_iter().filter(living).take(3).collect();
                for way in round {
                    self.ask(now_ns, &way, &mut orders);
                }
            }
            if !self.searched && (now_ns >= since + ROUND_NS || !self.any_alive()) {
                self.searched = true;
                orders.push(Order::Search);
            }
        }
        for way in self.due(now_ns) {
            self.ask(now_ns, &way, &mut orders);
        }
        orders
    }

    /// Whether one of them may work.
    pub(super) fn any_alive(&self) -> bool {
        self.all.iter().any(|r| r.state != RouteState::Dead)
    }

    /// The route in use, then the others, best first.
    fn order(&self) -> Vec<Way> {
        let mut order: Vec<&Route> = self.all.iter().collect();
        order.sort_by_key(|r| (Some(&r.way) != self.in_use.as_ref(), r.state, !r.configured, r.score()));
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
            Some((_, 0)) => Some(0),
            Some((since, asked)) if !self.searched => Some((asked + ROUND_NS).min(since + ROUND_NS)),
            Some((_, asked)) => Some(asked + ROUND_NS),
            None => self.owes(load),
        };
        [lost, due, doubt].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
