//! What a calibration came to: false alarms before and after, and how far the footage bears it.

use std::path::Path;

use acdclip_model::calibration::Anchors;
use serde_json::{Value, json};

use super::threshold::Series;

/// Where alarm begins for one who has no calibration.
const UNCALIBRATED: f64 = 0.5;

/// Which of a frame's two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Score,
    Map,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Map => "map",
        }
    }
}

/// One class's score or map on the normal footage.
pub(super) struct Measured {
    class: String,
    part: Part,
    anchors: Anchors,
    /// False alarms at a raw 0.5, and at the threshold found.
    events: [usize; 2],
}

impl Measured {
    pub(super) fn new(class: &str, part: Part, anchors: &Anchors, series: &Series) -> Self {
        Self {
            class: class.to_owned(),
            part,
            anchors: anchors.clone(),
            events: [UNCALIBRATED, anchors.threshold].map(|at| series.events(at)),
        }
    }
}

/// A sentence if the footage is too short for what was asked for.
pub(super) fn doubt(measured: &[Measured]) -> Option<String> {
    let Anchors {
        frames,
        hours,
        false_alarms_per_hour,
        quantile,
        ..
    } = measured
        .iter()
        .map(|measured| &measured.anchors)
        .find(|anchors| anchors.extrapolated)?;
    let (found, wanted) = match (false_alarms_per_hour, quantile) {
        (Some(rate), _) => (
            format!("{} of normal video", duration(hours.unwrap_or(0.0))),
            format!(
                "{rate} false alarms an hour; that takes {}",
                duration(1.0 / rate)
            ),
        ),
        (None, quantile) => {
            let quantile = quantile.unwrap_or_default();
            (
                format!("{frames} normal frames"),
                format!(
                    "the quantile {quantile}; that takes {}",
                    (1.0 / (1.0 - quantile) - 1e-9).ceil()
                ),
            )
        }
    };
    Some(format!(
        "{found} cannot show {wanted} at least. The thresholds lie above all that was seen, as the tail of the values suggests"
    ))
}

fn duration(hours: f64) -> String {
    match hours {
        hours if hours >= 1.0 => format!("{hours:.1} h"),
        hours if hours * 60.0 >= 1.0 => format!("{:.1} min", hours * 60.0),
        hours => format!("{:.1} s", hours * 3600.0),
    }
}

/// For people.
pub(super) fn table(written: &[&Path], measured: &[Measured]) -> String {
    let width = measured.iter().map(|row| row.class.chars().count());
    let width = width.max().unwrap_or_default().max("class".len());
    let mut lines = vec![format!(
        "{:width$}  {:5}  {:>8}  {:>9}  {:>7}  {:>9}  {:>13}  {:>12}",
        "class",
        "value",
        "frames",
        "footage",
        "normal",
        "threshold",
        "events at 0.5",
        "at threshold"
    )];
    for row in measured {
        let Anchors {
            normal,
            threshold,
            frames,
            hours,
            ..
        } = &row.anchors;
        lines.push(format!(
            "{:width$}  {:5}  {frames:>8}  {:>9}  {normal:>7.4}  {threshold:>9.4}  {:>13}  {:>12}",
            row.class,
            row.part.name(),
            hours.map_or_else(|| "-".into(), duration),
            row.events[0],
            row.events[1],
        ));
    }
    lines.extend(
        written
            .iter()
            .map(|path| format!("written: {}", path.display())),
    );
    lines.join("\n")
}

/// For programs.
pub(super) fn json(model: &str, written: &[&Path], measured: &[Measured]) -> Value {
    let rows: Vec<_> = measured
        .iter()
        .map(|row| {
            json!({
                "class_name": row.class,
                "value": row.part.name(),
                "frames": row.anchors.frames,
                "hours": row.anchors.hours,
                "normal": row.anchors.normal,
                "threshold": row.anchors.threshold,
                "extrapolated": row.anchors.extrapolated,
                "events_uncalibrated": row.events[0],
                "events_calibrated": row.events[1],
            })
        })
        .collect();
    let written: Vec<_> = written.iter().map(|path| path.to_string_lossy()).collect();
    json!({ "model": model, "written": written, "calibration": rows })
}
