//! Echo requests at a steady rate, each remembered by its number, so that losses can be told for any stretch of time.

use crate::Namespace;
use anyhow::{Context as _, Result, anyhow};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// ICMPv6 header, then our own 32 bit number: the 16 bits of ICMP would wrap in minutes.
const HEADER: usize = 12;

/// A running ping.
#[derive(Debug)]
pub struct Ping {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    echoes: Mutex<Vec<Echo>>,
}

#[derive(Clone, Copy, Debug)]
struct Echo {
    sent: Instant,
    rtt: Option<Duration>,
}

/// What became of a stretch of echo requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Requests sent, those included that the local stack refused.
    pub sent: u64,
    /// Requests answered.
    pub received: u64,
    /// Median round-trip time in µs of the answered ones, 0 when there are none.
    pub rtt_us_median: u64,
    /// The longest round-trip time in µs of the answered ones, 0 when there are none.
    pub rtt_us_longest: u64,
    /// The longest time in ms in which no request was answered.
    pub longest_gap_ms: u64,
}

impl Summary {
    /// Requests without an answer.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }

    fn of(echoes: &[Echo]) -> Self {
        let mut rtts: Vec<_> = echoes.iter().filter_map(|e| e.rtt).collect();
        rtts.sort_unstable();
        let median = rtts.get(rtts.len() / 2).copied().unwrap_or_default();
        // The ends of the stretch count as answered, so that losses there are a gap too.
        let ends = echoes.first().into_iter().chain(echoes.last());
        let mut answered: Vec<_> = echoes.iter().filter(|e| e.rtt.is_some()).chain(ends).map(|e| e.sent).collect();
        answered.sort_unstable();
        let gap = answered.iter().zip(answered.iter().skip(1)).map(|(a, b)| *b - *a).max().unwrap_or_default();
        Self {
            sent: echoes.len() as u64,
            received: rtts.len() as u64,
            rtt_us_median: median.as_micros() as u64,
            rtt_us_longest: rtts.last().copied().unwrap_or_default().as_micros() as u64,
            longest_gap_ms: gap.as_millis() as u64,
        }
    }
}

impl Shared {
    fn echoes(&self) -> MutexGuard<'_, Vec<Echo>> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ping {
    /// Pings `to` from `ns`, one request every `interval`, `payload` bytes after the ICMPv6 header (at least 4).
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(ns: &Namespace, to: Ipv6Addr, interval: Duration, payload: usize) -> Result<Self> {
        let socket = ns
            .enter(|| Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)))?
            .context("cannot open a raw ICMPv6 socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let reader = socket.try_clone()?;
        let id = (crate::scratch::number() as u16).to_be_bytes();
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), echoes: Mutex::default() });
        let (s, r) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || send(&socket, to, interval, payload.max(4), id, &s)),
            std::thread::spawn(move || receive(&reader, id, &r)),
        ];
        Ok(Self { shared, threads })
    }

    /// The number of the next request: the end of one stretch and the beginning of the next.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.echoes().len()
    }

    /// What became of the requests `from..to`, as far as it is known now.
    #[must_use]
    pub fn summary(&self, from: usize, to: usize) -> Summary {
        Summary::of(self.shared.echoes().get(from..to).unwrap_or_default())
    }

    /// The number of the first request that is not older than `age`: the end of a stretch whose answers are in.
    #[must_use]
    pub fn settled_mark(&self, age: Duration) -> usize {
        self.shared.echoes().iter().take_while(|e| e.sent.elapsed() > age).count()
    }

    /// Stops sending, waits up to `grace` for late answers, and returns what became of all requests.
    ///
    /// # Errors
    /// When a thread panicked.
    pub fn finish(mut self, grace: Duration) -> Result<Summary> {
        let start = Instant::now();
        // The sender is the first thread; without it the answers can only catch up.
        let all = {
            self.shared.stop.store(true, Ordering::Relaxed);
            self.threads.remove(0).join().map_err(|_| anyhow!("the sending thread panicked"))?;
            self.mark()
        };
        while start.elapsed() < grace && self.summary(0, all).lost() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(self.summary(0, all))
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether one echo request is answered within `timeout`.
///
/// # Errors
/// When the socket cannot be made.
pub fn once(ns: &Namespace, to: Ipv6Addr, timeout: Duration) -> Result<bool> {
    let ping = Ping::start(ns, to, Duration::from_millis(100), 56)?;
    let start = Instant::now();
    while start.elapsed() < timeout {
        crate::wait::check()?;
        if ping.summary(0, ping.mark()).received > 0 {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

fn send(socket: &Socket, to: Ipv6Addr, interval: Duration, payload: usize, id: [u8; 2], shared: &Shared) {
    let to = SocketAddr::from((to, 0)).into();
    let mut packet = vec![0; HEADER - 4 + payload];
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let seq = {
            let mut echoes = shared.echoes();
            echoes.push(Echo { sent: Instant::now(), rtt: None });
            echoes.len() as u32 - 1
        };
        // The kernel fills in the checksum.
        packet[..4].copy_from_slice(&[ECHO_REQUEST, 0, 0, 0]);
        packet[4..6].copy_from_slice(&id);
        packet[6..8].copy_from_slice(&(seq as u16).to_be_bytes());
        packet[8..HEADER].copy_from_slice(&seq.to_be_bytes());
        // A refusal of the local stack is a lost ping like any other.
        let _ = socket.send_to(&packet, &to);
        // A sender that was not scheduled for a while does not catch up with a burst.
        next = (next + interval).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn receive(mut socket: &Socket, id: [u8; 2], shared: &Arc<Shared>) {
    let mut buffer = [0; 2048];
    // Lives on until the last answer could matter to anybody: the owner and the sender are gone.
    while !(shared.stop.load(Ordering::Relaxed) && Arc::strong_count(shared) == 1) {
        let Ok(n) = socket.read(&mut buffer) else { continue };
        let Some(packet) = buffer.get(..n).filter(|p| p.len() >= HEADER && p[0] == ECHO_REPLY && p[4..6] == id) else {
            continue;
        };
        let seq = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        if let Some(echo) = shared.echoes().get_mut(seq as usize) {
            let rtt = echo.sent.elapsed();
            echo.rtt.get_or_insert(rtt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_losses_and_the_longest_gap() {
        let start = Instant::now();
        let echo = |ms: u64, rtt: Option<u64>| Echo {
            sent: start + Duration::from_millis(ms),
            rtt: rtt.map(Duration::from_micros),
        };
        let echoes = [echo(0, Some(100)), echo(10, None), echo(20, Some(300)), echo(30, Some(200))];
        let s = Summary::of(&echoes);
        assert_eq!(s, Summary { sent: 4, received: 3, rtt_us_median: 200, rtt_us_longest: 300, longest_gap_ms: 20 });
        assert_eq!(s.lost(), 1);
        let all_lost = [echo(0, None), echo(10, None), echo(50, None)];
        assert_eq!(Summary::of(&all_lost).longest_gap_ms, 50);
        assert_eq!(Summary::of(&[]), Summary::default());
    }
}
