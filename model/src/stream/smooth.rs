//! Smoothing over time: scores and maps follow what is measured with a time constant, whatever the frame rate.

use crate::{
    calibration::{logit, sigmoid},
    map::MapValues,
};

/// Largest logit that is believed, either way: a probability of 0 or 1 has an infinite one, which nothing could move again.
const CERTAIN: f64 = 20.0;

/// Exponential smoothing of a stream's scores and maps, on logits.
///
/// A value that is no number is as none: what was known before it stays.
#[derive(Debug, Clone, Default)]
pub struct Smoother {
    last: Option<State>,
}

/// What is known at a time, as logits.
#[derive(Debug, Clone)]
struct State {
    time: u64,
    score: f64,
    map: Vec<f64>,
}

impl Smoother {
    /// Takes what was measured at `time` and smooths it: the score, a probability, into the answer, and the values of the map in place.
    ///
    /// `time_constant` is the time in which 63 % of a step are followed, nanoseconds like `time`. With 0 nothing is changed. What was
    /// before counts for nothing at the first call, after a map of another size, and where time went back.
    pub fn push(
        &mut self,
        time: u64,
        time_constant: u64,
        score: f32,
        map: &mut [f32],
        kind: MapValues,
    ) -> f32 {
        if time_constant == 0 {
            self.reset();
            return score;
        }
        let mut state = State {
            time,
            score: logit_of(score, MapValues::Probability),
            map: map.iter().map(|value| logit_of(*value, kind)).collect(),
        };
        if let Some(last) = self.last.take().filter(|last| last.leads_to(&state)) {
            let elapsed = (time - last.time) as f64;
            state.follow(&last, -(-elapsed / time_constant as f64).exp_m1());
        }
        for (value, logit) in map.iter_mut().zip(&state.map) {
            *value = value_of(*logit, kind);
        }
        let score = value_of(state.score, MapValues::Probability);
        self.last = Some(state);
        score
    }

    /// Forgets the map but not the score: the next map is of another part of the picture.
    pub fn forget_map(&mut self) {
        if let Some(last) = &mut self.last {
            last.map.fill(f64::NAN);
        }
    }

    /// Forgets what was measured, at a seam of the stream.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

impl State {
    fn leads_to(&self, next: &Self) -> bool {
        self.time <= next.time && self.map.len() == next.map.len()
    }

