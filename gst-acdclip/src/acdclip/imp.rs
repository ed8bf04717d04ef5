//! The element: properties, negotiation, flow. What a frame means is decided in [`super::session`].

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use acdclip_model::{
    precision::MAX_THREADS,
    record::Record,
    stream::{
        events::Event,
        flaws::MAX_GAP,
        place::{MAX_PITCH_MM, MAX_START_MM},
    },
};
use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_transform::GenerateOutputSuccess, prelude::*},
};
use parking_lot::Mutex;

use super::{
    late::Lateness,
    lines::JsonLines,
    session::{Pace, Passage, Session, Trouble, View},
    strip::{Departure, Seam},
    subject::{self, Subject, Wish},
    tape::Tape,
};
use crate::{
    drawing::{Drawing, Sheet},
    engine::{self, Engine, EngineLine},
    latency::LatencyMeter,
    meta,
    overlay::{Parts, Style},
    patch_map::PatchMap,
    picture::{self, Picture},
    profile::{self, Messages, Mode, OnError, Options, Settings, TilingMode},
    report::Report,
    stats::{Stage, Stats},
};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "acdclip",
        gst::DebugColorFlags::empty(),
        Some("Zero-shot anomaly detection"),
    )
});

/// What the properties and the profile say, and what follows from both.
#[derive(Default)]
struct Sources {
    /// Path of the profile; empty for none.
    config: String,
    properties: Options,
    profile: Options,
    settings: Arc<Settings>,
    /// How often the application has asked for the model to be read again.
    reloads: u64,
}

impl Sources {
    fn resolve(&mut self) {
        self.settings = Arc::new(Settings::resolve(&self.properties, &self.profile));
    }

    /// Sets back a wish that cannot be granted to the one that was, if it still stands as a whole. Tells whether it did.
    fn restore(&mut self, refused: &Wish, granted: &Wish) -> bool {
        let stands = Wish::new(&self.settings, self.reloads) == *refused;
        if stands {
            let own = &mut self.properties;
            macro_rules! set_back {
                ($($field:ident),*) => {
                    // What was granted may be the profile's, which stays so.
                    $(if refused.$field != granted.$field {
                        own.$field = Some(granted.$field.clone());
                    })*
                };
            }
            set_back!(
                model,
                device,
                precision,
                threads,
                class_name,
                normal_prompts,
                abnormal_prompts
            );
            self.reloads = granted.reloads;
            self.resolve();
        }
        stands
    }

    /// Sets back what cannot be had, if it is still `bad`: the application may have set something else meanwhile. Tells whether it was.
    fn take_back<T: PartialEq>(
        &mut self,
        bad: &T,
        now: impl Fn(&Settings) -> T,
        restore: impl FnOnce(&mut Options),
    ) -> bool {
        let stands = now(&self.settings) == *bad;
        if stands {
            restore(&mut self.properties);
            self.resolve();
        }
        stands
    }
}

/// Something being loaded beside what is in use.
struct Loading {
    wish: Wish,
    calibration: String,
    thread: JoinHandle<Result<Subject, subject::Error>>,
}

/// The session's line to its model.
#[derive(Default)]
struct Wait {
    line: Option<Arc<EngineLine>>,
    /// Whether nobody is to wait on it, nor on the one that takes its place.
    closed: bool,
}

impl Wait {
    fn close(&mut self) {
        self.closed = true;
        if let Some(line) = &self.line {
            line.close();
        }
    }

    fn open(&mut self) {
        self.closed = false;
        if let Some(line) = &self.line {
            line.open();
        }
    }

    /// Takes the place of the line before, on which nobody waits any more.
    fn replace(&mut self, line: Arc<EngineLine>) -> Option<Arc<EngineLine>> {
        if self.closed {
            line.close();
        }
        let old = self.line.replace(line);
        if let Some(old) = &old {
            old.close();
        }
        old
    }
}

/// The element. No lock is held while a buffer is scored, pushed, or a message posted: the streaming thread takes the session out and
/// puts it back.
#[derive(Default)]
pub(crate) struct AcdClip {
    sources: Mutex<Sources>,
    session: Mutex<Option<Session>>,
    /// As the session had them after the last frame, for whoever asks while it is out.
    stats: Mutex<Stats>,
    latency: Mutex<LatencyMeter>,
    lateness: Mutex<Lateness>,
    /// To end a wait for the model from another thread.
    wait: Mutex<Wait>,
    loading: Mutex<Option<Loading>>,
    /// Whether upstream is live, once that is known.
    live: Mutex<Option<bool>>,
    /// What is to leave next: frames of a strip whose lines have settled, and events between them.
    ready: Mutex<VecDeque<Leaving>>,
    /// How long a frame of a strip waits for the lines after it.
    hold: Mutex<Duration>,
    /// Where what is found is kept, if anywhere.
    tape: Mutex<Option<Tape>>,
    drawing: Mutex<Drawing>,
}

/// What leaves downstream.
enum Leaving {
    Frame(gst::Buffer),
    Event(gst::Event),
}

impl AcdClip {
    fn settings(&self) -> Arc<Settings> {
        self.sources.lock().settings.clone()
    }

    /// Keeps what is found from the next start on.
    pub(super) fn keep_tape(&self, tape: Tape) {
        *self.tape.lock() = Some(tape);
    }

    /// Reads the profile, if one is named.
    pub(super) fn read_profile(&self) -> Result<Arc<Settings>, profile::Error> {
        let config = self.sources.lock().config.clone();
        let profile = if config.is_empty() {
            Options::default()
        } else {
            Options::from_profile(Path::new(&config))?
        };
        let mut sources = self.sources.lock();
        sources.profile = profile;
        sources.resolve();
        Ok(sources.settings.clone())
    }

    fn wish(&self) -> Wish {
        let sources = self.sources.lock();
        Wish::new(&sources.settings, sources.reloads)
    }

    fn open(&self, settings: &Settings) -> Result<Session, gst::ErrorMessage> {
        let subject = Subject::open(self.wish(), &settings.calibration, None)
            .map_err(|e| subject_error(&e))?;
        self.latency.lock().expect(subject.cost());
        let mut session = Session::new(subject);
        session.tape = self.tape.lock().clone();
        session
            .choose_view(View::new(settings))
            .map_err(|e| gst::error_msg!(gst::LibraryError::Settings, ("{e}")))?;
        session.lines = match settings.jsonl_location.as_str() {
            "" => None,
            path => Some(JsonLines::create(PathBuf::from(path)).map_err(|e| {
                gst::error_msg!(
                    gst::ResourceError::OpenWrite,
                    ("jsonl-location {path}: {e}; wanted a file that can be written")
                )
            })?),
        };
        Ok(session)
    }

    /// Runs `f` on the session, outside the lock.
    fn with_session<T>(&self, f: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let mut session = self.session.lock().take()?;
        let result = f(&mut session);
        let stats = session.stats.clone();
        *self.session.lock() = Some(session);
        *self.stats.lock() = stats;
        Some(result)
    }

