//! The userspace switch: the same hop function as the kernel's over tables in the agent's memory. It switches
//! what the kernel hands up, and everything where there is no XDP.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rovy_common::hop::{self, Message, Place, Verdict};
use rovy_common::label::{Label, Width};
use rovy_common::maps::{RxLink, SlotStats, TransitRate, TxLink, tx_flag};
use rovy_common::replay::{WORDS, Window, Words};
use rovy_common::wire::{FLAG_LONG_LABEL, INNER_MIN, MessageType, VERSION};
use rovy_common::{Counter, DropReason};

use rates::{Rates, Spent};
pub use refused::{Start, tell};
pub use sealed::{Sealing, originate, pass_sealed, seal};

use super::xdp::{Windows, Xdp, XdpError};
use super::{Dataplane, Seen};
use crate::core::{Hops, wipe};
use crate::transport::Endpoint;

mod rates;
mod refused;
mod sealed;

/// The counters of type 6: two for each slot, drawn by atomic adds.
pub trait Counters: Send + Sync {
    /// The next value of counter `i`, `None` when there is no such counter.
    fn draw(&self, i: u32) -> Option<u64>;
    /// The value that would be drawn next.
    fn peek(&self, i: u32) -> Option<u64>;
    /// Starts counter `i` at zero, for new keys.
    fn reset(&self, i: u32);
}

impl Counters for super::xdp::Counters {
    fn draw(&self, i: u32) -> Option<u64> {
        Self::draw(self, i)
    }
    fn peek(&self, i: u32) -> Option<u64> {
        Self::peek(self, i)
    }
    fn reset(&self, i: u32) {
        Self::reset(self, i);
    }
}

/// Counters of a node whose kernel takes no part.
struct Own(Box<[AtomicU64]>);

impl Counters for Own {
    fn draw(&self, i: u32) -> Option<u64> {
        self.0.get(i as usize).map(|c| c.fetch_add(1, Ordering::Relaxed))
    }
    fn peek(&self, i: u32) -> Option<u64> {
        self.0.get(i as usize).map(|c| c.load(Ordering::Relaxed))
    }
    fn reset(&self, i: u32) {
        if let Some(c) = self.0.get(i as usize) {
            c.store(0, Ordering::Relaxed);
        }
    }
}

/// Where a link's counters are marked: in the kernel's window where there is one, so that a message counts once whichever
/// way it comes.
pub enum Marks {
    /// A window of our own.
    Own(Box<Window>),
    /// The kernel's, at this receiver index.
    Kernel(Arc<Windows>, u32),
}

impl Words for Marks {
    fn load(&self, i: usize) -> u64 {
        match self {
            Self::Own(window) => window.load(i),
            Self::Kernel(windows, index) => windows.load(*index, i),
        }
    }
    fn exchange(&self, i: usize, old: u64, new: u64) -> bool {
        match self {
            Self::Own(window) => window.exchange(i, old, new),
            Self::Kernel(windows, index) => windows.exchange(*index, i, old, new),
        }
    }
}

struct Receiving {
    link: RxLink,
    marks: Marks,
    endpoint: Endpoint,
}

/// The links of this node.
pub struct Tables {
    width: Width,
    rx: BTreeMap<u32, Receiving>,
    tx: BTreeMap<u16, (TxLink, Endpoint)>,
    rates: Rates,
    stats: BTreeMap<u16, SlotStats>,
    counters: Arc<dyn Counters>,
    windows: Option<Arc<Windows>>,
    counts: [u64; 64],
    now_ns: u64,
}

/// What became of a transit message.
#[derive(Debug)]
pub enum Switched {
    /// Send the message, as it stands now at this range, to the endpoint.
    Forward(Endpoint, Range<usize>),
    /// The next link is sealed.
    Seal(Sealing),
    /// It was dropped for this reason, and its sender may be told: it was authentic and new.
    Refused(DropReason),
    /// The inner message, at this range, is for this node; the way back starts with the slot.
    Here {
        /// Where the inner message stands.
        inner: Range<usize>,
        /// The link it came over.
        slot: u16,
        /// The rest of the way back.
        hops: Hops,
    },
}

