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
    let labels = ["false positive rate", "true positive rate"];
    let mut svg = frame(title, labels, fraction, fraction)?;
    chance(&mut svg, (0.0, 0.0), (1.0, 1.0))?;
    curve(&mut svg, points)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A precision-recall curve. Its last point is where everything is flagged, and so the level of chance.
pub(super) fn pr(title: &str, points: &[(f64, f64)]) -> Result<String, fmt::Error> {
    let mut svg = frame(title, ["recall", "precision"], fraction, fraction)?;
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
    let mut svg = frame(title, ["score", "share of its label"], fraction, share)?;
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

/// What an axis shows, and where it ends; it begins at 0.
#[cfg(feature = "video")]
pub(crate) struct Axis<'a> {
    /// What it shows.
    pub(crate) label: &'a str,
    /// Its end.
    pub(crate) top: f64,
}

#[cfg(feature = "video")]
impl Axis<'_> {
    fn part(&self, value: f64) -> f64 {
        (value / self.top).clamp(0.0, 1.0)
    }

    fn tick(&self, part: f64) -> String {
        let value = part * self.top;
        match self.top {
            top if top < 1.0 => format!("{value:.2}"),
            top if top < 10.0 => ((value * 100.0).round() / 100.0).to_string(),
            _ => format!("{value:.0}"),
        }
    }
}

/// A curve over any two axes, with a dot on each of its points that says what it is, and a larger one on that which is `marked`.
#[cfg(feature = "video")]
pub(crate) fn plot(
    title: &str,
    [x, y]: [&Axis<'_>; 2],
    points: &[(f64, f64, String)],
    marked: Option<(f64, f64)>,
) -> Result<String, fmt::Error> {
    let mut svg = frame(title, [x.label, y.label], |t| x.tick(t), |t| y.tick(t))?;
    let place = |px: f64, py: f64| (x.part(px), y.part(py));
    let line: Vec<_> = points.iter().map(|(px, py, _)| place(*px, *py)).collect();
    curve(&mut svg, &line)?;
    for ((px, py), (_, _, name)) in line.iter().zip(points) {
        let (cx, cy) = at(*px, *py);
        writeln!(
            svg,
            "<circle class=\"point\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"><title>{}</title></circle>",
            escape_text(name)
        )?;
    }
    if let Some((px, py)) = marked {
        let (px, py) = place(px, py);
        let (cx, cy) = at(px, py);
        writeln!(
            svg,
            "<circle class=\"marked\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"6\"/>"
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// The empty picture, with what its axes show and what stands beside a place on each.
fn frame(
    title: &str,
    [x_label, y_label]: [&str; 2],
    x_tick: impl Fn(f64) -> String,
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
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            LEFT - 5.0,
            y + 4.0,
            y_tick(tick),
            BOTTOM + 15.0,
            x_tick(tick)
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

    #[cfg(feature = "video")]
    #[test]
    fn a_plot_is_scaled_to_its_axes_and_its_points_have_names() {
        let axis = |label, top| Axis { label, top };
        let points = [(5.0, 0.5, "a".into()), (20.0, 1.0, "<b>".into())];
        let axes = [&axis("x", 10.0), &axis("y", 1.0)];
        let svg = plot("t", axes, &points, Some((0.0, 0.0))).unwrap();
        // What lies beyond an axis is drawn at its end.
        assert!(svg.contains("points=\"170.0,128.0 290.0,28.0 \""), "{svg}");
        assert!(svg.contains("&lt;b&gt;") && svg.contains("class=\"marked\" cx=\"50.0\""));
        assert!(
            svg.contains(">7.5</text>") || svg.contains(">8</text>"),
            "{svg}"
        );
    }

    #[test]
    fn a_label_that_nothing_has_draws_nothing() {
        let mut scores = Histograms::default();
        scores.normal[3] = 7;
        let svg = histogram("x", &scores).unwrap();
        assert!(svg.contains("path class=\"normal\"") && !svg.contains("path class=\"anomalous\""));
    }
}
