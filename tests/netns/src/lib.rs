//! Network namespaces with real devices, real agents and real traffic: for root tests, demo and benchmarks.
//!
//! What is built here is taken down on drop, in reverse order, and [`namespace::sweep`] removes what a killed
//! process left behind. Nothing outside the namespaces is touched.

pub mod agent;
pub mod capture;
pub mod command;
pub mod count;
pub mod device;
pub mod flood;
pub mod line;
pub mod names;
pub mod namespace;
pub mod net;
pub mod pcap;
pub mod ping;
pub mod process;
pub mod resolved;
pub mod row;
pub mod scratch;
pub mod skip;
pub mod stream;
pub mod traffic;
pub mod wait;

pub use agent::{Agent, Config};
pub use capture::Capture;
pub use line::{Line, Link, Mode};
pub use namespace::Namespace;
pub use net::{Cables, Net};
pub use row::{Row, Segment};
