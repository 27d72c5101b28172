//! Every kept input through its target.

use std::path::Path;

#[test]
fn the_kept_inputs_pass() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
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
