//! A defect as a report has it, in every form: the same fields in JSON lines, CSV and Parquet.

use serde::{Deserialize, Serialize};

/// A flaw of a strip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Defect {
    /// From 1, in the order in which defects were complete.
    pub(super) id: u64,
    /// The strip, as it was named.
    pub(super) source: String,
    /// First line, from 0.
    pub(super) line: u64,
    /// Last line.
    pub(super) last_line: u64,
    /// First column of the line as the file has it.
    pub(super) x: u32,
    /// Columns.
    pub(super) w: u32,
    /// Lines.
    pub(super) h: u64,
    /// Largest probability, on the calibrated scale where there is one.
    pub(super) score: f32,
    /// Pixels at or above the release level.
    pub(super) area: u64,
    /// Column of the largest probability.
    pub(super) worst_x: u32,
    /// Line of the largest probability.
    pub(super) worst_line: u64,
    /// Millimetres on the track, of the end that is nearer to its beginning; none where nobody said how far apart lines are.
    pub(super) position_mm: Option<f64>,
    /// Millimetres along the track.
    pub(super) length_mm: Option<f64>,
    /// Millimetres across.
    pub(super) width_mm: Option<f64>,
    /// The model's short hash.
    pub(super) model: String,
    /// What the model was told that the strip shows.
    pub(super) class_name: String,
    /// The probability that a defect reaches.
    pub(super) threshold: f32,
    /// A picture of it, relative to the report; none where there is none.
    pub(super) crop: Option<String>,
}

impl Defect {
    /// Orders defects from the most severe on: by score, then by area, then as they came.
    pub(super) fn by_severity(a: &Self, b: &Self) -> std::cmp::Ordering {
        let score = b.score.total_cmp(&a.score);
        score.then(b.area.cmp(&a.area)).then(a.id.cmp(&b.id))
    }
}
