//! What the kernel knows of interfaces, addresses and next hops.
