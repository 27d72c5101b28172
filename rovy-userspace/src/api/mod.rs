//! HTTP over a unix socket: the server, the client and the JSON types of both.
