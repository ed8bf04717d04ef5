#![allow(clippy::unwrap_used)]

use super::*;
use crate::endoscope::scene::{Scene, circle, noise, octagon};
use proptest::prelude::*;

const FRAME: u64 = 40_000_000;

/// The field of a picture that is seen once.
fn seen(scene: &Scene) -> Field {
    FieldFinder::default().push(&scene.sketch(), 1.0, 0)
}

/// How far the bounds are from x, y, width and height, at most, as a part of the frame's longer side.
fn off(field: &Field, scene: &Scene, wanted: [f64; 4]) -> f64 {
    let [x, y, w, h] = field.bounds().map(f64::from);
    let ends = [x, y, x + w, y + h];
    let [x, y, w, h] = wanted;
    let off = ends.iter().zip([x, y, x + w, y + h]);
    let most = off.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    most / scene.width.max(scene.height) as f64
}

fn is_counted(field: &Field, scene: &Scene, x: f64, y: f64) -> bool {
    let (width, height) = (scene.width as f64, scene.height as f64);
    field.mask().counts_at(x / width, y / height)
}

/// What of the places inside counts, and whether any outside does.
fn cover(field: &Field, scene: &Scene, is_inside: impl Fn(f64, f64) -> bool) -> (f64, bool) {
    let (mut inside, mut counted, mut stray) = (0, 0, false);
    let step = (scene.height / 100).max(1);
    for y in (0..scene.height).step_by(step) {
        for x in (0..scene.width).step_by(step) {
            let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
            let counts = is_counted(field, scene, x, y);
            if is_inside(x, y) {
                inside += 1;
                counted += u32::from(counts);
            } else {
                stray |= counts;
            }
        }
    }
    (f64::from(counted) / f64::from(inside), stray)
}

#[test]
fn a_circle_is_found_at_every_size() {
    for (width, height) in [(64, 64), (320, 240), (640, 480), (1920, 1080), (4096, 64)] {
        let (x, y) = (0.45 * width as f64, 0.5 * height as f64);
        let radius = 0.42 * height as f64;
        let inside = circle(x, y, radius);
        let scene = Scene::black(width, height).tissue([0.0; 2], inside.clone());
        let field = seen(&scene);
        let wanted = [x - radius, y - radius, 2.0 * radius, 2.0 * radius];
        let cell = 1.0 / 256.0_f64.min(width as f64);
        if height * 256 > width * 20 {
            assert_eq!(field.shape(), Shape::Circle, "{width}x{height}");
            assert!(off(&field, &scene, wanted) <= 2.0 * cell, "{field:?}");
            let (covered, stray) = cover(&field, &scene, inside);
            assert!(covered > 0.9 && !stray, "{covered} {stray}");
        } else {
            // A picture of 5 cells is none.
            assert_eq!(field.shape(), Shape::Whole);
        }
    }
}

#[test]
fn a_circle_that_the_frame_cuts_off_ends_with_the_frame() {
    for (y, radius) in [(120.0, 140.0), (200.0, 150.0), (60.0, 150.0)] {
        let inside = circle(160.0, y, radius);
        let scene = Scene::black(320, 240).tissue([0.0; 2], inside.clone());
        let field = seen(&scene);
        assert_eq!(field.shape(), Shape::Circle);
        let (top, bottom) = ((y - radius).max(0.0), (y + radius).min(240.0));
        let left = (160.0 - radius).max(0.0);
        let wanted = [left, top, 320.0 - 2.0 * left, bottom - top];
        assert!(off(&field, &scene, wanted) <= 0.01, "{field:?}");
        let (covered, stray) = cover(&field, &scene, inside);
        assert!(covered > 0.95 && !stray, "{covered} {stray}");
    }
}

