//! Frames that are pieces of a strip, and frames that are cut into tiles.

use std::sync::LazyLock;

use gst::prelude::*;

use crate::{Bench, bytes, caps, record};

const WIDTH: usize = 256;

/// Middle line, column and radius of the disc on the strip.
const DISC: (usize, usize, usize) = (520, 130, 24);

/// A black strip with a white disc.
fn strip(lines: usize) -> Vec<u8> {
    let (middle, column, radius) = DISC;
    let white = |y: usize, x: usize| {
        y.abs_diff(middle).pow(2) + x.abs_diff(column).pow(2) <= radius * radius
    };
    (0..lines)
        .flat_map(|y| (0..WIDTH).map(move |x| if white(y, x) { 235 } else { 0 }))
        .collect()
}

/// Frames of `height` lines, 40 ms each.
fn frames(lines: &[u8], height: usize) -> Vec<gst::Buffer> {
    let frames = lines.chunks(WIDTH * height).zip(0..);
    frames
        .map(|(rows, n)| {
            let mut buffer = gst::Buffer::from_slice(rows.to_vec());
            let times = buffer.get_mut().unwrap();
            times.set_pts(gst::ClockTime::from_mseconds(40 * n));
            times.set_duration(gst::ClockTime::from_mseconds(40));
            buffer
        })
        .collect()
}

const SCAN: [(&str, &str); 4] = [
    ("tiling", "scan"),
    ("tile-size", "256"),
    ("overlay", "0"),
    ("messages", "all"),
];

fn bench(more: &[(&str, &str)], height: usize) -> Bench {
    let properties = [&SCAN[..], more].concat();
    Bench::new(&properties, &caps("GRAY8", WIDTH as u32, height as u32))
}

/// Everything that leaves when the stream has ended.
fn run(bench: &mut Bench, frames: Vec<gst::Buffer>) -> Vec<gst::Buffer> {
    for frame in frames {
        bench.harness.push(frame).unwrap();
    }
    bench.harness.push_event(gst::event::Eos::new());
    std::iter::from_fn(|| bench.harness.try_pull()).collect()
}

#[test]
fn every_frame_leaves_once_in_order_with_its_pixels_time_and_record() {
    let lines = strip(1000);
    for height in [1000, 250, 100, 40] {
        let mut bench = bench(&[], height);
        let sent = frames(&lines, height);
        let left = run(&mut bench, sent.clone());
        assert_eq!(left.len(), sent.len(), "{height}");
        for (n, (left, sent)) in left.iter().zip(&sent).enumerate() {
            assert_eq!(bytes(left), bytes(sent));
            assert_eq!((left.pts(), left.duration()), (sent.pts(), sent.duration()));
            let record = record(left);
            assert_eq!(record.get::<u64>("frame").unwrap(), n as u64);
            assert_eq!(record.get::<u64>("age").unwrap(), 0);
        }
    }
}

/// First and last line of what an event is about.
fn lines(event: &gst::Structure) -> (u64, u64) {
    let region: gst::Structure = event.get("region").unwrap();
    (
        region.get("line").unwrap(),
        region.get("last-line").unwrap(),
    )
}

/// First and last line of each event that has ended.
fn ended(bench: &Bench) -> Vec<(u64, u64)> {
    let told = bench.told().into_iter();
    told.filter(|(kind, _)| kind == "event-end")
        .map(|(_, event)| lines(&event))
        .collect()
}

/// What is found in the strip in one piece.
static IN_ONE_PIECE: LazyLock<Vec<(u64, u64)>> = LazyLock::new(|| {
    let mut bench = bench(&[], 1000);
    run(&mut bench, frames(&strip(1000), 1000));
    ended(&bench)
});

#[test]
fn a_flaw_across_cuts_is_one_event_where_it_lies() {
    let [(first, last)] = IN_ONE_PIECE[..] else {
        panic!("wanted one event, found {:?}", *IN_ONE_PIECE);
    };
    assert!(
        first > 440 && first < 510 && last > 530 && last < 600,
        "{first} to {last}"
    );
    // Cut through the disc's middle, into slices thinner than it, and beside it.
    for height in [500, 40, 10, 250] {
        let mut bench = bench(&[], height);
        run(
            &mut bench,
            frames(&strip(1000)[..1000 / height * height * WIDTH], height),
        );
        let found = ended(&bench);
        assert_eq!(found, [(first, last)], "frames of {height} lines");
    }
}

