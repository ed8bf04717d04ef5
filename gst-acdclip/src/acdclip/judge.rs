//! From what the network found to what is told of frames: smoothed over time, on the calibrated scale, as regions and events.

use std::time::Instant;

use acdclip_model::{
    calibration::Scales,
    endoscope::quality::Quality,
    map::{AnomalyMap, Region},
    record::Record,
    stream::{
        alarm::Levels,
        events::{Event, EventTracker, Moment, Passage, Rules},
        smooth::Smoother,
    },
};

use super::look::{self, Scored, Times};
use crate::{
    patch_map::PatchMap,
    profile::{self, Settings},
    rect::Rect,
};

/// Frames in which nothing can be seen leave an alarm as it is for so long, nanoseconds; then they clear it as normal ones do.
const ALARM_STANDS: u64 = 1_000_000_000;

/// The newest result, and what it means.
pub(super) struct Measured {
    /// The map as frames carry it.
    pub(super) patches: PatchMap,
    /// The map of `area`, smoothed and calibrated.
    map: AnomalyMap,
    /// The part of the frame that was looked at.
    area: Rect,
    /// Number of the frame that was measured.
    frame: u64,
    /// When it came, until something of it is shown.
    came: Option<Instant>,
    times: Times,
    pts: Option<gst::ClockTime>,
    /// Stream time for durations, nanoseconds.
    time: u64,
    size: (u32, u32),
    score: f32,
    raw_score: f32,
    class_score: f32,
    map_max: f32,
    calibrated: bool,
    quality: Option<Quality>,
    /// Regions, and the threshold and smallest area that they were found with.
    found: Option<(f32, u64, Vec<Region>)>,
    /// What the passage was judged by.
    judged_by: Option<(Rules, Levels, u64)>,
    passage: Passage,
}

/// A frame in which nothing can be seen.
struct Poor {
    quality: Quality,
    frame: u64,
    pts: Option<gst::ClockTime>,
    size: (u32, u32),
    /// Stream time of the first one since a good one, nanoseconds.
    since: u64,
}

/// What a frame carries.
pub(super) struct Shown {
    pub(super) record: Record,
    pub(super) map: Option<PatchMap>,
    /// Nanoseconds since the newest frame that was looked at.
    pub(super) age: u64,
}

/// What is known over time. Belongs to the streaming thread.
#[derive(Default)]
pub(super) struct Judge {
    smoother: Smoother,
    events: EventTracker,
    last: Option<Measured>,
    /// The newest frame, where nothing can be seen in it.
    poor: Option<Poor>,
    /// Number and stream time of the newest frame that was measured, for one without a time of its own.
    clock: (u64, u64),
}