    /// Whether frames are scored before they leave.
    fn pace(&self, settings: &Settings) -> Pace {
        match settings.mode {
            Mode::Sync => Pace::Sync,
            Mode::Latest => Pace::Latest,
            // A frame of a strip would leave before its lines have been seen.
            Mode::Auto if settings.tiling == TilingMode::Scan => Pace::Sync,
            Mode::Auto if self.is_live() => Pace::Latest,
            Mode::Auto => Pace::Sync,
        }
    }

    /// Asks upstream the first time; one that cannot tell yet is asked again.
    fn is_live(&self) -> bool {
        let known = *self.live.lock();
        known.unwrap_or_else(|| {
            let mut query = gst::query::Latency::new();
            let answered = self.obj().sink_pad().peer_query(&mut query);
            let live = answered && query.result().0;
            if answered {
                *self.live.lock() = Some(live);
            }
            live
        })
    }

    fn process(
        &self,
        session: &mut Session,
        mut buffer: gst::Buffer,
    ) -> Result<gst::Buffer, gst::FlowError> {
        let start = Instant::now();
        let settings = self.settings();
        let pace = self.pace(&settings);
        self.follow(session, &settings, pace);
        session.stats.mode = match pace {
            Pace::Sync => "sync",
            Pace::Latest => "latest",
        };
        let Some(picture) = session.picture().cloned() else {
            gst::element_imp_error!(
                self,
                gst::CoreError::Negotiation,
                ("A buffer came before its caps")
            );
            return Err(gst::FlowError::NotNegotiated);
        };
        if self.is_outside(&buffer) {
            session.leave_out();
            return Ok(buffer);
        }
        let late = self.is_late(&buffer);
        let outcome = session.pass(&buffer, &settings, pace, late);
        if outcome.cancelled && pace == Pace::Sync {
            return Err(gst::FlowError::Flushing);
        }
        // Also where the frame itself comes to nothing.
        let record = outcome.record.as_ref();
        self.post_events(session, &settings, &outcome.events, record);
        if let Some(failure) = &outcome.failure {
            self.complain(&settings, failure)?;
        }
        if pace == Pace::Sync {
            self.announce_latency(&settings, outcome.cost);
        }
        if let Some(age) = outcome.too_old {
            self.complain_of_age(&settings, age);
        }
        if let Some(record) = record {
            let map = outcome.map.clone();
            self.tell(session, &settings, (record, map), (&picture, &mut buffer))?;
        } else {
            self.draw_report(&settings, None, (&picture, &mut buffer))?;
        }
        if let Some(came) = outcome.measured_came {
            session.stats.time(Stage::FrameToPixel, came.elapsed());
        }
        session.stats.time(Stage::Passage, start.elapsed());
        Ok(buffer)
    }

    /// Takes up what was set since the last frame.
    fn follow(&self, session: &mut Session, settings: &Settings, pace: Pace) {
        self.follow_wish(session, settings, pace);
        self.follow_calibration(session, settings);
        self.follow_view(session, settings);
    }

    /// Draws what is known of a frame on it, and publishes it.
    fn tell(
        &self,
        session: &mut Session,
        settings: &Settings,
        (record, map): (&Record, Option<PatchMap>),
        (picture, buffer): (&Picture, &mut gst::Buffer),
    ) -> Result<(), gst::FlowError> {
        self.draw(session, settings, (record, &map), (picture, buffer))?;
        self.attach(record, map.as_ref(), buffer)?;
        self.tell_record(session, settings, record);
        Ok(())
    }

    fn draw(
        &self,
        session: &mut Session,
        settings: &Settings,
        (record, map): (&Record, &Option<PatchMap>),
        (picture, buffer): (&Picture, &mut gst::Buffer),
    ) -> Result<(), gst::FlowError> {
        let begun = Instant::now();
        let report = Report::new(record, map.clone());
        self.draw_report(settings, Some(&report), (picture, buffer))?;
        session.stats.time(Stage::Draw, begun.elapsed());
        Ok(())
    }

