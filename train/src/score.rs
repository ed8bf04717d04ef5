//! `acdclip score`: pictures in; a line for each, and maps.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use acdclip_model::{
    Calibration, Detector,
    config::Domain,
    detector::{Detection, Settings},
    map::Region,
    preprocess::Resize,
};
use clap::ValueEnum;

use crate::{
    files::write_whole,
    model::ModelArgs,
    outcome::{Failure, Outcome, complain, say, warn},
    picture::{Picture, map_png},
};

/// Score pictures: how anomalous each one is, and where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pictures: PNG, JPEG, BMP, TIFF, WebP or PNM.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// What the pictures show; the model's first class where left out.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Blur the map and weigh the score as the authors do for that domain, instead of as the model says.
    #[arg(long, value_enum)]
    domain: Option<DomainName>,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the map of every picture to DIR/STEM.png: 16-bit grey, probability * 65535, at the model's input size.
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,
    /// How a picture that is not square meets the model's square.
    #[arg(long, value_enum, default_value = "squash")]
    resize: ResizeName,
    /// What `acdclip calibrate` has written: scores and maps are then on its scale, on which 0.5 is alarm. The model's own, if it has one,
    /// where left out.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Score from which a picture is anomalous, in [0, 1].
    #[arg(long, value_name = "T", default_value = "0.5", value_parser = probability)]
    threshold: f32,
    /// Probability from which a pixel belongs to a region, in [0, 1].
    #[arg(long, value_name = "T", default_value = "0.5", value_parser = probability)]
    map_threshold: f32,
    /// Smallest region, in pixels of the picture.
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    min_area: u64,
}

/// As the command line spells [`Domain`].
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum DomainName {
    Industrial,
    Medical,
}

impl From<DomainName> for Domain {
    fn from(name: DomainName) -> Self {
        match name {
            DomainName::Industrial => Self::Industrial,
            DomainName::Medical => Self::Medical,
        }
    }
}

/// As the command line spells [`Resize`].
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ResizeName {
    /// Stretch it, as the authors do.
    Squash,
    /// Keep its shape; what is left over has the mean colour.
    Fit,
}

impl From<ResizeName> for Resize {
    fn from(name: ResizeName) -> Self {
        match name {
            ResizeName::Squash => Self::Squash,
            ResizeName::Fit => Self::Fit,
        }
    }
}

fn probability(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("wanted a number from 0 to 1".into()),
    }
}

/// One line of `--json`.
#[derive(serde::Serialize)]
struct Line<'a> {
    image: std::borrow::Cow<'a, str>,
    class_name: &'a str,
    score: f32,
    raw_score: f32,
    calibrated: bool,
    class_score: f32,
    map_max: f32,
    threshold: f32,
    anomalous: bool,
    regions: &'a [Region],
    model: &'a str,
}

/// What stays the same from picture to picture.
struct Scorer<'a> {
    args: &'a Args,
    detector: Detector,
    class: String,
    model: String,
    settings: Settings,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if let Some(directory) = &args.maps {
        check_maps(&args.images, directory)?;
    }
    let scorer = Scorer::new(args)?;
    if let Some(directory) = &args.maps {
        std::fs::create_dir_all(directory).map_err(Failure::io(directory))?;
    }
    if !args.json {
        say(format_args!(
            "{:>7} {:>7} {:>7} {:>7}  image",
            "score", "class", "map", "regions"
        ))?;
    }
    let all = args.images.len();
    let mut failed = 0;
    for image in &args.images {
        match scorer.score(image) {
            Ok(()) => {}
            // One bad picture does not cost the others their scores; without an output nobody would see those.
            Err(failure) if all > 1 && !failure.is_of_output() => {
                complain(&failure);
                failed += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Some { failed, all }),
    }
}

impl<'a> Scorer<'a> {
    fn new(args: &'a Args) -> Outcome<Self> {
        let detector = args.model.open()?;
        let class = args
            .class
            .clone()
            .unwrap_or_else(|| detector.default_class());
        detector.check_class(&class)?;
        let mut settings = Settings {
            resize: args.resize.into(),
            domain: args.domain.map(Domain::from),
            map_threshold: args.map_threshold,
            min_area: args.min_area,
            ..Settings::default()
        };
        let calibration = Calibration::choose(args.calibration.as_deref(), detector.bundle())?;
        if let Some(calibration) = calibration {
            settings.calibration = calibration.for_class(&class);
            let doubts = calibration.doubts(&class, settings.resize, settings.domain);
            doubts.iter().for_each(|doubt| warn(doubt));
        }
        Ok(Self {
            args,
            class,
            model: detector.short_hash().to_owned(),
            settings,
            detector,
        })
    }

