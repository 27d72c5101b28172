//! Files of secrets and of what an agent remembers.

use std::path::Path;

use rovy_userspace::agent::Remembered;
use rovy_userspace::identity::{keyfile, psk};

use crate::keys::{id, secret};

/// A keyfile, a pre-shared key and the timestamps of a former agent: what is taken is written so that it reads the same,
/// and no refusal shows a secret.
pub fn files(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    keyfile(&text);
    pre_shared(&text);
    if let Some(before) = Remembered::parse(&text, id(0)) {
        assert_eq!(Remembered::parse(&before.text(id(0)), id(0)), Some(before));
    }
}

fn keyfile(text: &str) {
    match keyfile::read(Path::new("keyfile"), text.as_bytes()) {
        Ok(loaded) => {
            assert_eq!(loaded.peer_id, loaded.secret.peer_id());
            let again = keyfile::read(Path::new("keyfile"), keyfile::text(&loaded.secret).as_bytes());
            assert!(again.is_ok_and(|a| a.secret.bytes() == loaded.secret.bytes()), "it is not written as it was read");
        }
        Err(error) => {
            // A file that starts with the line of a private key, and holds it nowhere else.
            let line = keyfile::text(secret(0)).lines().next().unwrap_or_default().to_owned();
            let key = line.split('\'').nth(1).unwrap_or_default();
            if text.starts_with(&line) && text.matches(key).count() == 1 {
                assert!(!error.to_string().contains(key), "the private key is shown: {error}");
            }
        }
    }
}

fn pre_shared(text: &str) {
    let said = text.trim();
    match psk::read(Path::new("psk"), text.as_bytes()) {
        Ok(key) => {
            assert_ne!(*key, [0; 32]);
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(said.eq_ignore_ascii_case(&hex) || said.starts_with('m'), "{said:?} is another key");
            assert!(psk::read(Path::new("psk"), hex.as_bytes()).is_ok_and(|again| again == key));
        }
        // Shorter texts may be a part of the sentence.
        Err(error) => assert!(said.len() < 40 || !error.to_string().contains(said), "it is shown: {error}"),
    }
}
