//! What can be set, where from, and which source wins.
//!
//! A setting is looked for in the element's properties, then in the profile (a TOML file), and has its default otherwise. A threshold of
//! -1 is [`DEFAULT_THRESHOLD`]: on a calibrated scale that is where the calibration's threshold lies.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use acdclip_model::{
    Frame,
    config::Domain,
    detector::DEFAULT_THRESHOLD,
    precision::MAX_THREADS,
    preprocess::Resize,
    stream::{
        alarm::{Durations, Levels},
        flaws::MAX_GAP,
        place::{MAX_PITCH_MM, MAX_START_MM, Pitch},
        tiling::{Choice, Tiling},
    },
};
use gst::glib;
use serde::Deserialize;

use crate::overlay::{Colormap, Parts};

/// How a frame of another shape meets the network's square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipResize")]
pub(crate) enum ResizeMode {
    /// As the authors' code does.
    #[default]
    #[enum_value(
        name = "Squashed to the square, as the authors' code does",
        nick = "squash"
    )]
    Squash,
    /// In its own shape.
    #[enum_value(name = "Fitted into the square in its own shape", nick = "fit")]
    Fit,
}

impl From<ResizeMode> for Resize {
    fn from(mode: ResizeMode) -> Self {
        match mode {
            ResizeMode::Squash => Self::Squash,
            ResizeMode::Fit => Self::Fit,
        }
    }
}

/// Whose blur of the map and weights of the image score are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipDomain")]
pub(crate) enum DomainChoice {
    /// The model's own.
    #[default]
    #[enum_value(name = "What the model itself says", nick = "model")]
    Model,
    /// Those for products and surfaces.
    #[enum_value(name = "Products and surfaces", nick = "industrial")]
    Industrial,
    /// Those for organs.
    #[enum_value(name = "Organs", nick = "medical")]
    Medical,
}

impl From<DomainChoice> for Option<Domain> {
    fn from(choice: DomainChoice) -> Self {
        match choice {
            DomainChoice::Model => None,
            DomainChoice::Industrial => Some(Domain::Industrial),
            DomainChoice::Medical => Some(Domain::Medical),
        }
    }
}

/// Which messages go to the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipMessages")]
pub(crate) enum Messages {
    /// None.
    #[enum_value(name = "No messages", nick = "none")]
    None,
    /// Those about events.
    #[default]
    #[enum_value(name = "The begin, peak and end of each event", nick = "events")]
    Events,
    /// Those about events and frames.
    #[enum_value(name = "Events, and one message for each frame", nick = "all")]
    All,
}

/// How frames and scores meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipMode")]
pub(crate) enum Mode {
    /// Latest where upstream is live, else sync.
    #[default]
    #[enum_value(name = "latest where upstream is live, else sync", nick = "auto")]
    Auto,
    /// A frame leaves when it has been scored.
    #[enum_value(
        name = "Every frame is scored before it leaves, and LATENCY says how long that takes",
        nick = "sync"
    )]
    Sync,
    /// A frame leaves at once.
    #[enum_value(
        name = "Frames pass at once with the newest result, and its age",
        nick = "latest"
    )]
    Latest,
}

/// What of a frame the network is shown at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipTiling")]
pub(crate) enum TilingMode {
    /// The whole frame, unless it is too long or too large for that.
    #[default]
    #[enum_value(
        name = "grid for frames that are long or very large, else none",
        nick = "auto"
    )]
    Auto,
    /// The whole frame.
    #[enum_value(name = "Each frame is shown to the network whole", nick = "none")]
    None,
    /// Tiles of each frame.
    #[enum_value(name = "Each frame is cut into square tiles", nick = "grid")]
    Grid,
    /// Tiles of a strip.
    #[enum_value(
        name = "Frames are pieces of one strip, which is cut into square tiles across their seams",
        nick = "scan"
    )]
    Scan,
}

