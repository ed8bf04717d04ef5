//! Data sets as the commands see them: a list of pictures with label, class and mask, read from index files.
//!
//! An index is a text file with one JSON object a line, the form that the authors' code reads too:
//!
//! ```json
//! {"image_path": "rail/test/pit/1.png", "label": 1, "class_name": "rail", "mask_path": "rail/ground_truth/pit/1_mask.png"}
//! ```
//!
//! Paths are relative to the index file's directory, or absolute. `label` is 0 or 1, also as 0.0, 1.0, false or true. `mask_path` may be
//! absent or empty. Other keys are ignored. The published layouts that an index can be made of are in [`layout`].

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::outcome::{Failure, Outcome};

#[cfg(feature = "video")]
mod clips;
pub(crate) mod command;
pub(crate) mod mask;
pub(crate) mod names;

mod check;
mod layout;
#[cfg(feature = "video")]
mod pan;
pub(crate) mod tree;

/// The index's name where a directory is given.
pub(crate) const INDEX_NAME: &str = "meta.jsonl";

/// No line of an index is anywhere near as long.
const MAX_LINE: u64 = 1 << 20;

/// One line of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The picture.
    pub(crate) image_path: String,
    /// 0 normal, 1 anomalous.
    #[serde(deserialize_with = "label")]
    pub(crate) label: u8,
    /// What it shows.
    pub(crate) class_name: String,
    /// Where it is anomalous: a picture of the same size, not black there. Empty for normal pictures.
    #[serde(default, deserialize_with = "text_or_null")]
    pub(crate) mask_path: String,
}

/// One picture of a data set, its paths ready to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The picture.
    pub(crate) image: PathBuf,
    /// Whether it is anomalous.
    pub(crate) anomalous: bool,
    /// What it shows.
    pub(crate) class_name: String,
    /// Its mask, where the index names one. A normal picture's mask is not looked at, as in the authors' code.
    pub(crate) mask: Option<PathBuf>,
}

impl Sample {
    fn new(line: Line, directory: &Path) -> Self {
        let mask = Some(line.mask_path).filter(|path| !path.is_empty());
        Self {
            image: directory.join(line.image_path),
            anomalous: line.label == 1,
            class_name: line.class_name,
            mask: mask.map(|path| directory.join(path)),
        }
    }
}

/// The pictures of every index in `paths`, in order. A directory stands for the `meta.jsonl` in it.
///
/// An index without pictures is an error, and so is a line that is not as described above.
pub(crate) fn read_all(paths: &[PathBuf]) -> Outcome<Vec<Sample>> {
    let mut samples = Vec::new();
    for path in paths {
        let index = index_file(path)?;
        let found = read(&index, |_| true)?;
        if found.is_empty() {
            return Err(Failure::Picture {
                path: index,
                reason: "wanted one picture a line, found an empty index".into(),
            });
        }
        samples.extend(found);
    }
    Ok(samples)
}

/// The index file that `path` stands for.
fn index_file(path: &Path) -> Outcome<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let index = path.join(INDEX_NAME);
    if !index.exists() {
        return Err(Failure::Arguments(format!(
            "{}: wanted an index, found a directory without {INDEX_NAME}; write one with `acdclip dataset index KIND {}`",
            path.display(),
            path.display()
        )));
    }
    Ok(index)
}

/// Those pictures of the index in `path`, or of a directory's, that `keep` says yes to when it sees their line.
pub(crate) fn read_some(
    path: &Path,
    keep: impl Fn(&Map<String, Value>) -> bool,
) -> Outcome<Vec<Sample>> {
    read(&index_file(path)?, keep)
}

fn read(index: &Path, keep: impl Fn(&Map<String, Value>) -> bool) -> Outcome<Vec<Sample>> {
    let directory = index.parent().unwrap_or(Path::new(""));
    let mut samples = Vec::new();
    let wanted = "{\"image_path\", \"label\", \"class_name\", \"mask_path\"}";
    for_each_line(index, wanted, |bytes| {
        let keys: Map<String, Value> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let is_kept = keep(&keys);
        let line: Line = serde_json::from_value(keys.into()).map_err(|e| e.to_string())?;
        if line.image_path.is_empty() || line.class_name.is_empty() {
            return Err("an empty image_path or class_name".into());
        }
        if is_kept {
            samples.push(Sample::new(line, directory));
        }
        Ok(())
    })?;
    Ok(samples)
}

/// Calls `each` with every line of the index that is not blank. What it says is wrong ends the reading: an error that names the line, and
/// what of it was `wanted`.
pub(crate) fn for_each_line(
    index: &Path,
    wanted: &str,
    mut each: impl FnMut(&[u8]) -> Result<(), String>,
) -> Outcome {
    let mut reader = BufReader::new(File::open(index).map_err(Failure::io(index))?);
    for number in 1_usize.. {
        let mut bytes = Vec::new();
        let taken = reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut bytes)
            .map_err(Failure::io(index))?;
        if taken == 0 {
            break;
        }
        let said = match taken as u64 {
            MAX_LINE => Err(format!("longer than {MAX_LINE} bytes")),
            _ if bytes.iter().all(u8::is_ascii_whitespace) => Ok(()),
            _ => each(&bytes),
        };
        said.map_err(|reason| Failure::Picture {
            path: index.into(),
            reason: format!("line {number}: {reason}; wanted {wanted}"),
        })?;
    }
    Ok(())
}

fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Label {
        Number(f64),
        Truth(bool),
    }
    match Label::deserialize(deserializer) {
        Ok(Label::Number(0.0) | Label::Truth(false)) => Ok(0),
        Ok(Label::Number(1.0) | Label::Truth(true)) => Ok(1),
        _ => Err(serde::de::Error::custom("a label that is neither 0 nor 1")),
    }
}

fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn index(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(INDEX_NAME);
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn labels_come_as_numbers_of_either_kind_and_masks_may_be_absent() {
        let (directory, _) = index(concat!(
            "{\"image_path\": \"a.png\", \"label\": 0.0, \"class_name\": \"x\"}\n",
            "\n",
            "{\"image_path\": \"b.png\", \"label\": 1, \"class_name\": \"x\", \"mask_path\": \"m.png\", \"split\": \"test\"}\r\n",
            "{\"image_path\": \"c.png\", \"label\": 1.0, \"class_name\": \"x\", \"mask_path\": null}",
        ));
        let samples = read_all(&[directory.path().into()]).unwrap();
        let labels: Vec<_> = samples.iter().map(|s| s.anomalous).collect();
        assert_eq!(labels, [false, true, true]);
        assert_eq!(samples[0].image, directory.path().join("a.png"));
        assert_eq!(samples[1].mask, Some(directory.path().join("m.png")));
        assert_eq!((&samples[0].mask, &samples[2].mask), (&None, &None));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let wrong = [
            "{\"image_path\": \"a.png\", \"label\": 2, \"class_name\": \"x\"}",
            "{\"image_path\": \"a.png\", \"label\": \"1\", \"class_name\": \"x\"}",
            "{\"image_path\": \"a.png\", \"class_name\": \"x\"}",
            "{\"image_path\": \"\", \"label\": 0, \"class_name\": \"x\"}",
            "not json",
        ];
        for line in wrong {
            let (_directory, path) = index(&format!("\n{line}\n"));
            let error = read(&path, |_| true).unwrap_err().to_string();
            assert!(
                error.contains("line 2") && error.contains("meta.jsonl"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_directory_without_an_index_is_told_how_to_get_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = read_all(&[directory.path().into()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("acdclip dataset index"), "{error}");
    }
}
