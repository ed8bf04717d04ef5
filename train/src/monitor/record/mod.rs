//! `--record`: a clip of each event with the seconds before it, as it came where it came encoded, and a line in a journal.
//!
//! Frames are taken where a decoder takes them; where there is none they are encoded, once. A thread of its own writes: the picture does not
//! wait for a disk.

mod clip;
mod keep;
mod ring;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks};

use self::{keep::Limits, ring::Frame, writer::Writer};
use super::{
    findings::Told,
    hub::Hub,
    pipeline::{Branch, element},
};
use crate::{
    files,
    outcome::{Failure, Outcome},
};

/// The journal's name.
const JOURNAL: &str = "events.jsonl";
/// Frames that wait to be written, at most.
const QUEUED: usize = 1024;

/// What is recorded, on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct RecordArgs {
    /// Record a clip of each event into that folder; nothing is stored where left out.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Seconds of a clip before its event.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=60))]
    pre_roll: u64,
    /// Seconds of a clip after its event.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=60))]
    post_roll: u64,
    /// Days after which a clip is removed.
    #[arg(long, value_name = "N", default_value_t = 30)]
    keep_days: u32,
    /// Bytes of all clips, of which the oldest are removed beyond; K, M, G or T behind the number stand for thousands of thousands.
    #[arg(long, value_name = "BYTES", default_value = "20G", value_parser = bytes)]
    keep_bytes: u64,
}

fn bytes(text: &str) -> Result<u64, String> {
    let wanted = || format!("wanted a number of bytes, as 500M or 20G, found {text}");
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => return Err(wanted()),
    };
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    number.checked_mul(unit).ok_or_else(wanted)
}

/// An encoded frame's content.
#[derive(Debug, Clone)]
struct Encoded {
    buffer: gst::Buffer,
    caps: gst::Caps,
}

/// What the writer is told.
enum Said {
    Frame(Frame<Encoded>),
    Told(Told),
    /// Frames are missing here.
    Gap,
    /// Nothing follows on what has come so far.
    Cut,
    /// That was all.
    End,
}

/// Where frames are handed over; one that finds no place is left out, up to the next key frame.
#[derive(Clone)]
struct Inlet {
    sender: SyncSender<Said>,
    is_broken: Arc<AtomicBool>,
    /// Whether a decoder was found.
    is_encoded: Arc<AtomicBool>,
}

