//! Where transit happens: in the kernel (XDP) and, for what the kernel hands up, in the agent.
//!
//! Both are told the same links through one trait, so that a packet is switched alike wherever it is.

mod gate;
mod tables;
mod wire;
pub mod xdp;

pub use gate::{Admission, Gate, Reply};
pub use tables::{Counters, Sealing, Start, Switched, Tables, originate, pass_sealed, seal, tell};
pub use wire::{Wire, endpoint_of};

use rovy_common::maps::{RxLink, SlotStats, TransitRate, TxLink};
use rovy_common::replay::WORDS;

use crate::transport::Endpoint;

/// What a replay window has seen, as its words.
pub type Seen = Box<[u64; WORDS]>;

/// A place that switches transit by links it is told.
pub trait Dataplane {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Accepts transit on `rx.index` from now on, or updates what is known of it. A new index starts with an empty window.
    ///
    /// # Errors
    /// The table cannot be written.
    fn set_receive(&mut self, rx: &RxLink, endpoint: Endpoint) -> Result<(), Self::Error>;

    /// Ends a receiver index. What its window has seen, when it was there.
    ///
    /// # Errors
    /// The table cannot be written.
    fn clear_receive(&mut self, index: u32) -> Result<Option<Seen>, Self::Error>;

    /// Sends over `tx.slot` by this entry from now on. Never half of the old entry and half of the new.
    ///
    /// # Errors
    /// The table cannot be written.
    fn set_transmit(&mut self, tx: &TxLink, endpoint: Endpoint) -> Result<(), Self::Error>;

    /// Ends a slot.
    ///
    /// # Errors
    /// The table cannot be written.
    fn clear_transmit(&mut self, slot: u16) -> Result<(), Self::Error>;

    /// Sends on from now on at most so much of what comes over a slot by links with
    /// [`LIMITED`](rovy_common::maps::rx_flag::LIMITED). A bucket whose rate changes is full again.
    ///
    /// # Errors
    /// The table cannot be written.
    fn set_rate(&mut self, slot: u16, rate: &TransitRate) -> Result<(), Self::Error>;

    /// Counters by [`rovy_common::Counter::index`].
    ///
    /// # Errors
    /// The table cannot be read.
    fn counts(&self) -> Result<[u64; 64], Self::Error>;

    /// Traffic of a slot.
    ///
    /// # Errors
    /// The table cannot be read.
    fn slot_stats(&self, slot: u16) -> Result<SlotStats, Self::Error>;
}
