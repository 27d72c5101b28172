//! The running agent: one thread moves packets between sockets, TUN, core and dataplane; another serves the API.

mod answers;
mod book;
mod clock;
mod commands;
mod counters;
mod discovery;
mod double;
mod echo;
mod engine;
mod firewall;
mod handover;
mod kernel;
mod linker;
mod listeners;
mod memory;
mod names;
mod options;
mod outbox;
mod policy;
mod remembered;
mod resolver;
mod service;
mod tasks;
mod transit;
mod tun;
mod views;

pub use options::Options;
pub use remembered::Remembered;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rovy_common::maps::{LAYOUT, Limits, neighbour_id};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use zeroize::Zeroizing;

use crate::api::{Fc00Device, Server, metrics_tcp};
use crate::config::{Config, PeerTransit, Routes, Transit, XdpMode};
use crate::core::{Budget, Node, NodeConfig, Psk, Rate, mac1_key};
use crate::dataplane::xdp::Params;
use crate::dataplane::{Dataplane as _, Gate, Tables, endpoint_of};
use crate::fc00::firewall::Firewall;
use crate::identity::{self, PeerId, SecretKey};
use crate::netlink::Netlink;
use crate::transport::Endpoint;
use commands::Control;
use engine::{Engine, Shared};
use kernel::Kernel;

/// Commands that may wait for the packet thread.
const REQUESTS: usize = 64;

/// Runs the agent until it is told to stop, by `rovy stop` or a signal.
///
/// # Errors
/// Whatever keeps it from starting: another agent at the same socket, netlink refused. What only limits it is logged.
pub fn run(options: Options) -> anyhow::Result<()> {
    let (requests, commands) = mpsc::channel(REQUESTS);
    let (stop_api, stopped) = oneshot::channel::<()>();
    let (bound, socket_ready) = std::sync::mpsc::channel();
    let socket = options.paths.socket.clone();
    let metrics = options.config.api.metrics_tcp;
    let api = std::thread::Builder::new().name("rovy-api".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(bound.send(Err(anyhow::Error::from(error)))),
        };
        runtime.block_on(async move {
            match Server::bind(&socket) {
                Ok(server) => {
                    let _ = bound.send(Ok(()));
                    if let Some(address) = metrics {
                        match metrics_tcp::bind(address).await {
                            Ok(listener) => drop(tokio::spawn(metrics_tcp::serve(listener, requests.clone()))),
                            Err(error) => tracing::warn!(%address, %error, "no metrics there"),
                        }
                    }
                    server.run(requests, async move { drop(stopped.await) }).await;
                }
                Err(error) => drop(bound.send(Err(error.into()))),
            }
        });
    })?;
    socket_ready.recv().context("the API thread ended at once")??;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(LocalSet::new().run_until(packets(options, commands)));
    drop(stop_api);
    let _ = api.join();
    done
}

/// A pre-shared key of the configuration at `config`. Without it nothing starts: the operator wants it everywhere.
fn psk(config: &Path, file: &Path) -> anyhow::Result<Psk> {
    let file = config.parent().unwrap_or(Path::new("")).join(file);
    let psk = identity::psk::load(&file)?;
    for warning in psk.warnings {
        tracing::warn!("{warning}");
    }
    Ok(psk.key)
}

/// What this node spends on the probes of others.
fn budget(routes: &Routes) -> Budget {
    let rate = |per_second: u32, seconds: u32| Rate { per_second, burst: per_second.saturating_mul(seconds) };
    Budget { neighbour: rate(routes.neighbour_probes, 2), origin: rate(routes.origin_probes, 3), ..Budget::default() }
}

fn node(secret: SecretKey, config: &Config, path: &Path) -> anyhow::Result<Node> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).context("the system gives no randomness")?;
    let node_config = NodeConfig {
        secret,
        width: config.node.slot_width.into(),
        transit: config.node.transit == Transit::Allow,
        sessions: config.limits.sessions.next_power_of_two(),
        peers: config.limits.peers as usize,
        receive_mtu: Some(listeners::LARGEST),
        aes: fast_aes(),
        handshakes: config.limits.handshakes as usize,
        psk: config.node.psk_file.as_ref().map_or_else(|| Ok(Psk::default()), |f| psk(path, f))?,
        probes: budget(&config.routes),
    };
    let mut node = Node::new(node_config, *seed);
    node.limit_everybody(config.node.rate_limit.0);
    node.set_multipath(config.routes.multipath);
    for peer in &config.peers {
        if let Some(file) = &peer.psk_file {
            node.set_psk(peer.id, psk(path, file)?);
        }
        if let Some(transit) = peer.transit {
            node.set_transit(peer.id, transit != PeerTransit::Deny);
            if transit == PeerTransit::Sealed {
                node.set_sealed(peer.id);
            }
        }
        if let Some(limit) = peer.rate_limit {
            node.limit_peer(clock::now(), peer.id, limit.0);
        }
        if let Some(seconds) = peer.keepalive {
            node.set_keepalive(peer.id, Duration::from_secs(seconds.into()));
        }
    }
    Ok(node)
}

