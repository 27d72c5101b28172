use super::*;
use crate::multiaddr::Multiaddr;
use crate::rate::TransitLimit;
use proptest::prelude::*;

const PEER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/rovy/config.toml"), text)
}

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn nothing_and_the_default_file_mean_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config, parse(DEFAULT_FILE).unwrap());
    assert_eq!(config.listen.addresses, [addr("/ip6/::/udp/1312"), addr("/ip4/0.0.0.0/udp/1312")]);
    assert_eq!((config.limits.peers, config.limits.sessions, config.fc00.mtu.bytes()), (256, 1024, 1376));
    assert!(config.fc00.enabled && config.listen.xdp.mode == XdpMode::Auto && config.listen.ethertype == 0x88b5);
}

#[test]
fn what_the_default_file_comments_out_is_the_default() {
    let mut on: String = String::new();
    for line in DEFAULT_FILE.lines() {
        let uncommented = line.strip_prefix("# ").filter(|l| l.contains(" = ") && !l.contains(".."));
        // The peer is an example, not a default.
        let take = uncommented.filter(|l| !l.contains("this peer") && !l.starts_with("addresses"));
        on.push_str(take.unwrap_or(line));
        on.push('\n');
    }
    let mut config = parse(&on).unwrap();
    assert_eq!(config.api.socket.take(), Some("/run/rovy/api.sock".into()));
    assert_eq!(config.node.psk_file.take(), Some("network.psk".into()), "an example, too");
    assert_eq!(config.api.metrics_tcp.take(), "127.0.0.1:9312".parse().ok(), "an example, too");
    assert_eq!(config, Config::default());
    assert!(on.matches("\nmtu = ").count() == 1 && on.contains("\nxdp.mode"));
}

#[test]
fn everything_can_be_set() {
    let config = parse(&format!(
        "node.slot_width = 2\nnode.transit = 'deny'\nnode.psk_file = '/x/n'\n[listen]\naddresses = ['/ethif/eth0']\nxdp.mode = 'off'\n\
         xdp.interfaces = ['eth0']\nethertype = 0x88b6\n[[peer]]\nid = '{PEER}'\naddresses = ['/dns/a.b/udp/1']\n\
         transit = 'deny'\npsk_file = 'p'\nkeepalive = 25\n[fc00]\nenabled = false\nifname = 'r1'\nmtu = 9000\n[api]\nsocket = '/x'\n\
         [limits]\npeers = 1\nsessions = 16\nhandshakes = 2\n[log]\nlevel = 'debug'\nformat = 'json'\n"
    ))
    .unwrap();
    assert_eq!((config.node.slot_width, config.node.transit), (SlotWidth::Two, Transit::Deny));
    assert_eq!((config.peers[0].id.to_string(), config.peers[0].transit), (PEER.into(), Some(PeerTransit::Deny)));
    assert_eq!((config.node.psk_file, config.limits.handshakes), (Some("/x/n".into()), 2));
    assert_eq!((config.peers[0].psk_file.clone(), config.peers[0].keepalive), (Some("p".into()), Some(25)));
    assert_eq!((config.listen.xdp.mode, config.fc00.mtu.bytes()), (XdpMode::Off, 9000));
}

fn with_transit(value: &str) -> String {
    format!("[[peer]]\nid = '{PEER}'\ntransit = {value}\n")
}

#[test]
fn transit_of_a_peer_is_one_of_three() {
    let read = |value: &str| parse(&with_transit(value)).unwrap().peers[0].transit;
    let three = [PeerTransit::Kernel, PeerTransit::Sealed, PeerTransit::Deny];
    assert_eq!(["'kernel'", "'sealed'", "'deny'"].map(read), three.map(Some));
}

#[test]
fn rates_are_those_of_all_neighbours_or_of_one() {
    let config = parse("node.rate_limit = '1gbit'\n").unwrap();
    assert_eq!(config.node.rate_limit, "1gbit".parse().unwrap());
    let read = |value: &str| parse(&format!("[[peer]]\nid = '{PEER}'\n{value}\n")).unwrap().peers[0].rate_limit;
    assert_eq!(read("rate_limit = '10mbit 2000pps'"), Some(TransitLimit("10mbit 2000pps".parse().ok())));
    assert_eq!(read("rate_limit = 'none'"), Some(TransitLimit(None)));
    assert_eq!(read(""), None);
}

