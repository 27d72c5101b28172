//! Commands that need no agent: they make and check files.

use super::args::Init;
use super::outcome::{NEGATIVE, No, Outcome, print, start_command};
use super::table::list;
use crate::config::{Config, Paths, User, persist};
use crate::identity::{SecretKey, keyfile, psk};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A key from the system's randomness.
pub(super) fn new_key() -> Outcome<SecretKey> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|e| No::new(NEGATIVE, format!("the system gives no random numbers: {e}"), None))?;
    Ok(SecretKey::generate(&mut |out| {
        for (to, from) in out.iter_mut().zip(seed.iter().cycle()) {
            *to = *from;
        }
    }))
}

/// `rovy init`
pub(super) fn init(args: &Init, json: bool) -> Outcome {
    let mut paths = Paths::new(&User::current(), args.directory.as_deref());
    let given = |path: &Option<PathBuf>, usual| path.clone().unwrap_or(usual);
    paths.keyfile = given(&args.keyfile, paths.keyfile);
    paths.config = given(&args.config, paths.config);
    // Both or none: a new configuration beside an old key would look like a new node.
    if let Some(there) = [&paths.keyfile, &paths.config].into_iter().find(|p| p.symlink_metadata().is_ok()) {
        let message = format!("{}: there is a file already, and nothing is overwritten", there.display());
        return Err(No::new(NEGATIVE, message, Some("move it away, or choose another place with -D DIR".into())));
    }
    let key = new_key()?;
    keyfile::write_new(&paths.keyfile, &key)?;
    persist::write_default(&paths.config)?;
    let (peer, address) = (key.peer_id(), key.peer_id().address());
    if json {
        let (keyfile, config) = (&paths.keyfile, &paths.config);
        let made = serde_json::json!({ "peer_id": peer, "ip_addr": address, "keyfile": keyfile, "config": config });
        print(&format!("{made:#}\n"));
    } else {
        let mut next = start_command().to_owned();
        for (flag, path) in [(" -D ", &args.directory), (" -K ", &args.keyfile), (" -C ", &args.config)] {
            if let Some(path) = path {
                next.push_str(flag);
                next.push_str(&path.display().to_string());
            }
        }
        let made = list(&[
            ("keyfile", format!("{} (keep a copy: it is the node)", paths.keyfile.display())),
            ("config", paths.config.display().to_string()),
            ("peer id", peer.to_string()),
            ("address", address.to_string()),
        ]);
        print(&format!("{made}\nnext: {next}\n"));
    }
    Ok(())
}

/// `rovy key new`
pub(super) fn key_new(file: Option<&Path>, json: bool) -> Outcome {
    let key = new_key()?;
    let (peer, address) = (key.peer_id(), key.peer_id().address());
    let Some(file) = file else {
        let text = keyfile::text(&key);
        if json {
            print(&format!(
                "{:#}\n",
                serde_json::json!({ "peer_id": peer, "ip_addr": address, "keyfile_text": *text })
            ));
        } else {
            print(&text);
        }
        return Ok(());
    };
    keyfile::write_new(file, &key)?;
    if json {
        print(&format!("{:#}\n", serde_json::json!({ "peer_id": peer, "ip_addr": address, "keyfile": file })));
    } else {
        let made =
            [("keyfile", file.display().to_string()), ("peer id", peer.to_string()), ("address", address.to_string())];
        print(&format!("{}\nnext: {} -K {}\n", list(&made), start_command(), file.display()));
    }
    Ok(())
}

/// `rovy key inspect`
pub(super) fn key_inspect(file: &Path, json: bool) -> Outcome {
    let key = load(file)?;
    let (peer, address) = (key.peer_id, key.peer_id.address());
    if json {
        let shown = serde_json::json!({ "peer_id": peer, "ip_addr": address, "warnings": key.warnings });
        print(&format!("{shown:#}\n"));
    } else {
        print(&list(&[("peer id", peer.to_string()), ("address", address.to_string())]));
    }
    Ok(())
}

/// `rovy check`
pub(super) fn check(file: Option<&Path>, json: bool) -> Outcome {
    let usual = Paths::new(&User::current(), None).config;
    let file = file.unwrap_or(&usual);
    let config = Config::load(file)?;
    let dir = file.parent().unwrap_or(Path::new(""));
    let mut warnings = Vec::new();
    let files = config.node.psk_file.iter().chain(config.peers.iter().filter_map(|p| p.psk_file.as_ref()));
    for psk in files {
        let psk = psk::load(&dir.join(psk)).map_err(|e| No::new(NEGATIVE, e.to_string(), None))?;
        warnings.extend(psk.warnings.iter().map(ToString::to_string));
    }
    if json {
        let ok = serde_json::json!({ "config": file, "ok": true, "peers": config.peers.len(), "warnings": warnings });
        print(&format!("{ok:#}\n"));
        return Ok(());
    }
    for warning in &warnings {
        let _ = writeln!(std::io::stderr(), "rovy: warning: {warning}");
    }
    let (listeners, peers) = (config.listen.addresses.len(), config.peers.len());
    print(&format!("{}: ok, {listeners} listeners, {peers} peers\n", file.display()));
    Ok(())
}

/// Reads a keyfile, `-` from standard input, and shows its warnings.
pub(super) fn load(file: &Path) -> Outcome<keyfile::Loaded> {
    let key = if file == Path::new("-") {
        keyfile::read(Path::new("standard input"), std::io::stdin().lock())?
    } else {
        keyfile::load(file)?
    };
    for warning in &key.warnings {
        let _ = writeln!(std::io::stderr(), "rovy: warning: {warning}");
    }
    Ok(key)
}
