//! The `rovy` binary.

fn main() {}
