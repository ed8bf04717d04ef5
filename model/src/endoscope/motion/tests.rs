#![allow(clippy::unwrap_used)]

use super::*;
use crate::endoscope::scene::{Scene, circle, noise};

const FRAME: u64 = 40_000_000;

/// Tissue within a circle, moved by so many pixels, with noise of its own.
fn moved(width: usize, height: usize, shift: [f64; 2], seed: u64) -> (Scene, Vec<bool>) {
    let (x, y, radius) = (
        width as f64 / 2.0,
        height as f64 / 2.0,
        height as f64 * 0.46,
    );
    let inside = circle(x, y, radius);
    let mut scene =
        Scene::black(width, height).tissue(shift.map(|d| d / height as f64), inside.clone());
    for (i, sample) in scene.rgb.iter_mut().enumerate() {
        *sample = sample.saturating_add((noise(i as i64, 0, seed) * 9.0) as u8);
    }
    let sketch = scene.sketch();
    let cell = |i: usize| {
        let (column, row) = (i % sketch.width(), i / sketch.width());
        let scale = width as f64 / sketch.width() as f64;
        circle(x, y, radius * 0.98)((column as f64 + 0.5) * scale, (row as f64 + 0.5) * scale)
    };
    let counts = (0..sketch.luma().len()).map(cell).collect();
    (scene, counts)
}

fn measured(width: usize, height: usize, shift: [f64; 2]) -> Motion {
    let mut meter = MotionMeter::default();
    let (scene, counts) = moved(width, height, [0.0; 2], 1);
    assert_eq!(meter.push(&scene.sketch(), &counts, 0), None);
    let (scene, counts) = moved(width, height, shift, 2);
    meter.push(&scene.sketch(), &counts, FRAME).unwrap()
}

#[test]
fn shifts_are_measured_to_less_than_a_cell() {
    for (width, height) in [(320, 240), (960, 540)] {
        let cell = width as f64 / 256.0;
        for shift in [
            [0.4, 0.0],
            [3.0, -2.0],
            [-11.3, 7.7],
            [24.0, 30.0],
            [-40.0, 0.0],
        ] {
            let shift = shift.map(|d: f64| d * cell);
            let found = measured(width, height, shift);
            let off = (found.shift[0] - shift[0]).hypot(found.shift[1] - shift[1]);
            assert!(off < cell, "{found:?} for {shift:?}");
            assert!(found.is_sure(), "{found:?}");
        }
    }
}

#[test]
fn what_stands_still_has_not_moved() {
    let noisy = measured(320, 240, [0.0; 2]);
    assert!(
        noisy.is_sure() && noisy.shift[0].hypot(noisy.shift[1]) < 0.3,
        "{noisy:?}"
    );
    let mut meter = MotionMeter::default();
    let (scene, counts) = moved(320, 240, [0.0; 2], 1);
    meter.push(&scene.sketch(), &counts, 0);
    let frozen = meter.push(&scene.sketch(), &counts, FRAME).unwrap();
    assert_eq!((frozen.shift, frozen.confidence), ([0.0; 2], 1.0));
}

#[test]
fn another_scene_and_one_without_detail_are_not_sure() {
    let mut meter = MotionMeter::default();
    let (scene, counts) = moved(320, 240, [0.0; 2], 1);
    meter.push(&scene.sketch(), &counts, 0);
    let (other, _) = moved(320, 240, [4000.0, 900.0], 1);
    let found = meter.push(&other.sketch(), &counts, FRAME).unwrap();
    assert!(!found.is_sure(), "{found:?}");
    let plain = |seed: u64| {
        Scene::black(320, 240).paint(
            |_, _| true,
            |x, y| [150 + (noise(x as i64, y as i64, seed) * 2.0) as u8; 3],
        )
    };
    meter.push(&plain(1).sketch(), &counts, 2 * FRAME);
    let found = meter.push(&plain(2).sketch(), &counts, 3 * FRAME).unwrap();
    assert!(!found.is_sure(), "{found:?}");
}

#[test]
fn nothing_comes_before_a_seam() {
    let (scene, counts) = moved(320, 240, [0.0; 2], 1);
    let sketch = scene.sketch();
    let mut meter = MotionMeter::default();
    meter.push(&sketch, &counts, 0);
    assert_eq!(meter.push(&sketch, &counts, 2 * LONGEST_STEP), None);
    assert_eq!(meter.push(&sketch, &counts, FRAME), None, "time went back");
    assert!(meter.push(&sketch, &counts, 2 * FRAME).is_some());
    let (smaller, counts) = moved(160, 120, [0.0; 2], 1);
    assert_eq!(meter.push(&smaller.sketch(), &counts, 3 * FRAME), None);
    meter.reset();
    assert_eq!(meter.push(&smaller.sketch(), &counts, 4 * FRAME), None);
}

#[test]
fn a_picture_of_few_pixels_has_no_motion() {
    let mut meter = MotionMeter::default();
    for (width, height) in [(1, 1), (7, 300), (8, 8)] {
        for n in 0..2 {
            let scene = Scene::black(width, height)
                .paint(|_, _| true, |x, y| [((x + y) as u8).wrapping_add(n); 3]);
            let sketch = scene.sketch();
            let found = meter.push(
                &sketch,
                &vec![true; sketch.luma().len()],
                u64::from(n) * FRAME,
            );
            assert!(found.is_none_or(|found| found.shift.iter().all(|d| d.is_finite())));
        }
    }
}
