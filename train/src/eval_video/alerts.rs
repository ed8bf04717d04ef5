//! From what the element told of a clip's frames to what a person beside the screen got: lesions found and when, and false alerts.
//!
//! An alert is an event of the element. It is told in the first frame that carries its number, and stands until the last one that does.
//!
//! - An alert *touches* a lesion in a frame in which it stands and the lesion is in view, if the centroid of one of its regions lies on the
//!   lesion: in its box, or on its mask (the rule of the MICCAI 2015 challenge on polyps in video, Bernal et al., IEEE TMI 36(6) 2017). Where
//!   nobody says where the lesion is, being in view is enough. Of a result that was measured on an earlier frame, that frame decides.
//! - A lesion is *found* by an alert that is told while it is in view and touches it. The time to the first alert runs from the lesion's first
//!   frame to the first one in which such an alert touches it.
//! - An alert that never touches a lesion is *false*. One that was told too early, touches a lesion and goes on is neither.

use std::collections::{BTreeMap, BTreeSet};

use acdclip_model::record::Record;

use super::truth::Truth;

/// Nanoseconds in a minute.
const MINUTE: f64 = 6e10;

/// A frame as it left the element.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    /// Its number in the video.
    pub(super) number: u64,
    /// Its time in nanoseconds.
    pub(super) time: u64,
    /// What it carried; none where nothing was known, or nothing of late.
    pub(super) record: Option<Record>,
}

/// An event, as a person saw it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Alert {
    pub(super) id: u64,
    /// The frame in which it was told, by its place among the frames shown.
    pub(super) told: usize,
    /// The last one that carried it.
    pub(super) last: usize,
    /// For each lesion the first frame in which it was touched.
    pub(super) touched: BTreeMap<usize, usize>,
}

/// What became of a lesion.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Noticed {
    /// Number of the alert that found it, and nanoseconds from its first frame to that.
    pub(super) by: Option<(u64, u64)>,
}

/// Frames, and those of them that were in alarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) alarmed: u64,
    pub(super) all: u64,
}

/// What was measured of a clip.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) minutes: f64,
    /// In the order of the truth's lesions.
    pub(super) lesions: Vec<Noticed>,
    /// By number.
    pub(super) alerts: Vec<Alert>,
    /// Of frames with a lesion in view.
    pub(super) in_view: Share,
    /// Of the others.
    pub(super) out_of_view: Share,
}

impl Share {
    /// Of nothing there is none.
    pub(super) fn part(self) -> Option<f64> {
        (self.all > 0).then(|| self.alarmed as f64 / self.all as f64)
    }

    fn add(&mut self, is_alarmed: bool) {
        self.all += 1;
        self.alarmed += u64::from(is_alarmed);
    }
}

impl std::ops::AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.alarmed += other.alarmed;
        self.all += other.all;
    }
}

impl Alert {
    /// Whether it touches no lesion.
    pub(super) fn is_false(&self) -> bool {
        self.touched.is_empty()
    }
}

impl Measured {
    /// Alerts that touch no lesion.
    pub(super) fn false_alerts(&self) -> u64 {
        self.alerts.iter().filter(|alert| alert.is_false()).count() as u64
    }
}

/// Measures a clip by the frames shown, in their order.
pub(super) fn measure(frames: &[Shown], truth: &Truth) -> Measured {
    let alerts = alerts(frames, truth);
    let lesions = truth.lesions().iter().enumerate();
    let lesions = lesions.map(|(number, lesion)| {
        let found = alerts.iter().filter_map(|alert| {
            let touched = *alert.touched.get(&number)?;
            let told = frames[alert.told].number;
            (lesion.first..=lesion.last)
                .contains(&told)
                .then_some((touched, alert.id))
        });
        let begin = time_of(frames, lesion.first);
        let by = found.min().map(|(touched, id)| {
            let passed = frames[touched].time.saturating_sub(begin);
            (id, passed)
        });
        Noticed { by }
    });
    let (mut in_view, mut out_of_view) = (Share::default(), Share::default());
    for frame in frames {
        let is_alarmed = frame.record.as_ref().is_some_and(|record| record.anomalous);
        match truth.in_view(frame.number).next() {
            Some(_) => in_view.add(is_alarmed),
            None => out_of_view.add(is_alarmed),
        }
    }
    Measured {
        minutes: minutes(frames),
        lesions: lesions.collect(),
        alerts,
        in_view,
        out_of_view,
    }
}

