//! The command line: `rovy start` runs the agent, everything else asks it or handles files.

mod args;
mod ask;
mod doctor;
mod files;
mod generated;
mod handover;
mod outcome;
mod ping;
mod show;
mod start;
mod table;

#[cfg(test)]
mod docs;

use crate::api::Command;
use args::{Args, Group, KeyCommand};
use clap::Parser as _;
use outcome::Outcome;
use std::ffi::OsString;
use std::process::ExitCode;

/// Reads the arguments, does what they say and returns the exit code: 0 ok, 1 negative answer, 2 usage,
/// 3 agent unreachable, 4 permission.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to stdout with 0, mistakes to stderr with 2.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { outcome::USAGE } else { 0 });
        }
    };
    let json = args.json;
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(no) => {
            no.print(json);
            ExitCode::from(no.code)
        }
    }
}

fn run(args: Args) -> Outcome {
    match args.command {
        Some(Group::Init(init)) => files::init(&init, args.json),
        Some(Group::Key(KeyCommand::New { file })) => files::key_new(file.as_deref(), args.json),
        Some(Group::Key(KeyCommand::Inspect { file })) => files::key_inspect(&file, args.json),
        Some(Group::Start(start)) => start::start(*start, args.socket, args.json),
        Some(Group::Doctor) => doctor::doctor(args.socket.as_deref(), args.json),
        Some(Group::Check { file }) => files::check(file.as_deref(), args.json),
        Some(Group::Completions { shell }) => generated::completions(shell),
        Some(Group::Man { directory }) => generated::manual(&directory),
        Some(Group::Ping(ping)) => ping::ping(&ping, args.socket.as_deref(), args.json),
        Some(Group::Ask(question)) => ask::ask(question, args.socket.as_deref(), args.json),
        None => ask::status(args.socket.as_deref(), args.json),
    }
}

/// What the words of a command line, the program's name first, ask the agent; `None` when they ask it nothing.
///
/// # Errors
/// What is printed instead: the mistake with its usage, or help.
pub fn asked(words: impl IntoIterator<Item = OsString>) -> Result<Option<Command>, String> {
    let args = Args::try_parse_from(words).map_err(|e| e.to_string())?;
    Ok(match args.command {
        Some(Group::Ask(question)) => Some(question.into()),
        _ => None,
    })
}

/// What is printed for the agent's answer to a command.
///
/// # Errors
/// Why it is not one of this version.
pub fn shown(command: &Command, answer: serde_json::Value) -> Result<String, String> {
    ask::text(command, answer).map_err(|no| no.message().to_owned())
}
