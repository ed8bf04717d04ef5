//! The run: epochs of steps, what is written after each, and how it stops early without losing anything.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use acdclip_model::Config;
use candle_core::{Device, Tensor};

use super::{
    average::{Average, put_back},
    checkpoint::{self, Checkpoints, State},
    loader::{Batch, Loader, pool},
    log::Table,
    loss::{Loss, Parts},
    network::Network,
    optimizer::{self, Adam, Gradients},
    progress::{Progress, named},
    recipe::{AugmentPart, Chosen, Compute, Recipe},
    samples::{Sample, Samples, draw},
    schedule::{self, Place},
    tensorboard::Events,
};
use crate::{
    files::{sweep, write_tensors, write_whole},
    outcome::{Failure, Outcome},
};

/// The model that a run ends with.
pub(crate) const BUNDLE: &str = "bundle.safetensors";

/// The recipe as it was run.
pub(crate) const CONFIG: &str = "config.toml";

/// The model's config, as `acdclip import` takes it.
const MODEL_CONFIG: &str = "model.json";

const ADAPTERS: &str = "adapters";

/// How many files a message names.
const NAMED: usize = 16;

/// A training under way.
pub(crate) struct Trainer {
    recipe: Recipe,
    run: PathBuf,
    network: Network,
    adam: Adam,
    average: Option<Average>,
    state: State,
    training: Arc<Loader>,
    validation: Option<Arc<Loader>>,
    checkpoints: Checkpoints,
    steps: Table,
    epochs: Table,
    events: Events,
    progress: Progress,
    stop: Arc<AtomicBool>,
    warned: std::collections::BTreeSet<String>,
}

/// One step's outcome.
struct Step {
    parts: Parts,
    images: usize,
    batches: usize,
}

impl Trainer {
    /// Prepares the run in `run`, from its newest checkpoint if it has one. `stop` says when to stop early.
    pub(crate) fn new(
        recipe: Recipe,
        run: &Path,
        device: &Device,
        stop: Arc<AtomicBool>,
    ) -> Outcome<Self> {
        recipe.check()?;
        let samples = Samples::read(&recipe)?;
        let network = Network::new(&recipe, device)?;
        network.check_classes(&samples.training)?;
        network.check_classes(&samples.validation)?;
        // Only now: what cannot start leaves no run behind.
        for folder in [run, &run.join(ADAPTERS), &run.join(checkpoint::FOLDER)] {
            sweep(folder)?;
        }
        write_settings(run, &recipe, network.config())?;
        let checkpoints = Checkpoints::of(run, recipe.output.keep_checkpoints)?;
        let mut warnings = samples.warnings;
        let mut average = Average::new(recipe.optimizer.average);
        let restored =
            checkpoints.restore(&network.parameters(), average.as_mut(), &mut warnings)?;
        let (mut state, adam) = restored.unwrap_or_default();
        if recipe.compute == Compute::F16 {
            state.scale.get_or_insert_default();
        }
        let pool = pool(&recipe.loader)?;
        let loader = |samples, augment| {
            let (seed, config) = (recipe.seed, network.config());
            Loader::new(
                samples,
                augment,
                &recipe.loader,
                seed,
                config,
                Arc::clone(&pool),
            )
            .map(Arc::new)
        };
        let training = loader(samples.training, recipe.augment.clone())?;
        let validation = match samples.validation.is_empty() {
            true => None,
            false => Some(loader(samples.validation, AugmentPart::none())?),
        };
        let batches = batches_an_epoch(&training, &recipe);
        let done = state.epoch * batches + state.batch;
        let total = recipe.schedule.epochs * batches;
        let progress = Progress::new(total as u64, done as u64, recipe.schedule.epochs);
        let trainer = Self {
            steps: Table::open(&run.join("log.csv"), &step_columns(), state.step)?,
            epochs: Table::open(
                &run.join("epochs.csv"),
                &epoch_columns(),
                state.epoch as u64,
            )?,
            events: Events::create(&run.join("events"), state.step)?,
            run: run.into(),
            network,
            adam,
            average,
            state,
            training,
            validation,
            checkpoints,
            progress,
            stop,
            warned: Default::default(),
            recipe,
        };
        trainer.introduce();
        for warning in warnings {
            trainer
                .progress
                .say(&format!("acdclip: warning: {warning}"));
        }
        Ok(trainer)
    }

