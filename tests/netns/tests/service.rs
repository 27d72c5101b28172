//! What a service manager hears.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::{DEADLINE, binary};
use rovy_netns::scratch::Scratch;
use rovy_netns::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An agent under a service manager that ends it after so long a silence.
struct Service {
    child: Child,
    manager: UnixDatagram,
    _scratch: Scratch,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(watchdog: Duration) -> Result<Self> {
        let scratch = Scratch::new("service")?;
        let at = scratch.path().join("notify");
        let manager = UnixDatagram::bind(&at)?;
        let mut command = Command::new(binary()?);
        command.args(["start", "--no-fc00", "--xdp", "off", "-D"]).arg(scratch.path().join("node"));
        // No listener: nothing here is for the network.
        std::fs::create_dir(scratch.path().join("node"))?;
        std::fs::write(scratch.path().join("node/config.toml"), "listen.addresses = []\n")?;
        command.env("NOTIFY_SOCKET", &at).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { child: command.spawn()?, manager, _scratch: scratch })
    }

    /// Waits for a message with this line.
    fn hear(&self, line: &str) -> Result<()> {
        self.manager.set_read_timeout(Some(Duration::from_millis(100)))?;
        wait::until(line, DEADLINE, || {
            let mut buf = [0; 4096];
            let heard = self.manager.recv(&mut buf).ok().map(|n| String::from_utf8_lossy(&buf[..n]).into_owned());
            Ok(heard.filter(|text| text.lines().any(|l| l == line)).map(drop))
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?).context("a pid")?;
        Ok(kill_process(pid, signal)?)
    }
}

#[test]
fn a_service_manager_hears_when_the_agent_is_ready_lives_and_ends() -> Result<()> {
    rovy_netns::root_only!();
    let mut service = Service::start(Duration::from_millis(200))?;
    service.hear("READY=1")?;
    service.hear("WATCHDOG=1")?;
    service.hear("WATCHDOG=1")?;
    service.signal(Signal::STOP)?;
    // What was sent before is heard first; then nothing, for longer than the manager waits.
    let silent = |service: &Service| {
        service.manager.set_read_timeout(Some(Duration::from_millis(400)))?;
        anyhow::Ok(service.manager.recv(&mut [0; 4096]).is_err().then_some(()))
    };
    wait::until("silence", DEADLINE, || silent(&service))?;
    service.signal(Signal::CONT)?;
    service.hear("WATCHDOG=1")?;
    service.signal(Signal::TERM)?;
    service.hear("STOPPING=1")?;
    ensure!(service.child.wait()?.success());
    Ok(())
}
