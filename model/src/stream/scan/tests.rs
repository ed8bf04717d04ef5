//! Strips with a network that is made up: a patch is abnormal where it is dark.

#![allow(clippy::unwrap_used)]

use crate::{
    preprocess::Placement,
    stream::{alarm::Levels, strip::longest_delay},
};

use super::*;

const WIDTH: usize = 200;
const PATCHES: usize = 8;

const RULES: Rules = Rules {
    levels: Levels {
        raise: 0.6,
        release: 0.5,
    },
    min_area: 0,
    gap: 0,
};

fn plan() -> Plan {
    Plan {
        tiles: Tiles::new(136, 16).unwrap(),
        patches: PATCHES,
        kind: MapValues::Probability,
        line_advance: 0,
        finds_edges: true,
        cover: None,
        pitch: Pitch {
            line_mm: Some(0.5),
            pixel_mm: Some(0.25),
            start_mm: 1000.0,
        },
    }
}

/// Dark spots, as (x, y, side), on bright metal between dark borders.
const SPOTS: [(usize, usize, usize); 4] =
    [(60, 90, 30), (100, 700, 40), (60, 1180, 30), (50, 1500, 25)];

fn strip(lines: usize) -> Vec<u8> {
    let pixel = |y: usize, x: usize| {
        let in_spot = |(left, top, side): &(usize, usize, usize)| {
            (*left..left + side).contains(&x) && (*top..top + side).contains(&y)
        };
        if !(20..180).contains(&x) || SPOTS.iter().any(in_spot) {
            10
        } else {
            150 + ((x * 7 + y * 13) % 20) as u8
        }
    };
    (0..lines)
        .flat_map(|y| (0..WIDTH).map(move |x| pixel(y, x)))
        .collect()
}

fn frame(bytes: &[u8]) -> Frame<'_> {
    let planes = [crate::frame::Plane {
        data: bytes,
        stride: WIDTH,
    }];
    let height = bytes.len() / WIDTH;
    Frame::new(
        PixelFormat::Gray8,
        WIDTH,
        height,
        &planes,
        crate::frame::Colorimetry::default(),
    )
    .unwrap()
}

/// What the network that is made up finds in a tile.
fn finding(view: &View<'_>) -> Finding {
    let (width, height) = (view.frame.width(), view.frame.height());
    let darkness = |row: usize, column: usize| {
        let rows =
            row * height / PATCHES..((row + 1) * height / PATCHES).max(row * height / PATCHES + 1);
        let columns = column * width / PATCHES
            ..((column + 1) * width / PATCHES).max(column * width / PATCHES + 1);
        let count = (rows.len() * columns.len()) as f32;
        let sum: u32 = rows
            .map(|y| {
                view.frame.row(0, y)[columns.clone()]
                    .iter()
                    .map(|luma| u32::from(*luma))
                    .sum::<u32>()
            })
            .sum();
        1.0 - sum as f32 / count / 255.0
    };
    let values: Vec<f32> = (0..PATCHES * PATCHES)
        .map(|i| darkness(i / PATCHES, i % PATCHES))
        .collect();
    let placement = Placement {
        x: 0.0,
        y: 0.0,
        width: 96.0,
        height: 96.0,
    };
    let map = AnomalyMap::new(
        (PATCHES, PATCHES),
        values,
        MapValues::Probability,
        (96, 96),
        placement,
    )
    .unwrap();
    Finding {
        score: map.max(),
        class_score: 0.5,
        map_max: map.max(),
        map,
    }
}

/// Looks at all that is due.
fn see(scan: &mut Scan) {
    while let Some(due) = scan.due().unwrap() {
        let findings: Vec<_> = scan.views(&due).unwrap().iter().map(finding).collect();
        scan.take(due, &findings);
    }
}

/// What was seen of frames, put together again: a probability for each pixel of the strip, and flaws.
#[derive(Debug, Default)]
struct Whole {
    map: Vec<f32>,
    flaws: Vec<(Flaw, Place)>,
    breaks: Vec<Break>,
    longest_wait: usize,
}

/// Runs a strip through in frames of `height` rows, of which the last `advance` are new.
fn run(bytes: &[u8], (height, advance): (usize, usize), plan: Plan) -> Whole {
    let mut scan = Scan::new(Plan {
        line_advance: if advance == height { 0 } else { advance },
        ..plan
    });
    let mut whole = Whole::default();
    let mut held = VecDeque::new();
    let lines = bytes.len() / WIDTH;
    let mut first = 0;
    loop {
        let end = (first + height).min(lines);
        let rows = &bytes[first * WIDTH..end * WIDTH];
        let taken = scan.push(&frame(rows), Counters::None).unwrap();
        whole
            .breaks
            .extend(taken.breaks.iter().map(|(_, why)| *why));
        held.push_back(taken);
        see(&mut scan);
        leave(&mut scan, &mut held, &mut whole);
        if end == lines {
            break;
        }
        first += advance;
    }
    scan.end();
    see(&mut scan);
    leave(&mut scan, &mut held, &mut whole);
    assert!(held.is_empty(), "{held:?}");
    whole
}

