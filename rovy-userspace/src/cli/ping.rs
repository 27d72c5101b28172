//! `rovy ping`: one echo after the other.

use super::args::Ping;
use super::ask::{read, runtime};
use super::outcome::{NEGATIVE, No, Outcome, note, print};
use super::show::milliseconds;
use crate::api::{Client, Command, Echo};
use crate::config::User;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// What `--json` prints at the end.
#[derive(Serialize)]
struct Summary {
    sent: u32,
    received: u32,
    min_us: Option<u64>,
    avg_us: Option<u64>,
    max_us: Option<u64>,
    echoes: Vec<Echo>,
}

impl Summary {
    fn of(echoes: Vec<Echo>) -> Self {
        let rtts: Vec<u64> = echoes.iter().filter_map(|e| e.rtt_us).collect();
        Self {
            sent: echoes.len() as u32,
            received: rtts.len() as u32,
            min_us: rtts.iter().min().copied(),
            avg_us: rtts.iter().sum::<u64>().checked_div(rtts.len() as u64),
            max_us: rtts.iter().max().copied(),
            echoes,
        }
    }

    fn text(&self) -> String {
        let lost = (self.sent - self.received) * 100 / self.sent.max(1);
        let mut out = format!("\n{} sent, {} received, {lost}% lost\n", self.sent, self.received);
        if let (Some(min), Some(avg), Some(max)) = (self.min_us, self.avg_us, self.max_us) {
            let all = [min, avg, max].map(milliseconds);
            out.push_str(&format!("round trip min {}, avg {}, max {}\n", all[0], all[1], all[2]));
        }
        out
    }
}

/// Sends the echoes and says what came back; exit code 1 when nothing did.
pub(super) fn ping(ping: &Ping, socket: Option<&Path>, json: bool) -> Outcome {
    let client = Client::find(socket, &User::current())?;
    let peer = &ping.peer;
    let echoes = runtime()?.block_on(async {
        // A reply that is late does not make up for the time by haste.
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(ping.interval));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut echoes = Vec::new();
        for seq in 1..=ping.count {
            ticks.tick().await;
            let echo: Echo = read(client.call(&Command::Ping { peer: peer.clone() }).await?)?;
            if !json {
                print(&line(seq, &echo));
            }
            echoes.push(echo);
        }
        Ok::<_, No>(echoes)
    })?;
    let summary = Summary::of(echoes);
    if json {
        print(&format!("{:#}\n", serde_json::to_value(&summary).unwrap_or_default()));
    } else {
        print(&format!("{}\nnext: rovy trace {peer}\n", summary.text()));
    }
    if summary.received > 0 {
        return Ok(());
    }
    note(&format!("{peer} did not answer any of {} echoes; `rovy trace` shows how far they come", summary.sent));
    Err(No::quiet(NEGATIVE))
}

fn line(seq: u32, echo: &Echo) -> String {
    match echo.rtt_us {
        Some(us) => format!("{} seq {seq} over {}: {}\n", echo.address, echo.route, milliseconds(us)),
        None => format!("{} seq {seq} over {}: no answer within 1 s\n", echo.address, echo.route),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_was_lost() {
        let peer_id: crate::identity::PeerId =
            "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee".parse().unwrap();
        let echo =
            |rtt_us| Echo { peer_id, address: peer_id.address(), route: "/rovyrt/04.02".parse().unwrap(), rtt_us };
        let text = Summary::of(vec![echo(Some(1_000)), echo(None), echo(Some(2_500))]).text();
        assert_eq!(text, "\n3 sent, 2 received, 33% lost\nround trip min 1.000 ms, avg 1.750 ms, max 2.500 ms\n");
        assert_eq!(Summary::of(vec![echo(None)]).text(), "\n1 sent, 0 received, 100% lost\n");
        assert!(line(2, &echo(None)).ends_with("seq 2 over /rovyrt/04.02: no answer within 1 s\n"));
        assert!(line(1, &echo(Some(1_234))).ends_with("seq 1 over /rovyrt/04.02: 1.234 ms\n"));
    }
}
