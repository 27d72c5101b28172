//! How programs of this host come to names under .rovy, and what to do where they do not.

use serde::Serialize;

use super::Finding;
use crate::fc00::resolver::{self, Switch};

/// How the programs of this host look up names under .rovy of the agent behind each device.
pub(super) async fn look(devices: &[String]) -> Vec<Names> {
    if devices.is_empty() {
        return Vec::new();
    }
    let answers = resolver::answers();
    let runs = resolver::resolved_runs().unwrap_or(false);
    let (switch, module) = (resolver::host_switch().unwrap_or(Switch::Absent), resolver::module().is_some());
    let mut all = Vec::new();
    for ifname in devices {
        // What resolvectl says when it fails is that it does not ask.
        let asks = if runs { Some(resolver::resolved_asks(ifname).await.unwrap_or(false)) } else { None };
        all.push(Names::judge(ifname, answers, asks, switch, module));
    }
    all
}

/// How names are looked up.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct Names {
    /// The device of the agent.
    pub(super) ifname: String,
    /// `systemd-resolved`, `nss`, or nothing.
    pub(super) by: Option<&'static str>,
    /// Whether it is set up and does not work.
    pub(super) wrong: bool,
    /// How it stands.
    pub(super) message: String,
    /// The command that sets it up.
    pub(super) next: Option<String>,
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

    pub(super) fn finding(&self) -> Option<Finding> {
        let next = self.next.clone().unwrap_or_else(|| "rovy name list".into());
        self.wrong.then(|| Finding { kind: "names", what: self.ifname.clone(), message: self.message.clone(), next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
