//! `acdclipoverlay`: what `acdclip` has found, drawn from the metadata alone.

use std::sync::{Arc, Mutex};

use gst_video::VideoRegionOfInterestMeta;

use super::*;

const PARTS: &str = "heatmap+contour+box+score+marker";
const PROPERTIES: [&str; 5] = ["overlay", "mute", "opacity", "colormap", "map-threshold"];

fn drawer(properties: &[(&str, &str)], caps: &str) -> Bench {
    Bench::of(made("acdclipoverlay", properties), caps)
}

/// The n-th frame of a pattern, scored and not drawn on.
fn scored(pattern: &str, caps: &str, n: u64) -> gst::Buffer {
    Bench::new(&[("overlay", "0")], caps).pass(picture(pattern, caps, n))
}

/// `buffer` with its metadata changed.
fn altered(buffer: &gst::Buffer, change: impl FnOnce(&mut gst::StructureRef)) -> gst::Buffer {
    let mut buffer = buffer.copy();
    let writable = buffer.get_mut().unwrap();
    let mut meta = gst::meta::CustomMeta::from_mut_buffer(writable, "AcdClipMeta").unwrap();
    change(meta.mut_structure());
    buffer
}

/// Left, top, right and bottom of what differs between two RGB pictures of a width; none where nothing does.
fn difference(before: &[u8], after: &[u8], width: usize) -> Option<[usize; 4]> {
    let pixels = before.chunks_exact(3).zip(after.chunks_exact(3));
    let changed = pixels.enumerate().filter(|(_, (a, b))| a != b);
    changed
        .map(|(at, _)| (at % width, at / width))
        .fold(None, |seen, (x, y)| {
            let [left, top, right, bottom] = seen.unwrap_or([x, y, x + 1, y + 1]);
            Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)])
        })
}

#[test]
fn drawn_from_metadata_is_drawn_by_the_scoring_element_to_the_byte() {
    for format in ["RGB", "I420", "NV12", "GRAY8"] {
        let caps = caps(format, 321, 243);
        let properties = [("overlay", PARTS), ("opacity", "0.8")];
        // One picture for both: what pads its rows is not the same in two.
        let input = picture("ball", &caps, 0);
        let at_once = Bench::new(&properties, &caps).pass(input.clone());
        let clean = Bench::new(&[("overlay", "0")], &caps).pass(input);
        let later = drawer(&properties, &caps).pass(clean.clone());
        assert_ne!(bytes(&later), bytes(&clean), "{format}: nothing is drawn");
        assert!(bytes(&later) == bytes(&at_once), "{format}");
    }
}

#[test]
fn with_a_map_threshold_on_the_scoring_element_both_draw_the_same() {
    let caps = caps("RGB", 128, 96);
    let of = |overlay| [("overlay", overlay), ("map-threshold", "0.3")];
    let at_once = Bench::new(&of("contour+box"), &caps).pass(picture("ball", &caps, 0));
    let clean = Bench::new(&of("0"), &caps).pass(picture("ball", &caps, 0));
    let later = drawer(&[("overlay", "contour+box")], &caps).pass(clean.clone());
    assert_ne!(bytes(&later), bytes(&clean));
    assert!(bytes(&later) == bytes(&at_once));
}

#[test]
fn its_defaults_are_those_of_the_scoring_element_and_all_can_change_while_playing() {
    let (drawer, scorer) = (made("acdclipoverlay", &[]), element(&[]));
    for name in PROPERTIES {
        let (own, other) = (
            drawer.find_property(name).unwrap(),
            scorer.find_property(name).unwrap(),
        );
        let default = |spec: &gst::glib::ParamSpec| format!("{:?}", spec.default_value());
        assert_eq!(default(&own), default(&other), "{name}");
        let value = format!("{:?}", drawer.property_value(name));
        assert_eq!(value, default(&own), "{name}");
        let flags = own.flags();
        assert!(flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING), "{name}");
    }
}

