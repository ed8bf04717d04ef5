//! Frames that are pieces of one strip: held back until their lines have settled, then told of with the flaws that they show.
//!
//! A flaw is an event of the strip, not of time: it begins with the frame in which it has become one, and has its peak and end when no line
//! can add to it. Belongs to the streaming thread.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use acdclip_model::{
    Frame,
    calibration::Scales,
    detector::Finding,
    map::{AnomalyMap, Region},
    record::Record,
    stream::{
        events::{Event, EventKind, Moment},
        flaws::{Change, Flaw, Rules},
        place::Break,
        scan::{FrameLines, Plan, Scan},
        strip::Sight,
    },
};

use super::{
    counter::Reading,
    look::{Look, Times},
};
use crate::{
    batch::Failure,
    patch_map::PatchMap,
    profile::{AutoMask, Encoder, Settings},
};

/// What is kept of a frame until its lines have settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// All of it: it leaves then.
    Frames,
    /// Its times: it has gone on.
    Times,
}

impl Keeping {
    fn kept(self, buffer: &gst::Buffer) -> gst::Buffer {
        match self {
            Self::Frames => buffer.clone(),
            Self::Times => {
                let mut times = gst::Buffer::new();
                let of = times.make_mut();
                of.set_pts(buffer.pts());
                of.set_duration(buffer.duration());
                times
            }
        }
    }
}

/// A frame that waits.
struct Held {
    buffer: gst::Buffer,
    frame: u64,
    lines: FrameLines,
    /// Events that came before it, after the frame before.
    before: Vec<gst::Event>,
}

/// What frames and flaws are judged by, as settings and calibration say.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    scales: Option<Scales>,
    rules: Rules,
    threshold: f32,
    map_threshold: f32,
}

impl Terms {
    pub(super) fn new(settings: &Settings, scales: Option<Scales>) -> Self {
        Self {
            scales,
            rules: Rules {
                levels: settings.pixel_levels(),
                min_area: settings.min_area,
                gap: settings.merge_distance,
            },
            threshold: settings.score_threshold(),
            map_threshold: settings.pixel_threshold(),
        }
    }
}

/// A frame that may leave, and what is known of it.
pub(super) struct Departure {
    pub(super) buffer: gst::Buffer,
    /// None where it could not be looked at.
    pub(super) known: Option<(Record, PatchMap)>,
    pub(super) events: Vec<Event>,
    /// What goes before it.
    pub(super) before: Vec<gst::Event>,
}

impl Departure {
    /// A frame of which nothing is known.
    pub(super) fn unknown(buffer: gst::Buffer) -> Self {
        Self {
            buffer,
            known: None,
            events: Vec::new(),
            before: Vec::new(),
        }
    }

    /// What looking at it has cost.
    pub(super) fn cost(&self) -> Duration {
        let known = self.known.as_ref();
        known.map_or(Duration::ZERO, |(record, _)| {
            Duration::from_micros(record.latency_us)
        })
    }
}

/// A break in the strip, before a line.
pub(super) type Seam = (u64, Break);

/// What came of a frame, or of the strip's end.
#[derive(Default)]
pub(super) struct Progress {
    /// Frames that may leave now, in order.
    pub(super) departures: Vec<Departure>,
    /// What follows the last of them.
    pub(super) after: Vec<gst::Event>,
    /// Where the strip was broken.
    pub(super) seams: Vec<Seam>,
    /// Events that no frame brought about.
    pub(super) events: Vec<Event>,
    /// Why lines could not be looked at. Frames that waited are among the departures, and nothing is known of them.
    pub(super) failure: Option<Failure>,
    /// What looking took, where there was something to look at.
    pub(super) seen: Option<Times>,
    /// What judging took.
    pub(super) judged: Duration,
    /// Tiles that the network took at once, of the last row.
    pub(super) batch: usize,
    /// Flaws so far, those of strips before this one included.
    pub(super) flaws: u64,
    /// Lines so far.
    pub(super) lines: u64,
}