    fn introduce(&self) {
        let apart = self.validation.as_ref().map_or(0, |v| v.samples().len());
        self.progress.say(&format!(
            "{} images to train on, {apart} kept apart; {} parameters; input {} px",
            self.training.samples().len(),
            self.network.parameter_count(),
            self.training.side(),
        ));
        if self.state.step > 0 {
            self.progress.say(&format!(
                "going on after step {}, in epoch {}",
                self.state.step,
                self.state.epoch + 1
            ));
        }
    }

    /// Runs to the end and writes the bundle; returns its hash.
    pub(crate) fn run(mut self) -> Outcome<String> {
        while self.state.epoch < self.recipe.schedule.epochs {
            self.epoch()?;
        }
        self.progress.finish();
        let path = self.run.join(BUNDLE);
        if self.recipe.output.bundle == Chosen::Best && path.is_file() {
            return Ok(acdclip_model::Bundle::open(&path)?.hash());
        }
        self.averaged(|this| this.write_bundle(&path))
    }

    fn write_bundle(&self, path: &Path) -> Outcome<String> {
        self.network
            .write(path, &self.recipe, self.training.samples())
    }

    /// Calls `work` while the parameters are their averages, where there are such.
    fn averaged<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let Some(average) = &self.average else {
            return work(self);
        };
        let parameters = self.network.parameters();
        let before = average
            .exchange(&parameters)
            .map_err(acdclip_model::Error::from)?;
        let done = work(self);
        put_back(&parameters, &before).map_err(acdclip_model::Error::from)?;
        done
    }

    /// What is left of an epoch, and what is written after it.
    fn epoch(&mut self) -> Outcome {
        let epoch = self.state.epoch;
        let schedule = self.recipe.schedule.clone();
        let order = draw(self.training.samples(), &self.recipe, epoch);
        let batches = order.len().div_ceil(schedule.batch_size);
        let mut feed = self
            .training
            .start(epoch, order, schedule.batch_size, self.state.batch)?;
        self.progress.pause();
        while self.state.batch < batches {
            let count = schedule.accumulate.min(batches - self.state.batch);
            let step = self.step(&mut feed, count)?;
            self.state.batch += count;
            self.state.step += 1;
            self.state.sums.add(&step.parts, step.images as f64);
            self.state.images += step.images as u64;
            if self.stop.load(Ordering::Relaxed) && self.state.batch < batches {
                self.stopped()?;
            }
        }
        drop(feed);
        self.end_epoch()?;
        match self.stop.load(Ordering::Relaxed) {
            true if self.state.epoch < schedule.epochs => self.stopped(),
            _ => Ok(()),
        }
    }

    /// Writes a checkpoint and ends the run, to be gone on with later.
    fn stopped(&mut self) -> Outcome {
        self.checkpoint()?;
        self.progress.finish();
        Err(Failure::Interrupted {
            step: self.state.step,
            run: self.run.clone(),
        })
    }

    fn checkpoint(&self) -> Outcome {
        let parameters = self.network.parameters();
        self.checkpoints
            .write(&self.state, &parameters, &self.adam, self.average.as_ref())?;
        Ok(())
    }

    /// One step of the optimizer, from the gradients of `count` batches.
    fn step(
        &mut self,
        feed: &mut impl Iterator<Item = Outcome<Batch>>,
        count: usize,
    ) -> Outcome<Step> {
        let parameters = self.network.parameters();
        let mut gradients = Gradients::new();
        let mut sums = Parts::default();
        let mut images = 0;
        let mut seen = Vec::new();
        for _ in 0..count {
            let batch = next(feed)?;
            self.warn(&batch.warnings);
            if batch.labels.is_empty() {
                continue;
            }
            let (parts, own) = self.pass(&batch)?;
            let weight = match count {
                1 => 1.0,
                _ => batch.labels.len() as f64,
            };
            optimizer::accumulate(&mut gradients, own, weight)
                .map_err(acdclip_model::Error::from)?;
            sums.add(&parts, batch.labels.len() as f64);
            images += batch.labels.len();
            seen.extend(batch.samples);
        }
        if count > 1 {
            gradients = optimizer::scaled(gradients, 1.0 / images.max(1) as f64)
                .map_err(acdclip_model::Error::from)?;
        }
        let parts = sums.over(images.max(1) as f64);
        let norm = self.update(&parameters, gradients, &seen)?;
        let step = Step {
            parts,
            images,
            batches: count,
        };
        self.record(&step, norm)?;
        Ok(step)
    }

    /// Loss and gradients of a batch. An error that names its files if the loss is not a number.
    fn pass(&self, batch: &Batch) -> Outcome<(Parts, Gradients)> {
        let loss = self
            .network
            .loss(&self.recipe, batch, self.training.samples())?;
        let parts = numbers(&loss)?;
        if !parts.is_finite() {
            let samples = self.training_samples(&batch.samples);
            return Err(self.not_finite("loss", &named(&parts), samples));
        }
        let gradients = self
            .gradients(&loss.total)
            .map_err(acdclip_model::Error::from)?;
        Ok((parts, gradients))
    }

    fn gradients(&self, loss: &Tensor) -> candle_core::Result<Gradients> {
        let factor = self.state.scale.map_or(1.0, |scale| scale.factor());
        let store = match factor {
            1.0 => loss.backward()?,
            factor => (loss * factor)?.backward()?,
        };
        let gradients = optimizer::gradients(&store, &self.network.parameters());
        optimizer::scaled(gradients, 1.0 / factor)
    }

    /// Whether a step whose gradients are not finite is left out: the factor on the loss was too large, and is smaller now.
    fn overflowed(&mut self) -> bool {
        let Some(scale) = &mut self.state.scale else {
            return false;
        };
        let smaller = scale.fall();
        if smaller {
            self.progress.say(&format!(
                "step {}: gradients too large for f16; left out, the loss is scaled by {} from here",
                self.state.step + 1,
                scale.factor()
            ));
        }
        smaller
    }

    /// Clips and takes the step; returns the gradients' norm before.
    fn update(
        &mut self,
        parameters: &std::collections::BTreeMap<String, candle_core::Var>,
        mut gradients: Gradients,
        seen: &[usize],
    ) -> Outcome<f64> {
        let compute = acdclip_model::Error::from;
        let norm = optimizer::norm(gradients.values()).map_err(compute)?;
        if !norm.is_finite() && self.overflowed() {
            return Ok(norm);
        }
        if !norm.is_finite() {
            let samples = self.training_samples(seen);
            return Err(self.not_finite("gradient", &format!("norm {norm}"), samples));
        }
        if gradients.is_empty() {
            return Ok(norm);
        }
        if let Some(scale) = &mut self.state.scale {
            scale.hold();
        }
        let recipe = &self.recipe.optimizer;
        optimizer::clip_blend(&mut gradients, recipe.clip_blend).map_err(compute)?;
        optimizer::clip_all(&mut gradients, norm, recipe.clip_all).map_err(compute)?;
        let factor = schedule::factor(recipe, self.place());
        self.adam
            .step(recipe, factor, parameters, &gradients)
            .map_err(compute)?;
        if let Some(average) = &mut self.average {
            average
                .update(self.adam.steps(), parameters)
                .map_err(compute)?;
        }
        Ok(norm)
    }

    /// The step that is to be taken next.
    fn place(&self) -> Place {
        let schedule = &self.recipe.schedule;
        let batches = batches_an_epoch(&self.training, &self.recipe);
        let an_epoch = batches.div_ceil(schedule.accumulate);
        Place {
            epoch: self.state.epoch,
            step: self.state.step,
            steps: (schedule.epochs * an_epoch) as u64,
        }
    }

    fn training_samples<'a>(&'a self, which: &'a [usize]) -> impl Iterator<Item = &'a Sample> {
        which.iter().map(|i| &self.training.samples()[*i])
    }

    fn not_finite<'a>(
        &self,
        what: &str,
        found: &str,
        samples: impl Iterator<Item = &'a Sample>,
    ) -> Failure {
        let mut files: Vec<_> = samples.map(|s| s.image.display().to_string()).collect();
        let more = files.len().saturating_sub(NAMED);
        files.truncate(NAMED);
        if more > 0 {
            files.push(format!("and {more} more"));
        }
        let lower = "lower the rates or set optimizer.clip_all";
        let advice = match self.checkpoints.is_empty() {
            true => format!("{lower}, and start again"),
            false => format!(
                "{lower} in {}, and go on from the last checkpoint with --resume",
                self.run.join(CONFIG).display()
            ),
        };
        Failure::Training(format!(
            "step {}: the {what} is not finite ({found}); the batch was {}; {advice}",
            self.state.step + 1,
            files.join(", ")
        ))
    }

    fn warn(&mut self, warnings: &[String]) {
        for warning in warnings {
            if self.warned.insert(warning.clone()) {
                self.progress.say(&format!("acdclip: warning: {warning}"));
            }
        }
    }

    /// Writes down a step that was just taken.
    fn record(&mut self, step: &Step, norm: f64) -> Outcome {
        let (epoch, number) = (self.state.epoch, self.state.step + 1);
        let speed = self
            .progress
            .step(epoch, [step.batches, step.images], &step.parts);
        let recipe = &self.recipe.optimizer;
        let factor = schedule::factor(recipe, self.place());
        let rates = [recipe.image_rate * factor, recipe.text_rate * factor];
        let mut cells = vec![(epoch + 1).to_string(), step.images.to_string()];
        cells.extend(step.parts.0.iter().map(f64::to_string));
        cells.extend([norm, rates[0], rates[1]].iter().map(f64::to_string));
        cells.push(format!("{:.3}", speed.images_per_second));
        cells.push(format!("{:.4}", speed.seconds));
        self.steps.row(number, &cells)?;
        let mut scalars = tagged(TRAINING_TAGS, &step.parts);
        scalars.extend([
            ("gradient/norm", norm),
            ("rate/image", rates[0]),
            ("rate/text", rates[1]),
            ("images_per_second", speed.images_per_second),
        ]);
        self.events.scalars(number, &scalars)
    }

    /// Measures, writes adapters and checkpoint, and goes on to the next epoch.
    fn end_epoch(&mut self) -> Outcome {
        let done = self.state.epoch + 1;
        let mean = self.state.sums.over(self.state.images.max(1) as f64);
        let measured = self.averaged(Self::validate)?;
        // An epoch's work is safe before anything else is made of it.
        self.checkpoint()?;
        self.averaged(|this| this.keep(done, measured.as_ref()))?;
        let mut cells: Vec<_> = mean.0.iter().map(f64::to_string).collect();
        let mut line = format!(
            "epoch {done}/{}: {}",
            self.recipe.schedule.epochs,
            named(&mean)
        );
        self.events
            .scalars(self.state.step, &tagged(EPOCH_TAGS, &mean))?;
        match &measured {
            Some(parts) => {
                cells.extend(parts.0.iter().map(f64::to_string));
                line.push_str(&format!("; validation {}", named(parts)));
                self.events
                    .scalars(self.state.step, &tagged(VALIDATION_TAGS, parts))?;
            }
            None => cells.extend(std::iter::repeat_n(String::new(), Parts::NAMES.len())),
        }
        self.progress.say(&line);
        self.state.epoch = done;
        self.state.batch = 0;
        self.state.sums = Parts::default();
        self.state.images = 0;
        self.epochs.row(done as u64, &cells)?;
        self.checkpoint()
    }

    /// Writes what is kept of `epoch`: adapters, and the bundle if its validation loss is the least.
    fn keep(&mut self, epoch: usize, measured: Option<&Parts>) -> Outcome {
        self.write_adapters(epoch)?;
        if let Some(parts) = measured
            && self
                .state
                .best
                .is_none_or(|(_, least)| parts.total() < least)
        {
            self.state.best = Some((epoch, parts.total()));
            if self.recipe.output.bundle == Chosen::Best {
                self.write_bundle(&self.run.join(BUNDLE))?;
            }
        }
        Ok(())
    }

    fn write_adapters(&self, epoch: usize) -> Outcome {
        let folder = self.run.join(ADAPTERS);
        std::fs::create_dir_all(&folder).map_err(Failure::io(&folder))?;
        let samples = self.training.samples();
        let tensors = self.network.adapters(&self.recipe.output, samples)?;
        let path = folder.join(format!("epoch-{epoch:03}.safetensors"));
        let metadata = [("epoch".to_owned(), epoch.to_string())].into();
        write_tensors(&path, &tensors, metadata)
    }

    /// The mean loss over what is kept apart.
    fn validate(&mut self) -> Outcome<Option<Parts>> {
        let Some(loader) = self.validation.clone() else {
            return Ok(None);
        };
        let order = (0..loader.samples().len()).collect();
        let (mut sums, mut images) = (Parts::default(), 0);
        let size = self.recipe.schedule.batch_size;
        let mut feed = loader.start(0, order, size, 0)?;
        for _ in 0..loader.samples().len().div_ceil(size) {
            let batch = next(&mut feed)?;
            self.warn(&batch.warnings);
            if batch.labels.is_empty() {
                continue;
            }
            let loss = self.network.loss(&self.recipe, &batch, loader.samples())?;
            let parts = numbers(&loss)?;
            if !parts.is_finite() {
                let samples = batch.samples.iter().map(|i| &loader.samples()[*i]);
                return Err(self.not_finite("validation loss", &named(&parts), samples));
            }
            sums.add(&parts, batch.labels.len() as f64);
            images += batch.labels.len();
        }
        if images == 0 {
            return Err(Failure::Training(
                "no picture that is kept apart to validate on can be read; the warnings say why"
                    .into(),
            ));
        }
        Ok(Some(sums.over(images as f64)))
    }
}

