//! A live source through the element, and what became of its frames: used by the tests and by `make bench-live`.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::pipeline;

/// A buffer where it was seen.
struct Sight {
    pts: gst::ClockTime,
    when: Instant,
    /// Age of the result that it carries.
    age: Option<Duration>,
}

type Sights = Arc<Mutex<Vec<Sight>>>;

/// What became of the frames of a live source.
pub(crate) struct Live {
    /// Frames that came, and those that left.
    pub(crate) came: usize,
    pub(crate) left: usize,
    /// Whether they left with the times that they came with, in order.
    pub(crate) in_order: bool,
    /// What passing the element took, frame by frame.
    pub(crate) passages: Vec<Duration>,
    /// Ages of the results that frames carried.
    pub(crate) ages: Vec<Duration>,
    /// Frames that carried none.
    pub(crate) bare: usize,
    /// CPUs that the process kept busy, on average.
    pub(crate) cpus: f64,
    /// The element's own statistics.
    pub(crate) stats: gst::Structure,
    /// Resident memory after a third of the time, and at its end, bytes.
    pub(crate) memory: [u64; 2],
    /// Buffers that the sink threw away because they were late.
    pub(crate) dropped: u64,
}

fn watch(pad: &gst::Pad) -> Sights {
    let sights = Sights::default();
    let seen = sights.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            let meta = gst::meta::CustomMeta::from_buffer(buffer, "AcdClipMeta").ok();
            let age = meta.map(|meta| meta.structure().get::<u64>("age").unwrap());
            seen.lock().unwrap().push(Sight {
                pts: buffer.pts().expect("a live source gives times"),
                when: Instant::now(),
                age: age.map(Duration::from_nanos),
            });
        }
        gst::PadProbeReturn::Ok
    });
    sights
}

/// Runs `source` (a piece of a launch line) through the element with `properties` into a sink that keeps the clock.
pub(crate) fn run(source: &str, properties: &str, time: Duration) -> Live {
    let line = format!(
        "{source} ! acdclip name=acdclip {properties} ! fakesink name=sink sync=true qos=true"
    );
    let pipeline = pipeline(&line);
    let element = pipeline.by_name("acdclip").unwrap();
    let came = watch(&element.static_pad("sink").unwrap());
    let left = watch(&element.static_pad("src").unwrap());
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let start = (Instant::now(), cpu_time());
    let failed = |wait: Duration| {
        let wait = gst::ClockTime::from_nseconds(wait.as_nanos() as u64);
        bus.timed_pop_filtered(wait, &[gst::MessageType::Error])
    };
    assert!(failed(time / 3).is_none());
    let early = resident();
    assert!(failed(time * 2 / 3).is_none());
    let memory = [early, resident()];
    let cpus = (cpu_time() - start.1).as_secs_f64() / start.0.elapsed().as_secs_f64();
    let sink = pipeline.by_name("sink").unwrap();
    let dropped: gst::Structure = sink.property("stats");
    let stats = element.property("stats");
    // The source first, so that every frame that came has left.
    pipeline.send_event(gst::event::Eos::new());
    bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos])
        .expect("the stream did not end");
    pipeline.set_state(gst::State::Null).unwrap();
    let (came, left) = (came.lock().unwrap(), left.lock().unwrap());
    let pairs = || came.iter().zip(left.iter());
    Live {
        came: came.len(),
        left: left.len(),
        in_order: pairs().all(|(a, b)| a.pts == b.pts),
        passages: pairs().map(|(a, b)| b.when - a.when).collect(),
        ages: left.iter().filter_map(|sight| sight.age).collect(),
        bare: left.iter().filter(|sight| sight.age.is_none()).count(),
        cpus,
        stats,
        memory,
        dropped: dropped.get("dropped").unwrap(),
    }
}

/// A test picture at so many frames a second, as a camera would give it.
pub(crate) fn camera(fps: u32, caps: &str) -> String {
    format!("videotestsrc is-live=true pattern=ball ! video/x-raw,{caps},framerate={fps}/1")
}

/// The smallest of the durations that `share` of them do not exceed.
pub(crate) fn quantile(durations: &[Duration], share: f64) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Processor time of this process so far (proc(5), fields 14 and 15 of stat, in hundredths of a second).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of this process, bytes.
pub(crate) fn resident() -> u64 {
    acdclip_model::memory::of_process().unwrap().used
}
