//! Commands that the running agent answers.

use super::args::Question;
use super::outcome::{NEGATIVE, No, Outcome, UNREACHABLE, note, print};
use super::{handover, show};
use crate::api::{Client, Command, Fc00Status, Peer, PeerState, Trace};
use crate::config::User;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `rovy stop` waits for the agent to be gone.
const END: Duration = Duration::from_secs(10);

/// Asks one question and prints the answer.
pub(super) fn ask(question: Question, socket: Option<&Path>, json: bool) -> Outcome {
    let user = User::current();
    let command = Command::from(question);
    let client = Client::find(socket, &user).map_err(No::from);
    let answer = runtime()?.block_on(async {
        let answer = match &client {
            Ok(client) => handover::ask(client, &command, &user, socket).await,
            Err(no) => Err(no.clone()),
        };
        if command == Command::Fc00Stop { stopped(answer, &user).await } else { answer }
    })?;
    if let (Command::Stop { .. }, Ok(client)) = (&command, client) {
        ended(client.socket())?;
    }
    let unanswered = unanswered(&command, &answer);
    if json {
        print(&format!("{answer:#}\n"));
    } else {
        print(&text(&command, answer)?);
    }
    unanswered.map_or(Ok(()), |why| {
        note(&why);
        Err(No::quiet(NEGATIVE))
    })
}

/// A peer that has not answered yet is no success, though the agent goes on.
fn unanswered(command: &Command, answer: &Value) -> Option<String> {
    if let Command::Trace { peer, .. } = command {
        let trace = serde_json::from_value::<Trace>(answer.clone()).ok().filter(|t| !t.reached)?;
        return Some(format!("{peer} did not answer at the end of {}", trace.route));
    }
    let connect = matches!(command, Command::PeerConnect { .. });
    let peer = connect.then(|| serde_json::from_value::<Peer>(answer.clone()).ok())??;
    if peer.state == PeerState::Connected {
        return None;
    }
    let why = peer.why.unwrap_or_else(|| {
        "is it there, does UDP or Ethernet get through, and is a pre-shared key the same at both ends?".into()
    });
    Some(format!(
        "{} has not answered within 5 s, and the agent goes on trying: {why} `rovy stats` counts what was dropped",
        peer.peer_id
    ))
}

/// Rules that root made for a device outlive it when the agent is an ordinary user's, and an agent that crashed.
async fn stopped(answer: Outcome<Value>, user: &User) -> Outcome<Value> {
    let netns = answer.as_ref().ok().and_then(|a| a.get("netns")?.as_str());
    let removed = handover::tidy(user, netns).await?;
    match answer {
        Ok(mut status) => {
            if removed > 0
                && let Some(why) = status.get_mut("why")
            {
                *why = Value::Null;
            }
            Ok(status)
        }
        Err(_) if removed > 0 => Ok(serde_json::to_value(Fc00Status::default()).unwrap_or_default()),
        refused => refused,
    }
}

/// What bare `rovy` shows.
pub(super) fn status(socket: Option<&Path>, json: bool) -> Outcome {
    let client = Client::find(socket, &User::current())?;
    let mut answers = call(&client, &[&Command::Info, &Command::ListenerList, &Command::PeerList])?;
    let (peers, listeners, info) = (answers.remove(2), answers.remove(1), answers.remove(0));
    if json {
        print(&format!("{:#}\n", serde_json::json!({ "info": info, "listeners": listeners, "peers": peers })));
    } else {
        print(&show::status(&read(info)?, &read::<Vec<_>>(listeners)?, &read::<Vec<_>>(peers)?));
    }
    Ok(())
}

fn call(client: &Client, commands: &[&Command]) -> Outcome<Vec<Value>> {
    runtime()?.block_on(async {
        let mut answers = Vec::new();
        for command in commands {
            answers.push(client.call(command).await?);
        }
        Ok(answers)
    })
}

pub(super) fn runtime() -> Outcome<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| No::from(anyhow::Error::new(e)))
}

pub(super) fn read<T: DeserializeOwned>(value: Value) -> Outcome<T> {
    serde_json::from_value(value).map_err(|e| {
        let message = format!("the agent's answer is not of this version: {e}");
        No::new(UNREACHABLE, message, Some("restart the agent, or ask with --json".into()))
    })
}

/// The agent has answered that it ends; a next `rovy start` wants its socket.
fn ended(socket: &Path) -> Outcome {
    let deadline = Instant::now() + END;
    while std::os::unix::net::UnixStream::connect(socket).is_ok() {
        if Instant::now() >= deadline {
            let message = format!("the agent at {} said it would end, and did not in 10 seconds", socket.display());
            return Err(No::new(UNREACHABLE, message, Some("look into its log".into())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(super) fn text(command: &Command, answer: Value) -> Outcome<String> {
    Ok(match command {
        Command::Info => show::info(&read(answer)?),
        Command::Stop { keep_transit: false } => format!("stopped\n\nnext: {}\n", super::outcome::start_command()),
        Command::Stop { keep_transit: true } => {
            let start = super::outcome::start_command();
            format!("stopped; the kernel goes on switching until its keys expire, 180 s at most\n\nnext: {start}\n")
        }
        Command::ListenerList => show::listeners(&read::<Vec<_>>(answer)?),
        Command::ListenerStart { persist, .. } | Command::GiveListener { persist, .. } => {
            show::listener(&read(answer)?) + persisted(*persist)
        }
        Command::ListenerStop { address, persist } => {
            format!("no longer listening on {address}\n\nnext: rovy listener list\n{}", persisted(*persist))
        }
        Command::PeerList => show::peers(&read::<Vec<_>>(answer)?),
        Command::PeerConnect { persist, .. } => show::peer(&read(answer)?) + persisted(*persist),
        Command::PeerDisconnect { peer } => format!("disconnected from {peer}\n\nnext: rovy peer list\n"),
        Command::PeerLimit { persist, .. } => show::limit(&read(answer)?) + persisted(*persist),
        Command::DiscoveryList | Command::DiscoverySwitch { .. } => show::discovery(&read(answer)?),
        Command::RouteList => show::routes(&read::<Vec<_>>(answer)?),
        Command::RouteAdd { peer, route } => {
            format!("{peer} is routed over {route}\n\nnext: rovy ping {peer}\n")
        }
        Command::RouteDel { peer, .. } => format!("route to {peer} removed\n\nnext: rovy route list\n"),
        Command::Trace { .. } => show::trace(&read(answer)?),
        Command::NameList => show::names(&read::<Vec<_>>(answer)?),
        Command::NameAdd { .. } => show::name(&read(answer)?),
        Command::NameDel { name } => format!("{name} is no name any more\n\nnext: rovy name list\n"),
        Command::Fc00Start(_) | Command::Fc00Stop | Command::Fc00Status | Command::GiveFc00 { .. } => {
            show::fc00(&read(answer)?)
        }
        Command::Fc00Allow { .. } | Command::Fc00Deny { .. } | Command::Fc00Ports => show::ports(&read(answer)?),
        Command::Wants | Command::Ping { .. } => format!("{answer:#}\n"),
        Command::Stats => show::stats(&read(answer)?),
    })
}

const fn persisted(persist: bool) -> &'static str {
    if persist { "(written to the configuration)\n" } else { "" }
}
