//! `acdclip export`: a bundle for use, with the text features of its classes and without the tower that made them.

use std::path::PathBuf;

use acdclip_model::{
    Bundle, Error,
    bundle::{BundleWriter, Provenance, SourceFile, StoragePolicy, is_text},
    net::TextEncoder,
    text_bank::TextBank,
};
use candle_core::{DType, Device};
use serde_json::Value;

use crate::{
    classes::{self, Class},
    info::megabytes,
    model,
    outcome::{Failure, Outcome, say, warn},
};

/// Make a bundle for use: text features of chosen classes stay, the text tower goes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle (.safetensors); the built-in model where left out.
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// The classes to keep, and what the prompts call them where that is not their name; all that the bundle has features of where left
    /// out. One that it has features of keeps them, unless a prompt is given.
    #[arg(long, value_name = "NAME[=PROMPT]", num_args = 1.., value_parser = classes::parse)]
    classes: Vec<Class>,
    /// The bundle to write.
    #[arg(short, long, value_name = "BUNDLE")]
    output: PathBuf,
    /// How to store weights: f32, f16, bf16, or q8 (the towers' matrices in 8 bits, the rest as f16); as they are where left out.
    #[arg(long, value_parser = model::parse_policy)]
    dtype: Option<StoragePolicy>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    refuse_to_overwrite(args)?;
    let bundle = model::bundle(args.model.as_deref())?;
    let bank = text_bank(&bundle, &args.classes)?;
    let mut tensors = bundle.tensors().clone();
    tensors.remove(is_text);
    let policy = args.dtype.unwrap_or_default();
    let writer = BundleWriter::new(bundle.config().clone(), provenance(args, &bundle), policy);
    let writer = match args.dtype {
        Some(_) => writer.tensors(&tensors),
        None => writer.tensors_as_stored(&tensors),
    };
    let hash = writer
        .text_bank(&bank)
        .calibration(calibration(args, &bundle))
        .write(&args.output)?;
    let classes: Vec<_> = bank.names().collect();
    say(format_args!(
        "{}: model {}, classes {}; {}, was {}",
        args.output.display(),
        &hash[..hash.len().min(12)],
        classes.join(", "),
        megabytes(Bundle::open(&args.output)?.size()),
        megabytes(bundle.size()),
    ))
}

fn refuse_to_overwrite(args: &Args) -> Outcome {
    let Some(model) = &args.model else {
        return Ok(());
    };
    match (model.canonicalize(), args.output.canonicalize()) {
        (Ok(model), Ok(output)) if model == output => Err(Failure::Arguments(format!(
            "the bundle would overwrite {}, which it is made from; give another file with --output",
            output.display()
        ))),
        _ => Ok(()),
    }
}

/// The features of the classes that are asked for, in that order; all that the bundle has where none is.
fn text_bank(bundle: &Bundle, asked: &[Class]) -> Outcome<TextBank> {
    let own = bundle.text_bank()?;
    if asked.is_empty() {
        return Ok(own);
    }
    let mut encoder = None;
    let mut bank = TextBank::default();
    for class in asked {
        let features = match (&class.prompt, own.get(&class.name)) {
            (None, Ok(features)) => features.clone(),
            (_, known) => {
                let encoder = match &encoder {
                    Some(encoder) => encoder,
                    None => encoder.insert(text_encoder(bundle, class, known.err())?),
                };
                encoder.class_features(&bundle.config().prompts, class.says())?
            }
        };
        bank.insert(&class.name, features);
    }
    Ok(bank)
}

/// The text tower; where the bundle has none, why `class` cannot do without it.
fn text_encoder(bundle: &Bundle, class: &Class, unknown: Option<Error>) -> Outcome<TextEncoder> {
    let config = bundle.config();
    match config.text.as_ref().filter(|_| bundle.has_text_tower()) {
        Some(text) => {
            let vb = bundle.var_builder(DType::F32, &Device::Cpu);
            Ok(TextEncoder::new(config, text, vb.clone(), vb).map_err(Error::from)?)
        }
        None => Err(unknown.map_or_else(
            || {
                Failure::Arguments(format!(
                    "a prompt ({:?}) wants a text tower to read it, and {} has none",
                    class.says(),
                    bundle.label()
                ))
            },
            Failure::from,
        )),
    }
}

fn provenance(args: &Args, bundle: &Bundle) -> Provenance {
    let mut provenance = bundle.provenance().clone();
    provenance.made_by = concat!("acdclip ", env!("CARGO_PKG_VERSION"), ", export").into();
    provenance.sources.push(match args.model {
        Some(_) => bundle.source(),
        None => SourceFile {
            file: "the built-in model".into(),
            ..bundle.source()
        },
    });
    provenance
}

/// The bundle's calibration, where scores stay what they were.
fn calibration(args: &Args, bundle: &Bundle) -> Value {
    let Some(calibration) = bundle.calibration() else {
        return Value::Null;
    };
    let is_calibrated = |name: &str| calibration["classes"].get(name).is_some();
    let changes_features = |class: &Class| {
        let is_known = bundle.classes().contains(&class.name) || is_calibrated(&class.name);
        class.prompt.is_some() && is_known
    };
    if args.dtype.is_some() || args.classes.iter().any(changes_features) {
        warn(
            &"the calibration is left out: other weights or features give other scores; calibrate the new bundle",
        );
        return Value::Null;
    }
    calibration.clone()
}
