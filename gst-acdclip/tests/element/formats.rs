//! Every format, size and layout that the caps offer.

use std::sync::{Arc, Mutex};

use gst_video::prelude::*;

use super::*;

const FORMATS: [&str; 13] = [
    "RGB", "BGR", "RGBx", "BGRx", "xRGB", "xBGR", "RGBA", "BGRA", "ARGB", "ABGR", "GRAY8", "NV12",
    "I420",
];

/// The picture as packed RGB, by GStreamer's own converter.
fn to_rgb(buffer: &gst::Buffer, caps: &str) -> Vec<u8> {
    let mut convert = Harness::new_parse("videoconvert ! capsfilter caps=video/x-raw,format=RGB");
    convert.set_src_caps(caps.parse().unwrap());
    convert.play();
    bytes(&convert.push_and_pull(buffer.clone()).unwrap())
}

#[test]
fn every_format_keeps_its_bytes_and_memory_where_nothing_is_drawn() {
    for format in FORMATS {
        let caps = caps(format, 64, 48);
        let mut bench = Bench::new(&[("overlay", "0")], &caps);
        let input = picture("ball", &caps, 0);
        let (before, at) = (bytes(&input), address(&input));
        let output = bench.pass(input);
        assert_eq!(bytes(&output), before, "{format}");
        assert_eq!(address(&output), at, "{format}");
        assert!(score(&output) > 0.5, "{format}");
    }
}

#[test]
fn every_colour_format_shows_heat_in_red_and_grey_shows_it_at_all() {
    for format in FORMATS {
        let caps = caps(format, 64, 48);
        let mut bench = Bench::new(&[("overlay", "heatmap")], &caps);
        let input = picture("ball", &caps, 0);
        let before = to_rgb(&input, &caps);
        let output = bench.pass(input);
        let after = to_rgb(&output, &caps);
        let redness = |rgb: &[u8]| i32::from(rgb[0]) - i32::from(rgb[2]);
        let pixels = before.chunks_exact(3).zip(after.chunks_exact(3));
        let changed = pixels.filter(|(before, after)| {
            if format == "GRAY8" {
                before != after
            } else {
                redness(after) > redness(before) + 60
            }
        });
        assert!(changed.count() > 10, "{format}");
    }
}

#[test]
fn the_smallest_and_oddest_sizes_pass() {
    for (width, height) in [(1, 1), (3, 5), (17, 33)] {
        for format in ["RGB", "GRAY8", "NV12", "I420"] {
            let caps = caps(format, width, height);
            let mut bench = Bench::new(&[("overlay", "heatmap+contour+box+score")], &caps);
            let input = picture("ball", &caps, 0);
            let size = input.size();
            let output = bench.pass(input);
            assert_eq!(output.size(), size, "{format} {width}x{height}");
            assert_eq!(record(&output).get::<u32>("width").unwrap(), width);
        }
    }
}

/// The same picture with `pad` bytes of 0xAB after each row.
fn padded(tight: &gst::Buffer, info: &gst_video::VideoInfo, pad: usize) -> gst::Buffer {
    let source = gst_video::VideoFrameRef::from_buffer_ref_readable(tight, info).unwrap();
    let mut data = Vec::new();
    let (mut offsets, mut strides) = (Vec::new(), Vec::new());
    for plane in 0..source.n_planes() {
        let rows = if plane == 0 {
            info.height()
        } else {
            info.height().div_ceil(2)
        } as usize;
        let stride = source.plane_stride()[plane as usize] as usize;
        offsets.push(data.len());
        strides.push((stride + pad) as i32);
        for row in source.plane_data(plane).unwrap().chunks(stride).take(rows) {
            data.extend_from_slice(row);
            data.resize(data.len() + pad, 0xAB);
        }
    }
    let mut buffer = gst::Buffer::from_mut_slice(data);
    let (flags, format) = (gst_video::VideoFrameFlags::empty(), info.format());
    let (width, height) = (info.width(), info.height());
    let writable = buffer.get_mut().unwrap();
    gst_video::VideoMeta::add_full(writable, flags, format, width, height, &offsets, &strides)
        .unwrap();
    buffer
}

