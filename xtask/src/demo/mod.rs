//! The demo: three hosts on this machine, the one in the middle switches in its kernel.
//!
//! What needs no privileges (the build) runs as the user who called; then the process replaces itself by one that
//! runs as root and does the rest.

mod build;
mod report;
mod stage;
mod table;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use rovy_netns::{Link, Mode};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// The arguments of `cargo xtask demo`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What the links between the hosts run over
    #[arg(long, value_enum, default_value_t = LinkArg::Eth)]
    link: LinkArg,
    /// How the host in the middle switches
    #[arg(long, value_enum, default_value_t = ModeArg::Native)]
    mode: ModeArg,
    /// Print one JSON object at the end; progress goes to standard error
    #[arg(long)]
    json: bool,
    /// Use this rovy binary instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Set on the process that has the privileges
    #[arg(long, hide = true)]
    privileged: bool,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum LinkArg {
    /// Raw Ethernet
    Eth,
    /// UDP over IPv4
    Udp4,
    /// UDP over IPv6
    Udp6,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum ModeArg {
    /// XDP in the driver
    Native,
    /// XDP behind the driver
    Generic,
    /// No XDP: the agent does it
    Userspace,
}

impl Args {
    fn link(&self) -> Link {
        match self.link {
            LinkArg::Eth => Link::Eth,
            LinkArg::Udp4 => Link::Udp4,
            LinkArg::Udp6 => Link::Udp6,
        }
    }

    fn mode(&self) -> Mode {
        match self.mode {
            ModeArg::Native => Mode::Native,
            ModeArg::Generic => Mode::Generic,
            ModeArg::Userspace => Mode::Userspace,
        }
    }
}

/// Runs the demo.
///
/// # Errors
/// When something cannot be built or started, or when the hosts did not do what the mode promises.
pub(crate) fn run(args: Args) -> Result<()> {
    let out = Out { json: args.json };
    if args.privileged {
        let binary = args.binary.as_deref().context("--privileged needs --binary")?;
        return stage::run(args.link(), args.mode(), binary, out);
    }
    let binary = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
        None => build::rovy(out)?,
    };
    as_root(&args, binary, out)
}

/// Replaces this process by one that has the privileges. Returns only when that fails.
fn as_root(args: &Args, binary: PathBuf, out: Out) -> Result<()> {
    let me = std::env::current_exe()?;
    // `su` keeps a user's path, where `ip` is not.
    let path = format!("PATH={}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = if crate::sh::is_root() {
        Command::new("env")
    } else {
        if crate::sh::find("sudo").is_none() {
            bail!("network namespaces need root and there is no sudo; run `cargo xtask demo` as root");
        }
        out.line("Network namespaces and XDP need root: the rest runs through sudo.");
        let mut sudo = Command::new("sudo");
        sudo.args(["--", "env"]);
        sudo
    };
    for name in ["ROVY_KEEP", "RUST_BACKTRACE"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.arg(path).arg(me).args(["demo", "--privileged", "--link", &args.link().to_string()]);
    command.args(["--mode", &args.mode().to_string(), "--binary"]).arg(binary);
    if args.json {
        command.arg("--json");
    }
    Err(command.exec()).context("cannot run the part of the demo that needs root")
}

/// Builds the optimised `rovy` for measurements.
///
/// # Errors
/// When it does not build.
pub(crate) fn optimised() -> Result<PathBuf> {
    build::rovy(Out { json: true })
}

/// Where progress goes.
#[derive(Clone, Copy, Debug)]
struct Out {
    json: bool,
}

impl Out {
    fn line(self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// Writes without ending the line.
    fn part(self, text: &str) {
        use std::io::Write as _;
        if self.json {
            eprint!("{text}");
        } else {
            print!("{text}");
            let _ = std::io::stdout().flush();
        }
    }

    /// Whether somebody watches.
    fn terminal(self) -> bool {
        use std::io::IsTerminal as _;
        if self.json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() }
    }
}