impl Switched {
    /// What is for this node, with the way back.
    fn here<const W: usize>(label: &Label<W>, inner: Range<usize>, slot: u16) -> Result<Self, DropReason> {
        let mut back = [0; 30];
        let n = label.way_back(&mut back).ok_or(DropReason::BadLabel)?;
        let hops = Hops::try_from(&back[..n]).map_err(|_| DropReason::BadLabel)?;
        Ok(Self::Here { inner, slot, hops })
    }
}

impl Tables {
    /// Empty tables that share counters and replay windows with the kernel, where it takes part.
    #[must_use]
    pub fn new(width: Width, kernel: Option<&Xdp>) -> Self {
        let own = || Arc::new(Own((0..2 * width.slots()).map(|_| AtomicU64::new(0)).collect()));
        let counters = kernel.map(|x| x.counters() as Arc<dyn Counters>);
        Self {
            width,
            rx: BTreeMap::new(),
            tx: BTreeMap::new(),
            rates: Rates::new(kernel.map(Xdp::buckets)),
            stats: BTreeMap::new(),
            counters: counters.unwrap_or_else(|| own()),
            windows: kernel.map(Xdp::windows),
            counts: [0; 64],
            now_ns: 0,
        }
    }

    /// Has the kernel take part from now on: it learns every link, and goes on with the counters and windows as they stand, which
    /// are shared then. No device carries its program yet.
    ///
    /// # Errors
    /// A map cannot be written; the tables stay as they were.
    pub fn share(&mut self, kernel: &mut Xdp) -> Result<(), XdpError> {
        let (windows, counters) = (kernel.windows(), kernel.counters());
        for (index, r) in &self.rx {
            kernel.set_rx(*index, &r.link)?;
            for i in 0..WORDS {
                windows.store(*index, i, r.marks.load(i));
            }
        }
        for i in 0..2 * self.width.slots() {
            counters.start_at(i, self.counters.peek(i).unwrap_or(0));
        }
        for (slot, (tx, _)) in &self.tx {
            kernel.set_tx(*slot, tx)?;
        }
        for (slot, rate) in self.rates.all() {
            kernel.set_rate(slot, rate)?;
        }
        self.rates.share(kernel.buckets());
        for (index, r) in &mut self.rx {
            r.marks = Marks::Kernel(windows.clone(), *index);
        }
        (self.windows, self.counters) = (Some(windows), counters);
        Ok(())
    }

    /// Where the counters are.
    #[must_use]
    pub fn counters(&self) -> &dyn Counters {
        &*self.counters
    }

    /// The sending side of a slot as it stands.
    #[must_use]
    pub fn transmit(&self, slot: u16) -> Option<&(TxLink, Endpoint)> {
        self.tx.get(&slot)
    }

    /// All slots that send.
    pub fn transmitting(&self) -> impl Iterator<Item = (&TxLink, &Endpoint)> {
        self.tx.values().map(|(tx, e)| (tx, e))
    }

    /// All receiver indices.
    pub fn receiving(&self) -> impl Iterator<Item = (&RxLink, &Endpoint)> {
        self.rx.values().map(|r| (&r.link, &r.endpoint))
    }

    /// The endpoint a link is known at.
    #[must_use]
    pub fn endpoint(&self, index: u32) -> Option<&Endpoint> {
        self.rx.get(&index).map(|r| &r.endpoint)
    }

    /// Counts one event.
    pub fn count(&mut self, counter: Counter) {
        self.counts[counter.index() as usize] += 1;
    }

    /// Counts what was refused of a link by the policy for its neighbour.
    fn refused(&mut self, slot: u16, reason: DropReason) {
        if matches!(reason, DropReason::NotAllowed | DropReason::RateLimited) {
            self.stats.entry(slot).or_default().refused_packets += 1;
        }
    }

