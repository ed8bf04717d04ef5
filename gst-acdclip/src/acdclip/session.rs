//! What one run of the element (from start to stop) knows: the model, the last result, the open event. Belongs to the streaming thread.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use acdclip_model::{
    Calibration,
    calibration::Scales,
    detector::{self, Detection},
    map::Region,
    record::Record,
    stream::events::{Event, EventTracker, Moment},
};
use gst_video::VideoFrameExt;

use crate::{engine::Engine, picture::Picture, profile::Settings};

/// A JSON line a frame, each written whole and at once: who follows the file sees no half of one, and none is lost with the process.
pub(super) struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Creates or truncates the file.
    pub(super) fn create(path: PathBuf) -> std::io::Result<Self> {
        let file = File::create(&path)?;
        Ok(Self { path, file })
    }

    /// Appends a record; an error names the file.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), String> {
        let mut line = serde_json::to_vec(record).map_err(|e| e.to_string())?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

/// The newest result and the frame it belongs to.
struct Measured {
    detection: Detection,
    frame: u64,
    pts: Option<gst::ClockTime>,
    /// Width and height of that frame, pixels.
    size: (u32, u32),
    latency: Duration,
    regions: Vec<Region>,
    /// The map threshold and smallest area that `regions` were found with.
    found_with: (f32, u64),
}

/// What a frame's passage brought about, to be told outside.
pub(super) struct Outcome {
    /// What is known of the frame.
    pub(super) record: Record,
    /// Events that it began or ended.
    pub(super) events: Vec<Event>,
    /// What scoring cost, if it was scored.
    pub(super) cost: Option<Duration>,
}

/// One run of the element.
pub(super) struct Session {
    engine: Arc<Engine>,
    /// The class that frames are scored for.
    class: String,
    /// The setting that led to it.
    class_setting: String,
    calibration: Option<Calibration>,
    /// The setting that led to it.
    calibration_setting: String,
    /// Of the class, where there is a calibration for it.
    scales: Option<Scales>,
    /// Of the caps; none before they are known.
    pub(super) picture: Option<Picture>,
    /// Where records are written.
    pub(super) lines: Option<JsonLines>,
    events: EventTracker,
    frames: u64,
    last: Option<Measured>,
}

impl Session {
    /// A run with `engine`, for the class that `settings` name; an error if the model does not know it.
    pub(super) fn new(
        engine: Arc<Engine>,
        settings: &Settings,
        lines: Option<JsonLines>,
    ) -> acdclip_model::Result<Self> {
        let mut session = Self {
            class: engine.detector().default_class(),
            class_setting: String::new(),
            calibration: None,
            calibration_setting: String::new(),
            scales: None,
            engine,
            picture: None,
            lines,
            events: EventTracker::default(),
            frames: 0,
            last: None,
        };
        session.choose_class(&settings.class_name)?;
        Ok(session)
    }

    /// The model.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The class that frames are scored for.
    pub(super) fn class(&self) -> &str {
        &self.class
    }

    /// The setting that led to that class.
    pub(super) fn class_setting(&self) -> &str {
        &self.class_setting
    }

    /// The setting that led to the calibration.
    pub(super) fn calibration_setting(&self) -> &str {
        &self.calibration_setting
    }

    /// Events begun so far.
    pub(super) fn event_count(&self) -> u64 {
        self.events.count()
    }

    /// Scores for the class `setting` (empty: the model's first) from now on. An error leaves the class as it was.
    pub(super) fn choose_class(&mut self, setting: &str) -> acdclip_model::Result<()> {
        let detector = self.engine.detector();
        let class = match setting {
            "" => detector.default_class(),
            name => name.to_owned(),
        };
        detector.check_class(&class)?;
        if class != self.class {
            self.forget_result();
        }
        self.class = class;
        self.class_setting = setting.to_owned();
        self.choose_scales();
        Ok(())
    }

    /// Gives scores by the calibration in the file `setting` (empty: the model's own, if it has one) from now on. An error leaves the
    /// calibration as it was.
    pub(super) fn choose_calibration(&mut self, setting: &str) -> acdclip_model::Result<()> {
        let path = (!setting.is_empty()).then(|| Path::new(setting));
        let bundle = self.engine.detector().bundle();
        self.calibration = Calibration::choose(path, bundle)?;
        self.calibration_setting = setting.to_owned();
        self.choose_scales();
        Ok(())
    }

    fn choose_scales(&mut self) {
        let calibration = self.calibration.as_ref();
        let scales = calibration.and_then(|calibration| calibration.for_class(&self.class));
        if scales != self.scales {
            self.forget_result();
        }
        self.scales = scales;
    }

    /// Why the calibration does not hold, or not well, for what `settings` say.
    pub(super) fn calibration_doubts(&self, settings: &Settings) -> Option<String> {
        let (resize, domain) = (settings.resize.into(), settings.domain.into());
        let calibration = self.calibration.as_ref()?;
        calibration.doubts(&self.class, resize, domain)
    }

