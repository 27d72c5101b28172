//! Listeners that are written to the configuration.

use anyhow::{Context as _, Result};
use rovy_netns::{Agent, Config, Mode, Namespace, device};
use rovy_userspace::api::Listener;

fn listeners(agent: &Agent) -> Result<Vec<String>> {
    let all: Vec<Listener> = agent.json(&["listener", "list"])?;
    Ok(all.iter().map(|l| l.address.to_string()).collect())
}

fn done(agent: &Agent, args: &[&str]) -> Result<()> {
    let output = agent.cli(args)?;
    assert!(output.status.success(), "{args:?}: {output:?}");
    Ok(())
}

#[test]
fn a_persistent_listener_outlives_the_agent_until_it_is_stopped() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    device::idle(&ns, "wan0", "wan1")?;
    let mut agent = Agent::new(&ns, "host")?;
    agent.configure(&Config { mode: Mode::Userspace, ..Config::default() })?;
    let path = agent.dir().join("config.toml");
    let mut text = std::fs::read_to_string(&path)?;
    text = text.replacen("[listen]", "# Mind the gap.\n[listen]  # where", 1);
    std::fs::write(&path, &text)?;
    let before = text.clone();

    agent.start()?;
    done(&agent, &["listener", "start", "/ethif/wan0", "--persist"])?;
    done(&agent, &["listener", "start", "/ip4/127.0.0.1/udp/1400"])?;
    let stored = std::fs::read_to_string(&path)?;
    for kept in ["# Mind the gap.", "# where", "/ethif/wan0"] {
        assert!(stored.contains(kept), "{kept} is not in:\n{stored}");
    }
    assert!(!stored.contains("1400"), "{stored}");

    agent.terminate()?;
    agent.start()?;
    assert_eq!(listeners(&agent)?, ["/ethif/wan0"]);
    done(&agent, &["listener", "stop", "/ethif/wan0", "--persist"])?;
    assert!(listeners(&agent)?.is_empty());
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&std::fs::read_to_string(&path)?), lines(&before));

    agent.terminate()?;
    agent.start()?;
    assert!(listeners(&agent)?.is_empty());
    // One that stands in the configuration may be stopped for now.
    done(&agent, &["listener", "start", "/ethif/wan0", "--persist"])?;
    done(&agent, &["listener", "stop", "/ethif/wan0"])?;
    agent.terminate()?;
    agent.start()?;
    let first = listeners(&agent)?;
    assert_eq!(first.first().context("it is gone from the configuration")?, "/ethif/wan0");
    Ok(())
}
