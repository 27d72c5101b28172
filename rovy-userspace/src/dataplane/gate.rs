//! What stands in front of the handshake in userspace: the same verdicts as the XDP program's, for hellos that come in
//! without it and, once more, for those it let through.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use rovy_common::DropReason;
use rovy_common::hello::{self, Bucket, LOADS, Load, Prefix, REPLY, Sealed, Verdict, Whence};
use rovy_common::maps::{Limits, Secrets};
use rovy_common::siphash::Key;
use rovy_common::wire::CookieReply;

use crate::transport::Endpoint;

/// Sources in one generation of the memory.
const SOURCES: usize = 4096;

/// The bytes of a cookie reply.
pub type Reply = [u8; size_of::<CookieReply>()];

/// What becomes of a hello or response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It may cost a Diffie-Hellman.
    Admit,
    /// Drop it as `bad_mac2` and send this to where it came from.
    Reply(Reply),
}

/// The buckets of a source: of hellos that do not prove it, then of those that do.
type Pair = Rc<[Cell<u64>; 2]>;

/// Sources seen lately. When the young generation is full it becomes the old one, and what was old is forgotten: nothing
/// grows, and nothing has to be searched for who was silent longest.
#[derive(Default)]
struct Sources {
    young: HashMap<Prefix, Pair>,
    old: HashMap<Prefix, Pair>,
}

impl Sources {
    fn get(&mut self, prefix: &Prefix) -> Pair {
        if let Some(pair) = self.young.get(prefix) {
            return pair.clone();
        }
        if self.young.len() >= SOURCES {
            self.old = std::mem::take(&mut self.young);
        }
        let pair = self.old.remove(prefix).unwrap_or_default();
        self.young.insert(*prefix, pair.clone());
        pair
    }
}

struct State {
    now_ns: u64,
    secrets: Secrets,
    sources: RefCell<Sources>,
    loads: [Pair; LOADS as usize],
}

/// One of the two buckets of a pair.
struct One(Pair, usize);

impl Bucket for One {
    fn load(&self) -> u64 {
        self.0[self.1].get()
    }
    fn exchange(&self, old: u64, new: u64) -> bool {
        self.0[self.1].replace(new) == old
    }
}

impl hello::Gate for State {
    type Bucket<'a> = One;
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn secrets(&self) -> Option<&Secrets> {
        Some(&self.secrets)
    }
    fn bucket(&self, prefix: &Prefix, proven: bool) -> Option<One> {
        Some(One(self.sources.borrow_mut().get(prefix), usize::from(proven)))
    }
    fn load(&self, of: Load) -> Option<One> {
        self.loads.get(of as usize).map(|pair| One(pair.clone(), 0))
    }
    fn nonce(&self) -> u64 {
        // Two replies to one hello are never made within a nanosecond.
        self.now_ns
    }
}

/// The gate of this node.
pub struct Gate {
    mac1: Key,
    limits: Limits,
    state: State,
}

impl Gate {
    /// A gate nobody has come to yet.
    #[must_use]
    pub fn new(mac1: Key, limits: Limits, secrets: Secrets) -> Self {
        let state = State { now_ns: 0, secrets, sources: RefCell::default(), loads: Default::default() };
        Self { mac1, limits, state }
    }

    /// The secrets in use.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        self.state.secrets
    }

    /// Makes and checks cookies by these secrets from now on.
    pub fn set_secrets(&mut self, secrets: Secrets) {
        self.state.secrets = secrets;
    }

    /// Judges a hello or response that came outermost. `now_ns` is the monotonic clock.
    ///
    /// # Errors
    /// The reason it is dropped for.
    pub fn outermost(&mut self, now_ns: u64, from: &Endpoint, message: &[u8]) -> Result<Admission, DropReason> {
        let whence = match from {
            Endpoint::Udp { remote, .. } => Whence::udp(*remote),
            Endpoint::Ethernet { ifindex, mac } => Whence::ethernet(*mac, *ifindex),
        };
        let m = Sealed::read(message).ok_or(DropReason::BadLength)?;
        self.state.now_ns = now_ns;
        admission(hello::judge(&self.state, &self.mac1, &self.limits, &m, &whence))
    }

    /// Judges a hello or response that came out of transit over a link.
    ///
    /// # Errors
    /// The reason it is dropped for.
    pub fn routed(&mut self, now_ns: u64, slot: u16, message: &[u8]) -> Result<(), DropReason> {
        let m = Sealed::read(message).ok_or(DropReason::BadLength)?;
        self.state.now_ns = now_ns;
        admission(hello::judge_routed(&self.state, &self.mac1, &self.limits, &m, slot)).map(|_| ())
    }
}

fn admission(verdict: Verdict) -> Result<Admission, DropReason> {
    match verdict {
        Verdict::Admit => Ok(Admission::Admit),
        Verdict::Reply(words) => Ok(Admission::Reply(bytes(&words))),
        Verdict::Drop(reason) => Err(reason),
    }
}

/// A cookie reply as it travels.
fn bytes(words: &[u64; REPLY]) -> Reply {
    let mut out = [0; size_of::<CookieReply>()];
    for (chunk, word) in out.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_sources_does_not_grow_the_memory_and_spares_who_is_active() {
        let mut sources = Sources::default();
        let active = [u64::MAX, 1];
        sources.get(&active)[0].set(7);
        for i in 0..20 * SOURCES as u64 {
            sources.get(&[i, 2]);
            if i % 1000 == 0 {
                assert_eq!(sources.get(&active)[0].get(), 7, "forgotten after {i} others");
            }
        }
        assert!(sources.young.len() + sources.old.len() <= 2 * SOURCES);
    }

    #[test]
    fn a_hello_for_somebody_else_is_refused() {
        let mut gate = Gate::new([1, 2], Limits::default(), Secrets::default());
        let from = Endpoint::Ethernet { ifindex: 1, mac: [2; 6] };
        let mut hello = vec![0; 320];
        assert_eq!(gate.outermost(1, &from, &hello), Err(DropReason::BadLength));
        hello[0] = 1;
        assert_eq!(gate.outermost(1, &from, &hello), Err(DropReason::BadMac1));
        assert_eq!(gate.routed(1, 9, &hello), Err(DropReason::BadMac1));
    }
}