#[test]
fn every_property_counts_from_the_next_frame_on() {
    let caps = caps("RGB", 128, 96);
    let clean = scored("ball", &caps, 0);
    let mut bench = drawer(&[], &caps);
    let mut drawn = |name: &str, value: &str| {
        bench.element.set_property_from_str(name, value);
        bytes(&bench.pass(clean.clone()))
    };
    let plain = bytes(&clean);
    let heat = drawn("overlay", "heatmap");
    assert_ne!(heat, plain);
    let faint = drawn("opacity", "0.2");
    let far = |picture: &[u8]| -> u64 {
        let pixels = picture.iter().zip(&plain);
        pixels.map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
    };
    assert!(far(&faint) < far(&heat) && far(&faint) > 0);
    assert_ne!(drawn("colormap", "viridis"), faint);
    let outlined = drawn("overlay", "contour+box");
    assert_ne!(outlined, plain);
    assert!(drawn("map-threshold", "1") == plain, "nothing is certain");
    let wide = drawn("map-threshold", "0.2");
    let size = |picture: &[u8]| {
        let [left, top, right, bottom] = difference(&plain, picture, 128).unwrap();
        (right - left) * (bottom - top)
    };
    assert!(size(&wide) > size(&outlined));
    assert!(drawn("map-threshold", "-1") == outlined);
    assert!(drawn("overlay", "0") == plain);
}

#[test]
fn a_buffer_without_metadata_is_passed_on_as_it_came() {
    let caps = caps("I420", 64, 48);
    let mut bench = drawer(&[("overlay", PARTS)], &caps);
    let input = picture("ball", &caps, 0);
    let (branch, before) = (input.clone(), bytes(&input));
    let output = bench.pass(input);
    assert_eq!(output.as_ptr(), branch.as_ptr(), "it is the same buffer");
    assert_eq!(bytes(&output), before);
}

#[test]
fn other_branches_are_not_drawn_on_and_share_their_memory_where_nothing_is() {
    let caps = caps("RGB", 64, 48);
    let mut bench = drawer(&[("overlay", "heatmap+contour+box")], &caps);
    let normal = scored("black", &caps, 0);
    let branch = normal.clone();
    assert_eq!(address(&bench.pass(normal)), address(&branch));

    let abnormal = scored("ball", &caps, 1);
    let (branch, before) = (abnormal.clone(), bytes(&abnormal));
    let output = bench.pass(abnormal);
    assert_eq!(bytes(&branch), before, "the other branch was drawn on");
    assert_ne!(bytes(&output), before);
    assert_eq!(score(&output), score(&branch), "the metadata stays");
}

#[test]
fn a_buffer_that_is_nobody_elses_is_drawn_on_in_place() {
    let caps = caps("RGB", 64, 48);
    let input = scored("ball", &caps, 0);
    let (at, before) = (address(&input), bytes(&input));
    let output = drawer(&[], &caps).pass(input);
    assert_ne!(bytes(&output), before);
    assert_eq!(address(&output), at);
}

