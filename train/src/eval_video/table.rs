//! Results as numbers: a row a clip, what all of them come to with the synthetic ones apart, as JSON and as a table.

use serde::Serialize;

use super::{
    alerts::{Measured, Share, Shown},
    clips::Clip,
    ranking::Ranked,
};
use crate::eval::table::percent;

/// Nanoseconds in a millisecond.
const MS: f64 = 1e6;

/// A clip's numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) video: String,
    pub(super) class_name: String,
    pub(super) synthetic: bool,
    pub(super) first_frame: u64,
    pub(super) frames: usize,
    pub(super) minutes: f64,
    pub(super) lesions: Vec<LesionRow>,
    pub(super) alerts: Vec<AlertRow>,
    pub(super) under_alert: UnderAlert,
    #[serde(skip)]
    name: String,
}

/// A lesion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LesionRow {
    pub(super) id: String,
    pub(super) first_frame: u64,
    pub(super) last_frame: u64,
    pub(super) found: bool,
    /// The alert that found it.
    pub(super) event_id: Option<u64>,
    pub(super) time_to_first_alert_ms: Option<f64>,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct AlertRow {
    pub(super) event_id: u64,
    /// The frame in which it was told.
    pub(super) first_frame: u64,
    /// The last one in which it stood.
    pub(super) last_frame: u64,
    /// The lesions that it touches.
    pub(super) lesions: Vec<String>,
}

/// Shares of frames in alarm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct UnderAlert {
    /// Of frames with a lesion in view.
    pub(super) in_view: Option<f64>,
    /// Of the others.
    pub(super) out_of_view: Option<f64>,
}

/// What some clips come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Totals {
    pub(super) clips: usize,
    pub(super) frames: u64,
    pub(super) minutes: f64,
    pub(super) lesions: usize,
    pub(super) found: usize,
    pub(super) sensitivity: Option<f64>,
    /// Of the lesions that were found.
    pub(super) median_time_to_first_alert_ms: Option<f64>,
    pub(super) false_alerts: u64,
    pub(super) false_alerts_per_minute: Option<f64>,
    pub(super) under_alert: UnderAlert,
}

/// What clips come to, being gathered.
#[derive(Debug, Default)]
pub(super) struct Tally {
    clips: usize,
    minutes: f64,
    lesions: usize,
    times: Vec<f64>,
    false_alerts: u64,
    in_view: Share,
    out_of_view: Share,
}

/// All clips by whether they are synthetic.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    real: Tally,
    synthetic: Tally,
}

/// What both kinds of clips come to; none where there is no such clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Both {
    pub(super) real: Option<Totals>,
    pub(super) synthetic: Option<Totals>,
}

/// One setting of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Point {
    pub(super) value: String,
    #[serde(flatten)]
    pub(super) totals: Both,
}

/// What becomes of the clips as a property changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Curve {
    pub(super) property: String,
    pub(super) points: Vec<Point>,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Results {
    pub(super) live: bool,
    pub(super) clips: Vec<Row>,
    #[serde(flatten)]
    pub(super) totals: Both,
    /// Of real clips alone.
    #[serde(flatten)]
    pub(super) ranked: Ranked,
    /// Of all clips, where some are synthetic.
    pub(super) with_synthetic: Option<Ranked>,
    pub(super) curves: Vec<Curve>,
}

impl UnderAlert {
    fn of(in_view: Share, out_of_view: Share) -> Self {
        Self {
            in_view: in_view.part(),
            out_of_view: out_of_view.part(),
        }
    }
}

