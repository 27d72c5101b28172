//! The host's side: the TUN device and what comes out of it.

use std::io;
use std::rc::Rc;

use rovy_common::{Counter, DropReason};
use tokio::task::JoinHandle;

use super::engine::{Engine, Shared};
use crate::api::Fc00Device;
use crate::core::{HEADROOM, TAILROOM};
use crate::fc00::offload::{self, HEADER_LEN, Header, Joiner, LARGEST, Offloads, Sink, Taken};
use crate::fc00::routing::{setup, table};
use crate::fc00::{Fc00Error, Routing, Tun};
use crate::netlink::Netlink;

/// The TUN device while it runs.
struct Running {
    tun: Rc<Tun>,
    /// `None` where root made the device and its rules.
    routing: Option<Routing>,
    /// Where it is, if not with the agent.
    netns: Option<String>,
    /// `None` in another network namespace.
    table: Option<u32>,
    reader: JoinHandle<()>,
    mtu: u16,
    joiner: Joiner,
}

/// What was handed over as one packet in place of several.
#[derive(Clone, Copy, Default)]
pub(super) struct Large {
    /// From the host: large packets, and the packets they were split into.
    pub(super) split: [u64; 2],
    /// To the host: large packets, and the packets they were joined from.
    pub(super) joined: [u64; 2],
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
    pub(super) large: Large,
    /// The device that went away and is to come back.
    pub(super) lost: Option<Fc00Device>,
    /// Packets wait until more of their flow have come.
    pub(super) holds: bool,
    /// Packets that the host did not take, since last asked: no room, no device.
    refused: [u64; 2],
}

/// What is known of a device.
pub(super) struct Device<'a> {
    pub(super) name: &'a str,
    pub(super) mtu: u16,
    pub(super) table: Option<u32>,
    pub(super) netns: Option<&'a str>,
    pub(super) offloads: Offloads,
}