    fn score(&self, image: &Path) -> Outcome {
        let picture = Picture::open(image)?;
        let found = self
            .detector
            .score_with(&picture.frame()?, &self.class, &self.settings)?;
        if let Some(directory) = &self.args.maps {
            self.write_map(&map_path(image, directory)?, &found)?;
        }
        if self.args.json {
            say(self.json(image, &found)?)
        } else {
            say(self.row(image, &found))
        }
    }

    fn write_map(&self, path: &Path, found: &Detection) -> Outcome {
        let side = self.detector.config().input_size as u32;
        let png =
            map_png(&found.map.upsample(), side, side).map_err(|reason| Failure::Picture {
                path: path.into(),
                reason,
            })?;
        write_whole(path, &png)
    }

    fn anomalous(&self, found: &Detection) -> bool {
        found.score >= self.args.threshold
    }

    fn json(&self, image: &Path, found: &Detection) -> Outcome<String> {
        let line = Line {
            image: image.to_string_lossy(),
            class_name: &self.class,
            score: found.score,
            raw_score: found.raw_score,
            calibrated: found.calibrated,
            class_score: found.class_score,
            map_max: found.map_max,
            threshold: self.args.threshold,
            anomalous: self.anomalous(found),
            regions: &found.regions,
            model: &self.model,
        };
        serde_json::to_string(&line).map_err(|e| Failure::Picture {
            path: image.into(),
            reason: e.to_string(),
        })
    }

    fn row(&self, image: &Path, found: &Detection) -> String {
        format!(
            "{:>7.4} {:>7.4} {:>7.4} {:>7}  {}{}",
            found.score,
            found.class_score,
            found.map_max,
            found.regions.len(),
            image.display(),
            if self.anomalous(found) {
                "  ANOMALOUS"
            } else {
                ""
            }
        )
    }
}

/// No two pictures may want the same map file, and no map may take a picture's place.
fn check_maps(images: &[PathBuf], directory: &Path) -> Outcome {
    let mut wanted: HashMap<PathBuf, &Path> = HashMap::new();
    let pictures: Vec<_> = images
        .iter()
        .filter_map(|image| image.canonicalize().ok())
        .collect();
    for image in images {
        let map = map_path(image, directory)?;
        if map.canonicalize().is_ok_and(|map| pictures.contains(&map)) {
            return Err(Failure::Arguments(format!(
                "the map of {} would overwrite the picture {}; give another directory with --maps",
                image.display(),
                map.display()
            )));
        }
        if let Some(other) = wanted.insert(map.clone(), image) {
            return Err(Failure::Arguments(format!(
                "{} and {} would both write {}; score them in two runs with different --maps",
                other.display(),
                image.display(),
                map.display()
            )));
        }
    }
    Ok(())
}

fn map_path(image: &Path, directory: &Path) -> Outcome<PathBuf> {
    let stem = image.file_stem().map(OsStr::to_os_string).ok_or_else(|| {
        Failure::Arguments(format!(
            "wanted a picture's file name, found {}",
            image.display()
        ))
    })?;
    let mut name = stem;
    name.push(".png");
    Ok(directory.join(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_pictures_of_one_stem_are_refused() {
        let images = ["a/x.png".into(), "b/x.jpg".into()];
        let error = check_maps(&images, Path::new("maps"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a/x.png") && error.contains("b/x.jpg"),
            "{error}"
        );
    }

    #[test]
    fn a_map_never_takes_its_pictures_place() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("x.png");
        std::fs::write(&image, b"").unwrap();
        let error = check_maps(&[image], directory.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("overwrite"), "{error}");
    }

    #[test]
    fn a_stem_keeps_its_dots() {
        assert_eq!(
            map_path(Path::new("d/a.b.png"), Path::new("m")).unwrap(),
            Path::new("m/a.b.png")
        );
    }
}
