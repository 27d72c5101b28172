//! Clients of the control socket cannot keep packets waiting, nor packets the clients.

use anyhow::{Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, wait};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Pings cross r, whose agent switches them, while clients do their worst; commands are answered while a stream does.
#[test]
fn an_api_call_does_not_stall_the_data_path() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Userspace)?;
    line.start()?;
    let socket = line.r.dir().join("api.sock");
    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 100)?;
    wait::until("pings", DEADLINE, || Ok((ping.mark() >= 100).then_some(())))?;
    let start = ping.mark();

    let nobody = "/ip4/10.77.1.99/udp/1312/rovy/bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
    let mut clients = Vec::new();
    for n in 0..28 {
        let mut client = UnixStream::connect(&socket)?;
        let request = match n % 4 {
            // Never ends its request; sends a large body slowly; waits for a peer that does not exist; asks and does not read.
            0 => "GET /v0/in".to_owned(),
            1 => format!("POST /v0/stop HTTP/1.1\r\nhost: rovy\r\ncontent-length: 60000\r\n\r\n{}", "x".repeat(1000)),
            2 => format!("POST /v0/peer/connect?{nobody} HTTP/1.1\r\nhost: rovy\r\n\r\n"),
            _ => "GET /v0/stats HTTP/1.1\r\nhost: rovy\r\n\r\n".to_owned(),
        };
        client.write_all(request.as_bytes())?;
        clients.push(client);
    }
    for _ in 0..20 {
        line.r.stats()?;
    }
    wait::until("500 more pings", DEADLINE, || Ok((ping.mark() >= start + 500).then_some(())))?;
    let end = ping.mark();
    wait::until("their answers", Duration::from_secs(2), || Ok((ping.summary(start, end).lost() == 0).then_some(())))
        .map_err(|e| line.r.explain(e.context(format!("{:?}", ping.summary(start, end)))))?;
    drop(clients);

    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    wait::until("the stream", DEADLINE, || Ok((stream.bytes() > 1_000_000).then_some(())))?;
    for _ in 0..10 {
        let asked = Instant::now();
        line.r.info()?;
        ensure!(asked.elapsed() < Duration::from_secs(2), "an answer took {:?}", asked.elapsed());
    }
    let before = stream.bytes();
    wait::until("the stream to go on", DEADLINE, || Ok((stream.bytes() > before).then_some(())))?;
    stream.finish()?;
    Ok(())
}

/// Asks the same again and again until told to stop; counts the answers.
fn ask(socket: &Path, request: &str, stop: &AtomicBool, answers: &AtomicUsize) -> std::io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut client = UnixStream::connect(socket)?;
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        client.write_all(format!("POST {request} HTTP/1.1\r\nhost: rovy\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        answers.fetch_add(usize::from(answer.starts_with("HTTP/1.1 ")), Ordering::Relaxed);
    }
    Ok(())
}

/// Pings cross r, whose agent switches them, while it pings and traces a, b and nobody for eight clients; so does the agent at a,
/// from where the pings come.
#[test]
fn pings_and_traces_of_the_api_do_not_stall_the_data_path() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Userspace)?;
    line.start()?;
    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(10), 100)?;
    wait::until("pings", DEADLINE, || Ok((ping.mark() >= 50).then_some(())))?;
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let nobody = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
    let b = line.b.peer_id();
    let requests = [
        format!("/v0/trace?peer={b}&probes=10"),
        format!("/v0/ping?peer={b}"),
        format!("/v0/ping?peer={nobody}"),
        format!("/v0/trace?peer={nobody}&probes=10"),
    ];
    let start = ping.mark();
    let sockets = [line.r.dir().join("api.sock"), line.a.dir().join("api.sock")];
    std::thread::scope(|scope| -> Result<()> {
        let ask = |socket, request| {
            let (stop, answers) = (&stop, &answers);
            move || ask(socket, request, stop, answers)
        };
        let clients: Vec<_> =
            requests.iter().flat_map(|r| sockets.iter().map(|s| scope.spawn(ask(s.as_path(), r.as_str())))).collect();
        let passed = wait::until("300 more pings and 100 answers", 2 * DEADLINE, || {
            Ok((ping.mark() >= start + 300 && answers.load(Ordering::Relaxed) >= 100).then_some(()))
        });
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        passed
    })?;
    let end = ping.mark();
    wait::until("their answers", Duration::from_secs(2), || Ok((ping.summary(start, end).lost() == 0).then_some(())))
        .map_err(|e| line.r.explain(e.context(format!("{:?}", ping.summary(start, end)))))?;
    let summary = ping.summary(start, end);
    println!("{} answers meanwhile; {summary:?}", answers.load(Ordering::Relaxed));
    ensure!(summary.rtt_us_longest < 2_000_000, "{summary:?}");
    Ok(())
}
