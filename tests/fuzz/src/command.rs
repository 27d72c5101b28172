//! What people type, and what an agent answers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use rovy_userspace::api::{Command, Failure};
use rovy_userspace::cli;

/// The words of a command line, each in a line of its own, and after a zero byte the agent's answer as JSON.
///
/// A command goes over HTTP as it was typed. Any answer is shown or refused.
pub fn command(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (words, answer) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let words = words.split(|byte| *byte == b'\n').map(|word| OsString::from(std::ffi::OsStr::from_bytes(word)));
    let command = match cli::asked(std::iter::once(OsString::from("rovy")).chain(words)) {
        Ok(Some(command)) => command,
        Ok(None) => return,
        Err(message) => return assert!(!message.is_empty()),
    };
    let (_, target) = command.to_http();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    assert_eq!(Command::from_http(path, query).as_ref(), Ok(&command), "{target}");
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(answer) else { return };
    let failure = serde_json::from_value::<Failure>(answer.clone());
    drop(failure.map(|f| f.to_string()));
    match cli::shown(&command, answer) {
        Ok(text) => assert!(text.ends_with('\n') && text.contains("next: "), "{text:?}"),
        Err(message) => assert!(!message.is_empty()),
    }
}
