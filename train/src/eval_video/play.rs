//! A clip through the element itself, so that what is measured is what a person would have seen; and settings that can be tried on it again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use acdclip_model::record::Record;
use gst::prelude::*;
use gstacdclip::{Judged, Tape};
use indicatif::ProgressBar;

use super::{alerts::Shown, clips::Clip};
use crate::{
    calibrate::video,
    launch,
    outcome::{Failure, Outcome},
    property,
};

/// What is set here, for a measurement to be one.
const OWN: [&str; 5] = ["mode", "messages", "overlay", "jsonl-location", "on-error"];

/// How the element is set.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    /// Properties by name, in the order in which they are set.
    pub(super) settings: Vec<(String, String)>,
    /// Whether clips take as long as they last, and frames do not wait for their scores.
    pub(super) is_live: bool,
}

/// What came of a clip.
pub(super) struct Played {
    /// Every frame, in order.
    pub(super) frames: Vec<Shown>,
    /// To be judged again.
    pub(super) tape: Tape,
}

impl Manner {
    /// Checks the settings before anything is played.
    pub(super) fn check(&self) -> Outcome {
        for (name, _) in &self.settings {
            if OWN.contains(&name.as_str()) {
                return Err(Failure::Arguments(format!(
                    "--set {name}: eval-video sets this itself; it measures mode=sync, and mode=latest with --live"
                )));
            }
        }
        self.element(&[]).map(|_| ())
    }

    /// An element that is set so, but for what `others` say; it plays nothing.
    pub(super) fn element(&self, others: &[(&str, &str)]) -> Outcome<gst::Element> {
        let element = gst::ElementFactory::make("acdclip").build();
        let element = element.map_err(|e| Failure::Arguments(e.to_string()))?;
        self.apply(&element)?;
        for (name, value) in others {
            property::set(&element, name, value)?;
        }
        Ok(element)
    }

    fn apply(&self, element: &gst::Element) -> Outcome {
        for (name, value) in &self.settings {
            property::set(element, name, value)?;
        }
        Ok(())
    }

    /// Plays the part of a video that `clip` names.
    pub(super) fn play(&self, clip: &Clip, progress: &ProgressBar) -> Outcome<Played> {
        let failed = |e: String| Failure::wrong_file(&clip.video, &e);
        let lines = tempfile::NamedTempFile::new().map_err(Failure::io(std::env::temp_dir()))?;
        let pipeline = self.pipeline(clip, lines.path())?;
        let acdclip = pipeline.by_name("acdclip").ok_or("the pipeline is empty");
        let acdclip = acdclip.map_err(|e| failed(e.to_owned()))?;
        let tape = Tape::record(&acdclip).map_err(failed)?;
        let times = choose_frames(&acdclip, clip, progress).map_err(failed)?;
        let ran = video::run(&pipeline);
        // Whatever came of it: a pipeline is not dropped while it runs.
        let stopped = pipeline.set_state(gst::State::Null);
        ran.map_err(failed)?;
        stopped.map_err(|e| failed(e.to_string()))?;
        let times = std::mem::take(&mut *lock(&times));
        let frames = frames(clip, times, records(lines.path())?)?;
        Ok(Played { frames, tape })
    }

    fn pipeline(&self, clip: &Clip, lines: &Path) -> Outcome<gst::Pipeline> {
        let failed = |e: &dyn std::fmt::Display| Failure::wrong_file(&clip.video, e);
        // Without a video there would be a message about the element that reads it.
        std::fs::File::open(&clip.video).map_err(Failure::io(&clip.video))?;
        let (mode, sync) = match self.is_live {
            true => ("latest", true),
            false => ("sync", false),
        };
        let line = format!(
            "filesrc name=source ! decodebin ! videoconvert ! acdclip name=acdclip ! fakesink sync={sync} qos={sync}"
        );
        let pipeline = launch::pipeline(&line).map_err(|e| failed(&e))?;
        if let Some(source) = pipeline.by_name("source") {
            source.set_property("location", &clip.video);
        }
        if let Some(element) = pipeline.by_name("acdclip") {
            self.apply(&element)?;
            let lines = lines.to_string_lossy();
            for (name, value) in OWN.iter().zip([mode, "none", "0", &lines, "fail"]) {
                property::set(&element, name, value)?;
            }
        }
        Ok(pipeline)
    }
}

type Times = Arc<Mutex<Vec<(u64, Option<u64>)>>>;

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets only the frames of the part through, at the times that the clip says; notes the number and time of each.
fn choose_frames(
    element: &gst::Element,
    clip: &Clip,
    progress: &ProgressBar,
) -> Result<Times, String> {
    let times = Times::default();
    let (into, progress) = (Arc::clone(&times), progress.clone());
    let (part, fps) = (clip.part, clip.fps);
    let pad = element.static_pad("sink").ok_or("acdclip has no sink")?;
    let number = Mutex::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        let own = {
            let mut number = lock(&number);
            *number += 1;
            *number - 1
        };
        if !part.has(own) {
            // What is behind the part need not be decoded.
            if own > part.first {
                info.flow_res = Err(gst::FlowError::Eos);
            }
            return gst::PadProbeReturn::Handled;
        }
        if let Some(fps) = fps {
            let at = |frame: u64| gst::ClockTime::from_seconds_f64(frame as f64 / fps);
            let buffer = buffer.make_mut();
            buffer.set_pts(at(own));
            buffer.set_duration(at(own + 1) - at(own));
        }
        lock(&into).push((own, buffer.pts().map(gst::ClockTime::nseconds)));
        progress.inc(1);
        gst::PadProbeReturn::Ok
    });
    Ok(times)
}

