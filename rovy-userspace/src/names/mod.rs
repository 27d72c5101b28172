//! Names for nodes: petnames, the file they stand in, and how a peer is named on the command line.

mod file;
mod node;
mod petname;
mod whom;

pub use file::{MOST, Names, NamesError, Warning};
pub use node::NodeName;
pub use petname::{DOMAIN, PEER_ID_PREFIX, Petname, PetnameError};
pub use whom::{Whom, WhomError};
