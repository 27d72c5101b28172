//! What the agent keeps of root's powers, and that it is enough.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Agent, Config, Mode, Namespace, device, wait};
use rovy_userspace::api::{Fc00Status, Listener};

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF.
const KEPT: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// A field of a thread's `/proc/../status`.
fn field<'s>(status: &'s str, name: &str) -> Result<&'s str> {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name} in {status}"))?.trim())
}

/// Every thread of the agent has the four capabilities, or fewer, and no way to get others.
fn reduced(agent: &Agent) -> Result<usize> {
    let tasks = format!("/proc/{}/task", agent.pid().context("it does not run")?);
    let mut threads = 0;
    for task in std::fs::read_dir(&tasks)? {
        // A thread may end while it is looked at.
        let Ok(status) = std::fs::read_to_string(task?.path().join("status")) else { continue };
        threads += 1;
        for name in ["CapEff", "CapPrm", "CapBnd"] {
            ensure!(u64::from_str_radix(field(&status, name)?, 16)? == KEPT, "{name}: {status}");
        }
        for name in ["CapInh", "CapAmb"] {
            ensure!(u64::from_str_radix(field(&status, name)?, 16)? == 0, "{name}: {status}");
        }
        ensure!(field(&status, "NoNewPrivs")? == "1", "{status}");
    }
    Ok(threads)
}

#[test]
fn every_thread_keeps_four_capabilities_and_everything_works() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    device::idle(&ns, "wan0", "wan1")?;
    let mut agent = Agent::new(&ns, "host")?;
    agent.configure(&Config { mode: Mode::Native, ..Config::default() })?;
    agent.start()?;
    ensure!(reduced(&agent)? >= 2, "API and packets have a thread each");

    device::idle(&ns, "new0", "new1")?;
    for interface in ["wan0", "new0"] {
        let started: Listener = agent.json(&["listener", "start", &format!("/ethif/{interface}"), "--persist"])?;
        ensure!(started.xdp_mode == "native", "{started:?}");
    }
    ensure!(std::fs::read_to_string(agent.dir().join("config.toml"))?.contains("/ethif/new0"), "not persisted");
    let udp: Listener = agent.json(&["listener", "start", "/ip4/0.0.0.0/udp/13121"])?;
    ensure!(!udp.address.to_string().is_empty());
    ensure!(agent.json::<Fc00Status>(&["fc00", "start", "--ifname", "rovy7"])?.running);
    ensure!(ns.ip("-6 rule")?.contains("fc00::/8"), "no rule");
    reduced(&agent)?;
    ensure!(agent.cli(&["fc00", "stop"])?.status.success());
    ensure!(agent.cli(&["listener", "stop", "/ethif/new0"])?.status.success());
    ensure!(!ns.ip("link show new0")?.contains("xdp"), "the program stays behind");
    reduced(&agent)?;

    // The next agent adopts what this one leaves, with as little.
    agent.kill9()?;
    agent.start()?;
    ensure!(ns.ip("link show wan0")?.contains("xdp"), "no program after the takeover\n{}", agent.log_tail());
    reduced(&agent)?;
    ensure!(agent.cli(&["stop"])?.status.success());
    wait::until("the agent to end", DEADLINE, || agent.ended())?;
    ensure!(!ns.ip("link show wan0")?.contains("xdp"), "the program stays behind");
    ensure!(!agent.dir().join("api.sock").exists(), "the socket stays behind");
    Ok(())
}

#[test]
fn the_memory_of_the_agent_is_not_dumped() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    let mut agent = Agent::new(&ns, "host")?;
    agent.configure(&Config { mode: Mode::Userspace, ..Config::default() })?;
    agent.start()?;
    let pid = agent.pid().context("it does not run")?;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).context("no limit of core files")?;
    ensure!(core.split_whitespace().filter(|w| *w == "0").count() == 2, "{core}");
    Ok(())
}
