//! A real agent: the `rovy` binary in a namespace, with a directory, a key and a configuration of its own.

mod binary;
mod config;

pub use binary::binary;
pub use config::{Config, Peer};

use crate::scratch::Scratch;
use crate::{Namespace, command, wait};
use anyhow::{Context as _, Result, bail};
use rovy_userspace::api::{Info, Peer as PeerInfo, PeerState, Stats};
use rovy_userspace::identity::PeerId;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::net::Ipv6Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a state may take to come about. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// An agent and everything it leaves on disk and in the BPF file system; all of it goes on drop.
#[derive(Debug)]
pub struct Agent {
    name: String,
    namespace: PathBuf,
    binary: PathBuf,
    dir: Scratch,
    /// Runs as nobody.
    nobody: bool,
    peer_id: PeerId,
    arguments: Vec<String>,
    setpriv: Vec<String>,
    child: Option<Child>,
}

impl Agent {
    /// Makes a key with `rovy key new`. The agent is not started.
    ///
    /// # Errors
    /// When there is no binary (see [`binary`]) or it makes no key.
    pub fn new(ns: &Namespace, name: &str) -> Result<Self> {
        Self::with_binary(&binary()?, ns, name)
    }

    /// As [`Agent::new`], with the binary at `path`.
    ///
    /// # Errors
    /// When it makes no key.
    pub fn with_binary(path: &Path, ns: &Namespace, name: &str) -> Result<Self> {
        let (binary, dir) = (path.to_path_buf(), Scratch::new(name)?);
        let keyfile = dir.path().join("keyfile.toml");
        command::run(Command::new(&binary).args(["key", "new"]).arg(&keyfile))?;
        let inspected = command::run(Command::new(&binary).args(["--json", "key", "inspect"]).arg(&keyfile))?;
        let json: serde_json::Value = serde_json::from_str(&inspected).context("rovy key inspect printed no JSON")?;
        let id = json.get("peer_id").and_then(|v| v.as_str()).context("rovy key inspect printed no peer_id")?;
        let peer_id = id.parse().with_context(|| format!("rovy key inspect printed the PeerID {id}"))?;
        Ok(Self {
            name: name.to_owned(),
            namespace: ns.path(),
            binary,
            dir,
            nobody: false,
            peer_id,
            arguments: Vec::new(),
            setpriv: Vec::new(),
            child: None,
        })
    }

    /// The key's PeerID.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The key's address.
    #[must_use]
    pub fn address(&self) -> Ipv6Addr {
        self.peer_id.address()
    }

