//! `rovy doctor`: looks for what is wrong on this host, and says which command mends it. It needs no running agent.

use std::path::Path;

use serde::Serialize;

use super::outcome::{NEGATIVE, No, Outcome, PERMISSION, print};
use super::table::seconds;
use crate::dataplane::xdp::{Agent, Left, PIN_ROOT, left};
use crate::fc00::resolver::{self, Switch};
use crate::fc00::routing::{LeftOver, left_over};
use crate::netlink::Netlink;

/// One thing that is wrong.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Finding {
    /// `crashed`, `kept`, `dead_link`, `stale_rule`, `stale_tun` or `names`.
    kind: &'static str,
    /// What it is about.
    what: String,
    /// What is wrong with it.
    message: String,
    /// The command that mends it.
    next: String,
}

pub(super) fn doctor(json: bool) -> Outcome {
    let pins = left(Path::new(PIN_ROOT)).map_err(|e| {
        let code = if rustix::process::geteuid().is_root() { NEGATIVE } else { PERMISSION };
        No::new(code, e.to_string(), Some("sudo rovy doctor".into()))
    })?;
    let mut findings = of_pins(&pins);
    let routing = routing()?;
    findings.extend(of_routing(&routing));
    let names = names(&routing.live)?;
    findings.extend(names.iter().filter_map(Names::finding));
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

fn run<T>(look: impl Future<Output = anyhow::Result<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from).and_then(|r| r.block_on(look)).map_err(No::from)
}

fn routing() -> Outcome<LeftOver> {
    run(async { Ok(left_over(&Netlink::new()?).await?) })
}

/// How the programs of this host look up names under .rovy of the agent behind each device.
fn names(devices: &[String]) -> Outcome<Vec<Names>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let answers = resolver::answers();
    let runs = resolver::resolved_runs().unwrap_or(false);
    let (switch, module) = (resolver::host_switch().unwrap_or(Switch::Absent), resolver::module().is_some());
    run(async {
        let mut all = Vec::new();
        for ifname in devices {
            // What resolvectl says when it fails is that it does not ask.
            let asks = if runs { Some(resolver::resolved_asks(ifname).await.unwrap_or(false)) } else { None };
            all.push(Names::judge(ifname, answers, asks, switch, module));
        }
        Ok(all)
    })
}

/// How names are looked up.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Names {
    /// The device of the agent.
    ifname: String,
    /// `systemd-resolved`, `nss`, or nothing.
    by: Option<&'static str>,
    /// Whether it is set up and does not work.
    wrong: bool,
    /// How it stands.
    message: String,
    /// The command that sets it up.
    next: Option<String>,
}

impl Names {
    /// `asks`: whether systemd-resolved asks the agent, `None` where it does not run.
    fn judge(ifname: &str, answers: bool, asks: Option<bool>, switch: Switch, module: bool) -> Self {
        let names = |by, wrong, message: &str, next: Option<String>| Self {
            ifname: ifname.to_owned(),
            by,
            wrong,
            message: message.to_owned(),
            next,
        };
        let (resolved, nss) = (Some("systemd-resolved"), Some("nss"));
        match (asks, switch) {
            _ if !answers => {
                names(None, false, "the agent does not answer DNS: `dns.enabled` is false, or it is busy", None)
            }
            (Some(true), _) => names(resolved, false, "systemd-resolved asks the agent for names under .rovy", None),
            (Some(false), Switch::Absent) => {
                let all = resolver::settings(ifname).map(|words| format!("sudo resolvectl {}", words.join(" ")));
                let message = "systemd-resolved runs and does not ask the agent for names under .rovy";
                names(resolved, true, message, Some(all.join(" && ")))
            }
            (_, Switch::Asked) if module => names(nss, false, "glibc asks the NSS module for names under .rovy", None),
            (_, Switch::Asked) => {
                let message = "/etc/nsswitch.conf names rovy, and there is no libnss_rovy.so.2";
                names(nss, true, message, Some("cargo xtask install, or remove rovy from /etc/nsswitch.conf".into()))
            }
            (_, Switch::BehindDns) => {
                let message = "rovy stands behind dns in /etc/nsswitch.conf: names under .rovy are asked for on the internet first";
                let next = "sudo sed -i '/^hosts:/s/ rovy//' /etc/nsswitch.conf && ".to_owned() + resolver::NSS_COMMAND;
                names(nss, true, message, Some(next))
            }
            (None, Switch::Absent) => {
                let message = "programs of this host do not find names under .rovy: there is no systemd-resolved, and /etc/nsswitch.conf does not name rovy";
                let install = if module { "" } else { "cargo xtask install && " };
                names(None, false, message, Some(format!("{install}{}", resolver::NSS_COMMAND)))
            }
        }
    }

    fn finding(&self) -> Option<Finding> {
        let next = self.next.clone().unwrap_or_else(|| "rovy name list".into());
        self.wrong.then(|| Finding { kind: "names", what: self.ifname.clone(), message: self.message.clone(), next })
    }
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

    #[test]
    fn how_names_are_looked_up_is_said_and_what_does_not_work_is_a_finding() {
        use Switch::{Absent, Asked, BehindDns};
        let judge = |answers, asks, switch, module| Names::judge("rovy0", answers, asks, switch, module);
        for (names, by, wrong, next) in [
            (judge(true, Some(true), Absent, false), Some("systemd-resolved"), false, ""),
            (judge(true, Some(false), Absent, false), Some("systemd-resolved"), true, "resolvectl dns rovy0 fc00::1"),
            (judge(true, None, Asked, true), Some("nss"), false, ""),
            (judge(true, Some(false), Asked, true), Some("nss"), false, ""),
            (judge(true, None, Asked, false), Some("nss"), true, "cargo xtask install"),
            (judge(true, None, BehindDns, true), Some("nss"), true, "sed"),
            (judge(true, None, Absent, true), None, false, resolver::NSS_COMMAND),
            (judge(true, None, Absent, false), None, false, "cargo xtask install && sudo sed"),
            (judge(false, Some(false), BehindDns, false), None, false, ""),
        ] {
            assert_eq!((names.by, names.wrong), (by, wrong), "{names:?}");
            assert!(names.next.as_deref().unwrap_or("").contains(next), "{names:?}");
            assert_eq!(names.finding().is_some(), wrong);
        }
    }
}
