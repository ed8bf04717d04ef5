//! One run of the element, from start to stop: which frames are scored, and what is told of each. Belongs to the streaming thread.

mod scan;

pub(super) use scan::Passage;
use scan::Scanning;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acdclip_model::{mask::Mask, record::Record, roi::Roi, stream::events::Event};

use super::{
    backoff::Backoff,
    judge::{Judge, Measured},
    latest::Latest,
    lines::JsonLines,
    look::{FRAME, Look, Manner, Seen, Shot},
    scope::{Scope, Watch},
    subject::Subject,
    tape::Tape,
    tiles::Viewer,
};
use crate::{
    batch::{Failure, Limits},
    patch_map::PatchMap,
    picture::Picture,
    profile::{self, Settings, TilingMode},
    stats::{Skipped, Stage, Stats},
};

/// Frames that the network takes at once where nobody says how many: a GPU is idle with one, a CPU is not.
const GPU_BATCH: usize = 8;

/// Tiles that the network takes at once where nobody says how many, on any device: they are there together.
const TILE_BATCH: usize = 8;

/// At the end of a stream the last frame's result is waited for this long, and for four times what a frame costs.
const LAST_RESULT: Duration = Duration::from_secs(2);

/// Where every frame is late, one is scored all the same after so long, in stream time: nothing is gained by knowing nothing.
const PATIENCE_WITH_LATE: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// What is scored beside the stream.
type Background = Latest<(Arc<Look>, Shot), Seen>;

/// Whether a frame is scored before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It is.
    Sync,
    /// It leaves at once.
    Latest,
}

/// What a frame's passage brought about, to be told outside.
#[derive(Default)]
pub(super) struct Outcome {
    /// What is known of the frame; none where nothing is, or nothing of late.
    pub(super) record: Option<Record>,
    /// The map that goes with it.
    pub(super) map: Option<PatchMap>,
    /// Events that began or ended.
    pub(super) events: Vec<Event>,
    /// What scoring cost, where a result came.
    pub(super) cost: Option<Duration>,
    /// Why a frame could not be scored.
    pub(super) failure: Option<Trouble>,
    /// Whether the wait for its score was ended from outside.
    pub(super) cancelled: bool,
    /// The first time that a result comes too late to be shown: its age.
    pub(super) too_old: Option<Duration>,
    /// When the frame came that the record was measured on, where this is the first one to show it.
    pub(super) measured_came: Option<Instant>,
}

/// A frame could not be scored.
pub(super) struct Trouble {
    pub(super) reason: String,
    /// How long nothing is tried.
    pub(super) wait: Duration,
}

/// One run of the element.
pub(super) struct Session {
    /// What frames are scored with and for.
    pub(super) subject: Subject,
    /// Where records are written.
    pub(super) lines: Option<JsonLines>,
    /// Counts and times.
    pub(super) stats: Stats,
    /// Where what is found is kept, if anywhere.
    pub(super) tape: Option<Tape>,
    picture: Option<Picture>,
    mask: Option<Arc<Mask>>,
    /// The settings that led to region of interest and mask.
    view: View,
    roi: Roi,
    look: Option<Arc<Look>>,
    /// What has been learnt of an endoscope's picture, whatever else changes.
    scope: Arc<Scope>,
    background: Option<Background>,
    judge: Judge,
    strip: Option<Scanning>,
    /// What was told of the newest frame of a strip whose lines have settled.
    settled: Option<(Record, PatchMap)>,
    /// Flaws of strips before this one.
    flaws_before: u64,
    backoff: Backoff,
    frames: u64,
    /// When the newest one came.
    came: Instant,
    /// Number and time of the newest frame that was scored or offered for scoring.
    chosen: Option<(u64, Option<gst::ClockTime>)>,
    /// How the last frame passed.
    pace: Option<Pace>,
    /// Whether it has been said that results come too late to be shown.
    told_of_age: bool,
}

/// Which part of the picture counts, as settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) roi: String,
    pub(super) mask: String,
    /// Of a strip columns alone are left out.
    pub(super) tiling: TilingMode,
}

impl View {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            roi: settings.roi.clone(),
            mask: settings.mask.clone(),
            tiling: settings.tiling,
        }
    }
}

