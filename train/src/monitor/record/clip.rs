//! A clip that is being written: encoded frames into a Matroska file, which takes its name when it is whole.

use std::path::Path;

use gst::prelude::*;
use gst_app::AppSrc;
use tempfile::NamedTempFile;

use super::{Encoded, ring::Frame};
use crate::{
    files, launch,
    outcome::{Failure, Outcome, one_line},
};

/// How long the end of a file may take to be written.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// A step back that is longer, in nanoseconds, begins something else.
const BACK: u64 = 2_000_000_000;

/// Bytes that wait for the disk, at most.
const WAITING: u64 = 64 << 20;

/// What brings a stream into the form that Matroska wants.
fn parser(caps: &gst::Caps) -> &'static str {
    let name = caps
        .structure(0)
        .map_or("", |structure| structure.name().as_str());
    match name {
        "video/x-h264" => "! h264parse",
        "video/x-h265" => "! h265parse",
        "video/x-av1" => "! av1parse",
        "video/mpeg" => "! mpegvideoparse",
        _ => "",
    }
}

/// A clip.
pub(super) struct Clip {
    pipeline: gst::Pipeline,
    source: AppSrc,
    /// Until it has its name.
    file: Option<NamedTempFile>,
    caps: gst::Caps,
    /// When its first frame is shown.
    first: u64,
}

impl Clip {
    /// Begins one in `folder` with what `frame` is like.
    pub(super) fn begin(folder: &Path, frame: &Frame<Encoded>) -> Outcome<Self> {
        let file = files::begin_private(folder)?;
        let caps = frame.content.caps.clone();
        let mpeg = caps
            .structure(0)
            .and_then(|caps| caps.get::<i32>("mpegversion").ok());
        let parse = if mpeg == Some(4) {
            "! mpeg4videoparse"
        } else {
            parser(&caps)
        };
        let text = format!(
            "appsrc name=source format=time max-bytes=0 {parse} ! matroskamux ! filesink name=file"
        );
        let pipeline = launch::pipeline(&text).map_err(|e| unwritten(&e))?;
        let source: AppSrc = launch::element(&pipeline, "source").map_err(|e| unwritten(&e))?;
        source.set_caps(Some(&caps));
        if let Some(sink) = pipeline.by_name("file") {
            sink.set_property("location", file.path());
        }
        let clip = Self {
            pipeline,
            source,
            file: Some(file),
            caps,
            first: frame.pts,
        };
        clip.pipeline
            .set_state(gst::State::Playing)
            .map_err(|e| unwritten(&e))?;
        Ok(clip)
    }

    /// When its first frame is shown.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Whether that frame goes on with it.
    pub(super) fn takes(&self, frame: &Frame<Encoded>) -> bool {
        frame.content.caps == self.caps && frame.pts + BACK >= self.first
    }

    /// Appends a frame. One that is shown before the first cannot be decoded: it leans on one before that, too.
    pub(super) fn push(&self, frame: &Frame<Encoded>) -> Outcome {
        let Some(shown) = frame.pts.checked_sub(self.first) else {
            return Ok(());
        };
        let mut buffer = frame.content.buffer.clone();
        let begin = gst::ClockTime::from_nseconds(self.first);
        let header = buffer.make_mut();
        header.set_pts(gst::ClockTime::from_nseconds(shown));
        // What is decoded before it is shown, before the first frame is shown, has no time of its own.
        header.set_dts(header.dts().and_then(|dts| dts.checked_sub(begin)));
        let pushed = self.source.push_buffer(buffer);
        // A full disk is told of on the bus alone.
        if let Some(problem) = self.said() {
            return Err(unwritten(&problem));
        }
        if pushed.is_err() || self.source.current_level_bytes() > WAITING {
            return Err(unwritten(&"the disk is too slow"));
        }
        Ok(())
    }

    /// Writes the end and gives the file its name.
    pub(super) fn finish(mut self, path: &Path) -> Outcome {
        let ended = self.source.end_of_stream();
        let bus = self.pipeline.bus();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let last = bus.and_then(|bus| bus.timed_pop_filtered(PATIENCE, &kinds));
        match last.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) if ended.is_ok() => (),
            Some(gst::MessageView::Error(e)) => {
                return Err(Failure::io(path)(std::io::Error::other(one_line(
                    &e.error().to_string(),
                ))));
            }
            _ => return Err(unwritten(&"its end does not come")),
        }
        let stopped = self.pipeline.set_state(gst::State::Null);
        stopped.map_err(|e| Failure::io(path)(std::io::Error::other(e)))?;
        match self.file.take() {
            Some(file) => files::keep_private(file, path),
            None => Ok(()),
        }
    }

    /// The error that its pipeline has posted, if there is one.
    fn said(&self) -> Option<String> {
        let bus = self.pipeline.bus();
        let message = bus.and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]))?;
        match message.view() {
            gst::MessageView::Error(e) => Some(one_line(&e.error().to_string())),
            _ => None,
        }
    }
}

fn unwritten(why: &dyn std::fmt::Display) -> Failure {
    let why = one_line(&why.to_string());
    Failure::Arguments(format!("a clip cannot be written: {why}"))
}

impl Drop for Clip {
    fn drop(&mut self) {
        // A pipeline is not dropped while it runs.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
