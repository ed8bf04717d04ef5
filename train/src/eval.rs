//! `acdclip eval`: how good a model is on pictures whose truth is known.
//!
//! What is compared is what the authors' code compares: the map at the network's input size with the mask brought to that size by
//! nearest pixels, and the image score as the model or `--domain` weighs it. Classes of one name in several indexes count as one class.
//! Anomalous pictures without a mask count for the image metrics only. The numbers are exact: see [`crate::metrics`].

use std::path::{Path, PathBuf};

use acdclip_model::{Detector, config::Domain, detector::Settings};

use crate::{
    dataset::{self, Sample, names::ClassNames},
    files::{check_output, write_whole},
    model::ModelArgs,
    outcome::{Failure, Outcome, say, warn},
    report,
    score::DomainName,
};
use class::ClassResult;
use table::{Results, Row};

mod ablation;
pub(crate) mod class;
mod load;
pub(crate) mod table;

/// Measure a model on pictures with masks: pixel and image AUROC, AP, F1-max, and AUPRO.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Index files, or directories that have a meta.jsonl.
    #[arg(long, value_name = "META", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// What prompts call all pictures, instead of each one's own class.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// A TOML file of what prompts call the classes, beside the built-in table.
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    /// Blur the map and weigh the score as the authors do for that domain, instead of as the model says.
    #[arg(long, value_enum)]
    domain: Option<DomainName>,
    /// Pictures that are scored together. Up to three times as many are held in memory.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch_size: u16,
    /// Write the numbers to FILE, as fractions.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with the table, curves, histograms and the best and worst pictures to DIR/index.html.
    #[arg(long, value_name = "DIR", conflicts_with = "ablation")]
    report: Option<PathBuf>,
    /// Compare models instead, as the paper's table 2: a TOML file with [[run]] model = "BUNDLE", name = "...".
    #[arg(long, value_name = "RUNS", conflicts_with = "model")]
    ablation: Option<PathBuf>,
}

/// All pictures of a class.
#[derive(Debug)]
struct ClassSet {
    name: String,
    samples: Vec<Sample>,
}

/// What stays the same from model to model.
struct Evaluation<'a> {
    args: &'a Args,
    names: ClassNames,
    sets: Vec<ClassSet>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    // Found out now, not after the work.
    check_outputs(args.report.as_deref(), args.json.as_deref())?;
    let evaluation = Evaluation {
        args,
        names: ClassNames::load(args.names.as_deref())?,
        sets: by_class(dataset::read_all(&args.data)?),
    };
    match &args.ablation {
        Some(runs) => ablation::run(&evaluation, runs),
        None => evaluation.run_one(&args.model.open()?),
    }
}

impl Evaluation<'_> {
    fn run_one(&self, detector: &Detector) -> Outcome {
        let widest = self.sets.iter().map(|set| set.name.chars().count()).max();
        let width = widest.unwrap_or_default().max("class".len());
        let texts = self.texts(detector)?;
        say(table::header("class", width))?;
        let classes = self.measure(detector, &texts, |class| say(Row::of(class).line(width)))?;
        let results = Results::of(&classes);
        if classes.len() > 1 {
            say(results.mean_line(width))?;
        }
        if let Some(path) = &self.args.json {
            write_json(path, &results)?;
        }
        if let Some(directory) = &self.args.report {
            let about = report::About {
                model: detector.short_hash(),
                data: &self.args.data,
                input_size: detector.config().input_size,
            };
            report::write(directory, &about, &classes, &results)?;
        }
        Ok(())
    }

    /// Measures every class, called by its text in `texts`, and calls `each` when one is done.
    fn measure(
        &self,
        detector: &Detector,
        texts: &[String],
        each: impl Fn(&ClassResult) -> Outcome,
    ) -> Outcome<Vec<ClassResult>> {
        let mut classes = Vec::new();
        for (set, text) in self.sets.iter().zip(texts) {
            let class = class::measure(detector, text, set, &self.options())?;
            each(&class)?;
            classes.push(class);
        }
        Ok(classes)
    }

    fn options(&self) -> class::Options {
        class::Options {
            settings: Settings {
                domain: self.args.domain.map(Domain::from),
                // Regions are not looked at.
                map_threshold: 1.0,
                ..Settings::default()
            },
            batch_size: self.args.batch_size.into(),
            keep_pictures: self.args.report.is_some(),
        }
    }

    /// What prompts call each class.
    fn texts(&self, detector: &Detector) -> Outcome<Vec<String>> {
        let mut unknown = Vec::new();
        let mut texts = Vec::new();
        for set in &self.sets {
            let text = match &self.args.class {
                Some(asked) => asked.clone(),
                None if detector.classes().contains(&set.name) => set.name.clone(),
                None if detector.bundle().has_text_tower() => self.names.describe(&set.name),
                None => {
                    unknown.push(set.name.as_str());
                    detector.default_class()
                }
            };
            detector.check_class(&text)?;
            texts.push(text);
        }
        if !unknown.is_empty() {
            warn(&format_args!(
                "the model has no text tower, and its text bank lacks {}; scored as {:?}",
                unknown.join(", "),
                detector.default_class()
            ));
        }
        Ok(texts)
    }
}

/// Samples by class, classes in the order in which they first appear.
fn by_class(samples: Vec<Sample>) -> Vec<ClassSet> {
    let mut sets: Vec<ClassSet> = Vec::new();
    for sample in samples {
        match sets.iter_mut().find(|set| set.name == sample.class_name) {
            Some(set) => set.samples.push(sample),
            None => sets.push(ClassSet {
                name: sample.class_name.clone(),
                samples: vec![sample],
            }),
        }
    }
    sets
}

/// Makes the report's folder, and looks whether the numbers have one.
pub(crate) fn check_outputs(report: Option<&Path>, json: Option<&Path>) -> Outcome {
    if let Some(directory) = report {
        std::fs::create_dir_all(directory).map_err(Failure::io(directory))?;
    }
    json.map_or(Ok(()), check_output)
}

/// Writes `value` to `path`.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Outcome {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::Arguments(e.to_string()))?;
    text.push('\n');
    write_whole(path, text.as_bytes())
}
