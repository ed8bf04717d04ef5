//! A vision tower laid out for this machine's CPU: weights packed once, norm, activation and rounding one pass with what comes after them,
//! and attention without its matrix of scores.
//!
//! Computes what [`VisionTower`] computes, which is its plain twin.

use std::ops::Range;

use candle_core::{D, Result, Tensor};
use candle_nn::Linear;

use super::{
    attention::{Block, LayerNorm},
    vision::VisionTower,
};
use crate::{
    config::Activation,
    kernels::{attention::Shape, dense::Dense, for_each_row, gelu::quick_gelu, norm::Norm},
};

/// The tower: its blocks as layers of kind `L`, the patch embedding as one of kind `E`.
pub(crate) struct PackedTower<L, E> {
    embedding: E,
    /// Side of a patch, pixels.
    patch: usize,
    pre_norm: Option<Norm>,
    blocks: Vec<PackedBlock<L>>,
    heads: usize,
    width: usize,
}

/// The memory that tokens go through the tower in.
pub(crate) struct Workspace<L: Dense, E: Dense> {
    patches: E::Rows,
    input: L::Rows,
    hidden: L::Rows,
    mixing: L::Mixing,
}

impl<L: Dense, E: Dense> Default for Workspace<L, E> {
    fn default() -> Self {
        Self {
            patches: E::Rows::default(),
            input: L::Rows::default(),
            hidden: L::Rows::default(),
            mixing: L::Mixing::default(),
        }
    }
}

/// Pictures: how many, and their rows and columns of patches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pictures {
    pub(crate) batch: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Pictures {
    /// Patches of one.
    pub(crate) fn patches(self) -> usize {
        self.rows * self.columns
    }
}

impl<L: Dense, E: Dense> PackedTower<L, E> {
    /// Of a tower on the CPU and its blocks. Each is let go of as it is packed, so that its weights are there twice, and not those of all.
    pub(crate) fn new(
        tower: &VisionTower,
        blocks: impl Iterator<Item = Result<Block>>,
    ) -> Result<Self> {
        let mut blocks = blocks.peekable();
        let embedding = tower.patch_embedding();
        let (width, inputs) = embedding.dims2()?;
        Ok(Self {
            embedding: E::new(&numbers(embedding)?, vec![0.0; width])?,
            patch: (inputs / 3).isqrt(),
            pre_norm: tower.pre_norm().map(norm).transpose()?,
            heads: match blocks.peek() {
                Some(Ok(block)) => block.attention().heads(),
                _ => 1,
            },
            blocks: blocks
                .map(|block| PackedBlock::new(&block?))
                .collect::<Result<_>>()?,
            width,
        })
    }

    /// How many blocks it has.
    pub(crate) fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Width of a token.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Pixels [B, 3, rows * P, columns * P] -> tokens [B, 1 + L, D], the class token first. `positions` is [1 + L, D], that of the class token
    /// added to the first.
    pub(crate) fn embed(
        &self,
        pixels: &[f32],
        pictures: Pictures,
        positions: &[f32],
        workspace: &mut Workspace<L, E>,
    ) -> Result<Vec<f32>> {
        let Pictures {
            batch,
            rows,
            columns,
        } = pictures;
        let (side, len) = (self.patch, 1 + pictures.patches());
        let (width, height) = (columns * side, rows * side);
        E::fill(
            &mut workspace.patches,
            batch * len,
            3 * side * side,
            #[inline(always)]
            |i, row| {
                let (picture, Some(patch)) = (i / len, (i % len).checked_sub(1)) else {
                    return row.fill(0.0); // the class token sees no pixel
                };
                let corner = patch / columns * side * width + patch % columns * side;
                for (line, to) in row.chunks_exact_mut(side).enumerate() {
                    let plane = (3 * picture + line / side) * width * height;
                    let at = plane + corner + line % side * width;
                    to.copy_from_slice(&pixels[at..at + side]);
                }
            },
        );
        let mut tokens = positions.repeat(batch);
        self.embedding.add(&mut workspace.patches, &mut tokens)?;
        if let Some(norm) = &self.pre_norm {
            for_each_row(
                &mut tokens,
                self.width,
                #[inline(always)]
                |row| norm.in_place(row),
            );
        }
        Ok(tokens)
    }