    /// Draws a report on a frame, or what is left of those before it.
    fn draw_report(
        &self,
        settings: &Settings,
        report: Option<&Report>,
        (picture, buffer): (&Picture, &mut gst::Buffer),
    ) -> Result<(), gst::FlowError> {
        let time = buffer.pts().map(gst::ClockTime::nseconds);
        let sheet = Sheet {
            buffer,
            picture,
            time,
        };
        let drawn = self.drawing.lock().draw(sheet, style(settings), report);
        drawn.map_err(|e| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("Drawing failed: {e}"));
            gst::FlowError::Error
        })
    }

    /// Takes a frame of a strip: what may leave now is ready then.
    fn scan(&self, session: &mut Session, buffer: gst::Buffer) -> Result<(), gst::FlowError> {
        let start = Instant::now();
        let settings = self.settings();
        let pace = self.pace(&settings);
        self.follow(session, &settings, pace);
        if self.is_outside(&buffer) {
            self.end_strip(session);
            session.leave_out();
            self.ready.lock().push_back(Leaving::Frame(buffer));
            return Ok(());
        }
        if session.scans_otherwise(pace) {
            self.end_strip(session);
        }
        session.stats.mode = "scan";
        match pace {
            Pace::Sync => {
                let passage = session.scan(&buffer, &settings);
                let cancelled = passage.cancelled;
                self.let_go(session, &settings, passage)?;
                if cancelled {
                    return Err(gst::FlowError::Flushing);
                }
            }
            Pace::Latest => {
                let passage = session.scan_beside(&buffer, &settings);
                self.hear(session, &settings, passage)?;
                let frame = self.carry(session, &settings, buffer)?;
                self.ready.lock().push_back(Leaving::Frame(frame));
            }
        }
        session.stats.time(Stage::Passage, start.elapsed());
        Ok(())
    }

    /// Puts on a frame of a strip that goes on at once what is known of the lines that it shows.
    fn carry(
        &self,
        session: &mut Session,
        settings: &Settings,
        mut buffer: gst::Buffer,
    ) -> Result<gst::Buffer, gst::FlowError> {
        let known = session.carried(&buffer, settings);
        let picture = session.picture().cloned();
        if let Some(((record, map), picture)) = known.zip(picture) {
            self.draw(session, settings, (&record, &map), (&picture, &mut buffer))?;
            self.attach(&record, map.as_ref(), &mut buffer)?;
        }
        Ok(buffer)
    }

    /// Ends the strip, if there is one: all of its frames are ready to leave then.
    fn end_strip(&self, session: &mut Session) {
        let settings = self.settings();
        let went_on = session.scans_otherwise(Pace::Sync);
        let passage = session.end_strip(&settings);
        // What could not be looked at or drawn on has been complained about.
        let _ = if went_on {
            self.hear(session, &settings, passage)
        } else {
            self.let_go(session, &settings, passage)
        };
    }

    /// Tells what came of frames of a strip that have gone on.
    fn hear(
        &self,
        session: &mut Session,
        settings: &Settings,
        passage: Passage,
    ) -> Result<(), gst::FlowError> {
        self.tell_seams(settings, &passage.seams);
        for departure in passage.departures {
            let record = departure.known.as_ref().map(|(record, _)| record);
            self.post_events(session, settings, &departure.events, record);
            if let Some(record) = record {
                self.tell_record(session, settings, record);
            }
        }
        self.tell_rest(session, settings, &passage.events, passage.failure.as_ref())
    }

    /// Tells what no frame of a strip brought about.
    fn tell_rest(
        &self,
        session: &Session,
        settings: &Settings,
        events: &[Event],
        failure: Option<&Trouble>,
    ) -> Result<(), gst::FlowError> {
        self.post_events(session, settings, events, None);
        failure.map_or(Ok(()), |failure| self.complain(settings, failure))
    }

    fn tell_seams(&self, settings: &Settings, seams: &[Seam]) {
        for (line, why) in seams {
            gst::warning!(
                CAT,
                imp = self,
                "The strip is broken before line {line}: {why:?}"
            );
            if settings.messages != Messages::None {
                self.post(meta::seam_message(*line, *why));
            }
        }
    }

    /// Tells what came of a frame of a strip, or of its end.
    fn let_go(
        &self,
        session: &mut Session,
        settings: &Settings,
        passage: Passage,
    ) -> Result<(), gst::FlowError> {
        self.tell_seams(settings, &passage.seams);
        for mut departure in passage.departures {
            let before = std::mem::take(&mut departure.before).into_iter();
            let frame = self.finish(session, settings, departure)?;
            let mut ready = self.ready.lock();
            ready.extend(before.map(Leaving::Event));
            ready.push_back(Leaving::Frame(frame));
        }
        let after = passage.after.into_iter();
        self.ready.lock().extend(after.map(Leaving::Event));
        self.tell_rest(session, settings, &passage.events, passage.failure.as_ref())
    }

    /// Makes a frame of a strip ready to leave.
    fn finish(
        &self,
        session: &mut Session,
        settings: &Settings,
        departure: Departure,
    ) -> Result<gst::Buffer, gst::FlowError> {
        let cost = departure.cost();
        let Departure {
            mut buffer,
            known,
            events,
            ..
        } = departure;
        let record = known.as_ref().map(|(record, _)| record);
        self.post_events(session, settings, &events, record);
        let picture = session.picture().cloned();
        if let Some(((record, map), picture)) = known.zip(picture) {
            self.announce_latency(settings, (!cost.is_zero()).then_some(cost));
            self.tell(
                session,
                settings,
                (&record, Some(map)),
                (&picture, &mut buffer),
            )?;
        }
        Ok(buffer)
    }

    /// Ends the strip and sends off all of its frames.
    fn drain(&self) {
        self.with_session(|session| self.end_strip(session));
        // Taken out first: nothing is locked while something is pushed.
        let ready = std::mem::take(&mut *self.ready.lock());
        let pad = self.obj().src_pad().clone();
        for leaving in ready {
            match leaving {
                Leaving::Frame(buffer) => {
                    if let Err(e) = pad.push(buffer) {
                        gst::debug!(CAT, imp = self, "A frame of a strip was not taken: {e}");
                    }
                }
                Leaving::Event(event) => {
                    pad.push_event(event);
                }
            }
        }
    }

    /// Sends off the events that come next; answers with the frame after them.
    fn next_ready(&self) -> Option<gst::Buffer> {
        loop {
            let next = self.ready.lock().pop_front();
            match next? {
                Leaving::Frame(buffer) => return Some(buffer),
                Leaving::Event(event) => {
                    self.obj().src_pad().push_event(event);
                }
            }
        }
    }

    /// Lets an event that comes after frames of a strip wait with them. Gives it back where none waits, or where it need not.
    fn hold_event(&self, event: gst::Event) -> Option<gst::Event> {
        if !event.is_serialized() || self.settings().tiling != TilingMode::Scan {
            return Some(event);
        }
        let mut event = Some(event);
        self.with_session(|session| {
            event = event.take().and_then(|event| session.hold_event(event));
        });
        event
    }

    /// Forgets the strip and all of its frames.
    fn discard_strip(&self) {
        let settings = self.settings();
        self.with_session(|session| {
            let passage = session.discard_strip();
            for departure in &passage.departures {
                let record = departure.known.as_ref().map(|(record, _)| record);
                self.post_events(session, &settings, &departure.events, record);
            }
            self.post_events(session, &settings, &passage.events, None);
        });
        self.ready.lock().clear();
    }

    /// The segment, where it is one of times.
    fn time_segment(&self) -> Option<gst::FormattedSegment<gst::ClockTime>> {
        self.obj().segment().downcast().ok()
    }

    /// Whether a frame will not be shown: after a jump what comes raw begins before the moment that was jumped to.
    fn is_outside(&self, buffer: &gst::BufferRef) -> bool {
        let Some((segment, begin)) = self.time_segment().zip(buffer.pts()) else {
            return false;
        };
        let end = buffer
            .duration()
            .map(|duration| begin.saturating_add(duration));
        segment.clip(begin, end).is_none()
    }

    fn is_late(&self, buffer: &gst::BufferRef) -> bool {
        let time = self
            .time_segment()
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        self.lateness.lock().is_late(time)
    }

    /// A frame could not be scored: an error that ends the stream, or a warning.
    fn complain(&self, settings: &Settings, failure: &Trouble) -> Result<(), gst::FlowError> {
        let reason = &failure.reason;
        match settings.on_error {
            OnError::Fail => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Failed,
                    ("Scoring failed: {reason}")
                );
                Err(gst::FlowError::Error)
            }
            OnError::Pass => {
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Failed,
                    (
                        "Scoring failed, and the video goes on without for {} s: {reason}",
                        failure.wait.as_secs()
                    )
                );
                Ok(())
            }
        }
    }

    fn complain_of_age(&self, settings: &Settings, age: Duration) {
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Busy,
            (
                "Results come when they are {} ms old already, which is more than max-age allows ({} ms), so they are not shown: this machine is \
                 too slow or too busy for the model. Set a larger max-age, or give it a smaller model or a GPU",
                age.as_millis(),
                settings.max_age
            )
        );
    }

    /// Takes up a model, class or prompts that were set since the last frame, or warns and keeps the old ones. What takes long is made on
    /// another thread, and taken up when it is there.
    fn follow_wish(&self, session: &mut Session, settings: &Settings, pace: Pace) {
        let loaded = self.finished_loading(settings);
        let wish = self.wish();
        match loaded {
            // Made for another wish, which no longer stands.
            Some((made_for, _)) if made_for != wish => {}
            Some((_, Ok(subject))) => self.take_up(session, settings, subject),
            Some((_, Err(e))) => {
                self.refuse(session, &wish, &e.to_string());
                return;
            }
            None => {}
        }
        if wish == *session.subject.wish() || self.loading.lock().is_some() {
            return;
        }
        let same_model = wish.has_model_of(session.subject.wish());
        let at_once = pace == Pace::Sync || wish.is_quick(session.subject.detector());
        if !(same_model && at_once) {
            let engine = same_model.then(|| session.subject.line().engine().clone());
            self.start_loading(session, settings, wish, engine);
            return;
        }
        self.end_strip(session);
        match session.subject.look_for(wish.clone()) {
            Ok(()) => {
                session.start_anew();
                self.tell_subject(session, settings);
            }
            Err(e) => self.refuse(session, &wish, &e.to_string()),
        }
    }

    /// Loads what is wished for, with `engine` where that has the model.
    fn start_loading(
        &self,
        session: &Session,
        settings: &Settings,
        wish: Wish,
        engine: Option<Arc<Engine>>,
    ) {
        let (wanted, with) = (wish.clone(), settings.calibration.clone());
        let calibration = with.clone();
        let thread = std::thread::Builder::new()
            .name("acdclip:load".into())
            .spawn(move || Subject::open(wanted, &with, engine));
        match thread {
            Ok(thread) => {
                *self.loading.lock() = Some(Loading {
                    wish,
                    calibration,
                    thread,
                });
            }
            Err(e) => self.refuse(session, &wish, &format!("no thread could be had: {e}")),
        }
    }

    /// What was loaded, once it is; nothing where another calibration was set meanwhile and the one then was in the way.
    fn finished_loading(
        &self,
        settings: &Settings,
    ) -> Option<(Wish, Result<Subject, subject::Error>)> {
        let mut loading = self.loading.lock();
        let loaded = loading.take_if(|loading| loading.thread.is_finished())?;
        drop(loading);
        let gone = |_| Err(subject::Error::Panicked);
        let subject = loaded.thread.join().unwrap_or_else(gone);
        let again = matches!(&subject, Err(subject::Error::Calibration(_)))
            && loaded.calibration != settings.calibration;
        (!again).then_some((loaded.wish, subject))
    }

    fn take_up(&self, session: &mut Session, settings: &Settings, subject: Subject) {
        self.end_strip(session);
        // Dropped outside the lock: with the last line goes the model.
        let old = self.wait.lock().replace(subject.line().clone());
        drop(old);
        session.subject = subject;
        session.start_anew();
        self.tell_subject(session, settings);
    }

    fn tell_subject(&self, session: &Session, settings: &Settings) {
        let subject = &session.subject;
        gst::info!(
            CAT,
            imp = self,
            "Model {} on {}, class {:?}",
            subject.detector().short_hash(),
            subject.detector().device_name(),
            subject.class()
        );
        if let Some(doubts) = subject.calibration_doubts(settings) {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{doubts}"));
        }
    }

    /// Says that a wish cannot be granted, and sets the properties back.
    fn refuse(&self, session: &Session, wish: &Wish, why: &str) {
        let stood = self.sources.lock().restore(wish, session.subject.wish());
        gst::element_imp_warning!(
            self,
            gst::LibraryError::Settings,
            (
                "{why}; model {} and class {:?} stay",
                session.subject.detector().short_hash(),
                session.subject.class()
            )
        );
        if stood {
            let names = [
                "model",
                "device",
                "precision",
                "threads",
                "class-name",
                "normal-prompts",
                "abnormal-prompts",
            ];
            names.iter().for_each(|name| self.obj().notify(name));
        }
    }

    /// Takes up a calibration that was set since the last frame, or warns and keeps the old one.
    fn follow_calibration(&self, session: &mut Session, settings: &Settings) {
        let (wanted, old) = (
            settings.calibration.clone(),
            session.subject.calibration_setting().to_owned(),
        );
        // What is being loaded comes with a calibration, for which the model in use may be the wrong one.
        if wanted == old || self.loading.lock().is_some() {
            return;
        }
        // A flaw is on one scale from its first line to its last.
        self.end_strip(session);
        let scales = session.subject.scales();
        match session.subject.choose_calibration(&wanted) {
            Ok(()) => {
                if session.subject.scales() != scales {
                    session.start_anew();
                }
                self.tell_subject(session, settings);
            }
            Err(e) => {
                let back = self.sources.lock().take_back(
                    &wanted,
                    |now| now.calibration.clone(),
                    |own| own.calibration = Some(old),
                );
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    ("{e}; the calibration stays as it was")
                );
                if back {
                    self.obj().notify("calibration");
                }
            }
        }
    }

    /// Takes up a region of interest or mask that was set since the last frame, or warns and keeps the old ones.
    fn follow_view(&self, session: &mut Session, settings: &Settings) {
        let wanted = View::new(settings);
        if wanted == *session.view() {
            return;
        }
        self.end_strip(session);
        let Err(e) = session.choose_view(wanted.clone()) else {
            return;
        };
        let old = session.view().clone();
        self.sources.lock().take_back(&wanted, View::new, |own| {
            if old.roi != wanted.roi {
                own.roi = Some(old.roi);
            }
            if old.mask != wanted.mask {
                own.mask = Some(old.mask);
            }
        });
        gst::element_imp_warning!(
            self,
            gst::LibraryError::Settings,
            ("{e}; what is looked at stays as it was")
        );
        self.obj().notify("roi");
        self.obj().notify("mask");
    }

    fn announce_latency(&self, settings: &Settings, cost: Option<Duration>) {
        let Some(cost) = cost else { return };
        if self.latency.lock().push(cost) && settings.processing_latency < 0 {
            self.post_latency();
        }
    }

    /// Has the pipeline ask for latencies again.
    fn post_latency(&self) {
        let message = gst::message::Latency::builder().src(&*self.obj()).build();
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message);
    }

    /// Puts what was found on the buffer.
    fn attach(
        &self,
        record: &Record,
        map: Option<&PatchMap>,
        buffer: &mut gst::Buffer,
    ) -> Result<(), gst::FlowError> {
        meta::attach(buffer.make_mut(), record, map).map_err(|e| {
            gst::element_imp_error!(
                self,
                gst::LibraryError::Failed,
                ("Attaching metadata failed: {e}")
            );
            gst::FlowError::Error
        })
    }

    /// Writes what was found into the file and, where every frame is told, on the bus.
    fn tell_record(&self, session: &mut Session, settings: &Settings, record: &Record) {
        if let Some(lines) = &mut session.lines
            && let Err(e) = lines.write(record)
        {
            self.give_up_lines(session, &e);
        }
        if settings.messages == Messages::All {
            self.post(meta::frame_message(record));
        }
    }

    /// A file that cannot be written is complained about once, and the video goes on without it.
    fn give_up_lines(&self, session: &mut Session, complaint: &str) {
        session.lines = None;
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Write,
            ("jsonl-location {complaint}; no more lines are written")
        );
    }

    fn post_events(
        &self,
        session: &Session,
        settings: &Settings,
        events: &[Event],
        record: Option<&Record>,
    ) {
        let model = session.subject.detector().short_hash();
        let bare = match session.measured() {
            Some(measured) => measured.own_record(settings, model),
            None => Record {
                model: model.to_owned(),
                ..Record::default()
            },
        };
        for event in events {
            gst::info!(CAT, imp = self, "{event:?}");
            if settings.messages != Messages::None {
                let mut message = meta::event_message(event, record.unwrap_or(&bare));
                message.set("muted", settings.mute);
                self.post(message);
            }
        }
    }

    fn post(&self, structure: gst::Structure) {
        let message = gst::message::Element::builder(structure)
            .src(&*self.obj())
            .build();
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message);
    }

    /// At the end of the stream: what is still being scored is told of.
    fn report_last(&self) {
        let settings = self.settings();
        self.with_session(|session| {
            let outcome = session.last_result(&settings);
            let record = outcome.record.as_ref();
            if let Some(failure) = &outcome.failure {
                let reason = &failure.reason;
                gst::warning!(CAT, imp = self, "The last frame was not scored: {reason}");
            }
            self.post_events(session, &settings, &outcome.events, record);
            if let Some(record) = record.filter(|_| settings.messages == Messages::All) {
                self.post(meta::frame_message(record));
            }
        });
    }

    /// Ends the open events, and forgets what later frames would have carried.
    fn cut(&self) {
        let settings = self.settings();
        self.lateness.lock().forget();
        self.drawing.lock().cut();
        self.with_session(|session| {
            session.forget_results();
            let events = session.finish_events();
            self.post_events(session, &settings, &events, None);
        });
    }

    /// Ends a wait for the model on the streaming thread.
    fn unblock(&self) {
        self.wait.lock().close();
    }

    fn own_latency(&self) -> Duration {
        let settings = self.settings();
        if self.pace(&settings) == Pace::Latest {
            return Duration::ZERO;
        }
        let scoring = match settings.processing_latency {
            fixed @ 0.. => Duration::from_millis(fixed.unsigned_abs().into()),
            _ => self.latency.lock().announced(),
        };
        scoring + *self.hold.lock()
    }

    fn answer_latency(&self, query: &mut gst::query::Latency) -> bool {
        let mut upstream = gst::query::Latency::new();
        if !self.obj().sink_pad().peer_query(&mut upstream) {
            return false;
        }
        let (live, min, max) = upstream.result();
        *self.live.lock() = Some(live);
        let own = gst::ClockTime::from_nseconds(self.own_latency().as_nanos() as u64);
        let max = max.map(|max| max.saturating_add(own));
        query.set(live, min.saturating_add(own), max);
        true
    }

    /// Has upstream's pool have buffers for the frames of a strip that wait here, beside those that it needs itself.
    fn ask_for_more(&self, query: &mut gst::query::Allocation) {
        let settings = self.settings();
        let held = self.with_session(|session| session.frames_held(&settings));
        let held = held.unwrap_or(0) as u32;
        if held == 0 {
            return;
        }
        let pools: Vec<_> = query.allocation_pools().collect();
        for (pool, (of, size, min, max)) in (0_u32..).zip(&pools) {
            let max = if *max == 0 {
                0
            } else {
                max.saturating_add(held)
            };
            query.set_nth_allocation_pool(pool, of.as_ref(), *size, min.saturating_add(held), max);
        }
        if pools.is_empty() {
            let (caps, _) = query.get_owned();
            let size = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
            let size = size.map_or(0, |info| info.size() as u32);
            query.add_allocation_pool(None::<&gst::BufferPool>, size, held + 1, 0);
        }
    }

    /// Whether the pipeline must ask for latencies again when that property has changed.
    fn changes_latency(property: &str) -> bool {
        matches!(property, "mode" | "processing-latency")
    }
}

