//! The score over time, as the chart draws it.

use std::collections::VecDeque;

use serde::Serialize;

use super::Versioned;
use crate::monitor::findings::Seen;

/// Milliseconds of the score that are remembered.
const HISTORY: u64 = 600_000;
/// Milliseconds of which the highest score is kept.
const STEP: u64 = 100;

/// A score of the chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Point {
    pub(super) at: u64,
    pub(super) score: f64,
    anomalous: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<String>,
}

/// The last minutes of the score.
#[derive(Debug, Default)]
pub(super) struct Scores {
    points: VecDeque<Versioned<Point>>,
}

impl Scores {
    /// What has changed since a version.
    pub(super) fn since(&self, version: u64) -> Vec<Point> {
        let newest = self.points.iter().rev();
        let mut points: Vec<_> = newest.map_while(|point| point.since(version)).collect();
        points.reverse();
        points
    }

    /// The chart goes on, in `version`, with what was measured `at` then; of scores that lie close together the highest stays.
    pub(super) fn draw(&mut self, seen: &Seen, at: u64, version: u64) {
        let point = Point {
            at,
            score: seen.score,
            anomalous: seen.anomalous,
            quality: seen.quality.clone(),
        };
        match self.points.back_mut() {
            Some(last) if at < last.value.at + STEP => {
                if point.score >= last.value.score {
                    let at = last.value.at;
                    last.value = Point { at, ..point };
                    last.version = version;
                }
            }
            _ => self.points.push_back(Versioned {
                version,
                value: point,
            }),
        }
        while let Some(first) = self.points.front()
            && first.value.at + HISTORY < at
        {
            self.points.pop_front();
        }
    }
}
