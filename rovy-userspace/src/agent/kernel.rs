//! The kernel's part as the agent sees it: where XDP is attached, which addresses are ours, which devices it can send out of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use rovy_common::maps::{LocalKey, kind};

use crate::config::XdpMode;
use crate::dataplane::xdp::{self, Adopted, Attached, Mode, Params, Wish, Xdp};
use crate::netlink::{Interface, Transmit, features};

/// XDP, or why there is none.
pub(super) struct Kernel {
    xdp: Option<Xdp>,
    /// Why there is no XDP at all; empty when there is.
    why: String,
    /// Configured to go without.
    off: bool,
    wish: Wish,
    attached: BTreeMap<u32, Attached>,
    refused: BTreeMap<u32, String>,
    locals: BTreeSet<LocalKey>,
    /// Of devices that packets leave by: whether they transmit redirected frames.
    transmit: BTreeMap<u32, Transmit>,
}

impl Kernel {
    /// Loads or adopts the programs and maps, if the mode wants them and the machine can.
    pub(super) fn open(params: &Params, mode: XdpMode) -> (Self, Adopted) {
        let wish = match mode {
            XdpMode::Auto | XdpMode::Off => Wish::Auto,
            XdpMode::Native => Wish::Native,
            XdpMode::Generic => Wish::Generic,
        };
        let opened = match mode {
            XdpMode::Off => {
                // The programs of an agent that ran with XDP would go on without anybody who fills their maps.
                match xdp::clear(&params.pin_dir) {
                    Ok(true) => tracing::info!("took the XDP programs of a former agent off"),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "a former agent's XDP programs may still run"),
                }
                Err("switched off by configuration".to_owned())
            }
            XdpMode::Auto | XdpMode::Native | XdpMode::Generic => Xdp::open(params).map_err(|e| e.to_string()),
        };
        let (xdp, adopted, why) = match opened {
            Ok((xdp, adopted)) => (Some(xdp), adopted, String::new()),
            Err(why) => (None, Adopted::default(), why),
        };
        let attached = adopted.attached.iter().map(|a| (a.ifindex, a.clone())).collect();
        let none = BTreeMap::new();
        let kernel = Self {
            xdp,
            why,
            off: mode == XdpMode::Off,
            wish,
            attached,
            refused: BTreeMap::new(),
            locals: BTreeSet::new(),
            transmit: none,
        };
        (kernel, adopted)
    }

    pub(super) fn xdp(&mut self) -> Option<&mut Xdp> {
        self.xdp.as_mut()
    }

    pub(super) fn xdp_ref(&self) -> Option<&Xdp> {
        self.xdp.as_ref()
    }

    /// Takes XDP out for good, to end it.
    pub(super) fn take(&mut self) -> Option<Xdp> {
        self.why = "the agent is stopping".to_owned();
        self.xdp.take()
    }

    /// Uses the program and maps that root made, from now on.
    pub(super) fn give(&mut self, xdp: Xdp) {
        self.xdp = Some(xdp);
        self.why.clear();
        self.transmit.clear();
    }

    /// Whether there is no XDP although it is wanted.
    pub(super) fn lacks_xdp(&self) -> bool {
        self.xdp.is_none() && !self.off
    }

    /// Whether XDP ends with the agent, as root made it.
    pub(super) fn ends_with_agent(&self) -> bool {
        self.xdp.as_ref().is_some_and(|xdp| xdp.pin_dir().is_none())
    }

    /// Why there is no XDP, if there is none.
    pub(super) fn why(&self) -> Option<&str> {
        if self.xdp.is_some() { None } else { Some(&self.why) }
    }

    /// Attaches to an interface that carries rovy traffic. A refusal is remembered and tried again only after
    /// [`Kernel::link_changed`].
    pub(super) fn attach(&mut self, ifindex: u32, ifname: &str) {
        let Some(xdp) = &mut self.xdp else { return };
        if self.attached.contains_key(&ifindex) || self.refused.contains_key(&ifindex) {
            return;
        }
        match xdp.attach(ifindex, ifname, self.wish) {
            Ok(attached) => {
                tracing::info!(interface = ifname, mode = mode_name(attached.mode), why = attached.why, "XDP attached");
                self.attached.insert(ifindex, attached);
            }
            Err(error) => {
                tracing::warn!(interface = ifname, %error, "no XDP here: the agent switches what comes in");
                self.refused.insert(ifindex, error.to_string());
            }
        }
        self.transmit.clear();
    }

    /// Detaches from an interface.
    pub(super) fn detach(&mut self, ifindex: u32) {
        if self.attached.remove(&ifindex).is_some()
            && let Some(xdp) = &mut self.xdp
            && let Err(error) = xdp.detach(ifindex)
        {
            tracing::warn!(ifindex, %error, "cannot detach XDP");
        }
        self.refused.remove(&ifindex);
        self.transmit.clear();
    }

    /// Interfaces XDP is attached to.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// An interface changed: what was refused may work now; what is gone is detached.
    pub(super) fn interfaces_changed(&mut self, interfaces: &[Interface]) {
        self.refused.clear();
        let gone: Vec<u32> =
            self.attached.keys().filter(|i| !interfaces.iter().any(|f| f.index == **i)).copied().collect();
        for ifindex in gone {
            self.detach(ifindex);
        }
    }

    /// The mode on an interface, and why.
    pub(super) fn mode(&self, ifindex: u32) -> (&'static str, String) {
        if let Some(a) = self.attached.get(&ifindex) {
            return (mode_name(a.mode), a.why.clone());
        }
        let why = self.refused.get(&ifindex).cloned();
        ("off", why.or_else(|| self.why().map(str::to_owned)).unwrap_or_else(|| "not attached".to_owned()))
    }

    /// Looks anew whether devices transmit redirected frames; whether anything changed. A veth's ability comes and goes
    /// with its peer's XDP program, and nobody tells.
    pub(super) fn probe(&mut self) -> bool {
        let mut changed = false;
        for (ifindex, known) in &mut self.transmit {
            let now = features::can_transmit_redirected(*ifindex);
            changed |= std::mem::replace(known, now) != now;
        }
        changed
    }

    /// The port to redirect out of an interface with, or why the kernel cannot.
    pub(super) fn port(&mut self, ifindex: u32, ifname: &str) -> Result<u32, String> {
        let Some(xdp) = &mut self.xdp else { return Err(self.why.clone()) };
        if self.attached.is_empty() {
            return Err("XDP is attached nowhere".to_owned());
        }
        // Generic XDP transmits like the stack; a native program needs the driver's ndo_xdp_xmit.
        let native = self.attached.values().any(|a| a.mode == Mode::Native);
        let able = features::can_transmit_redirected(ifindex);
        self.transmit.insert(ifindex, able);
        let known = able == Transmit::Yes || (able == Transmit::Unknown && self.attached.contains_key(&ifindex));
        if native && !known {
            return Err(format!("{ifname} cannot transmit redirected frames"));
        }
        xdp.add_port(ifindex).map_err(|e| e.to_string())
    }

    /// Tells the kernel which addresses are ours, given the listeners.
    pub(super) fn set_locals(&mut self, interfaces: &[Interface], udp: &[SocketAddr]) {
        let Some(xdp) = &mut self.xdp else { return };
        let mut wanted = BTreeSet::new();
        for interface in interfaces {
            if let Some(mac) = interface.mac {
                let mut addr = [0; 16];
                addr[..6].copy_from_slice(&mac);
                wanted.insert(LocalKey { addr, port_or_ifindex: interface.index, kind: kind::ETHERNET });
            }
            // A veth drops what native XDP sends back while nothing polls its peer.
            let native = self.attached.get(&interface.index).is_some_and(|a| a.mode == Mode::Native);
            if native && interface.kind.as_deref() == Some("veth") {
                let able = self.transmit.entry(interface.index);
                if *able.or_insert_with(|| features::can_transmit_redirected(interface.index)) == Transmit::No {
                    wanted.insert(LocalKey::mute(interface.index));
                }
            }
            let bound = |ip: &IpAddr, at: &SocketAddr| {
                at.ip() == *ip || (at.ip().is_unspecified() && at.is_ipv4() == ip.is_ipv4())
            };
            for ip in &interface.addrs {
                wanted.extend(udp.iter().filter(|at| bound(ip, at)).map(|at| local_udp(*ip, at.port())));
            }
        }
        for key in wanted.difference(&self.locals) {
            if let Err(error) = xdp.add_local(*key) {
                tracing::warn!(%error, "cannot tell the kernel an address of ours");
            }
        }
        for key in self.locals.difference(&wanted) {
            if let Err(error) = xdp.remove_local(*key) {
                tracing::debug!(%error, "cannot take an address back");
            }
        }
        self.locals = wanted;
    }
}

fn local_udp(ip: IpAddr, port: u16) -> LocalKey {
    let mut addr = [0; 16];
    let kind = match ip {
        IpAddr::V4(a) => {
            addr[..4].copy_from_slice(&a.octets());
            kind::UDP4
        }
        IpAddr::V6(a) => {
            addr = a.octets();
            kind::UDP6
        }
    };
    // The port as the program loads it from the packet: two bytes, natively.
    let port_or_ifindex = u32::from(u16::from_ne_bytes(port.to_be_bytes()));
    LocalKey { addr, port_or_ifindex, kind }
}

/// The name of a mode in output.
pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
    }
}
