//! `rovy doctor`: looks for what is wrong on this host, and says which command mends it. It needs no running agent.

mod names;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::outcome::{NEGATIVE, No, Outcome, PERMISSION, print};
use super::table::seconds;
use crate::api::{Client, ClientError, Command, Fc00Status};
use crate::config::User;
use crate::dataplane::xdp::{Agent, Left, PIN_ROOT, left};
use crate::fc00::routing::{LeftOver, left_over};
use crate::netlink::Netlink;

/// How long an agent may take to answer. One that works does so in a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// One thing that is wrong.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Finding {
    /// `crashed`, `kept`, `dead_link`, `stale_rule`, `stale_tun`, `hung`, `mtu` or `names`.
    kind: &'static str,
    /// What it is about.
    what: String,
    /// What is wrong with it.
    message: String,
    /// The command that mends it.
    next: String,
}

pub(super) fn doctor(socket: Option<&Path>, json: bool) -> Outcome {
    let pins = left(Path::new(PIN_ROOT)).map_err(|e| {
        let code = if rustix::process::geteuid().is_root() { NEGATIVE } else { PERMISSION };
        No::new(code, e.to_string(), Some("sudo rovy doctor".into()))
    })?;
    let mut findings = of_pins(&pins);
    let routing = routing()?;
    findings.extend(of_routing(&routing));
    findings.extend(super::ask::runtime()?.block_on(of_agents(&Client::candidates(socket, &User::current()))));
    let names = super::ask::runtime()?.block_on(names::look(&routing.live));
    findings.extend(names.iter().filter_map(names::Names::finding));
    if json {
        let all = serde_json::json!({ "good": findings.is_empty(), "findings": findings, "names": names });
        print(&format!("{all:#}\n"));
    } else {
        for f in &findings {
            print(&format!("{}: {}\n  next: {}\n", f.what, f.message, f.next));
        }
        for n in names.iter().filter(|n| !n.wrong) {
            print(&format!("{}: {}\n", n.ifname, n.message));
            n.next.iter().for_each(|next| print(&format!("  next: {next}\n")));
        }
        if findings.is_empty() {
            print("nothing is wrong\n\nnext: rovy\n");
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(No::quiet(NEGATIVE)) }
}

fn routing() -> Outcome<LeftOver> {
    let look = async { left_over(&Netlink::new()?).await };
    super::ask::runtime()?.block_on(look).map_err(|e| No::from(anyhow::Error::from(e)))
}

async fn of_agents(all: &[Client]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for client in all {
        findings.extend(of_agent(client).await);
    }
    findings
}

/// What is wrong with an agent that listens. Whoever holds pins or a socket is alive, and may be stuck.
async fn of_agent(client: &Client) -> Option<Finding> {
    let pid = match timeout(PATIENCE, client.process()).await {
        Ok(Ok(pid)) => pid,
        // More wait for it already than the kernel lets wait.
        Ok(Err(e)) if e.kind() == ErrorKind::WouldBlock => None,
        Ok(Err(_)) => return None,
        Err(_) => None,
    };
    let Some(info) = ask(client, &Command::Info).await else { return Some(hung(client, pid)) };
    let fc00: Fc00Status = serde_json::from_value(ask(client, &Command::Fc00Status).await?).ok()?;
    Some(Finding {
        kind: "mtu",
        what: format!("TUN device {}", fc00.ifname.unwrap_or_default()),
        message: fc00.advice?,
        next: format!("edit {} and restart the agent", info["config"].as_str().unwrap_or("the configuration")),
    })
}

/// What the agent answers, be it an error; `None` when it does not.
async fn ask(client: &Client, command: &Command) -> Option<Value> {
    match timeout(PATIENCE, client.call(command)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(ClientError::Refused(_))) => Some(Value::Null),
        Ok(Err(_)) | Err(_) => None,
    }
}

