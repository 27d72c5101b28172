//! What is made of the command line's own description: completions and manual pages.

use super::args::Args;
use super::outcome::{NEGATIVE, No, Outcome, print};
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::path::Path;

/// `rovy completions`
pub(super) fn completions(shell: Shell) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "rovy", &mut text);
    print(&String::from_utf8_lossy(&text));
    Ok(())
}

/// `rovy man`: a page for the program and for each command.
pub(super) fn manual(directory: &Path) -> Outcome {
    let failed =
        |e: std::io::Error| No::new(NEGATIVE, format!("{}: cannot write there: {e}", directory.display()), None);
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Args::command(), directory).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let dir = tempfile::tempdir().expect("a directory");
        manual(dir.path()).expect("written");
        for page in ["rovy.1", "rovy-start.1", "rovy-listener-start.1", "rovy-check.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).expect(page);
            assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "rovy", &mut text);
            assert!(String::from_utf8_lossy(&text).contains("listener"), "{shell}");
        }
    }
}
