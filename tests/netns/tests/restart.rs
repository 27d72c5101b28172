//! r's agent goes and comes back under load, in every way an operator has; transit loses nothing.

use anyhow::{Context as _, Result, ensure};
use rovy_common::maps::{LAYOUT, LINKS_SINCE};
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::{self, Ping};
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, count, wait};
use std::path::PathBuf;
use std::time::Duration;

/// Echo requests a second in each direction: 1000.
const INTERVAL: Duration = Duration::from_millis(1);
/// Beside them, a stream that fills no queue.
const BYTES_S: u64 = 1_000_000;

/// The directory of the layout `v` in which r's agent pins.
fn pins(line: &Line, layout: u32) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/rovy/{}/v{layout}", line.r.address()))
}

/// The program at r's device to a.
fn program(line: &Line) -> Result<String> {
    let text = line.ns_r.ip("link show to-a")?;
    let id = text.split("prog/xdp id ").nth(1).and_then(|t| t.split_whitespace().next());
    Ok(id.with_context(|| format!("no program on to-a: {text}"))?.to_owned())
}

/// Lets r's agent end by `end`, be away for 200 echo requests, and start again; none of them is lost, nor while the next
/// agent makes its sessions, and it switches none itself.
fn without_loss(line: &mut Line, load: &Ping, what: &str, end: impl FnOnce(&mut Line) -> Result<()>) -> Result<()> {
    let (before, old) = (load.mark(), program(line)?);
    end(line).context(what.to_owned())?;
    let echoes = count::echo_requests(&line.ns_b)?;
    wait::until("200 echo requests at b without an agent at r", DEADLINE, || {
        Ok((count::echo_requests(&line.ns_b)? >= echoes + 200).then_some(()))
    })?;
    line.r.start().context(what.to_owned())?;
    line.r.wait_neighbour(line.a.peer_id())?;
    line.r.wait_neighbour(line.b.peer_id())?;
    let back = load.mark();
    wait::until("200 more pings", DEADLINE, || Ok((load.mark() >= back + 200).then_some(())))?;
    let after = load.mark();
    let answered = || Ok((load.summary(before, after).lost() == 0).then_some(()));
    wait::until("the last answers", Duration::from_secs(2), answered)
        .map_err(|e| line.r.explain(e.context(format!("{what}: {:?}", load.summary(before, after)))))?;
    ensure!(program(line)? != old, "{what}: the program of the agent before still runs");
    let transit = line.r.stats()?.transit;
    ensure!(transit.agent_packets == 0 && transit.kernel_packets > 0, "{what}: {transit:?}");
    Ok(())
}

fn restarts(link: Link, mode: Mode) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    line.start()?;
    line.sends_in_kernel()?;
    let load = Ping::start(&line.ns_a, line.b.address(), INTERVAL, 56)?;
    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    stream.limit(Some(BYTES_S));
    wait::until("pings", DEADLINE, || Ok((load.mark() >= 20).then_some(())))?;

    without_loss(&mut line, &load, "SIGKILL", |l| l.r.kill9())?;
    without_loss(&mut line, &load, "systemctl restart", |l| {
        ensure!(l.r.leave()?.success());
        Ok(())
    })?;
    let other = line.r.dir().join("rovy-next");
    std::fs::copy(rovy_netns::agent::binary()?, &other)?;
    without_loss(&mut line, &load, "upgrade", |l| {
        ensure!(l.r.cli(&["stop", "--keep-transit"])?.status.success());
        wait::until("the agent to end", DEADLINE, || l.r.ended())?;
        l.r.upgrade(&other);
        Ok(())
    })?;
    if LINKS_SINCE < LAYOUT {
        without_loss(&mut line, &load, "another layout", |l| {
            ensure!(l.r.leave()?.success());
            Ok(std::fs::rename(pins(l, LAYOUT), pins(l, LAYOUT - 1))?)
        })?;
        ensure!(!pins(&line, LAYOUT - 1).exists() && pins(&line, LAYOUT).exists(), "the pins have not moved on");
    }
    stream.finish().map(drop)
}

