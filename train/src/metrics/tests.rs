//! The metrics against scikit-learn's numbers, and against their definitions computed the slow way.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;

use super::{Scores, Summary, key, regions::Regions};

/// A score, and the size of its region where it is anomalous.
type Scored = (f32, Option<u32>);

fn summary(scored: &[Scored], regions: u64, run_length: usize) -> Summary {
    let mut scores = Scores::with_run_length(run_length);
    for &(score, region) in scored {
        match region {
            Some(size) => scores.add_anomalous(score, size).unwrap(),
            None => scores.add_normal(score).unwrap(),
        }
    }
    scores.summary(regions).unwrap()
}

fn thresholds(scored: &[Scored]) -> Vec<f32> {
    let mut all: Vec<f32> = scored.iter().map(|s| s.0).collect();
    all.sort_by(|a, b| b.total_cmp(a));
    all.dedup();
    all
}

/// Anomalous and normal ones at or above `threshold`.
fn counts(scored: &[Scored], threshold: f32) -> (f64, f64) {
    let above = scored.iter().filter(|s| s.0 >= threshold);
    let (anomalous, normal): (Vec<&Scored>, Vec<&Scored>) = above.partition(|s| s.1.is_some());
    (anomalous.len() as f64, normal.len() as f64)
}

/// The part of all pairs that is in the right order, a tie counting half.
fn slow_auroc(scored: &[Scored]) -> f64 {
    let anomalous = scored.iter().filter(|s| s.1.is_some());
    let mut pairs = Vec::new();
    for a in anomalous {
        for n in scored.iter().filter(|s| s.1.is_none()) {
            pairs.push(match a.0.partial_cmp(&n.0).unwrap() {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            });
        }
    }
    pairs.iter().sum::<f64>() / pairs.len() as f64
}

fn slow_ap_and_f1(scored: &[Scored]) -> (f64, f64) {
    let (all, _) = counts(scored, f32::NEG_INFINITY);
    let (mut ap, mut f1, mut recall) = (0.0, 0.0_f64, 0.0);
    for threshold in thresholds(scored) {
        let (anomalous, normal) = counts(scored, threshold);
        let precision = anomalous / (anomalous + normal);
        ap += (anomalous / all - recall) * precision;
        recall = anomalous / all;
        f1 = f1.max(2.0 * anomalous / (all + anomalous + normal));
    }
    (ap, f1)
}

/// The mean part found of each region against the false positive rate, by region, up to 0.3.
fn slow_aupro(regions: &[Vec<f32>], normal: &[f32]) -> f64 {
    let part = |scores: &[f32], t: f32| {
        scores.iter().filter(|s| **s >= t).count() as f64 / scores.len() as f64
    };
    let scored: Vec<Scored> = regions
        .iter()
        .flatten()
        .chain(normal)
        .map(|s| (*s, None))
        .collect();
    let mut points = vec![(0.0, 0.0)];
    for t in thresholds(&scored) {
        let pro = regions.iter().map(|region| part(region, t)).sum::<f64>();
        points.push((part(normal, t), pro / regions.len() as f64));
    }
    let mut area = 0.0;
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        if x0 < 0.3 && x1 > x0 {
            let end = x1.min(0.3);
            let y = y0 + (y1 - y0) * (end - x0) / (x1 - x0);
            area += (end - x0) * (y0 + y) / 2.0;
        }
    }
    area / 0.3
}

fn close(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 1e-12)
}