impl Row {
    pub(super) fn new(clip: &Clip, frames: &[Shown], measured: &Measured) -> Self {
        let number = |at: usize| frames[at].number;
        let lesions = clip.lesions.iter().zip(&measured.lesions);
        let lesions = lesions.map(|(lesion, noticed)| LesionRow {
            id: lesion.id.clone(),
            first_frame: lesion.first,
            last_frame: lesion.last,
            found: noticed.by.is_some(),
            event_id: noticed.by.map(|(id, _)| id),
            time_to_first_alert_ms: noticed.by.map(|(_, passed)| passed as f64 / MS),
        });
        let alerts = measured.alerts.iter().map(|alert| {
            let touched = alert.touched.keys();
            AlertRow {
                event_id: alert.id,
                first_frame: number(alert.told),
                last_frame: number(alert.last),
                lesions: touched.map(|at| clip.lesions[*at].id.clone()).collect(),
            }
        });
        Self {
            video: clip.video.display().to_string(),
            class_name: clip.class_name.clone(),
            synthetic: clip.synthetic,
            first_frame: clip.part.first,
            frames: frames.len(),
            minutes: measured.minutes,
            lesions: lesions.collect(),
            alerts: alerts.collect(),
            under_alert: UnderAlert::of(measured.in_view, measured.out_of_view),
            name: clip.name(),
        }
    }

    /// The clip as people see it; a synthetic one is called so.
    pub(super) fn name(&self) -> String {
        match self.synthetic {
            true => format!("{} (synthetic)", self.name),
            false => self.name.clone(),
        }
    }

    /// Its cells, under [`COLUMNS`].
    pub(super) fn cells(&self) -> Vec<String> {
        let found = self.lesions.iter().filter(|lesion| lesion.found).count();
        let times = self.lesions.iter();
        let times = times.filter_map(|lesion| lesion.time_to_first_alert_ms);
        let false_alerts = self.alerts.iter().filter(|alert| alert.lesions.is_empty());
        cells(&Cells {
            frames: self.frames as u64,
            minutes: self.minutes,
            found: (found, self.lesions.len()),
            time: median(times.collect()),
            false_alerts: false_alerts.count() as u64,
            under_alert: self.under_alert,
        })
    }
}

impl Totals {
    /// Their cells, under [`COLUMNS`].
    pub(super) fn cells(&self) -> Vec<String> {
        cells(&Cells {
            frames: self.frames,
            minutes: self.minutes,
            found: (self.found, self.lesions),
            time: self.median_time_to_first_alert_ms,
            false_alerts: self.false_alerts,
            under_alert: self.under_alert,
        })
    }
}

impl Tally {
    fn add(&mut self, measured: &Measured) {
        let times = measured.lesions.iter().filter_map(|lesion| lesion.by);
        self.clips += 1;
        self.minutes += measured.minutes;
        self.lesions += measured.lesions.len();
        self.times
            .extend(times.map(|(_, passed)| passed as f64 / MS));
        self.false_alerts += measured.false_alerts();
        self.in_view += measured.in_view;
        self.out_of_view += measured.out_of_view;
    }

    fn totals(&self) -> Option<Totals> {
        (self.clips > 0).then(|| Totals {
            clips: self.clips,
            frames: self.in_view.all + self.out_of_view.all,
            minutes: self.minutes,
            lesions: self.lesions,
            found: self.times.len(),
            sensitivity: (self.lesions > 0).then(|| self.times.len() as f64 / self.lesions as f64),
            median_time_to_first_alert_ms: median(self.times.clone()),
            false_alerts: self.false_alerts,
            false_alerts_per_minute: rate(self.false_alerts, self.minutes),
            under_alert: UnderAlert::of(self.in_view, self.out_of_view),
        })
    }
}

impl Tallies {
    pub(super) fn add(&mut self, clip: &Clip, measured: &Measured) {
        let tally = match clip.synthetic {
            true => &mut self.synthetic,
            false => &mut self.real,
        };
        tally.add(measured);
    }

    pub(super) fn totals(&self) -> Both {
        Both {
            real: self.real.totals(),
            synthetic: self.synthetic.totals(),
        }
    }
}

impl Both {
    /// Each with the name of its row.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &Totals)> {
        let real = self.real.iter().map(|totals| ("all", totals));
        let synthetic = self.synthetic.iter();
        real.chain(synthetic.map(|totals| ("all synthetic", totals)))
    }
}

fn rate(alerts: u64, minutes: f64) -> Option<f64> {
    (minutes > 0.0).then(|| alerts as f64 / minutes)
}

/// The one in the middle, or the mean of the two there.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(match values.len() % 2 {
        0 => (values[values.len() / 2 - 1] + upper) / 2.0,
        _ => upper,
    })
}

