//! `acdclip eval --ablation`: the paper's table 2, whose four rows are models with and without Conv-LoRA and the Dynamic Fusion Gateway.
//!
//! The list is TOML: `[[run]]` with `model`, a bundle's path (relative to the list), and `name`, which may be left out.

use std::path::{Path, PathBuf};

use acdclip_model::config::{AdapterKind, Config, Fusion};
use serde::{Deserialize, Serialize};

use super::{Evaluation, table, table::Results, write_json};
use crate::outcome::{Failure, Outcome, say, warn};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs {
    run: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    name: Option<String>,
    model: PathBuf,
}

/// What table 2 distinguishes: Conv-LoRA instead of LoRA, the gateway instead of static fusion.
type Parts = (bool, bool);

/// One row of the table.
#[derive(Serialize)]
struct Measured {
    name: String,
    conv_lora: bool,
    gateway: bool,
    #[serde(flatten)]
    results: Results,
}

/// All rows.
#[derive(Serialize)]
struct Document {
    runs: Vec<Measured>,
}

pub(super) fn run(evaluation: &Evaluation<'_>, list: &Path) -> Outcome {
    let mut rows = Vec::new();
    for run in read(list)? {
        let model = list.parent().unwrap_or(Path::new("")).join(&run.model);
        let detector = evaluation.args.model.open_other(&model)?;
        let (conv_lora, gateway) = parts(detector.config());
        let texts = evaluation.texts(&detector)?;
        let classes = evaluation.measure(&detector, &texts, |_| Ok(()))?;
        rows.push(Measured {
            name: run.name.unwrap_or_else(|| run.model.display().to_string()),
            conv_lora,
            gateway,
            results: Results::of(&classes),
        });
    }
    rows.sort_by_key(|row| (row.conv_lora, row.gateway));
    warn_of_missing_rows(&rows);
    print(&rows)?;
    match &evaluation.args.json {
        Some(path) => write_json(path, &Document { runs: rows }),
        None => Ok(()),
    }
}

fn read(list: &Path) -> Outcome<Vec<Run>> {
    let text = std::fs::read_to_string(list).map_err(Failure::io(list))?;
    let wrong = |reason: String| Failure::Picture {
        path: list.into(),
        reason,
    };
    let runs: Runs = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    match runs.run.is_empty() {
        true => Err(wrong("wanted [[run]] tables, found none".into())),
        false => Ok(runs.run),
    }
}

fn parts(config: &Config) -> Parts {
    (
        config.adapter == AdapterKind::ConvLora,
        config.fusion == Fusion::Gateway,
    )
}

fn warn_of_missing_rows(rows: &[Measured]) {
    let all = [(false, false), (false, true), (true, false), (true, true)];
    for wanted in all {
        if !rows
            .iter()
            .any(|row| (row.conv_lora, row.gateway) == wanted)
        {
            warn(&format_args!(
                "table 2 has a row that no run is: {} and {}",
                if wanted.0 { "Conv-LoRA" } else { "LoRA" },
                if wanted.1 {
                    "the gateway"
                } else {
                    "static fusion"
                },
            ));
        }
    }
}

fn print(rows: &[Measured]) -> Outcome {
    let widest = rows.iter().map(|row| row.name.chars().count()).max();
    let width = widest.unwrap_or_default().max("run".len());
    let header = table::header("run", width);
    let mut lines = header.lines();
    let say_with = |marks: &str, line: &str| say(format_args!("{marks:<14} {line}"));
    say_with("", lines.next().unwrap_or_default())?;
    say_with("Conv-LoRA  DFG", lines.next().unwrap_or_default())?;
    let mark = |part| if part { "yes" } else { "no" };
    for row in rows {
        let marks = format!("{:<9}  {}", mark(row.conv_lora), mark(row.gateway));
        say_with(&marks, &row.results.line(&row.name, width))?;
    }
    Ok(())
}