/// What the element wrote of every frame.
fn records(path: &Path) -> Outcome<Vec<Record>> {
    let text = std::fs::read_to_string(path).map_err(Failure::io(path))?;
    let records = text.lines().map(serde_json::from_str);
    let records = records.collect::<Result<_, _>>();
    records.map_err(|e| Failure::wrong_file(path, &e))
}

/// The frames that went in, with what came out of them.
fn frames(
    clip: &Clip,
    times: Vec<(u64, Option<u64>)>,
    records: Vec<Record>,
) -> Outcome<Vec<Shown>> {
    let wrong = |what: &str| Failure::wrong_file(&clip.video, &what.to_owned());
    let wanted = clip.part.last.unwrap_or(clip.part.first);
    let needed = clip.lesions.iter().map(|lesion| lesion.last);
    let needed = needed.max().unwrap_or(0).max(wanted);
    match times.last() {
        None => return Err(wrong("wanted a video, found no frame in it")),
        Some((last, _)) if *last < needed => {
            return Err(wrong(&format!(
                "the index names frame {needed}, and the video ends with frame {last}"
            )));
        }
        _ => {}
    }
    let mut frames = Vec::new();
    for (number, time) in times {
        let time = time.ok_or_else(|| {
            wrong(
                "its frames have no times; say how many there are a second as \"fps\" in the index",
            )
        })?;
        frames.push(Shown {
            number,
            time,
            record: None,
        });
    }
    place(&mut frames, records);
    Ok(frames)
}

/// Gives each frame its record, by the element's number of it.
fn place(frames: &mut [Shown], records: impl IntoIterator<Item = Record>) {
    for record in records {
        let at = usize::try_from(record.frame).ok();
        if let Some(frame) = at.and_then(|at| frames.get_mut(at)) {
            frame.record = Some(record);
        }
    }
}

impl Played {
    /// The frames as they would have been with the settings of `element`; `each` is told of every one.
    pub(super) fn replay(
        &self,
        element: &gst::Element,
        mut each: impl FnMut(&Judged<'_>) -> Outcome,
    ) -> Outcome<Vec<Shown>> {
        let bare = |frame: &Shown| Shown {
            record: None,
            ..*frame
        };
        let mut frames: Vec<_> = self.frames.iter().map(bare).collect();
        let (mut records, mut said) = (Vec::new(), Ok(()));
        let replayed = self.tape.replay(element, |judged| {
            if said.is_ok() {
                said = each(&judged);
            }
            records.push(judged.record);
        });
        replayed.map_err(Failure::Arguments)?;
        said?;
        place(&mut frames, records);
        Ok(frames)
    }
}

/// Pictures of some frames of a video, by number, no side longer than `side`.
pub(super) fn pictures(
    video: &PathBuf,
    wanted: &[u64],
    side: u32,
) -> Outcome<Vec<(u64, image::RgbImage)>> {
    let failed = |e: &dyn std::fmt::Display| Failure::wrong_file(video, e);
    let Some(last) = wanted.iter().max() else {
        return Ok(Vec::new());
    };
    let line = "filesrc name=source ! decodebin ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink sync=false max-buffers=4";
    let pipeline = launch::pipeline(line).map_err(|e| failed(&e))?;
    if let Some(source) = pipeline.by_name("source") {
        source.set_property("location", video);
    }
    let sink: gst_app::AppSink = launch::element(&pipeline, "sink").map_err(|e| failed(&e))?;
    let started = pipeline.set_state(gst::State::Playing);
    let mut taken = Vec::new();
    if started.is_ok() {
        for number in 0..=*last {
            // What cannot be decoded again has no picture.
            let Ok(sample) = sink.pull_sample() else {
                break;
            };
            if wanted.contains(&number)
                && let Some(picture) = picture(&sample)
            {
                let (width, height) = picture.dimensions();
                let longest = f64::from(width.max(height));
                let scale = (f64::from(side) / longest).min(1.0);
                let fit = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
                let small = image::imageops::thumbnail(&picture, fit(width), fit(height));
                taken.push((number, small));
            }
        }
    }
    let stopped = pipeline.set_state(gst::State::Null);
    started.and(stopped).map_err(|e| failed(&e))?;
    Ok(taken)
}

fn picture(sample: &gst::Sample) -> Option<image::RgbImage> {
    use gst_video::VideoFrameExt;
    let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
    let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
    let rows = frame.plane_data(0).ok()?.chunks(stride);
    let row = 3 * info.width() as usize;
    let pixels = rows
        .take(info.height() as usize)
        .flat_map(|line| line.get(..row).unwrap_or_default());
    image::RgbImage::from_raw(info.width(), info.height(), pixels.copied().collect())
}
