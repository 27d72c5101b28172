//! The life of the TUN device: lost, in another network namespace, made by somebody else.

use anyhow::{Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::line::TUN;
use rovy_netns::{Agent, Line, Link, Mode, Namespace, ping, wait};
use rovy_userspace::api::Fc00Status;
use std::time::Duration;

fn status(agent: &Agent) -> Result<Fc00Status> {
    agent.json(&["fc00", "status"])
}

fn answers(ns: &Namespace, to: &Agent, what: &str) -> Result<()> {
    wait::until(&format!("an answer {what}"), DEADLINE, || {
        Ok(ping::once(ns, to.address(), Duration::from_millis(500))?.then_some(()))
    })
    .map_err(|e| to.explain(e))
}

fn rules(ns: &Namespace) -> Result<usize> {
    Ok(ns.ip("-6 rule")?.matches("fc00::/8").count())
}

#[test]
fn a_device_that_is_lost_comes_back() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Userspace)?;
    line.start()?;
    let first = line.ns_a.ip(&format!("-o link show {TUN}"))?;
    line.ns_a.ip(&format!("link del {TUN}"))?;
    wait::until("another device", DEADLINE, || {
        Ok(line.ns_a.ip(&format!("-o link show {TUN}")).ok().filter(|now| *now != first))
    })
    .map_err(|e| line.a.explain(e))?;
    answers(&line.ns_a, &line.b, "after the device was lost")?;
    ensure!(status(&line.a)?.running && status(&line.a)?.why.is_none(), "{:?}", status(&line.a)?);
    ensure!(rules(&line.ns_a)? == 2, "{}", line.ns_a.ip("-6 rule")?);

    // As systemd-networkd does with the rules of others when it starts.
    line.ns_a.ip("-6 rule del pref 1312")?;
    line.ns_a.ip("-6 rule del pref 1313")?;
    wait::until("the rules", 2 * DEADLINE, || Ok((rules(&line.ns_a)? == 2).then_some(())))?;
    answers(&line.ns_a, &line.b, "with rules made anew")?;

    // The kernel removes address and routes of a device that is set down.
    line.ns_a.ip(&format!("link set {TUN} down"))?;
    line.ns_a.ip(&format!("link set {TUN} up"))?;
    answers(&line.ns_a, &line.b, "after the device was down")?;

    // What was stopped stays away.
    ensure!(!line.a.json::<Fc00Status>(&["fc00", "stop"])?.running);
    ensure!(line.ns_a.ip(&format!("link show {TUN}")).is_err() && rules(&line.ns_a)? == 0);
    ensure!(line.a.json::<Fc00Status>(&["fc00", "start"])?.running);
    answers(&line.ns_a, &line.b, "after stop and start")
}

#[test]
fn programs_of_another_network_namespace() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    line.start()?;
    let apart = Namespace::new("apart")?;
    let name = apart.name().to_owned();
    ensure!(!line.a.json::<Fc00Status>(&["fc00", "stop"])?.running);

    let started: Fc00Status = line.a.root_json(&["fc00", "start", "--netns", &name])?;
    ensure!(started.running && started.netns.as_deref() == Some(name.as_str()), "{started:?}");
    ensure!(apart.ip(&format!("link show {TUN}")).is_ok() && line.ns_a.ip(&format!("link show {TUN}")).is_err());
    answers(&apart, &line.b, "to programs of the other namespace")?;
    answers(&line.ns_b, &line.a, "from there")?;
    ensure!(
        apart.ip("-o link")?.lines().count() == 2,
        "it has nothing but lo and the device: {}",
        apart.ip("-o link")?
    );

    let stopped: Fc00Status = line.a.root_json(&["fc00", "stop"])?;
    ensure!(!stopped.running, "{stopped:?}");
    ensure!(apart.ip(&format!("link show {TUN}")).is_err() && rules(&apart)? == 0, "{}", apart.ip("-6 rule")?);

    let none = line.a.root_cli(&["fc00", "start", "--netns", "no-such-namespace"])?;
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    ensure!(none.status.code() == Some(1) && said.contains("ip netns list"), "{none:?}");
    ensure!(line.a.json::<Fc00Status>(&["fc00", "start"])?.running, "and at home again");
    answers(&line.ns_a, &line.b, "at home")
}

#[test]
fn a_device_that_somebody_else_made() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Userspace)?;
    line.start()?;
    ensure!(!line.a.json::<Fc00Status>(&["fc00", "stop"])?.running);
    let none = line.a.cli(&["fc00", "start", "--existing", "theirs"])?;
    ensure!(none.status.code() == Some(1), "{none:?}");
    line.ns_a.ip("tuntap add dev theirs mode tun")?;
    let taken = line.a.cli(&["fc00", "start", "--ifname", "theirs"])?;
    ensure!(String::from_utf8_lossy(&taken.stderr).contains("--existing"), "{taken:?}");

    let started: Fc00Status = line.a.json(&["fc00", "start", "--existing", "theirs"])?;
    ensure!(started.running && started.ifname.as_deref() == Some("theirs"), "{started:?}");
    ensure!(started.offloads.iter().any(|o| o == "tso"), "{started:?}");
    answers(&line.ns_a, &line.b, "through it")?;
    ensure!(!line.a.json::<Fc00Status>(&["fc00", "stop"])?.running);
    ensure!(line.ns_a.ip("link show theirs").is_ok() && rules(&line.ns_a)? == 0, "it stays, and leads nowhere");
    Ok(())
}

#[test]
fn an_ordinary_user_uses_a_device_that_was_made_for_him() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Userspace)?;
    line.a.become_nobody()?;
    line.ns_a.ip("tuntap add dev mine mode tun user nobody")?;
    line.r.start()?;
    line.b.start()?;
    line.a.start_with(&["--no-fc00"])?;
    let refused = line.a.cli(&["fc00", "start", "--existing", "mine"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("mine"), "{refused:?}");

    line.ns_a.ip(&format!("address add {}/128 dev mine nodad", line.a.address()))?;
    line.ns_a.ip("link set mine up mtu 1376")?;
    line.ns_a.ip(&format!("route add fc00::/8 dev mine src {}", line.a.address()))?;
    // Where only root may open the driver, root does that part.
    let start = ["fc00", "start", "--existing", "mine"];
    let own = line.a.cli(&start)?;
    if !own.status.success() {
        let said = String::from_utf8_lossy(&own.stderr).into_owned();
        ensure!(own.status.code() == Some(4) && said.contains("fc00 start --existing mine"), "{own:?}");
        line.a.root_json::<Fc00Status>(&start)?;
    }
    let started = status(&line.a)?;
    ensure!(started.running && started.mtu == Some(1376), "{started:?}");
    line.connect()
}
