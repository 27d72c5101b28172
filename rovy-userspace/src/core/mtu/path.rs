//! One path: a value that is told facts and asked what to try. Time comes in.
//!
//! A path is taken to carry what its first link takes, until a hop or an echo says less. While long messages travel, an echo
//! as long as the longest of them goes with a short one: where the short one alone comes back, three times, the path
//! swallows long ones. Then the least that every path carries is used at once, and the right length is searched for. Nothing
//! longer is ever tried than was to be sent.

use super::FLOOR;
use crate::core::time::SECOND;

/// How long an echo proves that its length passes, while long messages travel.
const TRUST_NS: u64 = SECOND;
/// Time between two looks whether a path carries more than it did.
const RAISE_NS: u64 = 60 * SECOND;
/// After silence for short echoes too, which tells nothing about lengths.
const REST_NS: u64 = SECOND;
/// Echoes of one length that must be lost: a single one says nothing.
const TRIES: u8 = 3;
/// How far below the truth a search may end, bytes.
const GRAIN: u16 = 8;
/// How long an echo may take: at first, three round trips later on.
const FIRST_NS: u64 = SECOND / 2;
const LEAST_NS: u64 = SECOND / 5;
const MOST_NS: u64 = 2 * SECOND;

/// Two echoes to send: a long one, then a short one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::core) struct Ask {
    /// Bytes of the long message.
    pub(in crate::core) size: u16,
    /// Nonces of the long and the short echo.
    pub(in crate::core) nonces: [u64; 2],
}

/// Two echoes under way.
struct Trial {
    ask: Ask,
    sent_ns: u64,
    short_back: bool,
    tries: u8,
}

/// Where a search stands: `low` passes, `high` does not.
struct Search {
    low: u16,
    high: u16,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Whether anything more passes at all.
    Little,
    /// Whether all of it does.
    All,
    /// In halves.
    Halve,
}

/// What one path carries.
#[derive(Default)]
pub(in crate::core) struct PathMtu {
    /// Less than the first link takes: what was said or proven.
    cap: Option<u16>,
    /// The longest message that came back, and when.
    proven: Option<(u16, u64)>,
    /// Since when messages longer than [`FLOOR`] travel, or are wanted, without a proof; and the longest of them.
    wanted: Option<(u64, u16)>,
    /// The longest that ever was.
    most: u16,
    trial: Option<Trial>,
    search: Option<Search>,
    raise_ns: u64,
    rest_ns: u64,
    rtt_ns: Option<u64>,
}

impl PathMtu {
    /// The longest message to send, given what the first link takes.
    pub(in crate::core) fn usable(&self, limit: u16) -> u16 {
        self.cap.map_or(limit, |cap| cap.min(limit))
    }

    /// What was said or proven to be less than the first link takes, if anything was.
    pub(in crate::core) fn told(&self) -> Option<u16> {
        self.cap
    }

    /// A message of `size` bytes is to be sent, or was refused for its length. Whether that may be a reason to try something.
    pub(in crate::core) fn want(&mut self, now_ns: u64, size: u16) -> bool {
        if size <= FLOOR {
            return false;
        }
        self.most = self.most.max(size);
        let before = self.wanted;
        self.wanted = Some(before.map_or((now_ns, size), |(since, most)| (since, most.max(size))));
        before.is_none()
    }

    /// A hop said that no longer messages pass. Nothing is made of more than is used anyway, nor of less than every path carries.
    pub(in crate::core) fn too_big(&mut self, now_ns: u64, mtu: u16, limit: u16) {
        let mtu = mtu.max(FLOOR);
        self.trial.take_if(|t| t.ask.size > mtu);
        if let Some(search) = &mut self.search
            && mtu >= search.low
        {
            search.high = search.high.min(mtu.saturating_add(1));
            // What the hop says passes it: the next one may say less.
            search.step = Step::All;
            return;
        }
        if mtu < self.usable(limit) {
            (self.cap, self.search) = (Some(mtu), None);
            self.proven.take_if(|(size, _)| *size > mtu);
            self.raise_ns = now_ns + RAISE_NS;
        }
    }

    /// Messages of this size do not pass.
    fn shrink(&mut self, size: u16) {
        (self.cap, self.proven) = (Some(FLOOR), None);
        self.search = Some(Search { low: FLOOR, high: size, step: Step::Halve });
    }

    /// An echo came back over the path.
    pub(in crate::core) fn answered(&mut self, now_ns: u64, nonce: u64) {
        let Some(trial) = self.trial.as_mut().filter(|t| t.ask.nonces.contains(&nonce)) else { return };
        let took = now_ns.saturating_sub(trial.sent_ns);
        self.rtt_ns = Some(self.rtt_ns.map_or(took, |rtt| rtt - rtt / 4 + took / 4));
        if nonce == trial.ask.nonces[1] {
            trial.short_back = true;
            return;
        }
        let size = trial.ask.size;
        (self.trial, self.wanted, self.proven) = (None, None, Some((size, now_ns)));
        if let Some(search) = &mut self.search {
            search.low = size;
            self.cap = Some(size);
            search.step = match search.step {
                Step::Little => Step::All,
                Step::All | Step::Halve => Step::Halve,
            };
        }
    }

