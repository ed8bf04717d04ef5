//! Bias and GELU (or QuickGELU) in one pass over a layer's output.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};

use super::{contiguous_mut, exp::exp, for_each_row};
use crate::config::Activation;

/// `x = activation(x + bias)`, for x [..., W] and bias [W].
#[derive(Debug, Clone, Copy)]
pub struct BiasActivation(pub Activation);

/// The error function of x / sqrt(2), by Abramowitz and Stegun 7.1.26 (within 1.5e-7), and exp(-x^2 / 2).
#[inline(always)]
pub(super) fn erf_and_bell(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152_1;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_72;
    let p = p * t + 0.254_829_6;
    let bell = exp(-z * z);
    ((1.0 - p * t * bell).copysign(x), bell)
}

/// `x * Phi(x)`
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf_and_bell(x).0)
}

/// `x * Phi(x)`, Phi within 4e-5 and exact where it is 0 or 1 beyond four deviations: for results that are rounded to bf16 and machines that
/// multiply and add in one instruction. The polynomial is the nearest one of its degree.
#[inline(always)]
pub(crate) fn gelu_near(x: f32) -> f32 {
    let z = x.clamp(-4.0, 4.0);
    let square = z * z;
    let p = (-1.280_902e-9_f32).mul_add(square, 1.046_144e-7);
    let p = p.mul_add(square, -3.713_634_4e-6);
    let p = p.mul_add(square, 7.623_772_4e-5);
    let p = p.mul_add(square, -1.021_343_6e-3);
    let p = p.mul_add(square, 9.582_334e-3);
    let p = p.mul_add(square, -6.606_539e-2);
    let p = p.mul_add(square, 0.398_806_04);
    x * p.mul_add(z, 0.5)
}

/// `x * sigmoid(1.702 x)`
#[inline(always)]
pub(crate) fn quick_gelu(x: f32) -> f32 {
    x / (1.0 + exp(-1.702 * x))
}

impl InplaceOp2 for BiasActivation {
    fn name(&self) -> &'static str {
        "bias-activation"
    }

    fn cpu_fwd(
        &self,
        storage: &mut CpuStorage,
        layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<()> {
        let bias = match bias_layout.contiguous_offsets() {
            Some((start, end)) => &bias.as_slice::<f32>()?[start..end],
            None => candle_core::bail!("a bias wants to be contiguous, found {bias_layout:?}"),
        };
        with_bias(contiguous_mut(storage, layout)?, bias, self.0);
        Ok(())
    }
}

/// `x = activation(x + bias)` for rows of the bias' length.
fn with_bias(values: &mut [f32], bias: &[f32], activation: Activation) {
    match activation {
        Activation::Gelu => for_each_row(
            values,
            bias.len(),
            #[inline(always)]
            |row| apply(row, bias, gelu),
        ),
        Activation::QuickGelu => {
            for_each_row(
                values,
                bias.len(),
                #[inline(always)]
                |row| apply(row, bias, quick_gelu),
            );
        }
    }
}

#[inline(always)]
fn apply(row: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    for (x, bias) in row.iter_mut().zip(bias) {
        *x = f(*x + bias);
    }
}

#[cfg(test)]
mod tests {
    use super::{gelu, gelu_near};

    #[test]
    fn the_near_one_is_near() {
        for i in -200_000..200_000 {
            let x = i as f32 / 1000.0;
            let (exact, near) = (gelu(x), gelu_near(x));
            let within = 1.3e-4 + 2e-6 * x.abs();
            assert!((near - exact).abs() < within, "{x}: {near} for {exact}");
        }
        assert!(gelu_near(f32::NAN).is_nan());
        assert!(!gelu_near(f32::INFINITY).is_finite());
    }
}
