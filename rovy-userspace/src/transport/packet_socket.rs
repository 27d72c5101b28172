//! System calls of packet sockets, the only unsafe code of the transports.