    /// Switches a transit message in place. `now_ns` is the monotonic clock.
    ///
    /// # Errors
    /// The reason it was dropped for; it is not counted yet.
    pub fn switch(&mut self, now_ns: u64, message: &mut [u8]) -> Result<Switched, DropReason> {
        self.now_ns = now_ns;
        if message.get(1).is_some_and(|flags| flags & FLAG_LONG_LABEL != 0) {
            self.switch_as::<4>(message)
        } else {
            self.switch_as::<2>(message)
        }
    }

    fn switch_as<const W: usize>(&mut self, message: &mut [u8]) -> Result<Switched, DropReason> {
        let m = Message::<W>::read(message).ok_or(DropReason::BadLength)?;
        let from = self.rx.get(&m.index()).ok_or(DropReason::UnknownIndex)?;
        let rx = from.link;
        let verdict = hop::hop(&*self, self.width, Place::Agent, &rx, &m);
        let bytes = message.len() as u64;
        match verdict {
            Verdict::Drop(reason) => {
                self.refused(rx.slot, reason);
                Err(reason)
            }
            Verdict::Refused(reason) => {
                self.refused(rx.slot, reason);
                Ok(Switched::Refused(reason))
            }
            // Only the kernel hands up.
            Verdict::Up(_) => Err(DropReason::Malformed),
            Verdict::Here(label) => {
                let here = Switched::here(&label, Message::<W>::HEAD..message.len(), rx.slot)?;
                let stats = self.stats.entry(rx.slot).or_default();
                stats.rx_packets += 1;
                stats.rx_bytes += bytes;
                Ok(here)
            }
            Verdict::Seal(tx, label) => {
                let slot = tx.slot as u16;
                let to = self.tx.get(&slot).map(|t| t.1).ok_or(DropReason::EgressDown)?;
                let inner = Message::<W>::HEAD..message.len();
                let sealing = Sealing::put(slot, to, &label, message, inner)?;
                let stats = self.stats.entry(rx.slot).or_default();
                stats.rx_packets += 1;
                stats.rx_bytes += bytes;
                Ok(Switched::Seal(sealing))
            }
            Verdict::Forward(tx, out) => {
                let slot = tx.slot as u16;
                let endpoint = self.tx.get(&slot).map(|t| t.1).ok_or(DropReason::EgressDown)?;
                out.write(message).ok_or(DropReason::BadLength)?;
                let stats = self.stats.entry(rx.slot).or_default();
                stats.rx_packets += 1;
                stats.rx_bytes += bytes;
                let stats = self.stats.entry(slot).or_default();
                stats.tx_packets += 1;
                stats.tx_bytes += bytes;
                self.count(Counter::Forwarded);
                Ok(Switched::Forward(endpoint, 0..message.len()))
            }
        }
    }

    /// Puts a transit header in front of `buf[inner]`. Where the whole message stands, and where it goes.
    ///
    /// # Errors
    /// `NoSlot`, `Expired`, `EgressDown`, `NotAllowed` on a sealed link, or `TooBig` without room in front of the message.
    pub fn originate(
        &mut self,
        now_ns: u64,
        slot: u16,
        hops: &[u8],
        buf: &mut [u8],
        inner: Range<usize>,
    ) -> Result<(Range<usize>, Endpoint), DropReason> {
        if hops.len() <= Label::<2>::CAPACITY {
            self.originate_as::<2>(now_ns, slot, hops, buf, inner)
        } else {
            self.originate_as::<4>(now_ns, slot, hops, buf, inner)
        }
    }

