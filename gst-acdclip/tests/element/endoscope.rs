//! An endoscope's picture on black: found, followed, judged before it is scored.

use super::{tiny::Tiny, *};

/// Any number from 0 to 1 for a place, always the same.
fn noise(x: i64, y: i64) -> f64 {
    let mut n = (x as u64) << 32 ^ (y as u64) & 0xffff_ffff;
    for _ in 0..2 {
        n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (n >> 40) as f64 / (1_u64 << 24) as f64
}

/// A round picture: its size, and what it shows.
#[derive(Clone, Copy)]
struct Round {
    width: usize,
    height: usize,
    /// x, y and radius, pixels.
    circle: [f64; 3],
    /// By how much what is seen has moved, pixels.
    moved: i64,
}

impl Round {
    const SMALL: Self = Self {
        width: 320,
        height: 240,
        circle: [150.0, 120.0, 90.0],
        moved: 0,
    };

    fn caps(&self) -> String {
        caps("RGB", self.width as u32, self.height as u32)
    }

    /// Tissue in the circle, each sample changed by `change`, and what `beside` paints over all.
    fn frame(
        &self,
        n: u64,
        change: impl Fn(f64) -> f64,
        beside: impl Fn(f64, f64) -> Option<[u8; 3]>,
    ) -> gst::Buffer {
        let [x, y, radius] = self.circle;
        let cell = (self.height as f64 / 60.0).max(1.0);
        let pixel = |i: usize| {
            let (column, row) = ((i % self.width) as f64 + 0.5, (i / self.width) as f64 + 0.5);
            if let Some(colour) = beside(column, row) {
                return colour;
            }
            if (column - x).hypot(row - y) > radius {
                return [4; 3];
            }
            let at = |d: f64| (d / cell).floor() as i64;
            let shade = 0.55 + 0.4 * noise(at(column - self.moved as f64), at(row));
            [215.0, 110.0, 85.0].map(|full| change(full * shade).clamp(0.0, 255.0) as u8)
        };
        // GStreamer's rows of RGB end at multiples of four bytes.
        let stride = (3 * self.width).next_multiple_of(4);
        let mut bytes = vec![0; stride * self.height];
        for (y, row) in bytes.chunks_exact_mut(stride).enumerate() {
            for x in 0..self.width {
                row[3 * x..3 * x + 3].copy_from_slice(&pixel(y * self.width + x));
            }
        }
        timed(bytes, n)
    }

    fn plain(&self, n: u64) -> gst::Buffer {
        self.frame(n, |c| c, |_, _| None)
    }

    /// x, y, width and height of the square around the circle, within the frame.
    fn bounds(&self) -> [f64; 4] {
        let [x, y, radius] = self.circle;
        let (left, top) = ((x - radius).max(0.0), (y - radius).max(0.0));
        let right = (x + radius).min(self.width as f64);
        let bottom = (y + radius).min(self.height as f64);
        [left, top, right - left, bottom - top]
    }
}

fn timed(bytes: Vec<u8>, n: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(bytes);
    let times = buffer.get_mut().unwrap();
    times.set_pts(gst::ClockTime::from_mseconds(40 * n));
    times.set_duration(gst::ClockTime::from_mseconds(40));
    buffer
}

/// One that scores with a tiny model, draws nothing and tells all.
fn watching(tiny: &Tiny, round: &Round, more: &[(&str, &str)]) -> Bench {
    let model = tiny.path();
    let properties = [
        ("model", model.as_str()),
        ("class-name", "rail"),
        ("overlay", "0"),
        ("messages", "events"),
    ];
    Bench::new(&[&properties[..], more].concat(), &round.caps())
}

/// Where the map lies in the frame: x, y, width and height.
fn map_area(buffer: &gst::Buffer) -> Option<[f64; 4]> {
    let map: gst::Structure = record(buffer).get("map").ok()?;
    Some(
        ["area-x", "area-y", "area-w", "area-h"]
            .map(|side| f64::from(map.get::<u32>(side).unwrap())),
    )
}

fn is_near(found: [f64; 4], round: &Round) -> bool {
    let off = found.iter().zip(round.bounds()).map(|(a, b)| (a - b).abs());
    off.fold(0.0, f64::max) <= 0.016 * round.width as f64
}

fn quality(buffer: &gst::Buffer) -> Option<String> {
    record(buffer).get("quality").ok()
}

#[test]
fn the_field_of_view_is_what_is_scored_at_every_size() {
    let tiny = Tiny::new();
    for (width, height) in [(320, 240), (640, 480), (3840, 2160)] {
        let size = height as f64;
        for circle in [
            [0.6 * size, 0.5 * size, 0.4 * size],
            [0.55 * size, 0.45 * size, 0.52 * size],
        ] {
            if height == 2160 && circle[2] > 0.5 * size {
                continue;
            }
            let round = Round {
                width,
                height,
                circle,
                moved: 0,
            };
            let mut bench = watching(
                &tiny,
                &round,
                &[("auto-mask", "endoscope"), ("tiling", "none")],
            );
            let output = bench.pass(round.plain(0));
            let area = map_area(&output).unwrap();
            assert!(is_near(area, &round), "{width}x{height}: {area:?}");
            assert_eq!(quality(&output).as_deref(), Some("good"));
        }
    }
}

#[test]
fn text_and_a_second_picture_change_nothing() {
    let tiny = Tiny::new();
    let round = Round {
        circle: [200.0, 120.0, 90.0],
        ..Round::SMALL
    };
    let mut bench = watching(&tiny, &round, &[("auto-mask", "endoscope")]);
    let mut areas = Vec::new();
    for n in 0..12 {
        let round = Round {
            moved: 3 * n as i64,
            ..round
        };
        let has_text = n % 4 < 2;
        let output = bench.pass(round.frame(
            n,
            |c| c,
            |x, y| {
                let text = x < 90.0
                    && y < 60.0
                    && (y as u32 / 8).is_multiple_of(2)
                    && (x as u32 / 3).is_multiple_of(2);
                let picture = x < 70.0 && y > 180.0;
                ((has_text && text) || picture).then_some([230; 3])
            },
        ));
        areas.push(map_area(&output).unwrap());
    }
    assert!(is_near(areas[0], &round), "{areas:?}");
    assert!(areas.iter().all(|area| area == &areas[0]), "{areas:?}");
}

#[test]
fn a_field_that_changes_is_followed_while_events_go_on() {
    let tiny = Tiny::new();
    let from = Round::SMALL;
    let properties = [
        ("auto-mask", "endoscope"),
        ("threshold", "0"),
        ("smoothing", "100"),
    ];
    let mut bench = watching(&tiny, &from, &properties);
    let to = Round {
        circle: [170.0, 110.0, 64.0],
        ..from
    };
    let mut last = None;
    for n in 0..40 {
        let round = if n < 5 { from } else { to };
        last = Some(
            bench.pass(
                Round {
                    moved: n as i64,
                    ..round
                }
                .plain(n),
            ),
        );
    }
    let last = last.unwrap();
    assert!(is_near(map_area(&last).unwrap(), &to));
    assert_eq!(record(&last).get::<u64>("event-id").unwrap(), 1);
    assert!(!bench.told_types().contains(&"event-end".to_owned()));
}

#[test]
fn nothing_beside_the_field_is_scored_or_drawn_on() {
    // The built-in model, which finds videotestsrc's ball abnormal.
    let round = Round {
        circle: [220.0, 120.0, 80.0],
        ..Round::SMALL
    };
    let ball = |x: f64, y: f64| (x - 40.0).hypot(y - 60.0) < 25.0;
    let frame = || round.frame(0, |c| c, |x, y| ball(x, y).then_some([255; 3]));
    let at = |more: &[(&str, &str)]| {
        let properties = [&[("map-threshold", "0.02"), ("overlay", "heatmap")], more].concat();
        let mut bench = Bench::new(&properties, &round.caps());
        let output = bench.pass(frame());
        let changed: Vec<bool> = bytes(&output)
            .iter()
            .zip(bytes(&frame()))
            .map(|(a, b)| *a != b)
            .collect();
        let outside = |i: usize| {
            let (x, y) = ((i / 3 % 320) as f64, (i / 3 / 320) as f64);
            // The map is drawn patch by patch, of which half a one may lie beyond the edge.
            (x - 220.0).hypot(y - 120.0) > 80.0 + 160.0 / 18.0
        };
        let drawn = changed.iter().enumerate().filter(|(_, changed)| **changed);
        let beside = drawn.clone().filter(|(i, _)| outside(*i)).count();
        (beside, drawn.count())
    };
    let (beside, drawn) = at(&[]);
    assert!(beside > 0 && drawn > beside, "{beside} of {drawn}");
    let (beside, drawn) = at(&[("auto-mask", "endoscope")]);
    assert!(beside == 0 && drawn > 0, "{beside} of {drawn}");
}

#[test]
fn frames_in_which_nothing_can_be_seen_keep_the_last_good_score() {
    let tiny = Tiny::new();
    let round = Round::SMALL;
    let bars = |x: f64, _: f64| {
        let colours = [
            [235; 3],
            [235, 235, 16],
            [16, 235, 235],
            [16, 235, 16],
            [235, 16, 235],
            [235, 16, 16],
            [16, 16, 235],
        ];
        Some(colours[(x / 46.0) as usize])
    };
    let mut bench = watching(
        &tiny,
        &round,
        &[("auto-mask", "endoscope"), ("quality-gate", "true")],
    );
    let first = bench.pass(round.frame(0, |c| c * 0.05, |_, _| None));
    assert_eq!(
        (quality(&first).as_deref(), score(&first)),
        (Some("underexposed"), 0.0)
    );
    let good = bench.pass(round.plain(1));
    assert_eq!(quality(&good).as_deref(), Some("good"));
    let cases = [
        (round.frame(2, |c| c * 0.05, |_, _| None), "underexposed"),
        (round.frame(3, |_| 252.0, |_, _| None), "overexposed"),
        (round.frame(4, |c| 0.2 * c + 160.0, |_, _| None), "washed"),
        (round.frame(5, |c| c, bars), "outside-body"),
        (round.frame(6, |c| c, |_, _| Some([3; 3])), "underexposed"),
    ];
    for (n, (frame, reason)) in (2_u64..).zip(cases) {
        let output = bench.pass(frame);
        assert_eq!(quality(&output).as_deref(), Some(reason));
        assert_eq!(score(&output), score(&good));
        assert_eq!(
            record(&output).get::<u64>("age").unwrap(),
            (n - 1) * 40_000_000
        );
    }
    assert_eq!(bench.stat("skipped-quality"), 6);
    let back = bench.pass(round.plain(7));
    assert_eq!(
        (quality(&back).as_deref(), score(&back)),
        (Some("good"), score(&good))
    );
    assert_eq!(record(&back).get::<u64>("age").unwrap(), 0);
}

#[test]
fn a_frozen_picture_is_told_of_and_moves_again() {
    let tiny = Tiny::new();
    let round = Round::SMALL;
    let mut bench = watching(
        &tiny,
        &round,
        &[("quality-gate", "true"), ("auto-mask", "endoscope")],
    );
    let seen: Vec<_> = (0..28)
        .map(|n| quality(&bench.pass(round.plain(n))).unwrap())
        .collect();
    assert!(seen[..25].iter().all(|seen| seen == "good"), "{seen:?}");
    assert!(seen[25..].iter().all(|seen| seen == "frozen"), "{seen:?}");
    let moved = bench.pass(Round { moved: 9, ..round }.plain(28));
    assert_eq!(quality(&moved).as_deref(), Some("good"));
}

#[test]
fn an_alarm_is_neither_raised_nor_left_standing_by_frames_in_which_nothing_can_be_seen() {
    let tiny = Tiny::new();
    let round = Round::SMALL;
    // Without auto-mask: what is judged is the field of view all the same.
    let properties = [
        ("quality-gate", "true"),
        ("threshold", "0.01"),
        ("min-duration", "200"),
        ("max-age", "100"),
    ];
    let mut bench = watching(&tiny, &round, &properties);
    let dark = |n| round.frame(n, |c| c * 0.05, |_, _| None);
    let is_alarmed = |buffer: &gst::Buffer| record(buffer).get::<bool>("anomalous").unwrap();
    bench.pass(round.plain(0));
    assert!((1..20).all(|n| !is_alarmed(&bench.pass(dark(n)))));
    let raised = (20..30).map(|n| bench.pass(Round { moved: n, ..round }.plain(n as u64)));
    assert!(raised.last().is_some_and(|last| is_alarmed(&last)));
    let held: Vec<_> = (30..60).map(|n| bench.pass(dark(n))).collect();
    assert!(held[..25].iter().all(is_alarmed) && !held[25..].iter().any(is_alarmed));
    // What is older than max-age lies beside what it is about.
    assert!(map_area(&held[0]).is_some() && map_area(&held[5]).is_none());
    assert_eq!(
        bench.told_types(),
        ["event-begin", "event-peak", "event-end"]
    );
}

#[test]
fn without_a_gate_quality_is_told_and_frames_are_scored() {
    let tiny = Tiny::new();
    let round = Round::SMALL;
    let mut bench = watching(&tiny, &round, &[("auto-mask", "endoscope")]);
    bench.pass(round.plain(0));
    let dark = bench.pass(round.frame(1, |c| c * 0.05, |_, _| None));
    assert_eq!(quality(&dark).as_deref(), Some("underexposed"));
    assert_eq!(record(&dark).get::<u64>("age").unwrap(), 0);
    let mut plain = watching(&tiny, &round, &[]);
    assert_eq!(quality(&plain.pass(round.plain(0))), None);
}

#[test]
fn damping_lowers_the_map_where_the_picture_shines_and_raises_nothing() {
    let round = Round {
        circle: [160.0, 120.0, 115.0],
        ..Round::SMALL
    };
    let glint = |x: f64, y: f64| (x - 140.0).hypot(y - 100.0) < 9.0;
    let most = |damp: &str| {
        let properties = [
            ("auto-mask", "endoscope"),
            ("damp-highlights", damp),
            ("overlay", "0"),
        ];
        let mut bench = Bench::new(&properties, &round.caps());
        let output = bench.pass(round.frame(0, |c| c, |x, y| glint(x, y).then_some([255; 3])));
        let map: gst::Structure = record(&output).get("map").unwrap();
        let values: gst::glib::Bytes = map.get("values").unwrap();
        (values.to_vec(), score(&output))
    };
    let ((plain, score), (damped, damped_score)) = (most("false"), most("true"));
    assert!(
        plain
            .iter()
            .zip(&damped)
            .all(|(plain, damped)| damped <= plain)
    );
    let changed = plain.iter().zip(&damped).filter(|(a, b)| a != b).count();
    assert!((1..12).contains(&changed), "{changed}");
    assert!(damped_score <= score);
}

#[test]
fn it_works_where_frames_pass_at_once() {
    let tiny = Tiny::new();
    let round = Round::SMALL;
    let properties = [
        ("mode", "latest"),
        ("auto-mask", "endoscope"),
        ("quality-gate", "true"),
        ("max-age", "1000000000"),
    ];
    let mut bench = watching(&tiny, &round, &properties);
    let mut frames = (0..).map(|n| Round { moved: n, ..round }.plain(n as u64));
    let start = std::time::Instant::now();
    let output = loop {
        let output = bench.pass(frames.next().unwrap());
        if gst::meta::CustomMeta::from_buffer(&output, "AcdClipMeta").is_ok() {
            break output;
        }
        assert!(start.elapsed().as_secs() < 120, "no result came");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(is_near(map_area(&output).unwrap(), &round));
    assert_eq!(quality(&output).as_deref(), Some("good"));
}

#[test]
fn an_interlaced_frame_has_its_field_in_its_own_rows() {
    let tiny = Tiny::new();
    let round = Round::SMALL;
    let mut bench = watching(&tiny, &round, &[("auto-mask", "endoscope")]);
    let interlaced = format!("{},interlace-mode=interleaved", round.caps());
    bench.harness.set_src_caps(interlaced.parse().unwrap());
    let area = map_area(&bench.pass(round.plain(0))).unwrap();
    assert!(is_near(area, &round), "{area:?}");
}

#[test]
fn every_format_and_a_region_of_interest_beside_it_will_do() {
    let tiny = Tiny::new();
    let round = Round::SMALL;
    for format in ["NV12", "I420", "BGRx", "xRGB"] {
        let mut bench = watching(
            &tiny,
            &round,
            &[("auto-mask", "endoscope"), ("roi", "21,5,270,230")],
        );
        let caps = caps(format, 320, 240);
        bench.harness.set_src_caps(caps.parse().unwrap());
        let line = format!("videoconvert ! capsfilter caps=\"{caps}\"");
        let mut convert = Harness::new_parse(&line);
        convert.set_src_caps(round.caps().parse().unwrap());
        convert.play();
        let converted = convert.push_and_pull(round.plain(0)).unwrap();
        let area = map_area(&bench.pass(converted)).unwrap();
        assert!(is_near(area, &round), "{format}: {area:?}");
    }
}

#[test]
fn with_a_strip_it_is_refused_with_a_reason() {
    for property in [
        ("auto-mask", "endoscope"),
        ("quality-gate", "true"),
        ("damp-highlights", "true"),
    ] {
        let (_, text) = settings::complaint(&[("tiling", "scan"), property]);
        assert!(
            text.contains(property.0) && text.contains("tiling=scan"),
            "{text}"
        );
    }
}