/// The next batch, where there has to be one.
fn next(feed: &mut impl Iterator<Item = Outcome<Batch>>) -> Outcome<Batch> {
    let gone = || Err(Failure::Training("the loading thread is gone".into()));
    feed.next().unwrap_or_else(gone)
}

/// Makes the run's folder and writes what it was told: its recipe, and the config that `acdclip import` takes.
fn write_settings(run: &Path, recipe: &Recipe, config: &Config) -> Outcome {
    std::fs::create_dir_all(run).map_err(Failure::io(run))?;
    write_whole(&run.join(CONFIG), recipe.to_toml()?.as_bytes())?;
    let mut json = serde_json::to_string_pretty(config)
        .map_err(|e| Failure::Training(format!("model config: {e}")))?;
    json.push('\n');
    write_whole(&run.join(MODEL_CONFIG), json.as_bytes())
}

fn numbers(loss: &Loss) -> Outcome<Parts> {
    Ok(loss.parts().map_err(acdclip_model::Error::from)?)
}

fn batches_an_epoch(loader: &Loader, recipe: &Recipe) -> usize {
    let images = match recipe.schedule.images_per_epoch {
        0 => loader.samples().len(),
        count => count,
    };
    images.div_ceil(recipe.schedule.batch_size)
}

const TRAINING_TAGS: [&str; 5] = [
    "loss/total",
    "loss/focal",
    "loss/dice_normal",
    "loss/dice_abnormal",
    "loss/class",
];

const EPOCH_TAGS: [&str; 5] = [
    "epoch/total",
    "epoch/focal",
    "epoch/dice_normal",
    "epoch/dice_abnormal",
    "epoch/class",
];

const VALIDATION_TAGS: [&str; 5] = [
    "validation/total",
    "validation/focal",
    "validation/dice_normal",
    "validation/dice_abnormal",
    "validation/class",
];

fn tagged(tags: [&'static str; 5], parts: &Parts) -> Vec<(&'static str, f64)> {
    tags.into_iter().zip(parts.0).collect()
}

fn step_columns() -> Vec<&'static str> {
    let after = [
        "gradient_norm",
        "image_rate",
        "text_rate",
        "images_per_second",
        "seconds",
    ];
    [&["step", "epoch", "images"], &Parts::NAMES[..], &after].concat()
}

fn epoch_columns() -> Vec<&'static str> {
    let validation = [
        "validation_loss",
        "validation_focal",
        "validation_dice_normal",
        "validation_dice_abnormal",
        "validation_class",
    ];
    [&["epoch"], &Parts::NAMES[..], &validation].concat()
}
