//! Drawings: a network with its routes, and how figures grow.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::run::Picture;

/// Side of a network's drawing.
const SIDE: f64 = 1000.0;

fn document(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// A network: links grey, those that routes use blue and the wider the more do, what died red.
pub(crate) fn map(picture: &Picture) -> String {
    let graph = &picture.graph;
    let mut used: BTreeMap<usize, u32> = BTreeMap::new();
    for pair in picture.routes.iter().flat_map(|nodes| nodes.windows(2)) {
        if let Some(link) = graph.between(pair[0], pair[1]) {
            *used.entry(link).or_default() += 1;
        }
    }
    let at = |n: usize| (graph.places[n].0 * SIDE, graph.places[n].1 * SIDE);
    let mut body = String::new();
    for (i, edge) in graph.edges.iter().enumerate() {
        let ((x1, y1), (x2, y2)) = (at(edge.a), at(edge.b));
        let routes = used.get(&i).copied().unwrap_or(0);
        let (colour, width) = match routes {
            _ if picture.dead.links[i] => ("#d22", 4.0),
            0 => ("#ccc", 0.6),
            n => ("#26c", 0.8 + f64::from(n).sqrt()),
        };
        let _ = writeln!(
            body,
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width:.1}\"/>"
        );
    }
    for n in 0..graph.nodes() {
        let (x, y) = at(n);
        let colour = if picture.dead.nodes[n] { "#d22" } else { "#333" };
        let _ = writeln!(body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    document(SIDE, SIDE, &body)
}

/// One figure over the number of nodes.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;

/// Charts, two in a row.
pub(crate) fn charts(charts: &[Chart]) -> String {
    let mut body = String::new();
    for (i, chart) in charts.iter().enumerate() {
        let (x, y) = ((i % 2) as f64 * WIDTH, (i / 2) as f64 * HEIGHT);
        let _ = writeln!(body, "<g transform=\"translate({x} {y})\">\n{}</g>", panel(chart));
    }
    document(2.0 * WIDTH, charts.len().div_ceil(2) as f64 * HEIGHT, &body)
}

/// The next of 1, 2, 5, 10, 20 … that is not below.
fn round_up(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(x.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|s| s * decade).find(|s| *s >= x * 0.999_999).unwrap_or(10.0 * decade)
}

fn panel(chart: &Chart) -> String {
    let (left, right, top, bottom) = (60.0, WIDTH - 20.0, 40.0, HEIGHT - 40.0);
    let most = |f: fn(&(f64, f64)) -> f64| round_up(chart.points.iter().map(f).fold(0.0, f64::max));
    let (max_x, max_y) = (most(|p| p.0), most(|p| p.1));
    let x = |v: f64| left + (right - left) * v / max_x;
    let y = |v: f64| bottom - (bottom - top) * v / max_y;
    let mut out = format!("<text x=\"{left}\" y=\"24\" font-weight=\"bold\">{}</text>\n", chart.title);
    for i in 0..=4 {
        let value = max_y * f64::from(i) / 4.0;
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{tx}\" y=\"{ty:.1}\" text-anchor=\"end\">{value}</text>",
            at = y(value),
            tx = left - 6.0,
            ty = y(value) + 4.0,
        );
    }
    let line: Vec<String> = chart.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
    let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"#26c\" stroke-width=\"2\"/>", line.join(" "));
    for p in &chart.points {
        let _ = writeln!(
            out,
            "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\" fill=\"#26c\"/><text x=\"{cx:.1}\" y=\"{ty}\" \
             text-anchor=\"middle\">{n}</text>",
            cx = x(p.0),
            cy = y(p.1),
            ty = bottom + 18.0,
            n = p.0,
        );
    }
    let _ = writeln!(out, "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">nodes</text>", bottom + 34.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (x, rounded) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (101.0, 200.0), (1000.0, 1000.0)] {
            assert!((round_up(x) - rounded).abs() < 1e-9, "{x}: {}", round_up(x));
        }
    }

    #[test]
    fn every_point_is_drawn() {
        let chart = Chart { title: "some figure", points: vec![(100.0, 3.0), (1000.0, 30.0)] };
        let text = charts(&[chart]);
        assert_eq!(text.matches("<circle").count(), 2);
        assert!(text.contains("some figure") && text.trim_end().ends_with("</svg>"));
    }
}