#[test]
fn a_limit_is_written_where_its_peer_is() {
    let (_dir, path) = file(&format!("# top\n[[peer]]\nid = '{PEER}' # mine\n"));
    let peer = PEER.parse().unwrap();
    let limit = |text: &str| persist::limit_peer(&path, peer, text.parse().unwrap()).unwrap();
    assert!(limit("10mbit") && !limit("10mbit"));
    assert!(text(&path).ends_with("# mine\nrate_limit = \"10mbit\"\n"), "{}", text(&path));
    assert!(limit("none"));
    assert_eq!(Config::load(&path).unwrap().peers[0].rate_limit, Some(TransitLimit(None)));
    let (_dir, path) = file("");
    assert!(persist::limit_peer(&path, peer, "5pps".parse().unwrap()).unwrap());
    assert_eq!(Config::load(&path).unwrap().peers[0].rate_limit, Some("5pps".parse().unwrap()));
}

#[test]
fn errors_name_file_line_and_key() {
    for (text, line, key, part) in [
        ("\n[fc00]\nmtu = 1000\n", 3, "fc00.mtu", "1280 to 9000"),
        ("[listen]\naddresses = [\n  '/ip4/1.2.3/udp/1',\n]\n", 3, "listen.addresses", "/ip4/1.2.3/udp/1: "),
        ("listen.addresses = ['/tcp/1']", 1, "listen.addresses", "not supported"),
        ("listen.addresses = ['/dns/a/udp/1']", 1, "listen.addresses", "address of this host"),
        ("listen.addresses = ['/ethif/a', '/ethif/a']", 1, "listen.addresses", "twice"),
        ("listen.xdp.mode = 'fast'", 1, "listen.xdp.mode", "unknown variant `fast`"),
        ("listen.ethertype = 0x0800", 1, "listen.ethertype", "not free"),
        ("[limits]\nhandshakes = 1\n", 2, "limits.handshakes", "2 to 65536"),
        ("[limits]\n\nsessions = 1\n", 3, "limits.sessions", "16 to 65536"),
        ("[node]\nslot_width = 3\n", 2, "node.slot_width", "1 or 2"),
        ("[node]\nslotwidth = 1\n", 2, "node.slotwidth", "did you mean `slot_width`?"),
        ("[nod]\nslot_width = 1\n", 1, "nod", "did you mean `node`?"),
        ("[node]\nzzz = 1\n", 2, "node.zzz", "unknown field `zzz`, expected one of"),
        ("[log]\nlevel = 'loud=x=y'\n", 2, "log.level", ""),
        ("[fc00]\nifname = 'a/b'\n", 2, "fc00.ifname", "name of an interface"),
        ("[fc00]\nenabled = 1\n", 2, "fc00.enabled", "invalid type"),
        ("[[peer]]\nid = 'x'\n", 2, "peer[0].id", "not a PeerID"),
        ("[node]\nrate_limit = '10mbps'\n", 2, "node.rate_limit", "the unit is bit, kbit, mbit, gbit or pps"),
        ("[node]\nrate_limit = 10\n", 2, "node.rate_limit", "string"),
        (&with_transit("'Sealed'"), 3, "peer[0].transit", "expected one of `kernel`, `sealed`, `deny`"),
        (&with_transit("true"), 3, "peer[0].transit", "wanted string"),
        ("[[peer]]\naddresses = []\n", 1, "peer[0]", "missing field `id`"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("/etc/rovy/config.toml:{line}:")), "{text}: {error}");
        assert!(error.contains(&format!(" {key}: ")), "{text}: {error}");
        assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
    }
    let broken = parse("[node\n").unwrap_err().to_string();
    assert!(broken.starts_with("/etc/rovy/config.toml:1:"), "{broken}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Config::load(&dir.path().join("none")), Err(ConfigError::Missing(_))));
    assert!(matches!(Config::load(dir.path()), Err(ConfigError::Read { .. })));
}