impl From<TilingMode> for Tiling {
    fn from(mode: TilingMode) -> Self {
        match mode {
            TilingMode::Auto => Self::Auto,
            TilingMode::None => Self::None,
            TilingMode::Grid => Self::Grid,
            TilingMode::Scan => Self::Scan,
        }
    }
}

/// What is found and left out of the picture by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipAutoMask")]
pub(crate) enum AutoMask {
    /// Nothing.
    #[default]
    #[enum_value(name = "Nothing", nick = "none")]
    None,
    /// What lies beside the strip.
    #[enum_value(
        name = "What lies beside the bright part of a strip, with tiling=scan",
        nick = "strip"
    )]
    Strip,
    /// What lies beside an endoscope's picture.
    #[enum_value(
        name = "What lies beside an endoscope's picture, and text and graphics that are burnt in",
        nick = "endoscope"
    )]
    Endoscope,
}

/// What says where on the track a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipEncoder")]
pub(crate) enum Encoder {
    /// Nothing.
    #[default]
    #[enum_value(name = "Nothing: lines are numbered as they come", nick = "none")]
    None,
    /// The number of the line.
    #[enum_value(name = "The number of the line, times line-pitch-mm", nick = "pitch")]
    Pitch,
    /// A meta on the buffer.
    #[enum_value(
        name = "A GstReferenceTimestampMeta of caps timestamp/x-line-counter: the counter of the frame's first line",
        nick = "meta"
    )]
    Meta,
    /// The line itself.
    #[enum_value(
        name = "The first four bytes of each line: its counter, the lowest byte first",
        nick = "pixels"
    )]
    Pixels,
}

/// What happens when frames cannot be scored any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, glib::Enum)]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "AcdClipOnError")]
pub(crate) enum OnError {
    /// The stream ends with an error.
    #[default]
    #[enum_value(name = "The stream ends with an error message", nick = "fail")]
    Fail,
    /// The video goes on.
    #[enum_value(
        name = "The video goes on without scores, a warning message says why, and scoring is tried again",
        nick = "pass"
    )]
    Pass,
}

/// What one source says; the names are the properties'.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) model: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) precision: Option<String>,
    pub(crate) threads: Option<u32>,
    pub(crate) class_name: Option<String>,
    pub(crate) interval: Option<u32>,
    pub(crate) resize: Option<ResizeMode>,
    pub(crate) domain: Option<DomainChoice>,
    pub(crate) threshold: Option<f64>,
    pub(crate) map_threshold: Option<f64>,
    pub(crate) min_area: Option<u64>,
    pub(crate) calibration: Option<String>,
    pub(crate) mode: Option<Mode>,
    pub(crate) max_age: Option<u32>,
    pub(crate) processing_latency: Option<i32>,
    pub(crate) skip_late: Option<bool>,
    pub(crate) max_batch: Option<u32>,
    pub(crate) batch_timeout: Option<u32>,
    pub(crate) on_error: Option<OnError>,
    pub(crate) smoothing: Option<u32>,
    pub(crate) release_threshold: Option<f64>,
    pub(crate) map_release_threshold: Option<f64>,
    pub(crate) min_duration: Option<u32>,
    pub(crate) hold: Option<u32>,
    pub(crate) normal_prompts: Option<Vec<String>>,
    pub(crate) abnormal_prompts: Option<Vec<String>>,
    pub(crate) roi: Option<String>,
    pub(crate) mask: Option<String>,
    pub(crate) tiling: Option<TilingMode>,
    pub(crate) tile_size: Option<u32>,
    pub(crate) tile_overlap: Option<u32>,
    pub(crate) working_resolution: Option<u32>,
    pub(crate) line_advance: Option<u32>,
    pub(crate) merge_distance: Option<u32>,
    pub(crate) auto_mask: Option<AutoMask>,
    pub(crate) quality_gate: Option<bool>,
    pub(crate) damp_highlights: Option<bool>,
    pub(crate) encoder: Option<Encoder>,
    pub(crate) line_pitch_mm: Option<f64>,
    pub(crate) pixel_pitch_mm: Option<f64>,
    pub(crate) start_mm: Option<f64>,
    pub(crate) gray_depth: Option<u32>,
    pub(crate) jsonl_location: Option<String>,
    #[serde(default, deserialize_with = "parts")]
    pub(crate) overlay: Option<Parts>,
    pub(crate) mute: Option<bool>,
    pub(crate) opacity: Option<f64>,
    pub(crate) colormap: Option<Colormap>,
    pub(crate) messages: Option<Messages>,
}

