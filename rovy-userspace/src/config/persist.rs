//! Changes to the configuration file that keep its comments. The old file stays whole when anything fails.

use super::{Config, ConfigError, DEFAULT_FILE, key};
use crate::fc00::firewall::{Action, Rule, Rules};
use crate::identity::PeerId;
use crate::multiaddr::Multiaddr;
use crate::rate::TransitLimit;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

/// Writes the commented default configuration (mode 0600), making its directory (0700) when that is missing.
///
/// # Errors
/// [`ConfigError::Write`], also when there is a file already.
pub fn write_default(path: &Path) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Write { path: path.into(), source };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(DEFAULT_FILE.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Adds a listen address. Without an `addresses` key the defaults are written out first, so that they stay.
/// Returns whether the file changed.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn add_listener(path: &Path, address: &Multiaddr) -> Result<bool, ConfigError> {
    change(path, |document, config| {
        if config.listen.addresses.contains(address) {
            return Ok(false);
        }
        push(listen_array(document, &config)?, &address.to_string());
        Ok(true)
    })
}

/// Takes a listen address out. Returns whether it was there.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn remove_listener(path: &Path, address: &Multiaddr) -> Result<bool, ConfigError> {
    change(path, |document, config| {
        let Some(at) = config.listen.addresses.iter().position(|a| a == address) else {
            return Ok(false);
        };
        remove(listen_array(document, &config)?, at);
        Ok(true)
    })
}

/// Adds an address to a peer, and the peer when it is not there. `address` without the peer is stored.
/// Returns whether the file changed.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn add_peer(path: &Path, peer: PeerId, address: &Multiaddr) -> Result<bool, ConfigError> {
    let address = address.clone().with_peer(None);
    change(path, |document, config| {
        let known = config.peers.iter().position(|p| p.id == peer);
        if known.is_some_and(|at| config.peers[at].addresses.iter().any(|a| a.clone().with_peer(None) == address)) {
            return Ok(false);
        }
        let item = document.entry("peer").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let tables = item.as_array_of_tables_mut().ok_or("peers must be written as [[peer]] to be changed here")?;
        if let Some(table) = known.and_then(|at| tables.get_mut(at)) {
            let list = table.entry("addresses").or_insert_with(|| value(Array::new()));
            push(list.as_array_mut().ok_or("addresses is no list")?, &address.to_string());
        } else {
            let mut table = Table::new();
            table.insert("id", literal(&peer.to_string()).into());
            let mut list = Array::new();
            list.push_formatted(literal(&address.to_string()));
            table.insert("addresses", value(list));
            tables.push(table);
        }
        Ok(true)
    })
}

/// Limits a peer's transit, and adds the peer when it is not there. Returns whether the file changed.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn limit_peer(path: &Path, peer: PeerId, limit: TransitLimit) -> Result<bool, ConfigError> {
    change(path, |document, config| {
        let known = config.peers.iter().position(|p| p.id == peer);
        if known.is_some_and(|at| config.peers[at].rate_limit == Some(limit)) {
            return Ok(false);
        }
        let item = document.entry("peer").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let tables = item.as_array_of_tables_mut().ok_or("peers must be written as [[peer]] to be changed here")?;
        if let Some(table) = known.and_then(|at| tables.get_mut(at)) {
            table.insert("rate_limit", value(limit.to_string()));
        } else {
            let mut table = Table::new();
            table.insert("id", literal(&peer.to_string()).into());
            table.insert("rate_limit", value(limit.to_string()));
            tables.push(table);
        }
        Ok(true)
    })
}

/// Takes a peer out with all its addresses. Returns whether it was there.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn remove_peer(path: &Path, peer: PeerId) -> Result<bool, ConfigError> {
    change(path, |document, config| {
        let Some(at) = config.peers.iter().position(|p| p.id == peer) else {
            return Ok(false);
        };
        let tables = document.get_mut("peer").and_then(Item::as_array_of_tables_mut);
        tables.ok_or("peers must be written as [[peer]] to be changed here")?.remove(at);
        Ok(true)
    })
}

/// Changes what the firewall lets in, as the running one was changed. Returns whether the file changed.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn set_rules(path: &Path, action: Action, list: &[Rule]) -> Result<bool, ConfigError> {
    change(path, |document, config| {
        let mut rules = Rules::new(&config.fc00.allow, &config.fc00.deny).map_err(|_| "it has too many rules")?;
        for rule in list {
            rules.set(action, *rule).map_err(|_| "it has room for no more rules")?;
        }
        let fc00 = document.entry("fc00").or_insert_with(|| Item::Table(Table::new()));
        let fc00 = fc00.as_table_like_mut().ok_or("fc00 is no table")?;
        let mut changed = false;
        for (key, action, old) in
            [("allow", Action::Allow, &config.fc00.allow), ("deny", Action::Deny, &config.fc00.deny)]
        {
            let new: Vec<Rule> = rules.iter().filter(|e| e.action == action).map(|e| e.rule).collect();
            let added: Vec<&Rule> = new.iter().filter(|r| !old.contains(r)).collect();
            let gone: Vec<usize> = (0..old.len()).rev().filter(|i| !new.contains(&old[*i])).collect();
            if added.is_empty() && gone.is_empty() {
                continue;
            }
            changed = true;
            let array = fc00.entry(key).or_insert_with(|| value(Array::new()));
            let array = array.as_array_mut().ok_or("fc00.allow or fc00.deny is no list")?;
            gone.into_iter().for_each(|at| remove(array, at));
            added.into_iter().for_each(|rule| push(array, &rule.to_string()));
        }
        Ok(changed)
    })
}

