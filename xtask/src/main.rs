//! Setup, builds, demo, tests and benchmarks of rovy.

fn main() {}
