//! CLIP's text tower: token ids in, tokens out, block by block so that a caller can adapt them in between.
//!
//! Mirrors `transformers`' `CLIPTextModel` under its key names, up to and without the final norm, which ACD-CLIP does not use.

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::attention::{Block, BlockConfig};
use crate::config::{Config, TextConfig};

/// The text tower.
#[derive(Debug, Clone)]
pub struct TextTower {
    /// [V, W]
    token_embedding: Tensor,
    /// [context, W]
    positions: Tensor,
    blocks: Vec<Block>,
}

impl TextTower {
    /// Reads the tower's tensors under `text_model`.
    pub fn new(config: &Config, text: &TextConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let embeddings = vb.pp("embeddings");
        let block = BlockConfig {
            width: text.width,
            heads: text.heads,
            activation: config.activation,
            eps: config.layer_norm_eps,
        };
        Ok(Self {
            token_embedding: embeddings
                .get((text.vocab_size, text.width), "token_embedding.weight")?,
            positions: embeddings.get(
                (text.context_length, text.width),
                "position_embedding.weight",
            )?,
            blocks: Block::stack(block, text.layers, vb.pp("encoder")).collect::<Result<_>>()?,
        })
    }

    /// The tower's blocks, first to last.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Ids [P, L] -> tokens [P, L, W]
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let (prompts, len) = ids.dims2()?;
        let tokens = self
            .token_embedding
            .index_select(&ids.flatten_all()?, 0)?
            .reshape((prompts, len, ()))?;
        tokens.broadcast_add(&self.positions.narrow(0, 0, len)?)
    }
}

/// What is added to attention scores so that no token sees a later one: [len, len], 0 or minus infinity.
pub fn causal_mask(len: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..len)
        .flat_map(|i| (0..len).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(mask, (len, len), device)
}
