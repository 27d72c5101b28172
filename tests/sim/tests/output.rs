//! What `rovy-sim` prints.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rovy-sim")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const SMALL: [&str; 9] = ["--nodes", "40", "--degree", "6", "--pairs", "10", "--loss", "0.01", "--json"];

fn small(more: &[&str]) -> String {
    run(&[&SMALL[..], more].concat())
}

#[test]
fn a_seed_repeats_to_the_byte_and_another_differs() {
    let first = small(&["--seed", "5", "--kill", "2", "--reorder", "2"]);
    assert_eq!(first, small(&["--seed", "5", "--kill", "2", "--reorder", "2"]));
    assert_ne!(first, small(&["--seed", "6", "--kill", "2", "--reorder", "2"]));
}

#[test]
fn json_has_its_keys_and_no_heal_without_a_death() {
    let report: Value = serde_json::from_str(&small(&["--seeds", "1..2"])).unwrap();
    for key in [
        "schema",
        "topology",
        "nodes",
        "seed",
        "seeds",
        "pairs_sampled",
        "pairs_fitting",
        "pairs_connected",
        "mean_stretch",
        "first_byte_ms_p50",
        "control_bytes_per_node_s",
        "heal_ms_p50",
        "heal_ms_p99",
        "memory_bytes_per_node",
    ] {
        assert!(report.get(key).is_some(), "{key} is missing in {report}");
    }
    assert_eq!((&report["seeds"], &report["nodes"], &report["pairs_sampled"]), (&2.into(), &40.into(), &20.into()));
    assert_eq!((&report["heal_ms_p50"], &report["deaths"]), (&Value::Null, &0.into()));
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_network_is_drawn() {
    let dir = std::env::temp_dir().join(format!("rovy-sim-{}", std::process::id()));
    let file = dir.join("network.svg");
    run(&["--nodes", "9", "--topology", "grid", "--pairs", "2", "--svg", file.to_str().unwrap()]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!((text.matches("<circle").count(), text.matches("<path").count()), (9, 12));
    std::fs::remove_dir_all(dir).unwrap();
}
