//! The maps, written by one thread: the agent's tables as the programs see them.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap as BpfHash, IterableMap, Map, MapData, MapError, PerCpuArray};
use rovy_common::count::COUNTERS;
use rovy_common::maps::{Config, LocalKey, ReplayWords, RxLink, Secrets, SlotStats, TransitRate, TxLink, kind};
use rovy_common::replay::WORDS;

use super::object::PORTS;
use super::pod::Plain;
use super::{Params, XdpError};
use crate::dataplane::Seen;

/// How long a program may still read an entry that its slot was switched away from: far longer than any run.
const GRACE: Duration = Duration::from_millis(10);

/// Typed handles, and what has to be remembered to write them safely.
pub(super) struct Maps {
    config: Array<MapData, Plain<Config>>,
    rx: Array<MapData, Plain<RxLink>>,
    given: Array<MapData, u32>,
    replay: Array<MapData, Plain<ReplayWords>>,
    slots: Array<MapData, u32>,
    tx: Array<MapData, Plain<TxLink>>,
    counters: MapData,
    rates: Array<MapData, Plain<TransitRate>>,
    spent: MapData,
    counts: PerCpuArray<MapData, u64>,
    slot_stats: PerCpuArray<MapData, Plain<SlotStats>>,
    /// Devices by port, as [`device_at`] reads them.
    ports: Array<MapData, u64>,
    locals: BpfHash<MapData, Plain<LocalKey>, u64>,
    secrets: Array<MapData, Plain<Secrets>>,
    /// Entries of `TX` that hold keys no more in use, and when they were switched away from, for [`GRACE`].
    idle_since: HashMap<u32, Instant>,
    /// Slots that an earlier agent sent over, until somebody sends over them by new keys or the old ones have expired.
    adopted: BTreeMap<u16, u64>,
    sessions: u32,
    slot_count: u32,
}

