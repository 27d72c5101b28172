//! Handshakes a second on one core, as initiator and as responder: two nodes in memory that shake hands again and again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rovy_common::label::Width;
use rovy_userspace::core::{Action, Budget, Node, NodeConfig, Now, Origin, Psk};
use rovy_userspace::identity::SecretKey;
use rovy_userspace::transport::Endpoint;
use serde::Serialize;

/// Handshakes of a round, in each of which both ends are timed.
const ROUND: u32 = 500;

/// The result, medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Rates {
    /// Hello made, response read, confirmation made.
    pub(crate) initiator_per_s: u64,
    /// Hello read, response made, confirmation read.
    pub(crate) responder_per_s: u64,
    /// Hellos with a wrong mac1 refused; what a stranger who does not know the node can make it do.
    pub(crate) wrong_mac1_per_s: u64,
}

fn node(n: u8) -> Node {
    let secret = SecretKey::generate(&mut |out| out.fill(n));
    let config = NodeConfig {
        secret,
        width: Width::One,
        transit: true,
        sessions: 1024,
        peers: 16,
        handshakes: 256,
        receive_mtu: None,
        aes: true,
        psk: Psk::default(),
        probes: Budget::default(),
    };
    Node::new(config, [n; 32])
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint::Udp { remote: SocketAddr::from(([192, 0, 2, n], 1312)), local: None }
}

/// What a node wants sent.
fn sent(node: &mut Node) -> Vec<Vec<u8>> {
    let send = |action| if let Action::Send(_, message) = action { Some(message) } else { None };
    std::iter::from_fn(|| node.poll()).filter_map(send).collect()
}

/// Measures `rounds` rounds.
///
/// # Errors
/// When a handshake fails.
pub(crate) fn measure(rounds: usize) -> Result<Rates> {
    ensure!(rounds > 0, "nothing to measure in 0 rounds");
    let (mut a, mut b) = (node(1), node(2));
    let mut at = 0_u64;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let mut spent = [Duration::ZERO; 3];
        for _ in 0..ROUND {
            at += 1;
            let now = Now { mono_ns: at * 1_000_000, wall: Duration::from_millis(at) };
            once(&mut a, &mut b, now, &mut spent).context("a handshake between two nodes in memory failed")?;
        }
        for (all, one) in times.iter_mut().zip(spent) {
            all.push(one);
        }
    }
    let [initiator_per_s, responder_per_s, wrong_mac1_per_s] = times.map(|mut t| {
        t.sort_unstable();
        (f64::from(ROUND) / t[t.len() / 2].as_secs_f64()) as u64
    });
    Ok(Rates { initiator_per_s, responder_per_s, wrong_mac1_per_s })
}

fn once(a: &mut Node, b: &mut Node, now: Now, spent: &mut [Duration; 3]) -> Result<()> {
    let (to_a, to_b) = (Origin::Direct(endpoint(2)), Origin::Direct(endpoint(1)));
    a.disconnect(now, b.id());
    sent(a);

    let start = Instant::now();
    a.connect(now, b.id(), vec![endpoint(2)], false);
    let mut hello = sent(a).pop().context("no hello")?;
    spent[0] += start.elapsed();

    let mut forged = hello.clone();
    let last = forged.len() - 17;
    forged[last] ^= 1;
    let start = Instant::now();
    let refused = b.message(now, &to_b, &mut forged);
    spent[2] += start.elapsed();
    ensure!(refused.is_err(), "a wrong mac1 was taken");

    let start = Instant::now();
    b.message(now, &to_b, &mut hello).map_err(|e| anyhow::anyhow!("hello: {}", e.name()))?;
    let mut response = sent(b).pop().context("no response")?;
    spent[1] += start.elapsed();

    let start = Instant::now();
    a.message(now, &to_a, &mut response).map_err(|e| anyhow::anyhow!("response: {}", e.name()))?;
    let mut confirmation = sent(a).pop().context("no confirmation")?;
    spent[0] += start.elapsed();

    let start = Instant::now();
    b.message(now, &to_b, &mut confirmation).map_err(|e| anyhow::anyhow!("confirmation: {}", e.name()))?;
    sent(b);
    spent[1] += start.elapsed();
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_round_measures_all_three() {
        let rates = super::measure(1).expect("handshakes succeed");
        assert!(rates.initiator_per_s > 0 && rates.responder_per_s > 0);
        assert!(rates.wrong_mac1_per_s > rates.responder_per_s, "{rates:?}");
    }
}