    /// How long echoes may take.
    fn patience(&self) -> u64 {
        self.rtt_ns.map_or(FIRST_NS, |rtt| rtt.saturating_mul(3).clamp(LEAST_NS, MOST_NS))
    }

    /// What to send now. `nonce` and the one after it are fresh.
    pub(in crate::core) fn pass(&mut self, now_ns: u64, limit: u16, nonce: u64) -> Option<Ask> {
        if let Some(trial) = self.trial.take_if(|t| t.ask.size > limit) {
            // The first link takes less by now.
            self.rest_ns = trial.sent_ns;
        }
        if let Some(trial) = &self.trial {
            if now_ns < trial.sent_ns + self.patience() {
                return None;
            }
            let (size, tries, short_back) = (trial.ask.size, trial.tries, trial.short_back);
            self.trial = None;
            if !short_back {
                // Maybe it only takes longer than it did.
                self.rtt_ns = Some((self.patience() / 3 * 2).min(MOST_NS / 3));
                self.rest_ns = now_ns + REST_NS;
                return None;
            }
            if tries < TRIES {
                return Some(self.ask(now_ns, size, tries, nonce));
            }
            self.lost(now_ns, size);
        }
        let size = self.due(now_ns, limit)?;
        Some(self.ask(now_ns, size, 0, nonce))
    }

    fn ask(&mut self, now_ns: u64, size: u16, tries: u8, nonce: u64) -> Ask {
        let ask = Ask { size, nonces: [nonce, nonce.wrapping_add(1)] };
        self.trial = Some(Trial { ask, sent_ns: now_ns, short_back: false, tries: tries + 1 });
        ask
    }

    /// Echoes of this size were lost, and short ones were not.
    fn lost(&mut self, now_ns: u64, size: u16) {
        match &mut self.search {
            Some(search) if search.step == Step::Little => {
                self.search = None;
                (self.raise_ns, self.wanted) = (now_ns + RAISE_NS, None);
            }
            Some(search) => (search.high, search.step) = (size, Step::Halve),
            None => self.shrink(size),
        }
    }

    /// The size to try now.
    fn due(&mut self, now_ns: u64, limit: u16) -> Option<u16> {
        if now_ns < self.rest_ns {
            return None;
        }
        let aim = limit.min(self.most);
        if self.search.is_none() {
            if now_ns < self.wants(limit)? {
                return None;
            }
            let usable = self.usable(limit);
            let size = self.wanted.map_or(usable, |(_, size)| size.min(usable));
            if size > FLOOR && !self.trusts(now_ns, size) {
                return Some(size);
            }
            self.search = Some(Search { low: usable, high: aim.saturating_add(1), step: Step::Little });
        }
        let search = self.search.as_ref()?;
        let (low, high) = (search.low, search.high.min(limit.saturating_add(1)));
        let room = high.saturating_sub(low);
        if room <= 1 || (search.step == Step::Halve && room <= GRAIN) {
            self.search = None;
            self.cap = (low < aim).then_some(low);
            (self.raise_ns, self.wanted) = (now_ns + RAISE_NS, None);
            return None;
        }
        Some(match search.step {
            Step::Little => low + GRAIN.min(room - 1),
            Step::All => high - 1,
            Step::Halve => low + room / 2,
        })
    }

    fn trusts(&self, now_ns: u64, size: u16) -> bool {
        self.proven.is_some_and(|(proven, at)| proven >= size && now_ns < at + TRUST_NS)
    }

    /// When what is wanted is to be proven, or more is to be tried. `None`: never.
    fn wants(&self, limit: u16) -> Option<u64> {
        let ((since, wanted), usable) = (self.wanted?, self.usable(limit));
        let size = wanted.min(usable);
        let trusted = self.proven.filter(|(proven, _)| *proven >= size).map_or(0, |(_, at)| at + TRUST_NS);
        let proof = (size > FLOOR).then_some(trusted);
        let raise = (usable < limit.min(self.most)).then_some(self.raise_ns);
        Some(since.max(proof.into_iter().chain(raise).min()?))
    }

    /// When [`PathMtu::pass`] has something to do, given that packets travel.
    pub(in crate::core) fn next(&self, limit: u16) -> u64 {
        let due = match (&self.trial, &self.search) {
            (Some(trial), _) => return trial.sent_ns + self.patience(),
            (None, Some(_)) => Some(0),
            (None, None) => self.wants(limit),
        };
        due.map_or(u64::MAX, |at| at.max(self.rest_ns))
    }
}
