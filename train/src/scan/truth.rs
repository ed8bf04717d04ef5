//! Annotated strips: where their flaws are, and where something is that is none.
//!
//! A file has one JSON object after another, each on a line or on many:
//!
//! ```json
//! {"strip": "a.png", "boxes": [{"bbox": [120, 4100, 60, 35], "category": "spall"}, {"bbox": [0, 9000, 512, 80], "category": "joint", "defect": false}]}
//! ```
//!
//! A box is the first column and line, columns and lines, in pixels; lines are numbered as `acdclip scan` numbers them, which leaves out those that stand
//! or that are there twice. Paths are relative to the file, or absolute; other keys are ignored.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{defect::Defect, source::Source};
use crate::outcome::{Failure, Outcome};

/// An index of more bytes is none.
const MAX_INDEX: u64 = 256 << 20;

/// Something that is annotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// First column and line, columns and lines.
    pub(super) bbox: [f64; 4],
    #[serde(default)]
    pub(super) category: String,
    #[serde(default = "yes", rename = "defect")]
    pub(super) is_flaw: bool,
}

fn yes() -> bool {
    true
}

/// One object of an index.
#[derive(Deserialize)]
struct Line {
    strip: PathBuf,
    boxes: Vec<Mark>,
}

/// A strip and its truth.
#[derive(Debug)]
pub(super) struct Annotated {
    pub(super) source: Source,
    pub(super) marks: Vec<Mark>,
}

impl Mark {
    /// Whether any pixel of the defect's box is in this one.
    pub(super) fn touches(&self, defect: &Defect) -> bool {
        let [x, y, w, h] = self.bbox;
        let meets = |first: f64, len: f64, own: f64, own_len: f64| {
            first < own + own_len && own < first + len
        };
        meets(f64::from(defect.x), f64::from(defect.w), x, w)
            && meets(defect.line as f64, defect.h as f64, y, h)
    }

    fn is_sound(&self) -> bool {
        let [_, _, w, h] = self.bbox;
        self.bbox.iter().all(|x| x.is_finite()) && w > 0.0 && h > 0.0
    }
}

/// Reads the indexes at `paths`, in order.
pub(super) fn read_all(paths: &[PathBuf]) -> Outcome<Vec<Annotated>> {
    let mut strips: Vec<Annotated> = Vec::new();
    for path in paths {
        for strip in read(path)? {
            let is_known = |known: &Annotated| known.source.path == strip.source.path;
            if strips.iter().any(is_known) {
                let what = format!(
                    "wanted all boxes of a strip in one object, found {} twice",
                    strip.source.path.display()
                );
                return Err(Failure::wrong_file(path, &what));
            }
            strips.push(strip);
        }
    }
    match strips.is_empty() {
        true => Err(Failure::Arguments(
            "wanted annotated strips in the indexes, found none".into(),
        )),
        false => Ok(strips),
    }
}

fn read(path: &Path) -> Outcome<Vec<Annotated>> {
    let file = File::open(path).map_err(Failure::io(path))?;
    let mut text = String::new();
    let read = file.take(MAX_INDEX + 1).read_to_string(&mut text);
    if read.map_err(Failure::io(path))? as u64 > MAX_INDEX {
        let what = format!("wanted an index of {MAX_INDEX} bytes at most, found more");
        return Err(Failure::wrong_file(path, &what));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let lines = serde_json::Deserializer::from_str(&text).into_iter::<Line>();
    lines
        .map(|line| {
            let line = line.map_err(|e| {
                let wanted = r#"wanted {"strip": FILE, "boxes": [{"bbox": [x, y, w, h]}]}"#;
                Failure::wrong_file(path, &format!("{wanted}, found: {e}"))
            })?;
            if let Some(mark) = line.boxes.iter().find(|mark| !mark.is_sound()) {
                let what = format!(
                    "{}: wanted boxes [x, y, w, h] that have columns and lines, found {:?}",
                    line.strip.display(),
                    mark.bbox
                );
                return Err(Failure::wrong_file(path, &what));
            }
            Ok(Annotated {
                source: Source::tell(&folder.join(&line.strip))?,
                marks: line.boxes,
            })
        })
        .collect()
}
