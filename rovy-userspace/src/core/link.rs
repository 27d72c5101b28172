//! The links of a session: ways to one neighbour beside each other. Link 0 comes with the handshake, further ones are opened
//! under it. What is known of each link's life stands here; who decides by it is `node/links.rs`.

use super::time::SECOND;
use crate::transport::Endpoint;

/// Links of one session, the one of the handshake included.
pub(super) const LINKS: u8 = 4;

/// Something was sent over a link and nothing came back for so long: is it alive?
const SILENCE_NS: u64 = SECOND * 3 / 10;
/// Time between the probes of a round, and how many there are: one that is lost says nothing.
const PROBE_NS: u64 = SECOND / 10;
const PROBES: u32 = 3;
/// A link is dead when no probe was answered for so long while another link answered; sooner, after three of its round trips, when
/// it is known to be quick.
const VERDICT_NS: u64 = SECOND / 4 * 3;
const QUICK_NS: u64 = SECOND * 3 / 10;
/// A round that no link answered tells nothing about any of them.
const ROUND_NS: u64 = 2 * SECOND;
/// Longest pause between probes of a dead link.
const DEAD_NS: u64 = 60 * SECOND;
/// How long a link of a better kind lives before it is preferred.
const DAMPING_NS: u64 = 10 * SECOND;
/// Time between two changes of a link's endpoint: each is published to the kernel.
pub(super) const MOVE_NS: u64 = SECOND / 10;
/// Longest pause between two tries to open a link.
const OPEN_NS: u64 = 300 * SECOND;

/// The pause after so many tries, doubling from a second on.
fn back_off(tries: u32, most: u64) -> u64 {
    (SECOND << tries.min(16)).min(most)
}

/// Whether two endpoints are reached the same way. A broadcast becomes the neighbour's address once it answers, and which of
/// this host's addresses is meant shows with the first message.
pub(super) fn same_way(target: &Endpoint, known: &Endpoint) -> bool {
    match (target, known) {
        (Endpoint::Ethernet { ifindex: a, .. }, Endpoint::Ethernet { ifindex: b, .. }) => a == b,
        (Endpoint::Udp { remote: a, local: x }, Endpoint::Udp { remote: b, local: y }) => {
            a == b && (x.is_none() || y.is_none() || x == y)
        }
        _ => false,
    }
}

/// Raw Ethernet is the better kind: no header of the underlay, no address to route.
fn rank(endpoint: &Endpoint) -> u8 {
    match endpoint {
        Endpoint::Ethernet { .. } => 1,
        Endpoint::Udp { .. } => 0,
    }
}

/// How a link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// The neighbour was asked and has not answered.
    Opening,
    /// It carries packets.
    Up,
    /// It did not answer while another link did; its packets travel over that one.
    Dead,
}

/// A round of probes.
struct Round {
    nonce: u64,
    since_ns: u64,
    sent: u32,
    again_ns: u64,
}

/// What is known of a link's life.
pub(super) struct Health {
    /// Since when the link is alive; `None`: it is dead.
    alive_since: Option<u64>,
    /// Something was sent over the link and nothing has come by it since: when.
    silent_since: Option<u64>,
    round: Option<Round>,
    /// When a probe was last answered, and how long that took.
    answered_ns: Option<u64>,
    rtt_ns: Option<u64>,
    /// When a dead link is probed again, and how often it was.
    again_ns: u64,
    tries: u32,
}

impl Health {
    pub(super) fn new(now_ns: u64) -> Self {
        let alive_since = Some(now_ns);
        Self { alive_since, silent_since: None, round: None, answered_ns: None, rtt_ns: None, again_ns: 0, tries: 0 }
    }

    pub(super) fn alive(&self) -> bool {
        self.alive_since.is_some()
    }

    /// Something that wants an answer left by the link.
    pub(super) fn sent(&mut self, now_ns: u64) {
        self.silent_since.get_or_insert(now_ns);
    }

