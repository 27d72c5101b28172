//! `cargo xtask fuzz`: searches new inputs for the targets of `tests/fuzz`, and keeps those that reach something new.

mod keep;

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{setup, sh};

/// Seconds that one input may take.
const SLOW: &str = "-timeout=20";
/// Megabytes that a target may take.
const LARGE: &str = "-rss_limit_mb=2048";

/// The arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Minutes for each target
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
    /// Targets, by the names in fuzz/fuzz_targets; all when none is given
    targets: Vec<String>,
}

/// What libFuzzer said of a target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// Inputs tried.
    executions: u64,
    /// Edges of the program that some input reached.
    edges: u64,
    /// Edges, how often they were taken, and comparisons, as libFuzzer counts them.
    features: u64,
}

impl Said {
    /// Takes what a line says: `#4096 NEW cov: 574 ft: 840 corp: ..`, or `stat::number_of_executed_units: 5000`.
    fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let place = match word {
                "cov:" => &mut self.edges,
                "ft:" => &mut self.features,
                "stat::number_of_executed_units:" => &mut self.executions,
                _ => continue,
            };
            if let Some(number) = words.next().and_then(|word| word.parse().ok()) {
                *place = number;
            }
        }
    }
}

/// Runs each target, one after the other, and prints what it reached.
///
/// # Errors
///
/// When something cannot be installed or built, or a target failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = wanted(&args.targets)?;
    let minutes = Duration::try_from_secs_f64(args.minutes * 60.0).context("--minutes is no time")?;
    setup::ensure(setup::Needs { fuzz: true, ..setup::Needs::default() }, args.yes)?;
    let sanitizer = setup::fuzzer::sanitizer();
    if sanitizer == "none" {
        println!("fuzz: without the address sanitizer, whose runtime this nightly lacks");
    }
    let mut failed = Vec::new();
    for target in &wanted {
        let binary = build(target, sanitizer)?;
        if !one(target, binary, minutes)? {
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} failed; each input that did goes into fuzz/corpus as found-NAME, with what mends it", failed.join(", "))
}

fn wanted(named: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(sh::root().join("fuzz/fuzz_targets"))? {
        all.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    all.sort();
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {unknown}: there are {}", all.join(", "));
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

fn build(target: &str, sanitizer: &str) -> Result<PathBuf> {
    println!("==> fuzz {target}");
    let mut command = setup::fuzzer::command()?;
    sh::run(command.args(["build", "-O", "--sanitizer", sanitizer, target]))?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(sh::root().join("fuzz/target").join(host).join("release").join(target))
}

/// Searches for a while, starting with all that is known, and minimises. Whether no input failed.
fn one(target: &str, binary: PathBuf, minutes: Duration) -> Result<bool> {
    let fuzz = sh::root().join("fuzz");
    let (committed, grown, artifacts) =
        (fuzz.join("corpus").join(target), fuzz.join("grown").join(target), fuzz.join("artifacts").join(target));
    for dir in [&committed, &grown, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut command = sh::cmd(&binary);
    command.args([SLOW, LARGE, "-print_final_stats=1"]).arg(format!("-max_total_time={}", minutes.as_secs().max(1)));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&grown).arg(&committed);
    let (begun, mut said) = (Instant::now(), Said::default());
    let good = listen(&mut command, &mut said, &artifacts.join("log"))?;
    let took = begun.elapsed().as_secs_f64() / 60.0;
    println!(
        "fuzz: {target}: {} executions in {took:.1} minutes, {} edges, {} features",
        said.executions, said.edges, said.features
    );
    if !good {
        println!("fuzz: {target} FAILED: {} has the input and the log", artifacts.display());
        return Ok(false);
    }
    let minimal = fuzz.join("grown").join(format!("{target}.new"));
    let _ = fs::remove_dir_all(&minimal);
    fs::create_dir_all(&minimal)?;
    keep::stayers(&committed, &minimal)?;
    let mut merge = sh::cmd(&binary);
    merge.args([SLOW, LARGE, "-set_cover_merge=1"]).args([&minimal, &committed, &grown]);
    if !listen(&mut merge, &mut said, &artifacts.join("log"))? {
        bail!("cannot minimise the inputs of {target}: see {}", artifacts.join("log").display());
    }
    let (files, bytes) = keep::keep(&minimal, &committed)?;
    fs::remove_dir_all(&grown)?;
    fs::rename(&minimal, &grown)?;
    println!("fuzz: {target}: fuzz/corpus/{target} has {files} inputs, {bytes} bytes");
    Ok(true)
}

/// Runs a fuzzer, hears what it says and writes it down. Whether it ended well.
fn listen(command: &mut std::process::Command, said: &mut Said, log: &std::path::Path) -> Result<bool> {
    let mut log = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", sh::line(command)))?;
    let lines = child.stderr.take().map(BufReader::new).into_iter().flat_map(|from| from.split(b'\n'));
    for line in lines {
        let line = String::from_utf8_lossy(&line?).into_owned();
        said.hear(&line);
        writeln!(log, "{line}")?;
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let mut said = Said::default();
        said.hear("#9858\tREDUCE cov: 574 ft: 840 corp: 64/2951b lim: 320 exec/s: 704 rss: 336Mb L: 17/320");
        said.hear("stat::number_of_executed_units: 35969");
        said.hear("cov: cov: ft:");
        assert_eq!(said, Said { executions: 35969, edges: 574, features: 840 });
    }

    #[test]
    fn an_unknown_target_is_told_the_known_ones() {
        let error = wanted(&["nonsense".to_owned()]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("nonsense") && error.contains("wire"), "{error}");
        assert!(wanted(&[]).is_ok_and(|all| all.len() > 5 && !all.contains(&"corpus".to_owned())));
    }
}
