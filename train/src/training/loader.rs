//! From files to batches: decoded and augmented on threads of their own, ahead of the step, in an order that threads cannot change.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
};

use acdclip_model::{Config, preprocess::Preprocessor};
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

use super::{
    augment::{Example, Rgb, example},
    random,
    recipe::{AugmentPart, LoaderPart, OnBadImage},
    samples::Sample,
};
use crate::{
    dataset::mask::Mask,
    outcome::{Failure, Outcome},
    picture::Picture,
};

/// What one pass through the network takes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// [B, 3, side, side], normalised.
    pub(crate) pixels: Vec<f32>,
    /// [B, side, side], 0 or 1.
    pub(crate) masks: Vec<f32>,
    /// [B], 1 for abnormal.
    pub(crate) labels: Vec<u32>,
    /// Numbers of the samples in it.
    pub(crate) samples: Vec<usize>,
    /// What was left out, and why.
    pub(crate) warnings: Vec<String>,
}

/// Makes batches of samples.
pub(crate) struct Loader {
    samples: Vec<Sample>,
    augment: AugmentPart,
    on_bad_image: OnBadImage,
    preprocessor: Preprocessor,
    side: usize,
    seed: u64,
    prefetch: usize,
    pool: Arc<ThreadPool>,
}

/// Threads for all loaders of a run.
pub(crate) fn pool(recipe: &LoaderPart) -> Outcome<Arc<ThreadPool>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = match recipe.workers {
        0 => (cores / 2).max(1),
        workers => workers,
    };
    // A pool of its own: the network's products run on rayon's global one, and neither shall wait for the other.
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|i| format!("load-{i}"))
        .build()
        .map(Arc::new)
        .map_err(|e| Failure::Training(format!("{workers} loading threads: {e}")))
}

impl Loader {
    /// For the input of `config`'s network.
    pub(crate) fn new(
        samples: Vec<Sample>,
        augment: AugmentPart,
        recipe: &LoaderPart,
        seed: u64,
        config: &Config,
        pool: Arc<ThreadPool>,
    ) -> Outcome<Self> {
        let side = config.input_size;
        Ok(Self {
            samples,
            augment,
            on_bad_image: recipe.on_bad_image,
            preprocessor: Preprocessor::new(side, side, config.image_mean, config.image_std)?,
            side,
            seed,
            prefetch: recipe.prefetch,
            pool,
        })
    }

    /// What it makes batches of.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Side of an input in pixels.
    pub(crate) fn side(&self) -> usize {
        self.side
    }

    /// The batch of the samples `chosen`, the first of which has place `first` in its epoch.
    fn batch(&self, epoch: usize, first: usize, chosen: &[usize]) -> Outcome<Batch> {
        let examples: Vec<_> = self.pool.install(|| {
            chosen
                .par_iter()
                .enumerate()
                .map(|(i, sample)| self.example(epoch, first + i, *sample))
                .collect()
        });
        let mut batch = Batch::default();
        for (sample, example) in chosen.iter().zip(examples) {
            match (example, self.on_bad_image) {
                (Ok(example), _) => batch.push(*sample, example),
                (Err(problem), OnBadImage::Skip) => {
                    batch.warnings.push(format!("{problem}; left out"));
                }
                (Err(problem), OnBadImage::Error) => return Err(problem),
            }
        }
        Ok(batch)
    }

    fn example(&self, epoch: usize, place: usize, sample: usize) -> Outcome<Example> {
        let sample = &self.samples[sample];
        let (width, height, pixels) = Picture::open(&sample.image)?.into_rgb();
        let picture = Rgb {
            width,
            height,
            pixels,
        };
        let mask = sample.mask.as_deref().map(Mask::open).transpose()?;
        let mut random = random::stream(self.seed, "image", [epoch as u64, place as u64]);
        Ok(example(
            picture,
            mask,
            &self.augment,
            &self.preprocessor,
            self.side,
            &mut random,
        )?)
    }