#[test]
fn a_frame_shows_its_own_part_of_a_flaw_and_the_one_beside_it_none() {
    let threshold = 0.5;
    let mut bench = bench(&[], 100);
    let left = run(&mut bench, frames(&strip(1000), 100));
    let [(first, last)] = IN_ONE_PIECE[..] else {
        panic!("wanted one event, found {:?}", *IN_ONE_PIECE);
    };
    for (n, frame) in left.iter().enumerate() {
        let lines = 100 * n as u64..100 * (n as u64 + 1);
        let shows = first < lines.end && last >= lines.start;
        let record = record(frame);
        assert_eq!(record.get::<bool>("anomalous").unwrap(), shows, "frame {n}");
        let score = record.get::<f64>("score").unwrap();
        assert_eq!(score >= threshold, shows, "frame {n} scores {score}");
        let regions = record.get::<gst::Array>("regions").unwrap();
        assert_eq!(regions.len(), usize::from(shows), "frame {n}");
        for region in regions.iter() {
            let region: gst::Structure = region.get().unwrap();
            assert_eq!(region.get::<u64>("event-id").unwrap(), 1);
            assert_eq!(region.get::<u64>("line").unwrap(), first.max(lines.start));
            assert_eq!(
                region.get::<u64>("last-line").unwrap(),
                last.min(lines.end - 1)
            );
        }
    }
}

#[test]
fn latency_has_what_a_frame_waits_for() {
    let mut bench = bench(&[("processing-latency", "5")], 64);
    for frame in frames(&strip(256), 64) {
        bench.harness.push(frame).unwrap();
    }
    let mut query = gst::query::Latency::new();
    assert!(bench.element.static_pad("src").unwrap().query(&mut query));
    let (_, min, _) = query.result();
    // A tile of 256 lines and a node are more than four frames of 40 ms, and five at most; 5 ms are what scoring is said to take.
    assert_eq!(min, gst::ClockTime::from_mseconds(205));
}

#[test]
fn events_keep_their_place_between_frames_that_wait() {
    let mut bench = bench(&[], 64);
    let mut sent = frames(&strip(640), 64).into_iter();
    for _ in 0..3 {
        bench.harness.push(sent.next().unwrap()).unwrap();
    }
    let mark = gst::event::CustomDownstream::new(gst::Structure::new_empty("mark"));
    bench.harness.push_event(mark);
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = order.clone();
    let pad = bench.element.static_pad("src").unwrap();
    let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(types, move |_, info| {
        let name = match &info.data {
            Some(gst::PadProbeData::Buffer(_)) => "frame".to_owned(),
            Some(gst::PadProbeData::Event(event)) => event
                .structure()
                .map_or("event".into(), |s| s.name().to_string()),
            _ => return gst::PadProbeReturn::Ok,
        };
        seen.lock().unwrap().push(name);
        gst::PadProbeReturn::Ok
    });
    for frame in sent {
        bench.harness.push(frame).unwrap();
    }
    let order = order.lock().unwrap();
    assert_eq!(order[..4], ["frame", "frame", "frame", "mark"], "{order:?}");
}

#[test]
fn a_flush_forgets_what_waits_and_new_caps_do_not() {
    let mut bench = bench(&[], 64);
    for frame in frames(&strip(192), 64) {
        bench.harness.push(frame).unwrap();
    }
    assert!(bench.harness.try_pull().is_none());
    bench.harness.push_event(gst::event::FlushStart::new());
    bench.harness.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    bench.harness.push_event(gst::event::Segment::new(&segment));
    for frame in frames(&strip(128), 64) {
        bench.harness.push(frame).unwrap();
    }
    bench
        .harness
        .set_src_caps(caps("GRAY8", 128, 128).parse().unwrap());
    let left: Vec<_> = std::iter::from_fn(|| bench.harness.try_pull()).collect();
    assert_eq!(
        left.len(),
        2,
        "those from before the flush were to be forgotten, those before the caps to leave"
    );
}

