use super::*;
use crate::identity::PeerId;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const PEER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";

fn info() -> Info {
    let peer_id: PeerId = PEER.parse().unwrap();
    Info {
        peer_id,
        address: peer_id.address(),
        version: "1".into(),
        pid: 7,
        uptime_s: 3,
        xdp: "off".into(),
        config: "/x".into(),
        listeners: 0,
        peers_connected: 0,
        peers: 0,
        fc00_ifname: None,
    }
}

fn stats() -> Stats {
    let drops = Drops { kernel: [("bad_tag".to_owned(), 7)].into(), ..Drops::default() };
    Stats { drops, ..Stats::default() }
}

fn peer() -> Peer {
    let unknown = ["endpoint", "kind", "slot", "slot_text", "rtt_us", "last_seen_s", "last_seen", "why"];
    let mut value = serde_json::json!({
        "peer_id": PEER, "address": info().address, "state": "connected", "direct": true, "configured": true,
        "rx_packets": 1, "rx_bytes": 2, "tx_packets": 3, "tx_bytes": 4, "transit": "kernel", "source": "configured",
    });
    for name in unknown {
        value[name] = serde_json::Value::Null;
    }
    serde_json::from_value(value).unwrap()
}

/// What a small agent would say.
fn answer(command: &Command) -> Result<Reply, Failure> {
    match command {
        Command::Info => Ok(Reply::Info(info())),
        Command::Stop { .. } => Ok(Reply::Stopped),
        Command::PeerDisconnect { .. } => {
            Err(Failure::new(FailureKind::NotFound, "no such peer").with_next("rovy peer list"))
        }
        Command::Stats => Ok(Reply::Stats(Box::new(stats()))),
        Command::PeerList => Ok(Reply::Peers(vec![peer()])),
        _ => Ok(Reply::Done),
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::bind(&dir.path().join("run/api.sock")).unwrap();
        let (requests, mut commands) = mpsc::channel::<Request>(64);
        tokio::spawn(async move {
            while let Some(request) = commands.recv().await {
                let _ = request.reply.send(answer(&request.command));
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(server.run(requests, async {
            let _ = stopped.await;
        }));
        Self { dir, stop: Some(stop), server }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/api.sock")
    }

    fn client(&self) -> Client {
        Client::among(vec![self.dir.path().join("none.sock"), self.socket()]).unwrap()
    }

    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

#[tokio::test]
async fn commands_reach_the_agent_and_answers_come_back() {
    let agent = Fixture::new();
    let client = agent.client();
    let value = client.call(&Command::Info).await.unwrap();
    assert_eq!(serde_json::from_value::<Info>(value).unwrap(), info());
    let value = client.call(&Command::Stats).await.unwrap();
    assert_eq!(serde_json::from_value::<Stats>(value).unwrap(), stats());
    assert_eq!(client.call(&Command::Stop { keep_transit: true }).await.unwrap()["stopped"], true);
    let start = Command::ListenerStart { address: "/ethif/wlp3s0".parse().unwrap(), persist: true };
    assert_eq!(client.call(&start).await.unwrap()["done"], true);
    match client.call(&Command::PeerDisconnect { peer: PEER.parse().unwrap() }).await {
        Err(ClientError::Refused(f)) => {
            assert_eq!((f.kind, f.next.as_deref()), (FailureKind::NotFound, Some("rovy peer list")));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let agent = Fixture::new();
    let text = agent.raw("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "# TYPE rovy_dropped_packets counter",
        "rovy_dropped_packets_total{by=\"kernel\",reason=\"bad_tag\"} 7",
        "rovy_uptime_seconds{} 3",
        "rovy_peer_connected{peer_id=",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(agent.raw("POST /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn metrics_over_tcp_and_nothing_else() {
    let elsewhere = metrics_tcp::bind("192.0.2.1:0".parse().unwrap()).await.unwrap_err();
    assert!(elsewhere.to_string().contains("loopback"), "{elsewhere}");
    let listener = metrics_tcp::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (requests, mut commands) = mpsc::channel::<Request>(4);
    tokio::spawn(metrics_tcp::serve(listener, requests));
    tokio::spawn(async move {
        while let Some(request) = commands.recv().await {
            let _ = request.reply.send(answer(&request.command));
        }
    });
    for (path, status) in [("/metrics", 200), ("/v0/info", 404), ("/v0/stop", 404)] {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {text}");
    }
}

#[tokio::test]
async fn bad_requests_get_json_and_a_status() {
    let agent = Fixture::new();
    let big = format!("POST /v0/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    for (request, status) in [
        ("GET /v0/listener/start?/ethif/eth0 HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        ("POST /v0/info HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        ("GET /v0/nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("POST /v0/listener/start?/tcp/1 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (&big, 413),
    ] {
        let text = agent.raw(request).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {text}");
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["kind"], if status == 404 { "not_found" } else { "usage" });
        assert!(body["error"]["message"].as_str().is_some_and(|m| !m.is_empty()));
    }
    assert!(agent.raw("nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    assert!(agent.client().call(&Command::Info).await.is_ok());
}

#[tokio::test]
async fn the_socket_is_its_owners_and_goes_with_the_server() {
    let mut agent = Fixture::new();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&agent.socket()), mode(agent.socket().parent().unwrap())), (0o600, 0o700));
    agent.stop.take().unwrap().send(()).unwrap();
    (&mut agent.server).await.unwrap();
    assert!(!agent.socket().exists());
    assert!(matches!(Client::among(vec![agent.socket()]), Err(ClientError::NoAgent { .. })));
}

#[tokio::test]
async fn a_live_socket_is_left_alone_and_a_stale_one_replaced() {
    let agent = Fixture::new();
    assert!(matches!(Server::bind(&agent.socket()), Err(ApiError::Running(_))));
    assert!(agent.client().call(&Command::Info).await.is_ok());

    let stale = agent.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    drop(Server::bind(&stale).unwrap());

    // Alive without our lock: a socket of somebody else.
    let other = agent.dir.path().join("other.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&other).unwrap();
    assert!(matches!(Server::bind(&other), Err(ApiError::Running(_))));

    let file = agent.dir.path().join("file.sock");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&file), Err(ApiError::InTheWay(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let long = agent.dir.path().join("x".repeat(200)).join("api.sock");
    assert!(matches!(Server::bind(&long), Err(ApiError::Io { .. })));
}

#[tokio::test]
async fn several_agents_are_listed() {
    let (a, b) = (Fixture::new(), Fixture::new());
    match Client::among(vec![a.socket(), b.socket()]) {
        Err(e @ ClientError::Several(_)) => {
            let text = e.to_string();
            assert!(
                text.contains(&a.socket().display().to_string()) && text.contains(&b.socket().display().to_string())
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_agent_that_is_gone_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let (requests, commands) = mpsc::channel(1);
    drop(commands);
    let server = Server::bind(&path).unwrap();
    tokio::spawn(server.run(requests, std::future::pending()));
    match Client::among(vec![path]).unwrap().call(&Command::Info).await {
        Err(ClientError::Refused(f)) => assert_eq!(f.kind, FailureKind::Unavailable),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn idle_connections_do_not_lock_others_out() {
    let agent = Fixture::new();
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(UnixStream::connect(agent.socket()).await.unwrap());
    }
    assert!(agent.client().call(&Command::Info).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_and_a_slow_client_time_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let (requests, _commands) = mpsc::channel(1);
    tokio::spawn(Server::bind(&path).unwrap().run(requests, std::future::pending()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /v0/info HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 504"), "{text}");
    // Half a request: the connection is closed, and memory does not wait for ever.
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /v0/in").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "");
}
