//! The three hosts, and one run on them.

use super::frames::Frames;
use anyhow::{Context as _, Result, ensure};
use rovy_common::encap::{self, Macs};
use rovy_common::label::Width;
use rovy_common::maps::{HopKeys, Limits, RxLink, TxLink, kind, tx_flag};
use rovy_common::wire::{ETHERTYPE, PORT};
use rovy_netns::traffic::Traffic;
use rovy_netns::{Namespace, device};
use rovy_userspace::dataplane::Wire;
use rovy_userspace::dataplane::xdp::{Params, Wish, Xdp};
use rovy_userspace::netlink::Underlay;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Frames of one run: their stamps take 32 bytes each in a BPF map.
const COUNT: u32 = 1 << 19;
/// Receiver index at r: position 1 of the map.
const INDEX: u32 = 0x5eed_0001;
const IN_SLOT: u16 = 1;
const IN: &str = "in0";
/// The CPU that generates, forwards and swallows.
const CPU: usize = 0;
const OUT_SLOT: u16 = 2;
const A: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1);
const R_IN: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 2);
const R_OUT: Ipv6Addr = Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 2);
const B: Ipv6Addr = Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 1);
const KEYS: HopKeys = HopKeys { tag: [1, 2], mask: [3, 4] };

/// Who forwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    Hop,
    HopChecksum,
    Redirect,
    Kernel,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Hop, Self::HopChecksum, Self::Redirect, Self::Kernel];
}

/// The hosts. Programs are dropped before the namespaces.
pub(super) struct Stage {
    xdp: Option<Xdp>,
    redirect: Traffic,
    sink: Traffic,
    in_index: u32,
    gen_mac: [u8; 6],
    in_mac: [u8; 6],
    rx: RxLink,
    tx: TxLink,
    a: Namespace,
    r: Namespace,
    _b: Namespace,
}

impl Stage {
    /// # Errors
    /// When something cannot be made.
    pub(super) fn new() -> Result<Self> {
        let (a, r, b) = (Namespace::new("a")?, Namespace::new("r")?, Namespace::new("b")?);
        device::veth(&a, "gen0", &r, IN, 1500)?;
        device::veth(&r, "out0", &b, "sink0", 1500)?;
        for (ns, name, address) in [(&a, "gen0", A), (&r, IN, R_IN), (&r, "out0", R_OUT), (&b, "sink0", B)] {
            device::address(ns, name, &format!("{address}/64"))?;
        }
        let (gen_mac, in_mac) = (device::mac(&a, "gen0")?, device::mac(&r, IN)?);
        let (out_mac, sink_mac) = (device::mac(&r, "out0")?, device::mac(&b, "sink0")?);
        let lladdr = sink_mac.map(|byte| format!("{byte:02x}")).join(":");
        r.ip(&format!("neigh replace {B} lladdr {lladdr} dev out0 nud permanent"))?;
        r.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1"))?.context("cannot route in r")?;
        // Without a program a veth device takes redirected frames only with GRO.
        device::offload(&r, IN, "gro", true).context("the kernel's forwarding is measured with ethtool's help")?;

        let mut sink = Traffic::passive()?;
        sink.attach(&b, "sink", "sink0")?;
        let mut redirect = Traffic::passive()?;
        redirect.send_by(&r, "out0")?;
        let (in_index, out_index) = (device::index(&r, IN)?, device::index(&r, "out0")?);
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/rovy/bench-{}", std::process::id()));
        let params = Params {
            pin_dir,
            sessions: 16,
            width: Width::One,
            ethertype: ETHERTYPE,
            mac1: [0; 2],
            limits: Limits::default(),
            log_level: 0,
        };
        let (mut xdp, _) = r.enter(|| Xdp::open(&params))??;
        let port = r.enter(|| xdp.add_port(out_index))??;

        let into = wire(in_index, Macs { dst: gen_mac, src: in_mac }, R_IN, A)?;
        let out = wire(out_index, Macs { dst: sink_mac, src: out_mac }, R_OUT, B)?;
        let rx = RxLink {
            expires_ns: u64::MAX,
            neighbour: 1,
            keys: KEYS,
            source: into.source,
            index: INDEX,
            slot: IN_SLOT,
            flags: 0,
        };
        let tx = TxLink {
            expires_ns: u64::MAX,
            neighbour: 2,
            keys: HopKeys { tag: [5, 6], mask: [7, 8] },
            index: 9,
            counter: 2 * u32::from(OUT_SLOT),
            port,
            mtu: 1500,
            kind: kind::UDP6,
            slot: u32::from(OUT_SLOT),
            header: out.header,
            ..TxLink::default()
        };
        Ok(Self { xdp: Some(xdp), redirect, sink, in_index, gen_mac, in_mac, rx, tx, a, r, _b: b })
    }