#[test]
fn a_circle_is_one_where_pixels_are_not_square() {
    let inside = |x: f64, y: f64| ((x - 160.0) / 2.0).hypot(y - 120.0) < 60.0;
    let scene = Scene::black(320, 240).tissue([0.0; 2], inside);
    let field = FieldFinder::default().push(&scene.sketch(), 0.5, 0);
    assert_eq!(field.shape(), Shape::Circle);
    let (covered, stray) = cover(&field, &scene, inside);
    assert!(covered > 0.93 && !stray, "{covered} {stray}");
}

#[test]
fn octagons_and_rectangles_keep_their_corners() {
    for (cut, shape) in [(0.0, Shape::Rectangle), (50.0, Shape::Octagon)] {
        let sides = [30.0, 14.0, 270.0, 220.0];
        let inside = octagon(sides, cut);
        let scene = Scene::black(320, 240).tissue([0.0; 2], inside.clone());
        let field = seen(&scene);
        assert_eq!(field.shape(), shape);
        assert!(off(&field, &scene, [30.0, 14.0, 240.0, 206.0]) <= 0.008);
        let (covered, stray) = cover(&field, &scene, inside);
        assert!(covered > 0.94 && !stray, "{covered} {stray}");
    }
}

#[test]
fn a_frame_without_a_surround_is_whole() {
    let all = |_: f64, _: f64| true;
    let tissue = Scene::black(320, 240).tissue([0.0; 2], all);
    let lumen = tissue
        .clone()
        .paint(circle(160.0, 120.0, 60.0), |_, _| [3; 3]);
    let corner = tissue.clone().paint(circle(0.0, 0.0, 60.0), |_, _| [3; 3]);
    let grey = Scene::black(320, 240).paint(all, |x, _| [(x / 2.0) as u8 + 90; 3]);
    for scene in [tissue, lumen, corner, grey] {
        let field = seen(&scene);
        assert_eq!(field.shape(), Shape::Whole);
        assert_eq!(field.bounds(), [0, 0, 320, 240]);
        assert!(field.mask().columns().iter().all(|counts| *counts));
    }
}

#[test]
fn text_speckles_and_a_second_picture_are_not_the_field() {
    let inside = circle(210.0, 120.0, 100.0);
    let scene = Scene::black(320, 240)
        .tissue([0.3, 0.0], octagon([4.0, 170.0, 80.0, 236.0], 0.0))
        .tissue([0.0; 2], inside.clone())
        // Up to the picture's edge, and into it.
        .text(4.0, 8.0, 120.0, 8)
        .paint(|x, y| noise(x as i64, y as i64, 3) > 0.995, |_, _| [255; 3]);
    let field = seen(&scene);
    assert_eq!(field.shape(), Shape::Circle);
    assert!(
        off(&field, &scene, [110.0, 20.0, 200.0, 200.0]) <= 0.01,
        "{field:?}"
    );
}

#[test]
fn a_dark_frame_says_nothing() {
    let scene = Scene::black(320, 240).tissue([0.0; 2], circle(160.0, 120.0, 100.0));
    let mut finder = FieldFinder::default();
    let black = Scene::black(320, 240);
    let before = finder.push(&black.sketch(), 1.0, 0);
    assert_eq!(before.shape(), Shape::Whole);
    let known = finder.push(&scene.sketch(), 1.0, FRAME);
    assert_eq!(known.shape(), Shape::Circle);
    let dark = black.paint(circle(160.0, 120.0, 12.0), |_, _| [90, 40, 30]);
    for n in 2..100 {
        assert!(finder.push(&dark.sketch(), 1.0, n * FRAME).is(&known));
    }
}

#[test]
fn a_field_whose_picture_moves_beside_blinking_text_stands_to_the_pixel() {
    let mut finder = FieldFinder::default();
    let fields = (0..60).map(|n| {
        let inside = circle(190.0, 120.0, 100.0);
        let shift = [0.02 * n as f64, 0.01 * n as f64];
        // A dark lumen passes the edge.
        let lumen = circle(90.0, 6.0 * n as f64, 40.0);
        let scene = Scene::black(320, 240)
            .tissue(shift, inside.clone())
            .paint(|x, y| inside(x, y) && lumen(x, y), |_, _| [7; 3]);
        let scene = if n % 7 < 3 {
            scene.text(4.0, 8.0, 100.0, 6)
        } else {
            scene
        };
        finder.push(&scene.sketch(), 1.0, n * FRAME)
    });
    let fields: Vec<_> = fields.collect();
    assert_eq!(fields[0].shape(), Shape::Circle);
    assert!(fields.iter().all(|field| field.is(&fields[0])));
}

