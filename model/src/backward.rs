//! Backward passes of a block's operations: the gradient of what came out into the gradient of what went in.
//!
//! Each is one of [`crate::kernels::backward`] where that applies, and candle's own operations, in f32, on any other device and in half
//! precision. The second are what the first are tested against.

use candle_core::{D, DType, Result, Tensor};

use crate::{
    config::Activation,
    kernels::{
        self,
        backward::{ActivationBackward, NormBackward, SoftmaxBackward},
    },
};

/// Whether the kernels apply to both a gradient and what it is computed with.
fn kernels_apply(gradient: &Tensor, with: &Tensor) -> bool {
    gradient.dtype() == DType::F32 && kernels::apply_to(with)
}

/// Of a softmax over the last dimension whose result was `y`.
pub(crate) fn softmax(y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if !kernels_apply(gradient, y) {
        return softmax_plain(y, gradient);
    }
    let gradient = gradient.force_contiguous()?;
    gradient.inplace_op2(y, &SoftmaxBackward(y.dim(D::Minus1)?))?;
    Ok(gradient)
}

fn softmax_plain(y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (wide_y, wide) = (y.to_dtype(DType::F32)?, gradient.to_dtype(DType::F32)?);
    let together = (&wide * &wide_y)?.sum_keepdim(D::Minus1)?;
    (wide.broadcast_sub(&together)? * wide_y)?.to_dtype(gradient.dtype())
}

/// Of an activation of `x`.
pub(crate) fn activation(kind: Activation, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if !kernels_apply(gradient, x) {
        return activation_plain(kind, x, gradient);
    }
    let gradient = gradient.force_contiguous()?;
    gradient.inplace_op2(x, &ActivationBackward(kind))?;
    Ok(gradient)
}

fn activation_plain(kind: Activation, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?;
    let slope = match kind {
        Activation::Gelu => gelu_slope(&x)?,
        Activation::QuickGelu => quick_gelu_slope(&x)?,
    };
    (gradient.to_dtype(DType::F32)? * slope)?.to_dtype(gradient.dtype())
}

/// `Phi(x) + x phi(x)`
fn gelu_slope(x: &Tensor) -> Result<Tensor> {
    let below = (x * std::f64::consts::FRAC_1_SQRT_2)?
        .erf()?
        .affine(0.5, 0.5)?;
    let density = (x.sqr()? * -0.5)?.exp()? * (2.0 * std::f64::consts::PI).powf(-0.5);
    below + (x * density?)?
}

/// `s + 1.702 x s (1 - s)` with s the sigmoid of 1.702 x
fn quick_gelu_slope(x: &Tensor) -> Result<Tensor> {
    let s = candle_nn::ops::sigmoid(&(x * 1.702)?)?;
    let rest = ((x * 1.702)? * (&s * s.affine(-1.0, 1.0)?)?)?;
    s + rest
}

/// Of rows `x` that were normalised by their mean and standard deviation, with `eps` in the variance.
pub(crate) fn norm(x: &Tensor, gradient: &Tensor, eps: f64) -> Result<Tensor> {
    if !kernels_apply(gradient, x) {
        return norm_plain(x, gradient, eps);
    }
    let gradient = gradient.force_contiguous()?;
    let (width, eps) = (x.dim(D::Minus1)?, eps as f32);
    gradient.inplace_op2(x, &NormBackward { width, eps })?;
    Ok(gradient)
}

fn norm_plain(x: &Tensor, gradient: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = |t: &Tensor| t.mean_keepdim(D::Minus1);
    let (x, wide) = (x.to_dtype(DType::F32)?, gradient.to_dtype(DType::F32)?);
    let centred = x.broadcast_sub(&mean(&x)?)?;
    let scale = (mean(&centred.sqr()?)? + eps)?.sqrt()?.recip()?;
    let normal = centred.broadcast_mul(&scale)?;
    let along = normal.broadcast_mul(&mean(&(&wide * &normal)?)?)?;
    let rest = (wide.broadcast_sub(&mean(&wide)?)? - along)?;
    rest.broadcast_mul(&scale)?.to_dtype(gradient.dtype())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Rows of numbers that no two runs differ in.
    fn rows(seed: f32) -> Tensor {
        let values: Vec<f32> = (0..7 * 33)
            .map(|i| ((i as f32 + seed) * 0.7).sin() * 3.0)
            .collect();
        Tensor::from_vec(values, (7, 33), &Device::Cpu).unwrap()
    }

    fn gap(a: &Tensor, b: &Tensor) -> f32 {
        let wide = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
        let gap = (wide(a) - wide(b)).unwrap().abs().unwrap();
        gap.max_all().unwrap().to_scalar().unwrap()
    }

    /// The kernel, the plain form, and the plain form in both half precisions.
    fn assert_alike(f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>, with: &Tensor) {
        let gradient = rows(5.0);
        let quick = f(with, &gradient).unwrap();
        for (dtype, allowed) in [(DType::F16, 2e-2), (DType::BF16, 1e-1)] {
            let narrow = |t: &Tensor| t.to_dtype(dtype).unwrap();
            let half = f(&narrow(with), &narrow(&gradient)).unwrap();
            assert_eq!(half.dtype(), dtype);
            assert!(
                gap(&quick, &half) < allowed,
                "{dtype:?}: {}",
                gap(&quick, &half)
            );
        }
    }

    #[test]
    fn softmax_has_one_gradient_in_every_form() {
        let y = candle_nn::ops::softmax_last_dim(&rows(0.0)).unwrap();
        let quick = softmax(&y, &rows(5.0)).unwrap();
        assert!(gap(&quick, &softmax_plain(&y, &rows(5.0)).unwrap()) < 1e-6);
        assert_alike(softmax, &y);
    }

    #[test]
    fn activations_have_one_gradient_in_every_form() {
        let x = rows(0.0);
        for kind in [Activation::Gelu, Activation::QuickGelu] {
            let quick = activation(kind, &x, &rows(5.0)).unwrap();
            let plain = activation_plain(kind, &x, &rows(5.0)).unwrap();
            assert!(gap(&quick, &plain) < 1e-5, "{kind:?}");
            assert_alike(|x, gradient| activation(kind, x, gradient), &x);
        }
    }

    #[test]
    fn norms_have_one_gradient_in_every_form() {
        let x = rows(0.0);
        let quick = norm(&x, &rows(5.0), 1e-5).unwrap();
        assert!(gap(&quick, &norm_plain(&x, &rows(5.0), 1e-5).unwrap()) < 1e-5);
        assert_alike(|x, gradient| norm(x, gradient, 1e-5), &x);
    }
}