impl Session {
    /// A run that scores with `subject`.
    pub(super) fn new(subject: Subject) -> Self {
        let mut session = Self {
            subject,
            lines: None,
            stats: Stats::default(),
            tape: None,
            picture: None,
            mask: None,
            view: View::default(),
            roi: Roi::Whole,
            look: None,
            scope: Arc::default(),
            background: None,
            judge: Judge::default(),
            strip: None,
            settled: None,
            flaws_before: 0,
            backoff: Backoff::default(),
            frames: 0,
            came: Instant::now(),
            chosen: None,
            pace: None,
            told_of_age: false,
        };
        session.name_subject();
        session
    }

    fn name_subject(&mut self) {
        let detector = self.subject.detector();
        self.stats.model = detector.short_hash().to_owned();
        self.stats.device = detector.device_name();
        self.stats.precision = detector.precision().to_string();
        self.stats.class = self.subject.class().to_owned();
    }

    /// The subject has changed: what was found before is no longer what would be found.
    pub(super) fn start_anew(&mut self) {
        self.name_subject();
        self.backoff.succeed();
        self.forget_results();
    }

    /// The next frame is scored, whatever the interval, and no result of one before it is heard of.
    pub(super) fn forget_results(&mut self) {
        self.look = None;
        self.chosen = None;
        self.judge.forget_results();
        if let Some(background) = &self.background {
            background.flush();
        }
    }

    /// What the caps say, of `gray_depth` bits where it is grey of 16.
    pub(super) fn set_picture(&mut self, picture: Picture, gray_depth: u32) {
        self.picture = Some(picture.with_gray_depth(gray_depth as u8));
        self.scope = Arc::default();
        self.forget_results();
    }

    /// Frames that a frame of a strip waits for at most; none where frames are no pieces of a strip, or the caps are not known.
    pub(super) fn frames_held(&mut self, settings: &Settings) -> usize {
        if settings.tiling != TilingMode::Scan {
            return 0;
        }
        let held = self.look(settings).ok().and_then(|look| {
            let area = look.area();
            let viewer = look.viewer();
            let tiles = viewer.tiles(settings.tiles(), area.w as usize).ok()?;
            let advance = match settings.line_advance {
                0 => area.h,
                advance => advance.min(area.h),
            };
            Some(
                viewer
                    .lattice_delay(tiles)
                    .div_ceil(advance.max(1) as usize),
            )
        });
        held.unwrap_or(0)
    }

    /// How long a frame of a strip waits for those after it at most.
    pub(super) fn hold(&mut self, settings: &Settings) -> Duration {
        let frames = u32::try_from(self.frames_held(settings)).unwrap_or(u32::MAX);
        let picture = self.picture.as_ref();
        let duration = picture.and_then(Picture::frame_duration).unwrap_or(FRAME);
        duration.saturating_mul(frames)
    }

    /// What the caps say; none before they are known.
    pub(super) fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// The settings that led to region of interest and mask.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Looks at that part of the picture from now on. An error leaves it as it was.
    pub(super) fn choose_view(&mut self, view: View) -> Result<(), String> {
        let roi = Roi::parse(&view.roi)?;
        if let Some(picture) = &self.picture {
            super::look::area(roi, view.tiling, picture)?;
        }
        if view.mask != self.view.mask {
            self.mask = super::mask::read(&view.mask)?;
        }
        (self.roi, self.view) = (roi, view);
        self.scope = Arc::default();
        self.forget_results();
        Ok(())
    }

    /// Ends every open event.
    pub(super) fn finish_events(&mut self) -> Vec<Event> {
        self.judge.finish_events()
    }

    /// The newest result, for drawing.
    pub(super) fn measured(&self) -> Option<&Measured> {
        self.judge.last()
    }

    /// A frame passes that is not shown, and not judged.
    pub(super) fn leave_out(&mut self) {
        self.next_frame();
        self.stats.skip(Skipped::Outside);
    }

