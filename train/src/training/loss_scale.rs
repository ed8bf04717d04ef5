//! The factor on the loss that keeps small gradients from becoming zero in f16, and the bookkeeping that finds it.
//!
//! As in Micikevicius et al., "Mixed Precision Training" (arXiv 1710.03740), and PyTorch's `GradScaler`, with its numbers.

use serde::{Deserialize, Serialize};

/// Where the factor starts.
const START: f64 = 65_536.0;

/// Steps without an overflow after which a larger factor is tried.
const PATIENCE: u32 = 2_000;

/// Below it gradients that are not finite are no matter of the factor.
const LEAST: f64 = 1.0;

/// The factor, and how long it has held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    factor: f64,
    held: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            factor: START,
            held: 0,
        }
    }
}

impl LossScale {
    /// What losses are multiplied by, and gradients divided.
    pub(crate) fn factor(&self) -> f64 {
        self.factor
    }

    /// A step's gradients were finite.
    pub(crate) fn hold(&mut self) {
        self.held += 1;
        if self.held == PATIENCE {
            self.factor *= 2.0;
            self.held = 0;
        }
    }

    /// A step's gradients were not finite. Whether another factor may help.
    pub(crate) fn fall(&mut self) -> bool {
        self.factor /= 2.0;
        self.held = 0;
        self.factor >= LEAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_halves_at_an_overflow_and_doubles_when_it_has_long_held() {
        let mut scale = LossScale::default();
        assert!(scale.fall());
        assert_eq!(scale.factor(), START / 2.0);
        for _ in 0..PATIENCE {
            scale.hold();
        }
        assert_eq!(scale.factor(), START);
    }

    #[test]
    fn an_overflow_that_no_factor_mends_comes_to_an_end() {
        let mut scale = LossScale::default();
        let falls = (0..100).take_while(|_| scale.fall()).count();
        assert_eq!(falls, 16);
    }
}