/// Most frames in a batch, for memory's sake.
pub(crate) const MAX_BATCH: u32 = 64;

/// Pixels of what is counted in pixels, at most: no frame is larger.
pub(crate) const MAX_PIXELS: u32 = Frame::MAX_SIDE as u32;

/// Bits of grey that a camera may use of 16.
pub(crate) const GRAY_DEPTHS: (u32, u32) = (8, 16);

/// A minute, in milliseconds.
pub(crate) const MAX_PROCESSING_LATENCY: i32 = 60_000;

/// Every setting, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Path of a bundle; empty for the built-in model.
    pub(crate) model: String,
    /// Compute device as users write it.
    pub(crate) device: String,
    /// Arithmetic as users write it.
    pub(crate) precision: String,
    /// Threads that the network has on a CPU; 0 for one a processor.
    pub(crate) threads: u32,
    /// Class; empty for the model's first.
    pub(crate) class_name: String,
    /// Every how manyth frame is scored.
    pub(crate) interval: u32,
    pub(crate) resize: ResizeMode,
    pub(crate) domain: DomainChoice,
    /// Score threshold, negative for the default.
    pub(crate) threshold: f64,
    /// Map threshold, negative for the default.
    pub(crate) map_threshold: f64,
    /// Smallest region in frame pixels.
    pub(crate) min_area: u64,
    /// Path of a calibration; empty for the model's own.
    pub(crate) calibration: String,
    pub(crate) mode: Mode,
    /// Milliseconds from which a result is too old to be shown.
    pub(crate) max_age: u32,
    /// Milliseconds that LATENCY adds in sync mode; negative for what is measured.
    pub(crate) processing_latency: i32,
    /// Whether a frame that is late in sync mode passes without being scored.
    pub(crate) skip_late: bool,
    /// Most frames of all streams in one pass of the network; 0 for what suits the device.
    pub(crate) max_batch: u32,
    /// Milliseconds that a frame waits for those of other streams.
    pub(crate) batch_timeout: u32,
    pub(crate) on_error: OnError,
    /// Time constant of scores and maps, milliseconds; 0 for none.
    pub(crate) smoothing: u32,
    /// Score below which an alarm is cleared, negative for the default.
    pub(crate) release_threshold: f64,
    /// Probability down to which a known region goes on, negative for the default.
    pub(crate) map_release_threshold: f64,
    /// Milliseconds that an anomaly must last to be an alarm.
    pub(crate) min_duration: u32,
    /// Milliseconds that it must be gone for the alarm to be cleared.
    pub(crate) hold: u32,
    /// States of a normal thing; none for the model's.
    pub(crate) normal_prompts: Vec<String>,
    /// States of an abnormal thing; none for the model's.
    pub(crate) abnormal_prompts: Vec<String>,
    /// Part of the frame that is looked at, as a user writes it; empty for all of it.
    pub(crate) roi: String,
    /// Path of a picture that is black where nothing is looked at; empty for none.
    pub(crate) mask: String,
    pub(crate) tiling: TilingMode,
    /// Side of a tile in pixels of the frame; 0 for what suits.
    pub(crate) tile_size: u32,
    /// Pixels that tiles share; 0 for an eighth of their side.
    pub(crate) tile_overlap: u32,
    /// The network's pixels along a frame's shorter side, or across a strip; 0 for what suits.
    pub(crate) working_resolution: u32,
    /// New lines at the end of each frame of a strip; 0 for all.
    pub(crate) line_advance: u32,
    /// Pixels between parts of one flaw of a strip, at most.
    pub(crate) merge_distance: u32,
    pub(crate) auto_mask: AutoMask,
    /// Whether frames in which nothing can be seen keep the score of the last good one.
    pub(crate) quality_gate: bool,
    /// Whether the map is damped where the picture shines.
    pub(crate) damp_highlights: bool,
    pub(crate) encoder: Encoder,
    /// Millimetres from line to line; 0 where that is not known.
    pub(crate) line_pitch_mm: f64,
    /// Millimetres from pixel to pixel across; 0 for those from line to line.
    pub(crate) pixel_pitch_mm: f64,
    /// Millimetres on the track at counter 0.
    pub(crate) start_mm: f64,
    /// Bits of 16 that grey uses.
    pub(crate) gray_depth: u32,
    /// Where JSON lines go; empty for nowhere.
    pub(crate) jsonl_location: String,
    pub(crate) overlay: Parts,
    /// Whether nothing is drawn of alerts.
    pub(crate) mute: bool,
    pub(crate) opacity: f64,
    pub(crate) colormap: Colormap,
    pub(crate) messages: Messages,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: String::new(),
            device: "auto".into(),
            precision: "auto".into(),
            threads: 0,
            class_name: String::new(),
            interval: 1,
            resize: ResizeMode::default(),
            domain: DomainChoice::default(),
            threshold: -1.0,
            map_threshold: -1.0,
            min_area: 0,
            calibration: String::new(),
            mode: Mode::default(),
            max_age: 2000,
            processing_latency: -1,
            skip_late: false,
            max_batch: 0,
            batch_timeout: 0,
            on_error: OnError::default(),
            smoothing: 0,
            release_threshold: -1.0,
            map_release_threshold: -1.0,
            min_duration: 0,
            hold: 0,
            normal_prompts: Vec::new(),
            abnormal_prompts: Vec::new(),
            roi: String::new(),
            mask: String::new(),
            tiling: TilingMode::default(),
            tile_size: 0,
            tile_overlap: 0,
            working_resolution: 0,
            line_advance: 0,
            merge_distance: 0,
            auto_mask: AutoMask::default(),
            quality_gate: false,
            damp_highlights: false,
            encoder: Encoder::default(),
            line_pitch_mm: 0.0,
            pixel_pitch_mm: 0.0,
            start_mm: 0.0,
            gray_depth: 16,
            jsonl_location: String::new(),
            overlay: Parts::HEATMAP | Parts::CONTOUR | Parts::SCORE,
            mute: false,
            opacity: 0.6,
            colormap: Colormap::default(),
            messages: Messages::default(),
        }
    }
}

