//! `acdclip dataset clips`: the index of clips for `acdclip eval-video`, from videos and what lies beside them.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::command::{absolute, written};
use crate::{
    eval_video::clips::{LesionLine, Line, MaskLine, Masks},
    files::write_whole,
    outcome::{Failure, Outcome, say},
};

/// No file of facts is anywhere near as long.
const MAX_FACTS: u64 = 64 << 20;

/// Write the index of clips for `acdclip eval-video`.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("clips").required(true).multiple(true).args(["lesions", "normal", "synthetic"])))]
pub(crate) struct Args {
    /// Videos with a lesion in every frame. X.mp4 may have an X.json beside it that says which frames belong to which sequence: {"frames":
    /// [{"video_frame", "sequence"}]}. Each sequence is then a clip and a lesion of its own.
    #[arg(long, value_name = "VIDEO", num_args = 1..)]
    lesions: Vec<PathBuf>,
    /// A folder of masks of those frames. A frame's is called by the number that its X.json gives it as "mask" or "cvc_frame": 27_mask.png, or
    /// 027_mask.png, 27.png and the like. Frames may lack one.
    #[arg(long, value_name = "DIR", requires = "lesions")]
    masks: Option<PathBuf>,
    /// Videos without a lesion.
    #[arg(long, value_name = "VIDEO", num_args = 1..)]
    normal: Vec<PathBuf>,
    /// Those of them that no camera has filmed, as `acdclip dataset pan` makes them; they are counted apart.
    #[arg(long, value_name = "VIDEO", num_args = 1..)]
    synthetic: Vec<PathBuf>,
    /// What they show.
    #[arg(long, value_name = "CLASS", default_value = "")]
    class: String,
    /// Take only these sequences.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    sequences: Vec<u64>,
    /// The index to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// What lies beside a video.
#[derive(Deserialize)]
struct Facts {
    fps: Option<f64>,
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    video_frame: u64,
    sequence: u64,
    #[serde(alias = "cvc_frame")]
    mask: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let directory = absolute(args.output.parent().unwrap_or(Path::new("")))?;
    let mut lines = Vec::new();
    for video in &args.lesions {
        lines.extend(args.with_lesions(video, &directory)?);
    }
    let normal = args.normal.iter().map(|video| (video, false));
    let synthetic = args.synthetic.iter().map(|video| (video, true));
    for (video, synthetic) in normal.chain(synthetic) {
        lines.push(Line {
            video: written(&absolute(video)?, &directory)?,
            class_name: args.class.clone(),
            normal: true,
            synthetic,
            ..Line::default()
        });
    }
    let mut text = String::new();
    for line in &lines {
        text += &serde_json::to_string(line).map_err(|e| Failure::Arguments(e.to_string()))?;
        text.push('\n');
    }
    write_whole(&args.output, text.as_bytes())?;
    let lesions: usize = lines.iter().map(|line| line.lesions.len()).sum();
    say(format_args!(
        "{}: {} clips with {lesions} lesions",
        args.output.display(),
        lines.len()
    ))
}

impl Args {
    fn with_lesions(&self, video: &Path, directory: &Path) -> Outcome<Vec<Line>> {
        let facts = facts(&video.with_extension("json"))?;
        let path = written(&absolute(video)?, directory)?;
        let wanted = |frames: &&[Frame]| {
            let sequence = frames.first().map(|frame| frame.sequence);
            self.sequences.is_empty() || sequence.is_some_and(|own| self.sequences.contains(&own))
        };
        let sequences = facts
            .frames
            .chunk_by(|a, b| a.sequence == b.sequence && a.video_frame + 1 == b.video_frame);
        let mut lines = Vec::new();
        for frames in sequences.filter(wanted) {
            let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
                continue;
            };
            let masks = self.masks_of(frames, directory)?;
            lines.push(Line {
                video: path.clone(),
                class_name: self.class.clone(),
                fps: facts.fps,
                first_frame: Some(first.video_frame),
                last_frame: Some(last.video_frame),
                lesions: vec![LesionLine {
                    id: first.sequence.to_string(),
                    first_frame: first.video_frame,
                    last_frame: last.video_frame,
                    boxes: Vec::new(),
                }],
                masks: (!masks.is_empty()).then_some(Masks::Listed(masks)),
                ..Line::default()
            });
        }
        match lines.is_empty() {
            true => Err(Failure::Arguments(format!(
                "{}: none of its sequences is among those that are asked for",
                video.display()
            ))),
            false => Ok(lines),
        }
    }

    fn masks_of(&self, frames: &[Frame], directory: &Path) -> Outcome<Vec<MaskLine>> {
        let Some(folder) = &self.masks else {
            return Ok(Vec::new());
        };
        let mut masks = Vec::new();
        for frame in frames {
            let Some(number) = frame.mask else { continue };
            let names = (1..=6).flat_map(|width| {
                ["_mask.png", ".png"].map(|end| folder.join(format!("{number:0width$}{end}")))
            });
            if let Some(mask) = names.into_iter().find(|path| path.exists()) {
                masks.push(MaskLine {
                    frame: frame.video_frame,
                    path: written(&absolute(&mask)?, directory)?,
                });
            }
        }
        Ok(masks)
    }
}

fn facts(path: &Path) -> Outcome<Facts> {
    let file = File::open(path).map_err(Failure::io(path))?;
    let mut text = String::new();
    file.take(MAX_FACTS)
        .read_to_string(&mut text)
        .map_err(Failure::io(path))?;
    serde_json::from_str(&text).map_err(|e| {
        let wanted = "wanted {\"frames\": [{\"video_frame\", \"sequence\"}]}";
        Failure::wrong_file(path, &format!("{e}; {wanted}"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_sequence_is_a_clip_and_a_lesion_with_the_masks_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.mp4", "b.mp4", "011_mask.png"] {
            std::fs::write(at(name), b"").unwrap();
        }
        let frame = |n: u64, sequence: u64| {
            format!(
                "{{\"video_frame\": {n}, \"cvc_frame\": {}, \"sequence\": {sequence}}}",
                n + 10
            )
        };
        let frames = [frame(0, 2), frame(1, 2), frame(2, 5)].join(", ");
        std::fs::write(
            at("a.json"),
            format!("{{\"fps\": 6, \"frames\": [{frames}]}}"),
        )
        .unwrap();
        let args = Args {
            lesions: vec![at("a.mp4")],
            masks: Some(folder.path().into()),
            normal: vec![],
            synthetic: vec![at("b.mp4")],
            class: "colon".into(),
            sequences: vec![],
            output: at("clips.jsonl"),
        };
        run(&args).unwrap();
        let text = std::fs::read_to_string(at("clips.jsonl")).unwrap();
        let lines: Vec<Line> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 3);
        let part = |line: &Line| (line.first_frame.unwrap(), line.last_frame.unwrap());
        assert_eq!([part(&lines[0]), part(&lines[1])], [(0, 1), (2, 2)]);
        assert_eq!(lines[1].lesions[0].id, "5");
        assert_eq!(
            (lines[0].video.as_str(), lines[0].fps),
            ("a.mp4", Some(6.0))
        );
        let masks = Masks::Listed(vec![MaskLine {
            frame: 1,
            path: "011_mask.png".into(),
        }]);
        assert_eq!((&lines[0].masks, &lines[1].masks), (&Some(masks), &None));
        assert!(lines[2].synthetic && lines[2].normal);
        let some = Args {
            sequences: vec![7],
            ..args
        };
        assert!(run(&some).unwrap_err().to_string().contains("a.mp4"));
    }
}
