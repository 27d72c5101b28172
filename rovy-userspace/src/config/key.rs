//! From the byte span of a TOML error to line, column and key.

use super::ConfigError;
use std::ops::Range;
use std::path::Path;
use toml_edit::{Item, TableLike};

pub(super) fn invalid(path: &Path, text: &str, span: Option<Range<usize>>, message: &str) -> ConfigError {
    let at = span.map_or(0, |s| element(text, &s, message).unwrap_or(s.start));
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    ConfigError::Invalid {
        path: path.into(),
        line: before.matches('\n').count() + 1,
        column: before[start..].chars().count() + 1,
        key: key_at(text, at),
        // The parser's messages run over several lines; an error is one.
        message: hint(message.trim().replace('\n', ", ")),
    }
}

/// With "unknown field `nod`, expected one of `node`, .." says which one was meant, where one is much like it.
fn hint(message: String) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(given) = names.next().filter(|_| message.starts_with("unknown ")) else { return message };
    let near = names.map(|name| (strsim::jaro_winkler(given, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, name)) if likeness > 0.8 => format!("{message}; did you mean `{name}`?"),
        _ => message,
    }
}

/// Where the id of the peer `i` stands.
pub(super) fn peer_id(text: &str, i: usize) -> Option<Range<usize>> {
    let document = toml_edit::Document::parse(text).ok()?;
    let peers = document.get("peer")?;
    let tables = peers.as_array_of_tables().and_then(|all| all.get(i)?.get("id")?.span());
    tables.or_else(|| peers.as_array()?.get(i)?.as_inline_table()?.get("id")?.span())
}

/// Where the list of what is denied stands.
pub(super) fn deny(text: &str) -> Option<Range<usize>> {
    toml_edit::Document::parse(text).ok()?.get("fc00")?.get("deny")?.span()
}

/// Where in a list the element begins that the message is about. The parser's span is the whole list.
fn element(text: &str, span: &Range<usize>, message: &str) -> Option<usize> {
    let list: toml_edit::Value = text.get(span.clone())?.parse().ok()?;
    let bad = list.as_array()?.iter().filter_map(|v| v.as_str()).find(|v| message.starts_with(&format!("{v}: ")))?;
    let at = text.get(span.clone())?.find(&format!("'{bad}'")).or_else(|| text.get(span.clone())?.find(bad))?;
    Some(span.start + at)
}

/// The innermost key whose name or value covers byte `at`. `None` when the text is no TOML.
fn key_at(text: &str, at: usize) -> Option<String> {
    let document = toml_edit::Document::parse(text).ok()?;
    let mut path = Vec::new();
    descend(document.as_table(), at, &mut path);
    if path.is_empty() { None } else { Some(path.join(".")) }
}

fn descend(table: &dyn TableLike, at: usize, path: &mut Vec<String>) {
    for (name, item) in table.iter() {
        let named = table.key(name).and_then(|k| k.span()).is_some_and(|s| s.contains(&at));
        let mut inner = Vec::new();
        if let Some(tables) = item.as_array_of_tables() {
            for (i, t) in tables.iter().enumerate() {
                let before = inner.len();
                descend(t, at, &mut inner);
                if inner.len() > before {
                    inner.insert(before, format!("{name}[{i}]"));
                    break;
                }
                if t.span().is_some_and(|s| s.contains(&at)) {
                    inner.push(format!("{name}[{i}]"));
                    break;
                }
            }
            path.append(&mut inner);
        } else {
            if let Some(t) = item.as_table_like() {
                descend(t, at, &mut inner);
            }
            let covers = item.span().is_some_and(|s| s.contains(&at)) && !matches!(item, Item::None);
            if named || covers || !inner.is_empty() {
                path.push(name.to_owned());
                path.append(&mut inner);
            }
        }
        if !path.is_empty() {
            return;
        }
    }
}
