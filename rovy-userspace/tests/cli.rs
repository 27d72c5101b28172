//! The built `rovy` binary: exit codes and what it prints.
#![allow(clippy::unwrap_used, clippy::panic)]

use rovy_userspace::api::{Command as Ask, Failure, FailureKind, Reply, Request, Server};
use rovy_userspace::config::{Config, DEFAULT_FILE};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const GOOD: &str = "PrivateKey = 'mloUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu0'
PeerID = 'bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee'
IPAddr = 'fc89:54a1:b598:365f:357:d6a:b108:db7b'
";
const PEER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
const ADDRESS: &str = "fc89:54a1:b598:365f:357:d6a:b108:db7b";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// Runs `rovy` with `input` on stdin.
fn rovy_with(input: &str, args: &[&str]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rovy"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn rovy(args: &[&str]) -> Ran {
    rovy_with("", args)
}

fn file(dir: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn help_and_version_succeed_and_mistakes_are_usage() {
    assert_eq!(rovy(&["--help"]).code, 0);
    assert!(rovy(&["--version"]).out.starts_with("rovy "));
    for (args, part) in [
        (&["fly"][..], "unrecognized"),
        (&["listener", "start"], "required"),
        (&["listener", "start", "/tcp/80"], "/tcp is not supported"),
        (&["listener", "start", "/dns/a/udp/1"], "address of this host"),
        (&["peer", "connect", "/ip4/192.0.2.1/udp/1312"], "append /rovy/<PeerID>"),
        (&["peer", "disconnect", "bafzqaid26"], "not a PeerID"),
        (&["peer", "disconnect", "a b"], "neither a PeerID nor a name"),
        (&["peer", "connect", "/ip4/192.0.2.1/udp/1312/rovy/b_b"], "neither a PeerID nor a name"),
        (&["name", "add", "bücher", PEER], "xn--"),
        (&["name", "add", "localhost", PEER], "answers that name itself"),
        (&["name", "add", "alice", "bob"], "not a PeerID"),
        (&["route", "add", PEER, "04.05"], "/rovyrt/"),
        (&["route", "add", PEER, "/rovyrt/00"], "slot 0"),
        (&["start", "--xdp", "fast"], "invalid value"),
        (&["start", "--ifname", "a/b"], "1 to 15 bytes"),
        (&["start", "--log", "a=b=c"], "invalid value"),
    ] {
        let ran = rovy(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(part), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_new_key_is_good_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/k.toml").display().to_string();
    let made = rovy(&["key", "new", &path, "--json"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let inspected = rovy(&["key", "inspect", &path, "--json"]);
    assert_eq!(inspected.code, 0, "{}", inspected.err);
    assert_eq!(inspected.json()["peer_id"], made.json()["peer_id"]);
    assert!(inspected.json()["ip_addr"].as_str().unwrap().starts_with("fc"));
    assert_eq!(inspected.err, "");
    let before = std::fs::read_to_string(&path).unwrap();
    let again = rovy(&["key", "new", &path]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains(&path), "{}", again.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    // Without a file the keyfile goes to stdout, and back in through stdin.
    let text = rovy(&["key", "new"]).out;
    assert_eq!(rovy_with(&text, &["key", "inspect", "-"]).code, 0);
}

#[test]
fn a_known_keyfile_shows_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let ran = rovy(&["key", "inspect", "--json", &file(dir.path(), "k", GOOD, 0o600)]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!((&ran.json()["peer_id"], &ran.json()["ip_addr"]), (&PEER.into(), &ADDRESS.into()));
    let ran = rovy(&["key", "inspect", &file(dir.path(), "open", GOOD, 0o644)]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains(PEER) && ran.out.contains(ADDRESS));
    assert!(ran.err.contains("warning") && ran.err.contains("0644") && ran.err.contains("chmod 600"), "{}", ran.err);
}

#[test]
fn bad_keyfiles_name_file_and_field_and_hide_the_key() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, part) in [
        ("peer", GOOD.replace("bafzqaid2", "bafzqaid3"), "PeerID"),
        ("addr", GOOD.replace("fc89:", "fc88:"), "IPAddr"),
        ("private", GOOD.replace("mloUF", "mloUG"), "PrivateKey"),
        ("short", GOOD.replace("'mloUF", "'m"), "PrivateKey"),
        ("none", GOOD.lines().skip(1).collect::<Vec<_>>().join("\n"), "PrivateKey is missing"),
        ("syntax", GOOD.replace("= 'mlo", "= mlo"), ":1:"),
        ("empty", String::new(), "PrivateKey is missing"),
    ] {
        let path = file(dir.path(), name, &text, 0o600);
        let ran = rovy(&["key", "inspect", &path, "--json"]);
        assert_eq!(ran.code, 1, "{name}");
        assert!(ran.err.contains(&path) && ran.err.contains(part), "{name}: {}", ran.err);
        assert!(!ran.err.contains("eJND3KizotkvrQf8vA") && !ran.out.contains("eJND3KizotkvrQf8vA"), "{name}");
        assert!(ran.json()["error"]["message"].as_str().unwrap().contains(part));
    }
    let missing = rovy(&["key", "inspect", "/nonexistent/keyfile"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("no such file"), "{}", missing.err);
    assert_eq!(rovy(&["key", "inspect", &dir.path().display().to_string()]).code, 1);
}

#[test]
fn what_belongs_to_others_is_a_matter_of_permission() {
    use std::os::unix::process::CommandExt as _;
    let agent = FakeAgent::new(|_| Ok(Reply::Done));
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(agent.dir.path(), open).unwrap();
    let keyfile = file(agent.dir.path(), "k", GOOD, 0o000);
    // Root reads everything, so the command runs as nobody, from where nobody can reach it.
    let binary = agent.dir.path().join("rovy");
    std::fs::copy(env!("CARGO_BIN_EXE_rovy"), &binary).unwrap();
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new(&binary);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = as_nobody(&["key", "inspect", &keyfile]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains(&keyfile), "{err}");
    let socket = agent.socket().display().to_string();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    let (code, err) = as_nobody(&["--socket", &socket, "info"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains(&socket) && err.contains("sudo"), "{err}");
}

#[test]
fn init_makes_both_files_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("node");
    let args = ["init", "-D", at.to_str().unwrap(), "--json"];
    let first = rovy(&args);
    assert_eq!(first.code, 0, "{}", first.err);
    let keyfile = at.join("keyfile.toml");
    assert_eq!(first.json()["keyfile"], keyfile.display().to_string());
    assert_eq!(std::fs::read_to_string(at.join("config.toml")).unwrap(), DEFAULT_FILE);
    assert!(Config::load(&at.join("config.toml")).is_ok());
    let key = std::fs::read_to_string(&keyfile).unwrap();
    let second = rovy(&args);
    assert_eq!(second.code, 1);
    assert!(second.err.contains("nothing is overwritten"), "{}", second.err);
    // One of the two is enough to refuse, even as a link that leads nowhere; and then nothing is made.
    std::fs::remove_file(&keyfile).unwrap();
    assert_eq!(rovy(&args).code, 1);
    assert!(!keyfile.exists());
    std::fs::write(&keyfile, key).unwrap();
    let link = dir.path().join("link");
    symlink("nowhere", &link).unwrap();
    assert_eq!(rovy(&["init", "-D", dir.path().to_str().unwrap(), "-K", link.to_str().unwrap()]).code, 1);
    assert!(!dir.path().join("config.toml").exists());
}

#[test]
fn without_an_agent_commands_say_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let socket = socket.to_str().unwrap();
    for args in [&[][..], &["info"], &["listener", "start", "/ethif/wlp3s0"], &["stats", "--json"], &["stop"]] {
        let ran = rovy(&[&["--socket", socket], args].concat());
        assert_eq!(ran.code, 3, "{args:?}: {}", ran.err);
        assert!(ran.err.contains("no rovy agent is running") && ran.err.contains(socket), "{}", ran.err);
        assert!(ran.err.contains("rovy start"), "{}", ran.err);
    }
}

#[test]
fn a_broken_configuration_keeps_the_agent_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "keyfile.toml", GOOD, 0o600);
    let config = file(dir.path(), "config.toml", "[fc00]\nmtu = 12\n", 0o600);
    let ran = rovy(&["start", "-D", dir.path().to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains(&format!("{config}:2:7: fc00.mtu: must be 1280 to 9000")), "{}", ran.err);
}

#[test]
fn a_start_warns_of_an_open_keyfile_and_refuses_a_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    // The configuration ends the start where the keyfile does not.
    let config = file(dir.path(), "config.toml", "[node]\nslot_width = 3\n", 0o600);
    let start = |keyfile: &str| rovy(&["start", "-D", dir.path().to_str().unwrap(), "-K", keyfile]);
    let ran = start(&file(dir.path(), "open", GOOD, 0o644));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("warning") && ran.err.contains("0644") && ran.err.contains("chmod 600"), "{}", ran.err);
    assert!(ran.err.contains(&format!("{config}:2:14: node.slot_width: must be 1 or 2")), "{}", ran.err);
    for (field, text) in
        [("PeerID", GOOD.replace("bafzqaid2", "bafzqaid3")), ("IPAddr", GOOD.replace("fc89:", "fc88:"))]
    {
        let path = file(dir.path(), field, &text, 0o600);
        let ran = start(&path);
        assert_eq!(ran.code, 1, "{field}");
        assert!(ran.err.contains(&path) && ran.err.contains(field) && !ran.err.contains(&config), "{}", ran.err);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the keyfile was touched");
    }
    // What is there and is no keyfile is not taken for a missing one.
    let ran = start(&file(dir.path(), "nothing", "", 0o600));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("PrivateKey is missing"), "{}", ran.err);
}

