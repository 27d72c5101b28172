//! Columns for people.

/// Rows under their headings, each column as wide as its widest cell. `-` stands for an empty cell.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let width =
        |i: usize| std::iter::once(&headings).chain(rows).map(|r| r[i].chars().count().max(1)).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (text, width) in row.iter().zip(widths) {
            // Not by a format's width: that ends at 65535, and a panic is no answer to a host with many addresses.
            let text = cell(text);
            line.push_str(&text);
            line.extend(std::iter::repeat_n(' ', width + 2 - text.chars().count().min(width)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Names and values, the values below one another.
pub(super) fn list(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// Seconds as the two largest units.
pub(super) fn seconds(s: u64) -> String {
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// Bytes in the largest unit that leaves a number of at least one.
pub(super) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (n as f64, "B");
    for u in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, u);
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".into(), "long cell".into()], ["longer".into(), String::new()]];
        assert_eq!(table(["X", "Y"], &rows), "X       Y\na       long cell\nlonger  -\n");
        assert_eq!(list(&[("a", "1".into()), ("bcd", "2".into())]), "a    1\nbcd  2\n");
    }

    #[test]
    fn a_cell_may_be_longer_than_any_format_allows() {
        let long = "x".repeat(70_000);
        let text = table(["A", "B"], &[[long.clone(), "end".into()]]);
        assert_eq!(text.lines().last(), Some(format!("{long}  end").as_str()));
    }

    #[test]
    fn units_are_chosen() {
        assert_eq!([0, 61, 3_700, 90_000].map(seconds), ["0 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([0, 1023, 1536, 1 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "1.0 GiB"]);
    }
}