impl Maps {
    /// Takes the maps of an object, by name.
    pub(super) fn take(mut maps: HashMap<String, Map>, params: &Params) -> Result<Self, XdpError> {
        let mut take = |name: &'static str| {
            let missing = || XdpError::Program { what: "use", reason: format!("its object has no map {name}") };
            maps.remove(name).ok_or_else(missing)
        };
        macro_rules! open {
            ($name:literal) => {
                take($name)?.try_into().map_err(XdpError::map("open", $name))?
            };
        }
        // What is mapped into memory.
        macro_rules! words {
            ($name:literal) => {
                match take($name)? {
                    Map::Array(words) => words,
                    _ => {
                        let reason = concat!($name, " is not an array").into();
                        return Err(XdpError::Program { what: "use", reason });
                    }
                }
            };
        }
        // As an array of words: aya's type for it makes a map to find out what the kernel knows, which takes privileges.
        let Map::DevMap(ports) = take("PORTS")? else {
            return Err(XdpError::Program { what: "use", reason: "PORTS is not a map of devices".into() });
        };
        let mut maps = Self {
            config: open!("CONFIG"),
            rx: open!("RX"),
            given: open!("GIVEN"),
            replay: open!("REPLAY"),
            slots: open!("SLOTS"),
            tx: open!("TX"),
            counters: words!("COUNTERS"),
            rates: open!("RATES"),
            spent: words!("SPENT"),
            counts: open!("COUNTS"),
            slot_stats: open!("SLOT_STATS"),
            ports: Map::Array(ports).try_into().map_err(XdpError::map("open", "PORTS"))?,
            locals: open!("LOCALS"),
            secrets: open!("SECRETS"),
            idle_since: HashMap::new(),
            adopted: BTreeMap::new(),
            sessions: params.sessions,
            slot_count: params.width.slots(),
        };
        maps.find_idle()?;
        Ok(maps)
    }

    /// Finds what a former agent did not come to wipe.
    fn find_idle(&mut self) -> Result<(), XdpError> {
        for slot in 0..self.slot_count {
            let active = self.active(slot as u16)?;
            for entry in [2 * slot, 2 * slot + 1] {
                if Some(entry) != active && self.tx_at(entry)? != TxLink::default() {
                    self.idle_since.insert(entry, Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Wipes the keys of entries that nothing sends by any more.
    pub(super) fn wipe_idle(&mut self) -> Result<(), XdpError> {
        let due: Vec<u32> = self.idle_since.iter().filter(|(_, at)| at.elapsed() >= GRACE).map(|(e, _)| *e).collect();
        for entry in due {
            self.tx.set(entry, Plain(TxLink::default()), 0).map_err(XdpError::map("write", "TX"))?;
            self.idle_since.remove(&entry);
        }
        Ok(())
    }

    /// Writes what the program needs to know, and forgets whose addresses were this node's and which indices it gave out: the
    /// agent tells them anew.
    pub(super) fn configure(&mut self, params: &Params) -> Result<(), XdpError> {
        let stale: Vec<_> = self.locals.keys().filter_map(Result::ok).collect();
        for key in stale {
            self.remove_key(key.0)?;
        }
        for at in 0..self.sessions {
            self.write_given(at, 0)?;
        }
        let config = Config {
            ethertype_be: u32::from(params.ethertype.to_be()),
            slot_width: params.width.bytes(),
            mac1: params.mac1,
            limits: params.limits,
        };
        self.config.set(0, Plain(config), 0).map_err(XdpError::map("write", "CONFIG"))
    }

    pub(super) fn replay_fd(&self) -> BorrowedFd<'_> {
        self.replay.map().fd().as_fd()
    }

    pub(super) fn counters_fd(&self) -> BorrowedFd<'_> {
        self.counters.fd().as_fd()
    }

    pub(super) fn spent_fd(&self) -> BorrowedFd<'_> {
        self.spent.fd().as_fd()
    }

    pub(super) const fn slot_count(&self) -> u32 {
        self.slot_count
    }

    pub(super) const fn counters_len(&self) -> u32 {
        2 * self.slot_count
    }

    const fn position(&self, index: u32) -> u32 {
        index & (self.sessions - 1)
    }

    fn rx_at(&self, position: u32) -> Result<RxLink, XdpError> {
        Ok(self.rx.get(&position, 0).map_err(XdpError::map("read", "RX"))?.0)
    }

    pub(super) fn rx(&self, index: u32) -> Result<Option<RxLink>, XdpError> {
        let rx = self.rx_at(self.position(index))?;
        Ok(Some(rx).filter(|rx| rx.index == index && index != 0))
    }

    pub(super) fn set_rx(&mut self, index: u32, rx: &RxLink) -> Result<(), XdpError> {
        if index == 0 || rx.index != index {
            return Err(XdpError::OutOfRange { what: "receiver index", number: index });
        }
        let at = self.position(index);
        if self.rx_at(at)?.index != index {
            // Nothing is accepted by the window of another index, nor by a window that is being emptied.
            self.write_rx(at, RxLink::default())?;
            let empty = Plain(ReplayWords([0; WORDS]));
            self.replay.set(at, empty, 0).map_err(XdpError::map("write", "REPLAY"))?;
        }
        self.write_rx(at, *rx)
    }

    fn write_rx(&mut self, at: u32, rx: RxLink) -> Result<(), XdpError> {
        self.rx.set(at, Plain(rx), 0).map_err(XdpError::map("write", "RX"))
    }

    fn write_given(&mut self, at: u32, index: u32) -> Result<(), XdpError> {
        self.given.set(at, index, 0).map_err(XdpError::map("write", "GIVEN"))
    }

    pub(super) fn expect_index(&mut self, index: u32) -> Result<(), XdpError> {
        self.write_given(self.position(index), index)
    }

    pub(super) fn forget_index(&mut self, index: u32) -> Result<(), XdpError> {
        let at = self.position(index);
        let given = self.given.get(&at, 0).map_err(XdpError::map("read", "GIVEN"))?;
        if given == index { self.write_given(at, 0) } else { Ok(()) }
    }

    pub(super) fn clear_rx(&mut self, index: u32) -> Result<Option<Seen>, XdpError> {
        if self.rx(index)?.is_none() {
            return Ok(None);
        }
        let at = self.position(index);
        self.write_rx(at, RxLink::default())?;
        let words = self.replay.get(&at, 0).map_err(XdpError::map("read", "REPLAY"))?;
        Ok(Some(Box::new(words.0.0)))
    }

    /// The receiving sides in use.
    pub(super) fn receivers(&self) -> Result<Vec<RxLink>, XdpError> {
        let mut out = Vec::new();
        for at in 0..self.sessions {
            out.extend(Some(self.rx_at(at)?).filter(|rx| rx.index != 0));
        }
        Ok(out)
    }

    /// The position in `TX` a slot sends by.
    fn active(&self, slot: u16) -> Result<Option<u32>, XdpError> {
        let slot = u32::from(slot);
        if slot >= self.slot_count {
            return Err(XdpError::OutOfRange { what: "slot", number: slot });
        }
        Ok(self.slots.get(&slot, 0).map_err(XdpError::map("read", "SLOTS"))?.checked_sub(1))
    }

    fn tx_at(&self, entry: u32) -> Result<TxLink, XdpError> {
        Ok(self.tx.get(&entry, 0).map_err(XdpError::map("read", "TX"))?.0)
    }

    pub(super) fn tx(&self, slot: u16) -> Result<Option<TxLink>, XdpError> {
        self.active(slot)?.map(|entry| self.tx_at(entry)).transpose()
    }

    pub(super) fn set_tx(&mut self, slot: u16, tx: &TxLink) -> Result<(), XdpError> {
        if slot == 0 || tx.slot != u32::from(slot) {
            return Err(XdpError::OutOfRange { what: "slot", number: u32::from(slot) });
        }
        let active = self.active(slot)?;
        if let Some(entry) = active
            && self.tx_at(entry)? == *tx
        {
            return Ok(());
        }
        let entry = self.idle(slot, active);
        if let Some(since) = self.idle_since.remove(&entry) {
            std::thread::sleep(GRACE.saturating_sub(since.elapsed()));
        }
        self.tx.set(entry, Plain(*tx), 0).map_err(XdpError::map("write", "TX"))?;
        self.switch(slot, active, entry + 1)
    }

    pub(super) fn clear_tx(&mut self, slot: u16) -> Result<(), XdpError> {
        match self.active(slot)? {
            Some(entry) => self.switch(slot, Some(entry), 0),
            None => Ok(()),
        }
    }

    fn switch(&mut self, slot: u16, from: Option<u32>, to: u32) -> Result<(), XdpError> {
        self.adopted.remove(&slot);
        self.slots.set(u32::from(slot), to, 0).map_err(XdpError::map("write", "SLOTS"))?;
        if let Some(entry) = from {
            self.idle_since.insert(entry, Instant::now());
        }
        Ok(())
    }

    /// The entry of a slot to write next: not the one in use, rather the one that is idle longer.
    fn idle(&self, slot: u16, active: Option<u32>) -> u32 {
        let first = 2 * u32::from(slot);
        let idle_for = |e: &u32| self.idle_since.get(e).map_or(Duration::MAX, Instant::elapsed);
        let free = [first, first + 1].into_iter().filter(|e| Some(*e) != active);
        free.max_by_key(idle_for).unwrap_or(first)
    }

    pub(super) fn rate(&self, slot: u16) -> Result<TransitRate, XdpError> {
        Ok(self.rates.get(&u32::from(slot), 0).map_err(XdpError::map("read", "RATES"))?.0)
    }

    pub(super) fn set_rate(&mut self, slot: u16, rate: &TransitRate) -> Result<(), XdpError> {
        self.rates.set(u32::from(slot), Plain(*rate), 0).map_err(XdpError::map("write", "RATES"))
    }

    /// The sending sides that an earlier agent left, by slot.
    pub(super) fn adopt(&mut self) -> Result<Vec<(u16, TxLink)>, XdpError> {
        let all = self.transmitters()?;
        self.adopted = all.iter().map(|(slot, tx)| (*slot, tx.expires_ns)).collect();
        Ok(all)
    }

    /// Ends the slots of an earlier agent whose keys have expired.
    pub(super) fn end_expired(&mut self, now_ns: u64) -> Result<Vec<u16>, XdpError> {
        let expired: Vec<u16> = self.adopted.iter().filter(|(_, at)| **at <= now_ns).map(|(slot, _)| *slot).collect();
        for slot in &expired {
            self.clear_tx(*slot)?;
        }
        Ok(expired)
    }

    pub(super) fn written_entries(&self) -> Result<usize, XdpError> {
        let mut written = 0;
        for entry in 0..2 * self.slot_count {
            written += usize::from(self.tx_at(entry)? != TxLink::default());
        }
        Ok(written)
    }

    /// The sending sides in use, by slot.
    fn transmitters(&self) -> Result<Vec<(u16, TxLink)>, XdpError> {
        let mut out = Vec::new();
        for slot in 1..self.slot_count {
            let slot = slot as u16;
            out.extend(self.tx(slot)?.map(|tx| (slot, tx)));
        }
        Ok(out)
    }

    pub(super) fn add_port(&mut self, ifindex: u32) -> Result<u32, XdpError> {
        let mut free = None;
        for port in 0..PORTS {
            match self.ports.get(&port, 0).map(device_at) {
                Ok(device) if device == ifindex => return Ok(port),
                Ok(device) if device != 0 => {}
                Ok(_) | Err(MapError::KeyNotFound) => free = free.or(Some(port)),
                Err(e) => return Err(XdpError::map("read", "PORTS")(e)),
            }
        }
        let port = free.ok_or(XdpError::PortsFull { ifindex, ports: PORTS })?;
        self.ports.set(port, redirect_to(ifindex), 0).map_err(|e| XdpError::Attach {
            ifname: format!("number {ifindex}"),
            reason: format!("it cannot become a redirect target: {}", super::error::reason(&e)),
        })?;
        Ok(port)
    }

    pub(super) fn secrets(&self) -> Result<Secrets, XdpError> {
        Ok(self.secrets.get(&0, 0).map_err(XdpError::map("read", "SECRETS"))?.0)
    }

    pub(super) fn set_secrets(&mut self, secrets: Secrets) -> Result<(), XdpError> {
        self.secrets.set(0, Plain(secrets), 0).map_err(XdpError::map("write", "SECRETS"))
    }

    pub(super) fn add_local(&mut self, key: LocalKey) -> Result<(), XdpError> {
        if let Some((interface, mac)) = interface_of(&key) {
            self.locals.insert(Plain(interface), mac, 0).map_err(XdpError::map("write", "LOCALS"))?;
        }
        self.locals.insert(Plain(key), 1, 0).map_err(XdpError::map("write", "LOCALS"))
    }

    pub(super) fn remove_local(&mut self, key: LocalKey) -> Result<(), XdpError> {
        // The address of an interface goes when it is told a new one, or is still this one.
        if let Some((interface, mac)) = interface_of(&key)
            && self.locals.get(&Plain(interface), 0).is_ok_and(|known| known == mac)
        {
            self.remove_key(interface)?;
        }
        self.remove_key(key)
    }

    fn remove_key(&mut self, key: LocalKey) -> Result<(), XdpError> {
        match self.locals.remove(&Plain(key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(e) => Err(XdpError::map("write", "LOCALS")(e)),
        }
    }

    pub(super) fn counts(&self) -> Result<[u64; COUNTERS as usize], XdpError> {
        let mut out = [0; COUNTERS as usize];
        for (i, sum) in out.iter_mut().enumerate() {
            let values = self.counts.get(&(i as u32), 0).map_err(XdpError::map("read", "COUNTS"))?;
            *sum = values.iter().sum();
        }
        Ok(out)
    }

    pub(super) fn slot_stats(&self, slot: u16) -> Result<SlotStats, XdpError> {
        let values = self.slot_stats.get(&u32::from(slot), 0).map_err(XdpError::map("read", "SLOT_STATS"))?;
        let mut sum = SlotStats::default();
        for Plain(s) in values.iter() {
            sum.rx_packets += s.rx_packets;
            sum.rx_bytes += s.rx_bytes;
            sum.tx_packets += s.tx_packets;
            sum.tx_bytes += s.tx_bytes;
            sum.refused_packets += s.refused_packets;
        }
        Ok(sum)
    }
}

/// `struct bpf_devmap_val` without a program: the device's index comes first.
fn redirect_to(ifindex: u32) -> u64 {
    let [a, b, c, d] = ifindex.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}

fn device_at(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// The entry that tells the program the address of the interface behind a MAC address.
fn interface_of(key: &LocalKey) -> Option<(LocalKey, u64)> {
    let mac = key.addr.first_chunk().map(|mac| u64::from_le_bytes(*mac))?;
    (key.kind == kind::ETHERNET).then_some((LocalKey::interface(key.port_or_ifindex), mac))
}
