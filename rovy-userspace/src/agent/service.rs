//! What a service manager is told (sd_notify(3)): that the agent is ready, that it lives, that it ends. Without one, nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The listeners and the control socket are there, and what a former agent left is taken over.
pub(super) fn ready(listeners: usize) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("{listeners} listeners"))]);
}

/// The agent ends. A manager that knows does not take it for hung.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells that the packet thread lives, twice within the time after which the manager would end it.
pub(super) async fn live() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}
