//! `rovy doctor`: looks for what is wrong on this host, and says which command mends it. It needs no running agent.

use std::path::Path;

use serde::Serialize;

use super::outcome::{NEGATIVE, No, Outcome, PERMISSION, print};
use crate::dataplane::xdp::{Left, PIN_ROOT, left};

/// One thing that is wrong.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Finding {
    /// `nobodys_pins` or `dead_link`.
    kind: &'static str,
    /// What it is about.
    what: String,
    /// What is wrong with it.
    message: String,
    /// The command that mends it.
    next: String,
}

pub(super) fn doctor(json: bool) -> Outcome {
    let found = left(Path::new(PIN_ROOT)).map_err(|e| {
        let code = if rustix::process::geteuid().is_root() { NEGATIVE } else { PERMISSION };
        No::new(code, e.to_string(), Some("sudo rovy doctor".into()))
    })?;
    let findings = findings(&found);
    if json {
        print(&format!("{:#}\n", serde_json::json!({ "good": findings.is_empty(), "findings": findings })));
    } else if findings.is_empty() {
        print("nothing is wrong\n\nnext: rovy\n");
    } else {
        for f in &findings {
            print(&format!("{}: {}\n  next: {}\n", f.what, f.message, f.next));
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(No::quiet(NEGATIVE)) }
}

fn findings(all: &[Left]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for left in all {
        let what = left.dir.display().to_string();
        if !left.alive {
            findings.push(Finding {
                kind: "nobodys_pins",
                next: format!("sudo rm -r {what}"),
                message: "no agent runs for these XDP programs and maps; they switch until their keys expire, 180 s at most. \
                          A start of the agent takes them over"
                    .into(),
                what,
            });
            continue;
        }
        findings.extend(left.dead_links.iter().map(|pin| Finding {
            kind: "dead_link",
            what: pin.display().to_string(),
            message: "the device of this XDP link is gone".into(),
            next: format!("sudo rm {}", pin.display()),
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_names_the_command_that_mends_it() {
        let left = |alive, dead: &[&str]| Left {
            dir: "/r/n/v1".into(),
            alive,
            dead_links: dead.iter().map(Into::into).collect(),
        };
        assert_eq!(findings(&[left(true, &[])]), []);
        let found = findings(&[left(true, &["/r/n/v1/link-7-native"]), left(false, &["/r/n/v1/link-7-native"])]);
        let next: Vec<_> = found.iter().map(|f| f.next.as_str()).collect();
        assert_eq!(next, ["sudo rm /r/n/v1/link-7-native", "sudo rm -r /r/n/v1"]);
    }
}
