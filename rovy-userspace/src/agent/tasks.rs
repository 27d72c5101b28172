//! What runs beside the readers on the packet thread: timers, watching the host, commands, the end.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use rovy_common::maps::Secrets;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use super::commands::Control;
use super::engine::Shared;
use super::linker::{self, NextHop};
use super::{REQUESTS, book, clock, memory, service, tun};
use crate::api::Request;
use crate::netlink::{Change, watch};

/// How often devices are asked whether they transmit redirected frames, and down listeners are tried.
const PROBE: Duration = Duration::from_secs(1);
/// How often peers that should be connected get their names resolved anew.
const REDIAL: u32 = 30;
/// How often the kernel is reminded that next hops are in use: what it forwards by itself does not count for it, and a
/// MAC address nobody uses is never checked.
const CONFIRM: Duration = Duration::from_secs(5);
/// Notices of the kernel come in bursts: how long to gather them.
const GATHER: Duration = Duration::from_millis(20);

/// How long cookies are made by one secret. They are valid for as long again.
const SECRET: Duration = Duration::from_secs(120);

/// New secrets for cookies, by which those made last are still valid. All zero ones were never used.
pub(super) fn renewed(before: Secrets) -> Result<Secrets, getrandom::Error> {
    let key = || Ok([getrandom::u64()?, getrandom::u64()?]);
    let current = key()?;
    let previous = if before.current == [0; 2] { key()? } else { before.current };
    Ok(Secrets { current, previous })
}

/// Renews the secrets of cookies.
pub(super) async fn secrets(engine: Shared) {
    loop {
        tokio::time::sleep(SECRET).await;
        let mut e = engine.borrow_mut();
        match renewed(e.gate.secrets()) {
            Ok(secrets) => e.set_secrets(secrets),
            Err(error) => tracing::warn!(%error, "no randomness: the secret of cookies stays"),
        }
    }
}

/// Calls the core when it wants to be called.
pub(super) async fn timer(engine: Shared) {
    loop {
        let (deadline, changed) = {
            let e = engine.borrow();
            (e.node.deadline(), e.timer.clone())
        };
        let wait = Duration::from_nanos(deadline.saturating_sub(clock::mono_ns()));
        tokio::select! {
            () = tokio::time::sleep(wait.min(Duration::from_secs(3600))) => {
                let mut e = engine.borrow_mut();
                if e.node.deadline() <= clock::mono_ns() {
                    e.node.timeout(clock::now());
                    e.collect();
                }
            }
            () = changed.notified() => {}
        }
    }
}

/// Follows interfaces, addresses, routes and next hops.
pub(super) async fn watch(engine: Shared) {
    loop {
        match watch::watch() {
            Ok((mut changes, work)) => {
                let worker = tokio::task::spawn_local(work);
                while let Some(change) = changes.recv().await {
                    tokio::time::sleep(GATHER).await;
                    let next_hops = engine.borrow().links.next_hops();
                    let mut links = matters(change, &next_hops);
                    while let Ok(more) = changes.try_recv() {
                        links |= matters(more, &next_hops);
                    }
                    if links {
                        engine.borrow_mut().touch();
                    }
                }
                worker.abort();
            }
            Err(error) => tracing::warn!(%error, "cannot watch the kernel's tables"),
        }
        tokio::time::sleep(PROBE).await;
    }
}

/// Keeps the MAC addresses of next hops true.
pub(super) async fn confirm(control: Rc<Control>) {
    loop {
        tokio::time::sleep(CONFIRM).await;
        let next_hops = control.engine.borrow().links.next_hops();
        for (ifindex, addr) in next_hops {
            linker::confirm(&control.netlink, ifindex, addr).await;
        }
    }
}

/// Whether links may look different on the wire after it.
fn matters(change: Change, next_hops: &BTreeSet<NextHop>) -> bool {
    match change {
        Change::Link(_) | Change::LinkGone(_) | Change::Address(_) | Change::Route | Change::Overrun => true,
        Change::Neighbour { ifindex, addr } => next_hops.contains(&(ifindex, addr)),
    }
}

/// Looks after what nobody tells: abilities of devices, next hops still unknown, listeners that are down.
pub(super) async fn probe(control: Rc<Control>) {
    let mut ticks = 0;
    loop {
        tokio::time::sleep(PROBE).await;
        ticks += 1;
        let down: Vec<_> = {
            let mut e = control.engine.borrow_mut();
            e.tidy();
            let changed = e.kernel.probe();
            // Without XDP the agent sends on every link, and nothing is to become of that.
            let xdp = e.kernel.why().is_none();
            if changed || (xdp && e.links.tx.values().any(|s| !s.why.is_empty())) {
                e.touch();
            }
            e.listeners.iter().filter(|l| l.socket.is_none()).map(|l| l.address.clone()).collect()
        };
        for address in down {
            if control.listen(&address).await.is_ok() {
                tracing::info!(%address, "the listener is back");
                control.engine.borrow_mut().announce();
                control.redial().await;
            }
        }
        if ticks % REDIAL == 0 {
            control.redial().await;
        }
    }
}

/// Answers commands, each in a task of its own: one that waits does not keep the others, up to [`REQUESTS`] of them.
pub(super) async fn commands(control: Rc<Control>, mut requests: mpsc::Receiver<Request>) {
    let places = std::sync::Arc::new(Semaphore::new(REQUESTS));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Some(request) = requests.recv().await else { return };
        let control = control.clone();
        control.waiting.set(control.waiting.get() + 1);
        tokio::task::spawn_local(async move {
            control.serve(request).await;
            control.waiting.set(control.waiting.get() - 1);
            drop(place);
        });
    }
}

/// The signals that end the agent. Caught from the start, so that none ends it half-way.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    restart: Signal,
}

impl Signals {
    /// SIGUSR1 is `rovy stop --keep-transit`: systemd sends it for a restart (`RestartKillSignal=`), and SIGTERM for a stop.
    pub(super) fn catch() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            restart: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Waits for a command or a signal to stop, then takes everything down that is not to stay.
pub(super) async fn until_stopped(
    mut signals: Signals,
    mut stopping: mpsc::Receiver<bool>,
    control: &Control,
) -> anyhow::Result<()> {
    let keep_transit = tokio::select! {
        keep = stopping.recv() => keep.unwrap_or(false),
        _ = signals.term.recv() => false,
        _ = signals.int.recv() => false,
        _ = signals.restart.recv() => true,
    };
    tracing::info!(keep_transit, "stopping");
    service::stopping();
    memory::finish(&control.engine);
    book::finish(control);
    if let Err(error) = tun::stop(&control.engine).await {
        tracing::warn!(%error, "cannot take the TUN device down cleanly");
    }
    let xdp = control.engine.borrow_mut().kernel.take();
    match xdp {
        Some(mut xdp) if keep_transit => {
            if let Err(error) = xdp.keep() {
                tracing::warn!(%error, "`rovy doctor` will take this for a crash");
            }
            Ok(())
        }
        Some(xdp) => xdp.unpin_all().map_err(Into::into),
        None => Ok(()),
    }
}
