//! The protocol without I/O: time, randomness and packets come in as arguments, actions go out as values.
