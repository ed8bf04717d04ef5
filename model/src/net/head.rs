//! The small networks on top of adapted tokens: the projection into the joint space, and the gateway's.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, Linear, VarBuilder};

use crate::{clip::attention::LayerNorm, config::Config, ops};

/// Epsilon of every LayerNorm that ACD-CLIP adds.
pub const ADDED_NORM_EPS: f64 = 1e-5;

/// Slope of PyTorch's LeakyReLU below zero.
pub(super) const NEGATIVE_SLOPE: f64 = 0.01;

/// A linear layer that starts as PyTorch's does: uniform within one over the root of its inputs, bias too.
pub fn linear(from: usize, to: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let bound = 1.0 / (from as f64).sqrt();
    let init = Init::Uniform {
        lo: -bound,
        up: bound,
    };
    let weight = vb.get_with_hints((to, from), "weight", init)?;
    let bias = vb.get_with_hints(to, "bias", init)?;
    Ok(Linear::new(weight, Some(bias)))
}

/// `max(x, slope * x)`
fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    x.maximum(&(x * NEGATIVE_SLOPE)?)
}

/// MLP, LayerNorm and L2: tokens [B, L, D] into the joint space [B, L, W].
#[derive(Debug, Clone)]
pub struct Head {
    hidden: Linear,
    out: Linear,
    norm: LayerNorm,
}

impl Head {
    /// Reads `{name}_proj.{i}.fc.{0,2}` and `{name}_layer_norms.{i}`.
    pub fn new(config: &Config, name: &str, i: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let fc = vb.pp(format!("{name}_proj.{i}.fc"));
        let norm = vb.pp(format!("{name}_layer_norms.{i}"));
        let (width, hidden, joint) = (config.vision.width, config.mlp_hidden, config.text_width);
        Ok(Self {
            hidden: linear(width, hidden, fc.pp("0"))?,
            out: linear(hidden, joint, fc.pp("2"))?,
            norm: LayerNorm::new(joint, ADDED_NORM_EPS, norm)?,
        })
    }

    /// Its two layers.
    pub(super) fn mlp(&self) -> (&Linear, &Linear) {
        (&self.hidden, &self.out)
    }

    pub(super) fn norm(&self) -> &LayerNorm {
        &self.norm
    }

    /// [B, L, D] -> unit vectors [B, L, W]
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let hidden = leaky_relu(&self.hidden.forward(tokens)?)?;
        ops::l2_normalize(&self.norm.forward(&self.out.forward(&hidden)?)?)
    }
}
