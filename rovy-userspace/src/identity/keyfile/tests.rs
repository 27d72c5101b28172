use super::*;
use crate::identity::tests::{ADDRESS, KEY, PEER};
use proptest::prelude::*;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;

const GOOD: &str = "PrivateKey = 'mloUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu0'
PeerID = 'bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee'
IPAddr = 'fc89:54a1:b598:365f:357:d6a:b108:db7b'
";

fn refused(text: &str) -> KeyfileError {
    let error = parse(Path::new("/x/keyfile.toml"), text).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("/x/keyfile.toml"), "{shown}");
    assert!(!shown.contains(&KEY[4..30]), "shows the key: {shown}");
    error
}

#[test]
fn the_known_good_file_is_read_and_written_alike() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/keyfile.toml");
    let key = parse(&path, GOOD).unwrap();
    assert_eq!(key.peer_id.to_string(), PEER);
    write_new(&path, &key.secret).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), GOOD);
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let again = load(&path).unwrap();
    assert_eq!((again.peer_id, again.warnings.len()), (key.peer_id, 0));
    assert!(matches!(write_new(&path, &key.secret), Err(KeyfileError::Exists(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), GOOD);
}

#[test]
fn a_file_others_can_read_is_taken_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyfile.toml");
    std::fs::write(&path, GOOD).unwrap();
    for (mode, warnings) in [(0o644, 1), (0o640, 1), (0o604, 1), (0o600, 0), (0o400, 0)] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.warnings.len(), warnings, "{mode:o}");
        assert!(loaded.warnings.iter().all(|w| w.contains(&format!("{mode:04o}")) && w.contains("chmod 600")));
    }
}

#[test]
fn a_file_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyfile.toml");
    std::fs::write(&path, GOOD).unwrap();
    for mode in [0o602, 0o620, 0o660, 0o666] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = load(&path).err().unwrap();
        assert!(matches!(error, KeyfileError::Exposed(..)), "{error}");
        assert!(error.to_string().contains(&format!("{mode:04o}")) && error.to_string().contains("chmod 600"));
    }
}

#[test]
fn fields_that_disagree_are_named() {
    let other_peer = PeerId::new(*SecretKey::generate(&mut |b| b.fill(7)).peer_id().public_key()).unwrap();
    assert!(matches!(refused(&GOOD.replace(PEER, &other_peer.to_string())), KeyfileError::PeerId { .. }));
    assert!(matches!(refused(&GOOD.replace(PEER, "hello")), KeyfileError::PeerId { .. }));
    let error = refused(&GOOD.replace(ADDRESS, "fc89::1"));
    assert!(error.to_string().contains("IPAddr: the file says `fc89::1`"), "{error}");
    // A key of the right size whose address is outside fc00::/8.
    let outside = multibase::encode(Base::Base64, [1; 32]);
    assert!(matches!(refused(&GOOD.replace(KEY, &outside)), KeyfileError::Refused { .. }));
}

#[test]
fn bad_private_keys_are_refused() {
    for bad in ["", "m", &KEY[1..], &KEY[..43], "mAAAA", "zAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "mü"] {
        assert!(matches!(refused(&GOOD.replace(KEY, bad)), KeyfileError::PrivateKey(_)), "{bad}");
    }
}

#[test]
fn missing_fields_and_broken_text_are_named() {
    for field in ["PrivateKey", "PeerID", "IPAddr"] {
        let text: String = GOOD.lines().filter(|l| !l.starts_with(field)).map(|l| format!("{l}\n")).collect();
        assert!(refused(&text).to_string().contains(&format!("{field} is missing")));
    }
    let line_of = |text: &str| match refused(text) {
        KeyfileError::NotToml { line, .. } => line,
        other => panic!("{other}"),
    };
    assert_eq!(line_of(&GOOD.replace("PeerID = ", "PeerID = 5 #")), 2);
    assert_eq!(line_of(&GOOD.replace("IPAddr = ", "IPAddr ")), 3);
    assert_eq!(line_of(&GOOD.replace("PrivateKey = '", "PrivateKey = ")), 1);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(load(&dir.path().join("none")), Err(KeyfileError::Missing(_))));
    assert!(matches!(load(dir.path()), Err(KeyfileError::Read { .. })));
    let huge = dir.path().join("huge");
    std::fs::write(&huge, vec![b'#'; 1 << 20]).unwrap();
    assert!(load(&huge).unwrap_err().to_string().contains("too large"));
    let bytes = dir.path().join("bytes");
    std::fs::write(&bytes, [0xff, 0xfe]).unwrap();
    assert!(matches!(load(&bytes), Err(KeyfileError::Read { .. })));
}

proptest! {
    #[test]
    fn no_text_panics(text in "((PrivateKey|PeerID|IPAddr) ?= ?)?['\"\\PC\n]{0,80}") {
        prop_assert!(parse(Path::new("x"), &text).is_err());
    }
}
