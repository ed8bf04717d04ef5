//! `acdclip info`: what a bundle is, what it was made from, what it can score.

use std::path::PathBuf;

use acdclip_model::{
    Bundle, Config,
    bundle::Provenance,
    config::{AdapterKind, Form, Fusion, ImageScore},
};
use serde_json::json;

use crate::{
    model,
    outcome::{Failure, Outcome, say},
};

/// Say what a model is: its config, classes, provenance, sizes and hash.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle (.safetensors); the built-in model where left out.
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Print one JSON object instead, with the whole config.
    #[arg(long)]
    json: bool,
    /// Read the whole file and make sure that it is what its hash says.
    #[arg(long)]
    verify: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let bundle = model::bundle(args.model.as_deref())?;
    if args.verify {
        bundle.verify()?;
    }
    let name = match &args.model {
        Some(path) => path.display().to_string(),
        None => "the built-in model".into(),
    };
    if args.json {
        return say(document(&name, &bundle)?);
    }
    say(table(&rows(&name, &bundle)))
}

fn document(name: &str, bundle: &Bundle) -> Outcome<String> {
    let types: serde_json::Map<_, _> = bundle
        .stored_types()
        .into_iter()
        .map(|(name, bytes)| (name, bytes.into()))
        .collect();
    let document = json!({
        "model": name,
        "hash": bundle.hash(),
        "bytes": bundle.size(),
        "stored_bytes": types,
        "classes": bundle.classes(),
        "text_tower": bundle.has_text_tower(),
        "calibration": bundle.calibration(),
        "config": bundle.config(),
        "provenance": bundle.provenance(),
    });
    serde_json::to_string(&document).map_err(|e| Failure::Arguments(e.to_string()))
}

/// A name and what it has to say.
type Row = (&'static str, String);

fn rows(name: &str, bundle: &Bundle) -> Vec<Row> {
    let types: Vec<_> = bundle
        .stored_types()
        .into_iter()
        .map(|(name, bytes)| format!("{name} {}", megabytes(bytes)))
        .collect();
    let mut rows = vec![
        ("model", name.to_owned()),
        ("hash", bundle.hash()),
        (
            "size",
            format!("{} ({})", megabytes(bundle.size()), types.join(", ")),
        ),
    ];
    rows.extend(network(bundle.config()));
    rows.push(("classes", bundle.classes().join(", ")));
    rows.push(("other classes", others(bundle).into()));
    let calibrated = bundle.calibration().map_or("no", |_| "yes");
    rows.push(("calibrated", calibrated.into()));
    rows.extend(provenance(bundle.provenance()));
    rows
}

fn others(bundle: &Bundle) -> &'static str {
    match bundle.has_text_tower() {
        true => "yes, its text tower computes their features",
        false => "no, it has no text tower",
    }
}

fn network(config: &Config) -> Vec<Row> {
    let vision = &config.vision;
    let form = match config.form {
        Form::Official => "official, as the authors' code computes",
        Form::Paper => "paper, as its equations say",
    };
    let adapter = match config.adapter {
        AdapterKind::ConvLora => format!("Conv-LoRA, kernels {:?}", config.conv_kernel_sizes),
        AdapterKind::Lora => "LoRA".into(),
    };
    let fusion = match config.fusion {
        Fusion::Gateway => "Dynamic Fusion Gateway",
        Fusion::Static => "static",
    };
    let side = config.input_size;
    vec![
        ("form", form.into()),
        (
            "input",
            format!(
                "{side} x {side} px, {grid} x {grid} patches of {}",
                vision.patch_size,
                grid = config.grid()
            ),
        ),
        (
            "vision tower",
            format!(
                "{} wide, {} blocks, {} heads",
                vision.width, vision.layers, vision.heads
            ),
        ),
        (
            "text tower",
            match &config.text {
                Some(text) => format!(
                    "{} wide, {} blocks, {} heads",
                    text.width, text.layers, text.heads
                ),
                None => format!("none; text features {} wide", config.text_width),
            },
        ),
        ("groups", config.groups.to_string()),
        ("adapters", format!("{adapter}, rank {}", config.lora_rank)),
        ("fusion", fusion.into()),
        ("score", score(&config.image_score)),
    ]
}

fn score(weights: &ImageScore) -> String {
    let mut text = format!(
        "{} * class + {} * map maximum",
        weights.cls, weights.map_max
    );
    if weights.map_top > 0.0 {
        let share = weights.top_share * 100.0;
        text += &format!(" + {} * mean of the highest {share} %", weights.map_top);
    }
    text
}

fn provenance(provenance: &Provenance) -> Vec<Row> {
    let mut rows = vec![("made by", provenance.made_by.clone())];
    rows.extend(provenance.sources.iter().map(|source| {
        (
            "made from",
            format!("{} (sha256 {})", source.file, source.sha256),
        )
    }));
    rows.extend(
        provenance
            .data
            .iter()
            .map(|data| ("trained on", data.clone())),
    );
    rows.extend(
        provenance
            .licence
            .iter()
            .map(|licence| ("licence", licence.clone())),
    );
    if !provenance.metrics.is_null() {
        rows.push(("metrics", provenance.metrics.to_string()));
    }
    rows.extend(provenance.notes.iter().map(|note| ("note", note.clone())));
    rows
}

/// A size as people say it.
pub(crate) fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn table(rows: &[Row]) -> String {
    let lines: Vec<_> = rows
        .iter()
        .map(|(name, value)| format!("{name:<14} {value}"))
        .collect();
    lines.join("\n")
}
