//! Normal video through the element itself, so that every frame is scored as it will be.

use std::{
    fmt::Display,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use acdclip_model::config::Domain;
use gst::prelude::*;
use indicatif::ProgressBar;

use super::{Args, footage::Footage};
use crate::{
    launch,
    outcome::{Failure, Outcome},
    property,
};

/// Nanoseconds in an hour.
const HOUR: f64 = 3.6e12;

/// What has an option of its own, or is chosen for a frame to be measured.
const OWN: [&str; 16] = [
    "calibration",
    "class-name",
    "config",
    "device",
    "domain",
    "interval",
    "jsonl-location",
    "map-threshold",
    "messages",
    "mode",
    "model",
    "on-error",
    "overlay",
    "precision",
    "resize",
    "threads",
];

/// What the element said of one frame that it measured.
struct Scored {
    score: f32,
    map_max: f32,
}

/// What has come out of the element so far.
#[derive(Default)]
struct Seen {
    scored: Vec<Scored>,
    frames: u64,
    first: Option<u64>,
    last: Option<u64>,
}

impl Seen {
    fn take(&mut self, buffer: &gst::BufferRef) {
        let Ok(meta) = gst::meta::CustomMeta::from_buffer(buffer, "AcdClipMeta") else {
            return;
        };
        let record = meta.structure();
        self.frames += 1;
        if let Some(pts) = buffer.pts().map(gst::ClockTime::nseconds) {
            self.first.get_or_insert(pts);
            self.last = Some(pts);
        }
        // Frames between two that are measured say nothing new.
        if record.get("age") == Ok(0u64)
            && let (Ok(score), Ok(map_max)) =
                (record.get::<f64>("raw-score"), record.get::<f64>("map-max"))
        {
            self.scored.push(Scored {
                score: score as f32,
                map_max: map_max as f32,
            });
        }
    }

    /// From the first frame's begin to the last one's end.
    fn hours(&self) -> f64 {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return 0.0;
        };
        let between = self.frames.saturating_sub(1).max(1) as f64;
        last.saturating_sub(first) as f64 / HOUR * self.frames as f64 / between
    }
}

/// Makes the element known to this process.
pub(crate) fn init() -> Outcome {
    let failed = |e: &dyn Display| Failure::Arguments(format!("GStreamer cannot be used: {e}"));
    gst::init().map_err(|e| failed(&e))?;
    gstacdclip::plugin_register_static().map_err(|e| failed(&e))
}

/// Adds the video at `path`, scored for `class`; [`init`] comes first.
pub(super) fn add(
    footage: &mut Footage,
    path: &Path,
    args: &Args,
    class: &str,
    progress: &ProgressBar,
) -> Outcome {
    let pipeline = pipeline(path, args, class)?;
    let seen = watch(&pipeline, progress).map_err(|e| Failure::wrong_file(path, &e))?;
    if seen.scored.is_empty() {
        return Err(Failure::wrong_file(
            path,
            &"wanted a video, found no frame in it",
        ));
    }
    footage.hours += seen.hours();
    for (i, frame) in seen.scored.iter().enumerate() {
        footage.push(frame.score, frame.map_max, i > 0);
    }
    Ok(())
}

fn watch(pipeline: &gst::Pipeline, progress: &ProgressBar) -> Result<Seen, String> {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (into, progress) = (Arc::clone(&seen), progress.clone());
    let pad = pipeline
        .by_name("sink")
        .and_then(|sink| sink.static_pad("sink"))
        .ok_or("the pipeline has no end")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            lock(&into).take(buffer);
            progress.inc(1);
        }
        gst::PadProbeReturn::Ok
    });
    let ran = run(pipeline);
    // Whatever came of it: a pipeline is not dropped while it runs.
    let stopped = pipeline.set_state(gst::State::Null);
    ran?;
    stopped.map_err(|e| e.to_string())?;
    let seen = std::mem::take(&mut *lock(&seen));
    Ok(seen)
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is not of the scoring is chosen so that frames cost nothing more than their scores.
fn pipeline(path: &Path, args: &Args, class: &str) -> Outcome<gst::Pipeline> {
    let line = "filesrc name=source ! decodebin ! videoconvert \
                ! acdclip name=acdclip overlay=0 messages=none map-threshold=1 ! fakesink name=sink sync=false";
    let failed = |e: String| Failure::wrong_file(path, &e);
    let pipeline = launch::pipeline(line).map_err(failed)?;
    if let Some(source) = pipeline.by_name("source") {
        source.set_property("location", path);
    }
    let element: gst::Element = launch::element(&pipeline, "acdclip").map_err(failed)?;
    configure(&element, args, class)?;
    Ok(pipeline)
}

fn configure(element: &gst::Element, args: &Args, class: &str) -> Outcome {
    let runtime = args.model.runtime();
    element.set_property("model", args.model.path().unwrap_or(Path::new("")));
    element.set_property("device", runtime.device.to_string());
    element.set_property("precision", runtime.precision.to_string());
    property::set(element, "threads", &runtime.threads.to_string())?;
    element.set_property("class-name", class);
    element.set_property("interval", args.interval);
    element.set_property_from_str("resize", args.resize().name());
    element.set_property_from_str("domain", args.domain().map_or("model", Domain::name));
    for (name, value) in &args.settings {
        if OWN.contains(&name.as_str()) {
            return Err(Failure::Arguments(format!(
                "--set {name}: calibrate sets this itself, some of it by options; `acdclip calibrate --help` lists them"
            )));
        }
        property::set(element, name, value)?;
    }
    Ok(())
}

/// Plays `pipeline`, which reads something, to its end.
pub(crate) fn run(pipeline: &gst::Pipeline) -> Result<(), String> {
    let ran = launch::start(pipeline).and_then(|()| launch::wait(pipeline));
    ran.map_err(|reason| {
        format!("{reason}; wanted a picture, or a video that GStreamer can decode")
    })
}
