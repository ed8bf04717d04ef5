//! `acdclip train`: what the command line says, put into a recipe and a run's folder.

use std::path::{Path, PathBuf};

use acdclip_model::DeviceSpec;

use super::{
    checkpoint::FOLDER,
    recipe::{Compute, DataPart, Recipe},
    setting::Setting,
    trainer::{BUNDLE, CONFIG, Trainer},
};
use crate::{
    interrupt::stop_on_interrupt,
    model::parse_device,
    outcome::{Failure, Outcome, say},
};

/// Train adapters on pictures with masks.
///
/// Ctrl-C ends the step, writes a checkpoint and stops; twice, stops at once. --resume goes on from the last checkpoint to the same numbers
/// as if the run had not been stopped.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe (TOML); what it does not say is as in the authors' recipe.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A set: a folder with a meta.jsonl, or such a file. May be given again. Instead of the recipe's sets.
    #[arg(long, value_name = "DIR|JSONL", num_args = 1..)]
    data: Vec<PathBuf>,
    /// The towers: a bundle, or CLIP's weights (then with a recipe that sets model.config, or --model-config).
    #[arg(long, value_name = "WEIGHTS")]
    base: Option<PathBuf>,
    /// What model the base is, where it is no bundle: a preset or a config file.
    #[arg(long, value_name = "FILE|PRESET")]
    model_config: Option<String>,
    /// The folder that the run is kept in.
    #[arg(short, long, value_name = "RUN")]
    output: PathBuf,
    /// Goes on with the run that is in the folder.
    #[arg(long, conflicts_with_all = ["config", "data", "base", "model_config", "seed"])]
    resume: bool,
    /// Epochs, instead of the recipe's.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images in a batch, instead of the recipe's.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    batch_size: Option<usize>,
    /// What frozen towers compute in, instead of the recipe's.
    #[arg(long, value_enum, conflicts_with = "resume")]
    compute: Option<Compute>,
    /// Seed, instead of the recipe's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A value instead of the recipe's, as TOML: augment.light.probability=0.5. May be given again.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Setting::read, conflicts_with = "resume")]
    settings: Vec<Setting>,
    /// Where to compute: auto, cpu, cuda, cuda:N or metal.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    device: DeviceSpec,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let kept = args.output.join(CONFIG);
    let recipe = match args.resume {
        true => resumed(args, &kept)?,
        false => fresh(args, &kept)?,
    };
    let device = args.device.open()?;
    let stop = stop_on_interrupt()?;
    let hash = Trainer::new(recipe, &args.output, &device, stop)?.run()?;
    say(format_args!(
        "{}: model {}",
        args.output.join(BUNDLE).display(),
        &hash[..hash.len().min(12)]
    ))
}

/// The recipe that a run in the folder was started with.
fn resumed(args: &Args, kept: &Path) -> Outcome<Recipe> {
    if !kept.is_file() {
        return Err(Failure::Arguments(format!(
            "{}: wanted a run to go on with, found no {CONFIG}; start one without --resume",
            args.output.display()
        )));
    }
    let mut recipe = Recipe::read(kept, &[])?;
    recipe.schedule.epochs = args.epochs.unwrap_or(recipe.schedule.epochs);
    Ok(recipe)
}

/// The recipe of a new run.
fn fresh(args: &Args, kept: &Path) -> Outcome<Recipe> {
    let wrong = |found: &str| {
        let folder = args.output.display();
        Err(Failure::Arguments(format!(
            "{folder}: {found}, or name another folder"
        )))
    };
    if kept.exists() {
        return wrong("there is a run already; go on with it by --resume");
    }
    if args.output.join(FOLDER).exists() {
        return wrong(
            "there are checkpoints of a run whose config.toml is gone; put that back and go on by --resume",
        );
    }
    let mut recipe = match &args.config {
        Some(path) => Recipe::read(path, &args.settings)?,
        None => {
            let mut recipe = Recipe::with("", &args.settings)?;
            recipe.resolve(Path::new("."))?;
            recipe
        }
    };
    let mut said = Recipe::default();
    said.model.base = args.base.clone().unwrap_or_default();
    said.model.config = args.model_config.clone();
    said.data = args.data.iter().cloned().map(DataPart::of).collect();
    said.resolve(Path::new("."))?;
    if args.base.is_some() {
        recipe.model.base = said.model.base;
    }
    if args.model_config.is_some() {
        recipe.model.config = said.model.config;
    }
    if !args.data.is_empty() {
        recipe.data = said.data;
    }
    recipe.schedule.epochs = args.epochs.unwrap_or(recipe.schedule.epochs);
    recipe.schedule.batch_size = args.batch_size.unwrap_or(recipe.schedule.batch_size);
    recipe.compute = args.compute.unwrap_or(recipe.compute);
    recipe.seed = args.seed.unwrap_or(recipe.seed);
    Ok(recipe)
}
