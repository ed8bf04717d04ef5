//! Which learning rate when.

use std::f64::consts::PI;

use super::recipe::{Decay, OptimizerPart};

/// Where a run is: epochs and steps from 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The epoch under way.
    pub(crate) epoch: usize,
    /// The step to be taken, of the whole run.
    pub(crate) step: u64,
    /// Steps of the whole run.
    pub(crate) steps: u64,
}

/// What the rates are multiplied by at `place`: falling by a factor an epoch or along a cosine, and rising linearly over the first steps
/// where that is asked for.
pub(crate) fn factor(recipe: &OptimizerPart, place: Place) -> f64 {
    let fallen = match recipe.schedule {
        Decay::Epoch => recipe
            .decay
            .powi(i32::try_from(place.epoch).unwrap_or(i32::MAX)),
        Decay::Cosine => {
            let done = place.step as f64 / place.steps.max(1) as f64;
            0.5 * (1.0 + (PI * done.min(1.0)).cos())
        }
    };
    let warm = (place.step + 1) as f64 / recipe.warmup_steps.max(1) as f64;
    fallen * warm.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: usize, step: u64) -> Place {
        Place {
            epoch,
            step,
            steps: 1000,
        }
    }

    #[test]
    fn rates_fall_by_a_tenth_an_epoch() {
        let recipe = OptimizerPart::default();
        assert_eq!(factor(&recipe, at(0, 0)), 1.0);
        assert!((factor(&recipe, at(3, 999)) - 0.729).abs() < 1e-12);
    }

    #[test]
    fn a_cosine_falls_from_the_full_rate_to_none() {
        let recipe = OptimizerPart {
            schedule: Decay::Cosine,
            ..OptimizerPart::default()
        };
        assert_eq!(factor(&recipe, at(0, 0)), 1.0);
        assert!((factor(&recipe, at(1, 500)) - 0.5).abs() < 1e-12);
        assert!(factor(&recipe, at(2, 999)) < 1e-5);
        assert!(factor(&recipe, at(3, 5000)).abs() < 1e-12);
    }

    #[test]
    fn a_warm_up_rises_to_the_full_rate() {
        let recipe = OptimizerPart {
            warmup_steps: 4,
            ..OptimizerPart::default()
        };
        let factors = [0, 1, 3, 4].map(|step| factor(&recipe, at(0, step)));
        assert_eq!(factors, [0.25, 0.5, 1.0, 1.0]);
    }
}
