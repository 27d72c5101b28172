//! What people and files say: multiaddrs, routes, PeerIDs, the configuration, requests.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use rovy_userspace::api::Command;
use rovy_userspace::config::{Config, ConfigError};
use rovy_userspace::identity::PeerId;
use rovy_userspace::multiaddr::{Multiaddr, Route};

/// What is read is written in a form that reads the same.
fn there_and_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    let again = written.parse::<T>().ok();
    assert_eq!(again.as_ref(), Some(&value), "{text:?} became {written:?}");
}

/// Multiaddrs, routes and PeerIDs.
pub fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    there_and_back::<Multiaddr>(text);
    there_and_back::<Route>(text);
    there_and_back::<PeerId>(text);
}

/// `config.toml`: accepted, or refused with a place in the file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(Path::new("config.toml"), text) {
        Ok(config) => drop(format!("{config:?}")),
        Err(ConfigError::Invalid { line, column, message, .. }) => {
            assert!(line >= 1 && column >= 1 && !message.is_empty(), "{line}:{column}: {message}");
            assert!(line <= text.lines().count() + 1, "line {line} of {}", text.lines().count());
        }
        Err(other) => unreachable!("no file was read, yet: {other}"),
    }
}

/// Path and query of a request to the API.
pub fn http(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Err(failure) = Command::from_http(path, query) {
        assert!(!failure.message.is_empty());
        assert!(failure.message.len() < 8192, "{} bytes of message", failure.message.len());
    }
}
