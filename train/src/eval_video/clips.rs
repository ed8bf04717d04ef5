//! The index of clips: what is to be played, and what it shows where and when.
//!
//! A text file with one JSON object a line:
//!
//! ```json
//! {"video": "a.mp4", "class_name": "colon", "lesions": [{"id": "1", "first_frame": 40, "last_frame": 180, "boxes": [{"frame": 40, "x": 8, "y": 9, "w": 50, "h": 40}]}]}
//! {"video": "b.mp4", "first_frame": 25, "last_frame": 49, "lesions": [{"id": "5", "first_frame": 25, "last_frame": 49}], "masks": "masks/%04d.png"}
//! {"video": "c.mkv", "normal": true, "synthetic": true}
//! ```
//!
//! Frames are numbered from 0 in the video's own order; `first_frame` and `last_frame` of a line are the part that is played, all of it where
//! they are left out. Paths are relative to the index, or absolute. A lesion is in view in every frame from its first to its last. Where it
//! is say `boxes`, in pixels of the video, or `masks`, pictures that are not black there: a pattern with the frame's number (`%d`, `%04d`), a
//! folder whose pictures by name belong to the frames of the part, one each, or a list of `{"frame", "path"}`. `fps` gives frames times of
//! their own, where the video's are wrong. `synthetic` clips are counted apart, and called so wherever a figure rests on them. Other keys
//! are ignored.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    dataset::{self, tree::pictures},
    outcome::{Failure, Outcome},
};

/// Frames a second of no camera.
const MAX_FPS: f64 = 10_000.0;

/// One line of an index.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) video: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) class_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fps: Option<f64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) synthetic: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) normal: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_frame: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_frame: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lesions: Vec<LesionLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) masks: Option<Masks>,
}

/// A lesion of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LesionLine {
    pub(crate) id: String,
    pub(crate) first_frame: u64,
    pub(crate) last_frame: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) boxes: Vec<BoxLine>,
}

/// Where a lesion is in a frame, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct BoxLine {
    frame: u64,
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

/// Where masks are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Masks {
    /// A folder, or a pattern.
    Named(String),
    /// One by one.
    Listed(Vec<MaskLine>),
}

/// The mask of a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MaskLine {
    pub(crate) frame: u64,
    pub(crate) path: String,
}

/// A clip, its paths ready to be opened.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clip {
    pub(super) video: PathBuf,
    pub(super) class_name: String,
    pub(super) fps: Option<f64>,
    pub(super) synthetic: bool,
    pub(super) part: Part,
    pub(super) lesions: Vec<Lesion>,
    /// Masks by frame.
    pub(super) masks: BTreeMap<u64, PathBuf>,
}

/// What of a video is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u64,
    /// None for the video's end.
    pub(super) last: Option<u64>,
}

/// Something to be found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lesion {
    pub(super) id: String,
    pub(super) first: u64,
    pub(super) last: u64,
    /// x, y, width and height by frame.
    pub(super) boxes: BTreeMap<u64, [f64; 4]>,
}

impl Part {
    /// Whether a frame is played.
    pub(super) fn has(self, frame: u64) -> bool {
        frame >= self.first && self.last.is_none_or(|last| frame <= last)
    }
}

impl Clip {
    /// The file and the part, as people see it.
    pub(super) fn name(&self) -> String {
        let file = self.video.file_name().unwrap_or(self.video.as_os_str());
        let file = file.to_string_lossy();
        match (self.part.first, self.part.last) {
            (0, None) => file.into_owned(),
            (first, None) => format!("{file} {first}-"),
            (first, Some(last)) => format!("{file} {first}-{last}"),
        }
    }
}

/// The clips of every index in `paths`, in order.
pub(super) fn read_all(paths: &[PathBuf]) -> Outcome<Vec<Clip>> {
    let mut clips = Vec::new();
    for path in paths {
        let before = clips.len();
        let directory = path.parent().unwrap_or(Path::new(""));
        let wanted = "{\"video\", \"lesions\"} or {\"video\", \"normal\": true}";
        dataset::for_each_line(path, wanted, |bytes| {
            let line: Line = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
            clips.push(line.into_clip(directory)?);
            Ok(())
        })?;
        if clips.len() == before {
            return Err(Failure::Picture {
                path: path.clone(),
                reason: "wanted one clip a line, found an empty index".into(),
            });
        }
    }
    Ok(clips)
}

