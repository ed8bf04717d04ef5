//! What is kept of the clips, and for how long: files of our own names alone are removed.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::JOURNAL;
use crate::{
    files,
    outcome::{Failure, Outcome},
};

/// How the names of clips begin and end.
pub(super) const NAMES: [&str; 2] = ["event-", ".mkv"];

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) age: Duration,
    pub(super) bytes: u64,
}

struct Clip {
    path: PathBuf,
    name: String,
    written: SystemTime,
    bytes: u64,
}

/// Removes clips that are too old, then the oldest ones until the others fit; and the journal's lines of events that no clip is left of.
pub(super) fn tidy(folder: &Path, limits: Limits, now: SystemTime) -> Outcome {
    let mut clips = clips(folder)?;
    clips.sort_by(|a, b| (a.written, &a.name).cmp(&(b.written, &b.name)));
    let mut bytes: u64 = clips.iter().map(|clip| clip.bytes).sum();
    let mut kept = BTreeSet::new();
    let count = clips.len();
    for clip in clips {
        let age = now.duration_since(clip.written).unwrap_or_default();
        if age > limits.age || bytes > limits.bytes {
            fs::remove_file(&clip.path).map_err(Failure::io(&clip.path))?;
            bytes -= clip.bytes;
        } else {
            kept.insert(clip.name);
        }
    }
    if kept.len() < count {
        forget(&folder.join(JOURNAL), &kept)?;
    }
    Ok(())
}

fn clips(folder: &Path) -> Outcome<Vec<Clip>> {
    let mut clips = Vec::new();
    for entry in fs::read_dir(folder).map_err(Failure::io(folder))? {
        let entry = entry.map_err(Failure::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let about = entry.metadata().map_err(Failure::io(entry.path()))?;
        if name.starts_with(NAMES[0]) && name.ends_with(NAMES[1]) && about.is_file() {
            clips.push(Clip {
                path: entry.path(),
                name,
                written: about.modified().map_err(Failure::io(entry.path()))?,
                bytes: about.len(),
            });
        }
    }
    Ok(clips)
}

fn forget(journal: &Path, kept: &BTreeSet<String>) -> Outcome {
    let text = match fs::read_to_string(journal) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::io(journal)(e)),
    };
    let is_kept = |line: &&str| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let clips = event["clips"].as_array().cloned().unwrap_or_default();
        clips
            .iter()
            .filter_map(Value::as_str)
            .any(|clip| kept.contains(clip))
    };
    let left: String = text
        .lines()
        .filter(is_kept)
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = journal.parent().unwrap_or(Path::new("."));
    let mut file = files::begin_private(folder)?;
    file.write_all(left.as_bytes())
        .map_err(Failure::io(journal))?;
    files::keep_private(file, journal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_is_old_goes_and_then_the_oldest_until_the_others_fit() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let write = |name: &str, days: u32| {
            let path = folder.path().join(name);
            fs::write(&path, [0; 100]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(now - DAY * days).unwrap();
        };
        for (name, days) in [
            ("event-a.mkv", 9),
            ("event-b.mkv", 3),
            ("event-c.mkv", 2),
            ("event-d.mkv", 1),
            ("mine.mkv", 99),
        ] {
            write(name, days);
        }
        let journal = folder.path().join(JOURNAL);
        let line = |clips: &str| format!("{{\"clips\":[{clips}]}}\n");
        let lines = [
            line("\"event-a.mkv\""),
            line("\"event-a.mkv\",\"event-c.mkv\""),
            line("\"event-d.mkv\""),
        ];
        fs::write(&journal, lines.concat()).unwrap();

        let limits = Limits {
            age: DAY * 7,
            bytes: 250,
        };
        tidy(folder.path(), limits, now).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["event-c.mkv", "event-d.mkv", "events.jsonl", "mine.mkv"]
        );
        assert_eq!(fs::read_to_string(journal).unwrap(), lines[1..].concat());
    }
}