fn leave(scan: &mut Scan, held: &mut VecDeque<FrameLines>, whole: &mut Whole) {
    while held
        .front()
        .is_some_and(|lines| lines.new.end <= scan.settled())
    {
        let lines = held.pop_front().unwrap();
        let change = scan.follow(lines.new.end, None, &RULES).unwrap();
        for flaw in change.ended {
            whole.flaws.push((flaw, scan.place_of(&flaw)));
        }
        let sight = scan.sight(&lines).unwrap();
        let pixels = sight.map.upsample_to_frame(WIDTH, lines.height);
        let new = (lines.new.end - lines.new.start) as usize;
        whole.map.extend(&pixels[pixels.len() - new * WIDTH..]);
        scan.forget(held.front().map_or(lines.new.end, FrameLines::first));
    }
    whole.longest_wait = whole.longest_wait.max(held.len());
}

#[test]
fn what_is_seen_does_not_depend_on_how_the_strip_is_cut() {
    let lines = 2000;
    let bytes = strip(lines);
    let one_piece = run(&bytes, (lines, lines), plan());
    assert_eq!(one_piece.map.len(), lines * WIDTH);
    assert_eq!(one_piece.flaws.len(), SPOTS.len(), "{:?}", one_piece.flaws);
    for cut in [
        (1, 1),
        (7, 7),
        (100, 100),
        (512, 512),
        (777, 777),
        (512, 16),
        (100, 30),
    ] {
        // Frames that overlap end with the last whole one.
        let bytes = &bytes[..(lines - (lines - cut.0) % cut.1) * WIDTH];
        let in_pieces = run(bytes, cut, plan());
        let one_piece = run(bytes, (bytes.len() / WIDTH, bytes.len() / WIDTH), plan());
        assert_eq!(in_pieces.map.len(), one_piece.map.len(), "{cut:?}");
        for (i, (a, b)) in in_pieces.map.iter().zip(&one_piece.map).enumerate() {
            assert!(
                (a - b).abs() < 1e-3,
                "{cut:?}, line {}: {a} and {b}",
                i / WIDTH
            );
        }
        assert_eq!(in_pieces.flaws, one_piece.flaws, "{cut:?}");
    }
}

#[test]
fn a_flaw_is_where_it_was_drawn_and_borders_are_none() {
    let found = run(&strip(2000), (100, 100), plan()).flaws;
    for ((flaw, place), (x, y, side)) in found.iter().zip(SPOTS) {
        let is_near = |found: u64, wanted: usize| found.abs_diff(wanted as u64) <= 12;
        assert!(
            is_near(flaw.left.into(), x) && is_near(flaw.right.into(), x + side),
            "{flaw:?}"
        );
        assert!(
            is_near(flaw.first, y) && is_near(flaw.last, y + side),
            "{flaw:?}"
        );
        assert_eq!(place.position_mm, Some(1000.0 + flaw.first as f64 * 0.5));
        assert_eq!(place.length_mm, Some(flaw.length() as f64 * 0.5));
        assert_eq!(place.width_mm, Some(f64::from(flaw.width()) * 0.25));
    }
}

#[test]
fn a_frame_waits_for_a_tile_at_most() {
    for height in [1, 10, 100, 300] {
        let whole = run(&strip(1000), (height, height), plan());
        let most = longest_delay(plan().tiles, PATCHES).div_ceil(height);
        assert!(
            whole.longest_wait <= most,
            "{height}: {} of {most}",
            whole.longest_wait
        );
    }
}

#[test]
fn strips_shorter_than_a_tile_are_seen_whole() {
    for lines in [1, 2, 15, 135, 136, 137] {
        let whole = run(&strip(lines), (lines, lines), plan());
        assert_eq!(whole.map.len(), lines * WIDTH);
        assert!(whole.map.iter().all(|value| value.is_finite()));
    }
}

