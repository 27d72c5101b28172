//! The host's side: the TUN device and what comes out of it.

use std::io;
use std::rc::Rc;

use rovy_common::DropReason;
use tokio::task::JoinHandle;

use super::engine::Shared;
use crate::core::{HEADROOM, TAILROOM};
use crate::fc00::routing::{setup, table};
use crate::fc00::{Fc00Error, Routing, Tun};
use crate::netlink::Netlink;

/// The TUN device while it runs.
struct Running {
    tun: Rc<Tun>,
    /// `None` where root made the device and its rules.
    routing: Option<Routing>,
    table: u32,
    reader: JoinHandle<()>,
    mtu: u16,
}

/// The host's side of fc00::/8, which may be absent.
#[derive(Default)]
pub(super) struct Host {
    running: Option<Running>,
    /// A command is making it.
    pub(super) starting: bool,
    /// Why it is absent although it was wanted.
    pub(super) why: Option<String>,
    /// Packets to the host, and from it.
    pub(super) packets: [u64; 2],
}

impl Host {
    /// Name, MTU and table of the device while it runs.
    pub(super) fn device(&self) -> Option<(&str, u16, u32)> {
        self.running.as_ref().map(|r| (r.tun.name(), r.mtu, r.table))
    }

    /// Gives a packet to the host.
    pub(super) fn deliver(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        let running = self.running.as_ref().ok_or(DropReason::NotAllowed)?;
        match running.tun.try_send(packet) {
            Ok(()) => {
                self.packets[0] += 1;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(DropReason::QueueFull),
            Err(_) => Err(DropReason::EgressDown),
        }
    }
}

/// Makes the device, its address and routes, and starts reading it.
pub(super) async fn start(engine: &Shared, netlink: &Netlink, ifname: &str, mtu: u16) -> Result<(), Fc00Error> {
    let address = engine.borrow().node.id().address();
    let tun = Tun::open(ifname, mtu)?;
    let routing = setup(netlink, tun.name(), address, u32::from(mtu)).await?;
    run(engine, tun, Some(routing), mtu);
    Ok(())
}

/// Starts reading a device that root made and routed.
pub(super) fn run_given(engine: &Shared, tun: Tun, mtu: u16) {
    run(engine, tun, None, mtu);
}

fn run(engine: &Shared, tun: Tun, routing: Option<Routing>, mtu: u16) {
    let table = table(tun.ifindex());
    let tun = Rc::new(tun);
    let reader = {
        let (engine, tun) = (engine.clone(), tun.clone());
        tokio::task::spawn_local(async move {
            let error = read(&engine, &tun, mtu).await;
            tracing::warn!(%error, device = tun.name(), "the TUN device is gone; `rovy fc00 start` makes it again");
            let gone = engine.borrow_mut().host.running.take();
            if let Some(Running { routing: Some(routing), .. }) = gone
                && let Err(error) = routing.teardown().await
            {
                tracing::debug!(%error, "its rules could not be removed");
            }
            engine.borrow_mut().host.why = Some(format!("the device went away: {error}"));
        })
    };
    let mut e = engine.borrow_mut();
    e.adopt_connections();
    e.host.running = Some(Running { tun, routing, table, reader, mtu });
    e.host.why = None;
}

/// Removes the device with its routes; whether there was one. When it returns the device is gone.
pub(super) async fn stop(engine: &Shared) -> Result<bool, Fc00Error> {
    let Some(Running { tun, routing, reader, .. }) = engine.borrow_mut().host.running.take() else {
        return Ok(false);
    };
    reader.abort();
    // The reader holds the device until it has ended.
    let _ = reader.await;
    let done = match routing {
        Some(routing) => routing.teardown().await,
        None => {
            let rules = "root made its routing rules, which lead nowhere now: `sudo rovy fc00 stop` removes them";
            engine.borrow_mut().host.why = Some(rules.to_owned());
            Ok(())
        }
    };
    drop(tun);
    done.map(|()| true)
}

/// Packets handled before others get their turn.
const TURN: usize = 32;

async fn read(engine: &Shared, tun: &Tun, mtu: u16) -> io::Error {
    let mut buf = vec![0; HEADROOM + usize::from(mtu) + TAILROOM];
    let end = buf.len() - TAILROOM;
    loop {
        let mut n = match tun.recv(&mut buf[HEADROOM..end]).await {
            Ok(n) => n,
            Err(error) => return error,
        };
        let mut left = TURN;
        let mut e = engine.borrow_mut();
        loop {
            e.host.packets[1] += 1;
            e.take_packet(&mut buf, HEADROOM..HEADROOM + n);
            left -= 1;
            if left == 0 {
                break;
            }
            n = match tun.try_recv(&mut buf[HEADROOM..end]) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return error,
            };
        }
    }
}
