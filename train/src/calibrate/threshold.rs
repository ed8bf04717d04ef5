//! From the values of normal footage to the raw value from which it is an alarm.
//!
//! On video a false alarm is an event: a maximal run of frames at or above the threshold. The number of runs need not fall as a threshold
//! rises: a long run at a low one may be many short ones at a higher. So the threshold looked for is the lowest above which nothing higher
//! has too many runs either. It is found by letting frames rise above it in the order of their values, joining neighbours: O(n log n).
//! Pictures, and frames for a quantile, have no neighbours: each is an event of its own.
//!
//! Between the highest value that would be one event too many and the next one above it, the threshold lies in the middle, in logits. Two
//! cases have no such pair:
//!
//! - Even the highest value is too much, as it always is where the footage is too short to show so low a rate. Then the threshold lies
//!   above it, by an exponential tail: the mean excess, in logits, of the highest tenth of frames over the value that they exceed, times the
//!   logarithm of how many times longer the footage would have to be, at most [`MAX_EXTRAPOLATION`] times; and never less than [`MARGIN`].
//! - Nothing is too much. Then what is normal sets the limit: the threshold is never nearer than [`MIN_SPAN`] logits to the median.

use acdclip_model::calibration::{logit, sigmoid};

/// Logits between the median and the threshold, at least.
const MIN_SPAN: f64 = 0.1;

/// Logits that a threshold lies above the highest value, at least, where it has to lie above it.
const MARGIN: f64 = 0.01;

/// How many times longer than the footage the time may be that a tail is extrapolated to.
const MAX_EXTRAPOLATION: f64 = 20.0;

/// The part of the frames that the tail is estimated from.
const TAIL: f64 = 0.1;

/// Probabilities nearer to 0 or 1 are taken as this near: they are rounded to that in 32 bits.
const NEAREST: f64 = 1e-7;

/// Values in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    values: Vec<f32>,
    /// Whether the value continues the run of the one before it.
    joined: Vec<bool>,
}

/// What a series says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    /// The value that half of the frames reach.
    pub(super) normal: f64,
    /// The value from which it is an alarm.
    pub(super) threshold: f64,
}

/// Between which values a threshold may lie.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    /// The highest value that may not be an alarm.
    below: Option<f32>,
    /// The lowest value above it.
    above: Option<f32>,
}

impl Series {
    /// Adds a value; `joined` if it follows the last one in time.
    pub(super) fn push(&mut self, value: f32, joined: bool) {
        self.joined.push(joined && !self.values.is_empty());
        self.values.push(value);
    }

    /// How many values.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The same values, each on its own.
    pub(super) fn apart(&self) -> Self {
        Self {
            values: self.values.clone(),
            joined: vec![false; self.len()],
        }
    }

    /// Maximal runs of values at or above `threshold`.
    pub(super) fn events(&self, threshold: f64) -> usize {
        let mut before = false;
        let mut events = 0;
        for (value, joined) in self.values.iter().zip(&self.joined) {
            let alarm = f64::from(*value) >= threshold;
            events += usize::from(alarm && !(before && *joined));
            before = alarm;
        }
        events
    }

    /// The threshold at and above which there are at most `allowed` events, as this module's first lines say; `allowed` may be a fraction.
    ///
    /// An error where no threshold below 1 can do that, or where there are no values.
    pub(super) fn threshold(&self, allowed: f64) -> Result<Found, String> {
        let descending = self.descending();
        let Some(&middle) = descending.get(self.len().saturating_sub(1) / 2) else {
            return Err("found nothing to score".into());
        };
        let at = |rank: usize| near_logit(self.values[descending[rank]]);
        let normal = near_logit(self.values[middle]);
        let cut = self.cut(&descending, whole(allowed));
        let looked_for = match (cut.below, cut.above) {
            (Some(below), Some(above)) => (near_logit(below) + near_logit(above)) / 2.0,
            (Some(_), None) => {
                let tail = ((self.len() as f64 * TAIL).ceil() as usize).min(self.len() - 1);
                let excess: f64 = (0..tail).map(|rank| at(rank) - at(tail)).sum();
                let times = (1.0 / allowed).clamp(1.0, MAX_EXTRAPOLATION);
                at(0) + excess / tail.max(1) as f64 * times.ln()
            }
            (None, _) => f64::NEG_INFINITY,
        };
        let mut lowest = normal + MIN_SPAN;
        if let (Some(below), None) = (cut.below, cut.above) {
            lowest = lowest.max(near_logit(below) + MARGIN);
        }
        let threshold = looked_for.max(lowest);
        if threshold > logit(1.0 - NEAREST) {
            let highest = self.values[descending[0]];
            return Err(format!(
                "normal footage is given up to {highest}, and no threshold tells that from an anomaly"
            ));
        }
        Ok(Found {
            normal: sigmoid(normal),
            threshold: sigmoid(threshold),
        })
    }

    fn descending(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|a, b| self.values[*b].total_cmp(&self.values[*a]));
        order
    }

    /// Lets values rise above the threshold from the highest down until there are more than `allowed` runs.
    fn cut(&self, descending: &[usize], allowed: usize) -> Cut {
        let mut risen = vec![false; self.len()];
        let mut runs = 0usize;
        let mut above = None;
        for equal in descending.chunk_by(|a, b| self.values[*a] == self.values[*b]) {
            let value = self.values[equal[0]];
            for &i in equal {
                let with_last = self.joined[i] && risen[i - 1];
                let with_next = self.joined.get(i + 1) == Some(&true) && risen[i + 1];
                risen[i] = true;
                runs = runs + 1 - usize::from(with_last) - usize::from(with_next);
            }
            if runs > allowed {
                return Cut {
                    below: Some(value),
                    above,
                };
            }
            above = Some(value);
        }
        Cut { below: None, above }
    }
}