    /// Scores `buffer` if it is its turn, and says what is known of it.
    pub(super) fn pass(
        &mut self,
        buffer: &gst::Buffer,
        settings: &Settings,
        pace: Pace,
        late: bool,
    ) -> Outcome {
        let frame = self.frames;
        self.frames += 1;
        self.came = Instant::now();
        self.stats.frame(late);
        if self.pace.replace(pace) != Some(pace)
            && let Some(background) = &self.background
        {
            // From when frames passed the other way.
            background.flush();
        }
        let mut outcome = Outcome::default();
        match pace {
            Pace::Sync => self.score_now(frame, buffer, settings, late, &mut outcome),
            Pace::Latest => self.score_beside(frame, buffer, settings, late, &mut outcome),
        }
        if outcome.failure.is_none() {
            self.show(frame, buffer, settings, pace, &mut outcome);
        }
        self.stats.events = self.judge.event_count();
        outcome
    }

    fn score_now(
        &mut self,
        frame: u64,
        buffer: &gst::Buffer,
        settings: &Settings,
        late: bool,
        outcome: &mut Outcome,
    ) {
        let late = late && settings.skip_late;
        if let Some(why) = self.reason_to_skip(frame, buffer, settings, late) {
            self.stats.skip(why);
            if let Some(tape) = &self.tape {
                tape.pass(frame, buffer);
            }
            outcome.events = self.judge.carry_on(frame, buffer, settings);
            return;
        }
        self.chosen = Some((frame, buffer.pts()));
        let result = self.look(settings).map_err(Failure::Failed);
        let shot = Shot {
            buffer: buffer.clone(),
            frame,
            came: self.came,
        };
        let result = result.and_then(|look| look.score(shot));
        self.take(result, settings, outcome);
    }

    fn score_beside(
        &mut self,
        frame: u64,
        buffer: &gst::Buffer,
        settings: &Settings,
        late: bool,
        outcome: &mut Outcome,
    ) {
        let result = self.background.as_ref().and_then(Latest::take);
        match result {
            Some(result) => self.take(result, settings, outcome),
            None => outcome.events = self.judge.follow(settings),
        }
        let why = self.reason_to_skip(frame, buffer, settings, late);
        let offered = match why {
            Some(why) => Ok(Some(why)),
            None => self.offer(frame, buffer, settings),
        };
        match offered {
            Ok(Some(why)) => self.stats.skip(why),
            Ok(None) => self.chosen = Some((frame, buffer.pts())),
            Err(e) => self.take(Err(Failure::Failed(e)), settings, outcome),
        }
    }

    fn reason_to_skip(
        &self,
        frame: u64,
        buffer: &gst::BufferRef,
        settings: &Settings,
        late: bool,
    ) -> Option<Skipped> {
        let interval = u64::from(settings.interval);
        let is_recent = |then: gst::ClockTime| {
            buffer
                .pts()
                .is_some_and(|now| now < then.saturating_add(PATIENCE_WITH_LATE))
        };
        let (last, time) = self.chosen.unzip();
        if last.is_some_and(|last| frame - last < interval) {
            Some(Skipped::Interval)
        } else if late && time.flatten().is_some_and(is_recent) {
            Some(Skipped::Late)
        } else if self.backoff.is_waiting(Instant::now()) {
            Some(Skipped::Failing)
        } else {
            None
        }
    }

    /// Offers a frame for scoring beside the stream, unless the frames before it are not done with.
    fn offer(
        &mut self,
        frame: u64,
        buffer: &gst::Buffer,
        settings: &Settings,
    ) -> Result<Option<Skipped>, String> {
        let look = self.look(settings)?;
        let background = match &mut self.background {
            Some(background) => background,
            none => none.insert(
                Latest::spawn(|(look, shot): (Arc<Look>, Shot)| look.score(shot))
                    .map_err(|e| format!("no thread could be had to score on: {e}"))?,
            ),
        };
        let duration = buffer.duration().map_or(FRAME, Duration::from);
        if !background.wants(duration * 2) {
            return Ok(Some(Skipped::Busy));
        }
        let shot = Shot {
            buffer: buffer.clone(),
            frame,
            came: self.came,
        };
        if background.offer((look, shot)) {
            self.stats.skip(Skipped::Busy);
        }
        Ok(None)
    }