    /// `tokens` [B, L, D] become what the blocks of `range` make of them, first to last.
    pub(crate) fn run(
        &self,
        tokens: &mut [f32],
        batch: usize,
        range: Range<usize>,
        workspace: &mut Workspace<L, E>,
    ) -> Result<()> {
        let shape = Shape {
            batch,
            len: tokens.len() / self.width / batch,
            heads: self.heads,
            head: self.width / self.heads,
        };
        for block in &self.blocks[range] {
            block.forward(tokens, shape, workspace)?;
        }
        Ok(())
    }
}

/// One residual block.
struct PackedBlock<L> {
    norm1: Norm,
    input: L,
    output: L,
    norm2: Norm,
    fc1: L,
    fc2: L,
    activation: Activation,
}

impl<L: Dense> PackedBlock<L> {
    fn new(block: &Block) -> Result<Self> {
        let attention = block.attention();
        let (fc1, fc2) = block.mlp();
        let [norm1, norm2] = block.norms();
        Ok(Self {
            norm1: norm(norm1)?,
            input: scaled_queries(&attention.input()?, attention.heads())?,
            output: dense(attention.output())?,
            norm2: norm(norm2)?,
            fc1: dense(fc1)?,
            fc2: dense(fc2)?,
            activation: block.activation(),
        })
    }

    /// `tokens` [B, L, D] become what the block makes of them.
    #[allow(
        clippy::redundant_closure,
        reason = "a function passed by its name is called through a shim, which is not inlined"
    )]
    fn forward<E: Dense>(
        &self,
        tokens: &mut [f32],
        shape: Shape,
        workspace: &mut Workspace<L, E>,
    ) -> Result<()> {
        let Workspace {
            input,
            hidden,
            mixing,
            ..
        } = workspace;
        let (count, width) = (shape.batch * shape.len, shape.heads * shape.head);
        let row_of = |i: usize| i * width..(i + 1) * width;
        L::fill(
            input,
            count,
            width,
            #[inline(always)]
            |i, row| self.norm1.row(&tokens[row_of(i)], row),
        );
        self.input.attend(input, shape, mixing)?;
        self.output.add(input, tokens)?;
        L::fill(
            input,
            count,
            width,
            #[inline(always)]
            |i, row| self.norm2.row(&tokens[row_of(i)], row),
        );
        match self.activation {
            Activation::Gelu => self.fc1.activate(
                input,
                #[inline(always)]
                |x| L::gelu(x),
                hidden,
            ),
            Activation::QuickGelu => self.fc1.activate(
                input,
                #[inline(always)]
                |x| quick_gelu(x),
                hidden,
            ),
        }?;
        self.fc2.add(hidden, tokens)
    }
}

/// A tensor's numbers, row by row.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// A LayerNorm for kernels.
pub(crate) fn norm(norm: &LayerNorm) -> Result<Norm> {
    Ok(Norm {
        weight: numbers(norm.weight())?,
        bias: numbers(norm.bias())?,
        eps: norm.eps() as f32,
    })
}

fn bias(linear: &Linear) -> Result<Vec<f32>> {
    match linear.bias() {
        Some(bias) => numbers(bias),
        None => Ok(vec![0.0; linear.weight().dim(0)?]),
    }
}

/// A linear layer, packed.
pub(crate) fn dense<L: Dense>(linear: &Linear) -> Result<L> {
    L::new(&numbers(linear.weight())?, bias(linear)?)
}

/// The projection to queries, keys and values, [3D, D], the queries divided by the root of the head's width.
fn scaled_queries<L: Dense>(linear: &Linear, heads: usize) -> Result<L> {
    let width = linear.weight().dim(D::Minus1)?;
    let factor = ((width / heads) as f32).powf(-0.5);
    let (mut weight, mut bias) = (numbers(linear.weight())?, bias(linear)?);
    let queries = weight[..width * width].iter_mut().chain(&mut bias[..width]);
    queries.for_each(|x| *x *= factor);
    L::new(&weight, bias)
}
