//! `acdclip import`: other people's weights to a bundle.

use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
};

use acdclip_model::{
    Config, Error,
    bundle::{Provenance, StoragePolicy},
    config::Form,
    import::Import,
    net::TextEncoder,
    text_bank::TextBank,
};
use candle_core::{DType, Device};
use clap::ValueEnum;
use serde_json::Value;

use crate::{
    classes::{self, Class},
    model,
    outcome::{Failure, Outcome, say},
};

/// No description of a model is anywhere near as long.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Make a bundle of CLIP's towers and ACD-CLIP's adapters.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The towers: safetensors under Hugging Face's, open_clip's or OpenAI's names, OpenAI's .pt archive, or a bundle.
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// What model it is: a JSON or TOML file, or clip-vit-l-14-336, clip-vit-b-16, clip-vit-b-32 or compact.
    #[arg(long, value_name = "FILE|PRESET")]
    config: PathBuf,
    /// The adapters: the authors' adapter_N.pth, or safetensors with the same names. May be left out if the base has them.
    #[arg(long, value_name = "FILE")]
    adapter: Option<PathBuf>,
    /// A class to compute text features for, and what the prompts call it where that is not its name. May be given again.
    #[arg(long = "class", value_name = "NAME[=PROMPT]", value_parser = classes::parse)]
    classes: Vec<Class>,
    /// The bundle to write.
    #[arg(short, long, value_name = "BUNDLE")]
    output: PathBuf,
    /// How to store weights: f32, f16, bf16, or q8 (the towers' matrices in 8 bits, the rest as f16).
    #[arg(long, default_value = "f32", value_parser = model::parse_policy)]
    dtype: StoragePolicy,
    /// Side of the network's input in pixels, instead of the config's.
    #[arg(long, value_name = "PIXELS")]
    input_size: Option<usize>,
    /// Groups that the towers are cut into, instead of the config's.
    #[arg(long, value_name = "N")]
    groups: Option<usize>,
    /// Which of the two published descriptions is computed, instead of the config's.
    #[arg(long, value_enum)]
    form: Option<FormName>,
    /// What the adapters were trained on; kept in the bundle.
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// Under which terms the weights may be used; kept in the bundle.
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
}

/// As the command line spells [`Form`].
#[derive(Clone, Copy, ValueEnum)]
enum FormName {
    /// What the authors' code computes.
    Official,
    /// What the paper's equations say.
    Paper,
}

impl FormName {
    fn key(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::Paper => "paper",
        }
    }
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Official => Self::Official,
            FormName::Paper => Self::Paper,
        }
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    refuse_to_overwrite(args)?;
    let import = Import::open(&args.base, args.adapter.as_deref(), config(args)?)?;
    if !import.has_adapters() {
        return Err(Failure::Arguments(format!(
            "{} has no adapters, and without them the model scores nothing: name their file with --adapter",
            args.base.display()
        )));
    }
    let bank = text_bank(&import, &args.classes)?;
    let provenance = Provenance {
        made_by: concat!("acdclip ", env!("CARGO_PKG_VERSION")).into(),
        data: args.data.clone(),
        licence: args.licence.clone(),
        ..Provenance::default()
    };
    let hash = import.write(&args.output, args.dtype, &bank, provenance)?;
    let classes: Vec<_> = bank.names().collect();
    say(format_args!(
        "{}: model {}, classes {}",
        args.output.display(),
        &hash[..hash.len().min(12)],
        classes.join(", ")
    ))
}

fn refuse_to_overwrite(args: &Args) -> Outcome {
    let Ok(output) = args.output.canonicalize() else {
        return Ok(());
    };
    let inputs = [Some(&args.base), Some(&args.config), args.adapter.as_ref()];
    match inputs
        .into_iter()
        .flatten()
        .find(|input| input.canonicalize().is_ok_and(|i| i == output))
    {
        Some(input) => Err(Failure::Arguments(format!(
            "the bundle would overwrite {}, which it is made from; give another file with --output",
            input.display()
        ))),
        None => Ok(()),
    }
}

