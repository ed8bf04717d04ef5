//! Marks of alerts: brackets that fade in and out around what an event is about, and can be muted.

use gst_video::VideoRegionOfInterestMeta;

use super::*;

const SIZE: (usize, usize) = (128, 96);

/// Pixels of an RGB picture that differ from another, and by how much at most.
fn changed(before: &[u8], after: &[u8]) -> (usize, u8) {
    let pixels = before.chunks_exact(3).zip(after.chunks_exact(3));
    let changed = pixels.filter(|(a, b)| a != b).count();
    let most = before.iter().zip(after).map(|(a, b)| a.abs_diff(*b)).max();
    (changed, most.unwrap())
}

fn rgb() -> String {
    caps("RGB", SIZE.0 as u32, SIZE.1 as u32)
}

/// What the n-th frame's drawing changes of its picture.
fn drawn(bench: &mut Bench, pattern: &str, n: u64) -> (usize, u8) {
    let input = picture(pattern, &rgb(), n);
    let before = bytes(&input);
    changed(&before, &bytes(&bench.pass(input)))
}

#[test]
fn a_mark_fades_in_around_what_is_alerted_of_and_out_again() {
    let mut bench = Bench::new(&[("overlay", "marker")], &rgb());
    let coming: Vec<_> = (0..10).map(|n| drawn(&mut bench, "ball", n)).collect();
    let strengths: Vec<_> = coming.iter().map(|(_, most)| *most).collect();
    assert_eq!(strengths[0], 0);
    assert!(
        strengths.is_sorted() && strengths[1] < strengths[8],
        "{strengths:?}"
    );
    assert_eq!(strengths[8], strengths[9], "it is all there");
    let input = picture("ball", &rgb(), 10);
    let before = bytes(&input);
    let output = bench.pass(input);
    let after = bytes(&output);
    let rois: Vec<_> = output
        .iter_meta::<VideoRegionOfInterestMeta>()
        .map(|roi| roi.rect())
        .collect();
    assert!(!rois.is_empty());
    for (x, y, w, h) in rois {
        for row in y..y + h {
            let at = |x: u32| (row as usize * SIZE.0 + x as usize) * 3;
            let inside = at(x)..at(x + w);
            assert!(
                before[inside.clone()] == after[inside],
                "row {row} is drawn on"
            );
        }
    }
    let going: Vec<_> = (11..21).map(|n| drawn(&mut bench, "black", n)).collect();
    let strengths: Vec<_> = going.iter().map(|(_, most)| *most).collect();
    assert!(
        strengths[0] > strengths[4] && strengths.is_sorted_by(|a, b| a >= b),
        "{strengths:?}"
    );
    assert_eq!(going[9], (0, 0), "it is gone");
}

#[test]
fn what_does_not_last_is_not_marked() {
    let settings = [("overlay", "marker"), ("min-duration", "200")];
    let mut bench = Bench::new(&settings, &rgb());
    let (early, late): (Vec<_>, Vec<_>) = (0..10)
        .map(|n| (n, drawn(&mut bench, "ball", n)))
        .partition(|(n, _)| *n < 5);
    assert!(early.iter().all(|(_, drawn)| *drawn == (0, 0)), "{early:?}");
    assert!(late.iter().any(|(_, (pixels, _))| *pixels > 0), "{late:?}");
}

#[test]
fn muted_nothing_is_drawn_of_alerts_and_messages_say_so() {
    let mut bench = Bench::new(&[("overlay", "marker+score")], &rgb());
    (0..4).for_each(|n| {
        drawn(&mut bench, "ball", n);
    });
    assert!(drawn(&mut bench, "ball", 4).0 > 0);
    bench.element.set_property("mute", true);
    assert_eq!(drawn(&mut bench, "ball", 5), (0, 0));
    drawn(&mut bench, "black", 6);
    let told = bench.told();
    let muted: Vec<_> = told
        .iter()
        .map(|(kind, message)| (kind.as_str(), message.get::<bool>("muted").unwrap()))
        .collect();
    assert_eq!(
        muted,
        [
            ("event-begin", false),
            ("event-peak", true),
            ("event-end", true)
        ]
    );
    bench.element.set_property("mute", false);
    let again: Vec<_> = (7..11).map(|n| drawn(&mut bench, "ball", n)).collect();
    assert!(again[3].0 > 0, "{again:?}");
}

#[test]
fn drawn_from_metadata_a_mark_fades_as_in_the_scoring_element() {
    for format in ["RGB", "I420"] {
        let caps = caps(format, 64, 48);
        let settings = [("overlay", "marker")];
        let mut at_once = Bench::new(&settings, &caps);
        let mut scored = Bench::new(&[("overlay", "0")], &caps);
        let mut later = Bench::of(made("acdclipoverlay", &settings), &caps);
        let mut marked = 0;
        let patterns = std::iter::repeat_n("ball", 5).chain(std::iter::repeat_n("black", 4));
        for (n, pattern) in (0..).zip(patterns) {
            let input = picture(pattern, &caps, n);
            let clean = scored.pass(input.clone());
            let before = bytes(&clean);
            let shown = bytes(&later.pass(clean));
            assert!(shown == bytes(&at_once.pass(input)), "{format}: frame {n}");
            marked += usize::from(shown != before);
        }
        assert!(marked >= 6, "{format}: {marked} frames are marked");
    }
}

#[test]
fn a_frame_without_metadata_has_what_is_left_of_the_marks_before_it() {
    let caps = rgb();
    let mut scored = Bench::new(&[("overlay", "0")], &caps);
    let mut later = Bench::of(
        made("acdclipoverlay", &[("overlay", "marker+score")]),
        &caps,
    );
    for n in 0..5 {
        let clean = scored.pass(picture("ball", &caps, n));
        later.pass(clean);
    }
    let left: Vec<_> = (5..15).map(|n| drawn(&mut later, "black", n)).collect();
    assert!(left[0].0 > 0 && left[0].0 < SIZE.0 * SIZE.1 / 8, "{left:?}");
    assert_eq!(left[9], (0, 0));
}

#[test]
fn the_time_from_a_frame_to_what_is_drawn_of_it_is_told() {
    let mut bench = Bench::new(&[("overlay", "marker")], &rgb());
    (0..3).for_each(|n| {
        drawn(&mut bench, "ball", n);
    });
    let of_frames = bench.stat("frame-to-pixel-p50-us");
    assert!(of_frames >= bench.stat("network-p50-us"));
    assert!(of_frames <= bench.stat("passage-p99-us"));
}
