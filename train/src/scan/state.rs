//! How far a scan is, in its report's folder, so that the same command goes on with it; and that no other command does.
//!
//! `state/scan.json` says what is looked at and how, and how many strips are done. It is written whole or not at all, when a strip is done;
//! what was found of the strip after those is in the [`Journal`](super::journal::Journal). `state/lock` is held while a scan runs.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::source::Source;
use crate::{
    files::{sweep, write_whole},
    outcome::{Failure, Outcome},
};

/// Version of the document.
const VERSION: u64 = 1;

/// What is looked at, how, and how much of it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    version: u64,
    /// By option.
    settings: Map<String, Value>,
    strips: Vec<Strip>,
    /// Of the first strips, what is known of them.
    pub(super) done: Vec<Done>,
}

/// A strip, and what changes when its files do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Strip {
    path: String,
    stamp: String,
}

/// A strip that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) lines: u64,
    /// Pixels of a line as the file has it.
    pub(super) width: usize,
    pub(super) defects: u64,
}

/// The folder of a report.
pub(super) struct Folder {
    root: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl State {
    /// Nothing is done.
    pub(super) fn new(settings: Map<String, Value>, sources: &[Source]) -> Outcome<Self> {
        let strips = sources.iter().map(|source| {
            Ok(Strip {
                path: source.path.display().to_string(),
                stamp: source.stamp()?,
            })
        });
        Ok(Self {
            version: VERSION,
            settings,
            strips: strips.collect::<Outcome<_>>()?,
            done: Vec::new(),
        })
    }

    /// Defects of the strips that are done.
    pub(super) fn defects(&self) -> u64 {
        self.done.iter().map(|done| done.defects).sum()
    }

    /// What a scan is about that is another one; none where it is the same.
    fn difference(&self, other: &Self) -> Option<String> {
        let keys = self.settings.keys().chain(other.settings.keys());
        for key in keys {
            let (was, is) = (self.settings.get(key), other.settings.get(key));
            if was != is {
                let text = |value: Option<&Value>| value.unwrap_or(&Value::Null).to_string();
                return Some(format!("{key} was {}, now it is {}", text(was), text(is)));
            }
        }
        let names = |state: &Self| {
            let names = state.strips.iter().map(|strip| strip.path.as_str());
            names.collect::<Vec<_>>().join(" ")
        };
        if names(self) != names(other) {
            let (was, is) = (names(self), names(other));
            return Some(format!("it is about {was}, not about {is}"));
        }
        let pairs = self.strips.iter().zip(&other.strips);
        let changed = pairs.filter(|(was, is)| was != is);
        let first = changed.map(|(was, _)| &was.path).next()?;
        Some(format!("{first} has changed since"))
    }
}

impl Folder {
    /// Makes the folder, or takes it as it is.
    ///
    /// An error if another scan is at work in it.
    pub(super) fn open(root: &Path) -> Outcome<Self> {
        let state = root.join("state");
        std::fs::create_dir_all(&state).map_err(Failure::io(&state))?;
        let path = state.join("lock");
        let lock = File::create(&path).map_err(Failure::io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Failure::Arguments(format!(
                    "{}: another scan is at work in this folder; wait for it, or name another with -o",
                    root.display()
                )));
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(Failure::io(path)(e)),
        }
        for folder in [root, &state, &root.join(super::crop::FOLDER)] {
            sweep(folder)?;
        }
        Ok(Self {
            root: root.into(),
            _lock: lock,
        })
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the answers about the strip at work are.
    pub(super) fn journal(&self) -> PathBuf {
        self.root.join("state/answers")
    }

    /// Where defects are told of.
    pub(super) fn defects(&self) -> PathBuf {
        self.root.join("defects.jsonl")
    }

    fn state(&self) -> PathBuf {
        self.root.join("state/scan.json")
    }

    /// Goes on with the scan that this folder is about, or begins it. `fresh` throws away what is there.
    ///
    /// An error if the folder is about another scan.
    pub(super) fn resume(&self, new: State, fresh: bool) -> Outcome<State> {
        let path = self.state();
        if fresh {
            self.clear()?;
        }
        if !path.exists() {
            if self.defects().exists() {
                return Err(Failure::Arguments(format!(
                    "{}: wanted a new folder or one that a scan was stopped in, found defects without their state; name another with -o, \
                     or begin anew with --fresh",
                    self.root.display()
                )));
            }
            self.write(&new)?;
            return Ok(new);
        }
        let text = std::fs::read_to_string(&path).map_err(Failure::io(&path))?;
        let old: State = serde_json::from_str(&text).map_err(|e| {
            let what = format!("{e}; begin anew with --fresh");
            Failure::wrong_file(&path, &what)
        })?;
        let difference = match old.version {
            VERSION => old.difference(&new),
            other => Some(format!("its version is {other}, not {VERSION}")),
        };
        match difference {
            None => Ok(old),
            Some(difference) => Err(Failure::Arguments(format!(
                "{}: cannot go on with the scan in this folder: {difference}; name another folder with -o, or begin anew with --fresh",
                self.root.display()
            ))),
        }
    }

    /// Keeps how far a scan is. What was answered about strips that are done is no longer needed.
    pub(super) fn write(&self, state: &State) -> Outcome {
        let path = self.state();
        let json = serde_json::to_vec_pretty(state);
        write_whole(&path, &json.map_err(|e| Failure::wrong_file(&path, &e))?)?;
        remove(&self.journal())
    }

    /// Removes what scans have written, and nothing else; the state first, without which nothing is gone on with.
    fn clear(&self) -> Outcome {
        for path in [self.state(), self.journal(), self.defects()] {
            remove(&path)?;
        }
        for name in ["defects.csv", "defects.parquet", "index.html"] {
            remove(&self.root.join(name))?;
        }
        super::crop::clear(&self.root)
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Outcome {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::io(path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state(threshold: f64, strip: &Path) -> State {
        let settings = serde_json::json!({ "map-threshold": threshold });
        let source = Source::tell(strip).unwrap();
        State::new(settings.as_object().unwrap().clone(), &[source]).unwrap()
    }

    #[test]
    fn another_scan_is_refused_with_what_is_other_about_it() {
        let temporary = tempfile::tempdir().unwrap();
        let [strip, other] = ["a.pgm", "b.pgm"].map(|name| temporary.path().join(name));
        std::fs::write(&strip, "P5 1 1 255\n0").unwrap();
        std::fs::write(&other, "P5 1 1 255\n0").unwrap();
        let folder = Folder::open(&temporary.path().join("report")).unwrap();
        let first = folder.resume(state(0.5, &strip), false).unwrap();
        assert_eq!(folder.resume(state(0.5, &strip), false).unwrap(), first);
        let complaint = |state| folder.resume(state, false).unwrap_err().to_string();
        assert!(complaint(state(0.6, &strip)).contains("map-threshold was 0.5, now it is 0.6"));
        assert!(complaint(state(0.5, &other)).contains("b.pgm"));
        std::fs::write(&strip, "P5 1 2 255\n00").unwrap();
        assert!(complaint(state(0.5, &strip)).contains("a.pgm has changed"));
        assert!(folder.resume(state(0.6, &strip), true).is_ok());
    }

    #[test]
    fn two_scans_do_not_work_in_one_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let first = Folder::open(temporary.path()).unwrap();
        let complaint = Folder::open(temporary.path()).err().unwrap().to_string();
        assert!(complaint.contains("another scan"), "{complaint}");
        drop(first);
        assert!(Folder::open(temporary.path()).is_ok());
    }
}
