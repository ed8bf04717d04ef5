//! Findings as GStreamer's own analytics elements meet them.

use gst_analytics::{
    AnalyticsODMtd, AnalyticsRelationMeta, AnalyticsTrackingMtd, RelTypes, prelude::*,
};
use gst_video::VideoRegionOfInterestMeta;

use super::*;

/// What both kinds of meta say of a region.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    /// Left, top, width, height.
    at: [i32; 4],
    score: f32,
    event: Option<u64>,
}

/// The detections of type `anomaly` in the buffer's relation meta, in order.
fn detections(buffer: &gst::Buffer) -> Vec<Found> {
    let meta = buffer
        .meta::<AnalyticsRelationMeta>()
        .expect("no relation meta");
    meta.iter::<AnalyticsODMtd>()
        .filter(|entry| entry.obj_type().unwrap().as_str() == "anomaly")
        .map(|entry| {
            let at = entry.location().unwrap();
            let track = meta
                .iter_direct_related::<AnalyticsTrackingMtd>(entry.id(), RelTypes::RELATE_TO)
                .next();
            Found {
                at: [at.x, at.y, at.w, at.h],
                score: entry.confidence_level(),
                event: track.map(|track| track.info().0),
            }
        })
        .collect()
}

/// The regions of interest of type `anomaly`, in order.
fn regions(buffer: &gst::Buffer) -> Vec<Found> {
    buffer
        .iter_meta::<VideoRegionOfInterestMeta>()
        .filter(|roi| roi.roi_type() == "anomaly")
        .map(|roi| {
            let (x, y, w, h) = roi.rect();
            let parameters = roi.param("acdclip").unwrap();
            Found {
                at: [x, y, w, h].map(|pixels| i32::try_from(pixels).unwrap()),
                score: parameters.get::<f64>("score").unwrap() as f32,
                event: parameters.get("event-id").ok(),
            }
        })
        .collect()
}

/// A frame with regions, as it leaves the element, with nothing drawn on it.
fn frame_with_regions(caps: &str) -> gst::Buffer {
    let mut bench = Bench::new(&[("overlay", "0")], caps);
    let output = bench.pass(picture("ball", caps, 0));
    assert!(!regions(&output).is_empty());
    output
}

/// What becomes of `buffer` in the elements of `line`.
fn through(line: &str, caps: &str, buffer: &gst::Buffer) -> gst::Buffer {
    let mut chain = Harness::new_parse(line);
    chain.set_src_caps(caps.parse().unwrap());
    chain.play();
    chain.push_and_pull(buffer.clone()).unwrap()
}

#[test]
fn detections_say_the_same_as_the_regions_of_interest() {
    let caps = caps("RGB", 64, 48);
    let mut bench = Bench::new(&[], &caps);
    for (n, pattern) in [(0, "ball"), (1, "black"), (2, "ball")] {
        let output = bench.pass(picture(pattern, &caps, n));
        assert_eq!(detections(&output), regions(&output), "frame {n}");
        assert_eq!(detections(&output).is_empty(), pattern == "black");
    }
}

#[test]
fn what_an_element_before_it_has_detected_stays() {
    let caps = caps("RGB", 64, 48);
    let mut bench = Bench::new(&[], &caps);
    let mut input = picture("ball", &caps, 0);
    AnalyticsRelationMeta::add(input.make_mut())
        .add_od_mtd(gst::glib::Quark::from_str("bolt"), 1, 2, 3, 4, 0.5)
        .unwrap();
    let output = bench.pass(input);
    assert_eq!(output.iter_meta::<AnalyticsRelationMeta>().count(), 1);
    let meta = output.meta::<AnalyticsRelationMeta>().unwrap();
    let first = meta.iter::<AnalyticsODMtd>().next().unwrap();
    assert_eq!(first.obj_type().unwrap().as_str(), "bolt");
    assert_eq!(detections(&output), regions(&output));
}

#[test]
fn detections_survive_conversion_a_queue_and_a_tee() {
    let caps = caps("RGB", 64, 48);
    let before = frame_with_regions(&caps);
    for line in [
        "videoconvert ! capsfilter caps=video/x-raw,format=I420",
        "queue",
        "tee ! queue",
    ] {
        assert_eq!(
            detections(&through(line, &caps, &before)),
            regions(&before),
            "{line}"
        );
    }
}

#[test]
fn detections_scale_with_the_picture() {
    let caps = caps("RGB", 64, 48);
    let before = frame_with_regions(&caps);
    let after = through(
        "videoscale ! capsfilter caps=video/x-raw,width=128,height=96",
        &caps,
        &before,
    );
    let doubled: Vec<_> = regions(&before)
        .into_iter()
        .map(|found| Found {
            at: found.at.map(|pixels| 2 * pixels),
            ..found
        })
        .collect();
    assert_eq!(detections(&after), doubled);
}

/// Whether a pixel's distance from the outline of a rectangle is no more than the overlay's line is wide.
fn is_near_outline([left, top, width, height]: [i32; 4], x: i32, y: i32) -> bool {
    const LINE: i32 = 2;
    let inside = |by: i32| {
        (left - by..=left + width + by).contains(&x) && (top - by..=top + height + by).contains(&y)
    };
    inside(LINE) && !inside(-LINE - 1)
}

#[test]
fn gstreamers_detection_overlay_draws_a_box_around_each_region_while_it_lasts() {
    init();
    if gst::ElementFactory::find("objectdetectionoverlay").is_none() {
        println!("skipped: this GStreamer has no objectdetectionoverlay");
        return;
    }
    let caps = caps("BGRx", 160, 120);
    let mut bench = Bench::new(&[("overlay", "0")], &caps);
    let mut drawing = Harness::new_parse("objectdetectionoverlay draw-labels=false");
    drawing.set_src_caps(caps.parse().unwrap());
    drawing.play();
    for (n, pattern) in [(0, "ball"), (1, "black")] {
        let plain = bench.pass(picture(pattern, &caps, n));
        let drawn = bytes(&drawing.push_and_pull(plain.copy_deep().unwrap()).unwrap());
        let changed: Vec<_> = bytes(&plain)
            .chunks(4)
            .zip(drawn.chunks(4))
            .enumerate()
            .filter(|(_, (before, after))| before != after)
            .map(|(i, _)| (i as i32 % 160, i as i32 / 160))
            .collect();
        let boxes: Vec<_> = regions(&plain).iter().map(|found| found.at).collect();
        assert_eq!(changed.is_empty(), pattern == "black", "frame {n}");
        for outline in &boxes {
            assert!(
                changed
                    .iter()
                    .any(|&(x, y)| is_near_outline(*outline, x, y))
            );
        }
        for (x, y) in changed {
            assert!(
                boxes.iter().any(|outline| is_near_outline(*outline, x, y)),
                "({x}, {y}) was drawn on, the regions are {boxes:?}"
            );
        }
    }
}
