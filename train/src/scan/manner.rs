//! How strips are looked at: options with their defaults filled in and checked, and what they make of a strip of some width.

use std::ops::Range;

use acdclip_model::{
    Calibration, Detector, DeviceSpec, Frame, Precision, Runtime,
    calibration::Scale,
    config::Domain,
    detector::{DEFAULT_THRESHOLD, Text},
    mask::Mask,
    preprocess::Resize,
    roi::Roi,
    stream::{
        alarm::Levels,
        flaws::{MAX_GAP, Rules},
        place::{MAX_PITCH_MM, MAX_START_MM, Pitch},
        scan::Plan,
        tiling::{Choice, Tiles},
    },
};
use serde_json::{Map, Value, json};

use super::{
    options::{AutoMask, Encoder, Options},
    source::Reading,
};
use crate::{
    files::sha256,
    model,
    outcome::{Failure, Outcome, warn},
    picture::open_whole,
};

/// Where nothing is said, what has been raised is released a fifth below.
const RELEASE: f32 = 0.8;

/// How strips are looked at.
pub(super) struct Manner {
    pub(super) class: String,
    pub(super) text: Text,
    pub(super) domain: Option<Domain>,
    /// From raw probabilities of the map to those that thresholds are about.
    pub(super) scale: Option<Scale>,
    pub(super) rules: Rules,
    pub(super) reading: Reading,
    pub(super) counts_in_pixels: bool,
    roi: Roi,
    mask: Option<Mask>,
    finds_edges: bool,
    tiles: Choice,
    pitch: Pitch,
}

/// Loads the model that `options` name.
pub(super) fn open_model(options: &Options) -> Outcome<Detector> {
    let device: DeviceSpec = options.device.as_deref().unwrap_or("auto").parse()?;
    let precision: Precision = options.precision.as_deref().unwrap_or("auto").parse()?;
    let bundle = model::bundle(options.model.as_deref())?;
    let runtime = Runtime {
        device,
        precision,
        threads: options.threads.unwrap_or(0),
    };
    Ok(Detector::new(bundle, runtime)?)
}

impl Manner {
    /// An error if an option is out of range, or if what it names cannot be had.
    pub(super) fn new(options: &Options, detector: &Detector) -> Outcome<Self> {
        check(options)?;
        let own = || detector.default_class();
        let class = options.class_name.clone().filter(|name| !name.is_empty());
        let class = class.unwrap_or_else(own);
        let domain = options.domain.unwrap_or_default().into();
        let encoder = options.encoder.unwrap_or_default();
        if encoder == Encoder::Meta {
            warn(&"encoder=meta: files have no metas, and lines are numbered from 0");
        }
        let mm = |value: Option<f64>| value.filter(|mm| *mm > 0.0);
        let number = |value: Option<u32>| value.unwrap_or(0) as usize;
        Ok(Self {
            text: text(options, detector, &class)?,
            scale: scale(options, detector, &class, domain)?,
            domain,
            class,
            rules: Rules {
                levels: levels(options),
                min_area: options.min_area.unwrap_or(0),
                gap: options.merge_distance.unwrap_or(0),
            },
            reading: Reading {
                depth: options.gray_depth.unwrap_or(16),
                line_advance: number(options.line_advance),
            },
            counts_in_pixels: encoder == Encoder::Pixels,
            roi: Roi::parse(options.roi.as_deref().unwrap_or_default())
                .map_err(Failure::Arguments)?,
            mask: options.mask.as_deref().map(mask).transpose()?,
            finds_edges: options.auto_mask == Some(AutoMask::Strip),
            tiles: Choice {
                tile_size: number(options.tile_size),
                tile_overlap: number(options.tile_overlap),
                working_resolution: number(options.working_resolution),
            },
            pitch: Pitch {
                line_mm: mm(options.line_pitch_mm),
                pixel_mm: mm(options.pixel_pitch_mm).or(mm(options.line_pitch_mm)),
                start_mm: options.start_mm.unwrap_or(0.0),
            },
        })
    }