    /// Starts making the batches of `order`, cut into pieces of `size`, without the first `skip` pieces.
    pub(crate) fn start(
        self: &Arc<Self>,
        epoch: usize,
        order: Vec<usize>,
        size: usize,
        skip: usize,
    ) -> Outcome<Feed> {
        let (sender, receiver) = sync_channel(self.prefetch);
        let loader = Arc::clone(self);
        let work = move || {
            for (number, chosen) in order.chunks(size).enumerate().skip(skip) {
                let batch = loader.batch(epoch, number * size, chosen);
                let is_last = batch.is_err();
                if sender.send(batch).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("batches".into())
            .spawn(work)
            .map_err(|e| Failure::Training(format!("a loading thread: {e}")))?;
        Ok(Feed {
            receiver: Some(receiver),
            thread: Some(thread),
        })
    }
}

impl Batch {
    fn push(&mut self, sample: usize, example: Example) {
        self.pixels.extend(example.pixels);
        self.masks.extend(example.mask);
        self.labels.push(u32::from(example.is_abnormal));
        self.samples.push(sample);
    }
}

/// Batches on their way. Dropping it ends the thread that makes them.
pub(crate) struct Feed {
    receiver: Option<Receiver<Outcome<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Feed {
    type Item = Outcome<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.as_ref()?.recv().ok()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there has printed itself; there is nothing to add.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn loader(folder: &Path, workers: usize, on_bad_image: OnBadImage) -> Arc<Loader> {
        let samples = (0..5).map(|i| {
            let image = folder.join(format!("{i}.png"));
            let mask = folder.join(format!("{i}_mask.png"));
            image::RgbImage::from_fn(20 + i, 30, |x, y| {
                image::Rgb([(x * 9) as u8, (y * 5) as u8, (i * 40) as u8])
            })
            .save(&image)
            .unwrap();
            image::GrayImage::from_fn(20, 30, |x, _| image::Luma([if x < 4 { 255 } else { 0 }]))
                .save(&mask)
                .unwrap();
            Sample {
                image,
                mask: (i % 2 == 0).then_some(mask),
                class: "x".into(),
                set: 0,
            }
        });
        let recipe = LoaderPart {
            workers,
            prefetch: 1,
            on_bad_image,
        };
        let config = Config::from_json(
            r#"{"groups": 2, "text_width": 8, "input_size": 14,
                "vision": {"width": 8, "layers": 2, "heads": 2, "patch_size": 14, "image_size": 14}}"#,
        )
        .unwrap();
        let pool = pool(&recipe).unwrap();
        let augment = AugmentPart::default();
        Arc::new(Loader::new(samples.collect(), augment, &recipe, 1, &config, pool).unwrap())
    }

    fn all(loader: &Arc<Loader>, skip: usize) -> Vec<Batch> {
        let feed = loader.start(2, vec![4, 0, 1, 2, 3], 2, skip).unwrap();
        feed.map(Result::unwrap).collect()
    }

    #[test]
    fn threads_do_not_change_what_comes_nor_does_starting_in_the_middle() {
        let folder = tempfile::tempdir().unwrap();
        let one = all(&loader(folder.path(), 1, OnBadImage::Error), 0);
        let many = all(&loader(folder.path(), 4, OnBadImage::Error), 0);
        assert_eq!(one.len(), 3);
        assert_eq!(one[0].samples, [4, 0]);
        assert_eq!(one[2].labels.len(), 1);
        for (a, b) in one.iter().zip(&many) {
            assert_eq!((&a.pixels, &a.masks), (&b.pixels, &b.masks));
        }
        let later = all(&loader(folder.path(), 2, OnBadImage::Error), 2);
        assert_eq!(later[0].pixels, one[2].pixels);
    }

    #[test]
    fn a_broken_picture_ends_the_batches_or_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let strict = loader(folder.path(), 1, OnBadImage::Error);
        let lax = loader(folder.path(), 1, OnBadImage::Skip);
        std::fs::write(folder.path().join("0.png"), b"\xff\xd8\xff\xe0 no jpeg").unwrap();
        let found: Vec<_> = strict.start(0, vec![0, 1], 2, 0).unwrap().collect();
        let error = found[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("0.png"), "{error}");
        let batches = all(&lax, 0);
        assert_eq!(batches[0].samples, [4]);
        assert!(batches[0].warnings[0].contains("0.png"));
    }

    #[test]
    fn batches_that_nobody_takes_end_with_their_feed() {
        let folder = tempfile::tempdir().unwrap();
        let loader = loader(folder.path(), 1, OnBadImage::Error);
        let order = [0, 1, 2, 3].repeat(50);
        let mut feed = loader.start(0, order, 1, 0).unwrap();
        feed.next().unwrap().unwrap();
        drop(feed);
        assert_eq!(Arc::strong_count(&loader), 1);
    }
}