/// One strip, and the frames of it that have not left.
pub(super) struct StripRun {
    look: Arc<Look>,
    encoder: Encoder,
    scan: Scan,
    held: VecDeque<Held>,
    /// Events that came after the last of them.
    after: Vec<gst::Event>,
    /// What rows of tiles have cost since the last frame left, and how many tiles the network took at once of the last.
    times: Times,
    batch: usize,
    /// Flaws of strips before this one, after which its own are numbered.
    flaws_before: u64,
    keeping: Keeping,
    /// Number of the newest frame.
    last_frame: u64,
    /// Where flaws that are told of began, until they end.
    begun: BTreeMap<u64, Moment>,
    model: String,
}

impl StripRun {
    /// A strip that is looked at as `look` says.
    pub(super) fn new(
        look: Arc<Look>,
        keeping: Keeping,
        flaws_before: u64,
        settings: &Settings,
    ) -> acdclip_model::Result<Self> {
        let area = look.area();
        let viewer = look.viewer();
        let detector = viewer.line.engine().detector();
        let plan = Plan {
            tiles: viewer.tiles(settings.tiles(), area.w as usize)?,
            patches: detector.patches(),
            kind: detector.map_values(),
            line_advance: settings.line_advance as usize,
            finds_edges: settings.auto_mask == AutoMask::Strip,
            cover: look.columns(),
            pitch: settings.pitch(),
        };
        Ok(Self {
            model: detector.short_hash().to_owned(),
            look,
            encoder: settings.encoder,
            scan: Scan::new(plan),
            held: VecDeque::new(),
            after: Vec::new(),
            times: Times::default(),
            batch: 1,
            flaws_before,
            keeping,
            last_frame: 0,
            begun: BTreeMap::new(),
        })
    }

    /// Takes a frame, and lets those leave whose lines have settled. Where it is not to be looked at, all leave.
    pub(super) fn take(
        &mut self,
        buffer: gst::Buffer,
        frame: u64,
        looks: bool,
        terms: Terms,
    ) -> Progress {
        let mut progress = Progress::default();
        match self.push(&buffer, frame) {
            Ok(seams) => {
                progress.seams = seams;
                if looks {
                    self.proceed(terms, &mut progress);
                } else {
                    self.give_up(&mut progress);
                }
            }
            Err(e) => {
                self.fail(e, &mut progress);
                progress.departures.push(Departure {
                    before: std::mem::take(&mut progress.after),
                    ..Departure::unknown(buffer)
                });
            }
        }
        self.count(&mut progress);
        progress
    }

    /// No frame of the strip follows: all that wait leave.
    pub(super) fn end(&mut self, terms: Terms) -> Progress {
        let mut progress = Progress::default();
        self.scan.end();
        self.proceed(terms, &mut progress);
        self.give_up(&mut progress);
        self.count(&mut progress);
        progress
    }

    /// The strip is forgotten. All that wait leave, and nothing is known of them.
    pub(super) fn discard(&mut self) -> Progress {
        let mut progress = Progress::default();
        self.give_up(&mut progress);
        self.count(&mut progress);
        progress
    }

    /// Frames have passed that were not taken: their lines are missing.
    pub(super) fn miss(&mut self, frames: usize) {
        self.scan.miss(frames);
    }

    fn count(&self, progress: &mut Progress) {
        progress.batch = self.batch;
        progress.flaws = self.flaws_before + self.scan.flaw_count();
        progress.lines = self.scan.lines();
    }

    /// Takes a frame; says where it breaks the strip.
    fn push(&mut self, buffer: &gst::Buffer, frame: u64) -> acdclip_model::Result<Vec<Seam>> {
        let (picture, last) = (self.look.picture(), self.scan.last_counter());
        let reading = Reading::new(self.encoder, buffer, picture, last)?;
        let scan = &mut self.scan;
        let push = |frame: &Frame<'_>| scan.push(frame, reading.counters());
        let lines = self.look.with_frame(buffer, push)?;
        // A stream begins, which is no news.
        let is_news = |(_, why): &&Seam| !matches!(why, Break::Start);
        let seams = lines.breaks.iter().filter(is_news).copied().collect();
        self.last_frame = frame;
        self.held.push_back(Held {
            buffer: self.keeping.kept(buffer),
            frame,
            lines,
            before: std::mem::take(&mut self.after),
        });
        Ok(seams)
    }