impl Judge {
    /// Takes a result; says what events it began or ended.
    pub(super) fn take(
        &mut self,
        scored: Scored,
        scales: Option<Scales>,
        settings: &Settings,
    ) -> Vec<Event> {
        let moment = scored.moment;
        let time = self.time(&moment);
        self.poor = None;
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.area != scored.area)
        {
            self.smoother.forget_map();
        }
        if let Some(shift) = moment.shift {
            self.events.shift(shift);
        }
        let finding = scored.finding;
        let mut map = finding.map;
        let kind = map.kind();
        let score = self.smoother.push(
            time,
            profile::nanoseconds(settings.smoothing),
            finding.score,
            map.values_mut(),
            kind,
        );
        let (score, map) = match scales {
            Some(scales) => (scales.score.calibrate(score), map.calibrated(scales.map)),
            None => (score, map),
        };
        let mut measured = Measured {
            patches: PatchMap::encode(&map, scored.area),
            map,
            area: scored.area,
            frame: moment.frame,
            came: Some(moment.came),
            times: scored.times,
            pts: moment.pts,
            time,
            size: moment.size,
            score,
            raw_score: finding.score,
            class_score: finding.class_score,
            map_max: finding.map_max,
            calibrated: scales.is_some(),
            quality: moment.quality,
            found: None,
            judged_by: None,
            passage: Passage::default(),
        };
        let at = Moment {
            pts: moment.pts.map(gst::ClockTime::nseconds),
            time,
            frame: moment.frame,
            score,
        };
        let events = measured.judge(at, &mut self.events, settings);
        self.last = Some(measured);
        events
    }

    /// Takes a frame in which nothing can be seen. The last result is held, and raises nothing; says what events ended after a second of such
    /// frames.
    pub(super) fn hold(&mut self, moment: look::Moment, settings: &Settings) -> Vec<Event> {
        let time = self.time(&moment);
        let since = self.poor.as_ref().map_or(time, |poor| poor.since);
        self.poor = Some(Poor {
            quality: moment.quality.unwrap_or_default(),
            frame: moment.frame,
            pts: moment.pts,
            size: moment.size,
            since,
        });
        if let Some(shift) = moment.shift {
            self.events.shift(shift);
        }
        let Some(last) = &mut self.last else {
            return Vec::new();
        };
        if time.saturating_sub(since) < ALARM_STANDS {
            return Vec::new();
        }
        let at = Moment {
            pts: moment.pts.map(gst::ClockTime::nseconds),
            time,
            frame: moment.frame,
            score: 0.0,
        };
        let mut passage = self
            .events
            .push(at, Vec::new(), Vec::new, &rules(settings).0);
        let events = std::mem::take(&mut passage.events);
        (last.passage.anomalous, last.passage.event_id) = (passage.anomalous, passage.event_id);
        events
    }

    /// Stream time of a frame, nanoseconds; also for one without a time of its own.
    fn time(&mut self, moment: &look::Moment) -> u64 {
        let time = moment.pts.map_or_else(
            || {
                let (frame, time) = self.clock;
                let duration = moment.duration.map_or(0, gst::ClockTime::nseconds);
                let frames = moment.frame.saturating_sub(frame);
                time.saturating_add(duration.saturating_mul(frames))
            },
            gst::ClockTime::nseconds,
        );
        self.clock = (moment.frame, time);
        time
    }

    /// What `buffer`, the frame of that number, carries; none where nothing is known.
    pub(super) fn shown(
        &self,
        frame: u64,
        buffer: &gst::BufferRef,
        settings: &Settings,
        model: &str,
    ) -> Option<Shown> {
        let Some(poor) = &self.poor else {
            let last = self.last.as_ref()?;
            return Some(Shown {
                record: last.record(frame, buffer, settings, model),
                map: Some(last.patches.clone()),
                age: last.age(frame, buffer),
            });
        };
        let age = age((poor.frame, poor.pts), frame, buffer);
        let mut record = match &self.last {
            Some(last) => last.record(frame, buffer, settings, model),
            None => poor.record(frame, buffer, settings, (model, age)),
        };
        record.quality = Some(poor.quality.name().to_owned());
        // The view has moved since: what is old lies beside what it is about.
        let last = self.last.as_ref();
        let last = last.filter(|_| record.age <= profile::nanoseconds(settings.max_age));
        if last.is_none() {
            record.regions.clear();
        }
        Some(Shown {
            record,
            map: last.map(|last| last.patches.clone()),
            age,
        })
    }

    /// The newest result is taken to hold for a later frame, too: what began or ended with that, by the settings of now.
    pub(super) fn carry_on(
        &mut self,
        frame: u64,
        buffer: &gst::BufferRef,
        settings: &Settings,
    ) -> Vec<Event> {
        let Some(last) = self.last.as_mut().filter(|_| self.poor.is_none()) else {
            return Vec::new();
        };
        let pts = buffer.pts().map(gst::ClockTime::nseconds);
        let at = Moment {
            pts,
            time: pts.unwrap_or(last.time + last.age(frame, buffer)),
            frame,
            score: last.score,
        };
        last.judge(at, &mut self.events, settings)
    }

    /// Judges the newest result anew where the settings that decide have changed.
    pub(super) fn follow(&mut self, settings: &Settings) -> Vec<Event> {
        let Some(last) = self.last.as_mut().filter(|_| self.poor.is_none()) else {
            return Vec::new();
        };
        if last.judged_by == Some(rules(settings)) {
            return Vec::new();
        }
        let at = Moment {
            pts: last.pts.map(gst::ClockTime::nseconds),
            time: last.time,
            frame: last.frame,
            score: last.score,
        };
        last.judge(at, &mut self.events, settings)
    }

    /// When the frame came that the newest result was measured on, the first time that it is asked for.
    pub(super) fn first_shown(&mut self) -> Option<Instant> {
        self.last.as_mut()?.came.take()
    }

    /// The newest result.
    pub(super) fn last(&self) -> Option<&Measured> {
        self.last.as_ref()
    }

    /// Events begun so far.
    pub(super) fn event_count(&self) -> u64 {
        self.events.count()
    }

    /// Forgets results, not events: what follows is no continuation of what was seen.
    pub(super) fn forget_results(&mut self) {
        self.last = None;
        self.poor = None;
        self.smoother.reset();
    }

    /// Ends every open event.
    pub(super) fn finish_events(&mut self) -> Vec<Event> {
        self.events.finish()
    }
}

