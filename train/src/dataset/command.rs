//! `acdclip dataset`: write an index of a published set or of clips, look a set over, make a synthetic clip.

use std::path::{Component, Path, PathBuf};

use clap::Subcommand;

use super::{
    INDEX_NAME, Line, check,
    layout::Layout,
    tree::{Found, Kind, Split},
};
use crate::{
    files::write_whole,
    outcome::{Failure, Outcome, say, warn},
};

/// Index and check data sets, and make synthetic clips.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Index(IndexArgs),
    Check(check::Args),
    #[cfg(feature = "video")]
    Clips(super::clips::Args),
    #[cfg(feature = "video")]
    Pan(super::pan::Args),
}

/// Write the index of a set that lies in the folders in which it is published.
#[derive(clap::Args)]
struct IndexArgs {
    /// The layout.
    #[arg(value_name = "KIND", value_enum)]
    layout: Layout,
    /// The set's folder.
    #[arg(value_name = "ROOT")]
    root: PathBuf,
    /// The index to write; ROOT/meta.jsonl where left out.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which pictures: those that are reported, as in the authors' indexes, or another part, or all of them.
    #[arg(long, value_enum, default_value = "test")]
    split: SplitName,
}

/// As the command line spells [`Split`].
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum SplitName {
    Train,
    Valid,
    Test,
    All,
}

impl SplitName {
    fn has(self, split: Split) -> bool {
        match self {
            Self::Train => split == Split::Train,
            Self::Valid => split == Split::Valid,
            Self::Test => split == Split::Test,
            Self::All => true,
        }
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Index(args) => index(args),
        Command::Check(args) => check::run(args),
        #[cfg(feature = "video")]
        Command::Clips(args) => super::clips::run(args),
        #[cfg(feature = "video")]
        Command::Pan(args) => super::pan::run(args),
    }
}

fn index(args: &IndexArgs) -> Outcome {
    let root = absolute(&args.root)?;
    let mut found = args.layout.find(&root)?;
    let all = found.len();
    found.retain(|found| args.split.has(found.split));
    if found.is_empty() {
        return Err(Failure::Arguments(format!(
            "{}: none of {all} pictures is in that split; choose another with --split",
            args.root.display()
        )));
    }
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.root.join(INDEX_NAME));
    // Pictures are named from the root, with links resolved; so must be the directory that they are to be relative to.
    let directory = absolute(output.parent().unwrap_or(Path::new("")))?;
    let mut text = String::new();
    for found in &found {
        let line = line(found, &directory)?;
        text += &serde_json::to_string(&line).map_err(|e| Failure::Arguments(e.to_string()))?;
        text.push('\n');
    }
    write_whole(&output, text.as_bytes())?;
    warn_of_missing_masks(&found);
    say(summary(&output, &found))
}

fn summary(output: &Path, found: &[Found]) -> String {
    let mut classes: Vec<_> = found.iter().map(|f| f.class_name.as_str()).collect();
    classes.dedup();
    let anomalous = found.iter().filter(|f| f.kind != Kind::Normal).count();
    format!(
        "{}: {} normal and {anomalous} anomalous pictures of {}",
        output.display(),
        found.len() - anomalous,
        classes.join(", ")
    )
}

fn warn_of_missing_masks(found: &[Found]) {
    let without = |found: &&Found| found.kind == Kind::Anomalous(None);
    let mut missing = found.iter().filter(without);
    if let Some(first) = missing.next() {
        warn(&format_args!(
            "{} anomalous pictures have no mask; the first one is {}",
            1 + missing.count(),
            first.image.display()
        ));
    }
}

fn line(found: &Found, directory: &Path) -> Outcome<Line> {
    let mask = match &found.kind {
        Kind::Anomalous(Some(mask)) => written(mask, directory)?,
        _ => String::new(),
    };
    Ok(Line {
        image_path: written(&found.image, directory)?,
        label: u8::from(found.kind != Kind::Normal),
        class_name: found.class_name.clone(),
        mask_path: mask,
    })
}

/// `path` as an index in `directory` names it: relative where it lies below, else absolute.
pub(super) fn written(path: &Path, directory: &Path) -> Outcome<String> {
    let text = |part: &std::ffi::OsStr| part.to_str().map(str::to_owned);
    let written = match path.strip_prefix(directory) {
        Ok(below) => below
            .components()
            .map(|part| match part {
                Component::Normal(part) => text(part),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(|parts| parts.join("/")),
        Err(_) => text(path.as_os_str()),
    };
    written.ok_or_else(|| {
        Failure::Arguments(format!(
            "{}: wanted a path in UTF-8, which is what JSON can hold; rename it",
            path.display()
        ))
    })
}

pub(super) fn absolute(path: &Path) -> Outcome<PathBuf> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    path.canonicalize().map_err(Failure::io(path))
}