#[test]
fn without_its_pre_shared_key_the_agent_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (at, psk) = (dir.path().to_str().unwrap(), dir.path().join("psk"));
    file(dir.path(), "keyfile.toml", GOOD, 0o600);
    file(dir.path(), "config.toml", "[node]\npsk_file = 'psk'\n", 0o600);
    let ran = rovy(&["start", "-D", at, "--xdp", "off"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains(&format!("{}: cannot read the pre-shared key", psk.display())), "{}", ran.err);
    file(dir.path(), "psk", "not so secret", 0o600);
    let ran = rovy(&["start", "-D", at, "--xdp", "off"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("not a pre-shared key") && !ran.err.contains("so secret"), "{}", ran.err);
}

/// An agent that answers as it is told, on a thread of its own.
struct FakeAgent {
    dir: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeAgent {
    fn new(answer: fn(Ask) -> Result<Reply, Failure>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (bound, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&path).unwrap();
                bound.send(()).unwrap();
                let (requests, mut asked) = tokio::sync::mpsc::channel::<Request>(64);
                let (end, ended) = tokio::sync::oneshot::channel::<()>();
                tokio::spawn(async move {
                    let mut end = Some(end);
                    while let Some(request) = asked.recv().await {
                        let stops = matches!(request.command, Ask::Stop { .. });
                        let _ = request.reply.send(answer(request.command));
                        if stops {
                            let _ = end.take().map(|end| end.send(()));
                        }
                    }
                });
                let shutdown = async {
                    tokio::select! { _ = stopped => {}, Ok(()) = ended => {} }
                };
                server.run(requests, shutdown).await;
            });
        });
        ready.recv().unwrap();
        Self { dir, stop: Some(stop), thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    fn ask(&self, args: &[&str]) -> Ran {
        rovy(&[&["--socket", self.socket().to_str().unwrap()], args].concat())
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|s| s.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn answers_of_the_agent_become_text_json_and_exit_codes() {
    let agent = FakeAgent::new(|asked| match asked {
        Ask::ListenerStart { .. } => Err(Failure::new(FailureKind::NotFound, "there is no interface wlp3s0")
            .with_next("rovy listener start /ethif/eth0")),
        // Root asks what it could open instead.
        Ask::Fc00Start { .. } | Ask::Wants => Err(Failure::new(FailureKind::Permission, "may not make a TUN device")),
        Ask::PeerList => Ok(Reply::Peers(Vec::new())),
        Ask::NameList => Ok(Reply::Names(Vec::new())),
        Ask::RouteList => Ok(Reply::Routes(Vec::new())),
        Ask::Stats => Ok(Reply::Stats(Box::default())),
        Ask::Fc00Status => Ok(Reply::Fc00(Default::default())),
        Ask::Stop { .. } => Ok(Reply::Stopped),
        _ => Ok(Reply::Done),
    });
    let no = agent.ask(&["listener", "start", "/ethif/wlp3s0"]);
    assert_eq!((no.code, no.out.as_str()), (1, ""));
    assert!(no.err.contains("there is no interface wlp3s0\nnext: rovy listener start /ethif/eth0"), "{}", no.err);
    let no = agent.ask(&["listener", "start", "/ethif/wlp3s0", "--json"]);
    assert_eq!(no.json()["error"]["next"], "rovy listener start /ethif/eth0");
    assert_eq!(agent.ask(&["fc00", "start"]).code, 4);
    for args in [
        &["peer", "list"][..],
        &["name", "list"],
        &["name", "del", "alice"],
        &["route", "list"],
        &["stats"],
        &["fc00", "status"],
        &["route", "add", PEER, "/rovyrt/04"],
    ] {
        let ran = agent.ask(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        assert!(ran.out.contains("\nnext: "), "{args:?}: {}", ran.out);
        assert!(agent.ask(&[args, &["--json"]].concat()).json().is_array() || args[1..] != ["list"]);
    }
    let stop = agent.ask(&["stop", "--keep-transit"]);
    assert_eq!(stop.code, 0, "{}", stop.err);
    assert!(!agent.socket().exists());
    assert_eq!(agent.ask(&["stop"]).code, 3);
}

/// An agent that ends with the value.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_start_says_json_alone_and_a_connect_says_that_nobody_answered() {
    use std::io::BufRead as _;
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config =
        format!("listen.addresses = ['/ip4/127.0.0.1/udp/{free}']\nlisten.xdp.mode = 'off'\nfc00.enabled = false\n");
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    let mut start = Command::new(env!("CARGO_BIN_EXE_rovy"));
    start.args(["start", "--json", "-D"]).arg(dir.path()).stdin(Stdio::null());
    let mut agent = Running(start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    std::io::BufReader::new(agent.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert!(said["info"]["peer_id"].is_string() && said["listeners"][0]["state"] == "up", "{said}");
    let mut note = String::new();
    std::io::BufReader::new(agent.0.stderr.take().unwrap()).read_line(&mut note).unwrap();
    assert!(note.starts_with("rovy: made a new key: "), "{note}");

    // A port that nobody answers at, for as long as the socket is there.
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/rovy/{PEER}", deaf.local_addr().unwrap().port());
    let mut connect = Command::new(env!("CARGO_BIN_EXE_rovy"));
    connect.arg("--socket").arg(dir.path().join("api.sock")).args(["peer", "connect", &address, "--json"]);
    let output = connect.output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), answer["state"].as_str()), (Some(1), Some("connecting")));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(PEER) && told.contains("not answered") && told.contains("pre-shared key"), "{told}");
}