impl Settings {
    /// What `properties` say, else what `profile` says, else the default.
    pub(crate) fn resolve(properties: &Options, profile: &Options) -> Self {
        let default = Self::default();
        macro_rules! first {
            ($($field:ident),*) => {
                Self {
                    $($field: properties.$field.clone()
                        .or_else(|| profile.$field.clone())
                        .unwrap_or(default.$field),)*
                }
            };
        }
        first!(
            model,
            device,
            precision,
            threads,
            class_name,
            interval,
            resize,
            domain,
            threshold,
            map_threshold,
            min_area,
            calibration,
            mode,
            max_age,
            processing_latency,
            skip_late,
            max_batch,
            batch_timeout,
            on_error,
            smoothing,
            release_threshold,
            map_release_threshold,
            min_duration,
            hold,
            normal_prompts,
            abnormal_prompts,
            roi,
            mask,
            tiling,
            tile_size,
            tile_overlap,
            working_resolution,
            line_advance,
            merge_distance,
            auto_mask,
            quality_gate,
            damp_highlights,
            encoder,
            line_pitch_mm,
            pixel_pitch_mm,
            start_mm,
            gray_depth,
            jsonl_location,
            overlay,
            mute,
            opacity,
            colormap,
            messages
        )
    }

    /// The score from which a frame is anomalous.
    pub(crate) fn score_threshold(&self) -> f32 {
        or_default(self.threshold)
    }

