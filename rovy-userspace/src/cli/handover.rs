//! Root's part where the agent runs as an ordinary user: what the agent may not open is opened here and handed to it.

use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::Value;

use super::ask::read;
use super::outcome::{NEGATIVE, No, Outcome, PERMISSION, note};
use crate::api::{Client, ClientError, Command, Failure, FailureKind, Fc00Device, MapSizes, Wants};
use crate::config::{Mtu, SlotWidth, User, free_ethertype};
use crate::dataplane::xdp;
use crate::fc00::routing::{setup, sweep};
use crate::fc00::tun::Made;
use crate::fc00::{Fc00Error, namespace, resolver};
use crate::multiaddr::Multiaddr;
use crate::netlink::{Netlink, check_ethernet_listener};
use crate::transport::{TransportError, ethernet};

/// More receiver indices than a configuration can ask for.
const SESSIONS: u32 = 65_536;

/// Asks the agent. What it may not do is done for it, by root.
pub(super) async fn ask(client: &Client, command: &Command, user: &User, socket: Option<&Path>) -> Outcome<Value> {
    let failure = match client.call(command).await {
        Err(ClientError::Refused(failure)) => failure,
        other => return Ok(other?),
    };
    match command {
        Command::ListenerStart { .. } | Command::Fc00Start(_)
            if failure.kind == FailureKind::Permission && !user.root =>
        {
            Err(as_root(failure, socket).into())
        }
        Command::ListenerStart { address: address @ Multiaddr::Ethernet { ifname, .. }, persist }
            if failure.kind == FailureKind::Permission =>
        {
            let give = Command::GiveListener { address: address.clone(), persist: *persist };
            listener(client, &give, ifname, user.sudo_uid).await
        }
        Command::Fc00Start(device) if failure.kind == FailureKind::Permission => {
            let sudo = user.sudo_uid;
            within(device.netns.as_deref(), async || fc00(client, device, sudo).await).await
        }
        _ => Err(failure.into()),
    }
}

/// The command to type names the agent's socket, where root would not find it.
fn as_root(mut failure: Failure, socket: Option<&Path>) -> Failure {
    if let (Some(next), Some(socket)) = (&mut failure.next, socket) {
        *next = next.replacen("sudo rovy ", &format!("sudo rovy --socket {} ", socket.display()), 1);
    }
    failure
}

async fn wants(client: &Client, sudo: Option<u32>) -> Outcome<Wants> {
    let wants: Wants = read(client.hand_over(&Command::Wants, Vec::new(), sudo).await?)?;
    check(&wants)
        .map_err(|what| No::new(NEGATIVE, format!("the agent wants what root does not give: {what}"), None))?;
    Ok(wants)
}

/// Nothing but what a configuration may hold: the agent is an ordinary user's program, and root acts upon this.
fn check(wants: &Wants) -> Result<(), String> {
    free_ethertype(wants.ethertype)?;
    Mtu::try_from(wants.fc00_mtu).map_err(|why| format!("the MTU {} {why}", wants.fc00_mtu))?;
    if let Some(MapSizes { sessions, slot_width }) = wants.xdp {
        SlotWidth::try_from(slot_width).map_err(|why| format!("slots of {slot_width} bytes: {why}"))?;
        if !sessions.is_power_of_two() || sessions > SESSIONS {
            return Err(format!("maps for {sessions} sessions"));
        }
    }
    Ok(())
}

async fn listener(client: &Client, give: &Command, ifname: &str, sudo: Option<u32>) -> Outcome<Value> {
    let wants = wants(client, sudo).await?;
    let interfaces = netlink()?.interfaces().await.map_err(negative)?;
    let interface = check_ethernet_listener(&interfaces, ifname).map_err(negative)?;
    let open = || ethernet::raw_for_others(interface.index, ifname, wants.ethertype).map_err(opening);
    let Some(programs) = wants.xdp.and_then(programs) else {
        return Ok(client.hand_over(give, vec![open()?], sudo).await?);
    };
    let all = std::iter::once(open()?).chain(programs).collect();
    match client.hand_over(give, all, sudo).await {
        Err(ClientError::Refused(failure)) if failure.kind == FailureKind::Unsupported => {
            note(&format!("no XDP: {failure}; the agent switches"));
            Ok(client.hand_over(give, vec![open()?], sudo).await?)
        }
        other => Ok(other?),
    }
}

/// The XDP program and its maps, where this machine has them.
fn programs(sizes: MapSizes) -> Option<Vec<OwnedFd>> {
    let width = SlotWidth::try_from(sizes.slot_width).ok()?.into();
    xdp::make_for_others(sizes.sessions, width).map_err(|error| note(&format!("no XDP: {error}"))).ok()
}

/// Does this in another network namespace, on a thread and runtime of its own.
async fn within<T: Send>(netns: Option<&str>, work: impl AsyncFnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    let Some(netns) = netns else { return work().await };
    let inside = || {
        namespace::enter(netns).map_err(making)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(negative)?.block_on(work())
    };
    let done = std::thread::scope(|s| s.spawn(inside).join());
    done.unwrap_or_else(|_| Err(negative(format!("the work in the network namespace {netns} ended at once"))))
}

