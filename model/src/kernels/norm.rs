//! LayerNorm of one row, for kernels that go on with it at once.

use super::reduce;

/// Weight and bias of a LayerNorm, and its epsilon.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) eps: f32,
}

impl Norm {
    /// `x = norm(x)`, by population variance.
    #[inline(always)]
    pub(crate) fn in_place(&self, x: &mut [f32]) {
        let (mean, factor) = self.moments(x);
        let affine = self.weight.iter().zip(&self.bias);
        for (x, (weight, bias)) in x.iter_mut().zip(affine) {
            *x = (*x - mean) * factor * weight + bias;
        }
    }

    /// `out = norm(x)`, by population variance.
    #[inline(always)]
    pub(crate) fn row(&self, x: &[f32], out: &mut [f32]) {
        let (mean, factor) = self.moments(x);
        let affine = self.weight.iter().zip(&self.bias);
        for ((out, x), (weight, bias)) in out.iter_mut().zip(x).zip(affine) {
            *out = (x - mean) * factor * weight + bias;
        }
    }

    /// Mean, and what makes the deviation from it 1.
    #[inline(always)]
    fn moments(&self, x: &[f32]) -> (f32, f32) {
        let width = x.len() as f32;
        let mean = reduce(x, 0.0, |x| x, |a, b| a + b) / width;
        let variance = reduce(x, 0.0, |x| (x - mean) * (x - mean), |a, b| a + b) / width;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }
}
