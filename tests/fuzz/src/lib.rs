//! Fuzz targets: functions that take any bytes and panic when something that must hold does not.
//!
//! `fuzz/` gives them to libFuzzer; `tests/corpus.rs` runs them over the inputs kept in `fuzz/corpus` with every test run.

mod command;
mod core;
mod dns;
mod errors;
mod files;
mod fragment;
mod gate;
mod handshake;
mod kernel;
mod keys;
mod offload;
mod payload;
mod session;
mod text;
mod wire;

pub use command::command;
pub use core::core;
pub use dns::dns;
pub use errors::errors;
pub use files::files;
pub use fragment::fragment;
pub use gate::gate;
pub use handshake::handshake;
pub use kernel::kernel;
pub use offload::offload;
pub use payload::payload;
pub use session::session;
pub use text::{config, http, text};
pub use wire::{packet, wire};

/// A target by its name, which is that of its directory in `fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 17] = [
    ("wire", wire),
    ("packet", packet),
    ("offload", offload),
    ("gate", gate),
    ("handshake", handshake),
    ("payload", payload),
    ("session", session),
    ("fragment", fragment),
    ("text", text),
    ("config", config),
    ("files", files),
    ("http", http),
    ("command", command),
    ("kernel", kernel),
    ("dns", dns),
    ("core", core),
    ("errors", errors),
];
