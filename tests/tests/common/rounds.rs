//! The same thing over and over: starts and stops, seeks that flush, changes of caps. A critical message of GLib is the end of the process.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use gst::prelude::*;

use super::{live::resident, pipeline};

/// What a round ends with, or the test fails.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// Makes a critical message fatal, as `G_DEBUG=fatal-criticals` does.
pub(crate) fn fatal_criticals() {
    gst::glib::log_set_always_fatal(gst::glib::LogLevels::LEVEL_CRITICAL);
}

fn settle(pipeline: &gst::Pipeline) {
    let (result, state, _) = pipeline.state(PATIENCE);
    result.unwrap_or_else(|e| panic!("{e} in state {state:?}"));
}

/// Resident memory after a quarter of the rounds and after all of them, bytes.
fn repeated(rounds: usize, mut round: impl FnMut(usize)) -> [u64; 2] {
    let mut early = 0;
    for n in 0..rounds {
        round(n);
        if n + 1 == rounds.div_ceil(4) {
            early = resident();
        }
    }
    [early, resident()]
}

/// Starts and stops the element in `mode`, every second time with frames in flight.
pub(crate) fn starts_and_stops(rounds: usize, model: &str, mode: &str) -> [u64; 2] {
    let line = format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=64,height=48,framerate=200/1 ! \
         acdclip model={model} mode={mode} ! fakesink name=sink sync=false"
    );
    let pipeline = pipeline(&line);
    let sink = pipeline.by_name("sink").unwrap();
    repeated(rounds, |n| {
        pipeline.set_state(gst::State::Playing).unwrap();
        if n % 2 == 1 {
            settle(&pipeline);
            assert!(
                sink.property::<Option<gst::Sample>>("last-sample")
                    .is_some()
            );
        }
        pipeline.set_state(gst::State::Null).unwrap();
    })
}

/// Seeks to the beginning with a flush while frames are in flight; every frame after that is a new one.
pub(crate) fn flushing_seeks(rounds: usize, model: &str, mode: &str) -> [u64; 2] {
    let line = format!(
        "videotestsrc pattern=ball ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 ! \
         acdclip model={model} mode={mode} ! fakesink name=sink sync=true"
    );
    let pipeline = pipeline(&line);
    pipeline.set_state(gst::State::Playing).unwrap();
    settle(&pipeline);
    let grown = repeated(rounds, |n| {
        let to = gst::ClockTime::from_mseconds(40 * (n as u64 % 50));
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        pipeline.seek_simple(flags, to).unwrap();
        settle(&pipeline);
        let position = pipeline.query_position::<gst::ClockTime>().unwrap();
        assert!(
            position >= to,
            "round {n}: at {position} after a seek to {to}"
        );
    });
    pipeline.set_state(gst::State::Null).unwrap();
    grown
}

/// Changes size and format in mid-stream. The filter accepts frames that left the source before it was told: without that, the source
/// now and then fails on its own.
pub(crate) fn caps_changes(rounds: usize, model: &str, mode: &str) -> [u64; 2] {
    let line = format!(
        "videotestsrc pattern=ball ! capsfilter name=filter caps-change-mode=delayed ! acdclip model={model} mode={mode} ! fakesink name=sink sync=false"
    );
    let pipeline = pipeline(&line);
    let filter = pipeline.by_name("filter").unwrap();
    let sink = pipeline.by_name("sink").unwrap();
    let caps = |n: usize| {
        let format = ["I420", "RGB", "NV12", "GRAY8"][n % 4];
        let (width, height) = (33 + n % 31, 17 + n % 29);
        gst::Caps::builder("video/x-raw")
            .field("format", format)
            .field("width", width as i32)
            .field("height", height as i32)
            .build()
    };
    filter.set_property("caps", caps(0));
    pipeline.set_state(gst::State::Playing).unwrap();
    settle(&pipeline);
    let grown = repeated(rounds, |n| {
        let wanted = caps(n);
        filter.set_property("caps", &wanted);
        let arrived = || {
            let sample = sink.property::<Option<gst::Sample>>("last-sample");
            let caps = sample.and_then(|sample| sample.caps_owned());
            caps.is_some_and(|caps| caps.is_subset(&wanted))
        };
        let start = std::time::Instant::now();
        while !arrived() {
            assert!(
                start.elapsed().as_secs() < 60,
                "round {n}: {wanted} never came"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    pipeline.set_state(gst::State::Null).unwrap();
    grown
}