impl Host {
    /// The device while it runs.
    pub(super) fn device(&self) -> Option<Device<'_>> {
        let Running { tun, table, mtu, netns, .. } = self.running.as_ref()?;
        let (name, netns) = (tun.name(), netns.as_deref());
        Some(Device { name, mtu: *mtu, table: *table, netns, offloads: tun.offloads() })
    }

    /// The routes and rules that the agent made, while the device runs.
    pub(super) fn routing(&self) -> Option<Routing> {
        self.running.as_ref()?.routing.clone()
    }

    /// Gives a packet to the host. It is there after [`Host::flush`] at the latest.
    pub(super) fn deliver(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        self.with_joiner(|joiner, out| joiner.push(packet, out)).ok_or(DropReason::NotAllowed)
    }

    /// Has the host get what waits. What it did not take since the last time, by reason.
    pub(super) fn flush(&mut self) -> [(DropReason, u64); 2] {
        self.with_joiner(|joiner, out| joiner.flush(out));
        let [full, down] = std::mem::take(&mut self.refused);
        [(DropReason::QueueFull, full), (DropReason::EgressDown, down)]
    }

    fn with_joiner<T>(&mut self, work: impl FnOnce(&mut Joiner, &mut Sink<'_>) -> T) -> Option<T> {
        let Running { tun, joiner, .. } = self.running.as_mut()?;
        let (packets, large, refused) = (&mut self.packets[0], &mut self.large, &mut self.refused);
        Some(work(joiner, &mut |header: &[u8; HEADER_LEN], packet: &[u8], count: usize| {
            let count = count as u64;
            match tun.try_write(header, packet) {
                Ok(()) => {
                    *packets += count;
                    if count > 1 {
                        large.joined[0] += 1;
                        large.joined[1] += count;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => refused[0] += count,
                Err(_) => refused[1] += count,
            }
        }))
    }
}

/// Makes the device, or takes the one that is there, gives it address and routes, and starts reading it.
pub(super) async fn start(
    engine: &Shared,
    netlink: &Netlink,
    device: &Fc00Device,
    ifname: &str,
    (mtu, offloads): (u16, Offloads),
) -> Result<(), Fc00Error> {
    let address = engine.borrow().node.id().address();
    let tun = match &device.existing {
        Some(name) => Tun::existing(name, offloads)?,
        None => Tun::open(ifname, offloads)?,
    };
    let routing = match setup(netlink, tun.name(), address, u32::from(mtu)).await {
        // Whoever made it has set it up, where the agent may not.
        Err(Fc00Error::Permission { .. }) if device.existing.is_some() => {
            let all = netlink.interfaces().await?;
            let Some(found) = all.iter().find(|i| i.index == tun.ifindex() && i.addrs.contains(&address.into())) else {
                return Err(Fc00Error::NotSetUp { name: tun.name().to_owned(), address });
            };
            let mtu = u16::try_from(found.mtu).unwrap_or(mtu);
            run(engine, tun, (None, None), mtu, Some(device.clone()));
            return Ok(());
        }
        routing => routing?,
    };
    run(engine, tun, (Some(routing), None), mtu, Some(device.clone()));
    Ok(())
}

/// Starts reading a device that root made and routed, maybe in another network namespace.
pub(super) fn run_given(engine: &Shared, tun: Tun, netns: Option<String>, mtu: u16) {
    run(engine, tun, (None, netns), mtu, None);
}

/// `again`: what the agent can make or take by itself when it is gone.
fn run(
    engine: &Shared,
    tun: Tun,
    (routing, netns): (Option<Routing>, Option<String>),
    mtu: u16,
    again: Option<Fc00Device>,
) {
    let table = netns.is_none().then(|| table(tun.ifindex()));
    let joiner = Joiner::new(tun.offloads());
    let tun = Rc::new(tun);
    let reader = {
        let (engine, tun, netns) = (engine.clone(), tun.clone(), netns.clone());
        tokio::task::spawn_local(async move {
            let error = read(&engine, &tun).await;
            let gone = engine.borrow_mut().host.running.take();
            if let Some(Running { routing: Some(routing), .. }) = gone
                && let Err(error) = routing.teardown().await
            {
                tracing::debug!(%error, "its rules could not be removed");
            }
            let mut e = engine.borrow_mut();
            let next = match (&again, netns) {
                (Some(_), _) => "the agent makes it again".to_owned(),
                (None, Some(netns)) => format!("`sudo rovy fc00 start --netns {netns}` makes it again"),
                (None, None) => "`sudo rovy fc00 start` makes it again".to_owned(),
            };
            tracing::warn!(%error, device = tun.name(), "the TUN device is gone; {next}");
            e.host.why = Some(format!("the device {} went away: {error}; {next}", tun.name()));
            e.host.lost = again;
        })
    };
    let mut e = engine.borrow_mut();
    e.adopt_connections();
    e.host.running = Some(Running { tun, routing, netns, table, reader, mtu, joiner });
    (e.host.why, e.host.lost) = (None, None);
}

/// Removes the device with its routes; whether there was one. When it returns the device is gone.
pub(super) async fn stop(engine: &Shared) -> Result<bool, Fc00Error> {
    let (running, lost) = {
        let mut e = engine.borrow_mut();
        (e.host.running.take(), e.host.lost.take())
    };
    let Some(Running { tun, routing, netns, reader, .. }) = running else {
        return Ok(lost.is_some());
    };
    reader.abort();
    // The reader holds the device until it has ended.
    let _ = reader.await;
    let done = match routing {
        Some(routing) => routing.teardown().await,
        None => {
            let place = netns.map(|n| format!(" in the network namespace {n}")).unwrap_or_default();
            let rules = "root made its routing rules, which lead nowhere now";
            let why = format!("{rules}{place}: `sudo rovy fc00 stop` removes them");
            engine.borrow_mut().host.why = Some(why);
            Ok(())
        }
    };
    drop(tun);
    done.map(|()| true)
}

/// Bytes handled before others get their turn: some of the largest packets, or many small ones.
const TURN: usize = 4 * LARGEST;
/// What a packet counts for at least in a turn.
const LEAST: usize = TURN / 64;

/// The buffers of the reader: a packet from the host, and one of those that it stands for, with room around both.
struct Buffers {
    header: [u8; HEADER_LEN],
    large: Vec<u8>,
    segment: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        // One byte more tells a packet that fills its place from one that was cut.
        let room = || vec![0; HEADROOM + LARGEST + 1 + TAILROOM];
        Self { header: [0; HEADER_LEN], large: room(), segment: room() }
    }

    /// Where the next packet goes.
    fn place(&mut self) -> (&mut [u8; HEADER_LEN], &mut [u8]) {
        let end = self.large.len() - TAILROOM;
        (&mut self.header, self.large.get_mut(HEADROOM..end).unwrap_or_default())
    }
}

async fn read(engine: &Shared, tun: &Tun) -> io::Error {
    let mut buffers = Buffers::new();
    loop {
        let (header, place) = buffers.place();
        let first = match tun.read(header, place).await {
            Ok(n) => n,
            Err(error) => return error,
        };
        let more = engine.borrow_mut().turn(|e| e.take_turn(tun, &mut buffers, first));
        match more {
            Ok(false) => {}
            // A host that always has more keeps nobody else from running.
            Ok(true) => tokio::task::yield_now().await,
            Err(error) => return error,
        }
    }
}

impl Engine {
    /// Takes a packet of this length, which stands in the buffers, and what follows it. Whether there may be more.
    fn take_turn(&mut self, tun: &Tun, buffers: &mut Buffers, first: usize) -> io::Result<bool> {
        let (mut n, mut left) = (first, TURN);
        loop {
            self.take_large(buffers, n);
            left = left.saturating_sub(n.max(LEAST));
            if left == 0 {
                return Ok(true);
            }
            let (header, place) = buffers.place();
            n = match tun.try_read(header, place) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
        }
    }

    /// What the host handed over: one packet, or many in one.
    fn take_large(&mut self, buffers: &mut Buffers, length: usize) {
        let header = Header::read(&buffers.header);
        let packet = buffers.large.get_mut(HEADROOM..HEADROOM + length).filter(|_| length <= LARGEST);
        let taken = packet.ok_or(DropReason::TooBig).and_then(|packet| offload::take(&header, packet));
        let segments = match taken {
            Ok(Taken::Whole) => {
                self.host.packets[1] += 1;
                return self.take_packet(&mut buffers.large, HEADROOM..HEADROOM + length);
            }
            Ok(Taken::Many(segments)) => segments,
            Err(reason) => return self.tables.count(Counter::Drop(reason)),
        };
        self.host.large.split[0] += 1;
        let packet = buffers.large.get(HEADROOM..HEADROOM + length).unwrap_or_default();
        for number in 0..segments.count() {
            let Some(room) = buffers.segment.get_mut(HEADROOM..HEADROOM + LARGEST) else { return };
            let Some(n) = segments.write(number, packet, room) else { return };
            self.host.packets[1] += 1;
            self.host.large.split[1] += 1;
            self.take_packet(&mut buffers.segment, HEADROOM..HEADROOM + n);
        }
    }
}