#[test]
fn boxes_lie_where_regions_lie_after_scaling() {
    let (small, large) = (caps("RGB", 64, 48), caps("RGB", 200, 96));
    let clean = scored("ball", &small, 0);
    let mut scale = Harness::new_parse(&format!("videoscale ! capsfilter caps=\"{large}\""));
    scale.set_src_caps(small.parse().unwrap());
    scale.play();
    let scaled = scale.push_and_pull(clean).unwrap();
    let rois: Vec<_> = scaled
        .iter_meta::<VideoRegionOfInterestMeta>()
        .map(|roi| roi.rect())
        .collect();
    assert!(!rois.is_empty());
    let most = |of: fn(&(u32, u32, u32, u32)) -> u32| rois.iter().map(of).max().unwrap() as usize;
    let least = |of: fn(&(u32, u32, u32, u32)) -> u32| rois.iter().map(of).min().unwrap() as usize;
    let wanted = [
        least(|r| r.0),
        least(|r| r.1),
        most(|r| r.0 + r.2),
        most(|r| r.1 + r.3),
    ];
    let drawn = |parts: &str| {
        let output = drawer(&[("overlay", parts)], &large).pass(scaled.clone());
        difference(&bytes(&scaled), &bytes(&output), 200).unwrap()
    };
    let near = |found: [usize; 4], by: usize| {
        let pairs = found.iter().zip(&wanted);
        assert!(
            pairs.into_iter().all(|(a, b)| a.abs_diff(*b) <= by),
            "{found:?}, regions are in {wanted:?}"
        );
    };
    // `videoscale` cuts off a region's corner and its size, each by itself, so that its far edge is up to two pixels nearer than it lies.
    near(drawn("box"), 2);
    near(drawn("contour"), 4);
}

#[test]
fn a_map_of_a_part_of_the_frame_is_drawn_in_that_part() {
    let caps = caps("RGB", 128, 96);
    let whole = scored("ball", &caps, 0);
    let area = [
        ("area-x", 40u32),
        ("area-y", 30),
        ("area-w", 50),
        ("area-h", 40),
    ];
    let part = altered(&whole, |structure| {
        let mut map: gst::Structure = structure.get("map").unwrap();
        for (name, value) in area {
            map.set(name, value);
        }
        structure.set("map", map);
    });
    let output = drawer(&[("overlay", "heatmap")], &caps).pass(part.clone());
    let [left, top, right, bottom] = difference(&bytes(&part), &bytes(&output), 128).unwrap();
    assert!(left >= 40 && top >= 30 && right <= 90 && bottom <= 70);
}

#[test]
fn damaged_metadata_is_warned_of_once_a_stream_and_the_picture_is_passed_on() {
    let caps = caps("RGB", 64, 48);
    let element = made("acdclipoverlay", &[("name", "suspicious")]);
    let said = Arc::new(Mutex::new(0));
    let counter = said.clone();
    gst::log::add_log_function(move |category, level, _, _, _, object, _| {
        let own = object.is_some_and(|object| object.to_string().contains("suspicious"));
        if own && category.name() == "acdclipoverlay" && level == gst::DebugLevel::Warning {
            *counter.lock().unwrap() += 1;
        }
    });
    gst::log::set_threshold_for_name("acdclipoverlay", gst::DebugLevel::Warning);
    let mut bench = Bench::of(element, &caps);
    let whole = scored("ball", &caps, 0);
    let damaged = [
        altered(&whole, |structure| structure.set("score", "high")),
        altered(&whole, |structure| structure.set("map", 3)),
        altered(&whole, |structure| structure.remove_field("regions")),
    ];
    for buffer in damaged.clone() {
        let output = bench.pass(buffer.clone());
        assert_eq!(output.as_ptr(), buffer.as_ptr());
        assert_eq!(bytes(&output), bytes(&whole));
    }
    assert_eq!(*said.lock().unwrap(), 1);
    assert_ne!(
        bytes(&bench.pass(whole.clone())),
        bytes(&whole),
        "what is whole is drawn again"
    );
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    let again: [gst::Event; 3] = [
        gst::event::StreamStart::new("another"),
        gst::event::Caps::new(&caps.parse().unwrap()),
        gst::event::Segment::new(&segment),
    ];
    for event in again {
        assert!(bench.harness.push_event(event));
    }
    bench.pass(damaged[0].clone());
    assert_eq!(*said.lock().unwrap(), 2);
}