/// The config that is asked for, with what the command line sets instead.
fn config(args: &Args) -> Outcome<Config> {
    let form = args.form.map(Form::from);
    if let Some(preset) = preset(&args.config, form.unwrap_or_default()) {
        return with_sizes(preset, args);
    }
    let mut value = read_config(&args.config)?;
    if let (Some(form), Some(object)) = (args.form, value.as_object_mut()) {
        // Before the defaults are filled in: some of them depend on it.
        object.insert("form".into(), form.key().into());
    }
    if let (Some(groups), Some(object)) = (args.groups, value.as_object_mut()) {
        object.insert("groups".into(), groups.into());
    }
    let config: Config = serde_json::from_value(value).map_err(|e| bad_config(&args.config, &e))?;
    with_sizes(config, args)
}

fn preset(name: &Path, form: Form) -> Option<Config> {
    Config::preset(name.to_str()?, form)
}

fn with_sizes(mut config: Config, args: &Args) -> Outcome<Config> {
    config.input_size = args.input_size.unwrap_or(config.input_size);
    config.groups = args.groups.unwrap_or(config.groups);
    config.check()?;
    Ok(config)
}

fn read_config(path: &Path) -> Outcome<Value> {
    let file = std::fs::File::open(path).map_err(|source| {
        Failure::Arguments(format!(
            "{}: {source}; wanted a config file, or one of the presets {}",
            path.display(),
            Config::PRESETS.join(", ")
        ))
    })?;
    let mut text = String::new();
    file.take(MAX_CONFIG_BYTES)
        .read_to_string(&mut text)
        .map_err(Failure::io(path))?;
    match path.extension().and_then(OsStr::to_str) {
        Some("toml") => toml::from_str(&text).map_err(|e| bad_config(path, &e)),
        _ => serde_json::from_str(&text).map_err(|e| bad_config(path, &e)),
    }
}

fn bad_config(path: &Path, problem: &dyn std::fmt::Display) -> Failure {
    Error::file(path.display(), problem.to_string()).into()
}

/// The text features that the bundle will carry: those asked for, else those that the adapter file has, else the config's classes.
fn text_bank(import: &Import, asked: &[Class]) -> Outcome<TextBank> {
    let own = import.text_bank();
    if !import.has_text_tower() {
        return chosen(own, asked);
    }
    let named = |name: &String| Class {
        name: name.clone(),
        prompt: None,
    };
    let classes = match asked {
        [] if !own.classes.is_empty() => return Ok(own.clone()),
        [] => import.config().classes.iter().map(named).collect(),
        asked => asked.to_vec(),
    };
    bake(import, &classes)
}

/// Of the features that came with the adapters, those asked for; all of them where none is.
fn chosen(own: &TextBank, asked: &[Class]) -> Outcome<TextBank> {
    if asked.is_empty() {
        return Ok(own.clone());
    }
    let mut bank = TextBank::default();
    for class in asked {
        if let Some(prompt) = &class.prompt {
            return Err(Failure::Arguments(format!(
                "a prompt ({prompt:?}) wants a text tower to read it, and the base has none"
            )));
        }
        bank.insert(&class.name, own.get(&class.name)?.clone());
    }
    Ok(bank)
}

fn bake(import: &Import, classes: &[Class]) -> Outcome<TextBank> {
    let config = import.config();
    let mut bank = TextBank::default();
    let Some(text) = &config.text else {
        return Ok(bank);
    };
    let vb = import.var_builder(DType::F32, &Device::Cpu);
    let encoder = TextEncoder::new(config, text, vb.clone(), vb).map_err(Error::from)?;
    for class in classes {
        let features = encoder.class_features(&config.prompts, class.says())?;
        bank.insert(&class.name, features);
    }
    Ok(bank)
}
