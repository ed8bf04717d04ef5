//! The residual attention block that CLIP's two towers are stacks of.
//!
//! Mirrors `transformers`' `CLIPEncoderLayer`: pre-norm self-attention, then a pre-norm MLP of four times the width.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear};

use crate::{config::Activation, ops};

/// LayerNorm whose quick form is used when nothing needs a gradient.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, [width] each; they start at one and zero.
    pub fn new(width: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(width, "weight", candle_nn::init::ONE)?,
            bias: vb.get_with_hints(width, "bias", candle_nn::init::ZERO)?,
            eps,
        })
    }

    /// [width]
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// [width]
    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }

    pub(crate) fn eps(&self) -> f64 {
        self.eps
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// The three input projections: one product where they are frozen, three where they are trained.
#[derive(Debug, Clone)]
enum InProjection {
    Fused(Linear),
    Split([Linear; 3]),
}

impl InProjection {
    fn new(width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let parts = ["q_proj", "k_proj", "v_proj"];
        let [q, k, v] = parts.map(|name| linear(width, width, vb.pp(name)));
        let parts = [q?, k?, v?];
        if parts.iter().any(|part| part.weight().track_op()) {
            return Ok(Self::Split(parts));
        }
        Ok(Self::Fused(fused(&parts)?))
    }

    /// The three as one, [3D, D] and [3D].
    fn fused(&self) -> Result<Linear> {
        match self {
            Self::Fused(linear) => Ok(linear.clone()),
            Self::Split(parts) => fused(parts),
        }
    }

    /// [B, L, D] -> query, key and value of all heads, [B, H, L, d] each
    fn forward(&self, x: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
        let split = |t: Tensor, parts: usize| {
            let (batch, len, width) = t.dims3()?;
            let heads = parts * heads;
            t.reshape((batch, len, heads, width / heads))?
                .transpose(1, 2)
        };
        match self {
            Self::Fused(fused) => {
                let all = split(ops::linear(x, fused)?, 3)?; // [B, 3H, L, d]
                let part = |i: usize| all.narrow(1, i * heads, heads);
                Ok([part(0)?, part(1)?, part(2)?])
            }
            Self::Split(parts) => {
                let [q, k, v] = parts.each_ref().map(|part| split(part.forward(x)?, 1));
                Ok([q?, k?, v?])
            }
        }
    }
}

fn fused(parts: &[Linear; 3]) -> Result<Linear> {
    let weights: Vec<_> = parts.iter().map(Linear::weight).collect();
    let biases: Vec<_> = parts.iter().filter_map(Linear::bias).collect();
    let bias = Some(Tensor::cat(&biases, 0)?);
    Ok(Linear::new(Tensor::cat(&weights, 0)?, bias))
}

/// Multi-head self-attention.
#[derive(Debug, Clone)]
pub struct Attention {
    input: InProjection,
    output: Linear,
    heads: usize,
}

impl Attention {
    /// Reads `q_proj`, `k_proj`, `v_proj` and `out_proj`.
    pub fn new(width: usize, heads: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            input: InProjection::new(width, &vb)?,
            output: linear(width, width, vb.pp("out_proj"))?,
            heads,
        })
    }

    /// To queries, keys and values one after the other, [3D, D] and [3D].
    pub(super) fn input(&self) -> Result<Linear> {
        self.input.fused()
    }

    pub(super) fn output(&self) -> &Linear {
        &self.output
    }

    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// [B, L, D] -> [B, L, D]. `mask` [L, L] is added to the scores.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (batch, len, width) = x.dims3()?;
        let head = width / self.heads;
        let [q, k, v] = self.input.forward(x, self.heads)?; // [B, H, L, d]
        let q = (q * (head as f64).powf(-0.5))?.contiguous()?;
        let (k, v) = (centred(k.contiguous()?)?, v.contiguous()?);
        let scores = ops::matmul(&q, &k.t()?)?; // [B, H, L, L]
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let mixed = ops::matmul(&ops::softmax(scores)?, &v)?; // [B, H, L, d]
        let joined = mixed.transpose(1, 2)?.reshape((batch, len, width))?;
        ops::linear(&joined, &self.output)
    }
}

/// Keys [B, H, L, d] in half precision less their mean over all tokens, others as they are.
///
/// What is taken from every key takes the same from all scores of a query, which a softmax does not see. What is left is so much smaller that
/// the scores are rounded several times as finely, which counts for more than all other rounding in a block.
fn centred(keys: Tensor) -> Result<Tensor> {
    if !matches!(keys.dtype(), DType::F16 | DType::BF16) {
        return Ok(keys);
    }
    let (batch, heads, len, _) = keys.dims4()?;
    let share = Tensor::full(1.0 / len as f32, (batch, heads, 1, len), keys.device())?;
    let mean = ops::matmul(&share.to_dtype(keys.dtype())?, &keys)?; // [B, H, 1, d]
    keys.broadcast_sub(&mean)
}

/// One residual block.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

/// What all blocks of a tower have in common.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Width of a token.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// Epsilon of both LayerNorms.
    pub eps: f64,
}

impl Block {
    /// Width of the MLP's hidden layer over the tower's.
    pub const MLP_RATIO: usize = 4;

    /// Reads `layer_norm1`, `self_attn`, `layer_norm2` and `mlp`.
    pub fn new(config: BlockConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let BlockConfig {
            width,
            heads,
            activation,
            eps,
        } = config;
        let hidden = width * Self::MLP_RATIO;
        Ok(Self {
            norm1: LayerNorm::new(width, eps, vb.pp("layer_norm1"))?,
            attention: Attention::new(width, heads, vb.pp("self_attn"))?,
            norm2: LayerNorm::new(width, eps, vb.pp("layer_norm2"))?,
            fc1: linear(width, hidden, vb.pp("mlp.fc1"))?,
            fc2: linear(hidden, width, vb.pp("mlp.fc2"))?,
            activation,
        })
    }

    /// [B, L, D] -> [B, L, D]. `mask` [L, L] is added to the attention scores.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.norm1.forward(x)?, mask)?)?;
        let hidden = ops::linear_activation(&self.norm2.forward(&x)?, &self.fc1, self.activation)?;
        &x + ops::linear(&hidden, &self.fc2)?
    }

    pub(super) fn attention(&self) -> &Attention {
        &self.attention
    }

    /// Its first and second layer.
    pub(super) fn mlp(&self) -> (&Linear, &Linear) {
        (&self.fc1, &self.fc2)
    }

    /// That before the attention, that before the MLP.
    pub(super) fn norms(&self) -> [&LayerNorm; 2] {
        [&self.norm1, &self.norm2]
    }

    pub(super) fn activation(&self) -> Activation {
        self.activation
    }

    /// Reads `count` blocks under `layers.0`, `layers.1`, ..., each when it is asked for.
    pub fn stack(
        config: BlockConfig,
        count: usize,
        vb: VarBuilder<'_>,
    ) -> impl Iterator<Item = Result<Self>> {
        (0..count).map(move |i| Self::new(config, vb.pp(format!("layers.{i}"))))
    }
}
