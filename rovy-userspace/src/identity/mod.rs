//! Keys and what follows from them: PeerID, address, keyfile.