#[test]
fn transit_loses_nothing_over_ethernet() -> Result<()> {
    rovy_netns::root_only!();
    restarts(Link::Eth, Mode::Native)
}

#[test]
fn transit_loses_nothing_over_udp6_in_generic_mode() -> Result<()> {
    rovy_netns::root_only!();
    restarts(Link::Udp6, Mode::Generic)
}

#[test]
fn links_of_a_layout_nobody_knows_are_replaced_and_made_anew() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    line.start()?;
    let old = program(&line)?;
    ensure!(line.r.leave()?.success());
    std::fs::rename(pins(&line, LAYOUT), pins(&line, LAYOUT + 1))?;
    line.r.start()?;
    ensure!(program(&line)? != old, "the program was not replaced");
    ensure!(!pins(&line, LAYOUT + 1).exists() && pins(&line, LAYOUT).exists(), "the pins have not moved on");
    line.r.wait_neighbour(line.a.peer_id())?;
    line.r.wait_neighbour(line.b.peer_id())?;
    Ok(())
}

/// What is written in the unit about a key, without its comments.
fn unit(key: &str) -> Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/rovy.service");
    let text = std::fs::read_to_string(path)?;
    let found = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    Ok(found.with_context(|| format!("no {key}= in the unit"))?.to_owned())
}

#[test]
fn the_unit_stops_and_restarts_as_it_says() -> Result<()> {
    rovy_netns::root_only!();
    ensure!((unit("KillSignal")?, unit("RestartKillSignal")?) == ("SIGTERM".into(), "SIGUSR1".into()));
    ensure!(unit("ExecStart")?.ends_with("/rovy start"));
    let bounds = unit("CapabilityBoundingSet")?.to_lowercase().replace("cap_", "");
    let bounds: Vec<_> = bounds.split_whitespace().collect();
    let mut line = Line::new(Link::Eth, Mode::Native)?;
    line.r.start_bounded(&bounds)?;
    line.a.start()?;
    line.b.start()?;
    line.connect()?;

    ensure!(line.r.leave()?.success(), "SIGUSR1");
    ensure!(ping::once(&line.ns_a, line.b.address(), DEADLINE)?, "transit has stopped with a restart");
    line.r.start()?;
    line.r.wait_neighbour(line.a.peer_id())?;
    line.r.wait_neighbour(line.b.peer_id())?;
    ensure!(line.r.terminate()?.success(), "SIGTERM");
    ensure!(!pins(&line, LAYOUT).exists(), "pins are left after a stop");
    for device in ["to-a", "to-b"] {
        ensure!(!line.ns_r.ip(&format!("link show {device}"))?.contains("xdp"), "a program is left on {device}");
    }
    ensure!(!ping::once(&line.ns_a, line.b.address(), Duration::from_millis(500))?, "transit goes on after a stop");
    // An end has a TUN device and rules as well.
    ensure!(line.a.terminate()?.success(), "SIGTERM");
    ensure!(!line.ns_a.ip("-6 rule")?.contains("fc00::/8") && !line.ns_a.ip("link")?.contains("rovy0"));
    Ok(())
}

#[test]
fn systemd_accepts_the_unit() -> Result<()> {
    let name = "systemd_accepts_the_unit";
    let scratch = rovy_netns::scratch::Scratch::new("unit")?;
    let program = scratch.path().join("rovy");
    std::fs::write(&program, "")?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/rovy.service");
    let text = std::fs::read_to_string(path)?.replace("/usr/local/bin/rovy", &program.display().to_string());
    let copy = scratch.path().join("rovy.service");
    std::fs::write(&copy, text)?;
    let output = match std::process::Command::new("systemd-analyze").arg("verify").arg(&copy).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            rovy_netns::skip::skip(name, "there is no systemd-analyze");
            return Ok(());
        }
        other => other?,
    };
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}
