//! Multiaddrs and routes as text.
