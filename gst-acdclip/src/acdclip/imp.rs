//! The element: properties, negotiation, flow. What a frame means is decided in [`super::session`].

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use acdclip_model::{DeviceSpec, record::Record, stream::events::Event};
use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_transform::GenerateOutputSuccess, prelude::*},
};
use parking_lot::Mutex;

use super::session::{JsonLines, Outcome, Session};
use crate::{
    drawing,
    engine::{self, Engine},
    latency::LatencyMeter,
    meta,
    overlay::{Parts, Style},
    patch_map::PatchMap,
    picture::{self, Picture},
    profile::{self, Messages, Options, Settings},
    rect::Rect,
    report::Report,
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
}

impl Sources {
    fn resolve(&mut self) {
        self.settings = Arc::new(Settings::resolve(&self.properties, &self.profile));
    }

    /// Sets the class back to `good` if it is still `bad`: the application may have set another meanwhile. Tells whether it was.
    fn take_back_class(&mut self, bad: &str, good: &str) -> bool {
        let stands = self.settings.class_name == bad;
        if stands {
            self.properties.class_name = Some(good.to_owned());
            self.resolve();
        }
        stands
    }

    /// The same with the calibration.
    fn take_back_calibration(&mut self, bad: &str, good: &str) -> bool {
        let stands = self.settings.calibration == bad;
        if stands {
            self.properties.calibration = Some(good.to_owned());
            self.resolve();
        }
        stands
    }
}

/// What the property `stats` tells.
#[derive(Default, Clone)]
struct Stats {
    model: String,
    device: String,
    class: String,
    frames: u64,
    scored: u64,
    events: u64,
    last: Duration,
    total: Duration,
    max: Duration,
    first_frame: Option<Instant>,
    last_frame: Option<Instant>,
}

impl Stats {
    fn add(&mut self, cost: Option<Duration>, events: u64) {
        let now = Instant::now();
        self.first_frame.get_or_insert(now);
        self.last_frame = Some(now);
        self.frames += 1;
        self.events = events;
        if let Some(cost) = cost {
            self.scored += 1;
            self.last = cost;
            self.total += cost;
            self.max = self.max.max(cost);
        }
    }

    /// Frames a second between the first and the last.
    fn fps(&self) -> f64 {
        let span = self.first_frame.zip(self.last_frame);
        let seconds = span.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        if seconds > 0.0 {
            (self.frames - 1) as f64 / seconds
        } else {
            0.0
        }
    }

    fn structure(&self) -> gst::Structure {
        let mean = self.total.as_micros() as u64 / self.scored.max(1);
        gst::Structure::builder("acdclip-stats")
            .field("model", &self.model)
            .field("device", &self.device)
            .field("class-name", &self.class)
            .field("frames", self.frames)
            .field("scored", self.scored)
            .field("events", self.events)
            .field("last-latency-us", self.last.as_micros() as u64)
            .field("mean-latency-us", mean)
            .field("max-latency-us", self.max.as_micros() as u64)
            .field("fps", self.fps())
            .build()
    }
}

/// The element. No lock is held while a buffer is scored, pushed, or a message posted: the streaming thread takes the session out and
/// puts it back.
#[derive(Default)]
pub(crate) struct AcdClip {
    sources: Mutex<Sources>,
    session: Mutex<Option<Session>>,
    stats: Mutex<Stats>,
    latency: Mutex<LatencyMeter>,
}

impl AcdClip {
    fn settings(&self) -> Arc<Settings> {
        self.sources.lock().settings.clone()
    }

    /// Reads the profile, if one is named.
    fn load_profile(&self) -> Result<Arc<Settings>, gst::ErrorMessage> {
        let config = self.sources.lock().config.clone();
        let profile = if config.is_empty() {
            Options::default()
        } else {
            Options::from_profile(Path::new(&config)).map_err(profile_error)?
        };
        let mut sources = self.sources.lock();
        sources.profile = profile;
        sources.resolve();
        Ok(sources.settings.clone())
    }

