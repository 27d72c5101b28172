//! Tells systemd-resolved about the TUN device, where it runs. What it is told goes with the device.

use std::time::{Duration, Instant};

use super::engine::{Engine, Shared};
use crate::fc00::resolver::{resolved_runs, settings, tell_resolved};

/// How often the device is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long after nobody was there it is tried again: systemd-resolved may start later.
const AGAIN: Duration = Duration::from_secs(30);

/// Looks after it for as long as the agent runs.
pub(super) async fn keep(engine: Shared) {
    // What systemd-resolved takes from root it takes from nobody else.
    if !rustix::process::geteuid().is_root() || !engine.borrow().names.serves() {
        return;
    }
    let mut told = None;
    let mut next = Instant::now();
    loop {
        // systemd-resolved knows the devices of its own network namespace.
        let device = here(&engine.borrow());
        if device.is_none() {
            told = None;
            next = Instant::now();
        } else if device != told
            && Instant::now() >= next
            && let Some((name, _)) = &device
        {
            next = Instant::now() + AGAIN;
            match resolved_runs() {
                Ok(true) => {
                    tell(name).await;
                    told = device;
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "cannot tell whether systemd-resolved runs"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Name and table of the device, where it is in the agent's network namespace.
fn here(engine: &Engine) -> Option<(String, Option<u32>)> {
    engine.host.device().filter(|d| d.netns.is_none()).map(|d| (d.name.to_owned(), d.table))
}

async fn tell(ifname: &str) {
    match tell_resolved(ifname).await {
        Ok(()) => {
            tracing::info!(ifname, "systemd-resolved asks this agent for names under .rovy, until the device goes")
        }
        Err(error) => {
            let next = settings(ifname).map(|words| format!("resolvectl {}", words.join(" "))).join("; ");
            tracing::warn!(%error, next, "systemd-resolved does not ask for names under .rovy");
        }
    }
}
