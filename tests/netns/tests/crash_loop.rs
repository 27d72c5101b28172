//! An agent that is killed again and again leaves no more than one that is killed once; `rovy doctor` shows that.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Agent, Config, Mode, Namespace, device, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { files(&entry.path(), into) } else { into.push(entry.path()) }
    }
}

/// What an agent may leave in the kernel.
#[derive(PartialEq, Eq, Debug)]
struct State {
    pins: Vec<PathBuf>,
    rules: usize,
    tuns: usize,
    attached: usize,
}

fn state(ns: &Namespace, agent: &Agent) -> Result<State> {
    let (links, rules) = (ns.ip("-o link")?, ns.ip("-6 rule")?);
    // Last, so that everything that made the device appear is there.
    let mut pins = Vec::new();
    files(&Path::new("/sys/fs/bpf/rovy").join(agent.address().to_string()), &mut pins);
    pins.sort();
    Ok(State {
        pins,
        rules: rules.matches("fc00::/8").count(),
        tuns: links.matches(": crash0").count(),
        attached: links.lines().filter(|l| l.contains("xdp") && l.contains("wan0")).count(),
    })
}

/// The findings of `rovy doctor` about a node, and its exit code.
fn doctor(agent: &Agent) -> Result<(Vec<Value>, Option<i32>)> {
    let output = agent.cli(&["--json", "doctor"])?;
    let json: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let address = agent.address().to_string();
    let findings = json["findings"].as_array().context("no findings")?;
    let about = |f: &&Value| f["what"].as_str().is_some_and(|w| w.contains(&address));
    Ok((findings.iter().filter(about).cloned().collect(), output.status.code()))
}

fn configured(ns: &Namespace, name: &str) -> Result<Agent> {
    device::idle(ns, "wan0", "wan1")?;
    let agent = Agent::new(ns, name)?;
    let listen = vec!["/ethif/wan0".to_owned(), "/ip4/127.0.0.1/udp/13122".to_owned()];
    agent.configure(&Config { mode: Mode::Native, listen, tun: Some("crash0".into()), ..Config::default() })?;
    Ok(agent)
}

#[test]
fn ten_crashes_leave_no_more_than_none() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let mut agent = configured(&ns, "host")?;
    agent.start()?;
    let running = || {
        wait::until("XDP and TUN", DEADLINE, || {
            let state = state(&ns, &agent)?;
            Ok((state.attached == 1 && state.tuns == 1 && state.rules == 2).then_some(state))
        })
    };
    let first = running()?;
    agent.kill9()?;
    let mut moments = Vec::new();
    for n in 0..10_u64 {
        // From the first instructions to after the start, none twice.
        let moment = Duration::from_millis(3 + n * n * 5);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", ns.path().display())).arg("--").arg(rovy_netns::agent::binary()?);
        command.args(["start", "-D"]).arg(agent.dir()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        std::thread::sleep(moment);
        let ended = child.try_wait()?;
        child.kill()?;
        child.wait()?;
        ensure!(ended.is_none(), "the agent ended by itself after {moment:?}: {ended:?}");
        moments.push(state(&ns, &agent)?);
    }
    for left in &moments {
        ensure!(left.rules <= first.rules && left.tuns == 0, "{left:?}");
        ensure!(left.pins.len() <= first.pins.len(), "{left:?}\nagainst {first:?}");
    }
    let (findings, code) = doctor(&agent)?;
    ensure!(code == Some(1) && findings.len() == 1, "{findings:?}");
    ensure!(findings[0]["kind"] == "crashed" && findings[0]["next"].as_str().is_some_and(|n| n.contains("rm -r")));

    agent.start()?;
    let again = wait::until("XDP and TUN", DEADLINE, || {
        let state = state(&ns, &agent)?;
        Ok((state.attached == 1 && state.tuns == 1 && state.rules == 2).then_some(state))
    })?;
    ensure!(again == first, "{again:?}\nagainst {first:?}");
    ensure!(doctor(&agent)?.0.is_empty());
    ensure!(agent.cli(&["stop"])?.status.success());
    wait::until("the agent to end", DEADLINE, || agent.ended())?;
    let left = state(&ns, &agent)?;
    ensure!(left == State { pins: Vec::new(), rules: 0, tuns: 0, attached: 0 }, "{left:?}");
    ensure!(doctor(&agent)?.0.is_empty());
    Ok(())
}

