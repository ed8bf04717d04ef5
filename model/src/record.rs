//! The record that goes with every scored frame, version 1: the same fields in buffer metadata, bus messages and JSON lines.
//!
//! In JSON the names are in snake_case, as here; in GStreamer structures the same names are in kebab-case. `schema/record-1.schema.json`
//! is the contract; a reader of version 1 can read every later 1.x, so fields are added, never renamed or removed.

use serde::{Deserialize, Serialize};

use crate::map::Region;

/// Where on a strip something is, whose lines are numbered from 0 in the order in which they were seen.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Place {
    /// First line.
    pub line: u64,
    /// Last line.
    pub last_line: u64,
    /// Millimetres on the track, of the end that is nearer to its beginning; none where nobody said how far apart lines are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position_mm: Option<f64>,
    /// Millimetres along the track.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length_mm: Option<f64>,
    /// Millimetres across.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub width_mm: Option<f64>,
}

/// What is known of one outgoing frame.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Presentation time in nanoseconds; `None` where the stream has none.
    pub pts: Option<u64>,
    /// Number of the frame since the stream began, from 0.
    pub frame: u64,
    /// The score that thresholds apply to: calibrated when a calibration is loaded, else raw.
    pub score: f32,
    /// The image score as the network gives it, in [0, 1].
    pub raw_score: f32,
    /// Whether `score` is calibrated.
    pub calibrated: bool,
    /// Probability of the abnormal class.
    pub class_score: f32,
    /// Largest probability of the map.
    pub map_max: f32,
    /// The score from which a frame is anomalous.
    pub threshold: f32,
    /// The probability from which a pixel belongs to a region, on the scale of `score`.
    #[serde(default)]
    pub map_threshold: f32,
    /// Whether the alarm stands: raised by a score at or above `threshold`, cleared by one below the release threshold.
    pub anomalous: bool,
    /// The oldest event that this frame belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_id: Option<u64>,
    /// Nanoseconds since the frame that was measured; 0 for this very frame.
    pub age: u64,
    /// What the frame is good for, by [`Quality::name`](crate::endoscope::quality::Quality::name), where that is watched. Where it is not
    /// `good` and frames are gated by it, all else is of the last good frame.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quality: Option<String>,
    /// Width of the frame that was measured, pixels.
    pub width: u32,
    /// Height of the frame that was measured, pixels.
    pub height: u32,
    /// Where the map is at or above the map threshold.
    pub regions: Vec<Region>,
    /// First hexadecimal digits of the model's hash.
    pub model: String,
    /// Microseconds that this frame's measurement took.
    pub latency_us: u64,
}
