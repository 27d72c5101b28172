//! What `rovy doctor` finds at agents that run.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Agent, Config, Line, Link, Mode, Namespace, command, wait};
use rovy_userspace::api::Fc00Status;
use serde_json::Value;
use std::process::Command;

/// The findings of one kind. What other agents of this machine leave is not looked at.
fn findings(agent: &Agent, kind: &str) -> Result<Vec<Value>> {
    let output = agent.cli(&["--json", "doctor"])?;
    let json: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let all = json["findings"].as_array().context("no findings")?;
    let found: Vec<_> = all.iter().filter(|f| f["kind"] == kind).cloned().collect();
    ensure!(found.is_empty() || output.status.code() == Some(1), "{output:?}");
    Ok(found)
}

#[test]
fn an_agent_that_hangs_is_told_from_one_that_lives() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let mut agent = Agent::new(&ns, "host")?;
    ensure!(findings(&agent, "hung")?.is_empty(), "no agent is no finding");
    agent.configure(&Config { mode: Mode::Userspace, ..Config::default() })?;
    agent.start()?;
    ensure!(findings(&agent, "hung")?.is_empty(), "an agent that answers is no finding");
    let pid = agent.pid().context("no process")?.to_string();
    command::run(Command::new("kill").args(["-STOP", &pid]))?;
    let found = findings(&agent, "hung");
    let mended = found.and_then(|found| {
        let [finding] = &found[..] else { anyhow::bail!("{found:?}") };
        let said = finding["message"].as_str().unwrap_or_default();
        ensure!(said.contains(&format!("(process {pid}) does not answer within 3 s: it is stopped")), "{finding}");
        ensure!(finding["what"].as_str().is_some_and(|w| w.ends_with("api.sock")), "{finding}");
        let next = finding["next"].as_str().context("no command")?.trim_start_matches("sudo ").to_owned();
        command::run(Command::new("sh").args(["-c", &next]))
    });
    if mended.is_err() {
        command::run(Command::new("kill").args(["-CONT", &pid]))?;
    }
    mended?;
    wait::until("it to answer again", DEADLINE, || Ok(findings(&agent, "hung")?.is_empty().then_some(())))
}

#[test]
fn packets_too_large_for_a_sealed_link_are_warned_of() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp6, Mode::Native)?;
    line.a.set_transit(line.r.peer_id(), "sealed")?;
    line.start()?;
    let found = findings(&line.a, "mtu")?;
    let [finding] = &found[..] else { anyhow::bail!("{found:?}") };
    let said = finding["message"].as_str().unwrap_or_default();
    ensure!(said.contains("packets of 1364 bytes") && said.ends_with("set fc00.mtu = 1364"), "{finding}");
    ensure!(finding["next"].as_str().is_some_and(|n| n.contains("config.toml")), "{finding}");
    let status: Fc00Status = line.a.json(&["fc00", "status"])?;
    ensure!(status.advice.as_deref() == Some(said), "{status:?}");
    let text = String::from_utf8(line.a.cli(&["fc00", "status"])?.stdout)?;
    ensure!(text.contains(said), "{text}");
    // b's links are not sealed.
    ensure!(findings(&line.b, "mtu")?.is_empty());

    ensure!(line.a.terminate()?.success());
    line.a.edit("[fc00]", "[fc00]\nmtu = 1364")?;
    line.a.start()?;
    line.a.wait_neighbour(line.r.peer_id())?;
    ensure!(findings(&line.a, "mtu")?.is_empty(), "what it says mends it");
    Ok(())
}
