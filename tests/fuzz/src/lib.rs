//! Fuzz targets: functions that take any bytes and panic when something that must hold does not.
//!
//! `fuzz/` gives them to libFuzzer; `tests/corpus.rs` runs them over the inputs kept in `fuzz/corpus` with every test run.

mod core;
mod handshake;
mod keys;
mod text;
mod wire;

pub use core::core;
pub use handshake::handshake;
pub use text::{config, http, text};
pub use wire::{packet, wire};

/// A target by its name, which is that of its directory in `fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 7] = [
    ("wire", wire),
    ("handshake", handshake),
    ("core", core),
    ("packet", packet),
    ("text", text),
    ("config", config),
    ("http", http),
];