    fn originate_as<const W: usize>(
        &mut self,
        now_ns: u64,
        slot: u16,
        hops: &[u8],
        buf: &mut [u8],
        inner: Range<usize>,
    ) -> Result<(Range<usize>, Endpoint), DropReason> {
        let (tx, endpoint) = self.tx.get(&slot).ok_or(DropReason::NoSlot)?;
        if now_ns >= tx.expires_ns {
            return Err(DropReason::Expired);
        }
        if tx.flags & tx_flag::SEALED != 0 {
            return Err(DropReason::NotAllowed);
        }
        let label = Label::<W>::from_route(hops).ok_or(DropReason::BadLabel)?;
        let start = inner.start.checked_sub(Message::<W>::HEAD).ok_or(DropReason::TooBig)?;
        let length = u16::try_from(inner.end - start).map_err(|_| DropReason::TooBig)?;
        let bytes = buf.get_mut(start..inner.end).ok_or(DropReason::TooBig)?;
        if bytes.len() < Message::<W>::HEAD + INNER_MIN {
            return Err(DropReason::BadLength);
        }
        let flags = VERSION | if W == 4 { FLAG_LONG_LABEL } else { 0 };
        let [l0, l1] = length.to_le_bytes();
        let head0 = u64::from(u32::from_le_bytes([MessageType::Transit as u8, flags, l0, l1]));
        let read = Message::<W>::read(bytes).ok_or(DropReason::BadLength)?;
        let counter = self.counters.draw(tx.counter).ok_or(DropReason::EgressDown)?;
        let sealed = hop::seal(&tx.keys, tx.index, counter, head0, &label, read.inner);
        let endpoint = *endpoint;
        sealed.write(bytes).ok_or(DropReason::BadLength)?;
        let stats = self.stats.entry(slot).or_default();
        stats.tx_packets += 1;
        stats.tx_bytes += u64::from(length);
        Ok((start..inner.end, endpoint))
    }
}

impl hop::Tables for Tables {
    type Window = Marks;
    type Bucket<'a> = Spent<'a>;
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn rx(&self, index: u32) -> Option<&RxLink> {
        self.rx.get(&index).map(|r| &r.link)
    }
    fn window(&self, index: u32) -> Option<&Marks> {
        self.rx.get(&index).map(|r| &r.marks)
    }
    fn tx(&self, slot: u16) -> Option<&TxLink> {
        self.tx.get(&slot).map(|t| &t.0)
    }
    fn draw(&self, counter: u32) -> Option<u64> {
        self.counters.draw(counter)
    }
    fn afford_refused(&self, _: u16) -> bool {
        // The core has its own budget, of what it sends.
        true
    }
    fn rate(&self, slot: u16) -> Option<(&TransitRate, Spent<'_>)> {
        self.rates.get(slot)
    }
}

impl Dataplane for Tables {
    type Error = Infallible;

    fn set_receive(&mut self, rx: &RxLink, endpoint: Endpoint) -> Result<(), Infallible> {
        let marks = || match &self.windows {
            Some(windows) => Marks::Kernel(windows.clone(), rx.index),
            None => Marks::Own(Box::new(Window::new())),
        };
        let r = self.rx.entry(rx.index).or_insert_with(|| Receiving { link: *rx, marks: marks(), endpoint });
        (r.link, r.endpoint) = (*rx, endpoint);
        Ok(())
    }

    fn clear_receive(&mut self, index: u32) -> Result<Option<Seen>, Infallible> {
        let gone = self.rx.get_mut(&index).map(|r| {
            wipe(&mut r.link.keys);
            Box::new(std::array::from_fn(|i| r.marks.load(i)))
        });
        self.rx.remove(&index);
        Ok(gone)
    }

    fn set_transmit(&mut self, tx: &TxLink, endpoint: Endpoint) -> Result<(), Infallible> {
        self.clear_transmit(tx.slot as u16)?;
        self.tx.insert(tx.slot as u16, (*tx, endpoint));
        Ok(())
    }

    fn clear_transmit(&mut self, slot: u16) -> Result<(), Infallible> {
        if let Some((tx, _)) = self.tx.get_mut(&slot) {
            wipe(&mut tx.keys);
        }
        self.tx.remove(&slot);
        Ok(())
    }

    fn set_rate(&mut self, slot: u16, rate: &TransitRate) -> Result<(), Infallible> {
        self.rates.set(slot, rate);
        Ok(())
    }

    fn counts(&self) -> Result<[u64; 64], Infallible> {
        Ok(self.counts)
    }

    fn slot_stats(&self, slot: u16) -> Result<SlotStats, Infallible> {
        Ok(self.stats.get(&slot).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