    /// Seals the frames of one size.
    ///
    /// # Errors
    /// When they cannot be made or loaded.
    pub(super) fn prepare(&mut self, size: usize) -> Result<Run<'_>> {
        let macs = Macs { dst: self.in_mac, src: self.gen_mac };
        let generator = |to: Ipv6Addr| {
            let header = encap::udp6(macs, (A.octets(), PORT), (to.octets(), PORT));
            let frames = Frames::seal(&header, size, COUNT, &KEYS, INDEX, OUT_SLOT)?;
            let mut traffic = Traffic::load(&frames.template, &frames.stamps)?;
            traffic.send_by(&self.a, "gen0")?;
            anyhow::Ok((traffic, frames.frame))
        };
        let (to_r, to_b) = (generator(R_IN)?, generator(B)?);
        Ok(Run { stage: self, to_r, to_b })
    }

    /// Has r forward this way.
    fn enter(&mut self, way: Way) -> Result<()> {
        let (r, index) = (&self.r, self.in_index);
        match way {
            Way::Hop | Way::HopChecksum => {
                let xdp = self.xdp.as_mut().context("no XDP")?;
                // Another replay window, as the same counters come again.
                xdp.clear_rx(INDEX)?;
                xdp.set_rx(INDEX, &self.rx)?;
                let zero = if way == Way::Hop { tx_flag::ZERO_CHECKSUM } else { 0 };
                xdp.set_tx(OUT_SLOT, &TxLink { flags: tx_flag::REDIRECT | zero, ..self.tx })?;
                r.enter(|| xdp.attach(index, IN, Wish::Native))??;
            }
            Way::Redirect => self.redirect.attach(r, "redirect", IN)?,
            Way::Kernel => {}
        }
        Ok(())
    }

    fn leave(&mut self, way: Way) -> Result<()> {
        match way {
            Way::Hop | Way::HopChecksum => self.xdp.as_mut().context("no XDP")?.detach(self.in_index)?,
            Way::Redirect => self.redirect.detach("redirect")?,
            Way::Kernel => {}
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(Err(e)) = self.xdp.take().map(Xdp::unpin_all) {
            eprintln!("pins are left behind: {e}");
        }
    }
}

/// The hosts with the frames of one size.
pub(super) struct Run<'s> {
    stage: &'s mut Stage,
    to_r: (Traffic, Vec<u8>),
    to_b: (Traffic, Vec<u8>),
}

impl Run<'_> {
    /// Sends all frames once and returns how many packets a second have arrived.
    ///
    /// # Errors
    /// When the way cannot be set up or taken down, or the generator does not run.
    pub(super) fn forward(&mut self, way: Way) -> Result<u64> {
        self.stage.enter(way)?;
        let before = self.stage.sink.swallowed()?;
        let (traffic, frame) = if way == Way::Kernel { &mut self.to_b } else { &mut self.to_r };
        let took = traffic.generate(&self.stage.a, frame, COUNT, CPU)?;
        let arrived = self.stage.sink.swallowed()? - before;
        self.stage.leave(way)?;
        // Nothing is lost on the way when one CPU does it all; a missing packet would be one that was not forwarded.
        ensure!(arrived * 100 >= u64::from(COUNT) * 99, "{way:?} forwarded {arrived} of {COUNT} packets");
        Ok((arrived as f64 / took.as_secs_f64()) as u64)
    }
}

fn wire(ifindex: u32, macs: Macs, src: Ipv6Addr, to: Ipv6Addr) -> Result<Wire> {
    let (ifname, src) = (String::new(), src.into());
    let underlay = Underlay { ifindex, ifname, next_hop: to.into(), macs, src, mtu: 1500 };
    Wire::udp(&underlay, SocketAddr::from((to, PORT)), PORT).context("addresses of two families")
}
