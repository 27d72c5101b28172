//! The sockets of the underlay: UDP and raw Ethernet.
