//! The encoder: one for all viewers, at work only while there is one.
//!
//! VP8, which every browser with WebRTC has to decode (RFC 7742), at the settings of its encoder that cost least.

use std::{
    sync::{
        Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use gst_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gst_video::UpstreamForceKeyUnitEvent;
use parking_lot::Mutex;

use super::{Broadcast, viewer::Time};
use crate::launch;

/// Between two key frames that viewers ask for, at least.
const KEY_PAUSE: Duration = Duration::from_millis(300);

/// The encoder at work.
pub(super) struct Encoder {
    pipeline: gst::Pipeline,
    pub(super) inlet: Inlet,
}

/// Where raw frames go in.
#[derive(Clone)]
pub(super) struct Inlet {
    source: AppSrc,
    /// Of the end, from which the encoder is asked.
    outlet: gst::Pad,
    /// When a key frame was asked for.
    asked: std::sync::Arc<Mutex<Option<Instant>>>,
}

impl Encoder {
    /// Starts it, for pictures of so many bits a second.
    pub(super) fn start(
        time: &Time,
        bits: u32,
        broadcast: &Weak<Broadcast>,
    ) -> Result<Self, String> {
        let text = format!(
            "appsrc name=source ! videoconvert ! vp8enc deadline=1 cpu-used=16 threads=1 end-usage=cbr target-bitrate={bits} max-quantizer=50 \
             keyframe-max-dist=300 ! appsink name=encoded sync=false async=false"
        );
        let pipeline = launch::pipeline(&text)?;
        let source: AppSrc = launch::element(&pipeline, "source")?;
        let sink: AppSink = launch::element(&pipeline, "encoded")?;
        source.set_is_live(true);
        source.set_format(gst::Format::Time);
        source.set_do_timestamp(true);
        source.set_max_buffers(1);
        source.set_leaky_type(AppLeakyType::Downstream);
        let outlet = sink.static_pad("sink").ok_or("the pipeline has no end")?;
        let broadcast = broadcast.clone();
        let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let broadcast = broadcast.upgrade().ok_or(gst::FlowError::Eos)?;
            broadcast.show(&sample);
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
        time.rule(&pipeline);
        let encoder = Self {
            pipeline,
            inlet: Inlet {
                source,
                outlet,
                asked: std::sync::Arc::default(),
            },
        };
        encoder
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| "the encoder does not start")?;
        Ok(encoder)
    }

    /// What has gone wrong with it, if anything has.
    pub(super) fn problem(&self) -> Option<String> {
        super::problem(&self.pipeline)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // A pipeline is not dropped while it runs.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Inlet {
    /// Has a frame encoded, as a key frame where one is wanted. Never waits: a frame that is still there gives way.
    pub(super) fn take(&self, frame: &gst::Sample, wants_key: &AtomicBool) {
        if wants_key.load(Ordering::Relaxed) && self.may_ask() {
            wants_key.store(false, Ordering::Relaxed);
            let event = UpstreamForceKeyUnitEvent::builder()
                .all_headers(true)
                .build();
            self.outlet.push_event(event);
        }
        // Of the stream's own time, which a seek changes, nothing is left.
        let Some(mut buffer) = frame.buffer_owned() else {
            return;
        };
        let header = buffer.make_mut();
        header.set_pts(gst::ClockTime::NONE);
        header.set_dts(gst::ClockTime::NONE);
        let caps = frame.caps_owned();
        let sample = gst::Sample::builder()
            .buffer(&buffer)
            .caps_if_some(caps.as_ref());
        // It takes no more where it has failed, which its bus tells.
        let _ = self.source.push_sample(&sample.build());
    }

    fn may_ask(&self) -> bool {
        let mut asked = self.asked.lock();
        let may = asked.is_none_or(|asked| asked.elapsed() >= KEY_PAUSE);
        if may {
            *asked = Some(Instant::now());
        }
        may
    }
}