fn style(settings: &Settings) -> Style {
    let style = Style {
        parts: settings.overlay,
        opacity: settings.opacity as f32,
        colormap: settings.colormap,
    };
    match settings.mute {
        true => style.muted(),
        false => style,
    }
}

fn profile_error(e: profile::Error) -> gst::ErrorMessage {
    match &e {
        profile::Error::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{e}"))
        }
        profile::Error::Read { .. } => gst::error_msg!(gst::ResourceError::OpenRead, ("{e}")),
        profile::Error::Wrong { .. } => gst::error_msg!(gst::ResourceError::Settings, ("{e}")),
    }
}

fn calibration_error(e: &acdclip_model::Error) -> gst::ErrorMessage {
    use acdclip_model::Error;
    let wanted = "wanted a calibration that `acdclip calibrate` has written for this model";
    match e {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{e}; {wanted}"))
        }
        Error::Io { .. } => gst::error_msg!(gst::ResourceError::OpenRead, ("{e}; {wanted}")),
        _ => gst::error_msg!(gst::LibraryError::Settings, ("{e}")),
    }
}

/// An element error of the kind that fits.
fn subject_error(e: &subject::Error) -> gst::ErrorMessage {
    match e {
        subject::Error::Engine(e) => engine_error(e),
        subject::Error::Calibration(e) => calibration_error(e),
        subject::Error::Panicked => gst::error_msg!(gst::LibraryError::Failed, ("{e}")),
    }
}