/// In the network namespace of the device.
async fn fc00(client: &Client, device: &Fc00Device, sudo: Option<u32>) -> Outcome<Value> {
    let wants = wants(client, sudo).await?;
    let netlink = netlink()?;
    let made = match (&device.existing, &device.ifname) {
        (Some(existing), _) => match existing.parse() {
            Ok(descriptor) => Made::inherited(descriptor),
            Err(_) => Made::existing(existing),
        },
        (None, Some(name)) => Made::new(name),
        (None, None) => Made::new(ours(&wants.fc00_ifname)?),
    }
    .map_err(making)?;
    // The agent has it once it answers; without that it goes with this process.
    let routing = setup(&netlink, made.name(), wants.address, wants.fc00_mtu.into()).await.map_err(making)?;
    let given = match made.descriptor() {
        Ok(descriptor) => {
            let give = Command::GiveFc00 { netns: device.netns.clone() };
            client.hand_over(&give, vec![descriptor], sudo).await.map_err(No::from)
        }
        Err(error) => Err(making(error)),
    };
    // For the same reason this command tells systemd-resolved: it would not listen to the agent's user.
    if given.is_ok()
        && wants.dns
        && device.netns.is_none()
        && resolver::resolved_runs().unwrap_or(false)
        && let Err(error) = resolver::tell_resolved(made.name()).await
    {
        note(&format!("systemd-resolved does not ask for names under .rovy: {error}"));
    }
    if given.is_err()
        && let Err(error) = routing.teardown().await
    {
        note(&format!("the routing rules stay: {error}"));
    }
    given
}

/// Firewalls go by interface names: any but a name of rovy's own is given only where root typed it.
fn ours(name: &str) -> Outcome<&str> {
    if name.starts_with("rovy") {
        return Ok(name);
    }
    let message = format!("the agent wants the interface name {name:?}, which root has to agree to");
    Err(No::new(NEGATIVE, message, Some(format!("sudo rovy fc00 start --ifname {name}"))))
}

/// After `fc00 stop`: removes the rules of devices that are gone, where root asks, also where the device was. How many.
pub(super) async fn tidy(user: &User, netns: Option<&str>) -> Outcome<usize> {
    if !user.root {
        return Ok(0);
    }
    let there = match netns {
        // It may be gone by now, and its rules with it.
        Some(_) => within(netns, async || sweep(&netlink()?).await.map_err(making)).await.unwrap_or(1),
        None => 0,
    };
    Ok(there + sweep(&netlink()?).await.map_err(making)?)
}

fn netlink() -> Outcome<Netlink> {
    Netlink::new().map_err(negative)
}

fn negative(error: impl std::fmt::Display) -> No {
    No::new(NEGATIVE, error.to_string(), None)
}

fn opening(error: TransportError) -> No {
    let code = if matches!(error, TransportError::Permission { .. }) { PERMISSION } else { NEGATIVE };
    No::new(code, error.to_string(), None)
}

fn making(error: Fc00Error) -> No {
    let code =
        if matches!(error, Fc00Error::Permission { .. } | Fc00Error::Namespace { .. }) { PERMISSION } else { NEGATIVE };
    No::new(code, error.to_string(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wants {
        Wants {
            ethertype: 0x88b5,
            address: "fc00::1".parse().unwrap(),
            fc00_ifname: "rovy0".into(),
            fc00_mtu: 1376,
            dns: true,
            xdp: Some(MapSizes { sessions: 1024, slot_width: 1 }),
        }
    }

    #[test]
    fn an_agent_gets_no_more_than_a_configuration_may_hold() {
        assert_eq!(check(&wanted()), Ok(()));
        for (ethertype, mtu, sessions, slot_width) in [
            (3, 1376, 1024, 1),
            (0x86dd, 1376, 1024, 1),
            (0x88b5, 65_535, 1024, 1),
            (0x88b5, 1376, 1 << 31, 1),
            (0x88b5, 1376, 1000, 1),
            (0x88b5, 1376, 0, 1),
            (0x88b5, 1376, 1024, 3),
        ] {
            let xdp = Some(MapSizes { sessions, slot_width });
            let wants = Wants { ethertype, fc00_mtu: mtu, xdp, ..wanted() };
            assert!(check(&wants).is_err(), "{wants:?}");
        }
    }

    #[test]
    fn names_that_a_firewall_may_know_are_roots_to_give() {
        assert!(ours("rovy7").is_ok());
        assert!(ours("tailscale0").is_err());
    }

    #[test]
    fn the_command_to_type_finds_the_same_agent() {
        let failure = || Failure::new(FailureKind::Permission, "no").with_next("sudo rovy fc00 start");
        assert_eq!(as_root(failure(), None).next.as_deref(), Some("sudo rovy fc00 start"));
        let next = as_root(failure(), Some(Path::new("/x/api.sock"))).next;
        assert_eq!(next.as_deref(), Some("sudo rovy --socket /x/api.sock fc00 start"));
    }
}