/// All of the settings by which a result is judged.
fn rules(settings: &Settings) -> (Rules, Levels, u64) {
    let rules = Rules {
        score: settings.score_levels(),
        durations: settings.durations(),
    };
    (rules, settings.pixel_levels(), settings.min_area)
}

impl Measured {
    /// The map, smoothed and calibrated.
    pub(super) fn map(&self) -> &AnomalyMap {
        &self.map
    }

    /// The part of the frame that the map covers: x, y, width and height.
    pub(super) fn area(&self) -> [u32; 4] {
        let Rect { x, y, w, h } = self.area;
        [x, y, w, h]
    }

    fn judge(&mut self, at: Moment, events: &mut EventTracker, settings: &Settings) -> Vec<Event> {
        let judged_by = rules(settings);
        self.judged_by = Some(judged_by);
        let (rules, levels, _) = judged_by;
        let regions = self.found_regions(levels.raise, settings.min_area);
        let weak = || self.regions(levels.release.min(levels.raise), settings.min_area);
        let mut passage = events.push(at, regions, weak, &rules);
        let events = std::mem::take(&mut passage.events);
        self.passage = passage;
        events
    }

    /// Regions at or above a threshold, found anew only where it or the smallest area has changed.
    fn found_regions(&mut self, threshold: f32, min_area: u64) -> Vec<Region> {
        match &self.found {
            Some((with, area, regions)) if (*with, *area) == (threshold, min_area) => {
                regions.clone()
            }
            _ => {
                let regions = self.regions(threshold, min_area);
                self.found = Some((threshold, min_area, regions.clone()));
                regions
            }
        }
    }

    /// Regions of the frame at or above a threshold.
    fn regions(&self, threshold: f32, min_area: u64) -> Vec<Region> {
        let area = self.area;
        let mut regions = self.map.regions(threshold, min_area, area.w, area.h);
        for region in &mut regions {
            region.x += area.x;
            region.y += area.y;
            region.centroid[0] += area.x as f32;
            region.centroid[1] += area.y as f32;
        }
        regions
    }

    /// What is told of the measured frame itself.
    pub(super) fn own_record(&self, settings: &Settings, model: &str) -> Record {
        Record {
            pts: self.pts.map(gst::ClockTime::nseconds),
            frame: self.frame,
            score: self.score,
            raw_score: self.raw_score,
            calibrated: self.calibrated,
            class_score: self.class_score,
            map_max: self.map_max,
            threshold: settings.score_threshold(),
            map_threshold: settings.pixel_threshold(),
            anomalous: self.passage.anomalous,
            event_id: self.passage.event_id,
            age: 0,
            quality: self.quality.map(|quality| quality.name().to_owned()),
            width: self.size.0,
            height: self.size.1,
            regions: self.passage.regions.clone(),
            model: model.to_owned(),
            latency_us: self.times.whole.as_micros() as u64,
        }
    }

    /// What is told of the frame of that number.
    pub(super) fn record(
        &self,
        frame: u64,
        buffer: &gst::BufferRef,
        settings: &Settings,
        model: &str,
    ) -> Record {
        Record {
            pts: buffer.pts().map(gst::ClockTime::nseconds),
            frame,
            age: self.age(frame, buffer),
            ..self.own_record(settings, model)
        }
    }

    /// Nanoseconds from the measured frame to `buffer`, the frame of that number.
    fn age(&self, frame: u64, buffer: &gst::BufferRef) -> u64 {
        age((self.frame, self.pts), frame, buffer)
    }
}

impl Poor {
    /// What is told where no frame before it was good: a score of 0.
    fn record(
        &self,
        frame: u64,
        buffer: &gst::BufferRef,
        settings: &Settings,
        (model, age): (&str, u64),
    ) -> Record {
        Record {
            pts: buffer.pts().map(gst::ClockTime::nseconds),
            frame,
            threshold: settings.score_threshold(),
            map_threshold: settings.pixel_threshold(),
            age,
            width: self.size.0,
            height: self.size.1,
            model: model.to_owned(),
            ..Record::default()
        }
    }
}

/// Nanoseconds from the frame of a number and time to `buffer`, the frame of that number.
fn age((then, pts): (u64, Option<gst::ClockTime>), frame: u64, buffer: &gst::BufferRef) -> u64 {
    match (pts, buffer.pts()) {
        (Some(then), Some(now)) => then.nseconds().abs_diff(now.nseconds()),
        _ => {
            let duration = buffer.duration().map_or(0, gst::ClockTime::nseconds);
            duration.saturating_mul(frame.saturating_sub(then))
        }
    }
}
