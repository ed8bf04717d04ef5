//! Curves and histograms as inline SVG.

use std::fmt::{self, Write};

use htmlize::escape_text;

use crate::eval::class::Histograms;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 28.0;
const RIGHT: f64 = 290.0;
const BOTTOM: f64 = 228.0;

/// Where fraction (x, y) lies in the picture.
fn at(x: f64, y: f64) -> (f64, f64) {
    (LEFT + x * (RIGHT - LEFT), BOTTOM - y * (BOTTOM - TOP))
}

/// A ROC curve, with chance's diagonal.
pub(super) fn roc(title: &str, points: &[(f64, f64)]) -> Result<String, fmt::Error> {
    let mut svg = frame(title, "false positive rate", "true positive rate", fraction)?;
    chance(&mut svg, (0.0, 0.0), (1.0, 1.0))?;
    curve(&mut svg, points)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A precision-recall curve. Its last point is where everything is flagged, and so the level of chance.
pub(super) fn pr(title: &str, points: &[(f64, f64)]) -> Result<String, fmt::Error> {
    let mut svg = frame(title, "recall", "precision", fraction)?;
    if let Some(&(_, level)) = points.last() {
        chance(&mut svg, (0.0, level), (1.0, level))?;
    }
    curve(&mut svg, points)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// Where the scores of each label lie. Heights are shares of a label, on a square-root axis, since most pixels lie in one bin.
pub(super) fn histogram(title: &str, scores: &Histograms) -> Result<String, fmt::Error> {
    let share = |tick: f64| format!("{:.0} %", tick * tick * 100.0);
    let mut svg = frame(title, "score", "share of its label", share)?;
    for (class, counts) in [("normal", &scores.normal), ("anomalous", &scores.anomalous)] {
        bars(&mut svg, class, counts)?;
    }
    legend(&mut svg)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn fraction(tick: f64) -> String {
    tick.to_string()
}

/// The empty picture. `y_tick` says what stands beside a height.
fn frame(
    title: &str,
    x_label: &str,
    y_label: &str,
    y_tick: impl Fn(f64) -> String,
) -> Result<String, fmt::Error> {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"16\">{title}</text>\n",
        title = escape_text(title)
    );
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let ((x, _), (_, y)) = (at(tick, 0.0), at(0.0, tick));
        writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}M{x:.1} {TOP}V{BOTTOM}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            LEFT - 5.0,
            y + 4.0,
            y_tick(tick),
            BOTTOM + 15.0
        )?;
    }
    let ((x, _), (_, y)) = (at(0.5, 0.0), at(0.0, 0.5));
    writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(11 {y:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        BOTTOM + 32.0,
        escape_text(x_label),
        escape_text(y_label)
    )?;
    Ok(svg)
}

fn chance(svg: &mut String, from: (f64, f64), to: (f64, f64)) -> fmt::Result {
    let ((x0, y0), (x1, y1)) = (at(from.0, from.1), at(to.0, to.1));
    writeln!(
        svg,
        "<path class=\"chance\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}\"/>"
    )
}

fn curve(svg: &mut String, points: &[(f64, f64)]) -> fmt::Result {
    svg.push_str("<polyline class=\"curve\" points=\"");
    for &(x, y) in points {
        let (x, y) = at(x, y);
        write!(svg, "{x:.1},{y:.1} ")?;
    }
    svg.push_str("\"/>\n");
    Ok(())
}

fn bars(svg: &mut String, class: &str, counts: &[u64]) -> fmt::Result {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return Ok(());
    }
    write!(svg, "<path class=\"{class}\" d=\"")?;
    let (start, floor) = at(0.0, 0.0);
    write!(svg, "M{start:.1} {floor:.1}")?;
    for (bin, count) in counts.iter().enumerate() {
        let share = *count as f64 / all as f64;
        let (_, y) = at(0.0, share.sqrt());
        let (x, _) = at((bin + 1) as f64 / counts.len() as f64, 0.0);
        write!(svg, "V{y:.1}H{x:.1}")?;
    }
    writeln!(svg, "V{floor:.1}Z\"/>")
}

fn legend(svg: &mut String) -> fmt::Result {
    for (row, class) in ["normal", "anomalous"].into_iter().enumerate() {
        let (x, y) = (RIGHT - 78.0, TOP + 8.0 + 16.0 * row as f64);
        writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\"/>\
             <text x=\"{}\" y=\"{}\">{class}</text>",
            x + 15.0,
            y + 9.0
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_corners_of_a_curve_are_the_corners_of_its_frame() {
        let svg = roc("a < b", &[(0.0, 0.0), (1.0, 1.0)]).unwrap();
        assert!(svg.contains("points=\"50.0,228.0 290.0,28.0 \""), "{svg}");
        assert!(svg.contains("a &lt; b"), "{svg}");
    }

    #[test]
    fn a_label_that_nothing_has_draws_nothing() {
        let mut scores = Histograms::default();
        scores.normal[3] = 7;
        let svg = histogram("x", &scores).unwrap();
        assert!(svg.contains("path class=\"normal\"") && !svg.contains("path class=\"anomalous\""));
    }
}