/// Whether AES-GCM beats ChaCha20-Poly1305 here.
fn fast_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// Where the maps and links of this node are pinned.
fn pin_dir(id: &PeerId) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/rovy/{}/v{LAYOUT}", id.address()))
}

/// What the kernel's part of a node is opened with.
fn params(config: &Config, id: &PeerId) -> Params {
    Params {
        pin_dir: pin_dir(id),
        sessions: config.limits.sessions.next_power_of_two(),
        width: config.node.slot_width.into(),
        ethertype: config.listen.ethertype,
        mac1: mac1_key(id.public_key()),
        limits: Limits::default(),
        log_level: if tracing::enabled!(target: "rovy_ebpf", tracing::Level::DEBUG) { 4 } else { 0 },
    }
}

/// Opens dataplane and node; what a former agent left in the kernel stays in use. With them, the neighbours it had.
fn open(mut node: Node, config: &Config, mode: XdpMode) -> anyhow::Result<(Engine, BTreeMap<PeerId, Vec<Endpoint>>)> {
    let params = params(config, &node.id());
    let (mut kernel, adopted) = Kernel::open(&params, mode);
    if let Some(why) = kernel.why() {
        tracing::info!(why, "no XDP: the agent switches transit itself");
    }
    let mut tables = Tables::new(config.node.slot_width.into(), kernel.xdp_ref());
    let mut neighbours: BTreeMap<PeerId, Vec<Endpoint>> = BTreeMap::new();
    let mut endpoints = BTreeMap::new();
    let mut counters = counters::Positions::default();
    let now = clock::now();
    for (slot, link) in &adopted.links {
        let Ok(peer) = PeerId::new(link.public_key) else { continue };
        node.restore_slot(now, *slot, peer, u8::try_from(link.link).unwrap_or_default());
        counters.leave(*slot, link.counter);
        let device = adopted.attached.iter().find(|a| a.port == link.port).map(|a| a.ifindex);
        // What cannot be reached any more keeps its slot for as long as one of a peer that went.
        let Some(endpoint) = endpoint_of(link, device) else { continue };
        let all = neighbours.entry(peer).or_default();
        if !all.contains(&endpoint) {
            all.push(endpoint);
        }
        endpoints.insert(*slot, endpoint);
        let Ok(()) = tables.set_transmit(link, endpoint);
    }
    if let Some(xdp) = kernel.xdp() {
        for rx in &adopted.receivers {
            if rx.expires_ns <= now.mono_ns || !node.restore_index(rx.index, rx.expires_ns) {
                xdp.clear_rx(rx.index).context("cannot clear a link of a former agent")?;
                continue;
            }
            let owner = node.slot_owner(rx.slot).filter(|peer| neighbour_id(peer.public_key()) == rx.neighbour);
            let restricted = owner.map(|peer| policy::restrict(&node, xdp, peer, rx)).transpose();
            let rx = restricted.context("cannot restrict a link of a former agent")?.unwrap_or(*rx);
            if let Some(endpoint) = endpoints.get(&rx.slot) {
                // What the kernel hands up of such a link is switched as before.
                let Ok(()) = tables.set_rate(rx.slot, &xdp.rate(rx.slot).context("cannot read a rate")?);
                let Ok(()) = tables.set_receive(&rx, *endpoint);
            }
        }
    }
    if !adopted.links.is_empty() {
        tracing::info!(links = adopted.links.len(), "took over the links of a former agent");
    }
    // Cookies that a former agent's kernel part made stay valid.
    let left = kernel.xdp_ref().and_then(|xdp| xdp.secrets().ok()).unwrap_or_default();
    let secrets = tasks::renewed(left).context("the system gives no randomness")?;
    let gate = Gate::new(params.mac1, params.limits, secrets);
    let mut engine = Engine::new(node, tables, gate, kernel, listeners::Listeners::default(), tun::Host::default());
    engine.set_secrets(secrets);
    engine.links.counters = counters;
    Ok((engine, neighbours))
}

