//! What root opens for an agent that may not: checked, then used as if the agent had opened it.

use std::os::fd::OwnedFd;

use super::commands::{Control, internal, transport_failure};
use super::listeners::Socket;
use super::{listeners, params, tun};
use crate::api::{Failure, FailureKind, MapSizes, Wants};
use crate::dataplane::xdp::{Xdp, XdpError};
use crate::fc00::Tun;
use crate::multiaddr::Multiaddr;
use crate::netlink::Interface;
use crate::transport::EthernetSocket;

fn unfit(what: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Usage, what.to_string())
}

impl Control {
    /// What root would have to open.
    pub(super) fn wants(&self) -> Wants {
        let e = self.engine.borrow();
        let params = params(&self.config, &e.node.id());
        let sizes = MapSizes { sessions: params.sessions, slot_width: params.width.bytes() as u8 };
        Wants {
            ethertype: self.config.listen.ethertype,
            address: e.node.id().address(),
            fc00_ifname: self.ifname.clone(),
            fc00_mtu: self.config.fc00.mtu.bytes(),
            dns: e.names.serves(),
            xdp: e.kernel.lacks_xdp().then_some(sizes),
        }
    }

    /// Listens by a packet socket that root opened. The XDP program and its maps may follow it. Nothing changes when anything
    /// is not what it should be.
    pub(super) async fn take_listener(&self, address: &Multiaddr, given: Vec<OwnedFd>) -> Result<(), Failure> {
        let Multiaddr::Ethernet { .. } = address else {
            return Err(unfit(format!("{address}: only Ethernet listeners are handed over")));
        };
        let Some(Interface { index, name, mac: Some(mac), .. }) = self.interface_for(address).await? else {
            return Err(unfit(format!("{address}: it has no MAC address")));
        };
        let mut given = given.into_iter();
        let Some(socket) = given.next() else { return Err(unfit("no socket came")) };
        let socket = EthernetSocket::given(socket, index, &name, mac, self.config.listen.ethertype);
        let socket = socket.map_err(|e| transport_failure(address, &e))?;
        let programs: Vec<OwnedFd> = given.collect();
        let xdp = if programs.is_empty() { None } else { Some(self.check_xdp(programs)?) };
        {
            let mut e = self.engine.borrow_mut();
            let e = &mut *e;
            if let Some(mut xdp) = xdp {
                xdp.set_secrets(e.gate.secrets()).map_err(internal)?;
                for index in e.node.expected() {
                    xdp.expect_index(index).map_err(internal)?;
                }
                e.tables.share(&mut xdp).map_err(internal)?;
                e.kernel.give(xdp);
                tracing::info!("root handed the XDP program over");
            }
        }
        listeners::start(&self.engine, address.clone(), Some(Socket::Ethernet(std::rc::Rc::new(socket))));
        self.started(Some((index, &name)));
        Ok(())
    }

    fn check_xdp(&self, programs: Vec<OwnedFd>) -> Result<Xdp, Failure> {
        let e = self.engine.borrow();
        if !e.kernel.lacks_xdp() {
            return Err(Failure::new(FailureKind::Conflict, "the agent has XDP, or is configured to go without"));
        }
        let params = params(&self.config, &e.node.id());
        Xdp::given(&params, programs).map_err(|error| match error {
            XdpError::Given(_) => unfit(error),
            XdpError::Unprivileged => Failure::new(FailureKind::Unsupported, error.to_string()),
            _ => internal(error),
        })
    }

    /// Uses the TUN device that root made and routed.
    pub(super) async fn take_fc00(&self, given: Vec<OwnedFd>, netns: Option<String>) -> Result<(), Failure> {
        let Ok([device]) = <[OwnedFd; 1]>::try_from(given) else { return Err(unfit("one TUN device is expected")) };
        self.no_fc00()?;
        let tun = Tun::given(device, self.config.fc00.offload.into()).map_err(unfit)?;
        let mtu = self.config.fc00.mtu.bytes();
        if netns.is_some() {
            // Root says where it is; nothing there can be looked at from here.
            tun::run_given(&self.engine, tun, netns, mtu);
            return Ok(());
        }
        let interfaces = self.netlink.interfaces().await.map_err(internal)?;
        let Some(found) = interfaces.iter().find(|i| i.index == tun.ifindex() && i.name == tun.name()) else {
            return Err(unfit(format!("the TUN device {} is not in this network namespace", tun.name())));
        };
        let address = self.engine.borrow().node.id().address();
        if found.ethernet || found.mtu != u32::from(mtu) || !found.addrs.contains(&address.into()) {
            return Err(unfit(format!("{} is no TUN device with the address {address} and the MTU {mtu}", tun.name())));
        }
        // Asked again: another command may have been faster while this one waited.
        self.no_fc00()?;
        tun::run_given(&self.engine, tun, None, mtu);
        Ok(())
    }
}
