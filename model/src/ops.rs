//! Operations that exist in a quick form without a backward pass and in a plain form with one.
//!
//! The quick form (candle's, or one of [`crate::kernels`]) is taken exactly when nothing that goes in is tracked, so that the same modules
//! serve inference and training.

use candle_core::{D, Module, Result, Tensor};
use candle_nn::Linear;

use crate::{
    config::Activation,
    kernels::{self, gelu::BiasActivation, softmax::Softmax},
};

/// Smallest norm divided by, as in PyTorch's `normalize`.
const MIN_NORM: f64 = 1e-12;

/// Softmax over the last dimension. Takes `x` over: its numbers may be overwritten, so nobody else may hold it.
pub fn softmax(x: Tensor) -> Result<Tensor> {
    if kernels::apply_to(&x) {
        x.inplace_op1(&Softmax)?;
        Ok(x)
    } else if x.track_op() {
        candle_nn::ops::softmax(&x, D::Minus1)
    } else {
        candle_nn::ops::softmax_last_dim(&x.contiguous()?)
    }
}

/// A linear layer and the activation after it: [..., in] -> [..., out].
pub fn linear_activation(x: &Tensor, linear: &Linear, activation: Activation) -> Result<Tensor> {
    let tracked = x.track_op() || linear.weight().track_op();
    match linear.bias() {
        Some(bias) if !tracked && kernels::apply_to(bias) => {
            let hidden = Linear::new(linear.weight().clone(), None).forward(x)?;
            hidden.inplace_op2(bias, &BiasActivation(activation))?;
            Ok(hidden)
        }
        _ => linear_activation_plain(x, linear, activation),
    }
}

/// [`linear_activation`] by operations that candle can differentiate.
pub fn linear_activation_plain(
    x: &Tensor,
    linear: &Linear,
    activation: Activation,
) -> Result<Tensor> {
    let hidden = linear.forward(x)?;
    match activation {
        Activation::Gelu => hidden.gelu_erf(),
        Activation::QuickGelu => &hidden * candle_nn::ops::sigmoid(&(&hidden * 1.702)?)?,
    }
}

/// LayerNorm over the last dimension, by population variance.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    if [x, weight, bias].iter().any(|t| t.track_op()) {
        layer_norm_plain(x, weight, bias, eps)
    } else {
        candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps as f32)
    }
}

/// [`layer_norm`] by operations that candle can differentiate.
pub fn layer_norm_plain(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred
        .broadcast_div(&(variance + eps)?.sqrt()?)?
        .broadcast_mul(weight)?
        .broadcast_add(bias)
}

/// Euclidean norm over the last dimension, kept; never below 1e-12.
pub fn norm(x: &Tensor) -> Result<Tensor> {
    // The guard stands inside the root too: the root's slope at zero is infinite.
    (x.sqr()?.sum_keepdim(D::Minus1)? + MIN_NORM * MIN_NORM)?
        .sqrt()?
        .maximum(MIN_NORM)
}

/// Each vector along the last dimension divided by its norm.
pub fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&norm(x)?)
}