impl Line {
    fn into_clip(self, directory: &Path) -> Result<Clip, String> {
        if self.video.is_empty() {
            return Err("an empty video".into());
        }
        if self.normal != self.lesions.is_empty() {
            return Err("wanted lesions, or \"normal\": true, and not both".into());
        }
        if let Some(fps) = self.fps.filter(|fps| !(*fps > 0.0 && *fps <= MAX_FPS)) {
            return Err(format!("fps: wanted above 0 to {MAX_FPS}, found {fps}"));
        }
        let part = Part {
            first: self.first_frame.unwrap_or(0),
            last: self.last_frame,
        };
        if part.last.is_some_and(|last| last < part.first) {
            return Err("last_frame lies before first_frame".into());
        }
        let masks = match &self.masks {
            None => BTreeMap::new(),
            Some(masks) => masks.find(directory, part, &self.lesions)?,
        };
        let lesions = self.lesions.into_iter().map(|lesion| lesion.check(part));
        let lesions = lesions.collect::<Result<Vec<_>, _>>()?;
        for (i, lesion) in lesions.iter().enumerate() {
            if lesions[..i].iter().any(|other| other.id == lesion.id) {
                return Err(format!("two lesions are called {:?}", lesion.id));
            }
        }
        Ok(Clip {
            video: directory.join(self.video),
            class_name: self.class_name,
            fps: self.fps,
            synthetic: self.synthetic,
            part,
            lesions,
            masks,
        })
    }
}

impl LesionLine {
    fn check(self, part: Part) -> Result<Lesion, String> {
        let Self {
            id,
            first_frame: first,
            last_frame: last,
            boxes,
        } = self;
        if last < first || !part.has(first) || !part.has(last) {
            return Err(format!(
                "lesion {id:?}: wanted frames of the part that is played, found {first} to {last}"
            ));
        }
        let mut by_frame = BTreeMap::new();
        for BoxLine { frame, x, y, w, h } in boxes {
            if !(first..=last).contains(&frame) {
                return Err(format!(
                    "lesion {id:?}: a box in frame {frame}, where it is not in view"
                ));
            }
            let is_box = [x, y, w, h].iter().all(|side| side.is_finite()) && w > 0.0 && h > 0.0;
            if !is_box {
                return Err(format!("lesion {id:?}: an empty box in frame {frame}"));
            }
            by_frame.insert(frame, [x, y, w, h]);
        }
        Ok(Lesion {
            id,
            first,
            last,
            boxes: by_frame,
        })
    }
}

impl Masks {
    /// The masks of the frames of a part.
    fn find(
        &self,
        directory: &Path,
        part: Part,
        lesions: &[LesionLine],
    ) -> Result<BTreeMap<u64, PathBuf>, String> {
        match self {
            Self::Listed(listed) => {
                let placed = listed
                    .iter()
                    .map(|mask| (mask.frame, directory.join(&mask.path)));
                Ok(placed.filter(|(frame, _)| part.has(*frame)).collect())
            }
            Self::Named(name) if name.contains('%') => {
                let mut masks = BTreeMap::new();
                // Elsewhere a mask would say nothing.
                for frame in lesions
                    .iter()
                    .flat_map(|lesion| lesion.first_frame..=lesion.last_frame)
                {
                    let path = directory.join(numbered(name, frame)?);
                    if path.exists() {
                        masks.insert(frame, path);
                    }
                }
                match masks.is_empty() {
                    true => Err(format!(
                        "masks: wanted pictures of the frames of lesions, found none like {name}"
                    )),
                    false => Ok(masks),
                }
            }
            Self::Named(name) => {
                let found = pictures(&directory.join(name)).map_err(|e| e.to_string())?;
                Ok((part.first..).zip(found).collect())
            }
        }
    }
}