#[test]
fn what_it_draws_follows_the_caps() {
    let first = caps("RGB", 64, 48);
    let mut bench = drawer(&[("overlay", PARTS)], &first);
    bench.pass(scored("ball", &first, 0));
    let second = caps("I420", 95, 71);
    bench.harness.set_src_caps(second.parse().unwrap());
    let clean = scored("ball", &second, 1);
    let output = bench.pass(clean.clone());
    let fresh = drawer(&[("overlay", PARTS)], &second).pass(clean.clone());
    assert_ne!(bytes(&output), bytes(&clean));
    assert!(bytes(&output) == bytes(&fresh));
}

#[test]
fn late_buffers_are_not_dropped() {
    let caps = caps("GRAY8", 32, 32);
    let mut bench = drawer(&[("qos", "true")], &caps);
    let late = gst::event::Qos::builder(gst::QOSType::Underflow, 0.1, 10_000_000_000)
        .timestamp(gst::ClockTime::from_seconds(5))
        .build();
    assert!(bench.harness.push_upstream_event(late));
    for n in 0..4 {
        bench.harness.push(picture("black", &caps, n)).unwrap();
    }
    assert_eq!(bench.harness.buffers_received(), 4);
}

#[test]
fn one_branch_shows_and_the_other_stays_clean() {
    init();
    let line = "videotestsrc num-buffers=3 pattern=ball ! video/x-raw,format=RGB,width=64,height=48 ! tee name=source \
        source. ! queue ! fakesink name=before \
        source. ! queue ! acdclip overlay=0 ! tee name=scored \
        scored. ! queue ! fakesink name=clean \
        scored. ! queue ! videoconvert ! video/x-raw,format=BGRx ! queue ! acdclipoverlay ! videoconvert ! video/x-raw,format=RGB ! fakesink name=shown";
    let pipeline = gst::parse::launch(line).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let seen = ["before", "clean", "shown"].map(|name| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = seen.clone();
        let pad = pipeline.by_name(name).unwrap().static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            keep.lock().unwrap().extend(info.buffer().map(bytes));
            gst::PadProbeReturn::Ok
        });
        seen
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(120), &end);
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    let [before, clean, shown] = seen.map(|seen| seen.lock().unwrap().clone());
    assert_eq!(before.len(), 3);
    assert!(clean == before, "the clean branch is not clean");
    assert_eq!(shown.len(), 3);
    for (shown, clean) in shown.iter().zip(&clean) {
        assert_ne!(shown, clean, "a frame shows nothing");
    }
}

#[test]
fn the_map_can_be_read_by_others_as_it_is_described() {
    let caps = caps("RGB", 64, 48);
    let record = record(&scored("ball", &caps, 0));
    let map: gst::Structure = record.get("map").unwrap();
    let uint = |name: &str| map.get::<u32>(name).unwrap();
    let values: gst::glib::Bytes = map.get("values").unwrap();
    let (columns, rows) = (uint("columns"), uint("rows"));
    assert_eq!(values.len(), (columns * rows) as usize);
    let area = ["area-x", "area-y", "area-w", "area-h"].map(uint);
    assert_eq!(area, [0, 0, 64, 48]);
    let (at, highest) = values
        .iter()
        .enumerate()
        .max_by_key(|(_, byte)| **byte)
        .unwrap();
    let probability = 1.0 / (1.0 + (-(f64::from(*highest) - 128.0) / 16.0).exp());
    let regions: gst::Array = record.get("regions").unwrap();
    let strongest: gst::Structure = regions[0].get().unwrap();
    // The patch's own value is as high as what is interpolated from it, but for half a byte.
    let score: f64 = strongest.get("score").unwrap();
    assert!(
        probability >= score - 0.01 && probability < score + 0.1,
        "{probability} {score}"
    );
    let x = (at as u32 % columns) as f64 / f64::from(columns - 1) * 64.0;
    let (left, width): (u32, u32) = (strongest.get("x").unwrap(), strongest.get("w").unwrap());
    let span = f64::from(left) - 2.0..=f64::from(left + width) + 2.0;
    assert!(span.contains(&x), "patch {at} is not in {strongest}");
}
