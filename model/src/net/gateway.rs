//! The Dynamic Fusion Gateway (equations 4 and 5): what a group sees decides which text levels it is compared with.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder};

use super::head::linear;
use crate::config::Config;

/// The gateway of one vision group.
#[derive(Debug, Clone)]
pub struct Gateway {
    hidden: Linear,
    out: Linear,
    groups: usize,
}

impl Gateway {
    /// Reads `0` and `2` of `vision_text_gate.{i}`.
    pub fn new(config: &Config, i: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let vb = vb.pp(format!("vision_text_gate.{i}"));
        Ok(Self {
            hidden: linear(config.text_width, config.gate_hidden, vb.pp("0"))?,
            out: linear(config.gate_hidden, 2 * config.groups, vb.pp("2"))?,
            groups: config.groups,
        })
    }

    /// Segmentation tokens [B, L, W] and text features [B or 1, N, W, 2] -> fused text features [B, W, 2]
    pub fn forward(&self, tokens: &Tensor, text: &Tensor) -> Result<Tensor> {
        let (batch, patches, width) = tokens.dims3()?;
        // The mean over patches as a product, which candle computes many times as fast.
        let share = Tensor::full(1.0 / patches as f32, (batch, 1, patches), tokens.device())?;
        let share = share.to_dtype(tokens.dtype())?;
        let context = share.matmul(tokens)?.reshape((batch, width))?; // [B, W]
        let logits = self
            .out
            .forward(&self.hidden.forward(&context)?.gelu_erf()?)?;
        let logits = logits.reshape((context.dim(0)?, self.groups, 2))?;
        let weights = candle_nn::ops::softmax(&logits, 1)?; // [B, N, 2]
        text.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)
    }
}