proptest! {
    #[test]
    fn tied_scores_give_what_the_definitions_say(
        regions in prop::collection::vec(prop::collection::vec(-4_i8..4, 1..6), 1..5),
        normal in prop::collection::vec(-4_i8..4, 1..40),
        run_length in 1_usize..50,
    ) {
        let score = |s: &i8| f32::from(*s) * 0.1;
        let regions: Vec<Vec<f32>> = regions.iter().map(|r| r.iter().map(score).collect()).collect();
        let normal: Vec<f32> = normal.iter().map(score).collect();
        let mut scored: Vec<Scored> = normal.iter().map(|s| (*s, None)).collect();
        for region in &regions {
            scored.extend(region.iter().map(|s| (*s, Some(region.len() as u32))));
        }
        let found = summary(&scored, regions.len() as u64, run_length);
        let (ap, f1) = slow_ap_and_f1(&scored);
        prop_assert!(close(found.auroc, slow_auroc(&scored)), "AUROC {:?}", found.auroc);
        prop_assert!(close(found.ap, ap), "AP {:?} {ap}", found.ap);
        prop_assert!(close(found.f1_max, f1), "F1 {:?} {f1}", found.f1_max);
        let aupro = slow_aupro(&regions, &normal);
        prop_assert!(close(found.aupro, aupro), "AUPRO {:?} {aupro}", found.aupro);
    }

    #[test]
    fn spilling_changes_nothing(
        scores in prop::collection::vec((prop::num::f32::NORMAL | prop::num::f32::ZERO, any::<bool>()), 1..200),
        run_length in 1_usize..20,
    ) {
        let scored: Vec<Scored> = scores.iter().map(|(s, a)| (*s, a.then_some(1))).collect();
        prop_assert_eq!(
            summary(&scored, 1, run_length),
            summary(&scored, 1, usize::MAX)
        );
    }

    #[test]
    fn keys_sort_as_scores_do(a in prop::num::f32::ANY, b in prop::num::f32::ANY) {
        match (key(a), key(b)) {
            (Ok(x), Ok(y)) => prop_assert_eq!(Some(x.cmp(&y)), a.partial_cmp(&b)),
            _ => prop_assert!(a.is_nan() || b.is_nan()),
        }
    }
}

#[test]
fn scikit_learn_agrees() {
    let shared = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        Into::into,
    );
    let path = shared.join("golden/metrics.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!(
            "skipped: {} is not there (set ACDCLIP_SHARED)",
            path.display()
        );
        return;
    };
    #[derive(serde::Deserialize)]
    struct Case {
        labels: Vec<u8>,
        scores: Vec<f32>,
        auroc: f64,
        ap: f64,
        f1_max: f64,
    }
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let labels = case.labels.iter().map(|label| (*label == 1).then_some(1));
        let scored: Vec<Scored> = case.scores.iter().copied().zip(labels).collect();
        let found = summary(&scored, 1, 64);
        assert!(close(found.auroc, case.auroc), "{:?}", found.auroc);
        assert!(close(found.ap, case.ap), "{:?}", found.ap);
        assert!(close(found.f1_max, case.f1_max), "{:?}", found.f1_max);
    }
}

#[test]
fn one_label_has_no_ranking_and_nan_no_rank() {
    assert_eq!(
        summary(&[(0.1, None), (0.2, None)], 0, 9),
        Summary::default()
    );
    assert_eq!(summary(&[(0.1, Some(1))], 1, 9), Summary::default());
    assert!(Scores::default().add_normal(f32::NAN).is_err());
    assert!(Scores::default().add_anomalous(-f32::NAN, 1).is_err());
}

#[test]
fn a_perfect_map_is_perfect_and_a_constant_one_is_chance() {
    let mask = [false, true, true, false, false, true, false, false, false];
    let regions = Regions::find(&mask, 3);
    let scored = |map: &[f32]| -> Vec<Scored> {
        let sizes = regions
            .sizes
            .iter()
            .map(|size| (*size > 0).then_some(*size));
        map.iter().copied().zip(sizes).collect()
    };
    let perfect: Vec<f32> = mask.iter().map(|m| f32::from(u8::from(*m))).collect();
    let found = summary(&scored(&perfect), regions.count, 9);
    for metric in [found.auroc, found.ap, found.f1_max, found.aupro] {
        assert!(close(metric, 1.0), "{metric:?}");
    }
    let constant = summary(&scored(&[0.5; 9]), regions.count, 9);
    assert!(close(constant.auroc, 0.5) && close(constant.ap, 1.0 / 3.0));
    // The straight line from (0, 0) to (1, 1), up to 0.3.
    assert!(close(constant.aupro, 0.15));
}
