//! A strip drawn from its first line to its last, as inline SVG: where defects lie across it, and how many there are in each stretch.

use std::fmt::{self, Write};

use htmlize::escape_text;

use super::defect::Defect;

/// Stretches that defects are counted in.
pub(super) const STRETCHES: usize = 200;

/// Defects that are drawn one by one, at most.
pub(super) const DOTS: usize = 2000;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 970.0;
const TOP: f64 = 26.0;
/// Between where defects lie and how many there are.
const MIDDLE: [f64; 2] = [170.0, 188.0];
const BOTTOM: f64 = 262.0;

/// What of a strip is drawn.
pub(super) struct Track<'a> {
    pub(super) name: &'a str,
    pub(super) lines: u64,
    /// Pixels of a line.
    pub(super) width: usize,
    /// Millimetres at line 0, and from line to line; none where that is not known.
    pub(super) mm: Option<(f64, f64)>,
    /// Defects in each of [`STRETCHES`].
    pub(super) counts: &'a [u64],
    /// The most severe ones.
    pub(super) dots: &'a [Defect],
    pub(super) threshold: f32,
}

/// In which stretch a line is.
pub(super) fn stretch(line: u64, lines: u64) -> usize {
    let at = u128::from(line) * STRETCHES as u128 / u128::from(lines.max(1));
    (at as usize).min(STRETCHES - 1)
}

/// The strip as a picture.
pub(super) fn track(track: &Track<'_>) -> Result<String, fmt::Error> {
    let title = escape_text(track.name);
    let mut svg = format!(
        "<svg class=\"track\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"16\">{title}</text>\n"
    );
    across(&mut svg, track)?;
    counts(&mut svg, track)?;
    along(&mut svg, track)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn x_of(line: f64, track: &Track<'_>) -> f64 {
    LEFT + line / track.lines.max(1) as f64 * (RIGHT - LEFT)
}

/// Where defects lie: a box each, in the strip's own proportions of line and column, but never too small to be seen.
fn across(svg: &mut String, track: &Track<'_>) -> fmt::Result {
    let width = track.width.max(1) as f64;
    let bottom = MIDDLE[0];
    writeln!(
        svg,
        "<rect class=\"strip\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">0</text>\
         <text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">{}</text>\
         <text transform=\"translate(11 {}) rotate(-90)\" text-anchor=\"middle\">pixel</text>",
        RIGHT - LEFT,
        bottom - TOP,
        LEFT - 5.0,
        TOP + 9.0,
        LEFT - 5.0,
        track.width,
        (TOP + bottom) / 2.0
    )?;
    let unit = (bottom - TOP) / width;
    for dot in track.dots {
        let (w, h) = (
            (dot.h as f64 / track.lines.max(1) as f64 * (RIGHT - LEFT)).max(3.0),
            (f64::from(dot.w) * unit).max(3.0),
        );
        let middle = (dot.line as f64 + dot.last_line as f64 + 1.0) / 2.0;
        let x = x_of(middle, track) - w / 2.0;
        let y = TOP + (f64::from(dot.x) + f64::from(dot.w) / 2.0) * unit - h / 2.0;
        // What just reaches the threshold can still be seen.
        let above = (dot.score - track.threshold) / (1.0 - track.threshold).max(1e-6);
        let opacity = 0.3 + 0.7 * above.clamp(0.0, 1.0);
        writeln!(
            svg,
            "<rect class=\"defect\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill-opacity=\"{opacity:.2}\">\
             <title>{}: line {}, score {:.3}</title></rect>",
            dot.id, dot.line, dot.score
        )?;
    }
    Ok(())
}

fn counts(svg: &mut String, track: &Track<'_>) -> fmt::Result {
    let top = MIDDLE[1];
    let most = track.counts.iter().copied().max().unwrap_or(0).max(1);
    writeln!(
        svg,
        "<path class=\"grid\" d=\"M{LEFT} {top}H{RIGHT}M{LEFT} {BOTTOM}H{RIGHT}\"/>\
         <text x=\"{x}\" y=\"{}\" text-anchor=\"end\">{most}</text>\
         <text x=\"{x}\" y=\"{BOTTOM}\" text-anchor=\"end\">0</text>\
         <text transform=\"translate(11 {}) rotate(-90)\" text-anchor=\"middle\">defects</text>",
        top + 9.0,
        (top + BOTTOM) / 2.0,
        x = LEFT - 5.0
    )?;
    let step = (RIGHT - LEFT) / STRETCHES as f64;
    write!(svg, "<path class=\"anomalous\" d=\"M{LEFT} {BOTTOM}")?;
    for (i, count) in track.counts.iter().enumerate() {
        let y = BOTTOM - *count as f64 / most as f64 * (BOTTOM - top);
        write!(svg, "V{y:.1}H{:.1}", LEFT + (i + 1) as f64 * step)?;
    }
    writeln!(svg, "V{BOTTOM}Z\"/>")
}

/// The axis: metres where those are known, else lines.
fn along(svg: &mut String, track: &Track<'_>) -> fmt::Result {
    let lines = track.lines as f64;
    let (from, per_line, unit) = match track.mm {
        Some((start, pitch)) => (start / 1e3, pitch / 1e3, "metre"),
        None => (0.0, 1.0, "line"),
    };
    let step = round_step(lines * per_line / 8.0);
    let mut tick = (from / step).ceil() * step;
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    while tick <= from + lines * per_line {
        let x = x_of((tick - from) / per_line, track);
        writeln!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {BOTTOM}v4\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick:.decimals$}</text>",
            BOTTOM + 16.0
        )?;
        tick += step;
    }
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{unit}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 32.0
    )
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn round_step(about: f64) -> f64 {
    let about = about.max(1e-6);
    let power = 10_f64.powf(about.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|digit| digit * power >= about);
    digit.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scan::ledger::tests::defect;

    #[test]
    fn the_axis_is_in_metres_where_those_are_known() {
        let dots = [defect(1)];
        let mut counts = vec![0; STRETCHES];
        counts[stretch(10, 100)] = 1;
        let drawn = |mm| {
            track(&Track {
                name: "a < b",
                lines: 100,
                width: 20,
                mm,
                counts: &counts,
                dots: &dots,
                threshold: 0.5,
            })
            .unwrap()
        };
        let svg = drawn(Some((2000.0, 10.0)));
        assert!(svg.contains(">metre<") && svg.contains(">2.4<"), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("class=\"defect\""));
        assert!(drawn(None).contains(">line<"));
    }

    #[test]
    fn steps_are_round() {
        let steps = [0.7, 1.0, 1.1, 3.0, 7.0, 120.0].map(round_step);
        assert_eq!(steps, [1.0, 1.0, 2.0, 5.0, 10.0, 200.0]);
        assert_eq!(stretch(99, 100), STRETCHES - 2);
        assert_eq!(stretch(100, 100), STRETCHES - 1);
        assert_eq!(stretch(u64::MAX, u64::MAX), STRETCHES - 1);
    }
}