/// Runs a strip through whose lines have counters.
fn counted(counters: &[i64], height: usize) -> (Whole, Scan) {
    let bytes = strip(counters.len());
    let mut scan = Scan::new(plan());
    let (mut whole, mut held) = (Whole::default(), VecDeque::new());
    for (counters, rows) in counters.chunks(height).zip(bytes.chunks(height * WIDTH)) {
        let lines = scan.push(&frame(rows), Counters::Each(counters)).unwrap();
        whole
            .breaks
            .extend(lines.breaks.iter().map(|(_, why)| *why));
        held.push_back(lines);
        see(&mut scan);
        leave(&mut scan, &mut held, &mut whole);
    }
    scan.end();
    see(&mut scan);
    leave(&mut scan, &mut held, &mut whole);
    assert!(held.is_empty());
    (whole, scan)
}

#[test]
fn nothing_is_glued_over_lost_lines() {
    // The spot at lines 700 to 740 is cut by a jump at 720.
    let counters: Vec<i64> = (0..1000)
        .map(|line| if line < 720 { line } else { line + 5000 })
        .collect();
    let (whole, _) = counted(&counters, 64);
    let jump = Break::Jump {
        from: 719,
        to: 5720,
    };
    assert_eq!(whole.breaks, [Break::Start, jump]);
    let halves: Vec<_> = whole
        .flaws
        .iter()
        .filter(|(flaw, _)| flaw.left > 80 && flaw.left < 120)
        .collect();
    assert_eq!(halves.len(), 2, "{halves:?}");
    assert_eq!((halves[0].0.last, halves[1].0.first), (719, 720));
    assert_eq!(halves[1].1.position_mm, Some(1000.0 + 5720.0 * 0.5));
}

#[test]
fn a_counter_that_stands_adds_no_lines_and_one_that_turns_sees_again() {
    let up = 0..400_i64;
    let stands = std::iter::repeat_n(399, 200);
    let down = (0..399).rev();
    let counters: Vec<i64> = up.chain(stands).chain(down).collect();
    let (whole, scan) = counted(&counters, 100);
    assert_eq!(scan.lines(), 799);
    assert_eq!(whole.breaks, [Break::Start, Break::Reversed { at: 399 }]);
}

#[test]
fn a_frame_in_which_everything_happens_is_seen() {
    let counters: Vec<i64> = (0..300)
        .map(|i| [i, i, 500 - i, 7][i as usize / 75])
        .collect();
    let (whole, _) = counted(&counters, 300);
    assert!(whole.breaks.len() > 2, "{:?}", whole.breaks);
    assert!(whole.map.iter().all(|value| value.is_finite()));
}

#[test]
fn counters_of_another_number_are_an_error() {
    let mut scan = Scan::new(plan());
    let error = scan
        .push(&frame(&strip(4)), Counters::Each(&[1, 2]))
        .unwrap_err();
    assert!(error.to_string().contains("found 2"), "{error}");
}

#[test]
fn a_counter_a_frame_goes_on_up_and_down() {
    let mut scan = Scan::new(plan());
    let rows = strip(10);
    for (first, breaks) in [(0, 1), (10, 0), (19, 1), (9, 0), (100, 1)] {
        let lines = scan.push(&frame(&rows), Counters::First(first)).unwrap();
        assert_eq!(lines.breaks.len(), breaks, "{first}: {lines:?}");
    }
}

#[test]
fn memory_is_flat_over_many_lines() {
    let rows = strip(1600);
    let mut scan = Scan::new(plan());
    let mut kept = Vec::new();
    for _ in 0..20 {
        let lines = scan.push(&frame(&rows), Counters::None).unwrap();
        see(&mut scan);
        let settled = scan.settled();
        scan.follow(settled, None, &RULES).unwrap();
        scan.forget(settled);
        kept.push(scan.pieces.front().unwrap().strip.bytes_kept());
        assert!(lines.breaks.len() <= 1);
    }
    assert!(kept[19] < kept[3] + 1000, "{kept:?}");
}

#[test]
fn frames_leave_while_the_camera_stands() {
    let counters: Vec<i64> = (0..1200).map(|line| line.min(399)).collect();
    let bytes = strip(counters.len());
    let mut scan = Scan::new(plan());
    let (mut whole, mut held) = (Whole::default(), VecDeque::new());
    for (counters, rows) in counters.chunks(100).zip(bytes.chunks(100 * WIDTH)) {
        let lines = scan.push(&frame(rows), Counters::Each(counters)).unwrap();
        held.push_back(lines);
        see(&mut scan);
        leave(&mut scan, &mut held, &mut whole);
        assert!(held.len() <= 3, "{held:?}");
    }
    assert!(held.is_empty());
}