fn engine_error(e: &engine::Error) -> gst::ErrorMessage {
    use acdclip_model::Error;
    match e {
        engine::Error::Model(Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            gst::error_msg!(gst::ResourceError::NotFound, ("{e}"))
        }
        engine::Error::Model(Error::Io { .. }) => {
            gst::error_msg!(gst::ResourceError::OpenRead, ("{e}"))
        }
        engine::Error::Model(Error::File { .. } | Error::Tensor { .. }) => {
            gst::error_msg!(gst::StreamError::WrongType, ("{e}"))
        }
        engine::Error::Model(Error::Compute(_)) => {
            gst::error_msg!(gst::LibraryError::Failed, ("{e}"))
        }
        _ => gst::error_msg!(gst::LibraryError::Settings, ("{e}")),
    }
}

#[glib::object_subclass]
impl ObjectSubclass for AcdClip {
    const NAME: &'static str = "AcdClip";
    type Type = super::AcdClip;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for AcdClip {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties);
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            vec![
                glib::subclass::Signal::builder("reload")
                    .action()
                    .class_handler(|args| {
                        let element = args.first()?.get::<super::AcdClip>().ok()?;
                        element.imp().sources.lock().reloads += 1;
                        None
                    })
                    .build(),
            ]
        });
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut sources = self.sources.lock();
        let own = &mut sources.properties;
        match pspec.name() {
            "model" => own.model = value.get().ok(),
            "device" => own.device = value.get().ok(),
            "precision" => own.precision = value.get().ok(),
            "threads" => own.threads = value.get().ok(),
            "class-name" => own.class_name = value.get().ok(),
            "interval" => own.interval = value.get().ok(),
            "resize" => own.resize = value.get().ok(),
            "domain" => own.domain = value.get().ok(),
            "threshold" => own.threshold = value.get().ok(),
            "map-threshold" => own.map_threshold = value.get().ok(),
            "min-area" => own.min_area = value.get().ok(),
            "calibration" => own.calibration = value.get().ok(),
            "mode" => own.mode = value.get().ok(),
            "max-age" => own.max_age = value.get().ok(),
            "processing-latency" => own.processing_latency = value.get().ok(),
            "skip-late" => own.skip_late = value.get().ok(),
            "max-batch" => own.max_batch = value.get().ok(),
            "batch-timeout" => own.batch_timeout = value.get().ok(),
            "on-error" => own.on_error = value.get().ok(),
            "smoothing" => own.smoothing = value.get().ok(),
            "release-threshold" => own.release_threshold = value.get().ok(),
            "map-release-threshold" => own.map_release_threshold = value.get().ok(),
            "min-duration" => own.min_duration = value.get().ok(),
            "hold" => own.hold = value.get().ok(),
            "normal-prompts" => own.normal_prompts = Some(strings(value)),
            "abnormal-prompts" => own.abnormal_prompts = Some(strings(value)),
            "roi" => own.roi = value.get().ok(),
            "mask" => own.mask = value.get().ok(),
            "tiling" => own.tiling = value.get().ok(),
            "tile-size" => own.tile_size = value.get().ok(),
            "tile-overlap" => own.tile_overlap = value.get().ok(),
            "working-resolution" => own.working_resolution = value.get().ok(),
            "line-advance" => own.line_advance = value.get().ok(),
            "merge-distance" => own.merge_distance = value.get().ok(),
            "auto-mask" => own.auto_mask = value.get().ok(),
            "quality-gate" => own.quality_gate = value.get().ok(),
            "damp-highlights" => own.damp_highlights = value.get().ok(),
            "encoder" => own.encoder = value.get().ok(),
            "line-pitch-mm" => own.line_pitch_mm = value.get().ok(),
            "pixel-pitch-mm" => own.pixel_pitch_mm = value.get().ok(),
            "start-mm" => own.start_mm = value.get().ok(),
            "gray-depth" => own.gray_depth = value.get().ok(),
            "jsonl-location" => own.jsonl_location = value.get().ok(),
            "overlay" => own.overlay = value.get().ok(),
            "mute" => own.mute = value.get().ok(),
            "opacity" => own.opacity = value.get().ok(),
            "colormap" => own.colormap = value.get().ok(),
            "messages" => own.messages = value.get().ok(),
            "config" => sources.config = value.get().unwrap_or_default(),
            _ => {}
        }
        sources.resolve();
        drop(sources);
        if Self::changes_latency(pspec.name()) {
            self.post_latency();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings();
        match pspec.name() {
            "config" => self.sources.lock().config.to_value(),
            "model" => settings.model.to_value(),
            "device" => settings.device.to_value(),
            "precision" => settings.precision.to_value(),
            "threads" => settings.threads.to_value(),
            "class-name" => settings.class_name.to_value(),
            "interval" => settings.interval.to_value(),
            "resize" => settings.resize.to_value(),
            "domain" => settings.domain.to_value(),
            "threshold" => settings.threshold.to_value(),
            "map-threshold" => settings.map_threshold.to_value(),
            "min-area" => settings.min_area.to_value(),
            "calibration" => settings.calibration.to_value(),
            "mode" => settings.mode.to_value(),
            "max-age" => settings.max_age.to_value(),
            "processing-latency" => settings.processing_latency.to_value(),
            "skip-late" => settings.skip_late.to_value(),
            "max-batch" => settings.max_batch.to_value(),
            "batch-timeout" => settings.batch_timeout.to_value(),
            "on-error" => settings.on_error.to_value(),
            "smoothing" => settings.smoothing.to_value(),
            "release-threshold" => settings.release_threshold.to_value(),
            "map-release-threshold" => settings.map_release_threshold.to_value(),
            "min-duration" => settings.min_duration.to_value(),
            "hold" => settings.hold.to_value(),
            "normal-prompts" => gst::Array::new(&settings.normal_prompts).to_value(),
            "abnormal-prompts" => gst::Array::new(&settings.abnormal_prompts).to_value(),
            "roi" => settings.roi.to_value(),
            "mask" => settings.mask.to_value(),
            "tiling" => settings.tiling.to_value(),
            "tile-size" => settings.tile_size.to_value(),
            "tile-overlap" => settings.tile_overlap.to_value(),
            "working-resolution" => settings.working_resolution.to_value(),
            "line-advance" => settings.line_advance.to_value(),
            "merge-distance" => settings.merge_distance.to_value(),
            "auto-mask" => settings.auto_mask.to_value(),
            "quality-gate" => settings.quality_gate.to_value(),
            "damp-highlights" => settings.damp_highlights.to_value(),
            "encoder" => settings.encoder.to_value(),
            "line-pitch-mm" => settings.line_pitch_mm.to_value(),
            "pixel-pitch-mm" => settings.pixel_pitch_mm.to_value(),
            "start-mm" => settings.start_mm.to_value(),
            "gray-depth" => settings.gray_depth.to_value(),
            "jsonl-location" => settings.jsonl_location.to_value(),
            "overlay" => settings.overlay.to_value(),
            "mute" => settings.mute.to_value(),
            "opacity" => settings.opacity.to_value(),
            "colormap" => settings.colormap.to_value(),
            "messages" => settings.messages.to_value(),
            "stats" => {
                let stats = self.stats.lock().clone();
                let line = self.wait.lock().line.clone();
                let memory = line.and_then(|line| line.engine().detector().device_memory());
                stats.structure(memory).to_value()
            }
            _ => pspec.default_value().clone(),
        }
    }
}