/// `pattern` with the number in place of its `%d`, which may say how many digits there are at least.
fn numbered(pattern: &str, number: u64) -> Result<String, String> {
    let wrong =
        || format!("masks: wanted one %d or %04d for the frame's number, found {pattern:?}");
    let (before, rest) = pattern.split_once('%').ok_or_else(wrong)?;
    let (digits, after) = rest.split_once('d').ok_or_else(wrong)?;
    let width: usize = match digits {
        "" => 0,
        digits => digits.parse().map_err(|_| wrong())?,
    };
    if after.contains('%') || width > 32 {
        return Err(wrong());
    }
    Ok(format!("{before}{number:0width$}{after}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn clip(line: &str) -> Result<Clip, String> {
        let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
        line.into_clip(Path::new("dir"))
    }

    #[test]
    fn a_line_says_what_is_played_and_what_is_in_it() {
        let clip = clip(
            "{\"video\": \"a.mp4\", \"first_frame\": 5, \"last_frame\": 9, \"note\": 1, \
             \"lesions\": [{\"id\": \"p\", \"first_frame\": 6, \"last_frame\": 9, \"boxes\": [{\"frame\": 6, \"x\": 1, \"y\": 2, \"w\": 3, \"h\": 4}]}], \
             \"masks\": [{\"frame\": 6, \"path\": \"m/6.png\"}, {\"frame\": 40, \"path\": \"m/40.png\"}]}",
        )
        .unwrap();
        assert_eq!(clip.video, Path::new("dir/a.mp4"));
        assert_eq!(clip.name(), "a.mp4 5-9");
        assert!(clip.part.has(9) && !clip.part.has(10) && !clip.part.has(4));
        assert_eq!(clip.lesions[0].boxes[&6], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(
            clip.masks,
            BTreeMap::from([(6, PathBuf::from("dir/m/6.png"))])
        );
    }

    #[test]
    fn masks_are_found_by_number_and_by_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["m-07.png", "m-08.png"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let line = |masks: &str| {
            let line = format!(
                "{{\"video\": \"a\", \"first_frame\": 7, \"lesions\": [{{\"id\": \"p\", \"first_frame\": 7, \"last_frame\": 9}}], \"masks\": {masks:?}}}"
            );
            let line: Line = serde_json::from_str(&line).unwrap();
            line.into_clip(folder.path())
        };
        let numbered = line("m-%02d.png").unwrap().masks;
        assert_eq!(numbered.keys().copied().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(line(".").unwrap().masks, numbered);
        for wrong in ["m-%d.png", "m-%x.png", "%d-%d.png"] {
            assert!(line(wrong).unwrap_err().contains("masks"), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        let lesion = |first: u64, last: u64, more: &str| {
            format!(
                "{{\"video\": \"a\", \"last_frame\": 9, \"lesions\": [{{\"id\": \"p\", \"first_frame\": {first}, \"last_frame\": {last}{more}}}]}}"
            )
        };
        for (line, part) in [
            ("{\"video\": \"a\"}".to_owned(), "normal"),
            ("{\"normal\": true}".to_owned(), "video"),
            ("{\"video\": \"\", \"normal\": true}".to_owned(), "video"),
            (
                "{\"video\": \"a\", \"normal\": true, \"fps\": 0}".to_owned(),
                "fps",
            ),
            (lesion(5, 4, ""), "\"p\""),
            (lesion(5, 10, ""), "5 to 10"),
            (
                lesion(
                    5,
                    6,
                    ", \"boxes\": [{\"frame\": 7, \"x\": 0, \"y\": 0, \"w\": 1, \"h\": 1}]",
                ),
                "frame 7",
            ),
            (
                lesion(
                    5,
                    6,
                    ", \"boxes\": [{\"frame\": 5, \"x\": 0, \"y\": 0, \"w\": 0, \"h\": 1}]",
                ),
                "empty box",
            ),
        ] {
            let error = clip(&line).unwrap_err();
            assert!(
                error.contains(part),
                "{line}: {error:?} does not say {part:?}"
            );
        }
    }
}
