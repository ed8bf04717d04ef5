//! One class: its pictures scored, ranked and, where a report wants them, kept in short.

use acdclip_model::{
    Detector,
    detector::{Detection, Settings},
    map::AnomalyMap,
};

use super::{
    ClassSet,
    load::{Loaded, for_each_batch},
};
use crate::{
    dataset::Sample,
    metrics::{Error, Scores, Summary, regions::Regions},
    outcome::{Failure, Outcome},
};

/// Bins of a histogram over [0, 1].
const BINS: usize = 50;

/// How classes are measured.
pub(super) struct Options {
    pub(super) settings: Settings,
    pub(super) batch_size: usize,
    /// Whether [`ClassResult::pictures`] is wanted.
    pub(super) keep_pictures: bool,
}

/// What was measured of one class.
#[derive(Debug)]
pub(crate) struct ClassResult {
    /// The class, as the index has it.
    pub(crate) class_name: String,
    /// How many pictures.
    pub(crate) images: usize,
    /// Of the pixels of all pictures together.
    pub(crate) pixel: Summary,
    /// Of the pictures; its AUPRO means nothing.
    pub(crate) image: Summary,
    /// Scores of all pixels.
    pub(crate) pixel_scores: Histograms,
    /// Scores of all pictures.
    pub(crate) image_scores: Histograms,
    /// Every picture, where they were asked for.
    pub(crate) pictures: Vec<ScoredPicture>,
}

/// A picture and what the model made of it.
#[derive(Debug)]
pub(crate) struct ScoredPicture {
    /// The picture.
    pub(crate) sample: Sample,
    /// Its image score.
    pub(crate) score: f32,
    /// Its map, on the patch grid.
    pub(crate) map: AnomalyMap,
    /// Pixel AP within this picture alone, where it has both kinds of pixels.
    pub(crate) pixel_ap: Option<f64>,
}

/// How many scores lie where in [0, 1], by label.
#[derive(Debug, Clone)]
pub(crate) struct Histograms {
    /// Of what is normal.
    pub(crate) normal: Vec<u64>,
    /// Of what is anomalous.
    pub(crate) anomalous: Vec<u64>,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            normal: vec![0; BINS],
            anomalous: vec![0; BINS],
        }
    }
}

impl Histograms {
    fn add(&mut self, score: f32, anomalous: bool) {
        let bin = ((score * BINS as f32) as usize).min(BINS - 1);
        match anomalous {
            true => self.anomalous[bin] += 1,
            false => self.normal[bin] += 1,
        }
    }
}

/// What is being gathered while pictures come in.
#[derive(Default)]
struct Gathered {
    pixels: Scores,
    images: Scores,
    regions: u64,
    anomalous_images: u64,
    pixel_scores: Histograms,
    image_scores: Histograms,
    pictures: Vec<ScoredPicture>,
}

/// Scores every picture of `set`, which prompts call `text`.
pub(super) fn measure(
    detector: &Detector,
    text: &str,
    set: &ClassSet,
    options: &Options,
) -> Outcome<ClassResult> {
    let side = detector.config().input_size;
    let mut gathered = Gathered::default();
    for_each_batch(&set.samples, options.batch_size, side, |samples, loaded| {
        let frames = loaded
            .iter()
            .map(|loaded| loaded.picture.frame())
            .collect::<Result<Vec<_>, _>>()?;
        let detections = detector.score_batch(&frames, text, &options.settings)?;
        for ((sample, loaded), detection) in samples.iter().zip(&loaded).zip(detections) {
            gathered
                .add(sample, loaded, detection, options.keep_pictures)
                .map_err(|e| of_picture(e, sample))?;
        }
        Ok(())
    })?;
    gathered.finish(set).map_err(unsorted)
}

impl Gathered {
    fn add(
        &mut self,
        sample: &Sample,
        loaded: &Loaded,
        detection: Detection,
        keep: bool,
    ) -> Result<(), Error> {
        self.image_scores.add(detection.score, sample.anomalous);
        match sample.anomalous {
            true => self.images.add_anomalous(detection.score, 1)?,
            false => self.images.add_normal(detection.score)?,
        }
        self.anomalous_images += u64::from(sample.anomalous);
        let map = detection.map.upsample();
        if let Some(truth) = &loaded.truth {
            self.add_pixels(&map, truth)?;
        }
        if keep {
            self.pictures.push(ScoredPicture {
                sample: sample.clone(),
                score: detection.score,
                pixel_ap: pixel_ap(&map, loaded.truth.as_ref())?,
                map: detection.map,
            });
        }
        Ok(())
    }

    fn add_pixels(&mut self, map: &[f32], truth: &Regions) -> Result<(), Error> {
        self.regions += truth.count;
        for (&score, &region) in map.iter().zip(&truth.sizes) {
            self.pixel_scores.add(score, region > 0);
        }
        rank(&mut self.pixels, map, truth)
    }

    fn finish(self, set: &ClassSet) -> Result<ClassResult, Error> {
        Ok(ClassResult {
            class_name: set.name.clone(),
            images: set.samples.len(),
            pixel: self.pixels.summary(self.regions)?,
            image: self.images.summary(self.anomalous_images)?,
            pixel_scores: self.pixel_scores,
            image_scores: self.image_scores,
            pictures: self.pictures,
        })
    }
}

fn rank(scores: &mut Scores, map: &[f32], truth: &Regions) -> Result<(), Error> {
    for (&score, &region) in map.iter().zip(&truth.sizes) {
        match region {
            0 => scores.add_normal(score)?,
            size => scores.add_anomalous(score, size)?,
        }
    }
    Ok(())
}

fn pixel_ap(map: &[f32], truth: Option<&Regions>) -> Result<Option<f64>, Error> {
    let Some(truth) = truth.filter(|truth| truth.count > 0) else {
        return Ok(None);
    };
    let mut scores = Scores::default();
    rank(&mut scores, map, truth)?;
    Ok(scores.summary(truth.count)?.ap)
}

fn of_picture(error: Error, sample: &Sample) -> Failure {
    match error {
        Error::NotANumber => Failure::Picture {
            path: sample.image.clone(),
            reason: format!("{error}; look at the model with `acdclip info --verify`"),
        },
        Error::Io(_) => unsorted(error),
    }
}

fn unsorted(error: Error) -> Failure {
    match error {
        Error::Io(source) => Failure::Io {
            path: std::env::temp_dir(),
            source,
        },
        Error::NotANumber => Failure::Arguments(error.to_string()),
    }
}