/// From the first frame's begin to the last one's end.
fn minutes(frames: &[Shown]) -> f64 {
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
        return 0.0;
    };
    let between = frames.len().saturating_sub(1).max(1) as f64;
    last.time.saturating_sub(first.time) as f64 / MINUTE * frames.len() as f64 / between
}

/// The time of the frame of that number, or of the next one that is there.
fn time_of(frames: &[Shown], number: u64) -> u64 {
    let at = frames.partition_point(|frame| frame.number < number);
    frames
        .get(at)
        .or(frames.last())
        .map_or(0, |frame| frame.time)
}

fn alerts(frames: &[Shown], truth: &Truth) -> Vec<Alert> {
    let mut alerts = BTreeMap::<u64, Alert>::new();
    for (at, frame) in frames.iter().enumerate() {
        let Some(record) = &frame.record else {
            continue;
        };
        let measured = measured_frame(frames, frame.time, record.age);
        for id in numbers(record) {
            let alert = alerts.entry(id).or_insert_with(|| Alert {
                id,
                told: at,
                last: at,
                touched: BTreeMap::new(),
            });
            alert.last = at;
            for lesion in truth.in_view(measured) {
                if touches(record, id, truth, lesion, measured) {
                    alert.touched.entry(lesion).or_insert(at);
                }
            }
        }
    }
    alerts.into_values().collect()
}

/// The events that a frame carries.
pub(super) fn numbers(record: &Record) -> BTreeSet<u64> {
    let regions = record.regions.iter().filter_map(|region| region.event_id);
    regions.chain(record.event_id).collect()
}

fn touches(record: &Record, id: u64, truth: &Truth, lesion: usize, frame: u64) -> bool {
    let size = (record.width, record.height);
    if truth.holds(lesion, frame, [0.0; 2], size).is_none() {
        return true;
    }
    let own = record
        .regions
        .iter()
        .filter(|region| region.event_id == Some(id));
    own.into_iter()
        .any(|region| truth.holds(lesion, frame, region.centroid, size) == Some(true))
}