/// The strings of an array; what is no string is left out.
fn strings(value: &glib::Value) -> Vec<String> {
    let array = value.get::<gst::Array>().unwrap_or_default();
    array
        .iter()
        .filter_map(|value| value.get::<String>().ok())
        .collect()
}

/// An array of sentences, which GStreamer writes as `<"a", "b">`.
fn sentences(name: &'static str, nick: &'static str, blurb: &'static str) -> glib::ParamSpec {
    let sentence = glib::ParamSpecString::builder("sentence")
        .nick("Sentence")
        .blurb("What stands for the class is {}")
        .build();
    gst::ParamSpecArray::builder(name)
        .nick(nick)
        .blurb(blurb)
        .element_spec(&sentence)
        .mutable_playing()
        .build()
}

/// A property in milliseconds.
fn milliseconds(
    name: &'static str,
    nick: &'static str,
    blurb: &'static str,
    default: u32,
) -> glib::ParamSpec {
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_playing()
        .build()
}

/// A property in pixels, for none of which there is 0.
fn pixels(name: &'static str, nick: &'static str, blurb: &'static str) -> glib::ParamSpec {
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .maximum(profile::MAX_PIXELS)
        .mutable_ready()
        .build()
}

/// A property in millimetres, 0 by default.
fn millimetres(
    name: &'static str,
    nick: &'static str,
    blurb: &'static str,
    (low, high): (f64, f64),
) -> glib::ParamSpec {
    glib::ParamSpecDouble::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(low)
        .maximum(high)
        .mutable_ready()
        .build()
}