#[test]
fn frames_that_are_not_shown_are_no_piece_of_the_strip() {
    // The disc lies in the second and the last of eight frames.
    let white = strip(1000)[WIDTH * 470..WIDTH * 570].to_vec();
    let lines = |n: usize| match n {
        1 | 7 => white.clone(),
        _ => vec![0; WIDTH * 100],
    };
    let lines: Vec<u8> = (0..8).flat_map(lines).collect();
    for (mode, shown, unseen) in [
        ("sync", 0..320, 0),
        ("sync", 80..280, 3),
        ("latest", 80..280, 3),
    ] {
        let mut bench = bench(&[("mode", mode), ("messages", "events")], 100);
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_mseconds(shown.start));
        segment.set_stop(gst::ClockTime::from_mseconds(shown.end));
        bench.harness.push_event(gst::event::Segment::new(&segment));
        let left = run(&mut bench, frames(&lines, 100));
        let times: Vec<_> = left
            .iter()
            .map(|frame| frame.pts().unwrap().mseconds())
            .collect();
        assert_eq!(times, (0..8).map(|n| 40 * n).collect::<Vec<_>>(), "{mode}");
        assert_eq!(bench.stat("skipped-outside"), unseen, "{mode}");
        let has_event = bench.told_types().iter().any(|kind| kind == "event-begin");
        assert_eq!(has_event, unseen == 0, "{mode}, {shown:?}");
    }
}

#[test]
fn a_meta_says_where_on_the_track_a_flaw_is_and_a_jump_breaks_the_strip() {
    let reference = gst::Caps::new_empty_simple("timestamp/x-line-counter");
    let mut bench = bench(
        &[
            ("encoder", "meta"),
            ("line-pitch-mm", "0.5"),
            ("pixel-pitch-mm", "0.25"),
            ("start-mm", "1000"),
        ],
        100,
    );
    let mut counted = frames(&strip(1000), 100);
    for (frame, n) in counted.iter_mut().zip(0_u64..) {
        // 7000 lines are lost before the last frame.
        let counter = 2000 + 100 * n + if n == 9 { 7000 } else { 0 };
        let frame = frame.get_mut().unwrap();
        gst::ReferenceTimestampMeta::add(
            frame,
            &reference,
            gst::ClockTime::from_nseconds(counter),
            gst::ClockTime::NONE,
        );
    }
    run(&mut bench, counted);
    let told = bench.told();
    let of = |wanted: &str| {
        told.iter()
            .find(|(kind, _)| kind == wanted)
            .map(|(_, s)| s.clone())
    };
    let region: gst::Structure = of("event-end").unwrap().get("region").unwrap();
    let line: u64 = region.get("line").unwrap();
    let place: f64 = region.get("position-mm").unwrap();
    assert!(
        (place - (1000.0 + (2000 + line) as f64 * 0.5)).abs() < 1e-6,
        "{region:?}"
    );
    let width = f64::from(region.get::<u32>("w").unwrap()) * 0.25;
    assert_eq!(region.get::<f64>("width-mm").unwrap(), width);
    let seam = of("strip-break").unwrap();
    assert_eq!(seam.get::<String>("reason").unwrap(), "lines-lost");
    assert_eq!(
        (
            seam.get::<i64>("from").unwrap(),
            seam.get::<i64>("to").unwrap()
        ),
        (2899, 9900)
    );
}

#[test]
fn a_counter_in_the_pixels_that_stands_adds_no_lines() {
    let mut lines = strip(300);
    for (y, row) in lines.chunks_mut(WIDTH).enumerate() {
        let counter = y.min(250) as u32;
        row[..4].copy_from_slice(&counter.to_le_bytes());
    }
    let mut bench = bench(&[("encoder", "pixels")], 100);
    let left = run(&mut bench, frames(&lines, 100));
    assert_eq!(left.len(), 3);
    let stats: gst::Structure = bench.element.property("stats");
    assert_eq!(stats.get::<u64>("strip-lines").unwrap(), 251);
}

#[test]
fn a_missing_counter_is_an_error_that_says_what_to_do() {
    let mut bench = bench(&[("encoder", "meta"), ("on-error", "pass")], 100);
    let left = run(&mut bench, frames(&strip(200), 100));
    assert_eq!(left.len(), 2, "the video goes on");
    let warning = bench
        .bus
        .pop_filtered(&[gst::MessageType::Warning])
        .unwrap();
    let gst::MessageView::Warning(warning) = warning.view() else {
        unreachable!()
    };
    let text = warning.error().to_string();
    assert!(text.contains("timestamp/x-line-counter"), "{text}");
}