    /// Has the network look at what is due, and lets those frames leave whose lines have settled.
    fn proceed(&mut self, terms: Terms, progress: &mut Progress) {
        match self.see() {
            Ok(times) => progress.seen = times,
            Err(Failure::Cancelled) => progress.failure = Some(Failure::Cancelled),
            Err(Failure::Failed(e)) => {
                self.give_up(progress);
                progress.failure = Some(Failure::Failed(e));
                return;
            }
        }
        let begun = Instant::now();
        while let Some(held) = self.settled() {
            match self.depart(held, terms) {
                Ok(departure) => progress.departures.push(departure),
                Err(e) => return self.fail(e, progress),
            }
        }
        progress.judged = begun.elapsed();
    }

    /// Has the network look at all that is due; says what that took, if there was something.
    fn see(&mut self) -> Result<Option<Times>, Failure> {
        let failed = |e: acdclip_model::Error| Failure::Failed(e.to_string());
        let mut sum: Option<Times> = None;
        while let Some(due) = self.scan.due().map_err(failed)? {
            let seen = self
                .look
                .viewer()
                .see(&self.scan.views(&due).map_err(failed)?)?;
            self.scan.take(due, &seen.findings);
            self.batch = seen.batch;
            self.times = self.times.and(seen.times);
            sum = Some(sum.unwrap_or_default().and(seen.times));
        }
        Ok(sum)
    }

    /// The oldest frame that waits, if all of its lines have settled.
    fn settled(&mut self) -> Option<Held> {
        let settled = self.scan.settled();
        let front = self.held.front();
        front.filter(|held| held.lines.new.end <= settled)?;
        self.held.pop_front()
    }

    fn fail(&mut self, e: acdclip_model::Error, progress: &mut Progress) {
        self.give_up(progress);
        progress.failure = Some(Failure::Failed(e.to_string()));
    }

    /// Lets all that wait leave as it came: nothing is known of it, and what follows is not glued to what was seen. Every flaw that is open ends.
    fn give_up(&mut self, progress: &mut Progress) {
        self.scan.abandon();
        let held = self.held.drain(..);
        progress.departures.extend(held.map(|held| Departure {
            before: held.before,
            ..Departure::unknown(held.buffer)
        }));
        progress.after.append(&mut self.after);
        let change = self.scan.finish();
        let at = Moment {
            time: 0,
            pts: None,
            frame: self.last_frame,
            score: 0.0,
        };
        let events = self.events(change, at, self.scan.lines());
        progress.events.extend(events);
    }

    /// Lets an event wait with the frames that came before it; gives it back where none waits.
    pub(super) fn hold_event(&mut self, event: gst::Event) -> Option<gst::Event> {
        if self.held.is_empty() {
            return Some(event);
        }
        self.after.push(event);
        None
    }

    fn depart(&mut self, held: Held, terms: Terms) -> acdclip_model::Result<Departure> {
        let map_scale = terms.scales.map(|scales| scales.map);
        let end = held.lines.new.end;
        let change = self.scan.follow(end, map_scale, &terms.rules)?;
        let moment = Moment {
            time: held.buffer.pts().map_or(0, gst::ClockTime::nseconds),
            pts: held.buffer.pts().map(gst::ClockTime::nseconds),
            frame: held.frame,
            score: 0.0,
        };
        let events = self.events(change, moment, end);
        // Of a frame that shows only lines from before a failure nothing is known.
        let sight = self.scan.sight(&held.lines).ok();
        let known = sight.map(|sight| self.known(&held, sight, terms));
        let next = self.held.front().map(|next| next.lines.first());
        self.scan.forget(next.unwrap_or(end));
        Ok(Departure {
            buffer: held.buffer,
            known,
            events,
            before: held.before,
        })
    }

    fn known(&mut self, held: &Held, sight: Sight, terms: Terms) -> (Record, PatchMap) {
        let viewer = self.look.viewer();
        let detector = viewer.line.engine().detector();
        // By the frame's own lines: a flaw that lies beside them in a tile is none of theirs.
        let finding = detector.judge(sight.map, sight.class_score, viewer.domain);
        let map = match terms.scales {
            Some(scales) => finding.map.clone().calibrated(scales.map),
            None => finding.map.clone(),
        };
        let patches = PatchMap::encode(&map, self.look.area());
        let regions = self.regions(&map, &held.lines, &terms.rules);
        let record = self.record(held, &finding, regions, terms);
        (record, patches)
    }

