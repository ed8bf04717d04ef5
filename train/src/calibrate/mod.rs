//! `acdclip calibrate`: from footage that is normal, the values from which a model's scores are alarms.
//!
//! [`footage`] and [`video`] score it, [`threshold`] finds the values, [`report`] says what came of it.

use std::path::PathBuf;

use acdclip_model::{
    Bundle, Calibration, Settings,
    calibration::{Anchors, ClassCalibration},
    config::Domain,
    preprocess::Resize,
};
use indicatif::ProgressBar;

use crate::{
    files::{check_output, write_whole},
    model::ModelArgs,
    outcome::{Failure, Outcome, say, warn},
    score::{DomainName, ResizeName},
};

pub(crate) mod footage;
mod report;
mod threshold;
#[cfg(feature = "video")]
pub(crate) mod video;

use footage::{Files, Footage};
use report::{Measured, Part};
use threshold::Series;

/// False alarms an hour, where nothing is asked for and there is video.
const DEFAULT_RATE: f64 = 1.0;

/// Quantile of the normal frames, where nothing is asked for and there are pictures: one in a hundred is a false alarm. A set of normal
/// pictures is seldom large enough to show less.
const DEFAULT_QUANTILE: f64 = 0.99;

/// Find the values from which scores are alarms, by footage that is normal.
///
/// The calibration maps raw scores to a scale on which half of the normal frames lie below 0.1 and 0.5 is alarm, for the image score and for
/// the map, class by class. On video a false alarm is an event: a run of frames in alarm is one.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("written").required(true).multiple(true).args(["output", "write_bundle"])))]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Videos, pictures, folders of pictures: all that is in them is normal.
    #[arg(long, value_name = "VIDEO|IMAGE|DIR", num_args = 1.., required = true)]
    normal: Vec<PathBuf>,
    /// What they show; the model's first class where left out. May be given again: the footage is then scored for each.
    #[arg(long = "class", value_name = "CLASS")]
    classes: Vec<String>,
    /// False alarms an hour that are allowed, of score and map each; 1 where there is only video and nothing else is asked for.
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "quantile")]
    false_alarms_per_hour: Option<f64>,
    /// Share of the normal frames that are no alarm, each counted for itself; 0.99 where there are pictures and nothing else is asked for.
    #[arg(long, value_name = "Q", value_parser = quantile)]
    quantile: Option<f64>,
    /// Blur and image score as in the element's property; the model's own where left out.
    #[arg(long, value_enum)]
    domain: Option<DomainName>,
    /// How a frame that is not square meets the model's square, as in the element's property.
    #[arg(long, value_enum, default_value = "squash")]
    resize: ResizeName,
    /// Score every N-th frame of a video, as in the element's property.
    #[cfg(feature = "video")]
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    interval: u32,
    /// Any other property of the element that frames of a video will be scored with: roi, mask, auto-mask, quality-gate and the like; may be
    /// given again.
    #[cfg(feature = "video")]
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = crate::property::setting)]
    settings: Vec<(String, String)>,
    /// Write the calibration to a file of its own, in TOML.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the bundle with the calibration in it; may be the model's own file.
    #[arg(long, value_name = "BUNDLE")]
    write_bundle: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && f64::is_finite(value) => Ok(value),
        _ => Err("wanted a number above 0".into()),
    }
}

fn quantile(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("wanted a number between 0 and 1".into()),
    }
}

/// How many false alarms are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    /// Events an hour.
    Rate(f64),
    /// Share of the frames that are no alarm.
    Quantile(f64),
}

pub(crate) fn run(args: &Args) -> Outcome {
    let files = Files::sort(&args.normal)?;
    let goal = Goal::of(args, &files)?;
    for path in [&args.output, &args.write_bundle].into_iter().flatten() {
        check_output(path)?;
    }
    args.check_settings(&files)?;
    let bundle = args.model.bundle()?;
    let classes = classes(args, &bundle)?;
    let footages = args.score(&files, &classes)?;
    let mut calibration = Calibration::new(bundle.hash(), args.resize(), args.domain());
    let mut measured = Vec::new();
    for (class, footage) in classes.into_iter().zip(footages) {
        let (entry, rows) = goal.calibrate(&class, &footage)?;
        calibration.classes.insert(class, entry);
        measured.extend(rows);
    }
    write(args, &bundle, &calibration)?;
    if let Some(doubt) = report::doubt(&measured) {
        warn(&doubt);
    }
    let written = [&args.output, &args.write_bundle];
    let written: Vec<_> = written
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    match args.json {
        true => say(report::json(&calibration.model, &written, &measured)),
        false => say(report::table(&written, &measured)),
    }
}

/// The classes that are asked for, each once; an error if the model cannot score one.
fn classes(args: &Args, bundle: &Bundle) -> Outcome<Vec<String>> {
    let own = bundle.classes().first().or(bundle.config().classes.first());
    let mut classes = Vec::new();
    for class in &args.classes {
        if !bundle.classes().contains(class) && !bundle.has_text_tower() {
            return Err(acdclip_model::Error::UnknownClass {
                class: class.clone(),
                known: bundle.classes().to_vec(),
            }
            .into());
        }
        if !classes.contains(class) {
            classes.push(class.clone());
        }
    }
    if classes.is_empty() {
        classes.push(own.cloned().unwrap_or_default());
    }
    Ok(classes)
}