#[test]
fn a_zoom_is_followed_within_a_second_and_without_a_quiver() {
    let inside = |radius: f64| circle(160.0, 120.0, radius);
    for (from, to) in [(100.0, 70.0), (70.0, 110.0)] {
        let mut finder = FieldFinder::default();
        let mut fields = Vec::new();
        for n in 0..50 {
            let radius = if n < 10 { from } else { to };
            let scene = Scene::black(320, 240).tissue([0.01 * n as f64, 0.0], inside(radius));
            fields.push(finder.push(&scene.sketch(), 1.0, n * FRAME));
        }
        let changes = fields
            .windows(2)
            .filter(|pair| !pair[0].is(&pair[1]))
            .count();
        assert!((1..=2).contains(&changes), "{changes}");
        let late = &fields[10 + 25];
        let scene = Scene::black(320, 240);
        let wanted = [160.0 - to, 120.0 - to, 2.0 * to, 2.0 * to];
        assert!(off(late, &scene, wanted) <= 0.012, "{late:?}");
        assert!(late.is(&fields[49]));
    }
}

#[test]
fn a_bite_with_another_picture_in_it_does_not_count_for_long() {
    let inside = octagon([20.0, 4.0, 300.0, 236.0], 60.0);
    let bite = |x: f64, y: f64| x < 110.0 && y > 150.0;
    let other = octagon([40.0, 170.0, 90.0, 230.0], 0.0);
    let mut finder = FieldFinder::default();
    let mut last = None;
    for n in 0..30 {
        let shift = [0.05 * n as f64, 0.0];
        let scene = Scene::black(320, 240)
            .tissue(shift, |x, y| inside(x, y) && !bite(x, y))
            .tissue([0.0; 2], other.clone());
        last = Some((finder.push(&scene.sketch(), 1.0, n * 5 * FRAME), scene));
    }
    let (field, scene) = last.unwrap();
    assert_eq!(field.shape(), Shape::Octagon);
    for (x, y, counts) in [
        (70.0, 200.0, false),
        (100.0, 160.0, false),
        (150.0, 200.0, true),
        (60.0, 120.0, true),
    ] {
        assert_eq!(is_counted(&field, &scene, x, y), counts, "{x},{y}");
    }
}

#[test]
fn another_size_is_another_stream() {
    let mut finder = FieldFinder::default();
    let scene =
        |width, height| Scene::black(width, height).tissue([0.0; 2], circle(80.0, 60.0, 50.0));
    finder.push(&scene(320, 240).sketch(), 1.0, 0);
    let smaller = scene(160, 120);
    let field = finder.push(&smaller.sketch(), 1.0, FRAME);
    assert!(off(&field, &smaller, [30.0, 10.0, 100.0, 100.0]) <= 0.01);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_the_picture_is_the_field_lies_within_the_frame(
        (width, height) in (1_usize..90, 1_usize..90),
        seed in any::<u64>(),
        times in prop::collection::vec(any::<u64>(), 1..5),
    ) {
        let mut finder = FieldFinder::default();
        for (n, time) in times.into_iter().enumerate() {
            let blob = |x: f64, y: f64| noise((x / 9.0) as i64, (y / 9.0) as i64, seed ^ n as u64) > 0.5;
            let scene = Scene::black(width, height).tissue([0.0; 2], blob);
            let [x, y, w, h] = finder.push(&scene.sketch(), 1.0, time).bounds();
            prop_assert!(w > 0 && h > 0 && (x + w) as usize <= width && (y + h) as usize <= height);
        }
    }
}