#[test]
fn what_has_begun_ends_also_where_a_frame_cannot_be_looked_at() {
    let reference = gst::Caps::new_empty_simple("timestamp/x-line-counter");
    // The frame that lacks its counter comes while the disc is in view, or long after.
    for without in [5, 6, 9] {
        let mut bench = bench(&[("encoder", "meta"), ("on-error", "pass")], 100);
        let mut counted = frames(&strip(1000), 100);
        for (frame, n) in counted.iter_mut().zip(0_u64..) {
            if n != without {
                let (frame, counter) = (frame.get_mut().unwrap(), 100 * n);
                let counter = gst::ClockTime::from_nseconds(counter);
                gst::ReferenceTimestampMeta::add(frame, &reference, counter, gst::ClockTime::NONE);
            }
        }
        assert_eq!(run(&mut bench, counted).len(), 10);
        let told = bench.told_types();
        let count = |wanted: &str| told.iter().filter(|kind| *kind == wanted).count();
        assert_eq!(count("event-begin"), count("event-end"), "{told:?}");
    }
}

#[test]
fn a_region_of_interest_leaves_out_columns_of_a_strip_and_no_rows() {
    let (middle, _, _) = DISC;
    let seen = |x: usize| {
        let roi = format!("{x},20,128,30");
        let mut bench = bench(&[("roi", roi.as_str()), ("tile-size", "128")], 100);
        run(&mut bench, frames(&strip(1000), 100));
        ended(&bench)
    };
    let found = seen(66);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].0 < middle as u64 && found[0].1 > middle as u64,
        "{found:?}"
    );
}

#[test]
fn grey_of_twelve_bits_is_seen_as_grey_of_eight() {
    let score = |format: &str, bytes: Vec<u8>, depth: &str| {
        let caps = caps(format, WIDTH as u32, 256);
        let mut bench = Bench::new(&[("gray-depth", depth), ("tiling", "none")], &caps);
        let found = record(&bench.pass(gst::Buffer::from_slice(bytes)));
        found.get::<f64>("score").unwrap()
    };
    let eight: Vec<u8> = strip(700)[400 * WIDTH..656 * WIDTH].to_vec();
    let deep = |shift: u32| {
        eight
            .iter()
            .flat_map(|luma| (u16::from(*luma) << shift).to_le_bytes())
            .collect()
    };
    let wanted = score("GRAY8", eight.clone(), "16");
    assert_eq!(score("GRAY16_LE", deep(4), "12"), wanted);
    assert_eq!(score("GRAY16_LE", deep(8), "16"), wanted);
}

#[test]
fn a_long_frame_is_cut_into_tiles_and_small_things_in_it_are_found() {
    let caps = caps("GRAY8", WIDTH as u32, 3000);
    let lines = strip(3000);
    let largest = |tiling: &str| {
        let mut bench = Bench::new(&[("tiling", tiling), ("overlay", "0")], &caps);
        let found = record(&bench.pass(gst::Buffer::from_slice(lines.clone())));
        found.get::<f64>("map-max").unwrap()
    };
    let (whole, cut, auto) = (largest("none"), largest("grid"), largest("auto"));
    assert!(cut > whole + 0.2, "in tiles {cut}, squeezed {whole}");
    assert_eq!(auto, cut);
}

/// Of every frame that was told of on the bus, its number.
fn told_frames(told: &[(String, gst::Structure)]) -> Vec<u64> {
    let frames = told.iter().filter(|(kind, _)| kind == "frame");
    frames
        .map(|(_, record)| record.get("frame").unwrap())
        .collect()
}

#[test]
fn in_latest_frames_leave_at_once_and_what_they_show_is_told_when_it_is_known() {
    let mut bench = bench(&[("mode", "latest")], 250);
    let sent = frames(&strip(1000), 250);
    for frame in &sent {
        let left = bench.pass(frame.clone());
        assert_eq!(bytes(&left), bytes(frame));
        assert_eq!(left.pts(), frame.pts());
    }
    let mut query = gst::query::Latency::new();
    assert!(bench.element.static_pad("src").unwrap().query(&mut query));
    assert_eq!(query.result().1, gst::ClockTime::ZERO);
    bench.harness.push_event(gst::event::Eos::new());
    assert!(bench.harness.try_pull().is_none(), "nothing leaves twice");
    let told = bench.told();
    assert_eq!(told_frames(&told), [0, 1, 2, 3]);
    let ends = told.iter().filter(|(kind, _)| kind == "event-end");
    let ends: Vec<(u64, u64)> = ends.map(|(_, event)| lines(event)).collect();
    assert_eq!(ends, *IN_ONE_PIECE);
}