    /// The next frame is scored, whatever the interval.
    pub(super) fn forget_result(&mut self) {
        self.last = None;
    }

    /// Ends the open event.
    pub(super) fn finish_event(&mut self) -> Vec<Event> {
        self.events.finish()
    }

    /// The newest map, for drawing.
    pub(super) fn last_detection(&self) -> Option<&Detection> {
        self.last.as_ref().map(|last| &last.detection)
    }

    /// Scores `buffer` if it is its turn, and says what is known of it.
    pub(super) fn pass(
        &mut self,
        picture: &Picture,
        buffer: &gst::BufferRef,
        settings: &Settings,
    ) -> acdclip_model::Result<Outcome> {
        let due = self
            .last
            .as_ref()
            .is_none_or(|last| self.frames - last.frame >= u64::from(settings.interval));
        if due {
            self.last = Some(self.measure(picture, buffer, settings)?);
        }
        let detector = self.engine.detector();
        let Some(last) = self.last.as_mut() else {
            return Err(acdclip_model::Error::Frame("no result to pass on".into()));
        };
        last.find_regions(settings);
        let mut record = last.record(settings, detector.short_hash());
        record.pts = buffer.pts().map(gst::ClockTime::nseconds);
        record.frame = self.frames;
        record.age = last.age(buffer, self.frames);
        let cost = due.then_some(last.latency);
        let moment = Moment {
            pts: record.pts,
            frame: record.frame,
            score: record.score,
        };
        let events = self.events.push(moment, record.anomalous);
        record.event_id = self.events.current();
        self.frames += 1;
        Ok(Outcome {
            record,
            events,
            cost,
        })
    }

    fn measure(
        &self,
        picture: &Picture,
        buffer: &gst::BufferRef,
        settings: &Settings,
    ) -> acdclip_model::Result<Measured> {
        let start = Instant::now();
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &picture.info)
            .map_err(|e| {
                acdclip_model::Error::Frame(format!("cannot be mapped for reading: {e}"))
            })?;
        let whole = picture.frame(&mapped)?;
        let par = picture.info.par();
        let mut wanted = detector::Settings {
            resize: settings.resize.into(),
            pixel_aspect: (par.numer().unsigned_abs(), par.denom().unsigned_abs()),
            domain: settings.domain.into(),
            map_threshold: settings.pixel_threshold(),
            min_area: settings.min_area,
            calibration: self.scales,
        };
        let interlaced = mapped
            .flags()
            .contains(gst_video::VideoFrameFlags::INTERLACED);
        let frame = if interlaced {
            // A field's pixels are twice as high as the frame's.
            wanted.pixel_aspect.1 = wanted.pixel_aspect.1.saturating_mul(2);
            whole.field()
        } else {
            whole
        };
        let mut detection = self
            .engine
            .detector()
            .score_with(&frame, &self.class, &wanted)?;
        let size = picture.size();
        let regions = if interlaced {
            detection
                .map
                .regions(wanted.map_threshold, wanted.min_area, size.0, size.1)
        } else {
            std::mem::take(&mut detection.regions)
        };
        Ok(Measured {
            detection,
            frame: self.frames,
            pts: buffer.pts(),
            size,
            latency: start.elapsed(),
            regions,
            found_with: (wanted.map_threshold, wanted.min_area),
        })
    }
}

impl Measured {
    /// Finds the regions anew if what they are found with was changed.
    fn find_regions(&mut self, settings: &Settings) {
        let wanted = (settings.pixel_threshold(), settings.min_area);
        if self.found_with != wanted {
            let (width, height) = self.size;
            self.regions = self
                .detection
                .map
                .regions(wanted.0, wanted.1, width, height);
            self.found_with = wanted;
        }
    }

    /// All that is known from the measurement alone.
    fn record(&self, settings: &Settings, model: &str) -> Record {
        let Detection {
            score,
            raw_score,
            calibrated,
            class_score,
            map_max,
            ..
        } = self.detection;
        let threshold = settings.score_threshold();
        Record {
            score,
            raw_score,
            calibrated,
            class_score,
            map_max,
            threshold,
            map_threshold: settings.pixel_threshold(),
            anomalous: score >= threshold,
            width: self.size.0,
            height: self.size.1,
            regions: self.regions.clone(),
            model: model.to_owned(),
            latency_us: self.latency.as_micros() as u64,
            ..Record::default()
        }
    }

    /// Nanoseconds from the measured frame to `buffer`, the frame of that number.
    fn age(&self, buffer: &gst::BufferRef, frame: u64) -> u64 {
        match (self.pts, buffer.pts()) {
            (Some(then), Some(now)) => then.nseconds().abs_diff(now.nseconds()),
            _ => {
                let duration = buffer.duration().map_or(0, gst::ClockTime::nseconds);
                duration.saturating_mul(frame - self.frame)
            }
        }
    }
}
