//! `acdclip dataset check`: what is wrong with a data set before hours are spent on it.

use std::{
    collections::HashMap,
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Sample, mask::Mask, read_all};
use crate::{
    outcome::{Failure, Outcome, one_line, say},
    picture::Picture,
};

/// Find missing, unreadable, empty, wrong and double files.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Index files, or directories that have a meta.jsonl.
    #[arg(required = true, value_name = "META")]
    data: Vec<PathBuf>,
}

/// What can be wrong with a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Missing,
    Unreadable(String),
    NoMask,
    EmptyMask,
    MaskOnNormal,
    WrongSize {
        image: (usize, usize),
        mask: (usize, usize),
    },
    SamePath,
    SameBytes(PathBuf),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing        there is no such file"),
            Self::Unreadable(reason) => write!(f, "unreadable     {reason}"),
            Self::NoMask => f.write_str("no mask        anomalous, and the index names no mask"),
            Self::EmptyMask => f.write_str("empty mask     anomalous, and no pixel is marked"),
            Self::MaskOnNormal => f.write_str("normal, marked normal, and its mask marks pixels"),
            Self::WrongSize { image, mask } => write!(
                f,
                "wrong size     the picture is {}x{}, its mask {}x{}",
                image.0, image.1, mask.0, mask.1
            ),
            Self::SamePath => f.write_str("double         the index has it before"),
            Self::SameBytes(other) => write!(f, "same bytes     as {}", other.display()),
        }
    }
}

/// A file and what is wrong with it.
type Finding = (PathBuf, Problem);

pub(crate) fn run(args: &Args) -> Outcome {
    let samples = read_all(&args.data)?;
    let checked: Vec<(Vec<Finding>, Option<[u8; 32]>)> = samples.par_iter().map(check).collect();
    let hashes = checked.iter().map(|(_, hash)| *hash);
    let doubles = doubles(&samples, hashes);
    let mut problems = 0;
    for ((findings, _), double) in checked.iter().zip(doubles) {
        for (path, problem) in findings.iter().chain(&double) {
            if problems == 0 {
                say("problem        what                                             file")?;
            }
            say(row(path, problem))?;
            problems += 1;
        }
    }
    match problems {
        0 => say(format_args!("{} pictures, no problem found", samples.len())),
        _ => Err(Failure::Arguments(format!(
            "{problems} problems in {} pictures",
            samples.len()
        ))),
    }
}

fn row(path: &Path, problem: &Problem) -> String {
    format!("{:<63}  {}", problem.to_string(), path.display())
}

/// What is wrong with one picture on its own, and the hash of its bytes.
fn check(sample: &Sample) -> (Vec<Finding>, Option<[u8; 32]>) {
    let mut findings = Vec::new();
    let (size, hash) = match (Picture::open(&sample.image), sha256(&sample.image)) {
        (Ok(picture), Ok(hash)) => (Some(picture.size()), Some(hash)),
        (Err(failure), _) => {
            findings.push(finding(&sample.image, &failure));
            (None, None)
        }
        (Ok(_), Err(source)) => {
            let problem = Problem::Unreadable(source.to_string());
            findings.push((sample.image.clone(), problem));
            (None, None)
        }
    };
    findings.extend(check_mask(sample, size));
    (findings, hash)
}

fn check_mask(sample: &Sample, size: Option<(usize, usize)>) -> Vec<Finding> {
    let Some(path) = &sample.mask else {
        let problem = sample.anomalous.then_some(Problem::NoMask);
        return problem
            .map(|problem| (sample.image.clone(), problem))
            .into_iter()
            .collect();
    };
    let mask = match Mask::open(path) {
        Ok(mask) => mask,
        Err(failure) => return vec![finding(path, &failure)],
    };
    let mut problems = Vec::new();
    match (sample.anomalous, mask.is_empty()) {
        (true, true) => problems.push(Problem::EmptyMask),
        (false, false) => problems.push(Problem::MaskOnNormal),
        _ => {}
    }
    if let Some(image) = size.filter(|size| *size != mask.size()) {
        problems.push(Problem::WrongSize {
            image,
            mask: mask.size(),
        });
    }
    let found = |problem| (path.clone(), problem);
    problems.into_iter().map(found).collect()
}

fn finding(path: &Path, failure: &Failure) -> Finding {
    let problem = match failure {
        Failure::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Problem::Missing
        }
        Failure::Io { source, .. } => Problem::Unreadable(source.to_string()),
        Failure::Picture { reason, .. } => Problem::Unreadable(one_line(reason)),
        other => Problem::Unreadable(one_line(&other.to_string())),
    };
    (path.into(), problem)
}

/// For each picture whether it was seen before: under the same path, or under another with the same bytes.
fn doubles(
    samples: &[Sample],
    hashes: impl Iterator<Item = Option<[u8; 32]>>,
) -> Vec<Option<Finding>> {
    let mut paths = HashMap::new();
    let mut contents: HashMap<[u8; 32], &Path> = HashMap::new();
    samples
        .iter()
        .zip(hashes)
        .map(|(sample, hash)| {
            let own = sample.image.canonicalize();
            let own = own.unwrap_or_else(|_| sample.image.clone());
            if paths.insert(own, ()).is_some() {
                return Some((sample.image.clone(), Problem::SamePath));
            }
            let first = *contents.entry(hash?).or_insert(&sample.image);
            let other = (first != sample.image).then(|| first.to_path_buf());
            other.map(|other| (sample.image.clone(), Problem::SameBytes(other)))
        })
        .collect()
}

fn sha256(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&block[..n]),
        }
    }
}