#[test]
fn listeners_come_and_go_and_comments_stay() {
    let (_dir, path) = file(DEFAULT_FILE);
    let eth = addr("/ethif/wlp3s0");
    assert!(persist::add_listener(&path, &eth).unwrap());
    assert!(!persist::add_listener(&path, &eth).unwrap());
    assert_eq!(Config::load(&path).unwrap().listen.addresses.len(), 3);
    assert!(text(&path).contains("\n    '/ethif/wlp3s0',\n]\n"), "{}", text(&path));
    for line in DEFAULT_FILE.lines() {
        assert!(text(&path).contains(line), "lost: {line}\n{}", text(&path));
    }
    assert!(persist::remove_listener(&path, &eth).unwrap());
    assert!(!persist::remove_listener(&path, &eth).unwrap());
    assert_eq!(text(&path), DEFAULT_FILE);
}

#[test]
fn the_defaults_stay_when_a_listener_is_added_to_an_empty_file() {
    let (_dir, path) = file("# mine\n");
    persist::add_listener(&path, &addr("/ethif/eth0")).unwrap();
    assert_eq!(Config::load(&path).unwrap().listen.addresses.len(), 3);
    assert!(text(&path).starts_with("# mine\n") || text(&path).ends_with("# mine\n"));
    let (_dir, path) = file("listen = { addresses = [] }\n");
    persist::add_listener(&path, &addr("/ethif/eth0")).unwrap();
    assert_eq!(text(&path), "listen = { addresses = ['/ethif/eth0'] }\n");
}

#[test]
fn peers_come_and_go() {
    let (_dir, path) = file("# top\n[node]\ntransit = 'deny' # mine\n");
    let before = text(&path);
    let peer = PEER.parse().unwrap();
    let first = addr(&format!("/ip4/192.0.2.1/udp/1312/rovy/{PEER}"));
    assert!(persist::add_peer(&path, peer, &first).unwrap());
    assert!(!persist::add_peer(&path, peer, &first).unwrap());
    assert!(persist::add_peer(&path, peer, &addr("/ethif/eth0")).unwrap());
    let config = Config::load(&path).unwrap();
    assert_eq!(config.peers.len(), 1);
    assert_eq!(config.peers[0].addresses, [addr("/ip4/192.0.2.1/udp/1312"), addr("/ethif/eth0")]);
    assert!(text(&path).starts_with(&before), "{}", text(&path));
    assert!(persist::remove_peer(&path, peer).unwrap());
    assert!(!persist::remove_peer(&path, peer).unwrap());
    assert_eq!(Config::load(&path).unwrap().peers, []);
    assert!(text(&path).contains("transit = 'deny' # mine"));
}