#[test]
fn in_latest_what_is_too_much_goes_by_unseen_and_breaks_the_strip() {
    let mut bench = bench(&[("mode", "latest")], 10);
    let frame = || frames(&strip(10), 10).remove(0);
    let skipped = |bench: &Bench| -> u64 {
        let stats: gst::Structure = bench.element.property("stats");
        stats.get("skipped-busy").unwrap()
    };
    let mut sent: u64 = 0;
    // More than it can take at once, and then more slowly until it takes one again.
    loop {
        let before = skipped(&bench);
        bench.pass(frame());
        sent += 1;
        if before > 0 && skipped(&bench) == before {
            break;
        }
        assert!(sent < 100_000);
        if before > 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    bench.harness.push_event(gst::event::Eos::new());
    let stats: gst::Structure = bench.element.property("stats");
    let unseen = skipped(&bench);
    assert_eq!(
        stats.get::<u64>("strip-lines").unwrap(),
        10 * (sent - unseen)
    );
    let told = bench.told();
    assert_eq!(told_frames(&told).len() as u64, sent - unseen);
    let breaks = told.iter().filter(|(kind, _)| kind == "strip-break");
    let lost: u64 = breaks
        .map(|(_, seam)| seam.get::<u64>("lost").unwrap())
        .sum();
    assert_eq!(lost, 10 * unseen);
}

#[test]
fn in_latest_frames_that_overlap_carry_what_is_known_of_their_lines_where_they_show_them() {
    let properties = [
        ("mode", "latest"),
        ("line-advance", "16"),
        ("line-pitch-mm", "1"),
        ("encoder", "pitch"),
    ];
    let mut bench = bench(&properties, 640);
    // The disc comes again and again.
    let again = strip(640).repeat(2);
    let found = (0..500).find_map(|n| {
        let top = 16 * n % 640;
        let mut frame = gst::Buffer::from_slice(again[top * WIDTH..][..640 * WIDTH].to_vec());
        let time = gst::ClockTime::from_mseconds(n as u64);
        frame.get_mut().unwrap().set_pts(time);
        let left = bench.pass(frame);
        // Slower and slower, until the machine keeps up.
        std::thread::sleep(std::time::Duration::from_millis(20 + n as u64));
        let meta = gst::meta::CustomMeta::from_buffer(&left, "AcdClipMeta").ok()?;
        let regions = meta.structure().get::<gst::Array>("regions").unwrap();
        if regions.is_empty() {
            assert!(!meta.structure().get::<bool>("anomalous").unwrap());
        }
        let region: gst::Structure = regions.first()?.get().unwrap();
        assert!(meta.structure().get::<u64>("age").unwrap() > 0);
        assert!(meta.structure().get::<bool>("anomalous").unwrap());
        Some((16 * n as u64, region))
    });
    let (top, region) = found.expect("a frame that carries the disc");
    let (y, h): (u32, u32) = (region.get("y").unwrap(), region.get("h").unwrap());
    let [first, length] = ["position-mm", "length-mm"].map(|name| {
        let value: f64 = region.get(name).unwrap();
        value as u64
    });
    assert_eq!(u64::from(y), first.saturating_sub(top), "{region:?}");
    assert_eq!(u64::from(y + h) + top, first + length, "{region:?}");
}

#[test]
fn in_latest_a_flush_forgets_what_waits_and_ends_what_has_begun() {
    let mut bench = bench(&[("mode", "latest")], 100);
    for frame in frames(&strip(1000), 100) {
        bench.pass(frame);
    }
    bench.harness.push_event(gst::event::FlushStart::new());
    bench.harness.push_event(gst::event::FlushStop::new(true));
    let told = bench.told_types();
    let count = |wanted: &str| told.iter().filter(|kind| *kind == wanted).count();
    assert_eq!(count("event-begin"), count("event-end"), "{told:?}");
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    bench.harness.push_event(gst::event::Segment::new(&segment));
    for frame in frames(&strip(200), 100) {
        bench.pass(frame);
    }
    bench.harness.push_event(gst::event::Eos::new());
    assert_eq!(told_frames(&bench.told()), [10, 11]);
}
