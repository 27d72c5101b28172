//! What travels on a device, message by message, as a packet socket sees it.

use crate::Namespace;
use anyhow::{Context as _, Result, anyhow, bail};
use pnet::datalink::{self, Channel, DataLinkReceiver};
use rovy_common::wire::{ETHERTYPE, MessageType, check_bytes};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Frames that are kept, at most.
const FRAMES: usize = 100_000;

/// A frame with a rovy message.
#[derive(Clone, Debug)]
pub struct Frame {
    /// All of it, from the destination MAC address on.
    pub bytes: Vec<u8>,
    /// What kind of message it carries.
    pub kind: MessageType,
    /// Bytes of the message.
    pub length: usize,
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Frame>>>>,
}

impl Capture {
    /// Begins to take note of the messages on `interface`, in both directions.
    ///
    /// # Errors
    /// When there is no such interface or packet socket.
    pub fn start(ns: &Namespace, interface: &str) -> Result<Self> {
        let receiver = ns.enter(|| {
            let found =
                datalink::interfaces().into_iter().find(|i| i.name == interface).context("no such interface")?;
            let config = datalink::Config { read_timeout: Some(Duration::from_millis(50)), ..Default::default() };
            match datalink::channel(&found, config)? {
                Channel::Ethernet(_, receiver) => Ok(receiver),
                _ => bail!("{interface} is no Ethernet device"),
            }
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Ok(Self { stop, thread: Some(std::thread::spawn(move || listen(receiver, &stopped))) })
    }

    /// Ends it: the frames, in the order in which they came.
    ///
    /// # Errors
    /// When the device went away, or when there was more than is kept.
    pub fn finish(mut self) -> Result<Vec<Frame>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("ended before")?;
        thread.join().map_err(|_| anyhow!("the capturing thread panicked"))?
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn listen(mut receiver: Box<dyn DataLinkReceiver>, stop: &AtomicBool) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match receiver.next() {
            Ok(bytes) => frames.extend(read(bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return Err(e.into()),
        }
        if frames.len() > FRAMES {
            bail!("more than {FRAMES} frames");
        }
    }
    Ok(frames)
}

/// The message in a frame, over Ethernet or UDP from or to the usual port.
fn read(frame: &[u8]) -> Option<Frame> {
    let be16 = |at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let ports = |at: usize| be16(at) == Some(1312) || be16(at + 2) == Some(1312);
    let (message, exact) = match be16(12)? {
        ETHERTYPE => (frame.get(14..)?, false),
        0x0800 if frame.get(23) == Some(&17) && ports(34) => (frame.get(42..)?, true),
        0x86dd if frame.get(20) == Some(&17) && ports(54) => (frame.get(62..)?, true),
        _ => return None,
    };
    let (kind, length) = check_bytes(message, exact).ok()?;
    Some(Frame { bytes: frame.to_vec(), kind, length })
}