/// The file first that costs least to lose.
fn write(args: &Args, bundle: &Bundle, calibration: &Calibration) -> Outcome {
    if let Some(path) = &args.output {
        write_whole(path, calibration.to_toml()?.as_bytes())?;
    }
    if let Some(path) = &args.write_bundle {
        bundle.write_calibrated(path, calibration)?;
    }
    Ok(())
}

impl Args {
    fn resize(&self) -> Resize {
        self.resize.into()
    }

    fn domain(&self) -> Option<Domain> {
        self.domain.map(Domain::from)
    }

    /// An error where properties of the element are given for pictures, which it does not see.
    #[cfg(feature = "video")]
    fn check_settings(&self, files: &Files) -> Outcome {
        match (files.pictures.first(), self.settings.first()) {
            (Some(picture), Some((name, _))) => Err(Failure::Arguments(format!(
                "--set {name}: it is of the element, which plays videos; found the picture {}",
                picture.display()
            ))),
            _ => Ok(()),
        }
    }

    #[cfg(not(feature = "video"))]
    fn check_settings(&self, _files: &Files) -> Outcome {
        Ok(())
    }

    /// Scores all files for each class.
    fn score(&self, files: &Files, classes: &[String]) -> Outcome<Vec<Footage>> {
        let progress = footage::progress();
        let mut footages = vec![Footage::default(); classes.len()];
        if !files.pictures.is_empty() {
            self.score_pictures(files, classes, &mut footages, &progress)?;
        }
        self.score_videos(files, classes, &mut footages, &progress)?;
        progress.finish_and_clear();
        Ok(footages)
    }

    fn score_pictures(
        &self,
        files: &Files,
        classes: &[String],
        footages: &mut [Footage],
        progress: &ProgressBar,
    ) -> Outcome {
        let detector = self.model.open()?;
        let settings = Settings {
            resize: self.resize(),
            domain: self.domain(),
            ..Settings::default()
        };
        for (class, footage) in classes.iter().zip(footages) {
            footage.add_pictures(&files.pictures, &detector, class, &settings, progress)?;
        }
        Ok(())
    }

    #[cfg(feature = "video")]
    fn score_videos(
        &self,
        files: &Files,
        classes: &[String],
        footages: &mut [Footage],
        progress: &ProgressBar,
    ) -> Outcome {
        if !files.videos.is_empty() {
            video::init()?;
        }
        for (class, footage) in classes.iter().zip(footages) {
            for path in &files.videos {
                video::add(footage, path, self, class, progress)?;
            }
        }
        Ok(())
    }

    #[cfg(not(feature = "video"))]
    fn score_videos(
        &self,
        files: &Files,
        _classes: &[String],
        _footages: &mut [Footage],
        _progress: &ProgressBar,
    ) -> Outcome {
        match files.videos.first() {
            None => Ok(()),
            Some(path) => Err(Failure::wrong_file(
                path,
                &"wanted a picture; this build reads no video: build acdclip with its feature `video`",
            )),
        }
    }
}

impl Goal {
    fn of(args: &Args, files: &Files) -> Outcome<Self> {
        let timeless = files.pictures.first();
        match (args.false_alarms_per_hour, args.quantile, timeless) {
            (Some(_), _, Some(picture)) => Err(Failure::Arguments(format!(
                "{}: a picture lasts no time, and has no false alarms an hour: give --quantile, or videos alone",
                picture.display()
            ))),
            (Some(rate), _, None) => Ok(Self::Rate(rate)),
            (None, Some(quantile), _) => Ok(Self::Quantile(quantile)),
            (None, None, Some(_)) => Ok(Self::Quantile(DEFAULT_QUANTILE)),
            (None, None, None) => Ok(Self::Rate(DEFAULT_RATE)),
        }
    }

    fn calibrate(
        self,
        class: &str,
        footage: &Footage,
    ) -> Outcome<(ClassCalibration, [Measured; 2])> {
        let score = self.anchors(class, Part::Score, &footage.score, footage.hours)?;
        let map = self.anchors(class, Part::Map, &footage.map, footage.hours)?;
        let rows = [
            Measured::new(class, Part::Score, &score, &footage.score),
            Measured::new(class, Part::Map, &map, &footage.map),
        ];
        Ok((ClassCalibration { score, map }, rows))
    }

    fn anchors(self, class: &str, part: Part, series: &Series, hours: f64) -> Outcome<Anchors> {
        let (allowed, found) = match self {
            Self::Rate(rate) => {
                let allowed = rate * hours;
                (allowed, series.threshold(allowed))
            }
            Self::Quantile(quantile) => {
                let allowed = (1.0 - quantile) * series.len() as f64;
                (allowed, series.apart().threshold(allowed))
            }
        };
        let found = found.map_err(|reason| {
            Failure::Arguments(format!("class {class:?}, {}: {reason}", part.name()))
        })?;
        let (rate, quantile) = match self {
            Self::Rate(rate) => (Some(rate), None),
            Self::Quantile(quantile) => (None, Some(quantile)),
        };
        Ok(Anchors {
            normal: found.normal,
            threshold: found.threshold,
            frames: series.len() as u64,
            hours: (hours > 0.0).then_some(hours),
            false_alarms_per_hour: rate,
            quantile,
            extrapolated: threshold::is_too_few(allowed),
        })
    }
}
