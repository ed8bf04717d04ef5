#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    endoscope::scene::{Scene, circle},
    map::MapValues,
    preprocess::Placement,
};

const GLINTS: [[f64; 2]; 3] = [[90.0, 80.0], [200.0, 60.0], [170.0, 180.0]];

/// Tissue with a few glints, and what else is painted.
fn scene(glints: &[[f64; 2]]) -> Scene {
    shining(glints, 4.0)
}

fn shining(glints: &[[f64; 2]], radius: f64) -> Scene {
    let all = |_: f64, _: f64| true;
    let tissue = Scene::black(320, 240).tissue([0.0; 2], all);
    glints.iter().fold(tissue, |scene, [x, y]| {
        scene.paint(circle(*x, *y, radius), |_, _| [255, 250, 245])
    })
}

fn found(scene: &Scene) -> Highlights {
    let sketch = scene.sketch();
    Highlights::find(&sketch, &vec![true; sketch.luma().len()])
}

fn is_found(highlights: &Highlights, [x, y]: [f64; 2]) -> bool {
    highlights.cells()[(y / 1.25) as usize * 256 + (x / 1.25) as usize]
}

/// A map of 10 patches a side over a picture of 100 x 100 input pixels.
fn map(values: Vec<f32>) -> AnomalyMap {
    let whole = Placement {
        x: 0.0,
        y: 0.0,
        width: 100.0,
        height: 100.0,
    };
    AnomalyMap::new((10, 10), values, MapValues::Probability, (100, 100), whole).unwrap()
}

#[test]
fn glints_are_found_and_nothing_else() {
    let highlights = found(&scene(&GLINTS));
    for glint in GLINTS {
        assert!(is_found(&highlights, glint), "{glint:?}");
    }
    let near = |i: usize| {
        let (x, y) = ((i % 256) as f64 * 1.25, (i / 256) as f64 * 1.25);
        GLINTS
            .iter()
            .any(|glint| (x - glint[0]).hypot(y - glint[1]) < 10.0)
    };
    let cells = highlights.cells().iter().enumerate();
    let elsewhere = cells.filter(|(i, is)| **is && !near(*i)).count();
    assert!(elsewhere < 20, "{elsewhere}");
    assert!(!found(&scene(&[])).cells().iter().any(|is| *is));
}

#[test]
fn a_pale_or_overexposed_part_is_none() {
    let pale = scene(&[]).paint(circle(160.0, 120.0, 45.0), |_, _| [225, 150, 125]);
    let over = scene(&[]).paint(|x, _| x < 80.0, |_, _| [255; 3]);
    for (scene, place) in [(pale, [160.0, 120.0]), (over, [30.0, 120.0])] {
        assert!(!is_found(&found(&scene), place));
    }
}

#[test]
fn what_does_not_count_is_none_and_says_nothing() {
    let sketch = scene(&GLINTS).sketch();
    let none = Highlights::find(&sketch, &vec![false; sketch.luma().len()]);
    assert!(!none.cells().iter().any(|is| *is));
    let tiny = Scene::black(1, 1).sketch();
    assert_eq!(Highlights::find(&tiny, &[true]).cells().len(), 1);
}

#[test]
fn a_lone_glint_is_taken_down_and_one_on_something_abnormal_stays() {
    // Patches of 32 x 24 pixels: one glint in patch (2, 3), one in (7, 5), where all around is abnormal.
    let highlights = found(&shining(&[[80.0, 84.0], [240.0, 132.0]], 8.0));
    let value = |i: usize| {
        let (x, y) = (i % 10, i / 10);
        let abnormal = (6..9).contains(&x) && (4..7).contains(&y);
        match (x, y) {
            (2, 3) => 0.9,
            _ if abnormal => 0.8,
            _ => 0.1,
        }
    };
    let before = map((0..100).map(value).collect());
    let mut after = before.clone();
    highlights.damp(&mut after);
    assert!((after.values()[32] - 0.1).abs() < 1e-6, "the lone one");
    assert!(
        (after.values()[57] - 0.8).abs() < 1e-6,
        "the one on something"
    );
    let pairs = before.values().iter().zip(after.values());
    assert!(pairs.clone().all(|(before, after)| after <= before));
    assert_eq!(pairs.filter(|(before, after)| before != after).count(), 1);
}

#[test]
fn nothing_is_raised_and_a_map_that_shines_all_over_stays() {
    let all = Highlights {
        cells: Cells::new(20, 20, vec![true; 400]),
    };
    let mut whole = map(vec![0.3; 100]);
    all.damp(&mut whole);
    assert_eq!(whole, map(vec![0.3; 100]));
    let highlights = found(&shining(&[[80.0, 84.0]], 8.0));
    let mut low = map((0..100).map(|i| if i == 32 { 0.1 } else { 0.7 }).collect());
    let before = low.clone();
    highlights.damp(&mut low);
    assert_eq!(low, before);
}
