//! What the agent may do: as little as it needs, for good, before it has a second thread or a packet.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What sockets, TUN, routes, and XDP need while the agent runs.
pub const KEPT: CapabilitySet =
    CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW).union(CapabilitySet::BPF).union(CapabilitySet::PERFMON);

/// Capabilities a kernel can have: bits of a word.
const CAPABILITIES: u32 = 64;

/// Gives every capability but [`KEPT`] up, and the way to get any back. Threads started later have no more; those that run
/// already keep what they have, so this comes first.
///
/// # Errors
/// What the kernel refused. A process that never had capabilities succeeds.
pub fn give_up() -> Result<(), Errno> {
    set_no_new_privs(true)?;
    // Only with CAP_SETPCAP. Without it nothing outside the set can be got either: no_new_privs holds.
    if let Err(error) = shrink_bounding_set() {
        tracing::debug!(%error, "the bounding set of capabilities stays as it is");
    }
    clear_ambient_capability_set()?;
    let has = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: has.permitted & KEPT,
            permitted: has.permitted & KEPT,
            inheritable: CapabilitySet::empty(),
        },
    )
}

fn shrink_bounding_set() -> Result<(), Errno> {
    for bit in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(one) {
            Ok(true) if !KEPT.contains(one) => remove_capability_from_bounding_set(one)?,
            Ok(_) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps the memory with the keys out of core dumps and from debuggers of the same user.
///
/// # Errors
/// What the kernel refused.
pub fn hide_memory() -> Result<(), Errno> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
