//! Nothing an agent writes or says holds a key.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::{Line, Link, Mode};

/// The private key as text and in every common spelling of its bytes.
fn spellings(keyfile: &str) -> Result<Vec<String>> {
    let line = keyfile.lines().find(|l| l.starts_with("PrivateKey")).context("no private key")?;
    let text = line.split(['\'', '"']).nth(1).context("no text of a key")?;
    let bytes = rovy_userspace::identity::keyfile::read("keyfile".as_ref(), keyfile.as_bytes())?;
    let bytes = *bytes.secret.bytes();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    let base64 = text.get(1..).context("no base64")?.trim_end_matches('=').to_owned();
    // Base64 for URLs differs in two characters; the start of any encoding is enough to find it.
    let url = base64.replace('+', "-").replace('/', "_");
    Ok(vec![text.to_owned(), base64, url, hex.to_uppercase(), hex, list.join(", "), list.join(",")])
}

#[test]
fn no_log_and_no_answer_holds_a_key() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Eth, Mode::Native)?;
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
    for spelling in spellings(&keyfile)? {
        ensure!(!log.contains(&spelling), "the log holds the private key");
        ensure!(!said.contains(&spelling), "an answer holds the private key");
    }
    Ok(())
}
