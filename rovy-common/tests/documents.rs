//! What documents say about tests is true.
#![allow(clippy::expect_used)]

use std::fs;
use std::path::Path;

/// Every row of the table in a section names tests that are there; how many rows it has.
fn rows(section: &str) -> usize {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let text = fs::read_to_string(root.join("docs/testing.md")).expect("docs/testing.md");
    let section = text.split(&format!("\n## {section}\n")).nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let mut rows = 0;
    for row in section.lines().filter(|l| l.starts_with("| ")).skip(1) {
        rows += 1;
        let named: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for test in named {
            let (file, name) = test.split_once("::").expect("file::test");
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            assert!(source.contains(&format!("fn {name}(")), "there is no {test}");
        }
    }
    rows
}

#[test]
fn the_faults_of_earlier_systems_each_have_a_test_that_exists() {
    let faults = rows("Faults of earlier systems");
    assert!(faults >= 15, "{faults} faults");
}

#[test]
fn bad_input_of_the_routing_has_tests_that_exist() {
    let kinds = rows("Bad input of the routing");
    assert!(kinds >= 15, "{kinds} kinds");
}
