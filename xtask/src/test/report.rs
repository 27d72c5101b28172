//! What is counted while the tests run, and the lines at the end.

use std::{fmt, time::Instant};

/// A test that could not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skip {
    /// Its name.
    pub(super) test: String,
    /// Why.
    pub(super) reason: String,
    /// Whether it is one of those that run as root, which must not be skipped in CI.
    pub(super) root: bool,
}

impl Skip {
    /// Reads `SKIP <test>: <reason>`, as root tests write it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (test, reason) = line.trim().strip_prefix("SKIP ")?.split_once(": ")?;
        Some(Self { test: test.to_owned(), reason: reason.to_owned(), root: true })
    }
}

/// Every result so far. A check such as formatting counts as a test.
#[derive(Debug, Default)]
pub(super) struct Report {
    passed: u64,
    failures: Vec<String>,
    skips: Vec<Skip>,
}

/// The counts of one test binary.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Tests that ran to their end, those included that skipped themselves.
    pub(super) passed: u64,
    /// Names of those that failed.
    pub(super) failures: Vec<String>,
    /// Those that skipped themselves.
    pub(super) skips: Vec<Skip>,
}

impl Counts {
    /// Reads one line of a test binary's output.
    pub(super) fn line(&mut self, line: &str) {
        if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            if result == "ok" {
                self.passed += 1;
            } else if result.starts_with("FAILED") {
                self.failures.push(name.to_owned());
            } else if let Some(reason) = result.strip_prefix("ignored") {
                let reason = reason.strip_prefix(", ").unwrap_or("ignored").to_owned();
                self.skips.push(Skip { test: name.to_owned(), reason, root: false });
            }
        } else if let Some((passed, failed)) = summary(line) {
            // What a test's children print can tear the line of a test apart; the summary always stands alone.
            self.passed = passed;
            let named = self.failures.len() as u64;
            self.failures.extend((named..failed).map(|_| "a test named above".to_owned()));
        }
    }

    /// Adds a test that returned early with a line in the skip log; the binary counted it among the passed.
    pub(super) fn skipped(&mut self, skip: Skip) {
        self.passed = self.passed.saturating_sub(1);
        self.skips.push(skip);
    }
}

/// `test result: ok. 2 passed; 1 failed; ..`
fn summary(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let passed = counts.next()?.strip_suffix(" passed")?.parse().ok()?;
    Some((passed, counts.next()?.strip_suffix(" failed")?.parse().ok()?))
}

impl Report {
    /// Runs a named check, prints how long it took and counts it.
    pub(super) fn check<T>(&mut self, name: &str, check: impl FnOnce() -> anyhow::Result<T>) -> Option<T> {
        println!("==> {name}");
        let start = Instant::now();
        let result = check();
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(value) => {
                println!("==> {name}: ok in {seconds:.1} s");
                self.passed += 1;
                Some(value)
            }
            Err(error) => {
                println!("==> {name}: FAILED in {seconds:.1} s: {error:#}");
                self.failures.push(name.to_owned());
                None
            }
        }
    }

    /// Adds the counts of a test binary.
    pub(super) fn add(&mut self, counts: Counts) {
        self.passed += counts.passed;
        self.failures.extend(counts.failures);
        self.skips.extend(counts.skips);
    }

    /// Adds a test that did not run.
    pub(super) fn skip(&mut self, skip: Skip) {
        self.skips.push(skip);
    }

    /// In CI everything that root tests need must be there: those that were skipped count as failures too.
    pub(super) fn refuse_skips(&mut self) {
        let refused = self.skips.iter().filter(|skip| skip.root);
        self.failures.extend(refused.map(|skip| format!("{} (skipped, which CI does not allow)", skip.test)));
        self.skips.retain(|skip| !skip.root);
    }

    /// Whether nothing failed.
    pub(super) fn good(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skip in &self.skips {
            writeln!(f, "SKIP {}: {}", skip.test, skip.reason)?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED {failure}")?;
        }
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failures.len(), self.skips.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &str) -> Counts {
        let mut counts = Counts::default();
        lines.lines().for_each(|line| counts.line(line));
        counts
    }

    fn closing(report: &Report) -> String {
        report.to_string().lines().last().unwrap().to_owned()
    }

    #[test]
    fn passed_failed_and_ignored_are_told_apart() {
        let counts = counted(
            "running 4 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, takes an hour\n\
             test d - should panic ... ok\ntest result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured\n",
        );
        assert_eq!(counts.passed, 2);
        assert_eq!(counts.failures, ["b"]);
        assert_eq!(counts.skips[0].reason, "takes an hour");
    }

    #[test]
    fn a_torn_line_is_counted() {
        let counts = counted(
            "test a ... from a child\nok\ntest b ... oops\nFAILED\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n",
        );
        assert_eq!((counts.passed, counts.failures.len()), (1, 1));
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let mut counts = counted("test a ... ok\ntest b ... ok\n");
        counts.skipped(Skip::parse("SKIP b: needs root: namespaces").unwrap());
        let mut report = Report::default();
        report.add(counts);
        assert!(report.to_string().contains("SKIP b: needs root: namespaces\n"));
        assert_eq!(closing(&report), "1 passed, 0 failed, 1 skipped");
        assert!(report.good());
    }

    #[test]
    fn ci_allows_no_skipped_root_test() {
        let mut report = Report::default();
        report.skip(Skip::parse("SKIP transit: no veth").unwrap());
        report.skip(Skip { test: "vm".into(), reason: "no qemu".into(), root: false });
        report.refuse_skips();
        assert!(!report.good());
        assert_eq!(closing(&report), "0 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn other_lines_are_no_skips() {
        assert_eq!(Skip::parse("SKIPPED x: y"), None);
        assert_eq!(Skip::parse("SKIP without a reason"), None);
    }
}
