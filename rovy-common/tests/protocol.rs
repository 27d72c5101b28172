//! The tables of `docs/protocol.md` against the types.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::mem::offset_of;

use rovy_common::DropReason;
use rovy_common::wire::{
    Beacon, Control, CookieReply, Data, Echo, EchoReply, EchoRequest, ErrorKind, ErrorMessage, Header, Hello,
    KeyAnswer, LinkMessage, Probe, Response, Transit,
};

type Rows = Vec<Vec<String>>;

/// The tables marked by `<!-- table: NAME -->`, without their heads.
fn tables() -> BTreeMap<String, Rows> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md");
    let mut out = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("<!-- table: ").and_then(|l| l.strip_suffix(" -->")) else { continue };
        let cells = |l: &str| l.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
        let rows = lines.by_ref().take_while(|l| l.starts_with('|')).skip(2).map(cells).collect();
        out.insert(name.to_owned(), rows);
    }
    out
}

macro_rules! layout {
    ($type:ident { $($field:ident),+ }) => {{
        let mut at = vec![$((offset_of!($type, $field), stringify!($field).to_owned())),+];
        at.push((size_of::<$type>(), String::new()));
        let rows = at.windows(2).map(|w| (w[0].0, w[1].0 - w[0].0, w[0].1.clone())).collect::<Vec<_>>();
        (stringify!($type), rows)
    }};
}

#[test]
fn message_layouts_are_those_of_the_document() {
    let documented = tables();
    let layouts = [
        layout!(Header { kind, flags, length }),
        layout!(Hello { header, sender_index, noise, mac1, mac2 }),
        layout!(Response { header, sender_index, receiver_index, noise, mac1, mac2 }),
        layout!(CookieReply { header, receiver_index, nonce, cookie, tag }),
        layout!(Data { header, receiver_index, counter }),
        layout!(Beacon { header, port, reserved, public_key }),
        layout!(Transit { header, receiver_index, counter, tag, label }),
        layout!(Control { header, kind, reason, mtu, nonce }),
        layout!(EchoRequest { control, public_key, reserved }),
        layout!(ErrorMessage { control, label, inner }),
        layout!(EchoReply { control, public_key, slot, width, reserved, mac }),
        layout!(KeyAnswer { control, public_key }),
        layout!(Probe { id, origin, target, hops_left, visited, label_len, reserved, marks, label }),
        layout!(Echo { op, reserved, nonce }),
        layout!(LinkMessage { op, link, reserved, receiver_index, nonce }),
    ];
    for (name, fields) in layouts {
        let rows = documented.get(name).unwrap_or_else(|| panic!("no table {name}"));
        let rows: Vec<_> = rows
            .iter()
            .map(|r| (r[0].parse::<usize>().expect("offset"), r[1].parse::<usize>().expect("size"), r[2].clone()))
            .collect();
        assert_eq!(rows, fields, "{name}");
    }
}

#[test]
fn drop_reasons_are_those_of_the_document() {
    let documented = tables().remove("DropReason").expect("a table of drop reasons");
    let documented: Vec<_> = documented.iter().map(|r| (r[0].clone(), r[1].clone())).collect();
    let ours: Vec<_> = DropReason::ALL.iter().map(|r| ((*r as u32).to_string(), r.name().to_owned())).collect();
    assert_eq!(documented, ours);
}

#[test]
fn kinds_of_errors_are_those_of_the_document() {
    let documented = tables().remove("ErrorKind").expect("a table of kinds");
    let documented: Vec<_> = documented.iter().map(|r| (r[0].clone(), r[1].clone(), r[2].clone())).collect();
    for (kind, (number, name, reasons)) in ErrorKind::ALL.into_iter().zip(&documented) {
        assert_eq!((&(kind as u8).to_string(), &kind.name().to_owned()), (number, name));
        let told = DropReason::ALL.iter().filter(|r| ErrorKind::of(**r) == Some(kind));
        for reason in told.filter(|r| **r != DropReason::Expired) {
            assert!(reasons.contains(&format!("`{}`", reason.name())), "{name}: {}", reason.name());
        }
    }
    assert_eq!(documented.len(), ErrorKind::ALL.len());
}