/// Number of the frame that was measured, `age` before `time`.
fn measured_frame(frames: &[Shown], time: u64, age: u64) -> u64 {
    let then = time.saturating_sub(age);
    let at = frames.partition_point(|frame| frame.time <= then);
    frames
        .get(at.saturating_sub(1))
        .map_or(0, |frame| frame.number)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use acdclip_model::map::Region;

    use super::*;
    use crate::eval_video::clips::Lesion;

    /// 25 frames a second.
    const FRAME: u64 = 40_000_000;

    /// A frame whose events have their centroids there; `x` is also the score in thousandths.
    pub(crate) fn shown(number: u64, events: &[(u64, [f32; 2])]) -> Shown {
        let region = |(id, centroid): &(u64, [f32; 2])| Region {
            x: centroid[0] as u32,
            y: centroid[1] as u32,
            w: 1,
            h: 1,
            score: 0.9,
            area: 1,
            centroid: *centroid,
            event_id: Some(*id),
            place: None,
        };
        Shown {
            number,
            time: number * FRAME,
            record: Some(Record {
                frame: number,
                score: if events.is_empty() { 0.1 } else { 0.9 },
                anomalous: !events.is_empty(),
                event_id: events.iter().map(|(id, _)| *id).min(),
                width: 100,
                height: 100,
                regions: events.iter().map(region).collect(),
                ..Record::default()
            }),
        }
    }

    pub(crate) fn lesion(first: u64, last: u64, at: Option<[f64; 4]>) -> Lesion {
        Lesion {
            id: format!("{first}-{last}"),
            first,
            last,
            boxes: at.map(|at| (first, at)).into_iter().collect(),
        }
    }

    const ON: [f32; 2] = [15.0, 15.0];
    const OFF: [f32; 2] = [60.0, 60.0];
    const HERE: Option<[f64; 4]> = Some([10.0, 10.0, 10.0, 10.0]);

    /// Frames 0 to 49 with these events: number, first and last frame, centroid.
    fn film(events: &[(u64, u64, u64, [f32; 2])]) -> Vec<Shown> {
        let of = |frame: u64| {
            let there = events
                .iter()
                .filter(|(_, first, last, _)| (*first..=*last).contains(&frame));
            there.map(|(id, _, _, at)| (*id, *at)).collect::<Vec<_>>()
        };
        (0..50).map(|frame| shown(frame, &of(frame))).collect()
    }

    #[test]
    fn a_lesion_is_found_when_an_alert_of_its_time_first_touches_it() {
        let truth = Truth::of(vec![lesion(10, 29, HERE), lesion(35, 44, HERE)]);
        // Beside it from 12 on, on it from 20 on; the second lesion has nothing.
        let frames = film(&[(1, 12, 19, OFF), (1, 20, 25, ON)]);
        let measured = measure(&frames, &truth);
        assert_eq!(measured.lesions[0].by, Some((1, 10 * FRAME)));
        assert_eq!(measured.lesions[1].by, None);
        assert_eq!(measured.false_alerts(), 0);
        assert_eq!((measured.alerts[0].told, measured.alerts[0].last), (12, 25));
        assert_eq!(
            measured.in_view,
            Share {
                alarmed: 14,
                all: 30
            }
        );
        assert_eq!(
            measured.out_of_view,
            Share {
                alarmed: 0,
                all: 20
            }
        );
        assert!((measured.minutes - 50.0 / 25.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn an_alert_that_touches_nothing_is_false_and_one_that_began_too_early_finds_nothing() {
        let truth = Truth::of(vec![lesion(10, 29, HERE)]);
        let frames = film(&[(1, 2, 5, ON), (2, 8, 15, ON), (3, 20, 22, OFF)]);
        let measured = measure(&frames, &truth);
        let false_ones = measured.alerts.iter().filter(|alert| alert.is_false());
        assert_eq!(false_ones.map(|alert| alert.id).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(measured.lesions[0].by, None);
        // A later one of its own time finds it all the same.
        let frames = film(&[(2, 8, 15, ON), (3, 18, 20, ON)]);
        assert_eq!(measure(&frames, &truth).lesions[0].by, Some((3, 8 * FRAME)));
    }

    #[test]
    fn where_nobody_says_where_a_lesion_is_its_time_decides() {
        let truth = Truth::of(vec![lesion(10, 29, None)]);
        let measured = measure(&film(&[(1, 14, 15, OFF), (2, 40, 41, OFF)]), &truth);
        assert_eq!(measured.lesions[0].by, Some((1, 4 * FRAME)));
        assert_eq!(measured.false_alerts(), 1);
    }

    #[test]
    fn a_late_result_is_compared_with_the_frame_that_was_measured() {
        let truth = Truth::of(vec![lesion(10, 12, HERE)]);
        let mut frames = film(&[]);
        // Measured on frame 12, shown on frame 14, when the lesion is out of view.
        frames[14] = shown(14, &[(1, ON)]);
        let record = frames[14].record.as_mut().unwrap();
        record.age = 2 * FRAME;
        let measured = measure(&frames, &truth);
        assert_eq!(measured.false_alerts(), 0, "it touched the lesion");
        assert_eq!(measured.lesions[0].by, None, "and was told too late");
    }

    #[test]
    fn two_lesions_at_a_time_are_told_apart_by_their_places() {
        let there = Some([55.0, 55.0, 10.0, 10.0]);
        let truth = Truth::of(vec![lesion(10, 29, HERE), lesion(10, 29, there)]);
        let measured = measure(&film(&[(1, 11, 20, OFF), (2, 15, 20, ON)]), &truth);
        assert_eq!(measured.lesions[0].by, Some((2, 5 * FRAME)));
        assert_eq!(measured.lesions[1].by, Some((1, FRAME)));
    }

    #[test]
    fn a_clip_without_frames_or_with_one_is_no_trouble() {
        let truth = Truth::of(vec![lesion(0, 0, HERE)]);
        assert_eq!(measure(&[], &truth).lesions[0].by, None);
        let one = measure(&[shown(0, &[(1, ON)])], &truth);
        assert_eq!((one.lesions[0].by, one.minutes), (Some((1, 0)), 0.0));
    }
}
