//! What normal footage consists of: which files, and what a model makes of each frame.

use std::path::{Path, PathBuf};

use acdclip_model::{Detector, Settings};
use image::ImageReader;
use indicatif::{ProgressBar, ProgressStyle};

use super::threshold::Series;
use crate::{
    dataset::tree::pictures,
    outcome::{Failure, Outcome},
    picture::Picture,
};

/// The files that were named, by kind.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) pictures: Vec<PathBuf>,
    pub(super) videos: Vec<PathBuf>,
}

/// What a model makes of normal footage, for one class.
#[derive(Debug, Clone, Default)]
pub(super) struct Footage {
    /// Raw image scores.
    pub(super) score: Series,
    /// Raw maxima of maps.
    pub(super) map: Series,
    /// Hours of video.
    pub(super) hours: f64,
}

impl Files {
    /// Tells pictures from videos by what they hold, whatever their names; a folder stands for the pictures in it.
    pub(super) fn sort(named: &[PathBuf]) -> Outcome<Self> {
        let mut files = Self::default();
        for path in named {
            if path.is_dir() {
                let found = pictures(path)?;
                if found.is_empty() {
                    return Err(Failure::Arguments(format!(
                        "{}: wanted a folder of pictures, found none in it (videos are named one by one)",
                        path.display()
                    )));
                }
                files.pictures.extend(found);
            } else if is_picture(path)? {
                files.pictures.push(path.clone());
            } else {
                files.videos.push(path.clone());
            }
        }
        Ok(files)
    }
}

fn is_picture(path: &Path) -> Outcome<bool> {
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(Failure::io(path))?;
    Ok(reader.format().is_some())
}

impl Footage {
    /// Adds a frame; `joined` if it follows the last one in time.
    pub(super) fn push(&mut self, score: f32, map_max: f32, joined: bool) {
        self.score.push(score, joined);
        self.map.push(map_max, joined);
    }

    /// Adds pictures, each of which stands for itself.
    pub(super) fn add_pictures(
        &mut self,
        paths: &[PathBuf],
        detector: &Detector,
        class: &str,
        settings: &Settings,
        progress: &ProgressBar,
    ) -> Outcome {
        for path in paths {
            let picture = Picture::open(path)?;
            let found = detector.score_with(&picture.frame()?, class, settings)?;
            self.push(found.raw_score, found.map_max, false);
            progress.inc(1);
        }
        Ok(())
    }
}

/// Counts frames on a terminal.
pub(crate) fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} frames in {elapsed}, {per_sec}");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
