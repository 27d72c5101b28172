//! The running agent: one thread moves packets between sockets, TUN, core and dataplane; another serves the API.
