//! Operations that exist in a quick form and in a plain form of candle's own operations.
//!
//! Without gradients the quick form is candle's, or one of [`crate::kernels`]. With gradients it is the same, put into the graph with a
//! backward pass of its own ([`crate::backward`]): what is frozen gets no gradient, and what can be computed again is not kept. The plain
//! forms are what both are tested against, and what is left where weights are trained.
//!
//! Half precision is for GPUs. On the CPU, where candle multiplies no bf16 at all, halves are computed in f32 and rounded: slow, and the
//! same steps as there.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::Linear;

use crate::{
    backward,
    config::Activation,
    graft::graft,
    kernels::{self, gelu::BiasActivation, softmax::Softmax},
};

/// Smallest norm divided by, as in PyTorch's `normalize`.
pub(crate) const MIN_NORM: f64 = 1e-12;

/// Most numbers that a softmax on a GPU may have: candle's CUDA kernel counts them with 32 bits and a sign.
const MOST_ON_GPU: usize = i32::MAX as usize;

/// Whether `x` is in half precision on the CPU.
fn is_half_on_cpu(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F16 | DType::BF16)
}

/// `f` of `x` in f32, rounded to what `x` is.
fn widened(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    f(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

/// Product of two stacks of matrices, [..., m, k] and [..., k, n]; leading dimensions are broadcast.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match is_half_on_cpu(a) {
        true => widened(a, |a| a.broadcast_matmul(&b.to_dtype(DType::F32)?)),
        false => a.broadcast_matmul(b),
    }
}

/// Softmax over the last dimension. Takes `x` over: its numbers may be overwritten, so nobody else may hold it.
pub fn softmax(x: Tensor) -> Result<Tensor> {
    if !x.track_op() {
        return softmax_quick(x);
    }
    let own = match kernels::apply_to(&x.detach()) {
        true => x.detach().copy()?,
        false => x.detach(),
    };
    graft(&x, softmax_quick(own)?, |_, y, gradient| {
        backward::softmax(y, gradient)
    })
}

fn softmax_quick(x: Tensor) -> Result<Tensor> {
    if kernels::apply_to(&x) {
        x.inplace_op1(&Softmax)?;
        Ok(x)
    } else if is_half_on_cpu(&x) {
        widened(&x, |x| softmax_quick(x.contiguous()?))
    } else {
        if x.elem_count() > MOST_ON_GPU {
            candle_core::bail!(
                "softmax: wanted at most {MOST_ON_GPU} numbers, found {}; score fewer pictures at once",
                x.elem_count()
            );
        }
        candle_nn::ops::softmax_last_dim(&x.contiguous()?)
    }
}

/// A linear layer: [..., in] -> [..., out]. A frozen one passes gradients through and gets none.
pub fn linear(x: &Tensor, linear: &Linear) -> Result<Tensor> {
    if !x.track_op() || linear.weight().track_op() {
        return linear_forward(x, linear);
    }
    let weight = linear.weight().clone(); // [out, in]
    let y = linear_forward(&x.detach(), linear)?;
    graft(x, y, move |x, _, gradient| {
        let (out, _) = weight.dims2()?;
        matmul(&gradient.reshape(((), out))?, &weight)?.reshape(x.shape())
    })
}

fn linear_forward(x: &Tensor, linear: &Linear) -> Result<Tensor> {
    if !is_half_on_cpu(x) {
        return linear.forward(x);
    }
    let wide = |t: &Tensor| t.to_dtype(DType::F32);
    let bias = linear.bias().map(wide).transpose()?;
    let layer = Linear::new(wide(linear.weight())?, bias);
    widened(x, |x| layer.forward(x))
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
    if !x.track_op() {
        return activation_quick(x, activation);
    }
    let y = activation_quick(&x.detach(), activation)?;
    graft(x, y, move |x, _, gradient| {
        backward::activation(activation, x, gradient)
    })
}

fn activation_quick(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if !kernels::apply_to(x) {
        return activation_plain(x, activation);
    }
    let no_bias = Tensor::zeros(x.dim(D::Minus1)?, DType::F32, x.device())?;
    let y = x.copy()?;
    y.inplace_op2(&no_bias, &BiasActivation(activation))?;
    Ok(y)
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
    if [weight, bias].iter().any(|t| t.track_op()) {
        return layer_norm_plain(x, weight, bias, eps);
    }
    if !x.track_op() {
        return layer_norm_quick(x, weight, bias, eps);
    }
    let y = layer_norm_quick(&x.detach(), weight, bias, eps)?;
    let weight = weight.clone();
    graft(x, y, move |x, _, gradient| {
        backward::norm(x, &gradient.broadcast_mul(&weight)?, eps)
    })
}

fn layer_norm_quick(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = |t: &Tensor| t.to_dtype(DType::F32);
    if is_half_on_cpu(x) {
        let (weight, bias) = (wide(weight)?, wide(bias)?);
        return widened(x, |x| layer_norm_quick(x, &weight, &bias, eps));
    }
    candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps as f32)
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
