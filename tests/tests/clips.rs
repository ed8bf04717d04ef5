//! Whole clips through the element: what goes in comes out, in order, untouched in time, with metadata on every frame.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use acdclip_model::record::Record;
use common::{init, pipeline, run_to_end, sample, shared};
use gst::prelude::*;

/// What is known of a buffer's time: pts and duration.
type Times = Vec<(Option<gst::ClockTime>, Option<gst::ClockTime>)>;

/// What one clip left behind.
struct Seen {
    before: Times,
    after: Times,
    /// Frame numbers of the custom metas, in the buffers' order.
    metas: Vec<u64>,
    /// Regions of interest, frame by frame.
    regions: Vec<usize>,
    records: Vec<Record>,
}

fn times_at(pad: &gst::Pad) -> Arc<Mutex<Times>> {
    let times: Arc<Mutex<Times>> = Arc::default();
    let seen = times.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            seen.lock().unwrap().push((buffer.pts(), buffer.duration()));
        }
        gst::PadProbeReturn::Ok
    });
    times
}

/// Runs `clip` through the element.
fn watch(clip: &Path, properties: &str) -> Seen {
    init();
    let folder = tempfile::tempdir().unwrap();
    let jsonl = folder.path().join("frames.jsonl");
    let line = format!(
        "filesrc location={:?} ! decodebin ! videoconvert ! acdclip name=acdclip jsonl-location={:?} {properties} ! fakesink name=sink",
        clip.display().to_string(),
        jsonl.display().to_string()
    );
    let pipeline = pipeline(&line);
    let element = pipeline.by_name("acdclip").unwrap();
    let before = times_at(&element.static_pad("sink").unwrap());
    let after = times_at(&element.static_pad("src").unwrap());
    let found: Arc<Mutex<(Vec<u64>, Vec<usize>)>> = Arc::default();
    let into = found.clone();
    let pad = pipeline
        .by_name("sink")
        .unwrap()
        .static_pad("sink")
        .unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            let meta =
                gst::meta::CustomMeta::from_buffer(buffer, "AcdClipMeta").expect("no AcdClipMeta");
            let mut found = into.lock().unwrap();
            found.0.push(meta.structure().get("frame").unwrap());
            found.1.push(
                buffer
                    .iter_meta::<gst_video::VideoRegionOfInterestMeta>()
                    .count(),
            );
        }
        gst::PadProbeReturn::Ok
    });
    run_to_end(&pipeline);
    let text = std::fs::read_to_string(&jsonl).unwrap();
    let (metas, regions) = std::mem::take(&mut *found.lock().unwrap());
    Seen {
        before: std::mem::take(&mut *before.lock().unwrap()),
        after: std::mem::take(&mut *after.lock().unwrap()),
        metas,
        regions,
        records: text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    }
}

/// What holds for every clip.
fn check(seen: &Seen, frames: usize) {
    assert_eq!(seen.before.len(), frames);
    assert_eq!(seen.before, seen.after);
    let numbers: Vec<u64> = (0..frames as u64).collect();
    assert_eq!(seen.metas, numbers);
    assert_eq!(
        seen.records.iter().map(|r| r.frame).collect::<Vec<_>>(),
        numbers
    );
    for ((record, (pts, _)), regions) in seen.records.iter().zip(&seen.after).zip(&seen.regions) {
        assert_eq!(record.pts, pts.map(gst::ClockTime::nseconds));
        assert_eq!(record.regions.len(), *regions, "frame {}", record.frame);
        assert!((0.0..=1.0).contains(&record.score), "{record:?}");
        for region in &record.regions {
            assert!(
                region.x + region.w <= record.width && region.y + region.h <= record.height,
                "{record:?}"
            );
        }
    }
}

/// A clip of the test data; few of its frames are scored, all are counted.
fn check_shared(name: &str, frames: usize, properties: &str) {
    let Some(clip) = shared(&format!("data/video/{name}.mp4")) else {
        return;
    };
    let seen = watch(&clip, &format!("interval=25 {properties}"));
    check(&seen, frames);
    let fresh = seen.records.iter().filter(|record| record.age == 0).count();
    assert_eq!(fresh, frames.div_ceil(25));
}

/// Frames of a line-scan clip, from its strip's length.
fn rail_frames(name: &str) -> usize {
    let Some(json) = shared(&format!("data/video/{name}.json")) else {
        return 0;
    };
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let number = |key: &str| json[key].as_u64().unwrap() as usize;
    (number("height") - number("window_height")) / number("lines_per_video_frame") + 1
}

#[test]
fn rail_clips() {
    for name in [
        "rail_linescan_145647010_0190-0199",
        "rail_linescan_145648020_0152-0157",
    ] {
        check_shared(name, rail_frames(name), "overlay=0");
    }
}

#[test]
fn colonoscopy_clip() {
    let name = "colonoscopy_cvc_clinicdb_seq02_05_07_13";
    let Some(json) = shared(&format!("data/video/{name}.json")) else {
        return;
    };
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    check_shared(
        name,
        json["frames"].as_array().unwrap().len(),
        "resize=fit overlay=contour+box",
    );
}

#[test]
fn endoscopy_clip() {
    check_shared("endoscopy_sinus_normal_35f", 35, "");
}

#[test]
fn endoscopy_clip_whose_field_is_found() {
    check_shared(
        "endoscopy_sinus_normal_35f",
        35,
        "auto-mask=endoscope quality-gate=true damp-highlights=true overlay=contour",
    );
}

#[test]
fn the_sample_clip_shows_what_it_is_for() {
    let seen = watch(&sample(), "interval=10 overlay=0");
    check(&seen, 350);
    let scored: Vec<&Record> = seen
        .records
        .iter()
        .filter(|record| record.age == 0)
        .collect();
    let anomalous = scored.iter().filter(|record| record.anomalous).count();
    println!(
        "{anomalous} of {} scored frames are anomalous",
        scored.len()
    );
    // Flaws come into view and leave it again: some frames show one, others do not.
    assert!(anomalous > 0 && anomalous < scored.len());
    assert!(scored.iter().any(|record| !record.regions.is_empty()));
}
