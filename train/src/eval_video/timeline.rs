//! A clip from its first frame to its last, as inline SVG: its score, where it was in alarm, which lesions were in view, which alerts were told.

use std::fmt::{self, Write};

use htmlize::escape_text;

use super::{Watched, alerts::Shown};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 208.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 985.0;
/// Of the score.
const TOP: f64 = 10.0;
const BOTTOM: f64 = 110.0;
/// Of the rows of lesions and alerts, and between them.
const LESIONS: f64 = 122.0;
const ALERTS: f64 = 146.0;
const ROW: f64 = 16.0;

/// Dots of a curve of score, at most.
const MOST: usize = 2000;

/// The time axis of a clip.
struct Time {
    begin: u64,
    /// From the first frame's begin to the last one's end.
    span: f64,
    /// Of a frame.
    step: f64,
}

impl Time {
    fn of(frames: &[Shown]) -> Option<Self> {
        let (begin, end) = (frames.first()?.time, frames.last()?.time);
        let between = end.saturating_sub(begin) as f64;
        let step = between / frames.len().saturating_sub(1).max(1) as f64;
        let span = (between + step).max(1.0);
        Some(Self { begin, span, step })
    }

    fn x(&self, nanoseconds: f64) -> f64 {
        LEFT + (nanoseconds / self.span).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// Where a frame begins.
    fn at(&self, frame: &Shown) -> f64 {
        self.x(frame.time.saturating_sub(self.begin) as f64)
    }

    /// Where a frame ends.
    fn after(&self, frame: &Shown) -> f64 {
        self.x(frame.time.saturating_sub(self.begin) as f64 + self.step)
    }
}

/// The chart; nothing for a clip without frames.
pub(super) fn chart(watched: &Watched) -> Result<String, fmt::Error> {
    let frames = &watched.frames;
    let Some(time) = Time::of(frames) else {
        return Ok(String::new());
    };
    let name = watched.row.name();
    let mut svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: score, lesions and alerts over time\">\n",
        escape_text(&name)
    );
    grid(&mut svg, &time)?;
    alarms(&mut svg, frames, &time)?;
    score(&mut svg, frames, &time)?;
    rows(&mut svg, watched, &time)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn y(score: f64) -> f64 {
    BOTTOM - score.clamp(0.0, 1.0) * (BOTTOM - TOP)
}

fn grid(svg: &mut String, time: &Time) -> fmt::Result {
    for score in [0.0, 0.5, 1.0] {
        writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {0:.1}H{RIGHT}\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{score}</text>",
            y(score),
            LEFT - 6.0,
            y(score) + 4.0
        )?;
    }
    for tick in 0..=5 {
        let nanoseconds = time.span * f64::from(tick) / 5.0;
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.1} s</text>",
            time.x(nanoseconds),
            HEIGHT - 24.0,
            nanoseconds / 1e9
        )?;
    }
    for (label, top) in [
        ("score", TOP + 13.0),
        ("lesions", LESIONS),
        ("alerts", ALERTS),
    ] {
        writeln!(
            svg,
            "<text x=\"2\" y=\"{}\">{label}</text>",
            top + ROW - 4.0
        )?;
    }
    Ok(())
}

/// Behind the score, where it was in alarm.
fn alarms(svg: &mut String, frames: &[Shown], time: &Time) -> fmt::Result {
    let is_alarmed = |frame: &Shown| frame.record.as_ref().is_some_and(|record| record.anomalous);
    for run in frames.chunk_by(|a, b| is_alarmed(a) == is_alarmed(b)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        if is_alarmed(first) {
            bar(
                svg,
                "alarm",
                (time.at(first), time.after(last)),
                (TOP, BOTTOM - TOP),
            )?;
        }
    }
    Ok(())
}

fn score(svg: &mut String, frames: &[Shown], time: &Time) -> fmt::Result {
    let known: Vec<_> = frames
        .iter()
        .filter_map(|frame| Some((frame, frame.record.as_ref()?)))
        .collect();
    svg.push_str("<polyline class=\"curve\" points=\"");
    // Of those that fall together the highest is what one would look for.
    for together in known.chunks(known.len().div_ceil(MOST).max(1)) {
        let highest = together
            .iter()
            .max_by(|a, b| a.1.score.total_cmp(&b.1.score));
        if let Some((frame, record)) = highest {
            write!(svg, "{:.1},{:.1} ", time.at(frame), y(record.score.into()))?;
        }
    }
    svg.push_str("\"/>\n");
    let Some((_, record)) = known.last() else {
        return Ok(());
    };
    let threshold = y(record.threshold.into());
    writeln!(
        svg,
        "<path class=\"chance\" d=\"M{LEFT} {threshold:.1}H{RIGHT}\"><title>threshold {}</title></path>",
        record.threshold
    )
}

fn rows(svg: &mut String, watched: &Watched, time: &Time) -> fmt::Result {
    let frames = &watched.frames;
    let frame = |number: u64| {
        let at = frames.partition_point(|frame| frame.number < number);
        frames.get(at).or(frames.last())
    };
    for lesion in &watched.row.lesions {
        let span = frame(lesion.first_frame).zip(frame(lesion.last_frame));
        let Some((first, last)) = span else { continue };
        let (class, note) = match lesion.found {
            true => ("lesion found", "found"),
            false => ("lesion missed", "missed"),
        };
        let (from, to) = (time.at(first), time.after(last));
        bar(svg, class, (from, to), (LESIONS, ROW))?;
        label(svg, from, LESIONS, &format!("{} {note}", lesion.id))?;
    }
    for alert in &watched.row.alerts {
        let span = frame(alert.first_frame).zip(frame(alert.last_frame));
        let Some((first, last)) = span else { continue };
        let (class, note) = match alert.lesions.is_empty() {
            true => ("alert false", " false"),
            false => ("alert", ""),
        };
        // Alerts that stand together are drawn below each other, three deep.
        let top = ALERTS + (alert.event_id % 3) as f64 * (ROW / 2.0);
        let (from, to) = (time.at(first), time.after(last));
        writeln!(
            svg,
            "<g><title>alert {}{note}, frames {} to {}</title>",
            alert.event_id, alert.first_frame, alert.last_frame
        )?;
        bar(svg, class, (from, to), (top, ROW / 2.0 - 1.0))?;
        svg.push_str("</g>\n");
    }
    let key = "Grey behind the score: in alarm. Alerts: filled on a lesion, hollow false. Dashed: threshold.";
    writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\">{key}</text>",
        HEIGHT - 6.0
    )
}

fn bar(
    svg: &mut String,
    class: &str,
    (from, to): (f64, f64),
    (top, height): (f64, f64),
) -> fmt::Result {
    let width = (to - from).max(1.5);
    writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
    )
}

fn label(svg: &mut String, x: f64, top: f64, text: &str) -> fmt::Result {
    writeln!(
        svg,
        "<text class=\"on\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        x + 4.0,
        top + ROW - 4.0,
        escape_text(text)
    )
}