impl Inlet {
    /// Has what is written end where the stream jumps: between the frames before and after.
    fn cut_at_jumps(&self, pad: &gst::Pad) {
        let inlet = self.clone();
        let kinds = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
        pad.add_probe(kinds, move |_, info| {
            let is_jump = info
                .event()
                .is_some_and(|event| event.type_() == gst::EventType::FlushStop);
            if is_jump && inlet.sender.try_send(Said::Cut).is_err() {
                inlet.is_broken.store(true, Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn take(&self, buffer: &gst::BufferRef, caps: gst::Caps, pts: Option<gst::ClockTime>) {
        let Some(pts) = pts else { return };
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if self.is_broken.load(Ordering::Relaxed)
            && (!is_key || self.sender.try_send(Said::Gap).is_err())
        {
            return;
        }
        // What lies in a source's pool must go back to it.
        let Ok(buffer) = buffer.copy_deep() else {
            return;
        };
        let frame = Frame {
            pts: pts.nseconds(),
            is_key,
            bytes: buffer.size(),
            content: Encoded { buffer, caps },
        };
        let sent = self.sender.try_send(Said::Frame(frame));
        let is_full = matches!(sent, Err(TrySendError::Full(_)));
        self.is_broken.store(is_full, Ordering::Relaxed);
    }
}

/// The recorder at work.
pub(super) struct Recorder {
    sender: SyncSender<Said>,
    thread: JoinHandle<()>,
}

impl RecordArgs {
    /// Encodes what comes raw, once [`Recorder::start`] has seen that it does.
    pub(super) fn branch(&self) -> Option<Branch> {
        self.record.as_ref().map(|_| {
            let encoder = if gst::ElementFactory::find("x264enc").is_some() {
                "x264enc tune=zerolatency speed-preset=superfast key-int-max=30 bitrate=8000 ! h264parse"
            } else {
                "jpegenc quality=90"
            };
            Branch(format!(
                "clean. ! valve name=raw drop=true drop-mode=forward-sticky-events ! queue leaky=downstream max-size-buffers=4 max-size-bytes=0 max-size-time=0 \
                 ! videoconvert ! video/x-raw,format=I420 ! {encoder} ! appsink name=encoded sync=false async=false"
            ))
        })
    }
}

impl Recorder {
    /// Begins to take frames; none where nothing is recorded.
    pub(super) fn start(
        args: &RecordArgs,
        pipeline: &gst::Pipeline,
        hub: &Arc<Hub>,
    ) -> Outcome<Option<Self>> {
        let Some(folder) = &args.record else {
            return Ok(None);
        };
        std::fs::create_dir_all(folder).map_err(Failure::io(folder))?;
        files::sweep(folder)?;
        let limits = Limits {
            age: Duration::from_secs(86_400) * args.keep_days,
            bytes: args.keep_bytes,
        };
        let writer = Writer::new(folder, limits, (args.pre_roll, args.post_roll), hub)?;
        let (sender, receiver) = sync_channel(QUEUED);
        let inlet = Inlet {
            sender: sender.clone(),
            is_broken: Arc::default(),
            is_encoded: Arc::default(),
        };
        tap_decoders(pipeline, &inlet);
        tap_raw(pipeline, &inlet)?;
        let thread = std::thread::Builder::new().name("acdclip:record".into());
        let thread = thread.spawn(move || listen(&receiver, writer));
        let thread = thread
            .map_err(|e| Failure::Arguments(format!("no thread could be had to record: {e}")))?;
        hub.board.tell(|status| status.records = true);
        Ok(Some(Self { sender, thread }))
    }

    /// Tells of an event.
    pub(super) fn hear(&self, told: Told) {
        // It has complained about what has ended it.
        let _ = self.sender.send(Said::Told(told));
    }

    /// Ends what is being written for now: the video has come to its end.
    pub(super) fn pause(&self) {
        // It has complained about what has ended it.
        let _ = self.sender.send(Said::Cut);
    }

    /// Ends what is being written. The pipeline, which hands frames over, has stopped.
    pub(super) fn finish(self) {
        let _ = self.sender.send(Said::End);
        let _ = self.thread.join();
    }
}

fn listen(receiver: &Receiver<Said>, mut writer: Writer) {
    while let Ok(said) = receiver.recv() {
        match said {
            Said::Frame(frame) => writer.take(frame),
            Said::Told(told) => writer.hear(&told),
            Said::Gap => writer.skip(),
            Said::Cut => writer.cut(),
            Said::End => break,
        }
    }
    writer.close();
}

/// Takes frames where a decoder of video takes them, wherever in the pipeline it comes to be.
fn tap_decoders(pipeline: &gst::Pipeline, inlet: &Inlet) {
    let inlet = inlet.clone();
    pipeline.connect_deep_element_added(move |_, _, element| {
        let class = element
            .factory()
            .and_then(|factory| factory.metadata("klass").map(str::to_owned));
        let is_decoder = class.is_some_and(|class| {
            class.contains("Decoder") && (class.contains("Video") || class.contains("Image"))
        });
        let pad = element
            .static_pad("sink")
            .filter(|_| is_decoder && element.downcast_ref::<gst::Bin>().is_none());
        let Some(pad) = pad else { return };
        inlet.cut_at_jumps(&pad);
        let inlet = inlet.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            inlet.is_encoded.store(true, Ordering::Relaxed);
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                inlet.take(buffer, caps, buffer.pts().or(buffer.dts()));
            }
            gst::PadProbeReturn::Ok
        });
    });
}

/// Has the raw video encoded from the first frame that no decoder has made.
fn tap_raw(pipeline: &gst::Pipeline, inlet: &Inlet) -> Outcome {
    let missing = || Failure::Arguments("the pipeline has no branch to record".into());
    let valve = element(pipeline, "raw")?;
    let sink = element(pipeline, "encoded")?.downcast::<AppSink>();
    let taker = inlet.clone();
    let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps_owned()) {
            // Encoders shift times, and the bounds of their segments with them. Unlike the running time, the stream time goes on after a jump
            // as events are told of: where the stream is.
            let segment = sample
                .segment()
                .and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
            let pts = segment.and_then(|segment| segment.to_stream_time(buffer.pts()));
            taker.take(buffer, caps, pts);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    let sink = sink.map_err(|_| missing())?;
    if let Some(pad) = sink.static_pad("sink") {
        inlet.cut_at_jumps(&pad);
    }
    sink.set_callbacks(callbacks.build());
    let_flushes_through(&valve);
    let pad = element(pipeline, "pace")?
        .static_pad("sink")
        .ok_or_else(missing)?;
    let (is_encoded, valve) = (Arc::clone(&inlet.is_encoded), valve.downgrade());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if !is_encoded.load(Ordering::Relaxed)
            && let Some(valve) = valve.upgrade()
        {
            valve.set_property("drop", false);
        }
        gst::PadProbeReturn::Remove
    });
    Ok(())
}

/// A valve that is shut keeps flushes back too, without which what is behind it stays at an end that it has once seen, and the pipeline has none.
fn let_flushes_through(valve: &gst::Element) {
    let Some((sink, source)) = valve.static_pad("sink").zip(valve.static_pad("src")) else {
        return;
    };
    let (valve, source) = (valve.downgrade(), source.downgrade());
    let kinds = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
    sink.add_probe(kinds, move |_, info| {
        let (Some(valve), Some(source)) = (valve.upgrade(), source.upgrade()) else {
            return gst::PadProbeReturn::Remove;
        };
        let flushes = [gst::EventType::FlushStart, gst::EventType::FlushStop];
        if let Some(event) = info
            .event()
            .filter(|event| flushes.contains(&event.type_()))
            && valve.property("drop")
        {
            source.push_event(event.clone());
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_are_numbers_with_a_unit() {
        assert_eq!(bytes("20G").unwrap(), 20_000_000_000);
        assert_eq!(bytes("512").unwrap(), 512);
        for wrong in ["", "G", "1GG", "-1", "1.5G", "99999999999T"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