async fn packets(options: Options, commands: mpsc::Receiver<crate::api::Request>) -> anyhow::Result<()> {
    let Options { secret, config, paths, xdp, ifname, fc00, remember, rekey_after, nat_keepalive, ready } = options;
    let signals = tasks::Signals::catch().context("cannot catch signals")?;
    let netlink = Netlink::new().context("cannot talk to the kernel over netlink")?;
    let mut node = node(secret, &config, &paths.config)?;
    if let Some(age) = rekey_after {
        node.set_rekey(age);
    }
    if let Some(every) = nat_keepalive {
        node.set_nat_keepalive(every);
    }
    let book = if remember { book::Book::open(&paths.state, node.id()) } else { book::Book::default() };
    let memory = remember.then(|| memory::Memory::open(&paths.state, &mut node));
    let (mut engine, neighbours) = open(node, &config, xdp.unwrap_or(config.listen.xdp.mode))?;
    engine.memory = memory;
    engine.book = book;
    engine.names = names::Service::open(&config.dns, &paths.config)?;
    engine.firewall = Firewall::new(engine.node.id().address(), config.fc00.firewall()?);
    engine.discovery = discovery::Discovery::new(config.discovery.linklocal, config.discovery.interval());
    engine.node.set_beacon_interval(config.discovery.interval());
    engine.links.interfaces = netlink.interfaces().await?;
    let engine: Shared = Rc::new(RefCell::new(engine));
    let (stop, stopping) = mpsc::channel(1);
    let control = Rc::new(Control {
        engine: engine.clone(),
        netlink: netlink.clone(),
        config_path: paths.config.clone(),
        started: Instant::now(),
        stop,
        dials: RefCell::new(config.peers.iter().map(|p| (p.id, p.addresses.clone())).collect()),
        configured: RefCell::new(config.peers.iter().map(|p| p.id).collect()),
        waiting: std::cell::Cell::new(0),
        naming: tokio::sync::Mutex::new(()),
        ifname: ifname.unwrap_or_else(|| config.fc00.ifname.clone()),
        config,
    });
    tokio::task::spawn_local(linker::run(engine.clone(), netlink.clone(), control.config.listen.ethertype));
    tokio::task::spawn_local(tasks::timer(engine.clone()));
    tokio::task::spawn_local(memory::keep(engine.clone()));
    tokio::task::spawn_local(book::keep(control.clone()));
    tokio::task::spawn_local(names::serve(engine.clone()));
    tokio::task::spawn_local(names::watch(control.clone()));
    tokio::task::spawn_local(resolver::keep(engine.clone()));
    tokio::task::spawn_local(tasks::watch(engine.clone()));
    tokio::task::spawn_local(tasks::secrets(engine.clone()));
    tokio::task::spawn_local(double::watch(engine.clone()));
    tokio::task::spawn_local(tasks::probe(control.clone()));
    tokio::task::spawn_local(tasks::confirm(control.clone()));
    tokio::task::spawn_local(tasks::commands(control.clone(), commands));
    start(&control, fc00).await;
    // The links of the former agent serve until their keys expire; new sessions are made beside them meanwhile.
    for (peer, endpoints) in neighbours {
        control.reconnect(peer, endpoints);
    }
    let listeners = views::listeners(&control);
    ready(&views::info(&control), &listeners, &views::fc00(&control));
    service::ready(listeners.len());
    tokio::task::spawn_local(service::live());
    tasks::until_stopped(signals, stopping, &control).await
}

/// Starts what the configuration asks for. What cannot start is said and does not keep the rest.
async fn start(control: &Control, fc00: bool) {
    for address in &control.config.listen.addresses {
        if let Err(failure) = control.listen(address).await {
            let next = failure.next.as_deref();
            tracing::error!(%address, %failure, next, "this listener did not start");
        }
    }
    for name in &control.config.listen.xdp.interfaces {
        let mut e = control.engine.borrow_mut();
        let found = e.links.interfaces.iter().find(|i| i.name == *name).map(|i| i.index);
        match found {
            Some(index) => e.kernel.attach(index, name),
            None => tracing::error!(interface = name, "xdp.interfaces names an interface that does not exist"),
        }
    }
    if fc00
        && control.config.fc00.enabled
        && let Err(failure) = control.start_fc00(&Fc00Device::default()).await
    {
        tracing::warn!(%failure, "fc00 did not start; `sudo rovy fc00 start` tries again");
    }
    control.redial().await;
}