    /// The probability from which a pixel is.
    pub(crate) fn pixel_threshold(&self) -> f32 {
        or_default(self.map_threshold)
    }

    /// The levels of the score's alarm.
    pub(crate) fn score_levels(&self) -> Levels {
        levels(self.score_threshold(), self.release_threshold)
    }

    /// The levels of a region.
    pub(crate) fn pixel_levels(&self) -> Levels {
        levels(self.pixel_threshold(), self.map_release_threshold)
    }

    /// How frames are cut into tiles.
    pub(crate) fn tiles(&self) -> Choice {
        Choice {
            tile_size: self.tile_size as usize,
            tile_overlap: self.tile_overlap as usize,
            working_resolution: self.working_resolution as usize,
        }
    }

    /// What lines and pixels are on the track.
    pub(crate) fn pitch(&self) -> Pitch {
        let known = |mm: f64| (mm > 0.0).then_some(mm);
        let line_mm = known(self.line_pitch_mm).filter(|_| self.encoder != Encoder::None);
        Pitch {
            line_mm,
            pixel_mm: known(self.pixel_pitch_mm).or(known(self.line_pitch_mm)),
            start_mm: self.start_mm,
        }
    }

    /// An error where settings contradict one another.
    pub(crate) fn check(&self) -> Result<(), String> {
        let asked = [
            ("auto-mask=endoscope", self.auto_mask == AutoMask::Endoscope),
            ("quality-gate", self.quality_gate),
            ("damp-highlights", self.damp_highlights),
        ];
        match asked.iter().find(|(_, is_asked)| *is_asked) {
            Some((name, _)) if self.tiling == TilingMode::Scan => Err(format!(
                "{name}: wanted frames that are pictures, found tiling=scan, with which they are pieces of a strip; take another tiling, or leave it out"
            )),
            _ => Ok(()),
        }
    }

    /// How long an anomaly must last, and be gone, to count.
    pub(crate) fn durations(&self) -> Durations {
        Durations {
            min_duration: nanoseconds(self.min_duration),
            hold: nanoseconds(self.hold),
        }
    }
}

/// Where nothing is said, what has been raised is released a fifth below.
fn levels(raise: f32, release: f64) -> Levels {
    let release = if release < 0.0 {
        raise * 0.8
    } else {
        release as f32
    };
    Levels { raise, release }
}

/// Of milliseconds.
pub(crate) fn nanoseconds(ms: u32) -> u64 {
    u64::from(ms) * 1_000_000
}

fn or_default(threshold: f64) -> f32 {
    if threshold < 0.0 {
        DEFAULT_THRESHOLD
    } else {
        threshold as f32
    }
}

/// Why a profile cannot be used.
#[derive(Debug)]
pub(crate) enum Error {
    /// It cannot be read.
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// It says what cannot be.
    Wrong { path: PathBuf, reason: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = "wanted a profile, a file in TOML with a table [acdclip]";
        match self {
            Self::Read { path, source } => write!(f, "{}: {source}; {wanted}", path.display()),
            Self::Wrong { path, reason } => write!(f, "{}: {reason}; {wanted}", path.display()),
        }
    }
}

