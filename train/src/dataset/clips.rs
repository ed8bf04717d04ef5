//! `acdclip dataset clips`: the index of clips for `acdclip eval-video`, from videos and what lies beside them.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gst::prelude::*;
use serde::Deserialize;

use super::command::{absolute, written};
use crate::{
    calibrate::video,
    eval_video::clips::{LesionLine, Line, MaskLine, Masks},
    files::write_whole,
    launch,
    outcome::{Failure, Outcome, say},
};

/// No file of facts is anywhere near as long.
const MAX_FACTS: u64 = 64 << 20;

/// What has to be in it, for people.
const WANTED: &str = "an entry a frame, as in {\"frames\": [{\"video_frame\": 0, \"sequence\": 1, \"mask\": 27}, {\"video_frame\": 1, \"sequence\": 1}]}";

/// The sequence of all frames of a video where nobody says which there are.
const WHOLE: u64 = 1;

/// Write the index of clips for `acdclip eval-video`.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("clips").required(true).multiple(true).args(["lesions", "normal", "synthetic"])))]
pub(crate) struct Args {
    /// Videos with a lesion in every frame, each a clip with one lesion. X.mp4 may have an X.json beside it that says which frames belong to which
    /// sequence: {"frames": [{"video_frame": 0, "sequence": 1}]}, an entry a frame. Each sequence is then a clip and a lesion of its own.
    #[arg(long, value_name = "VIDEO", num_args = 1..)]
    lesions: Vec<PathBuf>,
    /// A folder of masks of those frames; each video then needs its X.json. A frame's mask is called by the number that X.json gives it as "mask" or
    /// "cvc_frame": 27_mask.png, or 027_mask.png, 27.png and the like. Frames may lack one.
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
    /// Take only these sequences of X.json, which each video then needs.
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
        let facts = self.facts(video)?;
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

    /// What is known of the frames of a video: what lies beside it says, or that they are all of one sequence.
    fn facts(&self, video: &Path) -> Outcome<Facts> {
        let beside = video.with_extension("json");
        let needed = match (&self.masks, &self.sequences[..]) {
            (Some(_), _) => Some("--masks needs to know which mask is which frame's"),
            (None, [_, ..]) => Some("--sequences needs to know which frames belong to which"),
            (None, []) => None,
        };
        match File::open(&beside) {
            Ok(file) => read(file, &beside),
            Err(e) if e.kind() == ErrorKind::NotFound => match needed {
                None => Ok(Facts::of_one(count(video)?)),
                Some(why) => Err(Failure::Arguments(format!(
                    "{}: wanted this file beside {}, since {why}; found none; write it, with {WANTED}",
                    beside.display(),
                    video.display()
                ))),
            },
            Err(e) => Err(Failure::io(beside)(e)),
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

impl Facts {
    /// Of a video of so many frames with nothing beside it.
    fn of_one(frames: u64) -> Self {
        let frame = |video_frame| Frame {
            video_frame,
            sequence: WHOLE,
            mask: None,
        };
        Self {
            fps: None,
            frames: (0..frames).map(frame).collect(),
        }
    }
}

fn read(file: File, path: &Path) -> Outcome<Facts> {
    let mut text = String::new();
    file.take(MAX_FACTS)
        .read_to_string(&mut text)
        .map_err(Failure::io(path))?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::wrong_file(path, &format!("{e}; wanted {WANTED}")))
}

/// How many frames there are in a video. It is played for that: what files say of their length is not to be relied on.
fn count(path: &Path) -> Outcome<u64> {
    let failed = |e: String| Failure::wrong_file(path, &e);
    // Without a video there would be a message about the element that reads it.
    File::open(path).map_err(Failure::io(path))?;
    video::init()?;
    let line = "filesrc name=source ! decodebin ! videoconvert ! fakesink name=sink sync=false";
    let pipeline = launch::pipeline(line).map_err(failed)?;
    if let Some(source) = pipeline.by_name("source") {
        source.set_property("location", path);
    }
    let sink: gst::Element = launch::element(&pipeline, "sink").map_err(failed)?;
    let pad = sink.static_pad("sink");
    let pad = pad.ok_or_else(|| failed("the pipeline has no end".into()))?;
    let frames = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&frames);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    let ran = video::run(&pipeline);
    // Whatever came of it: a pipeline is not dropped while it runs.
    let stopped = pipeline.set_state(gst::State::Null);
    ran.map_err(failed)?;
    stopped.map_err(|e| failed(e.to_string()))?;
    match frames.load(Ordering::Relaxed) {
        0 => Err(failed("wanted a video, found no frame in it".into())),
        frames => Ok(frames),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The index of a video with lesions in `folder`.
    fn of_lesions(folder: &Path, video: &str) -> Args {
        Args {
            lesions: vec![folder.join(video)],
            masks: None,
            normal: vec![],
            synthetic: vec![],
            class: "colon".into(),
            sequences: vec![],
            output: folder.join("clips.jsonl"),
        }
    }

    fn indexed(args: &Args) -> Vec<Line> {
        run(args).unwrap();
        let text = std::fs::read_to_string(&args.output).unwrap();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    /// A video of so many frames.
    fn film(path: &Path, frames: u32) {
        video::init().unwrap();
        let line = format!(
            "videotestsrc num-buffers={frames} ! video/x-raw,width=64,height=48 ! jpegenc ! matroskamux ! filesink name=sink"
        );
        let pipeline = launch::pipeline(&line).unwrap();
        let sink: gst::Element = launch::element(&pipeline, "sink").unwrap();
        sink.set_property("location", path);
        video::run(&pipeline).unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn a_video_with_nothing_beside_it_is_one_lesion_from_end_to_end() {
        let folder = tempfile::tempdir().unwrap();
        film(&folder.path().join("a.mkv"), 7);
        let lines = indexed(&of_lesions(folder.path(), "a.mkv"));
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert_eq!((line.first_frame, line.last_frame), (Some(0), Some(6)));
        let [lesion] = &line.lesions[..] else {
            panic!("{line:?}")
        };
        assert_eq!((lesion.first_frame, lesion.last_frame), (0, 6));
        assert_eq!((line.fps, &line.masks), (None, &None));
    }

    #[test]
    fn what_has_to_lie_beside_a_video_is_said_with_an_example() {
        let folder = tempfile::tempdir().unwrap();
        film(&folder.path().join("a.mkv"), 2);
        let args = || of_lesions(folder.path(), "a.mkv");
        let with_masks = Args {
            masks: Some(folder.path().into()),
            ..args()
        };
        let with_sequences = Args {
            sequences: vec![1],
            ..args()
        };
        for args in [with_masks, with_sequences] {
            let error = run(&args).unwrap_err().to_string();
            assert!(
                error.contains("a.json") && error.contains(WANTED),
                "{error}"
            );
        }
        std::fs::write(folder.path().join("a.json"), b"{}").unwrap();
        let error = run(&args()).unwrap_err().to_string();
        assert!(
            error.contains("a.json") && error.contains(WANTED),
            "{error}"
        );
        let example = WANTED.split_once('{').unwrap().1;
        std::fs::write(folder.path().join("a.json"), format!("{{{example}")).unwrap();
        assert_eq!(indexed(&args())[0].last_frame, Some(1));
    }

    #[test]
    fn a_video_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(&of_lesions(folder.path(), "nowhere.mkv")).unwrap_err();
        assert!(error.to_string().contains("nowhere.mkv"), "{error}");
    }

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
            masks: Some(folder.path().into()),
            synthetic: vec![at("b.mp4")],
            ..of_lesions(folder.path(), "a.mp4")
        };
        let lines = indexed(&args);
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
