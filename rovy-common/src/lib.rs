//! What the kernel and the agent share, so that neither can disagree with the other: wire layouts,
//! the label switch, the hop protection, SipHash, drop reasons and the values of the BPF maps.
//!
//! Everything here is a pure function or plain data. The XDP programs, the userspace switch and the
//! tests run the very same [`hop::hop`]. `docs/protocol.md` is the normative text.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod count;
pub mod ecn;
pub mod encap;
pub mod hello;
pub mod hop;
pub mod label;
pub mod maps;
pub mod replay;
pub mod siphash;
pub mod wire;

pub use count::{Counter, DropReason, UpReason};