fn hung(client: &Client, pid: Option<i32>) -> Finding {
    let stopped = pid.is_some_and(stopped);
    let who = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    let message = format!("the agent{who} does not answer within {} s", PATIENCE.as_secs());
    let signal = if stopped { "CONT" } else { "KILL" };
    Finding {
        kind: "hung",
        what: client.socket().display().to_string(),
        message: if stopped {
            format!("{message}: it is stopped")
        } else {
            format!("{message}. The next start takes over what its kernel switches")
        },
        next: pid.map_or_else(|| "ps -C rovy".into(), |pid| format!("sudo kill -{signal} {pid}")),
    }
}

/// Whether somebody has stopped a process.
fn stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

fn of_pins(all: &[Left]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for left in all {
        let what = left.dir.display().to_string();
        let (kind, message) = match left.agent {
            Agent::Alive => {
                findings.extend(left.dead_links.iter().map(|pin| Finding {
                    kind: "dead_link",
                    what: pin.display().to_string(),
                    message: "the device of this XDP link is gone".into(),
                    next: format!("sudo rm {}", pin.display()),
                }));
                continue;
            }
            Agent::Kept(age) => (
                "kept",
                format!(
                    "its agent ended {} ago and left transit on purpose; the kernel switches until the keys expire, 180 s \
                     after they were made",
                    seconds(age.as_secs())
                ),
            ),
            Agent::Crashed(age) => (
                "crashed",
                format!(
                    "its agent crashed or was killed; its last sign of life is {} old; the kernel switches until the keys \
                     expire, 180 s after they were made",
                    seconds(age.as_secs())
                ),
            ),
        };
        let message = format!("{message}. A start of the agent takes all of it over; without one, remove it");
        findings.push(Finding { kind, next: format!("sudo rm -r {what}"), message, what });
    }
    findings
}

fn of_routing(left: &LeftOver) -> Vec<Finding> {
    let rules = left.rules.iter().map(|(priority, table)| Finding {
        kind: "stale_rule",
        what: format!("routing rule {priority} into table {table}"),
        message: "no agent holds the device of this table. The next start of an agent with fc00 removes the rule"
            .into(),
        next: format!("sudo ip -6 rule del pref {priority} to fc00::/8 table {table}"),
    });
    let devices = left.devices.iter().map(|name| Finding {
        kind: "stale_tun",
        what: format!("TUN device {name}"),
        message: "no process holds it, so packets to fc00::/8 end there".into(),
        next: format!("sudo ip link del {name}"),
    });
    rules.chain(devices).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn next(findings: &[Finding]) -> Vec<(&'static str, &str)> {
        findings.iter().map(|f| (f.kind, f.next.as_str())).collect()
    }

    #[test]
    fn each_finding_names_the_command_that_mends_it() {
        let left = |agent, dead: &[&str]| Left {
            dir: "/r/n/v1".into(),
            agent,
            dead_links: dead.iter().map(Into::into).collect(),
        };
        assert_eq!(of_pins(&[left(Agent::Alive, &[])]), []);
        let age = Duration::from_secs(42);
        let found = of_pins(&[
            left(Agent::Alive, &["/r/n/v1/link-7-native"]),
            left(Agent::Crashed(age), &["/r/n/v1/link-7-native"]),
            left(Agent::Kept(age), &[]),
        ]);
        assert_eq!(
            next(&found),
            [
                ("dead_link", "sudo rm /r/n/v1/link-7-native"),
                ("crashed", "sudo rm -r /r/n/v1"),
                ("kept", "sudo rm -r /r/n/v1")
            ]
        );
        assert!(found[1..].iter().all(|f| f.message.contains("42 s")), "{found:?}");
        assert!(found[2].message.contains("on purpose") && !found[1].message.contains("on purpose"), "{found:?}");
    }

    #[test]
    fn what_is_left_of_routing_is_named_too() {
        let found = of_routing(&LeftOver {
            rules: vec![(1312, 13_120_007)],
            devices: vec!["rovy0".into()],
            live: vec!["rovy1".into()],
        });
        assert_eq!(
            next(&found),
            [
                ("stale_rule", "sudo ip -6 rule del pref 1312 to fc00::/8 table 13120007"),
                ("stale_tun", "sudo ip link del rovy0")
            ]
        );
    }
}