    fn open(&self, settings: &Settings) -> Result<Session, gst::ErrorMessage> {
        let device: DeviceSpec = settings.device.parse().map_err(model_error)?;
        let engine = Engine::open(&settings.model, device).map_err(engine_error)?;
        let lines = match settings.jsonl_location.as_str() {
            "" => None,
            path => Some(JsonLines::create(PathBuf::from(path)).map_err(|e| {
                gst::error_msg!(
                    gst::ResourceError::OpenWrite,
                    ("jsonl-location {path}: {e}; wanted a file that can be written")
                )
            })?),
        };
        let mut session = Session::new(engine, settings, lines).map_err(model_error)?;
        session
            .choose_calibration(&settings.calibration)
            .map_err(calibration_error)?;
        let cost = session
            .engine()
            .warm_up(session.class())
            .map_err(engine_error)?;
        self.latency.lock().expect(cost);
        Ok(session)
    }

    /// Runs `f` on the session, outside the lock.
    fn with_session<T>(&self, f: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let mut session = self.session.lock().take()?;
        let result = f(&mut session);
        *self.session.lock() = Some(session);
        Some(result)
    }

    fn process(
        &self,
        session: &mut Session,
        mut buffer: gst::Buffer,
    ) -> Result<gst::Buffer, gst::FlowError> {
        let settings = self.settings();
        self.follow_class(session, &settings);
        self.follow_calibration(session, &settings);
        let Some(picture) = session.picture.clone() else {
            gst::element_imp_error!(
                self,
                gst::CoreError::Negotiation,
                ("A buffer came before its caps")
            );
            return Err(gst::FlowError::NotNegotiated);
        };
        let failed = |e: acdclip_model::Error| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("Scoring failed: {e}"));
            gst::FlowError::Error
        };
        let outcome = session.pass(&picture, &buffer, &settings).map_err(failed)?;
        self.stats.lock().add(outcome.cost, session.event_count());
        self.announce_latency(outcome.cost);
        let report = report(session, &outcome.record);
        drawing::draw(&mut buffer, &picture, style(&settings), &report).map_err(failed)?;
        self.publish(session, &settings, &outcome, &report, &mut buffer)?;
        Ok(buffer)
    }

    /// Takes up a class that was set since the last frame, or warns and keeps the old one.
    fn follow_class(&self, session: &mut Session, settings: &Settings) {
        if settings.class_name == session.class_setting() {
            return;
        }
        match session.choose_class(&settings.class_name) {
            Ok(()) => {
                gst::info!(CAT, imp = self, "Scoring for class {:?}", session.class());
                self.stats.lock().class = session.class().to_owned();
                self.warn_of_doubts(session, settings);
            }
            Err(e) => {
                let taken_back = self
                    .sources
                    .lock()
                    .take_back_class(&settings.class_name, session.class_setting());
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    ("{e}; class {:?} stays", session.class())
                );
                if taken_back {
                    self.obj().notify("class-name");
                }
            }
        }
    }

    /// Takes up a calibration that was set since the last frame, or warns and keeps the old one.
    fn follow_calibration(&self, session: &mut Session, settings: &Settings) {
        if settings.calibration == session.calibration_setting() {
            return;
        }
        match session.choose_calibration(&settings.calibration) {
            Ok(()) => self.warn_of_doubts(session, settings),
            Err(e) => {
                let taken_back = self
                    .sources
                    .lock()
                    .take_back_calibration(&settings.calibration, session.calibration_setting());
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    ("{e}; the calibration stays as it was")
                );
                if taken_back {
                    self.obj().notify("calibration");
                }
            }
        }
    }

    /// Says what speaks against the calibration, if anything does.
    fn warn_of_doubts(&self, session: &Session, settings: &Settings) {
        if let Some(doubts) = session.calibration_doubts(settings) {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{doubts}"));
        }
    }

    fn announce_latency(&self, cost: Option<Duration>) {
        let Some(cost) = cost else { return };
        let changed = self.latency.lock().push(cost);
        if changed {
            let message = gst::message::Latency::builder().src(&*self.obj()).build();
            // Without a bus there is nobody to tell.
            let _ = self.obj().post_message(message);
        }
    }

    /// Puts what was found on the buffer, into the file and on the bus.
    fn publish(
        &self,
        session: &mut Session,
        settings: &Settings,
        outcome: &Outcome,
        report: &Report,
        buffer: &mut gst::Buffer,
    ) -> Result<(), gst::FlowError> {
        let record = &outcome.record;
        meta::attach(buffer.make_mut(), record, report.map.as_ref()).map_err(|e| {
            gst::element_imp_error!(
                self,
                gst::LibraryError::Failed,
                ("Attaching metadata failed: {e}")
            );
            gst::FlowError::Error
        })?;
        if let Some(lines) = &mut session.lines
            && let Err(e) = lines.write(record)
        {
            self.give_up_lines(session, &e);
        }
        self.post_events(settings, &outcome.events, record);
        if settings.messages == Messages::All {
            self.post(meta::frame_message(record));
        }
        Ok(())
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

    fn post_events(&self, settings: &Settings, events: &[Event], record: &Record) {
        for event in events {
            gst::info!(CAT, imp = self, "{event:?}");
            if settings.messages != Messages::None {
                self.post(meta::event_message(event, record));
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

    /// Ends the open event, and forgets the result that later frames would have carried.
    fn end_event(&self) {
        let settings = self.settings();
        self.with_session(|session| {
            session.forget_result();
            let events = session.finish_event();
            let record = Record {
                model: session.engine().detector().short_hash().to_owned(),
                ..Record::default()
            };
            self.post_events(&settings, &events, &record);
        });
    }

    fn answer_latency(&self, query: &mut gst::query::Latency) -> bool {
        let mut upstream = gst::query::Latency::new();
        if !self.obj().sink_pad().peer_query(&mut upstream) {
            return false;
        }
        let own = self.latency.lock().announced();
        let own = gst::ClockTime::from_nseconds(own.as_nanos() as u64);
        let (live, min, max) = upstream.result();
        query.set(live, min + own, max.map(|max| max + own));
        true
    }
}

/// What is drawn of a frame; the map's bytes are those that it carries on.
fn report(session: &Session, record: &Record) -> Report {
    let area = Rect::whole((record.width, record.height));
    let detection = session.last_detection();
    let map = detection.map(|detection| PatchMap::encode(&detection.map, area));
    Report::new(record, map)
}

fn style(settings: &Settings) -> Style {
    Style {
        parts: settings.overlay,
        opacity: settings.opacity as f32,
        colormap: settings.colormap,
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

fn calibration_error(e: acdclip_model::Error) -> gst::ErrorMessage {
    use acdclip_model::Error;
    let wanted = "wanted a calibration that `acdclip calibrate` has written for this model";
    match &e {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{e}; {wanted}"))
        }
        Error::Io { .. } => gst::error_msg!(gst::ResourceError::OpenRead, ("{e}; {wanted}")),
        _ => gst::error_msg!(gst::LibraryError::Settings, ("{e}")),
    }
}

/// An element error of the kind that fits.
fn model_error(e: acdclip_model::Error) -> gst::ErrorMessage {
    engine_error(engine::Error::Model(e))
}

fn engine_error(e: engine::Error) -> gst::ErrorMessage {
    use acdclip_model::Error;
    match &e {
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

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut sources = self.sources.lock();
        let own = &mut sources.properties;
        match pspec.name() {
            "model" => own.model = value.get().ok(),
            "device" => own.device = value.get().ok(),
            "class-name" => own.class_name = value.get().ok(),
            "interval" => own.interval = value.get().ok(),
            "resize" => own.resize = value.get().ok(),
            "domain" => own.domain = value.get().ok(),
            "threshold" => own.threshold = value.get().ok(),
            "map-threshold" => own.map_threshold = value.get().ok(),
            "min-area" => own.min_area = value.get().ok(),
            "calibration" => own.calibration = value.get().ok(),
            "jsonl-location" => own.jsonl_location = value.get().ok(),
            "overlay" => own.overlay = value.get().ok(),
            "opacity" => own.opacity = value.get().ok(),
            "colormap" => own.colormap = value.get().ok(),
            "messages" => own.messages = value.get().ok(),
            "config" => sources.config = value.get().unwrap_or_default(),
            _ => {}
        }
        sources.resolve();
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings();
        match pspec.name() {
            "config" => self.sources.lock().config.to_value(),
            "model" => settings.model.to_value(),
            "device" => settings.device.to_value(),
            "class-name" => settings.class_name.to_value(),
            "interval" => settings.interval.to_value(),
            "resize" => settings.resize.to_value(),
            "domain" => settings.domain.to_value(),
            "threshold" => settings.threshold.to_value(),
            "map-threshold" => settings.map_threshold.to_value(),
            "min-area" => settings.min_area.to_value(),
            "calibration" => settings.calibration.to_value(),
            "jsonl-location" => settings.jsonl_location.to_value(),
            "overlay" => settings.overlay.to_value(),
            "opacity" => settings.opacity.to_value(),
            "colormap" => settings.colormap.to_value(),
            "messages" => settings.messages.to_value(),
            "stats" => self.stats.lock().structure().to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

/// Every property; the defaults are those of [`Settings`].
fn properties() -> Vec<glib::ParamSpec> {
    let default = Settings::default();
    vec![
        glib::ParamSpecString::builder("config")
            .nick("Config")
            .blurb("Profile in TOML; its table [acdclip] has the other properties' names as keys. A property that is set beats the profile")
            .default_value(Some(""))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb("Path of a model bundle; empty for the one that is built in")
            .default_value(Some(default.model.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Where the network runs: auto, cpu, cuda, cuda:N or metal")
            .default_value(Some(default.device.as_str()))
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
            .blurb("What is drawn over the frame; 0 for nothing. The contour and boxes are those of regions, the heatmap shows every probability")
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
            .blurb("Model, device, frames, scored, events, latency of scoring in microseconds and frames a second since the start")
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
}

impl BaseTransformImpl for AcdClip {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        *self.latency.lock() = LatencyMeter::default();
        let settings = self.load_profile()?;
        let session = self.open(&settings)?;
        let detector = session.engine().detector();
        let stats = Stats {
            model: detector.short_hash().to_owned(),
            device: detector.device_name(),
            class: session.class().to_owned(),
            ..Stats::default()
        };
        gst::info!(
            CAT,
            imp = self,
            "Model {} on {}, class {:?}",
            stats.model,
            stats.device,
            stats.class
        );
        *self.stats.lock() = stats;
        self.warn_of_doubts(&session, &settings);
        *self.session.lock() = Some(session);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        // Dropped outside the lock: with the last session goes the model.
        let session = self.session.lock().take();
        drop(session);
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
        self.with_session(|session| {
            session.picture = Some(picture);
            session.forget_result();
        });
        Ok(())
    }

    fn propose_allocation(
        &self,
        _decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        // Memory goes through as it is, so what downstream can take is what upstream may make.
        self.parent_propose_allocation(None, query)
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
            // Every event that has begun ends on the bus, also where the stream is cut.
            gst::EventView::Eos(_) | gst::EventView::Segment(_) | gst::EventView::FlushStop(_) => {
                self.end_event()
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // The base class would remember it and, where `qos` is set, drop late buffers.
            gst::EventView::Qos(_) => self.obj().sink_pad().push_event(event),
            _ => self.parent_src_event(event),
        }
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let Some(buffer) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        self.with_session(|session| self.process(session, buffer))
            .unwrap_or(Err(gst::FlowError::Flushing))
            .map(GenerateOutputSuccess::Buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_set_meanwhile_is_not_overwritten() {
        let mut sources = Sources::default();
        let class = |sources: &Sources| sources.settings.class_name.clone();
        let set = |sources: &mut Sources, class: &str| {
            sources.properties.class_name = Some(class.into());
            sources.resolve();
        };
        set(&mut sources, "bad");
        assert!(sources.take_back_class("bad", "rail"));
        assert_eq!(class(&sources), "rail");
        set(&mut sources, "bad");
        set(&mut sources, "colon");
        assert!(!sources.take_back_class("bad", "rail"));
        assert_eq!(class(&sources), "colon");
    }
}