    /// What of the frame is at or above the release threshold and part of a flaw, or at or above the threshold; the largest score first.
    fn regions(&self, map: &AnomalyMap, lines: &FrameLines, rules: &Rules) -> Vec<Region> {
        let area = self.look.area();
        let found = map.regions(
            rules.levels.release.min(rules.levels.raise),
            0,
            area.w,
            area.h,
        );
        let placed = found.into_iter().filter_map(|region| {
            let row = |y: u32| lines.line(y as usize);
            let (first, last) = (row(region.y)?, row(region.y + region.h - 1)?);
            let (first, last) = (first.min(last), first.max(last));
            let columns = (region.x, region.x + region.w);
            let event_id = self
                .scan
                .flaw_at(columns, (first, last + 1))
                .map(|id| self.flaws_before + id);
            let counts = region.score >= rules.levels.raise && region.area >= rules.min_area;
            (event_id.is_some() || counts).then(|| Region {
                x: region.x + area.x,
                y: region.y + area.y,
                centroid: [
                    region.centroid[0] + area.x as f32,
                    region.centroid[1] + area.y as f32,
                ],
                event_id,
                place: Some(self.scan.place((columns.0, columns.1 - 1), (first, last))),
                ..region
            })
        });
        placed.collect()
    }

    fn record(
        &mut self,
        held: &Held,
        finding: &Finding,
        regions: Vec<Region>,
        terms: Terms,
    ) -> Record {
        let scales = terms.scales;
        let (width, height) = self.look.picture().size();
        let event_id = regions.iter().filter_map(|region| region.event_id).min();
        let times = std::mem::take(&mut self.times);
        Record {
            pts: held.buffer.pts().map(gst::ClockTime::nseconds),
            frame: held.frame,
            score: scales.map_or(finding.score, |scales| {
                scales.score.calibrate(finding.score)
            }),
            raw_score: finding.score,
            calibrated: scales.is_some(),
            class_score: finding.class_score,
            map_max: finding.map_max,
            threshold: terms.threshold,
            map_threshold: terms.map_threshold,
            anomalous: event_id.is_some(),
            event_id,
            age: 0,
            width,
            height,
            regions,
            model: self.model.clone(),
            latency_us: times.whole.as_micros() as u64,
            quality: None,
        }
    }

    fn events(&mut self, change: Change, at: Moment, end: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for flaw in &change.begun {
            self.begun.insert(flaw.id, at);
            events.push(self.event(EventKind::Begin, flaw, at, end));
        }
        for (younger, older) in &change.joined {
            // It goes on under the other's number.
            let since = self.begun.remove(younger).unwrap_or(at);
            if let Some(first) = self.begun.get_mut(older) {
                first.frame = first.frame.min(since.frame);
            }
            events.push(Event {
                kind: EventKind::End,
                id: self.flaws_before + younger,
                at,
                frames: at.frame - since.frame + 1,
                region: None,
                since: since.pts,
            });
        }
        for flaw in &change.ended {
            for kind in [EventKind::Peak, EventKind::End] {
                events.push(self.event(kind, flaw, at, end));
            }
            self.begun.remove(&flaw.id);
        }
        events
    }

    /// An event about a flaw, told with the frame whose lines end before line `end`.
    fn event(&self, kind: EventKind, flaw: &Flaw, at: Moment, end: u64) -> Event {
        let since = self.begun.get(&flaw.id).copied().unwrap_or(at);
        let area = self.look.area();
        let top = end.saturating_sub(u64::from(area.h));
        let region = Region {
            x: area.x + flaw.left,
            // What lies above the frame begins at its first row.
            y: area.y + flaw.first.saturating_sub(top).min(u64::from(area.h - 1)) as u32,
            w: flaw.width(),
            h: flaw.length().min(u64::from(u32::MAX)) as u32,
            score: flaw.score,
            area: flaw.area,
            centroid: [
                (area.x + flaw.worst.0) as f32,
                area.y as f32 + flaw.worst.1.saturating_sub(top) as f32,
            ],
            event_id: Some(self.flaws_before + flaw.id),
            place: Some(self.scan.place_of(flaw)),
        };
        Event {
            kind,
            id: self.flaws_before + flaw.id,
            at: Moment {
                score: flaw.score,
                ..at
            },
            frames: at.frame - since.frame + 1,
            region: Some(region),
            since: since.pts,
        }
    }
}