    /// The agent's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration the next start reads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, config: &Config) -> Result<()> {
        Ok(fs::write(self.dir().join("config.toml"), config.to_toml())?)
    }

    /// Changes the configuration the next start reads: `from`, which must be there, becomes `to`.
    ///
    /// # Errors
    /// When it is not there, or the file cannot be read or written.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        let path = self.dir().join("config.toml");
        let text = fs::read_to_string(&path)?;
        if !text.contains(from) {
            bail!("no {from} in {text}");
        }
        Ok(fs::write(&path, text.replace(from, to))?)
    }

    /// Has the configuration say what is to become of transit from `peer`, which must be in it.
    ///
    /// # Errors
    /// As [`Agent::edit`].
    pub fn set_transit(&self, peer: PeerId, kind: &str) -> Result<()> {
        let id = format!("id = \"{peer}\"");
        self.edit(&id, &format!("{id}\ntransit = {kind:?}"))
    }

    /// Gives everything in the agent's directory to the user nobody, as whom agent and command line run from now on.
    ///
    /// # Errors
    /// When not root, or when the binary, which nobody may not reach where it is, cannot be copied.
    pub fn become_nobody(&mut self) -> Result<()> {
        let binary = self.dir().join("rovy");
        fs::copy(&self.binary, &binary)?;
        self.binary = binary;
        command::run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(self.dir()))?;
        self.nobody = true;
        Ok(())
    }

    /// Gives the next starts further arguments of `rovy start`.
    pub fn with_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
    }

    /// Starts the agent and waits until its API answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time; the error holds the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// As [`Agent::start`], with more arguments for `rovy start`.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_with(&mut self, args: &[&str]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        // The agent goes with the thread that started it, even when that is killed.
        let mut setpriv = vec!["--pdeathsig", "KILL"];
        setpriv.extend(self.setpriv.iter().map(String::as_str));
        let mut command = self.inside(self.nobody, &setpriv);
        command.arg("start").arg("-D").arg(self.dir()).args(args);
        if !args.contains(&"--log") {
            command.args(["--log", "info,rovy_userspace=debug"]);
        }
        command.args(&self.arguments);
        command.env("RUST_BACKTRACE", "1").process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("cannot run {}", command::line(&command)))?);
        let answers = wait::until(&format!("{}'s agent to answer", self.name), DEADLINE, || {
            if let Some(status) = self.ended()? {
                return Ok(Some(Err(status)));
            }
            self.info().map(|i| Some(Ok(i)))
        });
        match answers {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => bail!("{}'s agent ended with {status}\n{}", self.name, self.log_tail()),
            Err(e) => Err(e.context(self.log_tail())),
        }
    }

    /// The status with which the agent ended, `None` while it runs.
    ///
    /// # Errors
    /// When the agent was not started.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().context("the agent was not started")?.try_wait()?)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills the agent without a chance to tidy up, and waits until it is gone.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL).map(drop)
    }

    /// Ends the agent as `systemctl stop` would, and returns its status.
    ///
    /// # Errors
    /// When it was not running, or does not end in time.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)
    }

    /// Ends the agent as `systemctl restart` would, and returns its status.
    ///
    /// # Errors
    /// As [`Agent::terminate`].
    pub fn leave(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::USR1)
    }

    /// Runs another binary from the next start on.
    pub fn upgrade(&mut self, binary: &Path) {
        self.binary = binary.to_path_buf();
    }

    /// Starts the agent with no more capabilities than these, as `setpriv` names them.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_bounded(&mut self, capabilities: &[&str]) -> Result<()> {
        let set = capabilities.iter().map(|c| format!(",+{c}")).collect::<String>();
        self.setpriv = vec!["--bounding-set".to_owned(), format!("-all{set}")];
        self.start()
    }

    fn signal(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut child = self.child.take().with_context(|| format!("{}'s agent is not running", self.name))?;
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal)?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{}'s agent did not end\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the command line against this agent and returns what came of it, whatever that is.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        command::output(self.command().args(args))
    }

    /// Runs the command line with `--json` and reads what it prints.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        self.read(self.command().arg("--json").args(args))
    }

    fn read<T: DeserializeOwned>(&self, command: &mut Command) -> Result<T> {
        let text = command::run(command).map_err(|e| self.explain(e))?;
        serde_json::from_str(&text).with_context(|| format!("{} printed {text}", command::line(command)))
    }

    /// As [`Agent::cli`], as root and not as the agent's user.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn root_cli(&self, args: &[&str]) -> Result<Output> {
        command::output(self.command_as(false).args(args))
    }

    /// As [`Agent::json`], as root and not as the agent's user.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn root_json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        self.read(self.command_as(false).arg("--json").args(args))
    }

    /// The binary, to be run in the namespace.
    fn inside(&self, nobody: bool, setpriv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display())).args(["--", "setpriv"]).args(setpriv);
        if nobody {
            command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]).env("HOME", self.dir());
        } else {
            command.arg("--keep-groups");
        }
        command.arg("--").arg(&self.binary);
        command
    }

    fn command(&self) -> Command {
        self.command_as(self.nobody)
    }

    fn command_as(&self, nobody: bool) -> Command {
        let mut command = self.inside(nobody, &[]);
        command.arg("--socket").arg(self.dir().join("api.sock"));
        command
    }

    /// `rovy info`.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn info(&self) -> Result<Info> {
        self.json(&["info"])
    }

    /// `rovy stats`.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn stats(&self) -> Result<Stats> {
        self.json(&["stats"])
    }

    /// `rovy peer list`.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn peers(&self) -> Result<Vec<PeerInfo>> {
        self.json(&["peer", "list"])
    }

    /// Waits until `rovy stats` satisfies `ready`, and returns it.
    ///
    /// # Errors
    /// When the deadline has passed.
    pub fn wait_stats(&self, what: &str, deadline: Duration, ready: impl Fn(&Stats) -> bool) -> Result<Stats> {
        let stats = wait::until(what, deadline, || self.stats().map(|s| ready(&s).then_some(s)));
        stats.map_err(|e| self.explain(e))
    }

    /// Waits until `peer` is a connected neighbour, and returns this node's slot for it as routes spell it.
    ///
    /// # Errors
    /// When the deadline has passed.
    pub fn wait_neighbour(&self, peer: PeerId) -> Result<String> {
        let what = format!("{} to connect to {}", self.name, peer.short());
        let slot = wait::until(&what, DEADLINE, || {
            let peers = self.peers()?;
            let peer = peers.into_iter().find(|p| p.peer_id == peer && p.direct && p.state == PeerState::Connected);
            Ok(peer.and_then(|p| p.slot_text))
        });
        slot.map_err(|e| self.explain(e))
    }

    /// Whether `peer` is a connected neighbour.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn connected(&self, peer: PeerId) -> Result<bool> {
        Ok(self.peers()?.iter().any(|p| p.peer_id == peer && p.direct && p.state == PeerState::Connected))
    }

    /// Where the agent's output goes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir().join("agent.log")
    }

    /// The end of the agent's output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- the end of {}'s log:\n{tail}\n---", self.name)
    }

    /// Adds the end of the log to an error.
    #[must_use]
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        error.context(self.log_tail())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some() && self.terminate().is_err() {
            eprintln!("{}'s agent had to be killed", self.name);
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        // What a killed agent left switching. Nothing of another node has this name.
        let _ = fs::remove_dir_all(Path::new("/sys/fs/bpf/rovy").join(self.address().to_string()));
    }
}
