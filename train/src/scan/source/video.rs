//! A video whose frames are pieces of the strip, decoded by a pipeline that runs no further ahead than a few frames.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use gst::prelude::*;
use gst_app::AppSink;
use gst_video::{VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo};

use super::{
    Lines, Reading,
    band::{Band, Layout},
    seen_before,
};
use crate::{
    launch,
    outcome::{Failure, Outcome, warn},
};

/// Decoded frames that wait to be read.
const QUEUED: u32 = 4;

/// Between two looks at whether decoding has failed.
const WAIT: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// Files say how long they last with errors of some frames.
const SHORT: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// Grey where the video is grey; what it is converted to otherwise is colour.
const FORMATS: &str = "{ GRAY8, RGB, GRAY16_LE }";

/// A video that is being decoded.
pub(super) struct Video {
    path: PathBuf,
    pipeline: gst::Pipeline,
    sink: AppSink,
    reading: Reading,
    frames: u64,
    /// Where the last frame ends, in the video's time.
    reached: Option<gst::ClockTime>,
}

impl Video {
    /// Opens a file that GStreamer can decode.
    pub(super) fn open(path: &Path, reading: Reading) -> Outcome<Self> {
        let failed = |e: &dyn Display| Failure::wrong_file(path, e);
        gst::init().map_err(|e| Failure::Arguments(format!("GStreamer cannot be used: {e}")))?;
        let line = format!(
            "filesrc name=source ! decodebin ! videoconvert ! appsink name=sink sync=false max-buffers={QUEUED} \
             caps=\"video/x-raw, format=(string){FORMATS}\""
        );
        let pipeline = launch::pipeline(&line).map_err(|e| failed(&e))?;
        let sink: AppSink = launch::element(&pipeline, "sink").map_err(|e| failed(&e))?;
        if let Some(source) = pipeline.by_name("source") {
            source.set_property("location", path);
        }
        let video = Self {
            path: path.into(),
            pipeline,
            sink,
            reading,
            frames: 0,
            reached: None,
        };
        if video.pipeline.set_state(gst::State::Playing).is_err() {
            video.check()?;
            return Err(video.failed(&"GStreamer cannot start to read it"));
        }
        Ok(video)
    }

    /// What went wrong, if something did.
    fn check(&self) -> Outcome {
        let bus = self.pipeline.bus();
        let message = bus.and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(e)) => Err(self.failed(&format!(
                "{}; wanted a picture, or a video that GStreamer can decode",
                e.error()
            ))),
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &dyn Display) -> Failure {
        Failure::wrong_file(&self.path, what)
    }

    fn copy(&mut self, sample: &gst::Sample, band: &mut Band) -> Outcome {
        let info = sample.caps().map(VideoInfo::from_caps);
        let (Some(Ok(info)), Some(buffer)) = (info, sample.buffer()) else {
            return Err(self.failed(&"GStreamer gave a frame without pixels"));
        };
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info);
        let frame = frame.map_err(|e| self.failed(&e))?;
        let (width, height) = (info.width() as usize, info.height() as usize);
        let (channels, is_wide) = match info.format() {
            VideoFormat::Gray8 => (1, false),
            VideoFormat::Gray16Le => (1, true),
            _ => (3, false),
        };
        let layout = Layout {
            channels,
            depth: self.reading.depth,
        };
        layout.start(band, width);
        let stride = usize::try_from(frame.plane_stride()[0]).unwrap_or(0);
        let plane = frame.plane_data(0).map_err(|e| self.failed(&e))?;
        let seen = seen_before(height, self.frames == 0, self.reading.line_advance);
        for y in seen..height {
            let row =
                plane.get(y * stride..y * stride + width * channels * (1 + usize::from(is_wide)));
            let row = row.ok_or_else(|| self.failed(&"GStreamer gave a frame that ends early"))?;
            if is_wide {
                let (pairs, _) = row.as_chunks();
                let samples = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
                layout.append_wide(band, samples);
            } else {
                layout.append(band, row);
            }
        }
        self.frames += 1;
        let ends = buffer
            .pts()
            .map(|pts| pts + buffer.duration().unwrap_or_default());
        self.reached = ends.or(self.reached);
        Ok(())
    }

    /// A file that was cut off ends without an error; it does not last as long as it says.
    fn check_length(&self) {
        let says = self.pipeline.query_duration::<gst::ClockTime>();
        let (Some(says), Some(reached)) = (says, self.reached) else {
            return;
        };
        if reached + SHORT < says {
            warn(&format!(
                "{}: wanted {says} of video, found {reached}; is the file cut off?",
                self.path.display()
            ));
        }
    }
}

impl Lines for Video {
    fn next(&mut self, band: &mut Band) -> Outcome<bool> {
        loop {
            if let Some(sample) = self.sink.try_pull_sample(WAIT) {
                self.copy(&sample, band)?;
                return Ok(true);
            }
            // After an error no end comes.
            self.check()?;
            if self.sink.is_eos() {
                break;
            }
        }
        self.check_length();
        if self.frames == 0 {
            return Err(self.failed(&"wanted a video, found no frame in it"));
        }
        Ok(false)
    }

    fn total(&self) -> Option<u64> {
        None
    }
}

impl Drop for Video {
    fn drop(&mut self) {
        // A pipeline is not dropped while it runs; that it cannot be stopped changes nothing of what was read.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
