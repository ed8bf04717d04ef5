//! `acdclip scan`: strips in, as line-scan cameras give them; a report of their defects out.
//!
//! [`source`] reads lines, [`strip`] has the network look at them in tiles, each line once, [`ledger`] tells of defects as they are found;
//! when all strips are done, [`table`] and [`page`] make the report of that. [`state`] and [`journal`] let a scan that was stopped go on.

use std::path::PathBuf;

use acdclip_model::Detector;

use crate::{
    interrupt::stop_on_interrupt,
    outcome::{Outcome, say},
};

mod chart;
mod crop;
mod defect;
pub(crate) mod eval;
mod journal;
mod ledger;
mod manner;
mod options;
mod page;
mod progress;
mod source;
mod state;
mod strip;
mod table;
mod tally;
mod truth;

use ledger::Ledger;
use manner::Manner;
use options::Options;
use page::About;
use progress::Progress;
use source::Source;
use state::{Folder, State};
use strip::Scanner;

/// Scan endless strips, as line-scan cameras give them, for defects: a report with a position for each.
///
/// Strips are looked at in square tiles that overlap, each line once, and read in bands of lines: PNG, TIFF and binary PNM of any length;
/// other pictures (a JPEG has 65,535 lines at most) are decoded whole. What is found is in defects.jsonl at once, and when all strips are
/// done in defects.csv, defects.parquet and index.html. A scan that was stopped, by Ctrl-C or otherwise, is gone on with by the same
/// command, and ends as if it had not been.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Strips: pictures, folders of pictures that are one strip cut into frames (in the order of their names), and videos whose frames
    /// are pieces of one.
    #[arg(required = true, value_name = "STRIP")]
    strips: Vec<PathBuf>,
    /// The report's folder.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// A file in TOML whose table [acdclip] has options by their names; those of the command line win. As the element's `config`.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Begin anew, whatever the report's folder holds of a scan.
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let profile = args.profile.as_deref().map(Options::from_profile);
    let options = args
        .options
        .clone()
        .or(profile.transpose()?.unwrap_or_default());
    let sources = args.strips.iter().map(|path| Source::tell(path));
    let sources = sources.collect::<Outcome<Vec<_>>>()?;
    let detector = manner::open_model(&options)?;
    let manner = Manner::new(&options, &detector)?;
    let new = State::new(manner.described(&options, &detector)?, &sources)?;
    let folder = Folder::open(&args.output)?;
    let mut state = folder.resume(new, args.fresh)?;
    crop::make_folder(folder.root())?;
    let stop = stop_on_interrupt()?;
    let scanner = Scanner {
        detector: &detector,
        manner: &manner,
        folder: &folder,
        stop: &stop,
    };
    scan(&scanner, &sources, &mut state)?;
    report(&scanner, &sources, &state)
}

/// Scans the strips that are not done.
fn scan(scanner: &Scanner<'_>, sources: &[Source], state: &mut State) -> Outcome {
    let mut ledger = Ledger::open(&scanner.folder.defects(), state.defects())?;
    let progress = Progress::new();
    for (number, source) in (0..).zip(sources).skip(state.done.len()) {
        let done = scanner.scan(number, source, &mut ledger, &progress);
        if done.is_err() {
            progress.finish();
        }
        state.done.push(done?);
        scanner.folder.write(state)?;
    }
    progress.finish();
    Ok(())
}

/// Writes the report of all strips.
fn report(scanner: &Scanner<'_>, sources: &[Source], state: &State) -> Outcome {
    let (folder, detector) = (scanner.folder, scanner.detector);
    let from = folder.defects();
    let [csv, parquet, index] =
        ["defects.csv", "defects.parquet", "index.html"].map(|name| folder.root().join(name));
    table::write_csv(&from, &csv)?;
    table::write_parquet(&from, &parquet)?;
    let names = sources
        .iter()
        .map(|source| source.path.display().to_string());
    let strips: Vec<_> = names.zip(state.done.iter().copied()).collect();
    page::write(&from, &index, &about(scanner.manner, detector, &strips))?;
    let lines: u64 = state.done.iter().map(|done| done.lines).sum();
    say(format_args!(
        "{} defects in {lines} lines: {}",
        state.defects(),
        index.display()
    ))
}

fn about<'a>(
    manner: &'a Manner,
    detector: &'a Detector,
    strips: &'a [(String, state::Done)],
) -> About<'a> {
    About {
        model: detector.short_hash(),
        class: &manner.class,
        threshold: manner.rules.levels.raise,
        is_calibrated: manner.scale.is_some(),
        mm: manner.millimetres(),
        strips,
    }
}