    /// What others sent came by the link. That brings no dead link back, as only one direction may work, but is a reason to
    /// look.
    pub(super) fn heard(&mut self, now_ns: u64) {
        self.silent_since = None;
        if !self.alive() && self.round.is_none() {
            self.again_ns = self.again_ns.min(now_ns);
        }
    }

    /// A probe was answered: both directions work.
    pub(super) fn answered(&mut self, now_ns: u64, nonce: u64) {
        if let Some(round) = self.round.take_if(|r| r.nonce == nonce) {
            self.answered_ns = Some(now_ns);
            // Of a probe that was repeated nobody knows which one was answered.
            if round.sent == 1 {
                self.rtt_ns = Some(now_ns.saturating_sub(round.since_ns));
            }
            self.silent_since = None;
            self.alive_since.get_or_insert(now_ns);
        }
    }

    /// The link does not answer, or cannot be sent over. Whether that is new.
    pub(super) fn die(&mut self, now_ns: u64) -> bool {
        let was = self.alive_since.take().is_some();
        (self.silent_since, self.round) = (None, None);
        (self.tries, self.again_ns) = (0, now_ns + SECOND);
        was
    }

    pub(super) fn begin(&mut self, now_ns: u64, nonce: u64) {
        self.round.get_or_insert(Round { nonce, since_ns: now_ns, sent: 0, again_ns: now_ns });
    }

    /// How long a living link may leave probes unanswered.
    fn verdict_ns(&self) -> u64 {
        self.rtt_ns.map_or(VERDICT_NS, |rtt| rtt.saturating_mul(3).clamp(QUICK_NS, VERDICT_NS))
    }

    fn is_silent(&self, now_ns: u64) -> bool {
        self.silent_since.is_some_and(|t| now_ns >= t + SILENCE_NS)
    }

    /// The nonce of the probe that is due, if one is.
    fn probe(&mut self, now_ns: u64) -> Option<u64> {
        let round = self.round.as_mut().filter(|r| r.sent < PROBES && r.again_ns <= now_ns)?;
        round.sent += 1;
        round.again_ns = now_ns + PROBE_NS;
        Some(round.nonce)
    }

    /// When something is due, given that there are other links.
    fn next(&self, now_ns: u64) -> u64 {
        let round = self.round.as_ref().map(|r| match r.since_ns + self.verdict_ns() {
            verdict if self.alive() && now_ns < verdict && r.sent >= PROBES => verdict,
            verdict if self.alive() && now_ns < verdict => verdict.min(r.again_ns),
            _ if r.sent < PROBES => r.again_ns,
            _ => r.since_ns + ROUND_NS,
        });
        let silence = self.silent_since.filter(|_| self.round.is_none()).map(|t| t + SILENCE_NS);
        let again = Some(self.again_ns).filter(|_| !self.alive() && self.round.is_none());
        [round, silence, again].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

/// How far a further link is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// This node wants it: what the answer repeats, how often it asked and when it asks again.
    Opening { nonce: u64, tries: u32, at_ns: u64 },
    /// This node accepted; that the neighbour knows has yet to show.
    Accepted,
    /// Both may send.
    Up,
    /// It is over. Its number is not used again in this session, as its keys have been.
    Closed,
}

/// A further link.
pub(super) struct Link {
    pub(super) stage: Stage,
    pub(super) endpoint: Endpoint,
    /// This node's receiver index, and the neighbour's.
    pub(super) index: u32,
    pub(super) remote: u32,
    pub(super) health: Health,
    pub(super) moved_ns: Option<u64>,
}

impl Link {
    pub(super) fn new(now_ns: u64, stage: Stage, endpoint: Endpoint, index: u32, remote: u32) -> Self {
        Self { stage, endpoint, index, remote, health: Health::new(now_ns), moved_ns: None }
    }

    /// Whether the neighbour knows of it.
    pub(super) fn open(&self) -> bool {
        matches!(self.stage, Stage::Accepted | Stage::Up)
    }