#[test]
fn a_link_whose_device_is_gone_is_found_and_mended() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let mut agent = configured(&ns, "host")?;
    agent.start()?;
    agent.kill9()?;
    ns.ip("link del wan0")?;
    let findings = doctor(&agent)?.0;
    ensure!(findings.len() == 1, "{findings:?}");
    let next = findings[0]["next"].as_str().context("no command")?.trim_start_matches("sudo ");
    let mut words = next.split_whitespace();
    ensure!(Command::new(words.next().context("no program")?).args(words).status()?.success(), "{next}");
    ensure!(doctor(&agent)?.0.is_empty(), "the command does not mend it");
    Ok(())
}

#[test]
fn transit_that_was_kept_is_told_from_a_crash() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let mut agent = configured(&ns, "host")?;
    for (kept, kind, says) in [(true, "kept", "on purpose"), (false, "crashed", "crashed or was killed")] {
        agent.start()?;
        ensure!(doctor(&agent)?.0.is_empty(), "an agent that runs is no finding");
        if kept {
            ensure!(agent.leave()?.success());
        } else {
            agent.kill9()?;
        }
        let findings = doctor(&agent)?.0;
        let [finding] = &findings[..] else { anyhow::bail!("{findings:?}") };
        let message = finding["message"].as_str().context("no message")?;
        ensure!(finding["kind"] == kind && message.contains(says), "{finding:?}");
        // How old it is: no more than the agent's signs of life are apart, and some seconds of a busy machine.
        ensure!((0..20).any(|s| message.contains(&format!(" {s} s "))), "{message}");
    }
    mend(&doctor(&agent)?.0)?;
    ensure!(doctor(&agent)?.0.is_empty(), "the command does not mend it");
    Ok(())
}

/// Runs the command of each finding.
fn mend(findings: &[Value]) -> Result<()> {
    for finding in findings {
        let next = finding["next"].as_str().context("no command")?.trim_start_matches("sudo ");
        let mut words = next.split_whitespace();
        ensure!(Command::new(words.next().context("no program")?).args(words).status()?.success(), "{next}");
    }
    Ok(())
}

#[test]
fn rules_and_a_tun_device_of_nobody_are_found_and_mended() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let mut agent = configured(&ns, "host")?;
    // A device that an agent made is gone with it; one that was handed to it may stay.
    ns.ip("tuntap add dev left0 mode tun")?;
    ns.ip("link set left0 up")?;
    let link = ns.ip("-o link show left0")?;
    let index: u32 = link.split(':').next().context("no index")?.trim().parse()?;
    for table in [13_120_000 + index, 13_129_999] {
        ns.ip(&format!("-6 rule add pref 1313 to fc00::/8 table {table} protocol 131"))?;
    }
    // Somebody else's.
    ns.ip("-6 rule add pref 1400 to fc00::/8 table 77")?;
    ns.ip("tuntap add dev other0 mode tun")?;
    ns.ip("link set other0 up")?;
    let found = stale(&agent)?;
    let of = |kind: &str| found.iter().filter(|f| f["kind"] == kind).count();
    ensure!((found.len(), of("stale_rule"), of("stale_tun")) == (3, 2, 1), "{found:?}");
    ns.enter(|| mend(&found))??;
    ensure!(stale(&agent)?.is_empty(), "the commands do not mend it: {:?}", stale(&agent)?);
    ensure!(ns.ip("-6 rule")?.contains("lookup 77") && ns.ip("link show other0").is_ok(), "others' things stay");
    // What a killed agent leaves of routing is shown, and gone with the next start.
    agent.start()?;
    wait::until("the rules", DEADLINE, || Ok((state(&ns, &agent)?.rules == 3).then_some(())))?;
    ensure!(stale(&agent)?.is_empty(), "an agent that runs is no finding");
    agent.kill9()?;
    ensure!(stale(&agent)?.len() == 2, "its two rules");
    agent.start()?;
    wait::until("the rules", DEADLINE, || Ok((state(&ns, &agent)?.rules == 3).then_some(())))?;
    ensure!(stale(&agent)?.is_empty(), "orphans are left");
    Ok(())
}

/// The findings about routing, in the agent's network namespace.
fn stale(agent: &Agent) -> Result<Vec<Value>> {
    let output = agent.cli(&["--json", "doctor"])?;
    let json: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let all = json["findings"].as_array().context("no findings")?;
    Ok(all.iter().filter(|f| f["kind"].as_str().is_some_and(|k| k.starts_with("stale"))).cloned().collect())
}
