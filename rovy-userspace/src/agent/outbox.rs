//! Messages of one turn that leave together: those to one endpoint as one system call, where the kernel can.

use std::io;
use std::ops::Range;

use crate::transport::Endpoint;

/// Messages that one call takes: `UDP_MAX_SEGMENTS` of older kernels.
const COUNT: usize = 64;
/// Bytes that one call takes: what a UDP datagram holds over IPv4.
const BYTES: usize = 65_507;
/// Bytes that wait at most.
const ALL: usize = 4 * BYTES;
/// Endpoints in doubt at one time, and for how long.
const DOUBTFUL: usize = 64;
const DOUBT_NS: u64 = 1_000_000_000;

/// Messages of one size to one endpoint; the last may be shorter.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) to: Endpoint,
    /// ECN of the underlay's IP header.
    pub(super) ecn: u8,
    /// Where they stand, one behind the other.
    pub(super) range: Range<usize>,
    /// Bytes of each.
    pub(super) size: usize,
    closed: bool,
}

impl Run {
    /// How many messages it has.
    pub(super) fn count(&self) -> usize {
        self.range.len().div_ceil(self.size.max(1))
    }

    fn takes(&self, to: &Endpoint, ecn: u8, len: usize) -> bool {
        let room = self.count() < COUNT && self.range.len() + len <= BYTES;
        !self.closed && room && len <= self.size && ecn == self.ecn && self.to == *to
    }
}

/// Messages that wait for the end of the turn.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Messages are to wait.
    pub(super) open: bool,
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Endpoints that something did not get to, until when.
    doubtful: Vec<(Endpoint, u64)>,
}

impl Outbox {
    /// Something did not get to this endpoint: for a while its messages wait no more, so that whoever sends one learns what
    /// becomes of it, and can tell whom it came from.
    pub(super) fn doubt(&mut self, now_ns: u64, to: Endpoint) {
        self.doubtful.retain(|(at, until)| *at != to && *until > now_ns);
        if self.doubtful.len() < DOUBTFUL {
            self.doubtful.push((to, now_ns + DOUBT_NS));
        }
    }

    /// Whether messages to an endpoint wait for the end of the turn.
    pub(super) fn takes(&self, now_ns: impl FnOnce() -> u64, to: &Endpoint) -> bool {
        let doubt = self.doubtful.iter().find(|(at, _)| at == to);
        self.open && doubt.is_none_or(|(_, until)| *until <= now_ns())
    }

    /// Appends a message behind those that wait. Messages to one endpoint stay in order.
    pub(super) fn push(&mut self, to: &Endpoint, ecn: u8, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        let end = self.bytes.len();
        match self.runs.last_mut().filter(|r| r.takes(to, ecn, message.len())) {
            Some(run) => {
                run.range.end = end;
                run.closed = message.len() < run.size;
            }
            None => {
                self.runs.push(Run {
                    to: *to,
                    ecn,
                    range: start..end,
                    size: message.len(),
                    closed: message.is_empty(),
                });
            }
        }
    }

    /// So much waits that it has to leave.
    pub(super) fn full(&self) -> bool {
        self.bytes.len() >= ALL
    }

    /// Sends what waits, and gives what failed to `lost`: the messages that were not sent, and why.
    pub(super) fn flush(
        &mut self,
        mut send: impl FnMut(&Run, &[u8]) -> Result<(), (usize, io::Error)>,
        mut lost: impl FnMut(&Run, usize, io::Error),
    ) {
        for run in self.runs.drain(..) {
            let bytes = self.bytes.get(run.range.clone()).unwrap_or_default();
            if let Err((count, error)) = send(&run, bytes) {
                lost(&run, count, error);
            }
        }
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to(port: u16) -> Endpoint {
        Endpoint::Udp { remote: ([192, 0, 2, 1], port).into(), local: None }
    }

    fn sent(outbox: &mut Outbox) -> Vec<(Endpoint, u8, Vec<Vec<u8>>)> {
        let mut all = Vec::new();
        let send = |run: &Run, bytes: &[u8]| {
            let messages = bytes.chunks(run.size.max(1)).map(<[u8]>::to_vec).collect();
            all.push((run.to, run.ecn, messages));
            Ok(())
        };
        outbox.flush(send, |_, _, _| unreachable!());
        all
    }

    #[test]
    fn what_may_not_arrive_does_not_wait() {
        let mut outbox = Outbox { open: true, ..Outbox::default() };
        outbox.doubt(5, to(1));
        assert!(!outbox.takes(|| 6, &to(1)) && outbox.takes(|| 6, &to(2)) && outbox.takes(|| 6 + DOUBT_NS, &to(1)));
        for port in 0..1000 {
            outbox.doubt(7, to(port));
        }
        assert_eq!(outbox.doubtful.len(), DOUBTFUL);
        outbox.open = false;
        assert!(!outbox.takes(|| 6, &to(2)));
    }

    #[test]
    fn what_goes_the_same_way_leaves_together() {
        let mut outbox = Outbox::default();
        for (port, ecn, len) in [(1, 0, 9), (1, 0, 9), (1, 0, 4), (1, 0, 9), (2, 0, 9), (2, 1, 9)] {
            outbox.push(&to(port), ecn, &vec![7; len]);
        }
        let counts: Vec<_> = sent(&mut outbox).iter().map(|(to, ecn, m)| (*to, *ecn, m.len())).collect();
        assert_eq!(counts, [(to(1), 0, 3), (to(1), 0, 1), (to(2), 0, 1), (to(2), 1, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_reordered(all in proptest::collection::vec((0u16..3, 0u8..2, 1usize..2000), 0..300)) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (i, (port, ecn, len)) in all.into_iter().enumerate() {
                let message = vec![i as u8; len];
                outbox.push(&to(port), ecn, &message);
                expected.push((to(port), ecn, message));
            }
            let mut out = Vec::new();
            for (to, ecn, messages) in sent(&mut outbox) {
                prop_assert!(messages.len() <= COUNT && messages.iter().map(Vec::len).sum::<usize>() <= BYTES);
                out.extend(messages.into_iter().map(|m| (to, ecn, m)));
            }
            prop_assert_eq!(out, expected);
        }
    }
}