    /// Another try to open it is due: how often it was asked before. Sets the next.
    pub(super) fn ask(&mut self, now_ns: u64) -> Option<u64> {
        match &mut self.stage {
            Stage::Opening { nonce, tries, at_ns } if *at_ns <= now_ns => {
                *at_ns = now_ns + back_off(*tries, OPEN_NS);
                *tries += 1;
                Some(*nonce)
            }
            _ => None,
        }
    }
}

/// The links of a session beside its link 0, whose endpoint is the session's path.
pub(super) struct Links {
    /// Whether link 0 lives.
    first: Health,
    more: [Option<Link>; LINKS as usize - 1],
    /// The link that carries data.
    active: u8,
    /// Where the session before this one sent: the link there carries data as soon as it is up.
    pub(super) favourite: Option<Endpoint>,
    /// Links that made room for other endpoints to be tried.
    pub(super) replaced: u32,
    /// Which of the peer's endpoints is tried next.
    pub(super) turn: usize,
}

impl Links {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { first: Health::new(now_ns), more: Default::default(), active: 0, favourite: None, replaced: 0, turn: 0 }
    }

    pub(super) fn active(&self) -> u8 {
        self.active
    }

    /// A further link; none has the number 0.
    pub(super) fn get(&self, n: u8) -> Option<&Link> {
        self.more.get(usize::from(n).checked_sub(1)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, n: u8) -> Option<&mut Link> {
        self.more.get_mut(usize::from(n).checked_sub(1)?)?.as_mut()
    }

    /// Puts a further link in its place, or nothing.
    pub(super) fn set(&mut self, n: u8, link: Option<Link>) {
        if let Some(at) = usize::from(n).checked_sub(1).and_then(|i| self.more.get_mut(i)) {
            *at = link;
        }
    }

    /// A link ended: another one carries data now if it was this one's turn.
    pub(super) fn leave(&mut self, n: u8) {
        if self.active == n {
            self.active = 0;
        }
    }

    /// All further links there are.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &Link)> {
        (1..LINKS).filter_map(|n| Some((n, self.get(n)?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u8, &mut Link)> {
        (1..).zip(&mut self.more).filter_map(|(n, l)| Some((n, l.as_mut()?)))
    }

    /// Whether there is more than link 0.
    pub(super) fn several(&self) -> bool {
        self.iter().any(|(_, l)| l.open())
    }

    /// Of a link that may be sent over.
    pub(super) fn health(&self, n: u8) -> Option<&Health> {
        match n {
            0 => Some(&self.first),
            _ => self.get(n).filter(|l| l.stage == Stage::Up).map(|l| &l.health),
        }
    }

    pub(super) fn health_mut(&mut self, n: u8) -> Option<&mut Health> {
        match n {
            0 => Some(&mut self.first),
            _ => self.get_mut(n).filter(|l| l.stage == Stage::Up).map(|l| &mut l.health),
        }
    }

    pub(super) fn alive(&self, n: u8) -> bool {
        self.health(n).is_some_and(Health::alive)
    }

    fn healths(&mut self) -> impl Iterator<Item = (u8, &mut Health)> {
        let more = (1..).zip(&mut self.more).filter_map(|(n, l)| Some((n, l.as_mut()?)));
        let more = more.filter(|(_, l)| l.stage == Stage::Up).map(|(n, l)| (n, &mut l.health));
        std::iter::once((0, &mut self.first)).chain(more)
    }

    /// Which link the next packet goes over is known: something was sent there.
    pub(super) fn sent(&mut self, now_ns: u64) {
        if let Some(health) = self.health_mut(self.active) {
            health.sent(now_ns);
        }
    }

    /// Asks every link whether it lives.
    pub(super) fn probe_all(&mut self, now_ns: u64, nonce: u64) {
        for (_, health) in self.healths() {
            health.begin(now_ns, nonce);
        }
    }

    /// What time has brought: begins and ends rounds of probes, finds dead links. The probes that are due, with their nonces,
    /// and the links that died. `nonce` is a fresh one.
    pub(super) fn pass(&mut self, now_ns: u64, nonce: u64) -> (Vec<(u8, u64)>, Vec<u8>) {
        // Before rounds begin: a dead link whose round ends now may be due for the next one.
        let died = self.judge(now_ns);
        if self.healths().any(|(_, h)| h.alive() && h.round.is_none() && h.is_silent(now_ns)) {
            self.probe_all(now_ns, nonce);
        }
        for (_, health) in self.healths() {
            if !health.alive() && health.round.is_none() && health.again_ns <= now_ns {
                health.tries += 1;
                health.again_ns = now_ns + back_off(health.tries, DEAD_NS);
                health.begin(now_ns, nonce);
            }
        }
        (self.healths().filter_map(|(n, h)| Some((n, h.probe(now_ns)?))).collect(), died)
    }

    fn judge(&mut self, now_ns: u64) -> Vec<u8> {
        let mut died = Vec::new();
        let answers: Vec<_> = self.healths().filter_map(|(n, h)| Some((n, h.answered_ns?))).collect();
        for (n, health) in self.healths() {
            let Some(since_ns) = health.round.as_ref().map(|r| r.since_ns) else { continue };
            let other = answers.iter().any(|(m, at)| *m != n && *at >= since_ns);
            if health.alive() && other && now_ns >= since_ns + health.verdict_ns() {
                health.die(now_ns);
                died.push(n);
            } else if now_ns >= since_ns + ROUND_NS {
                (health.round, health.silent_since) = (None, None);
            }
        }
        died
    }

    /// Takes a living link for dead, if another one lives. Whether it was so.
    pub(super) fn bury(&mut self, now_ns: u64, n: u8) -> bool {
        let other = (0..LINKS).any(|m| m != n && self.alive(m));
        other && self.health_mut(n).is_some_and(|h| h.die(now_ns))
    }

    /// When [`Links::pass`] or [`Links::choose`] have something to do.
    pub(super) fn next(&mut self, now_ns: u64, path: Option<&Endpoint>) -> u64 {
        let present = self.endpoint(self.active, path).map(|at| rank(&at));
        let better = self.best(path).filter(|(_, rank, _)| Some(*rank) > present).map(|(.., since)| since + DAMPING_NS);
        let due = self.healths().map(|(_, h)| h.next(now_ns)).min();
        [better, due].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Where a link that may be sent over ends; `path` is link 0's.
    pub(super) fn endpoint(&self, n: u8, path: Option<&Endpoint>) -> Option<Endpoint> {
        match n {
            0 => path.copied(),
            _ => self.get(n).filter(|l| l.stage == Stage::Up).map(|l| l.endpoint),
        }
    }

    /// The living link of the best kind, of those the one that lives longest: its number, kind and since when it lives.
    fn best(&self, path: Option<&Endpoint>) -> Option<(u8, u8, u64)> {
        let living = (0..LINKS).filter_map(|n| {
            let since = self.health(n)?.alive_since?;
            Some((n, rank(&self.endpoint(n, path)?), since))
        });
        living.min_by_key(|(n, rank, since)| (u8::MAX - rank, *since, *n))
    }

    /// Settles which link carries data: the present one unless it is dead, or one of a better kind has lived for a while.
    pub(super) fn choose(&mut self, now_ns: u64, path: Option<&Endpoint>) {
        let favourite = self.favourite.and_then(|at| {
            (0..LINKS).find(|n| self.alive(*n) && self.endpoint(*n, path).is_some_and(|e| same_way(&at, &e)))
        });
        if let Some(n) = favourite {
            (self.active, self.favourite) = (n, None);
        }
        let Some((n, rank_best, since)) = self.best(path) else { return };
        let present = self.endpoint(self.active, path).filter(|_| self.alive(self.active));
        match present {
            Some(at) if rank(&at) >= rank_best || now_ns < since + DAMPING_NS => {}
            _ => self.active = n,
        }
    }
}