/// Reads, edits, checks and replaces the file. A missing one counts as empty.
fn change(
    path: &Path,
    edit: impl FnOnce(&mut DocumentMut, Config) -> Result<bool, &'static str>,
) -> Result<bool, ConfigError> {
    let text = match super::read(path) {
        Err(ConfigError::Missing(_)) => String::new(),
        other => other?,
    };
    let config = Config::parse(path, &text)?;
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| key::invalid(path, &text, e.span(), e.message()))?;
    let refused = |why: &str| ConfigError::Write { path: path.into(), source: io::Error::other(why.to_owned()) };
    if !edit(&mut document, config).map_err(refused)? {
        return Ok(false);
    }
    let new = document.to_string();
    Config::parse(path, &new)?;
    replace(path, &new).map_err(|source| ConfigError::Write { path: path.into(), source })?;
    Ok(true)
}

/// The `listen.addresses` list, with the addresses in effect when the file does not name any.
fn listen_array<'d>(document: &'d mut DocumentMut, config: &Config) -> Result<&'d mut Array, &'static str> {
    let listen = document.entry("listen").or_insert_with(|| Item::Table(Table::new()));
    let listen = listen.as_table_like_mut().ok_or("listen is no table")?;
    let list = listen.entry("addresses").or_insert_with(|| {
        let mut list = Array::new();
        config.listen.addresses.iter().for_each(|a| list.push_formatted(literal(&a.to_string())));
        value(list)
    });
    list.as_array_mut().ok_or("listen.addresses is no list")
}

/// Addresses and PeerIDs hold no quotes, so that they can be written without escapes.
fn literal(text: &str) -> Value {
    format!("'{text}'").parse().unwrap_or_else(|_| text.into())
}

/// Adds in the layout the list has: in a line of its own where the others are.
fn push(list: &mut Array, text: &str) {
    let lines = list.iter().next().and_then(|v| v.decor().prefix()?.as_str()).filter(|p| p.contains('\n'));
    let mut new = literal(text);
    if let Some(prefix) = lines {
        let indent = prefix.rsplit('\n').next().unwrap_or("");
        let prefix = format!("\n{indent}");
        new.decor_mut().set_prefix(prefix);
        // Comments after the last address stand in the list's tail; the new address goes behind them.
        let tail = list.trailing().as_str().unwrap_or("\n").trim_end().to_owned();
        if !tail.trim().is_empty() {
            let own = new.decor().prefix().and_then(|p| p.as_str()).unwrap_or("").to_owned();
            new.decor_mut().set_prefix(format!("{tail}{own}"));
        }
        list.set_trailing("\n");
        list.set_trailing_comma(true);
    } else if !list.is_empty() {
        new.decor_mut().set_prefix(" ");
    }
    list.push_formatted(new);
}

/// Removes an entry and keeps the comments in front of it.
fn remove(list: &mut Array, at: usize) {
    let gone = list.remove(at);
    let kept = gone.decor().prefix().and_then(|p| p.as_str()).filter(|p| p.contains('#')).map(str::to_owned);
    let Some(kept) = kept else { return };
    let kept = kept.trim_end().to_owned();
    if let Some(next) = list.get_mut(at) {
        let own = next.decor().prefix().and_then(|p| p.as_str()).unwrap_or("").to_owned();
        next.decor_mut().set_prefix(format!("{kept}{own}"));
    } else {
        let tail = list.trailing().as_str().unwrap_or("").to_owned();
        list.set_trailing(format!("{kept}{tail}"));
    }
}

/// Writes beside the file and renames over it: a reader sees the old or the new one, whole.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link is followed, so that the file it names is replaced and not the link.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut name = path.file_name().ok_or_else(|| io::Error::other("not the name of a file"))?.to_owned();
    name.push(format!(".new.{}", std::process::id()));
    let new = path.with_file_name(name);
    let mode = std::fs::metadata(path).map_or(0o600, |m| m.permissions().mode() & 0o777);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        // The rename itself lasts only once the directory is on disk.
        path.parent().map_or(Ok(()), |d| File::open(d)?.sync_all())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}
