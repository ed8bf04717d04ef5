//! CLIP's vision tower, a ViT: patches in, tokens out, block by block so that a caller can adapt them in between.
//!
//! Mirrors `transformers`' `CLIPVisionModel` under its key names; DINOv2's ViT in the same layout has no `pre_layrnorm`.

use std::{collections::HashMap, ops::Range};

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::VarBuilder;
use parking_lot::Mutex;

use super::attention::{Block, BlockConfig, LayerNorm};
use crate::{config::Config, ops, resample::Separable};

/// Position tables kept ready, by grid. A stream uses one; a caller that feeds a picture of every size must not fill the memory.
const KEPT_GRIDS: usize = 8;

/// The tower up to, and without, its final norm and projection, which ACD-CLIP does not use.
#[derive(Debug)]
pub struct VisionTower {
    /// [D, 3 * P * P]
    patch_embedding: Tensor,
    /// [D]
    class_embedding: Tensor,
    /// [1 + G * G, D]; row 0 belongs to the class token
    positions: Tensor,
    table_grid: usize,
    resized: Mutex<HashMap<(usize, usize), Tensor>>,
    pre_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    patch: usize,
}

impl VisionTower {
    /// Reads the tower's tensors under `vision_model`.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            blocks: Self::blocks(config, &vb).collect::<Result<_>>()?,
            ..Self::without_blocks(config, &vb)?
        })
    }

    /// The tower's blocks, first to last, each read when it is asked for.
    pub(crate) fn blocks<'a>(
        config: &Config,
        vb: &VarBuilder<'a>,
    ) -> impl Iterator<Item = Result<Block>> + use<'a> {
        let vision = &config.vision;
        let block = BlockConfig {
            width: vision.width,
            heads: vision.heads,
            activation: config.activation,
            eps: config.layer_norm_eps,
        };
        Block::stack(block, vision.layers, vb.pp("encoder"))
    }

    /// All but the blocks, which are somebody else's to run.
    pub(crate) fn without_blocks(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let vision = &config.vision;
        let (width, patch) = (vision.width, vision.patch_size);
        let grid = vision.image_size / patch;
        let embeddings = vb.pp("embeddings");
        let pre_norm = config
            .pre_norm
            .then(|| LayerNorm::new(width, config.layer_norm_eps, vb.pp("pre_layrnorm")));
        Ok(Self {
            patch_embedding: embeddings
                .get((width, 3, patch, patch), "patch_embedding.weight")?
                .flatten_from(1)?,
            class_embedding: embeddings.get(width, "class_embedding")?,
            positions: embeddings.get((grid * grid + 1, width), "position_embedding.weight")?,
            table_grid: grid,
            resized: Mutex::default(),
            pre_norm: pre_norm.transpose()?,
            blocks: Vec::new(),
            patch,
        })
    }

    /// How many blocks it has.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Takes its blocks, which are then somebody else's to run.
    pub(crate) fn take_blocks(&mut self) -> Vec<Block> {
        std::mem::take(&mut self.blocks)
    }

    /// [D, 3 * P * P]
    pub(super) fn patch_embedding(&self) -> &Tensor {
        &self.patch_embedding
    }

    pub(super) fn pre_norm(&self) -> Option<&LayerNorm> {
        self.pre_norm.as_ref()
    }

    /// Tokens [B, 1 + L, D] through the blocks of `range`, first to last.
    pub fn run(&self, tokens: &Tensor, range: Range<usize>) -> Result<Tensor> {
        self.blocks[range]
            .iter()
            .try_fold(tokens.clone(), |x, block| block.forward(&x, None))
    }

    /// Rows and columns of patches in a picture of [B, 3, height, width].
    pub fn grid(&self, pixels: &Tensor) -> Result<(usize, usize)> {
        let (_, _, height, width) = pixels.dims4()?;
        let p = self.patch;
        if height < p || width < p || height % p != 0 || width % p != 0 {
            candle_core::bail!(
                "picture: wanted sides that are multiples of the patch size {p}, found {width}x{height}"
            );
        }
        Ok((height / p, width / p))
    }

    /// Normalised pixels [B, 3, height, width] -> tokens [B, 1 + L, D], the class token first.
    pub fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let grid = self.grid(pixels)?;
        let batch = pixels.dim(0)?;
        let pixels = pixels.to_dtype(self.patch_embedding.dtype())?;
        let patches = self.patches(&pixels, grid)?;
        let patches = ops::matmul(&patches, &self.patch_embedding.t()?)?; // [B, L, D]
        let class = self.class_embedding.reshape((1, 1, ()))?;
        let class = class.broadcast_as((batch, 1, class.dim(2)?))?;
        let tokens = Tensor::cat(&[&class.contiguous()?, &patches], 1)?
            .broadcast_add(&self.positions_for(grid)?)?;
        match &self.pre_norm {
            Some(norm) => norm.forward(&tokens),
            None => Ok(tokens),
        }
    }

    /// [B, 3, gh * P, gw * P] -> [B, gh * gw, 3 * P * P], in the order of the patch convolution's weights
    fn patches(&self, pixels: &Tensor, (rows, columns): (usize, usize)) -> Result<Tensor> {
        let (batch, p) = (pixels.dim(0)?, self.patch);
        pixels
            .reshape(&[batch, 3, rows, p, columns, p])?
            .permute([0, 2, 4, 1, 3, 5])?
            .reshape((batch, rows * columns, 3 * p * p))
    }

    /// The position table for a grid of (rows, columns) with the class embedding added to its first row: what tokens start from, [1 + L, D].
    pub(crate) fn start(&self, grid: (usize, usize)) -> Result<Tensor> {
        let positions = self.positions_for(grid)?;
        let class = (positions.narrow(0, 0, 1)? + self.class_embedding.unsqueeze(0)?)?;
        Tensor::cat(
            &[&class, &positions.narrow(0, 1, positions.dim(0)? - 1)?],
            0,
        )
    }

    /// The position table for a grid of (rows, columns), [1 + L, D], resized from the trained one where they differ.
    pub fn positions_for(&self, grid: (usize, usize)) -> Result<Tensor> {
        if grid == (self.table_grid, self.table_grid) {
            return Ok(self.positions.clone());
        }
        if let Some(kept) = self.resized.lock().get(&grid) {
            return Ok(kept.clone());
        }
        let wide = self.positions.to_dtype(DType::F32)?;
        let table = resize_positions(&wide, self.table_grid, grid)?;
        let table = table.to_dtype(self.positions.dtype())?;
        if !table.track_op() {
            let mut resized = self.resized.lock();
            if resized.len() >= KEPT_GRIDS {
                resized.clear();
            }
            resized.insert(grid, table.clone());
        }
        Ok(table)
    }
}

/// A position table [1 + G * G, D] -> [1 + rows * columns, D]: bicubic and antialiased over the patches, the class token's row untouched.
pub fn resize_positions(table: &Tensor, from: usize, to: (usize, usize)) -> Result<Tensor> {
    let width = table.dim(1)?;
    let patches = table.narrow(0, 1, from * from)?; // [G * G, D]
    let planes = patches.t()?.reshape((width, from, from))?;
    let filter = Separable::bicubic((from, from), to, table.device())?;
    let resized = filter.apply(&planes)?.reshape((width, to.0 * to.1))?.t()?;
    Tensor::cat(&[&table.narrow(0, 0, 1)?, &resized.contiguous()?], 0)
}