    /// From what was measured to what is known: `weight` of it, and the rest of what was known before.
    fn follow(&mut self, before: &Self, weight: f64) {
        self.score = blend(before.score, self.score, weight);
        for (new, old) in self.map.iter_mut().zip(&before.map) {
            *new = blend(*old, *new, weight);
        }
    }
}

fn blend(old: f64, new: f64, weight: f64) -> f64 {
    match (old.is_nan(), new.is_nan()) {
        (true, _) => new,
        (_, true) => old,
        _ => old + (new - old) * weight,
    }
}

fn logit_of(value: f32, kind: MapValues) -> f64 {
    let logit = match kind {
        MapValues::LogitDifference => f64::from(value),
        MapValues::Probability => logit(f64::from(value).clamp(0.0, 1.0)),
    };
    logit.clamp(-CERTAIN, CERTAIN)
}

fn value_of(logit: f64, kind: MapValues) -> f32 {
    match kind {
        MapValues::LogitDifference => logit as f32,
        MapValues::Probability => sigmoid(logit) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [MapValues; 2] = [MapValues::LogitDifference, MapValues::Probability];

    /// The smoothed probability of a stream without a map.
    fn score(smoother: &mut Smoother, time: u64, score: f32) -> f32 {
        smoother.push(time, 1000, score, &mut [], MapValues::Probability)
    }

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-5
    }

    #[test]
    fn after_one_time_constant_a_step_is_followed_by_63_percent() {
        let mut smoother = Smoother::default();
        let kind = MapValues::LogitDifference;
        smoother.push(0, 1000, 0.5, &mut [0.0], kind);
        let mut map = [4.0];
        smoother.push(1000, 1000, 0.5, &mut map, kind);
        assert!(close(map[0], 4.0 * (1.0 - (-1.0f32).exp())), "{map:?}");
    }

    #[test]
    fn certainty_does_not_stick() {
        for (certain, then) in [(1.0, 0.0), (0.0, 1.0)] {
            let mut smoother = Smoother::default();
            for time in 0..100 {
                score(&mut smoother, time * 100, certain);
            }
            let after_two_constants = score(&mut smoother, 9900 + 2000, then);
            assert!((after_two_constants - then).abs() < 0.01);
        }
    }

    #[test]
    fn a_stream_starts_anew_after_a_seam() {
        let mut smoother = Smoother::default();
        let kind = MapValues::Probability;
        smoother.push(5000, 1000, 0.9, &mut [0.9, 0.9], kind);
        let later = |smoother: &mut Smoother, time| {
            let mut map = [0.2, 0.2];
            let score = smoother.push(time, 1000, 0.2, &mut map, kind);
            (score, map)
        };
        let new = |(score, map): (f32, [f32; 2])| close(score, 0.2) && close(map[0], 0.2);
        assert!(!new(later(&mut smoother.clone(), 5001)));
        assert!(new(later(&mut smoother.clone(), 4999)));
        let mut reset = smoother.clone();
        reset.reset();
        assert!(new(later(&mut reset, 5001)));
        assert!(close(
            smoother.push(5001, 1000, 0.2, &mut [0.2; 3], kind),
            0.2
        ));
    }

    #[test]
    fn a_map_of_another_part_begins_anew_while_the_score_goes_on() {
        let mut smoother = Smoother::default();
        let kind = MapValues::Probability;
        smoother.push(0, 1000, 0.9, &mut [0.9, 0.9], kind);
        let mut other = smoother.clone();
        other.forget_map();
        let (mut map, mut new) = ([0.2, 0.2], [0.2, 0.2]);
        let score = smoother.push(1000, 1000, 0.2, &mut map, kind);
        assert_eq!(other.push(1000, 1000, 0.2, &mut new, kind), score);
        assert!(score > 0.3 && map[0] > 0.3, "{score} {map:?}");
        assert!(close(new[0], 0.2) && close(new[1], 0.2), "{new:?}");
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        let mut smoother = Smoother::default();
        assert!(score(&mut smoother, 0, f32::NAN).is_nan());
        assert!(close(score(&mut smoother, 1, 0.7), 0.7));
        assert!(close(score(&mut smoother, 500, f32::NAN), 0.7));
        assert!(close(score(&mut smoother, 1000, 0.7), 0.7));
    }

    proptest! {
        #[test]
        fn without_a_time_constant_nothing_is_changed(
            frames in prop::collection::vec((any::<u64>(), any::<f32>(), any::<f32>()), 1..20)
        ) {
            let mut smoother = Smoother::default();
            for (time, score, value) in frames {
                for kind in KINDS {
                    let mut map = [value];
                    let smoothed = smoother.push(time, 0, score, &mut map, kind);
                    prop_assert_eq!(smoothed.to_bits(), score.to_bits());
                    prop_assert_eq!(map[0].to_bits(), value.to_bits());
                }
            }
        }

        #[test]
        fn the_frame_rate_does_not_matter(
            steps in prop::collection::vec((1u64..50, 0.0f32..=1.0), 1..10),
            time_constant in 1u64..100_000,
            finer in 2u64..6,
        ) {
            let (mut coarse, mut fine) = (Smoother::default(), Smoother::default());
            let mut time = 0;
            for (frames, value) in steps {
                for _ in 0..frames {
                    time += 600;
                    let mut smoothed = [value];
                    let whole = coarse.push(time, time_constant, value, &mut smoothed, KINDS[1]);
                    // Both start with the same frame.
                    let parts = if fine.last.is_none() { 1 } else { finer };
                    for part in (0..parts).rev() {
                        let mut map = [value];
                        let at = time - part * (600 / finer);
                        let score = fine.push(at, time_constant, value, &mut map, KINDS[1]);
                        if part == 0 {
                            prop_assert!(close(score, whole), "{} and {}", score, whole);
                            prop_assert!(close(map[0], smoothed[0]));
                        }
                    }
                }
            }
        }

        #[test]
        fn both_kinds_of_map_are_smoothed_alike(
            // Further out an f32 next to 1 rounds its logit visibly.
            frames in prop::collection::vec((0u64..3000, -4.0f32..4.0), 1..20)
        ) {
            let (mut logits, mut probabilities) = (Smoother::default(), Smoother::default());
            let mut time = 0;
            for (elapsed, value) in frames {
                time += elapsed;
                let probability = sigmoid(f64::from(value)) as f32;
                let (mut as_logit, mut as_probability) = ([value], [probability]);
                logits.push(time, 1000, probability, &mut as_logit, KINDS[0]);
                let score = probabilities.push(time, 1000, probability, &mut as_probability, KINDS[1]);
                prop_assert!(close(sigmoid(f64::from(as_logit[0])) as f32, as_probability[0]));
                prop_assert!(close(score, as_probability[0]));
            }
        }
    }
}