impl Options {
    /// The table `[acdclip]` of a profile. Relative paths of `model`, `calibration` and `mask` are relative to the profile. An error says which key is wrong and how.
    pub(crate) fn from_profile(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        let mut options = Self::parse(&text).map_err(|reason| Error::Wrong {
            path: path.into(),
            reason,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [
            &mut options.model,
            &mut options.calibration,
            &mut options.mask,
        ];
        for path in paths.into_iter().flatten().filter(|path| !path.is_empty()) {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
        Ok(options)
    }

    fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Profile {
            acdclip: Option<Options>,
        }
        let profile: Profile = toml::from_str(text).map_err(|e| in_one_line(&e, text))?;
        let options = profile.acdclip.ok_or("found no table [acdclip]")?;
        options.checked()
    }

    /// The ranges that the property system enforces for properties.
    fn checked(self) -> Result<Self, String> {
        let within = |key: &str, value: Option<f64>, low: f64, high: f64| match value {
            Some(value) if !(low..=high).contains(&value) => {
                Err(format!("{key}: wanted {low} to {high}, found {value}"))
            }
            _ => Ok(()),
        };
        within("threshold", self.threshold, -1.0, 1.0)?;
        within("map-threshold", self.map_threshold, -1.0, 1.0)?;
        within("release-threshold", self.release_threshold, -1.0, 1.0)?;
        within(
            "map-release-threshold",
            self.map_release_threshold,
            -1.0,
            1.0,
        )?;
        let latency = self.processing_latency.map(f64::from);
        within(
            "processing-latency",
            latency,
            -1.0,
            f64::from(MAX_PROCESSING_LATENCY),
        )?;
        let batch = self.max_batch.map(f64::from);
        within("max-batch", batch, 0.0, f64::from(MAX_BATCH))?;
        let threads = self.threads.map(f64::from);
        within("threads", threads, 0.0, MAX_THREADS as f64)?;
        within("opacity", self.opacity, 0.0, 1.0)?;
        within("line-pitch-mm", self.line_pitch_mm, 0.0, MAX_PITCH_MM)?;
        within("pixel-pitch-mm", self.pixel_pitch_mm, 0.0, MAX_PITCH_MM)?;
        within("start-mm", self.start_mm, -MAX_START_MM, MAX_START_MM)?;
        for (key, value) in [
            ("tile-size", self.tile_size),
            ("tile-overlap", self.tile_overlap),
            ("working-resolution", self.working_resolution),
            ("line-advance", self.line_advance),
        ] {
            within(key, value.map(f64::from), 0.0, f64::from(MAX_PIXELS))?;
        }
        let merge = self.merge_distance.map(f64::from);
        within("merge-distance", merge, 0.0, f64::from(MAX_GAP))?;
        let depth = self.gray_depth.map(f64::from);
        within(
            "gray-depth",
            depth,
            f64::from(GRAY_DEPTHS.0),
            f64::from(GRAY_DEPTHS.1),
        )?;
        within(
            "interval",
            self.interval.map(f64::from),
            1.0,
            f64::from(u32::MAX),
        )?;
        Ok(self)
    }
}

/// What is wrong and in which line, without the excerpt that a terminal would show below.
fn in_one_line(e: &toml::de::Error, text: &str) -> String {
    let words: Vec<_> = e.message().split_whitespace().collect();
    let what = words.join(" ");
    let Some(before) = e.span().and_then(|span| text.get(..span.start)) else {
        return what;
    };
    let line = before.matches('\n').count();
    let shown: String = text
        .lines()
        .nth(line)
        .unwrap_or_default()
        .trim()
        .chars()
        .take(80)
        .collect();
    format!("line {}, `{shown}`: {what}", line + 1)
}

/// Overlay parts as on a gst-launch line: `"heatmap+score"`, or `""` for none.
fn parts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Parts>, D::Error> {
    let text = String::deserialize(deserializer).map_err(|e| {
        serde::de::Error::custom(format!(
            "overlay: {}; wanted some of heatmap, contour, box, score, marker, joined by + in quotes, or \"\" for none",
            e.to_string().trim()
        ))
    })?;
    let mut parts = Parts::empty();
    for name in text
        .split('+')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        parts |= match name {
            "heatmap" => Parts::HEATMAP,
            "contour" => Parts::CONTOUR,
            "box" => Parts::BOX,
            "score" => Parts::SCORE,
            "marker" => Parts::MARKER,
            _ => {
                return Err(serde::de::Error::custom(format!(
                    "overlay: unknown part {name:?}, wanted some of heatmap, contour, box, score, marker, joined by +"
                )));
            }
        };
    }
    Ok(Some(parts))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn property_beats_profile_beats_default() {
        let profile =
            Options::parse("[acdclip]\nthreshold = 0.7\ninterval = 3\noverlay = \"box + score\"")
                .unwrap();
        let properties = Options {
            threshold: Some(0.2),
            ..Options::default()
        };
        let settings = Settings::resolve(&properties, &profile);
        assert_eq!(settings.threshold, 0.2);
        assert_eq!(settings.interval, 3);
        assert_eq!(settings.overlay, Parts::BOX | Parts::SCORE);
        assert_eq!(settings.opacity, Settings::default().opacity);
    }

    #[test]
    fn an_explicit_default_still_beats_the_profile() {
        let profile = Options::parse("[acdclip]\nthreshold = 0.7").unwrap();
        let properties = Options {
            threshold: Some(-1.0),
            ..Options::default()
        };
        let settings = Settings::resolve(&properties, &profile);
        assert_eq!(settings.score_threshold(), DEFAULT_THRESHOLD);
    }

    #[test]
    fn a_wrong_profile_says_what_is_wrong() {
        let complaint = |text: &str| Options::parse(text).unwrap_err();
        let unknown = complaint("[acdclip]\ntreshold = 0.5");
        assert!(
            unknown.contains("treshold") && unknown.contains("map-threshold"),
            "{unknown}"
        );
        assert!(complaint("[acdclip]\ninterval = \"two\"").contains("interval"));
        assert!(complaint("[acdclip]\ninterval = 0").contains("interval: wanted 1 to"));
        assert!(
            complaint("[acdclip]\nthreshold = 1.5")
                .contains("threshold: wanted -1 to 1, found 1.5")
        );
        assert!(complaint("[acdclip]\noverlay = \"heatmap+boxes\"").contains("\"boxes\""));
        assert!(complaint("[acdclip]\ncolormap = \"jet\"").contains("viridis"));
        assert!(complaint("[acdclp]\ninterval = 1").contains("acdclip"));
        assert!(complaint("[acdclip]\noverlay = 0").contains("or \"\" for none"));
        for nothing in ["", "# notes\n"] {
            assert_eq!(complaint(nothing), "found no table [acdclip]");
        }
        assert!(complaint("[acdclip]\n\nthreshold = 0.5.5").starts_with("line 3, `threshold = "));
        for wrong in [
            "[acdclip]\ntreshold = 1",
            "[acdclip]\noverlay = 0",
            "[acdclip",
            "a = [1\n",
        ] {
            assert_eq!(complaint(wrong).lines().count(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn a_model_and_a_calibration_are_found_beside_their_profile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line-1.toml");
        let text = "[acdclip]\nmodel = \"rail.safetensors\"\ncalibration = \"rail.toml\"";
        std::fs::write(&path, text).unwrap();
        let options = Options::from_profile(&path).unwrap();
        let wanted = |name| folder.path().join(name).to_string_lossy().into_owned();
        assert_eq!(options.model.unwrap(), wanted("rail.safetensors"));
        assert_eq!(options.calibration.unwrap(), wanted("rail.toml"));
    }

    #[test]
    fn the_profiles_that_come_with_the_project_are_right() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines");
        for name in ["surface.toml", "rail.toml", "colonoscopy.toml"] {
            Options::from_profile(&folder.join(name)).unwrap();
        }
    }
}
