//! A TCP stream between two namespaces whose every byte is checked where it arrives.

use crate::Namespace;
use anyhow::{Context as _, Result, anyhow, bail};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Length of the pattern the stream repeats: prime, so that no segment or block size divides it.
const PATTERN: usize = 65_521;

/// The port that streams into an agent's network go to, as `fc00.allow` has it: nothing comes in by itself.
pub const SERVICE: &str = "/tcp/5201";

/// A running stream.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<std::io::Result<()>>>,
    receiver: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// The sender is through; a receiver that left before it would break the connection.
    sent: AtomicBool,
    /// Bytes a second, 0 for as fast as it goes.
    rate: AtomicU64,
    received: AtomicU64,
}

impl Stream {
    /// Listens on `[to]:port` in `receiver` and streams to it from `sender` until [`Stream::finish`].
    ///
    /// # Errors
    /// When the address cannot be bound or the connection is not established within ten seconds.
    pub fn start(sender: &Namespace, receiver: &Namespace, to: Ipv6Addr, port: u16) -> Result<Self> {
        let at = SocketAddr::from((to, port));
        let listener = receiver.enter(|| TcpListener::bind(at))?.with_context(|| format!("cannot listen on {at}"))?;
        let out = sender
            .enter(|| TcpStream::connect_timeout(&at, Duration::from_secs(10)))?
            .with_context(|| format!("cannot connect to {at} from {}", sender.name()))?;
        let (input, _) = listener.accept()?;
        out.set_write_timeout(Some(Duration::from_millis(100)))?;
        input.set_read_timeout(Some(Duration::from_millis(100)))?;
        let shared = Arc::new(Shared::default());
        let (s, r) = (Arc::clone(&shared), Arc::clone(&shared));
        Ok(Self {
            sender: Some(std::thread::spawn(move || send(out, &s))),
            receiver: Some(std::thread::spawn(move || receive(input, &r))),
            shared,
        })
    }

    /// Bytes that have arrived.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Limits the sender to `bytes_s` bytes a second; `None` for as fast as it goes.
    pub fn limit(&self, bytes_s: Option<u64>) {
        self.shared.rate.store(bytes_s.unwrap_or(0), Ordering::Relaxed);
    }

    /// Ends the stream and returns the number of bytes that arrived.
    ///
    /// # Errors
    /// When the connection broke or bytes arrived that were not sent like that.
    pub fn finish(mut self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let sent = sender.join();
            self.shared.sent.store(true, Ordering::Relaxed);
            sent.map_err(|_| anyhow!("the sending thread panicked"))?.context("the TCP stream broke")?;
        }
        if let Some(receiver) = self.receiver.take() {
            receiver.join().map_err(|_| anyhow!("the receiving thread panicked"))??;
        }
        Ok(self.bytes())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.sent.store(true, Ordering::Relaxed);
    }
}

/// Twice the pattern: any `PATTERN` bytes of the stream are one slice of it.
fn pattern() -> Vec<u8> {
    let mut x = 0x9e37_79b9_u32;
    let mut once = Vec::with_capacity(2 * PATTERN);
    once.resize_with(PATTERN, || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as u8
    });
    once.extend_from_within(..);
    once
}

fn send(mut out: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let pattern = pattern();
    let (mut at, mut due) = (0, Instant::now());
    while !shared.stop.load(Ordering::Relaxed) {
        let rate = shared.rate.load(Ordering::Relaxed);
        let chunk = if rate == 0 { PATTERN } else { 16 * 1024 };
        match out.write(&pattern[at..at + chunk]) {
            Ok(n) => {
                at = (at + n) % PATTERN;
                if rate > 0 {
                    due = due.max(Instant::now()) + Duration::from_secs_f64(n as f64 / rate as f64);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn receive(mut input: TcpStream, shared: &Shared) -> Result<()> {
    let pattern = pattern();
    let mut buffer = vec![0; PATTERN];
    let mut at = 0;
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                // What is still on its way when the sender stops is not waited for.
                if shared.sent.load(Ordering::Relaxed) {
                    return Ok(());
                }
                continue;
            }
            Err(e) => return Err(e).context("the TCP stream broke"),
        };
        if buffer[..n] != pattern[at..at + n] {
            bail!("the TCP stream is corrupt after {} bytes", shared.received.load(Ordering::Relaxed));
        }
        at = (at + n) % PATTERN;
        shared.received.fetch_add(n as u64, Ordering::Relaxed);
    }
}
