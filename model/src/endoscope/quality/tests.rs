#![allow(clippy::unwrap_used)]

use super::*;
use crate::endoscope::scene::{Scene, noise, tissue};

const FRAME: u64 = 40_000_000;

fn all(_: f64, _: f64) -> bool {
    true
}

fn good() -> Scene {
    Scene::black(320, 240).tissue([0.0; 2], all)
}

/// What a picture is, seen alone.
fn seen(scene: &Scene) -> Quality {
    let sketch = scene.sketch();
    let counts = vec![true; sketch.luma().len()];
    QualityGate::default().push(&sketch, &counts, 0)
}

/// The same with another colour for each.
fn changed(scene: &Scene, change: impl Fn(f64) -> f64) -> Scene {
    let change = |sample: &u8| change(f64::from(*sample)).clamp(0.0, 255.0) as u8;
    Scene {
        rgb: scene.rgb.iter().map(change).collect(),
        ..scene.clone()
    }
}

/// Blurred by the mean of so many pixels across, and down.
fn blurred(scene: &Scene, across: i64, down: i64) -> Scene {
    let (width, height) = (scene.width as i64, scene.height as i64);
    let pixel = |i: usize| {
        let (x, y) = (i as i64 % width, i as i64 / width);
        let mut sums = [0_u32; 3];
        for dy in -down / 2..=down / 2 {
            for dx in -across / 2..=across / 2 {
                let (x, y) = ((x + dx).clamp(0, width - 1), (y + dy).clamp(0, height - 1));
                for (sum, sample) in sums
                    .iter_mut()
                    .zip(&scene.rgb[(y * width + x) as usize * 3..])
                {
                    *sum += u32::from(*sample);
                }
            }
        }
        let count = ((across / 2 * 2 + 1) * (down / 2 * 2 + 1)) as u32;
        sums.map(|sum| (sum / count) as u8)
    };
    Scene {
        rgb: (0..scene.width * scene.height).flat_map(pixel).collect(),
        ..scene.clone()
    }
}

#[test]
fn a_sharp_picture_of_tissue_is_good() {
    assert_eq!(seen(&good()), Quality::Good);
    assert_eq!(seen(&changed(&good(), |c| c * 0.5)), Quality::Good);
    assert_eq!(seen(&changed(&good(), |c| c * 1.3)), Quality::Good);
}

#[test]
fn each_reason_is_told() {
    let bars = [
        [235; 3],
        [235, 235, 16],
        [16, 235, 235],
        [16, 235, 16],
        [235, 16, 235],
        [235, 16, 16],
        [16, 16, 235],
    ];
    let bars = Scene::black(320, 240).paint(all, |x, _| bars[(x / 46.0) as usize]);
    let room = Scene::black(320, 240).paint(all, |x, y| {
        let [shade, ..] = tissue(x / 240.0, y / 240.0);
        [shade; 3]
    });
    let cases = [
        (changed(&good(), |c| c * 0.12), Quality::Underexposed),
        (Scene::black(320, 240), Quality::Underexposed),
        (changed(&good(), |c| c * 3.0 + 120.0), Quality::Overexposed),
        (changed(&good(), |c| 0.2 * c + 150.0), Quality::Washed),
        (room, Quality::OutsideBody),
        (bars, Quality::OutsideBody),
        (blurred(&good(), 11, 11), Quality::Blurred),
        (blurred(&good(), 21, 1), Quality::Blurred),
        (blurred(&good(), 1, 21), Quality::Blurred),
    ];
    for (i, (scene, quality)) in cases.iter().enumerate() {
        assert_eq!(seen(scene), *quality, "case {i}");
    }
}

#[test]
fn a_reason_does_not_come_and_go_at_its_limit() {
    let mut gate = QualityGate::default();
    let sketches: Vec<_> = (0..60)
        .map(|n| changed(&good(), |c| c * (0.365 + 0.03 * noise(n, 0, 1))).sketch())
        .collect();
    let bright: Vec<f64> = sketches
        .iter()
        .map(|sketch| {
            Measures::of(sketch, &vec![true; sketch.luma().len()])
                .unwrap()
                .bright
        })
        .collect();
    let below = |limit: f64| bright.iter().filter(|bright| **bright < limit).count();
    assert!((1..59).contains(&below(ENTERS.bright)), "{bright:?}");
    let seen: Vec<_> = sketches
        .iter()
        .zip(0..)
        .map(|(sketch, n)| gate.push(sketch, &vec![true; sketch.luma().len()], n * FRAME))
        .collect();
    let changes = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= 1, "{seen:?}");
}

#[test]
fn a_picture_that_stands_still_is_frozen_after_a_second_and_until_it_moves() {
    let mut gate = QualityGate::default();
    let push = |gate: &mut QualityGate, scene: &Scene, n: u64| {
        let sketch = scene.sketch();
        gate.push(&sketch, &vec![true; sketch.luma().len()], n * FRAME)
    };
    let seen: Vec<_> = (0..40).map(|n| push(&mut gate, &good(), n)).collect();
    assert!(seen[..25].iter().all(|seen| *seen == Quality::Good));
    assert!(seen[25..].iter().all(|seen| *seen == Quality::Frozen));
    let moved = Scene::black(320, 240).tissue([0.01, 0.0], all);
    assert_eq!(push(&mut gate, &moved, 40), Quality::Good);
}

#[test]
fn only_what_counts_is_judged() {
    let scene = good().paint(|x, _| x < 160.0, |_, _| [255; 3]);
    let sketch = scene.sketch();
    let counts: Vec<bool> = (0..sketch.luma().len())
        .map(|i| i % sketch.width() > 130)
        .collect();
    assert_eq!(
        QualityGate::default().push(&sketch, &counts, 0),
        Quality::Good
    );
    assert_eq!(seen(&scene), Quality::Overexposed);
    assert_eq!(
        QualityGate::default().push(&sketch, &vec![false; counts.len()], 0),
        Quality::Good
    );
}

#[test]
fn names_are_told_apart() {
    let mut names = Quality::ALL.map(Quality::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Quality::ALL.len());
}
