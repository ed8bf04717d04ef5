//! The pipeline: the source, at the speed of its own clock, through the element, and pictures of it for the page.
//!
//! Nothing behind the element can hold it up: the branch of the page lets pictures go where it is too slow.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::body::Bytes;
use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks};

use super::{board::now, findings::Seen, hub::Hub, pictures::Picture, source::Source};
use crate::{
    launch,
    outcome::{Failure, Outcome},
};

/// Pixels of video that a bit is enough for, as good as the picture as JPEG looks.
const PIXELS_A_BIT: u64 = 10;

/// What is set on the element, on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct PipelineArgs {
    /// A profile (TOML), such as pipelines/colonoscopy.toml.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// A bundle (.safetensors); the profile's, else the built-in model, where left out.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, cuda:N or metal.
    #[arg(long)]
    device: Option<String>,
    /// In which arithmetic the network runs: auto, f32, bf16 or int8.
    #[arg(long)]
    precision: Option<String>,
    /// What is seen; the model's first class where left out.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// What `acdclip calibrate` has written.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Pixels of the page's picture along its longer side, at most.
    #[arg(long, value_name = "PIXELS", default_value_t = 1280, value_parser = clap::value_parser!(u32).range(64..=8192))]
    picture_size: u32,
    /// Pictures a second on the page, at most.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=120))]
    picture_rate: u32,
}

impl PipelineArgs {
    /// Bits a second that the page's picture is worth as video, at most.
    pub(super) fn bits(&self) -> u32 {
        let pixels = u64::from(self.picture_size).pow(2) * 9 / 16 * u64::from(self.picture_rate);
        let bits = (pixels / PIXELS_A_BIT).clamp(300_000, 8_000_000);
        bits as u32
    }
}

/// Where else the decoded video goes before the element draws on it; gst-launch's words for a branch.
pub(super) struct Branch(pub(super) String);

/// Makes the pipeline, not yet running.
pub(super) fn build(
    args: &PipelineArgs,
    source: &Source,
    branch: Option<&Branch>,
) -> Outcome<gst::Pipeline> {
    let (size, rate) = (args.picture_size, args.picture_rate);
    let clean = branch.map_or(String::new(), |branch| {
        format!("! tee name=clean {} clean. ! queue max-size-buffers=2 max-size-bytes=0 max-size-time=0", branch.0)
    });
    let text = format!(
        "{} ! queue name=decoded max-size-buffers=2 max-size-bytes=0 max-size-time=0 ! clocksync name=pace ! videoconvert {clean} \
         ! acdclip name=acdclip ! tee name=scored \
         scored. ! queue leaky=downstream max-size-buffers=2 max-size-bytes=0 max-size-time=0 \
         ! videorate drop-only=true max-rate={rate} ! videoscale ! videoconvert \
         ! video/x-raw,format=I420,width=[1,{size}],height=[1,{size}],pixel-aspect-ratio=1/1 ! jpegenc name=still quality=85 \
         ! appsink name=pictures sync=false max-buffers=1 drop=true",
        source.launch_text()
    );
    let pipeline = launch::pipeline(&text).map_err(|e| {
        Failure::Arguments(format!(
            "{e}; wanted a source that GStreamer can make a pipeline of"
        ))
    })?;
    source.name_to(&pipeline);
    configure(&element(&pipeline, "acdclip")?, args);
    let_live_through(&element(&pipeline, "pace")?);
    Ok(pipeline)
}

/// An element of the pipeline by its name.
pub(super) fn element(pipeline: &gst::Pipeline, name: &str) -> Outcome<gst::Element> {
    launch::element(pipeline, name).map_err(Failure::Arguments)
}

fn configure(acdclip: &gst::Element, args: &PipelineArgs) {
    for (name, path) in [
        ("config", &args.profile),
        ("model", &args.model),
        ("calibration", &args.calibration),
    ] {
        if let Some(path) = path {
            acdclip.set_property(name, path);
        }
    }
    for (name, text) in [
        ("device", &args.device),
        ("precision", &args.precision),
        ("class-name", &args.class),
    ] {
        if let Some(text) = text {
            acdclip.set_property(name, text);
        }
    }
    // Whatever a profile says: the page lives on events, and nothing is kept but by --record.
    acdclip.set_property_from_str("messages", "events");
    acdclip.set_property("jsonl-location", "");
}

/// A file is played at its own speed, as if it were live; what is live is not held up for a clock.
fn let_live_through(pace: &gst::Element) {
    let Some(pad) = pace.static_pad("sink") else {
        return;
    };
    let is_known = AtomicBool::new(false);
    let pace = pace.downgrade();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        if !is_known.swap(true, Ordering::Relaxed)
            && let Some(pace) = pace.upgrade()
        {
            let mut query = gst::query::Latency::new();
            if pad.peer_query(&mut query) && query.result().0 {
                pace.set_property("sync", false);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Has the hub see what leaves the element, and the page's pictures.
pub(super) fn connect(pipeline: &gst::Pipeline, hub: &Arc<Hub>) -> Outcome {
    let missing = || Failure::Arguments("the pipeline has no end".into());
    let pad = element(pipeline, "acdclip")?.static_pad("src");
    let watcher = Arc::clone(hub);
    pad.ok_or_else(missing)?
        .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                see(&watcher, buffer);
            }
            gst::PadProbeReturn::Ok
        });
    if let Some(broadcast) = hub.broadcast.clone() {
        let pad = element(pipeline, "still")?.static_pad("sink");
        pad.ok_or_else(missing)?
            .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                let frame = info.buffer().zip(pad.current_caps());
                if let Some((buffer, caps)) = frame {
                    broadcast.take(buffer, &caps);
                }
                gst::PadProbeReturn::Ok
            });
    }
    let sink = element(pipeline, "pictures")?.downcast::<AppSink>();
    let watcher = Arc::clone(hub);
    let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if let Some(picture) = sample.buffer().and_then(picture) {
            let pts = picture.pts;
            watcher.pictures.show(picture);
            watcher.board.illustrate(pts, &watcher.pictures);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    sink.map_err(|_| missing())?
        .set_callbacks(callbacks.build());
    Ok(())
}

fn see(hub: &Hub, buffer: &gst::BufferRef) {
    let pts = buffer.pts().map_or(0, gst::ClockTime::nseconds);
    hub.board.pass(pts, now());
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "AcdClipMeta");
    // Before the first result a frame has none, nor where results are too old to be shown.
    if let Some(seen) = meta.ok().and_then(|meta| Seen::read(meta.structure(), pts)) {
        hub.board.see(&seen);
    }
}

fn picture(buffer: &gst::BufferRef) -> Option<Picture> {
    let map = buffer.map_readable().ok()?;
    Some(Picture {
        pts: buffer.pts().map_or(0, gst::ClockTime::nseconds),
        jpeg: Bytes::copy_from_slice(&map),
    })
}
