//! The host's side of fc00::/8: TUN device, addresses, routes.