/// Whether footage that allows so many false alarms is too short to show a single one.
pub(super) fn is_too_few(allowed: f64) -> bool {
    whole(allowed) == 0
}

/// A tenth of ten is one, also where 1 - 0.9 is a little less than a tenth.
fn whole(allowed: f64) -> usize {
    (allowed + 1e-9).floor() as usize
}

fn near_logit(value: f32) -> f64 {
    logit(f64::from(value).clamp(NEAREST, 1.0 - NEAREST))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Files one behind the other.
    fn series(files: &[&[f32]]) -> Series {
        let mut series = Series::default();
        for file in files {
            for (i, value) in file.iter().enumerate() {
                series.push(*value, i > 0);
            }
        }
        series
    }

    #[test]
    fn a_run_is_one_event_and_files_do_not_join() {
        let footage = series(&[&[0.9, 0.9, 0.1, 0.9], &[0.9, 0.9]]);
        assert_eq!(footage.events(0.5), 3);
        assert_eq!(footage.events(0.95), 0);
        assert_eq!(footage.events(0.05), 2);
        assert_eq!(footage.apart().events(0.5), 5);
    }

    #[test]
    fn a_threshold_never_lies_where_a_higher_one_has_more_events() {
        // One run at 0.2, three at 0.5, one at 0.8.
        let footage = series(&[&[0.2, 0.5, 0.2, 0.8, 0.2, 0.5, 0.2]]);
        let found = footage.threshold(1.0).unwrap();
        assert!(found.threshold > 0.5 && found.threshold < 0.8, "{found:?}");
        let middle = sigmoid((logit(0.5) + logit(f64::from(0.8f32))) / 2.0);
        assert!((found.threshold - middle).abs() < 1e-9);
    }

    #[test]
    fn too_short_footage_puts_the_threshold_above_all_that_was_seen() {
        let values: Vec<f32> = (0..100)
            .map(|i| 0.3 + 0.002 * (i * 37 % 100) as f32)
            .collect();
        let footage = series(&[&values]);
        let highest = f64::from(values.iter().copied().fold(0.0, f32::max));
        let of = |allowed| footage.threshold(allowed).unwrap().threshold;
        assert!(of(0.9) > highest && of(0.5) > of(0.9) && of(0.1) > of(0.5));
        assert_eq!(of(0.01), of(1.0 / MAX_EXTRAPOLATION));
        assert_eq!(of(0.0), of(0.01));
    }

    #[test]
    fn footage_that_never_changes_has_a_threshold_above_it() {
        for allowed in [0.0, 0.5, 1.0, 9.0] {
            let found = series(&[&[0.4; 50]]).threshold(allowed).unwrap();
            assert!((found.normal - 0.4).abs() < 1e-6);
            let span = logit(found.threshold) - logit(found.normal);
            assert!((span - MIN_SPAN).abs() < 1e-9, "{allowed}: {span}");
        }
        assert!(series(&[&[0.0; 3]]).threshold(0.5).is_ok());
        assert!(series(&[&[0.4]]).threshold(0.5).is_ok());
    }

    #[test]
    fn what_no_threshold_can_hold_is_an_error() {
        assert!(series(&[]).threshold(1.0).is_err());
        let certain = series(&[&[0.1, 1.0, 0.1, 1.0, 0.1]]);
        assert!(certain.threshold(1.0).unwrap_err().contains("no threshold"));
        assert!(certain.threshold(2.0).is_ok());
    }

    #[test]
    fn a_quantile_is_a_share_of_frames() {
        let values: Vec<f32> = (1..=100).map(|i| i as f32 / 200.0).collect();
        let apart = series(&[&values]).apart();
        for quantile in [0.9, 0.95, 0.99] {
            let allowed = (1.0 - quantile) * 100.0;
            let found = apart.threshold(allowed).unwrap();
            assert_eq!(apart.events(found.threshold), allowed.round() as usize);
        }
    }

    /// The same by counting the runs at every value.
    fn plain_cut(series: &Series, allowed: usize) -> Cut {
        let mut values = series.values.clone();
        values.sort_by(|a, b| b.total_cmp(a));
        values.dedup();
        let too_many = |value: &&f32| series.events(f64::from(**value)) > allowed;
        let below = values.iter().find(too_many).copied();
        let above = values.iter().rev().find(|v| below.is_none_or(|b| **v > b));
        Cut {
            below,
            above: above.copied(),
        }
    }

    proptest! {
        #[test]
        fn the_sweep_finds_what_counting_finds(
            // Few values, so that many are equal.
            frames in prop::collection::vec((0u8..12, prop::bool::weighted(0.9)), 1..80),
            allowed in 0usize..8,
        ) {
            let mut series = Series::default();
            for (value, joined) in frames {
                series.push(f32::from(value + 1) / 16.0, joined);
            }
            let cut = series.cut(&series.descending(), allowed);
            prop_assert_eq!(cut, plain_cut(&series, allowed));
            let found = series.threshold(allowed as f64).unwrap();
            prop_assert!(found.threshold > found.normal);
            for higher in 0..20 {
                let threshold = found.threshold + f64::from(higher) / 20.0;
                prop_assert!(series.events(threshold) <= allowed);
            }
        }
    }
}