    /// All that decides what is found, by name: two runs with the same of these find the same in the same strips.
    pub(super) fn described(
        &self,
        options: &Options,
        detector: &Detector,
    ) -> Outcome<Map<String, Value>> {
        let mask = options.mask.as_deref().map(sha256).transpose()?;
        let described = json!({
            "model": detector.bundle().hash(),
            "device": detector.device_name(),
            "precision": detector.precision().to_string(),
            "class-name": self.class,
            "normal-prompts": options.normal_prompts,
            "abnormal-prompts": options.abnormal_prompts,
            "calibration": format!("{:?}", self.scale),
            "domain": self.domain.map(Domain::name),
            "map-threshold": self.rules.levels.raise,
            "map-release-threshold": self.rules.levels.release,
            "min-area": self.rules.min_area,
            "merge-distance": self.rules.gap,
            "roi": format!("{:?}", self.roi),
            "mask": mask,
            "auto-mask": self.finds_edges,
            "tile-size": self.tiles.tile_size,
            "tile-overlap": self.tiles.tile_overlap,
            "working-resolution": self.tiles.working_resolution,
            "line-advance": self.reading.line_advance,
            "gray-depth": self.reading.depth,
            "line-pitch-mm": self.pitch.line_mm,
            "pixel-pitch-mm": self.pitch.pixel_mm,
            "start-mm": self.pitch.start_mm,
            "encoder": self.counts_in_pixels,
        });
        match described {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }

    /// Which columns of lines of `width` pixels are looked at, and how.
    pub(super) fn plan(&self, width: usize, detector: &Detector) -> Outcome<(Range<usize>, Plan)> {
        // No side of a picture is longer than 32 bits can say.
        let columns = self
            .roi
            .columns(width as u32, 1)
            .map_err(Failure::Arguments)?;
        let columns = columns.start as usize..columns.end as usize;
        let input = detector.config().input_size;
        let tiles: Tiles = self.tiles.tiles(columns.len(), input)?;
        let cover = self.mask.as_ref().map(|mask| {
            let counting = mask.stretched(width, mask.height()).columns();
            counting[columns.clone()].to_vec()
        });
        if cover.as_ref().is_some_and(|cover| !cover.contains(&true)) {
            return Err(Failure::Arguments(
                "mask: wanted columns that are white in all of its rows, found none; every line would be left out".into(),
            ));
        }
        let plan = Plan {
            tiles,
            patches: detector.patches(),
            kind: detector.map_values(),
            // Frames are told apart where they are read.
            line_advance: 0,
            finds_edges: self.finds_edges,
            cover: cover.map(Into::into),
            pitch: self.pitch,
        };
        Ok((columns, plan))
    }

    /// Millimetres at line 0, and from line to line; none where that is not known, or where lines are not evenly apart.
    pub(super) fn millimetres(&self) -> Option<(f64, f64)> {
        let pitch = self.pitch.line_mm.filter(|_| !self.counts_in_pixels)?;
        Some((self.pitch.start_mm, pitch))
    }
}

fn text(options: &Options, detector: &Detector, class: &str) -> Outcome<Text> {
    let states = |given: &Option<Vec<String>>| given.clone().unwrap_or_default();
    let normal = states(&options.normal_prompts);
    let abnormal = states(&options.abnormal_prompts);
    if normal.is_empty() && abnormal.is_empty() {
        return Ok(detector.class_text(class)?);
    }
    Ok(detector.prompts_text(class, &normal, &abnormal)?)
}

fn scale(
    options: &Options,
    detector: &Detector,
    class: &str,
    domain: Option<Domain>,
) -> Outcome<Option<Scale>> {
    let calibration = Calibration::choose(options.calibration.as_deref(), detector.bundle())?;
    let Some(calibration) = calibration else {
        return Ok(None);
    };
    let doubts = calibration.doubts(class, Resize::Squash, domain);
    doubts.iter().for_each(|doubt| warn(doubt));
    Ok(calibration.for_class(class).map(|scales| scales.map))
}

fn levels(options: &Options) -> Levels {
    let said = |value: Option<f64>| value.filter(|value| *value >= 0.0);
    let raise = said(options.map_threshold).map_or(DEFAULT_THRESHOLD, |raise| raise as f32);
    let release = said(options.map_release_threshold);
    Levels {
        raise,
        release: release.map_or(raise * RELEASE, |release| release as f32),
    }
}

fn mask(path: &std::path::Path) -> Outcome<Mask> {
    let (picture, _) = open_whole(path)?;
    let luma = picture.to_luma8();
    let (width, height) = (luma.width() as usize, luma.height() as usize);
    Ok(Mask::from_luma(width, height, &luma)?)
}

/// The ranges that the element's property system enforces for its properties.
fn check(options: &Options) -> Outcome {
    let within = |key: &str, value: Option<f64>, low: f64, high: f64| match value {
        Some(value) if !(low..=high).contains(&value) => Err(Failure::Arguments(format!(
            "{key}: wanted {low} to {high}, found {value}"
        ))),
        _ => Ok(()),
    };
    let side = Frame::MAX_SIDE as f64;
    let numbers = [
        ("tile-size", options.tile_size, side),
        ("tile-overlap", options.tile_overlap, side),
        ("working-resolution", options.working_resolution, side),
        ("line-advance", options.line_advance, side),
        ("merge-distance", options.merge_distance, MAX_GAP.into()),
    ];
    for (key, value, most) in numbers {
        within(key, value.map(f64::from), 0.0, most)?;
    }
    within("map-threshold", options.map_threshold, -1.0, 1.0)?;
    let release = options.map_release_threshold;
    within("map-release-threshold", release, -1.0, 1.0)?;
    within("gray-depth", options.gray_depth.map(f64::from), 8.0, 16.0)?;
    within("line-pitch-mm", options.line_pitch_mm, 0.0, MAX_PITCH_MM)?;
    within("pixel-pitch-mm", options.pixel_pitch_mm, 0.0, MAX_PITCH_MM)?;
    within("start-mm", options.start_mm, -MAX_START_MM, MAX_START_MM)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_out_of_range_says_what_was_wanted() {
        let options = Options {
            gray_depth: Some(17),
            ..Options::default()
        };
        let complaint = check(&options).unwrap_err().to_string();
        assert_eq!(complaint, "gray-depth: wanted 8 to 16, found 17");
    }

    #[test]
    fn a_release_level_is_a_fifth_below_where_nobody_says() {
        let options = Options {
            map_threshold: Some(0.75),
            map_release_threshold: Some(-1.0),
            ..Options::default()
        };
        let found = levels(&options);
        assert!((found.release - 0.6).abs() < 1e-6 && found.raise == 0.75);
    }
}