struct Cells {
    frames: u64,
    minutes: f64,
    found: (usize, usize),
    time: Option<f64>,
    false_alerts: u64,
    under_alert: UnderAlert,
}

/// What stands above the cells of a row: two lines.
pub(super) const COLUMNS: [(&str, &str); 8] = [
    ("", "frames"),
    ("", "minutes"),
    ("lesions", "found"),
    ("first alert", "median, ms"),
    ("false", "alerts"),
    ("false", "a minute"),
    ("% alert", "in view"),
    ("% alert", "else"),
];

fn cells(of: &Cells) -> Vec<String> {
    let dash = || "-".to_owned();
    let (found, lesions) = of.found;
    vec![
        of.frames.to_string(),
        format!("{:.2}", of.minutes),
        match lesions {
            0 => dash(),
            _ => format!("{found} of {lesions}"),
        },
        of.time.map_or_else(dash, |ms| format!("{ms:.0}")),
        of.false_alerts.to_string(),
        rate(of.false_alerts, of.minutes).map_or_else(dash, |rate| format!("{rate:.2}")),
        percent(&of.under_alert.in_view),
        percent(&of.under_alert.out_of_view),
    ]
}

/// What stands above the rows, the first column of which is `width` wide.
pub(super) fn header(width: usize) -> String {
    let [above, below]: [Vec<String>; 2] = [
        COLUMNS.map(|(above, _)| above.to_owned()).to_vec(),
        COLUMNS.map(|(_, below)| below.to_owned()).to_vec(),
    ];
    format!(
        "{}\n{}",
        line("", width, &above),
        line("clip", width, &below)
    )
}

/// A row as text.
pub(super) fn line(name: &str, width: usize, cells: &[String]) -> String {
    let mut line = format!("{name:width$}");
    for cell in cells {
        line += &format!(" {cell:>11}");
    }
    line
}

/// What frames and pixels are ranked worth, as text.
pub(super) fn ranked_line(name: &str, ranked: &Ranked) -> String {
    let (frame, pixel) = (&ranked.frame, &ranked.pixel);
    format!(
        "{name}: frames AUROC {} AP {}, pixels AUROC {} AP {}",
        percent(&frame.auroc),
        percent(&frame.ap),
        percent(&pixel.auroc),
        percent(&pixel.ap)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::eval_video::alerts::Noticed;

    fn measured(times: &[Option<u64>], minutes: f64) -> Measured {
        let lesions = times.iter().map(|time| Noticed {
            by: time.map(|ms| (1, ms * 1_000_000)),
        });
        Measured {
            minutes,
            lesions: lesions.collect(),
            alerts: Vec::new(),
            in_view: Share { alarmed: 3, all: 4 },
            out_of_view: Share::default(),
        }
    }

    #[test]
    fn a_median_is_of_what_was_found_and_sensitivity_of_all() {
        let mut tally = Tally::default();
        tally.add(&measured(&[Some(400), None, Some(100)], 0.5));
        tally.add(&measured(&[Some(300)], 1.5));
        let totals = tally.totals().unwrap();
        assert_eq!((totals.found, totals.lesions), (3, 4));
        assert_eq!(totals.sensitivity, Some(0.75));
        assert_eq!(totals.median_time_to_first_alert_ms, Some(300.0));
        assert_eq!(totals.false_alerts_per_minute, Some(0.0));
        assert_eq!(totals.under_alert.in_view, Some(0.75));
        assert_eq!(totals.under_alert.out_of_view, None);
        tally.add(&measured(&[Some(100)], 0.0));
        let totals = tally.totals().unwrap();
        assert_eq!(totals.median_time_to_first_alert_ms, Some(200.0));
        assert_eq!(Tally::default().totals(), None);
    }

    #[test]
    fn columns_line_up() {
        let mut tally = Tally::default();
        tally.add(&measured(&[None], 0.0));
        let row = line("all", 10, &tally.totals().unwrap().cells());
        let header = header(10);
        assert!(header.lines().all(|line| line.len() == row.len()), "{row}");
        assert!(row.contains("0 of 1") && row.contains("75.00"), "{row}");
    }
}
