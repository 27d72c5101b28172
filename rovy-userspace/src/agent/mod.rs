//! The running agent: one thread moves packets between sockets, TUN, core and dataplane; another serves the API.

mod options;

pub use options::Options;

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn run(options: Options) -> anyhow::Result<()> {
    anyhow::bail!("the agent of {} cannot run yet", options.secret.peer_id())
}
