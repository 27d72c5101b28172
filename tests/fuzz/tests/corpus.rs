//! Every kept input through its target.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// All of the kept inputs together, in bytes: they are cloned with every checkout and run with every test.
const MOST: u64 = 512 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_target_has_a_fuzzer_and_inputs() {
    let targets: BTreeSet<String> = rovy_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), targets);
    assert_eq!(names(&fuzz().join("corpus")), targets);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "fuzz/Cargo.toml lacks {target}");
    }
}

#[test]
fn the_kept_inputs_are_few() {
    let files =
        rovy_fuzz::TARGETS.iter().flat_map(|(name, _)| std::fs::read_dir(fuzz().join("corpus").join(name)).unwrap());
    let bytes: u64 = files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= MOST, "{bytes} bytes: `cargo xtask fuzz` keeps fewer");
}

#[test]
fn the_kept_inputs_pass() {
    let corpus = fuzz().join("corpus");
    for (name, target) in rovy_fuzz::TARGETS {
        let mut inputs: Vec<_> = std::fs::read_dir(corpus.join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        inputs.sort();
        assert!(inputs.len() >= 5, "{name}: only {} inputs", inputs.len());
        for input in inputs {
            // Shown when the target panics: which input it was.
            println!("{}", input.display());
            target(&std::fs::read(&input).unwrap());
        }
    }
}

/// A generator without state of its own: SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Inputs made at random, for those without a fuzzer: `ROVY_FUZZ_RUNS` of each target, and the seed in `ROVY_SEED`.
#[test]
fn random_inputs_pass() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let runs = number("ROVY_FUZZ_RUNS").unwrap_or(200);
    let seed = number("ROVY_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    for (name, target) in rovy_fuzz::TARGETS {
        let mut state = seed;
        for run in 0..runs {
            let length = next(&mut state) as usize % 1024;
            let input: Vec<u8> = (0..length).map(|_| next(&mut state) as u8).collect();
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{name}, ROVY_SEED={seed}, run {run}: {input:?}");
        }
    }
}
