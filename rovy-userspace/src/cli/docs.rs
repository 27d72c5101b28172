//! Every `rovy` command in the documents is one that exists.

use super::args::Args;
use clap::Parser as _;
use std::path::Path;

/// Puts something that parses where a document leaves a blank.
fn fill(line: &str) -> String {
    let known = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
    let blanks = [
        ("<PeerID>", known),
        ("<PEERID>", known),
        ("PEERID", known),
        ("<interface>", "eth0"),
        ("MULTIADDR", "/ip4/192.0.2.1/udp/1312/rovy/bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee"),
        ("COMMAND", "info"),
        ("[", ""),
        ("]", ""),
        ("MODE", "auto"),
        (" RATE", " 10mbit"),
        ("-c N", "-c 1"),
        ("-q N", "-q 1"),
        ("-i SECONDS", "-i 1"),
        ("/ethif/IF", "/ethif/eth0"),
        ("SERVICE..", "/tcp/80"),
        ("NODE", known),
        ("/ip4/ADDRESS", "/ip4/192.0.2.1"),
    ];
    // A listener takes everybody, a connection leads to one.
    let line = &line.replace("listener start MULTIADDR", "listener start /ethif/eth0");
    let line = &line.replace("listener stop MULTIADDR", "listener stop /ethif/eth0");
    let line = &line.replace("linklocal [MULTIADDR]", "linklocal /ethif/eth0");
    blanks.iter().fold(line.to_owned(), |l, (blank, value)| l.replace(blank, value))
}

/// The `rovy` commands of a document, in shell blocks and in the text. What is optional counts as given.
fn commands(text: &str) -> Vec<String> {
    let mut shell = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(fence) = line.trim().strip_prefix("```") {
            shell = !shell && fence == "sh";
            continue;
        }
        let whole = line.split(" #").next().unwrap_or_default();
        let spans = if shell { vec![whole] } else { line.split('`').skip(1).step_by(2).collect() };
        for span in spans {
            let command = fill(span.trim().strip_prefix("sudo ").unwrap_or(span.trim()));
            let grammar = command.contains(['<', '|', '…', '$']);
            // The prologue of the handshake looks like a command.
            if (command == "rovy" || command.starts_with("rovy ")) && !grammar && command != "rovy v1" {
                found.push(command);
            }
        }
    }
    found
}

#[test]
fn commands_in_the_documents_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = std::fs::read_dir(root.join("docs")).expect("docs").map(|e| e.expect("entry").path());
    let mut seen = 0;
    for file in docs.filter(|p| p.extension().is_some_and(|e| e == "md")).chain([root.join("README.md")]) {
        for command in commands(&std::fs::read_to_string(&file).expect("readable")) {
            seen += 1;
            if let Err(error) = Args::try_parse_from(command.split_whitespace()) {
                // The text may name a command without its arguments.
                let named = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                assert!(named || !error.use_stderr(), "{}: `{command}`: {error}", file.display());
            }
        }
    }
    assert!(seen > 5, "only {seen} commands found");
}
