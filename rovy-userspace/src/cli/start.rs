//! `rovy start`: gathers key, configuration and places, then runs the agent.

use super::args::Start;
use super::outcome::{No, Outcome, USAGE, note};
use super::{files, show};
use crate::agent::{self, Options};
use crate::config::{Config, ConfigError, LogFormat, Paths, User, XdpMode, persist};
use crate::dataplane::xdp;
use crate::identity::SecretKey;
use crate::identity::keyfile;
use crate::privileges;
use std::path::{Path, PathBuf};

pub(super) fn start(args: Start, socket: Option<PathBuf>, json: bool) -> Outcome {
    let mut paths = Paths::new(&User::current(), args.directory.as_deref());
    if let Some(config) = args.config {
        paths.config = config;
    }
    let remember = args.keyfile.as_deref() != Some(Path::new("@"));
    let secret = secret(args.keyfile.as_deref(), &mut paths)?;
    let config = configuration(&paths.config)?;
    if let Some(socket) = socket.or_else(|| config.api.socket.clone()) {
        paths.socket = socket;
    }
    log(args.log.as_deref().unwrap_or(&config.log.level), config.log.format)?;
    let mode = args.xdp.map_or(config.listen.xdp.mode, Into::into);
    reduce(mode)?;
    agent::run(Options {
        secret,
        config,
        paths,
        xdp: args.xdp.map(Into::into),
        ifname: args.ifname,
        fc00: !args.no_fc00,
        ready: if json { show::started_json } else { show::started },
        remember,
        nat_keepalive: args.nat_keepalive.map(std::time::Duration::from_secs),
        rekey_after: args.rekey_after.map(std::time::Duration::from_secs),
    })?;
    Ok(())
}

/// Does what takes more than the agent keeps, then gives the rest up. No thread but this one runs yet.
fn reduce(mode: XdpMode) -> Outcome {
    if mode != XdpMode::Off {
        xdp::prepare_host();
    }
    let done = privileges::hide_memory().and_then(|()| privileges::give_up());
    done.map_err(|e| No::from(anyhow::Error::new(e).context("cannot give up privileges that are not needed")))
}

fn secret(given: Option<&Path>, paths: &mut Paths) -> Outcome<SecretKey> {
    if given == Some(Path::new("@")) {
        return files::new_key();
    }
    if given == Some(Path::new("-")) {
        return Ok(files::load(Path::new("-"))?.secret);
    }
    if let Some(file) = given {
        paths.keyfile = file.into();
    }
    // Whether it is there is asked of the file system and not of the error, so that nothing but its absence makes a key.
    if paths.keyfile.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        let key = files::new_key()?;
        keyfile::write_new(&paths.keyfile, &key)?;
        note(&format!("made a new key: {} (keep a copy: it is the node)", paths.keyfile.display()));
        return Ok(key);
    }
    Ok(files::load(&paths.keyfile)?.secret)
}

fn configuration(path: &Path) -> Outcome<Config> {
    match Config::load(path) {
        Err(ConfigError::Missing(_)) => {
            persist::write_default(path)?;
            note(&format!("made a configuration: {}", path.display()));
            Ok(Config::load(path)?)
        }
        other => Ok(other?),
    }
}

fn log(level: &str, format: LogFormat) -> Outcome {
    // The BPF loader tells every relocation; who wants that names it.
    let level = if level.contains("aya") { level.to_owned() } else { format!("{level},aya=info,aya_obj=info") };
    let filter = tracing_subscriber::EnvFilter::builder().parse(&level);
    let filter = filter.map_err(|e| No::new(USAGE, format!("--log {level}: {e}"), None))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber can only come from a program that embeds this one and has its own.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}