#[test]
fn frames_that_overlap_go_on_after_lines_were_given_up() {
    let bytes = strip(1000);
    let mut scan = Scan::new(Plan {
        line_advance: 50,
        ..plan()
    });
    let (mut whole, mut held) = (Whole::default(), VecDeque::new());
    for (n, first) in (0..900).step_by(50).enumerate() {
        let rows = &bytes[first * WIDTH..(first + 100) * WIDTH];
        held.push_back(scan.push(&frame(rows), Counters::None).unwrap());
        if n == 6 {
            scan.abandon();
            held.clear();
        }
        see(&mut scan);
        leave(&mut scan, &mut held, &mut whole);
    }
    assert!(whole.map.iter().all(|value| value.is_finite()));
    assert!(
        whole.flaws.iter().any(|(flaw, _)| flaw.first > 600),
        "{:?}",
        whole.flaws
    );
}

#[test]
fn of_frames_that_overlap_the_next_shows_what_went_by_unseen() {
    let bytes = strip(1000);
    let seen = |skips: fn(usize) -> bool| {
        let mut scan = Scan::new(Plan {
            line_advance: 20,
            ..plan()
        });
        for (n, first) in (0..=900).step_by(20).enumerate() {
            if skips(n) {
                scan.miss(1);
            } else {
                let rows = &bytes[first * WIDTH..(first + 100) * WIDTH];
                let lines = scan.push(&frame(rows), Counters::None).unwrap();
                assert!(lines.breaks.iter().all(|(_, why)| *why == Break::Start));
            }
        }
        scan.end();
        see(&mut scan);
        let change = scan.follow(1000, None, &RULES).unwrap();
        (scan.lines(), change.ended)
    };
    assert_eq!(seen(|n| n % 5 > 0), seen(|_| false));
}

#[test]
fn what_no_frame_shows_is_missing_and_what_follows_lies_where_it_does() {
    let bytes = strip(1000);
    let mut scan = Scan::new(plan());
    let push = |scan: &mut Scan, first: usize| {
        let rows = &bytes[first * WIDTH..(first + 100) * WIDTH];
        scan.push(&frame(rows), Counters::None).unwrap()
    };
    push(&mut scan, 0);
    scan.miss(2);
    let lines = push(&mut scan, 300);
    assert_eq!(lines.breaks, [(100, Break::Jump { from: 99, to: 300 })]);
    assert_eq!(lines.new, 100..200);
    let place = scan.place((0, 9), (100, 199));
    assert_eq!(place.position_mm, Some(1150.0));
}

#[test]
fn overlapping_frames_of_a_camera_that_stands_show_the_lines_that_they_show() {
    let bytes = strip(300);
    let mut scan = Scan::new(Plan {
        line_advance: 50,
        ..plan()
    });
    let stands = [7_i64; 100];
    scan.push(&frame(&bytes[..100 * WIDTH]), Counters::Each(&stands))
        .unwrap();
    let goes_on: Vec<i64> = [7; 50].into_iter().chain(8..58).collect();
    let lines = scan
        .push(
            &frame(&bytes[50 * WIDTH..150 * WIDTH]),
            Counters::Each(&goes_on),
        )
        .unwrap();
    assert_eq!(
        [0, 49, 50, 99].map(|row| lines.line(row)),
        [Some(0), Some(0), Some(1), Some(50)]
    );
}

#[test]
fn noise_where_a_counter_should_be_is_an_error_that_says_what_to_do() {
    let mut scan = Scan::new(plan());
    let noise: Vec<i64> = (0..100).map(|line| line * 7919 % 101).collect();
    let error = scan
        .push(&frame(&strip(100)), Counters::Each(&noise))
        .unwrap_err();
    assert!(error.to_string().contains("encoder=pitch"), "{error}");
}

#[test]
fn tiles_of_which_nothing_counts_are_not_shown_and_their_lines_are_normal() {
    let bytes = strip(600);
    let cover: Arc<[bool]> = (0..WIDTH).map(|x| x < 60).collect();
    let mut scan = Scan::new(Plan {
        finds_edges: false,
        cover: Some(cover),
        ..plan()
    });
    let lines = scan.push(&frame(&bytes), Counters::None).unwrap();
    scan.end();
    while let Some(due) = scan.due().unwrap() {
        let views = scan.views(&due).unwrap();
        // The second tile of two begins at column 64.
        assert_eq!(views.len(), 1);
        let findings: Vec<_> = views.iter().map(finding).collect();
        scan.take(due, &findings);
    }
    let sight = scan.sight(&lines).unwrap();
    let map = sight.map.upsample_to_frame(WIDTH, 600);
    let counting = |x: usize| map.iter().skip(x).step_by(WIDTH);
    assert!(counting(30).all(|value| (0.0..=1.0).contains(value)));
    assert!(counting(30).any(|value| *value > 0.3), "the dark border");
    assert!(counting(150).all(|value| *value <= 0.0));
}