#[test]
fn rules_of_the_firewall_are_changed_in_place() {
    use crate::fc00::firewall::{Action, Rule};
    let before = "[fc00]\nallow = [\n  '/tcp/22',  # the way in\n  '/tcp/80', # web\n]\nmtu = 1300\n";
    let (_dir, path) = file(before);
    let set = |action, texts: &[&str]| {
        let list: Vec<Rule> = texts.iter().map(|t| t.parse().unwrap()).collect();
        persist::set_rules(&path, action, &list).unwrap()
    };
    let lists = || {
        let fc00 = Config::load(&path).unwrap().fc00;
        [fc00.allow, fc00.deny].map(|l| l.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert!(!set(Action::Allow, &["/tcp/80"]) && !set(Action::Deny, &["/tcp/443"]));
    assert_eq!(text(&path), before, "nothing new, nothing written");
    let from = format!("/tcp/443/rovy/{PEER}");
    assert!(set(Action::Allow, &[&from, "/udp/53"]));
    assert_eq!(lists(), [format!("/tcp/22 /tcp/80 /udp/53 {from}"), String::new()]);
    assert!(set(Action::Deny, &["/icmp", "/tcp/80"]));
    assert_eq!(lists(), [format!("/tcp/22 /udp/53 {from}"), "/icmp".into()]);
    assert!(set(Action::Allow, &["/icmp", "/tcp/0"]));
    assert_eq!(lists(), ["/udp/53 /tcp/0".to_owned(), String::new()]);
    assert!(text(&path).contains("# the way in") && text(&path).contains("mtu = 1300"), "{}", text(&path));

    let (_dir, new) = file("");
    let rule: Rule = "/tcp/1".parse().unwrap();
    assert!(persist::set_rules(&new, Action::Allow, &[rule]).unwrap());
    assert_eq!(Config::load(&new).unwrap().fc00.allow, [rule]);
}

#[test]
fn rules_that_make_no_sense_are_refused_with_their_line() {
    for (lines, wanted) in [
        ("allow = [\n  '/tcp/80',\n  '/sctp/1',\n]", "4:3: fc00.allow: /sctp/1: not supported"),
        ("deny = ['/tcp/99999']", "2:9: fc00.deny: /tcp/99999: a port is 1 to 65535"),
        ("allow = ['/tcp/80']\ndeny = ['/tcp/80']", "3:9: fc00.deny: /tcp/80: it stands in allow too"),
        ("firewall = 'maybe'", "fc00.firewall: unknown variant"),
    ] {
        let error = parse(&format!("[fc00]\n{lines}\n")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{lines}: {error}");
    }
    let many: Vec<String> = (0..1025).map(|n| format!("'/udp/{n}'")).collect();
    assert!(parse(&format!("fc00.allow = [{}]", many.join(","))).unwrap_err().to_string().contains("1024 rules"));
}

#[test]
fn a_broken_file_is_left_alone() {
    let (dir, path) = file("[fc00]\nmtu = 5\n");
    assert!(persist::add_listener(&path, &addr("/ethif/eth0")).is_err());
    assert_eq!(text(&path), "[fc00]\nmtu = 5\n");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // A directory in the file's place cannot be replaced, and nothing stays behind.
    let below = dir.path().join("d");
    std::fs::create_dir(&below).unwrap();
    assert!(persist::add_listener(&below, &addr("/ethif/eth0")).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(persist::write_default(&path).is_err());
    assert_eq!(text(&path), "[fc00]\nmtu = 5\n");
}

#[test]
fn mode_and_links_are_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, path) = file("");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = dir.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    persist::add_listener(&link, &addr("/ethif/eth0")).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(text(&path).contains("/ethif/eth0"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\[\\[?[a-z0-9.]{1,6}\\]\\]?\n)?([a-z.]{1,8} = [\\PC\n]{0,30}\n)?[\\PC\n]{0,40}") {
        let _ = parse(&text);
    }
}

#[test]
fn the_manual_lists_every_key() {
    let manual = include_str!("../../../docs/operations.md").split("## Configuration").nth(1).unwrap();
    let manual = manual.split("\n## ").next().unwrap();
    let (mut section, mut keys) = (String::new(), 0);
    for line in DEFAULT_FILE.lines().map(|l| l.trim_start_matches("# ")) {
        if line == "[[peer]]" {
            section = "peer[]".into();
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.into();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(k, _)| !k.contains(' ')) {
            assert!(manual.contains(&format!("| `{section}.{key}` |")), "{section}.{key} is not in the manual");
            keys += 1;
        }
    }
    assert_eq!(keys, manual.matches("\n| `").count(), "the manual knows keys that the default file does not");
}

#[test]
fn a_peer_that_stands_there_twice_is_refused_with_its_line() {
    let entry = format!("[[peer]]\nid = '{PEER}'\n");
    let error = parse(&format!("{entry}\n{entry}addresses = []\n")).unwrap_err().to_string();
    assert_eq!(error, "/etc/rovy/config.toml:5:6: peer[1].id: this peer stands there twice");
    let error = parse(&format!("peer = [\n  {{ id = '{PEER}' }},\n  {{ id = '{PEER}' }},\n]\n")).unwrap_err();
    assert!(error.to_string().starts_with("/etc/rovy/config.toml:3:10: "), "{error}");
    assert!(parse(&entry).is_ok());
}

#[test]
fn metrics_tcp_is_for_this_host() {
    assert!(parse("[api]\nmetrics_tcp = '[::1]:9312'").is_ok());
    for bad in ["0.0.0.0:9312", "192.0.2.1:9312", "localhost", "127.0.0.1"] {
        assert!(parse(&format!("[api]\nmetrics_tcp = '{bad}'")).is_err(), "{bad}");
    }
}