#[test]
fn padding_changes_no_score_and_is_not_drawn_on() {
    for format in ["RGB", "GRAY8", "NV12", "I420"] {
        let caps = caps(format, 64, 48);
        let info = gst_video::VideoInfo::from_caps(&caps.parse::<gst::Caps>().unwrap()).unwrap();
        let mut bench = Bench::new(&[("overlay", "heatmap+contour+box+score")], &caps);
        let tight = picture("ball", &caps, 0);
        let wide = padded(&tight, &info, 20);
        let paddings = bytes(&wide).iter().filter(|b| **b == 0xAB).count();
        let (tight, wide) = (bench.pass(tight), bench.pass(wide));
        assert_eq!(score(&tight), score(&wide), "{format}");
        assert!(
            bytes(&wide).iter().filter(|b| **b == 0xAB).count() >= paddings,
            "{format}"
        );
        let drawn = padded(&tight, &info, 20);
        assert_eq!(
            bytes(&drawn),
            bytes(&wide),
            "{format} is drawn the same way"
        );
    }
}

#[test]
fn interlaced_frames_are_scored_on_their_top_field() {
    let (width, height) = (64, 48);
    let caps = format!(
        "{},interlace-mode=interleaved",
        caps("GRAY8", width, height)
    );
    let mut bench = Bench::new(&[("overlay", "0")], &caps);
    let plain = picture("ball", &caps, 0);
    let mut combed = plain.copy_deep().unwrap();
    {
        let mut map = combed.get_mut().unwrap().map_writable().unwrap();
        for row in map.chunks_exact_mut(width as usize).skip(1).step_by(2) {
            row.iter_mut()
                .enumerate()
                .for_each(|(x, b)| *b = (x * 37 % 256) as u8);
        }
    }
    let (plain, combed) = (bench.pass(plain), bench.pass(combed));
    assert_eq!(score(&plain), score(&combed));
    let record = record(&combed);
    assert_eq!(
        record.get::<u32>("height").unwrap(),
        height,
        "regions are in frame pixels"
    );
}

/// What the element logs as warnings from now on.
fn warnings() -> Arc<Mutex<Vec<String>>> {
    init();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    gst::log::add_log_function(move |category, level, _, _, _, _, message| {
        if category.name() == "acdclip" && level == gst::DebugLevel::Warning {
            let text = message.get().map(|text| text.to_string());
            keep.lock().unwrap().extend(text);
        }
    });
    gst::log::set_threshold_for_name("acdclip", gst::DebugLevel::Warning);
    kept
}

#[test]
fn a_field_a_buffer_is_refused() {
    let warnings = warnings();
    let element = element(&[]);
    let sink = element.static_pad("sink").unwrap();
    let fields: gst::Caps = format!("{},interlace-mode=fields", caps("I420", 64, 48))
        .parse()
        .unwrap();
    assert!(!sink.query_accept_caps(&fields));
    let alternate = "video/x-raw(format:Interlaced),format=I420,width=64,height=48,framerate=25/1,interlace-mode=alternate,field-order=top-field-first";
    assert!(!sink.query_accept_caps(&alternate.parse::<gst::Caps>().unwrap()));
    let said = warnings.lock().unwrap().clone();
    for mode in ["Fields", "Alternate"] {
        let named = |line: &String| line.contains(mode) && line.contains("deinterlace");
        assert!(said.iter().any(named), "{said:?}");
    }
    let mixed: gst::Caps = format!("{},interlace-mode=mixed", caps("I420", 64, 48))
        .parse()
        .unwrap();
    assert!(sink.query_accept_caps(&mixed));
}

#[test]
fn the_score_does_not_depend_on_how_colours_are_coded() {
    // Range:matrix:transfer:primaries. The last three are FCC, SMPTE 240M, and a matrix that YUV cannot have.
    let codings = [
        "bt601", "bt709", "1:3:5:1", "2:4:16:3", "2:2:5:1", "2:5:5:1", "2:1:5:1",
    ];
    let scores: Vec<f64> = codings
        .iter()
        .map(|colorimetry| {
            let caps = format!("{},colorimetry=(string){colorimetry}", caps("I420", 96, 96));
            let mut bench = Bench::new(&[("overlay", "0")], &caps);
            score(&bench.pass(picture("smpte100", &caps, 0)))
        })
        .collect();
    for score in &scores[1..] {
        assert!((score - scores[0]).abs() < 0.02, "{scores:?}");
    }
}

#[test]
fn caps_may_change_in_mid_stream() {
    let first = caps("RGB", 64, 48);
    let mut bench = Bench::new(&[("interval", "100")], &first);
    assert_eq!(
        record(&bench.pass(picture("ball", &first, 0)))
            .get::<u32>("width")
            .unwrap(),
        64
    );
    let second = caps("I420", 33, 35);
    bench.harness.set_src_caps(second.parse().unwrap());
    let record = record(&bench.pass(picture("ball", &second, 1)));
    assert_eq!(record.get::<u32>("width").unwrap(), 33);
    assert_eq!(
        record.get::<u64>("age").unwrap(),
        0,
        "a result of other caps is not carried over"
    );
}
