//! Nothing an agent writes or says holds a key.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::{Agent, Line, Link, Mode};
use std::io::Write as _;

/// 32 bytes in every common spelling.
fn spellings(bytes: [u8; 32], base64: &str) -> Vec<String> {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    let base64 = base64.trim_start_matches('m').trim_end_matches('=').to_owned();
    // Base64 for URLs differs in two characters; the start of any encoding is enough to find it.
    let url = base64.replace('+', "-").replace('/', "_");
    vec![base64, url, hex.to_uppercase(), hex, list.join(", "), list.join(",")]
}

/// The private key of a keyfile.
fn private(keyfile: &str) -> Result<Vec<String>> {
    let line = keyfile.lines().find(|l| l.starts_with("PrivateKey")).context("no private key")?;
    let text = line.split(['\'', '"']).nth(1).context("no text of a key")?;
    let loaded = rovy_userspace::identity::keyfile::read("keyfile".as_ref(), keyfile.as_bytes())?;
    Ok(spellings(*loaded.secret.bytes(), text))
}

/// A pre-shared key of the network, as it is written into files and as its bytes.
const PSK: &str = "mAQMFBwkLDQ8RExUXGRsdHyEjJScpKy0vMTM1Nzk7PT8";

fn psk() -> [u8; 32] {
    std::array::from_fn(|i| 2 * i as u8 + 1)
}

/// Gives an end the network's key.
fn share(agent: &Agent) -> Result<()> {
    let file = agent.dir().join("psk");
    std::fs::write(&file, PSK)?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let config = std::fs::File::options().append(true).open(agent.dir().join("config.toml"));
    Ok(writeln!(config?, "\n[node]\npsk_file = 'psk'")?)
}

#[test]
fn no_log_and_no_answer_holds_a_key() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Eth, Mode::Native)?;
    for agent in [&line.a, &line.r, &line.b] {
        share(agent)?;
    }
    ensure!(*rovy_userspace::identity::psk::load(&line.r.dir().join("psk"))?.key == psk(), "not the key looked for");
    line.start()?;
    line.r.terminate()?;
    line.r.start_with(&["--log", "trace,aya=trace,rovy_userspace=trace"])?;
    line.r.wait_neighbour(line.a.peer_id())?;
    let keyfile = std::fs::read_to_string(line.r.dir().join("keyfile.toml"))?;
    let mut said = String::new();
    for command in [
        &[][..],
        &["info"],
        &["listener", "list"],
        &["peer", "list"],
        &["route", "list"],
        &["fc00", "status"],
        &["stats"],
        &["doctor"],
    ] {
        let args = [&["--json"], command].concat();
        let output = line.r.cli(&args)?;
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
    }
    let inspected = line.r.dir().join("keyfile.toml");
    let output = line.r.cli(&["--json", "key", "inspect", inspected.to_str().context("a path")?])?;
    said += &String::from_utf8_lossy(&output.stdout);
    ensure!(line.r.cli(&["listener", "stop", "/ethif/nope"])?.status.code() == Some(1));
    line.r.terminate()?;
    let log = String::from_utf8_lossy(&std::fs::read(line.r.log())?).into_owned();
    ensure!(log.contains("TRACE"), "the log has no traces");
    ensure!(said.contains(&line.r.peer_id().to_string()), "nothing was said");
    for (what, key) in [("the private key", private(&keyfile)?), ("the pre-shared key", spellings(psk(), PSK))] {
        for spelling in key {
            ensure!(!log.contains(&spelling), "the log holds {what}");
            ensure!(!said.contains(&spelling), "an answer holds {what}");
        }
    }
    Ok(())
}
