//! Frames and pixels ranked by what the element gave out of them, whatever its thresholds: AUROC and average precision.
//!
//! A frame is anomalous while a lesion is in view. Pixels are those of maps and masks at the network's input size, as `acdclip eval` compares
//! them: of frames that have a mask, and of those without a lesion, all of whose pixels are normal.

use acdclip_model::map::AnomalyMap;
use gstacdclip::Judged;
use serde::Serialize;

use super::{alerts::Shown, clips::Clip, truth::Truth};
use crate::{
    dataset::mask::Mask,
    eval::table::{Image, Pixel},
    metrics::{Error, Scores, regions::Regions},
    outcome::{Failure, Outcome},
};

/// What rankings are worth; none where there is one label alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ranked {
    pub(super) frame: Image,
    pub(super) pixel: Pixel,
}

/// Scores of clips, being gathered: without those that are synthetic, and with them.
#[derive(Default)]
pub(super) struct Rankings {
    real: Gathered,
    all: Gathered,
}

#[derive(Default)]
struct Gathered {
    frames: Scores,
    anomalous: u64,
    pixels: Scores,
    regions: u64,
}

impl Rankings {
    /// Adds every frame of a clip.
    pub(super) fn add_frames(&mut self, clip: &Clip, truth: &Truth, frames: &[Shown]) -> Outcome {
        for frame in frames {
            let Some(record) = &frame.record else {
                continue;
            };
            let is_anomalous = truth.in_view(frame.number).next().is_some();
            for gathered in self.of(clip) {
                let added = match is_anomalous {
                    true => gathered.frames.add_anomalous(record.score, 1),
                    false => gathered.frames.add_normal(record.score),
                };
                added.map_err(|e| of_clip(e, clip))?;
                gathered.anomalous += u64::from(is_anomalous);
            }
        }
        Ok(())
    }

    /// Adds the pixels of the frame of that number, if it is known which of them are anomalous.
    pub(super) fn add_pixels(
        &mut self,
        clip: &Clip,
        truth: &Truth,
        number: u64,
        judged: &Judged<'_>,
    ) -> Outcome {
        let Some(map) = judged.map else {
            return Ok(());
        };
        let is_anomalous = truth.in_view(number).next().is_some();
        let (width, height) = map.input();
        let regions = match (is_anomalous, clip.masks.get(&number)) {
            (false, _) => Regions::none(width * height),
            (true, None) => return Ok(()),
            (true, Some(path)) => {
                let mask = part_of(Mask::open(path)?, judged).map_err(|what| Failure::Picture {
                    path: path.clone(),
                    reason: what,
                })?;
                Regions::find(&mask.resized(width, height), width)
            }
        };
        for gathered in self.of(clip) {
            gathered
                .add_pixels(map, &regions)
                .map_err(|e| of_clip(e, clip))?;
        }
        Ok(())
    }

    /// What they are worth without synthetic clips, and with them.
    pub(super) fn finish(self) -> Outcome<(Ranked, Ranked)> {
        Ok((self.real.finish()?, self.all.finish()?))
    }

    fn of(&mut self, clip: &Clip) -> impl Iterator<Item = &mut Gathered> {
        let real = (!clip.synthetic).then_some(&mut self.real);
        real.into_iter().chain([&mut self.all])
    }
}

impl Gathered {
    fn add_pixels(&mut self, map: &AnomalyMap, regions: &Regions) -> Result<(), Error> {
        let (width, height) = map.input();
        self.regions += regions.count;
        let pixels = map.upsample_to_frame(width, height);
        for (score, region) in pixels.into_iter().zip(&regions.sizes) {
            match region {
                0 => self.pixels.add_normal(score)?,
                size => self.pixels.add_anomalous(score, *size)?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Outcome<Ranked> {
        let failed = |e: Error| Failure::Arguments(e.to_string());
        let frame = self.frames.summary(self.anomalous).map_err(failed)?;
        let pixel = self.pixels.summary(self.regions).map_err(failed)?;
        Ok(Ranked {
            frame: Image::of(&frame),
            pixel: Pixel::of(&pixel),
        })
    }
}

/// The part of a mask that was looked at.
fn part_of(mask: Mask, judged: &Judged<'_>) -> Result<Mask, String> {
    let size = (judged.record.width, judged.record.height);
    let [x, y, w, h] = judged.area;
    let own = mask.size();
    if (x, y, w, h) == (0, 0, size.0, size.1) {
        return Ok(mask);
    }
    if own != (size.0 as usize, size.1 as usize) {
        return Err(format!(
            "wanted a mask of {}x{}, as the frames of which a part is looked at, found {}x{}",
            size.0, size.1, own.0, own.1
        ));
    }
    Ok(mask.cropped(judged.area.map(|side| side as usize)))
}

fn of_clip(error: Error, clip: &Clip) -> Failure {
    Failure::wrong_file(&clip.video, &error)
}
