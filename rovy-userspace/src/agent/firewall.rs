//! The inbound firewall in the way of packets, and the commands that change it.

use rovy_common::DropReason;

use super::clock;
use super::commands::Control;
use super::engine::Engine;
use crate::api::{Failure, FailureKind, PortRule, Ports, Reply};
use crate::config;
use crate::core::{HEADROOM, TAILROOM};
use crate::fc00::firewall::{Action, Firewall, Rule, Rules, Sender, Service, Verdict, rules, sockets};
use crate::fc00::packet;
use crate::names::NodeName;

impl Engine {
    /// Gives a packet out of a session to the host, if the firewall lets it in.
    pub(super) fn let_in(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        packet::check(packet).map_err(packet::Insane::reason)?;
        match self.firewall.incoming(clock::mono_ns(), packet) {
            Verdict::Pass => self.deliver(packet),
            Verdict::Drop => Err(DropReason::Firewall),
            Verdict::Answer(answer) => {
                // Whoever is not told only waits longer.
                let _ = self.send_packet(&answer);
                Err(DropReason::Firewall)
            }
        }
    }

    /// Sends an IPv6 packet of the agent's own.
    fn send_packet(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        let range = HEADROOM..HEADROOM + packet.len();
        let mut buf = vec![0; range.end + TAILROOM];
        buf.get_mut(range.clone()).ok_or(DropReason::BadLength)?.copy_from_slice(packet);
        let sealed = self.node.packet(clock::now(), &mut buf, range);
        self.collect();
        match sealed? {
            Some(out) => self.send(&out.path, &mut buf, out.message),
            None => Ok(()),
        }
    }

    /// Takes up the connections that this host has, so that those go on which only receive.
    pub(super) fn adopt_connections(&mut self) {
        match sockets::connected() {
            Ok(all) => self.firewall.adopt(clock::mono_ns(), &all),
            Err(error) => tracing::warn!(%error, "connections from before go on only once this host sends again"),
        }
    }
}

impl Control {
    /// Lets services in or no more, now and after a restart.
    pub(super) fn change_rules(
        &self,
        action: Action,
        services: &[Service],
        from: Option<NodeName>,
    ) -> Result<Reply, Failure> {
        let from = match from {
            Some(NodeName::Whom(whom)) => Some(Sender::Peer(self.whom(&whom)?)),
            Some(NodeName::Address(address)) => Some(address),
            None => None,
        };
        let list: Vec<Rule> = services.iter().map(|service| Rule { service: *service, from }).collect();
        {
            let mut e = self.engine.borrow_mut();
            // All of them or none.
            let mut rules = e.firewall.rules().clone();
            set(&mut rules, action, &list)?;
            e.firewall.set_rules(rules);
        }
        config::persist::set_rules(&self.config_path, action, &list).map_err(|e| {
            let next = format!("mend {} and say it again", self.config_path.display());
            let message = format!("it holds now, but was not written to the configuration: {e}");
            Failure::new(FailureKind::Internal, message).with_next(next)
        })?;
        Ok(Reply::Ports(ports(self)))
    }
}

fn set(rules: &mut Rules, action: Action, list: &[Rule]) -> Result<(), Failure> {
    for rule in list {
        rules.set(action, *rule).map_err(|full| {
            Failure::new(FailureKind::Conflict, format!("{rule}: {full}")).with_next("rovy fc00 ports")
        })?;
    }
    Ok(())
}

/// What `rovy fc00 ports` shows.
pub(super) fn ports(control: &Control) -> Ports {
    let e = control.engine.borrow();
    view(&e.firewall)
}

fn view(firewall: &Firewall) -> Ports {
    let [passed_packets, refused_packets] = firewall.counts();
    let rules = firewall.rules().iter().map(|entry| PortRule {
        service: entry.rule.service.to_string(),
        from: entry.rule.from,
        address: entry.rule.from.map(|f| f.address()),
        action: entry.action,
        packets: entry.packets,
    });
    Ports {
        firewall: if firewall.is_off() { config::Firewall::Off } else { config::Firewall::On },
        reject: firewall.rejects(),
        default_icmp: rules::default(Service::Icmp),
        default: rules::default(Service::Tcp(0)),
        rules: rules.collect(),
        passed_packets,
        refused_packets,
    }
}