/// Every property; the defaults are those of [`Settings`].
fn properties() -> Vec<glib::ParamSpec> {
    let default = Settings::default();
    vec![
        glib::ParamSpecEnum::builder_with_default("mode", default.mode)
            .nick("Mode")
            .blurb("Whether frames wait for their score or pass at once with the newest result")
            .mutable_playing()
            .build(),
        milliseconds(
            "max-age",
            "Maximum age",
            "Milliseconds from which a result is too old for a frame that passes at once, which then carries none",
            default.max_age,
        ),
        glib::ParamSpecInt::builder("processing-latency")
            .nick("Processing latency")
            .blurb("Milliseconds that scoring adds to the latency where frames wait for their score; -1 for what is measured")
            .minimum(-1)
            .maximum(profile::MAX_PROCESSING_LATENCY)
            .default_value(default.processing_latency)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("skip-late")
            .nick("Skip late frames")
            .blurb("Where frames wait for their score: let one that is late already pass with the last result. Where they pass at once late ones are never scored")
            .default_value(default.skip_late)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("max-batch")
            .nick("Maximum batch")
            .blurb("Most frames, of all streams that share the model, that the network takes at once; 0 for what suits the device")
            .maximum(profile::MAX_BATCH)
            .default_value(default.max_batch)
            .mutable_playing()
            .build(),
        milliseconds(
            "batch-timeout",
            "Batch timeout",
            "Milliseconds that a frame waits for those of other streams to be scored together with",
            default.batch_timeout,
        ),
        glib::ParamSpecEnum::builder_with_default("on-error", default.on_error)
            .nick("On error")
            .blurb("What happens when frames cannot be scored any more")
            .mutable_playing()
            .build(),
        milliseconds(
            "smoothing",
            "Smoothing",
            "Time constant in milliseconds with which score and map follow what is measured; 0 for at once",
            default.smoothing,
        ),
        glib::ParamSpecDouble::builder("release-threshold")
            .nick("Release threshold")
            .blurb("Score below which an alarm is cleared; any negative value for four fifths of the threshold")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(default.release_threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("map-release-threshold")
            .nick("Map release threshold")
            .blurb("Probability down to which a region that is known goes on; any negative value for four fifths of the map threshold")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(default.map_release_threshold)
            .mutable_playing()
            .build(),
        milliseconds(
            "min-duration",
            "Minimum duration",
            "Milliseconds that something must be abnormal to be an alarm",
            default.min_duration,
        ),
        milliseconds(
            "hold",
            "Hold",
            "Milliseconds that it must be gone for the alarm to be cleared",
            default.hold,
        ),
        sentences(
            "normal-prompts",
            "Normal prompts",
            "What a normal thing is called, {} for the class; needs a model with its text tower. None for the model's own",
        ),
        sentences(
            "abnormal-prompts",
            "Abnormal prompts",
            "What an abnormal thing is called, {} for the class; needs a model with its text tower. None for the model's own",
        ),
        glib::ParamSpecString::builder("roi")
            .nick("Region of interest")
            .blurb("x,y,w,h of the only part that is scored, drawn on and alarmed of: in parts of the frame where none exceeds 1, else in pixels; empty for the whole frame")
            .default_value(Some(default.roi.as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("mask")
            .nick("Mask")
            .blurb("Picture, stretched over the frame: where it is black nothing is scored, drawn on or alarmed of; empty for none")
            .default_value(Some(default.mask.as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("tiling", default.tiling)
            .nick("Tiling")
            .blurb("What of a frame the network is shown at once")
            .mutable_ready()
            .build(),
        pixels(
            "tile-size",
            "Tile size",
            "Side of a tile in pixels of the frame; 0 for what suits",
        ),
        pixels(
            "tile-overlap",
            "Tile overlap",
            "Pixels that neighbouring tiles share; 0 for an eighth of their side",
        ),
        pixels(
            "working-resolution",
            "Working resolution",
            "Pixels of the network that the shorter side of a frame, or the width of a strip, is shown with, where no tile-size is set; 0 for what suits",
        ),
        pixels(
            "line-advance",
            "Line advance",
            "With tiling=scan: rows at the end of each frame that the one before it does not have; 0 for all",
        ),
        glib::ParamSpecUInt::builder("merge-distance")
            .nick("Merge distance")
            .blurb("With tiling=scan: parts of the map that are at most so many pixels apart are one flaw")
            .maximum(MAX_GAP)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("auto-mask", default.auto_mask)
            .nick("Automatic mask")
            .blurb("What is found and left out of the picture by itself")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("quality-gate")
            .nick("Quality gate")
            .blurb("Do not score frames that are blurred, washed, over- or underexposed, frozen or outside the body: they keep the last good score, which raises no alarm, and `quality` says why. Not with tiling=scan")
            .default_value(default.quality_gate)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("damp-highlights")
            .nick("Damp highlights")
            .blurb("Take the map down to what surrounds them where specular highlights are. Not with tiling=scan")
            .default_value(default.damp_highlights)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("encoder", default.encoder)
            .nick("Encoder")
            .blurb("With tiling=scan: what says where on the track a line is")
            .mutable_ready()
            .build(),
        millimetres(
            "line-pitch-mm",
            "Line pitch",
            "With tiling=scan: millimetres from line to line; 0 where that is not known",
            (0.0, MAX_PITCH_MM),
        ),
        millimetres(
            "pixel-pitch-mm",
            "Pixel pitch",
            "With tiling=scan: millimetres from pixel to pixel across; 0 for the line-pitch-mm",
            (0.0, MAX_PITCH_MM),
        ),
        millimetres(
            "start-mm",
            "Start",
            "With tiling=scan: millimetres on the track where the counter is 0",
            (-MAX_START_MM, MAX_START_MM),
        ),
        glib::ParamSpecUInt::builder("gray-depth")
            .nick("Grey depth")
            .blurb("Bits in use of GRAY16_LE, the lowest ones: 10 or 12 for cameras of that depth")
            .minimum(profile::GRAY_DEPTHS.0)
            .maximum(profile::GRAY_DEPTHS.1)
            .default_value(default.gray_depth)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("config")
            .nick("Config")
            .blurb("Profile in TOML; its table [acdclip] has the other properties' names as keys. A property that is set beats the profile")
            .default_value(Some(""))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb("Path of a model bundle; empty for the one that is built in. One that is set while playing is loaded beside the old one, and taken up between two frames")
            .default_value(Some(default.model.as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Where the network runs: auto, cpu, cuda, cuda:N or metal")
            .default_value(Some(default.device.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("precision")
            .nick("Precision")
            .blurb("In which arithmetic the network runs: auto or f32; bf16, where the CPU or a CUDA GPU multiplies that, and int8, on the CPU, are quicker and round")
            .default_value(Some(default.precision.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("threads")
            .nick("Threads")
            .blurb("Threads that the network has on a CPU, so that others stay free for the rest of the pipeline; 0 for one a processor")
            .maximum(MAX_THREADS as u32)
            .default_value(default.threads)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("class-name")
            .nick("Class name")
            .blurb("What is looked at, as the model's text bank calls it; empty for the model's first class")
            .default_value(Some(default.class_name.as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("interval")
            .nick("Interval")
            .blurb("Score every n-th frame; those between carry the last result with its age")
            .minimum(1)
            .default_value(default.interval)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("resize", default.resize)
            .nick("Resize")
            .blurb("How a frame of another shape meets the network's square")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("domain", default.domain)
            .nick("Domain")
            .blurb("Whose blur of the map and weights of the image score are used")
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("threshold")
            .nick("Threshold")
            .blurb("Score from which a frame is anomalous, on the calibrated scale where there is a calibration; any negative value for 0.5, which on that scale is the calibration's own")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(default.threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("map-threshold")
            .nick("Map threshold")
            .blurb("Probability from which a pixel belongs to a region, on the calibrated scale where there is a calibration; any negative value for 0.5, which on that scale is the calibration's own")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(default.map_threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("min-area")
            .nick("Minimum area")
            .blurb("Smallest region in frame pixels; what is smaller has no box and no contour, but shows in the heatmap")
            .default_value(default.min_area)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("calibration")
            .nick("Calibration")
            .blurb("Calibration in TOML that `acdclip calibrate` has written for the model, by which score and map are given on a scale where 0.5 is alarm; empty for the model's own, if it has one")
            .default_value(Some(default.calibration.as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("jsonl-location")
            .nick("JSON lines location")
            .blurb("File that takes one JSON record a frame, truncated at start; empty for none. If it cannot be written any more, a warning says so and the video goes on")
            .default_value(Some(default.jsonl_location.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecFlags::builder::<Parts>("overlay")
            .nick("Overlay")
            .default_value(default.overlay)
            .blurb("What is drawn over the frame; 0 for nothing. The contour and boxes are those of regions, markers those of events, the heatmap shows every probability")
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("mute")
            .nick("Mute")
            .blurb("Draw no marker and no score, whatever the overlay. Messages about events are posted all the same, and say that they are muted")
            .default_value(default.mute)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("opacity")
            .nick("Opacity")
            .blurb("Opacity of the heatmap at probability 1")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(default.opacity)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("colormap", default.colormap)
            .nick("Colormap")
            .blurb("Colours of the heatmap, on a fixed scale of probability; grey video always has grey")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("messages", default.messages)
            .nick("Messages")
            .blurb("Which element messages go to the bus")
            .mutable_playing()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Frames, and why some were not scored, events, batches, percentiles of the time that each stage takes and of that from a frame to what is drawn of it, and memory in use on the device")
            .read_only()
            .build(),
    ]
}

impl GstObjectImpl for AcdClip {}

impl ElementImpl for AcdClip {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "ACD-CLIP anomaly detector",
                "Filter/Analyzer/Video",
                "Says what is abnormal in video, where, and since when, without having been trained on it",
                "The acdclip developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(picture::pad_templates);
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::PausedToReady {
            self.unblock();
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for AcdClip {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        *self.latency.lock() = LatencyMeter::default();
        *self.live.lock() = None;
        *self.hold.lock() = Duration::ZERO;
        self.lateness.lock().forget();
        self.drawing.lock().cut();
        let settings = self.read_profile().map_err(profile_error)?;
        settings
            .check()
            .map_err(|e| gst::error_msg!(gst::LibraryError::Settings, ("{e}")))?;
        let session = self.open(&settings)?;
        self.tell_subject(&session, &settings);
        *self.wait.lock() = Wait {
            line: Some(session.subject.line().clone()),
            closed: false,
        };
        *self.stats.lock() = session.stats.clone();
        *self.session.lock() = Some(session);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.unblock();
        // Dropped outside the locks: with the last session goes the model. What is being loaded finds nobody to take it.
        let session = self.session.lock().take();
        let line = self.wait.lock().line.take();
        let loading = self.loading.lock().take();
        self.ready.lock().clear();
        drop((session, line, loading));
        Ok(())
    }

    fn accept_caps(&self, direction: gst::PadDirection, caps: &gst::Caps) -> bool {
        Picture::from_caps(caps)
            .inspect_err(|e| gst::warning!(CAT, imp = self, "Caps refused: {e}"))
            .is_ok()
            && self.parent_accept_caps(direction, caps)
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let picture = Picture::from_caps(incaps).map_err(|e| gst::loggable_error!(CAT, "{e}"))?;
        let settings = self.settings();
        let hold = self.with_session(|session| {
            session.set_picture(picture, settings.gray_depth);
            session.hold(&settings)
        });
        let hold = hold.unwrap_or_default();
        let before = std::mem::replace(&mut *self.hold.lock(), hold);
        if before != hold {
            self.post_latency();
        }
        Ok(())
    }

    fn propose_allocation(
        &self,
        _decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        // Memory goes through as it is, so what downstream can take is what upstream may make.
        self.parent_propose_allocation(None, query)?;
        self.ask_for_more(query);
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) if direction == gst::PadDirection::Src => {
                self.answer_latency(latency)
            }
            _ => BaseTransformImplExt::parent_query(self, direction, query),
        }
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => self.unblock(),
            // Every event that has begun ends on the bus, also where the stream is cut.
            gst::EventView::FlushStop(_) => {
                self.discard_strip();
                self.cut();
                self.wait.lock().open();
            }
            gst::EventView::Caps(_) => self.drain(),
            gst::EventView::Segment(_) => {
                self.drain();
                self.cut();
            }
            gst::EventView::Eos(_) => {
                self.drain();
                self.report_last();
                self.cut();
            }
            _ => {}
        }
        match self.hold_event(event) {
            Some(event) => self.parent_sink_event(event),
            None => true,
        }
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // The base class would remember it and, where `qos` is set, drop late buffers.
            gst::EventView::Qos(qos) => {
                let (_, _, jitter, timestamp) = qos.get();
                self.lateness.lock().hear(timestamp, jitter);
                self.obj().sink_pad().push_event(event)
            }
            _ => self.parent_src_event(event),
        }
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if let Some(frame) = self.next_ready() {
            return Ok(GenerateOutputSuccess::Buffer(frame));
        }
        let Some(buffer) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        if self.settings().tiling == TilingMode::Scan {
            self.with_session(|session| self.scan(session, buffer))
                .unwrap_or(Err(gst::FlowError::Flushing))?;
            let next = self.next_ready();
            return Ok(next.map_or(
                GenerateOutputSuccess::NoOutput,
                GenerateOutputSuccess::Buffer,
            ));
        }
        self.with_session(|session| self.process(session, buffer))
            .unwrap_or(Err(gst::FlowError::Flushing))
            .map(GenerateOutputSuccess::Buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refused_wish_only_what_differs_is_set_back_and_only_while_it_stands() {
        let mut sources = Sources::default();
        sources.profile.model = Some("profile.safetensors".into());
        sources.resolve();
        let granted = Wish::new(&sources.settings, 0);
        sources.properties.device = Some("cuda:7".into());
        sources.reloads = 1;
        sources.resolve();
        let refused = Wish::new(&sources.settings, sources.reloads);
        assert!(sources.restore(&refused, &granted));
        assert_eq!(sources.settings.device, Settings::default().device);
        assert_eq!(
            (sources.properties.model.as_ref(), sources.reloads),
            (None, 0)
        );
        sources.properties.class_name = Some("colon".into());
        sources.resolve();
        assert!(!sources.restore(&refused, &granted));
        assert_eq!(sources.settings.class_name, "colon");
    }

    #[test]
    fn what_was_set_meanwhile_is_not_overwritten() {
        let mut sources = Sources::default();
        let calibration = |sources: &Sources| sources.settings.calibration.clone();
        let set = |sources: &mut Sources, path: &str| {
            sources.properties.calibration = Some(path.into());
            sources.resolve();
        };
        let take_back = |sources: &mut Sources| {
            sources.take_back(
                &"bad".to_owned(),
                |now| now.calibration.clone(),
                |own| own.calibration = Some("rail".into()),
            )
        };
        set(&mut sources, "bad");
        assert!(take_back(&mut sources));
        assert_eq!(calibration(&sources), "rail");
        set(&mut sources, "bad");
        set(&mut sources, "colon");
        assert!(!take_back(&mut sources));
        assert_eq!(calibration(&sources), "colon");
    }
}
