//! Operations that exist in a quick form and in a plain form of candle's own operations.
//!
//! Without gradients the quick form is candle's, or one of [`crate::kernels`]. With gradients it is the same, put into the graph with a
//! backward pass of its own ([`crate::graft`]): what is frozen gets no gradient, and what can be computed again is not kept. The plain
//! forms are what both are tested against, and what is left where neither applies.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::Linear;

use crate::{
    config::Activation,
    graft::graft,
    kernels::{
        self,
        backward::{ActivationBackward, NormBackward, SoftmaxBackward},
        gelu::BiasActivation,
        softmax::Softmax,
    },
};

/// Smallest norm divided by, as in PyTorch's `normalize`.
const MIN_NORM: f64 = 1e-12;

/// Softmax over the last dimension. Takes `x` over: its numbers may be overwritten, so nobody else may hold it.
pub fn softmax(x: Tensor) -> Result<Tensor> {
    if kernels::apply_to(&x) {
        x.inplace_op1(&Softmax)?;
        Ok(x)
    } else if kernels::apply_to(&x.detach()) {
        let y = x.detach().copy()?;
        y.inplace_op1(&Softmax)?;
        graft(&x, y, |_, y, gradient| {
            let gradient = gradient.force_contiguous()?;
            gradient.inplace_op2(y, &SoftmaxBackward(y.dim(D::Minus1)?))?;
            Ok(gradient)
        })
    } else if x.track_op() {
        candle_nn::ops::softmax(&x, D::Minus1)
    } else {
        candle_nn::ops::softmax_last_dim(&x.contiguous()?)
    }
}

/// A linear layer: [..., in] -> [..., out]. A frozen one passes gradients through and gets none.
pub fn linear(x: &Tensor, linear: &Linear) -> Result<Tensor> {
    if !x.track_op() || linear.weight().track_op() {
        return linear.forward(x);
    }
    let weight = linear.weight().clone(); // [out, in]
    graft(x, linear.forward(&x.detach())?, move |x, _, gradient| {
        let (out, _) = weight.dims2()?;
        gradient
            .reshape(((), out))?
            .matmul(&weight)?
            .reshape(x.shape())
    })
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
        _ => apply_activation(&self::linear(x, linear)?, activation),
    }
}

/// An activation, in the graph.
fn apply_activation(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if !kernels::apply_to(&x.detach()) {
        return activation_plain(x, activation);
    }
    let no_bias = Tensor::zeros(x.dim(D::Minus1)?, DType::F32, x.device())?;
    let y = x.detach().copy()?;
    y.inplace_op2(&no_bias, &BiasActivation(activation))?;
    graft(x, y, move |x, _, gradient| {
        let gradient = gradient.force_contiguous()?;
        gradient.inplace_op2(x, &ActivationBackward(activation))?;
        Ok(gradient)
    })
}

/// [`linear_activation`] by operations that candle can differentiate.
pub fn linear_activation_plain(
    x: &Tensor,
    linear: &Linear,
    activation: Activation,
) -> Result<Tensor> {
    activation_plain(&linear.forward(x)?, activation)
}

fn activation_plain(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
    }
}

/// LayerNorm over the last dimension, by population variance.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let quick = |x: &Tensor| candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps as f32);
    if [weight, bias].iter().any(|t| t.track_op()) {
        layer_norm_plain(x, weight, bias, eps)
    } else if !x.track_op() {
        quick(x)
    } else if kernels::apply_to(&x.detach()) {
        let weight = weight.clone();
        graft(x, quick(&x.detach())?, move |x, _, gradient| {
            let gradient = gradient.broadcast_mul(&weight)?;
            let width = x.dim(D::Minus1)?;
            let eps = eps as f32;
            gradient.inplace_op2(x, &NormBackward { width, eps })?;
            Ok(gradient)
        })
    } else {
        layer_norm_plain(x, weight, bias, eps)
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
