//! From what the network found to what is told of frames: smoothed over time, on the calibrated scale, as regions and events.

use std::time::Instant;

use acdclip_model::{
    calibration::Scales,
    map::{AnomalyMap, Region},
    record::Record,
    stream::{
        alarm::Levels,
        events::{Event, EventTracker, Moment, Passage, Rules},
        smooth::Smoother,
    },
};

use super::look::{Scored, Times};
use crate::{
    patch_map::PatchMap,
    profile::{self, Settings},
    rect::Rect,
};

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
    /// Regions, and the threshold and smallest area that they were found with.
    found: Option<(f32, u64, Vec<Region>)>,
    /// What the passage was judged by.
    judged_by: Option<(Rules, Levels, u64)>,
    passage: Passage,
}

/// What is known over time. Belongs to the streaming thread.
#[derive(Default)]
pub(super) struct Judge {
    smoother: Smoother,
    events: EventTracker,
    last: Option<Measured>,
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
        let time = match scored.pts {
            Some(pts) => pts.nseconds(),
            None => {
                let (frame, time) = self.clock;
                let duration = scored.duration.map_or(0, gst::ClockTime::nseconds);
                let frames = scored.frame.saturating_sub(frame);
                time.saturating_add(duration.saturating_mul(frames))
            }
        };
        self.clock = (scored.frame, time);
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
            frame: scored.frame,
            came: Some(scored.came),
            times: scored.times,
            pts: scored.pts,
            time,
            size: scored.size,
            score,
            raw_score: finding.score,
            class_score: finding.class_score,
            map_max: finding.map_max,
            calibrated: scales.is_some(),
            found: None,
            judged_by: None,
            passage: Passage::default(),
        };
        let at = Moment {
            pts: scored.pts.map(gst::ClockTime::nseconds),
            time,
            frame: scored.frame,
            score,
        };
        let events = measured.judge(at, &mut self.events, settings);
        self.last = Some(measured);
        events
    }

    /// The newest result is taken to hold for a later frame, too: what began or ended with that, by the settings of now.
    pub(super) fn carry_on(
        &mut self,
        frame: u64,
        buffer: &gst::BufferRef,
        settings: &Settings,
    ) -> Vec<Event> {
        let Some(last) = &mut self.last else {
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
        let Some(last) = &mut self.last else {
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
    pub(super) fn age(&self, frame: u64, buffer: &gst::BufferRef) -> u64 {
        match (self.pts, buffer.pts()) {
            (Some(then), Some(now)) => then.nseconds().abs_diff(now.nseconds()),
            _ => {
                let duration = buffer.duration().map_or(0, gst::ClockTime::nseconds);
                duration.saturating_mul(frame.saturating_sub(self.frame))
            }
        }
    }
}
