//! `acdclip eval-strip`: how many annotated flaws of strips `acdclip scan` finds with which options, and what else it tells of.
//!
//! [`truth`] reads what is annotated, each setting is scanned into a folder of its own that is not kept, [`tally`] counts.

use std::path::PathBuf;

use super::{
    Scanner, crop, ledger,
    manner::{self, Manner},
    options::Options,
    scan,
    state::{Folder, State},
    tally::{self, Tally, Trial},
    truth::{self, Annotated},
};
use crate::{
    eval::{check_outputs, write_json},
    interrupt::stop_on_interrupt,
    outcome::{Failure, Outcome, say},
};

/// Measure a model and its options on annotated strips: flaws found, and defects told of where nothing is, a thousand lines.
///
/// Strips are scanned as `acdclip scan` does it. A flaw is found if a defect's box touches its box. A defect that touches nothing that is
/// annotated is false; one at a box with `"defect": false` (a joint, a weld, dirt) is counted apart.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Annotated strips, one JSON object each: {"strip": FILE, "boxes": [{"bbox": [x, y, w, h], "category": NAME, "defect": true}]}; files are
    /// named relative to the index, y and h are lines as `acdclip scan` numbers them.
    #[arg(long, value_name = "INDEX", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// A file in TOML whose table [acdclip] has options by their names; those of the command line win. As that of `acdclip scan`.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Scan again for each of these values of an option, as map-threshold=0.3,0.4,0.5; values that have commas in them are parted by semicolons.
    #[arg(long, value_name = "NAME=VALUES")]
    sweep: Option<Sweep>,
    /// Write the numbers, and what was missed, to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// An option and the values that it takes.
#[derive(Debug, Clone)]
struct Sweep {
    name: String,
    /// Each as it was given, and what it says.
    values: Vec<(String, Options)>,
}

impl std::str::FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = text.split_once('=').ok_or("wanted NAME=VALUE,VALUE,...")?;
        let name = name.trim();
        if Options::OF_THE_MODEL.contains(&name) {
            return Err(format!(
                "wanted an option that says how strips are looked at, found {name}; measure one model, device and precision at a time"
            ));
        }
        let between = if values.contains(';') { ';' } else { ',' };
        let values = values.split(between).map(str::trim);
        let values = values.filter(|value| !value.is_empty());
        let values = values.map(|value| Ok((value.to_owned(), Options::of(name, value)?)));
        let values = values.collect::<Result<Vec<_>, String>>()?;
        match values.is_empty() {
            true => Err("wanted values, found none".into()),
            false => Ok(Self {
                name: name.into(),
                values,
            }),
        }
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    check_outputs(None, args.json.as_deref())?;
    let strips = truth::read_all(&args.data)?;
    let profile = args.profile.as_deref().map(Options::from_profile);
    let profile = profile.transpose()?.unwrap_or_default();
    let options = args.options.clone().or(profile);
    let detector = manner::open_model(&options)?;
    let trials = match &args.sweep {
        None => vec![(None, options)],
        Some(sweep) => sweep
            .values
            .iter()
            .map(|(value, said)| {
                let setting = format!("{}={value}", sweep.name);
                (Some(setting), said.clone().or(options.clone()))
            })
            .collect(),
    };
    // A value that is out of range is told of before hours of scanning.
    let manners = trials
        .iter()
        .map(|(_, options)| Manner::new(options, &detector));
    let manners = manners.collect::<Outcome<Vec<_>>>()?;
    let stop = stop_on_interrupt()?;
    say(tally::header())?;
    let mut results = Vec::new();
    for ((setting, options), manner) in trials.into_iter().zip(&manners) {
        let place = Place::new()?;
        let scanner = Scanner {
            detector: &detector,
            manner,
            folder: &place.folder,
            stop: &stop,
        };
        let tallies = measure(&scanner, &strips, &options)?;
        let trial = Trial::new(setting, tallies);
        for row in trial.rows() {
            say(row)?;
        }
        results.push(trial);
    }
    if let [only] = results.as_slice() {
        for line in only.categories() {
            say(line)?;
        }
    }
    args.json
        .as_deref()
        .map_or(Ok(()), |path| write_json(path, &results))
}

/// A folder that is there as long as this is.
struct Place {
    folder: Folder,
    _root: tempfile::TempDir,
}

impl Place {
    fn new() -> Outcome<Self> {
        let failed = || Failure::io(std::env::temp_dir());
        let root = tempfile::tempdir().map_err(failed())?;
        let folder = Folder::open(root.path())?;
        crop::make_folder(folder.root())?;
        Ok(Self {
            folder,
            _root: root,
        })
    }
}

/// Scans all strips in one manner.
fn measure(scanner: &Scanner<'_>, strips: &[Annotated], options: &Options) -> Outcome<Vec<Tally>> {
    let sources: Vec<_> = strips.iter().map(|strip| strip.source.clone()).collect();
    let settings = scanner.manner.described(options, scanner.detector)?;
    let mut state = State::new(settings, &sources)?;
    scan(scanner, &sources, &mut state).map_err(|failure| match failure {
        Failure::Stopped { .. } => Failure::GivenUp,
        failure => failure,
    })?;
    let path = scanner.folder.defects();
    let mut defects = ledger::read(&path)?;
    strips
        .iter()
        .zip(&state.done)
        .map(|(strip, done)| {
            let count = usize::try_from(done.defects).unwrap_or(usize::MAX);
            let own: Outcome<Vec<_>> = defects.by_ref().take(count).collect();
            Ok(Tally::new(strip, done.lines, &own?))
        })
        .collect()
}
