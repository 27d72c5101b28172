//! systemd-resolved itself, with a message bus and a `/run` of its own: nobody outside the namespaces sees it.

use crate::agent::{DEADLINE, binary};
use crate::scratch::Scratch;
use crate::{Namespace, command, wait};
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A bus that lets everybody do everything: all who can reach it are the test.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
<allow send_type="method_call"/></policy></busconfig>
"#;

/// `$1`: the directory with bus.conf, `$2`: systemd-resolved. Its user need not exist on this machine.
const INSIDE: &str = r#"set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd
for file in passwd group; do
    cp "/etc/$file" "/run/$file"
    grep -q '^systemd-resolve:' "/run/$file" || echo 'systemd-resolve:x:997:997::/:/usr/sbin/nologin' >> "/run/$file"
    mount --bind "/run/$file" "/etc/$file"
done
setpriv --pdeathsig KILL dbus-daemon --config-file="$1/bus.conf" --nofork --nopidfile &
while [ ! -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
exec "$2"
"#;

/// Where systemd-resolved may be, and its libraries.
#[derive(Debug)]
struct Programs {
    daemon: PathBuf,
    path: String,
    libraries: String,
}

impl Programs {
    /// The machine's own, or what `cargo xtask setup` unpacked.
    fn find() -> Option<Self> {
        let built = binary().ok()?;
        let private = built.parent()?.parent()?.join("toolchain/debian");
        let roots = [Path::new("/"), Path::new("/usr"), &private, &private.join("usr")].map(Path::to_path_buf);
        let daemon = roots.iter().map(|r| r.join("lib/systemd/systemd-resolved")).find(|p| p.is_file())?;
        let libraries = format!("usr/lib/{}-linux-gnu/systemd", std::env::consts::ARCH);
        Some(Self {
            daemon,
            path: format!("{}:{}", private.join("usr/bin").display(), std::env::var("PATH").unwrap_or_default()),
            libraries: private.join(libraries).display().to_string(),
        })
    }

    fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("PATH", &self.path).env("LD_LIBRARY_PATH", &self.libraries)
    }
}

/// A running systemd-resolved. It goes with this value.
#[derive(Debug)]
pub struct Resolved {
    dir: Scratch,
    programs: Programs,
    child: Child,
}

impl Resolved {
    /// Starts it in `ns` and waits until it listens; `None` where this machine lacks the programs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(ns: &Namespace) -> Result<Option<Self>> {
        let bus = Command::new("dbus-daemon").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let Some(programs) = Programs::find().filter(|_| bus.is_ok_and(|s| s.success())) else { return Ok(None) };
        let dir = Scratch::new("resolved")?;
        fs::write(dir.path().join("bus.conf"), BUS)?;
        let log = fs::File::create(dir.path().join("log"))?;
        let mut command = ns.command("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--"]);
        command.args(["sh", "-c", INSIDE, "sh"]).arg(dir.path()).arg(&programs.daemon);
        programs.environment(&mut command).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start systemd-resolved")?;
        let running = Self { dir, programs, child };
        wait::until("systemd-resolved", DEADLINE, || Ok(running.resolvectl("status")?.status.success().then_some(())))
            .map_err(|e| e.context(fs::read_to_string(running.dir.path().join("log")).unwrap_or_default()))?;
        Ok(Some(running))
    }

    /// A program that runs the one at `path` where systemd-resolved can be reached.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn wrap(&self, path: &Path) -> Result<PathBuf> {
        let wrapper = self.dir.path().join("rovy");
        let (p, at) = (&self.programs, path.display());
        let text = format!(
            "#!/bin/sh\nexport PATH='{}' LD_LIBRARY_PATH='{}'\nexec nsenter --mount={} -- '{at}' \"$@\"\n",
            p.path,
            p.libraries,
            self.mounts(),
        );
        fs::write(&wrapper, text)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        Ok(wrapper)
    }

    fn mounts(&self) -> String {
        format!("/proc/{}/ns/mnt", self.child.id())
    }

    /// Runs `resolvectl` with arguments (split at spaces).
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn resolvectl(&self, arguments: &str) -> Result<Output> {
        let mut command = Command::new("nsenter");
        let net = format!("--net=/proc/{}/ns/net", self.child.id());
        command.args([format!("--mount={}", self.mounts()), net, "--".into(), "resolvectl".into()]);
        command::output(self.programs.environment(&mut command).args(arguments.split_whitespace()))
    }
}

impl Drop for Resolved {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
