//! Backward passes of softmax, activations and LayerNorm: each turns the gradient of what came out into that of what went in, in place.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};

use super::{contiguous, contiguous_mut, exp::exp, for_each_pair};
use crate::config::Activation;

/// `g = y * (g - sum(g * y))` over rows, for y a softmax of rows of that width.
#[derive(Debug, Clone, Copy)]
pub struct SoftmaxBackward(pub usize);

/// `g = g * activation'(x)`
#[derive(Debug, Clone, Copy)]
pub struct ActivationBackward(pub Activation);

/// For rows x of that width, normalised by their mean and standard deviation (with that epsilon): the gradient of x.
#[derive(Debug, Clone, Copy)]
pub struct NormBackward {
    /// Numbers in a row.
    pub width: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// Numbers in a row where rows do not matter.
const ANY_WIDTH: usize = 1 << 10;

impl InplaceOp2 for SoftmaxBackward {
    fn name(&self) -> &'static str {
        "softmax-backward"
    }

    fn cpu_fwd(
        &self,
        gradient: &mut CpuStorage,
        gradient_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<()> {
        let gradient = contiguous_mut(gradient, gradient_layout)?;
        for_each_pair(gradient, contiguous(y, y_layout)?, self.0, softmax);
        Ok(())
    }
}

impl InplaceOp2 for ActivationBackward {
    fn name(&self) -> &'static str {
        "activation-backward"
    }

    fn cpu_fwd(
        &self,
        gradient: &mut CpuStorage,
        gradient_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let gradient = contiguous_mut(gradient, gradient_layout)?;
        let x = contiguous(x, x_layout)?;
        match self.0 {
            Activation::Gelu => for_each_pair(
                gradient,
                x,
                ANY_WIDTH,
                #[inline(always)]
                |g, x| times(g, x, gelu),
            ),
            Activation::QuickGelu => {
                for_each_pair(
                    gradient,
                    x,
                    ANY_WIDTH,
                    #[inline(always)]
                    |g, x| times(g, x, quick_gelu),
                );
            }
        }
        Ok(())
    }
}

impl InplaceOp2 for NormBackward {
    fn name(&self) -> &'static str {
        "norm-backward"
    }

    fn cpu_fwd(
        &self,
        gradient: &mut CpuStorage,
        gradient_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let gradient = contiguous_mut(gradient, gradient_layout)?;
        let x = contiguous(x, x_layout)?;
        for_each_pair(
            gradient,
            x,
            self.width,
            #[inline(always)]
            |g, x| norm(g, x, self.eps),
        );
        Ok(())
    }
}

/// Sums in as many lanes as vectors have, since the order of a float sum is not the compiler's to change.
#[inline(always)]
fn sum(count: usize, f: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let whole = count / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    lanes.iter().sum::<f32>() + (whole..count).map(f).sum::<f32>()
}

#[inline(always)]
fn softmax(gradient: &mut [f32], y: &[f32]) {
    let together = sum(y.len(), |i| gradient[i] * y[i]);
    for (g, y) in gradient.iter_mut().zip(y) {
        *g = y * (*g - together);
    }
}

#[inline(always)]
fn norm(gradient: &mut [f32], x: &[f32], eps: f32) {
    let count = x.len() as f32;
    let mean = sum(x.len(), |i| x[i]) / count;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / count;
    let scale = 1.0 / (variance + eps).sqrt();
    let of_gradient = sum(x.len(), |i| gradient[i]) / count;
    let of_product = sum(x.len(), |i| gradient[i] * (x[i] - mean) * scale) / count;
    for (g, x) in gradient.iter_mut().zip(x) {
        *g = (*g - of_gradient - (x - mean) * scale * of_product) * scale;
    }
}

#[inline(always)]
fn times(gradient: &mut [f32], x: &[f32], slope: impl Fn(f32) -> f32) {
    for (g, x) in gradient.iter_mut().zip(x) {
        *g *= slope(*x);
    }
}

/// `Phi(x) + x phi(x)`
#[inline(always)]
fn gelu(x: f32) -> f32 {
    // 1 / sqrt(2 pi)
    const DENSITY: f32 = 0.398_942_3;
    let (erf, bell) = super::gelu::erf_and_bell(x);
    0.5 * (1.0 + erf) + x * DENSITY * bell
}

/// `s + 1.702 x s (1 - s)` with s the sigmoid of 1.702 x
#[inline(always)]
fn quick_gelu(x: f32) -> f32 {
    let s = 1.0 / (1.0 + exp(-1.702 * x));
    s + 1.702 * x * s * (1.0 - s)
}