    /// How frames are looked at now.
    fn look(&mut self, settings: &Settings) -> Result<Arc<Look>, String> {
        let limits = self.limits(settings);
        let watch = Watch::new(settings);
        let known = self.look.as_ref();
        let known = known.filter(|look| look.limits() == limits && look.watch() == watch);
        if let Some(look) = known {
            return Ok(look.clone());
        }
        let picture = self.picture.clone().ok_or("a frame came before its caps")?;
        let manner = Manner {
            resize: settings.resize.into(),
            roi: self.roi,
            mask: self.mask.clone(),
            tiling: settings.tiling,
            tiles: settings.tiles(),
            watch,
        };
        let viewer = Viewer {
            line: self.subject.line().clone(),
            text: self.subject.text().clone(),
            domain: settings.domain.into(),
            limits,
            tile_limits: Limits {
                max_batch: match settings.max_batch {
                    0 => TILE_BATCH,
                    n => n as usize,
                },
                ..limits
            },
        };
        let look = Look::new(viewer, picture, manner, self.scope.clone())?;
        Ok(self.look.insert(Arc::new(look)).clone())
    }

    fn limits(&self, settings: &Settings) -> Limits {
        let on_cpu = self.subject.detector().is_on_cpu();
        Limits {
            max_batch: match settings.max_batch {
                0 if on_cpu => 1,
                0 => GPU_BATCH,
                n => n as usize,
            },
            timeout: Duration::from_millis(settings.batch_timeout.into()),
        }
    }

    fn take(&mut self, result: Result<Seen, Failure>, settings: &Settings, outcome: &mut Outcome) {
        let scales = self.subject.scales();
        if let (Ok(seen), Some(tape)) = (&result, &self.tape) {
            tape.push(self.subject.detector().short_hash(), seen, scales);
        }
        match result {
            Ok(Seen::Scored(scored)) => {
                let start = Instant::now();
                let times = scored.times;
                self.stats.score(times.whole, scored.batch);
                self.stats.time(Stage::Prepare, times.prepare);
                self.stats.time(Stage::Queue, times.queue);
                self.stats.time(Stage::Network, times.network);
                self.backoff.succeed();
                outcome.cost = Some(times.whole);
                let events = self.judge.take(*scored, scales, settings);
                outcome.events.extend(events);
                self.stats.time(Stage::Judge, start.elapsed());
            }
            Ok(Seen::Poor(moment)) => {
                self.stats.skip(Skipped::Poor);
                self.backoff.succeed();
                let events = self.judge.hold(moment, settings);
                outcome.events.extend(events);
            }
            // Whoever cancels forgets the results himself.
            Err(Failure::Cancelled) => outcome.cancelled = true,
            Err(Failure::Failed(e)) => {
                self.stats.fail();
                let wait = self.backoff.fail(Instant::now());
                self.judge.forget_results();
                outcome.events.extend(self.judge.finish_events());
                outcome.failure = Some(Trouble { reason: e, wait });
            }
        }
    }

    /// Has the frame carry what is known, unless that is too old.
    fn show(
        &mut self,
        frame: u64,
        buffer: &gst::BufferRef,
        settings: &Settings,
        pace: Pace,
        outcome: &mut Outcome,
    ) {
        let model = self.subject.detector().short_hash();
        let Some(shown) = self.judge.shown(frame, buffer, settings, model) else {
            return;
        };
        self.stats.time(Stage::Age, Duration::from_nanos(shown.age));
        if pace == Pace::Sync || shown.age <= profile::nanoseconds(settings.max_age) {
            (outcome.record, outcome.map) = (Some(shown.record), shown.map);
            outcome.measured_came = self.judge.first_shown();
        } else if outcome.cost.is_some() && !self.told_of_age {
            self.told_of_age = true;
            outcome.too_old = Some(Duration::from_nanos(shown.age));
        }
    }

    fn next_result(&self, until: Instant) -> Option<Result<Seen, Failure>> {
        let background = self.background.as_ref();
        let background = background.filter(|_| self.pace == Some(Pace::Latest))?;
        background.next_answer(until)
    }

    /// At the end of a stream: waits for the result that is under way, but not for ever. The record is of the frame that was measured.
    pub(super) fn last_result(&mut self, settings: &Settings) -> Outcome {
        let mut outcome = Outcome::default();
        let until = Instant::now() + LAST_RESULT + 4 * self.subject.cost();
        while let Some(result) = self.next_result(until) {
            self.take(result, settings, &mut outcome);
            self.stats.events = self.judge.event_count();
            outcome.record = self.judge.last().map(|last| {
                let model = self.subject.detector().short_hash();
                last.own_record(settings, model)
            });
        }
        outcome
    }
}
