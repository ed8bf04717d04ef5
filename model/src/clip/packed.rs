//! A tower's blocks laid out for this machine's CPU: weights packed once, norm, activation and rounding one pass with what comes after them,
//! and attention without its matrix of scores.
//!
//! Computes what [`Block`] computes, which is its plain twin.

use candle_core::{D, Result, Tensor};
use candle_nn::Linear;
use parking_lot::Mutex;

use super::attention::{Block, LayerNorm};
use crate::{
    config::Activation,
    kernels::{
        attention::{Shape, attention},
        dense::{Dense, Float},
        int8::Int8,
        norm::Norm,
    },
    precision::Packing,
};

/// Blocks in the arithmetic that was asked for.
#[derive(Debug)]
pub(crate) enum PackedBlocks {
    Float(Stack<Float>),
    Int8(Stack<Int8>),
}

impl PackedBlocks {
    /// Packs `blocks`, which must be on the CPU. Each is let go of as it is packed, so that its weights are there twice, and not those of all.
    pub(crate) fn new(blocks: Vec<Block>, packing: Packing) -> Result<Self> {
        Ok(match packing {
            Packing::F32 => Self::Float(Stack::new(blocks)?),
            Packing::Int8 => Self::Int8(Stack::new(blocks)?),
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Float(stack) => stack.blocks.len(),
            Self::Int8(stack) => stack.blocks.len(),
        }
    }

    /// Tokens [B, L, D] through the blocks of `range`: [B, L, D].
    pub(crate) fn forward(&self, x: &Tensor, range: std::ops::Range<usize>) -> Result<Tensor> {
        match self {
            Self::Float(stack) => stack.forward(x, range),
            Self::Int8(stack) => stack.forward(x, range),
        }
    }
}

/// Blocks one after the other, and the memory that frames go through them in.
pub(crate) struct Stack<L: Dense> {
    blocks: Vec<PackedBlock<L>>,
    heads: usize,
    workspaces: Mutex<Vec<Workspace<L>>>,
}

impl<L: Dense> std::fmt::Debug for Stack<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("blocks", &self.blocks.len())
            .finish_non_exhaustive()
    }
}

struct Workspace<L: Dense> {
    input: L::Rows,
    hidden: L::Rows,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
}

impl<L: Dense> Default for Workspace<L> {
    fn default() -> Self {
        Self {
            input: L::Rows::default(),
            hidden: L::Rows::default(),
            qkv: Vec::new(),
            mixed: Vec::new(),
        }
    }
}

impl<L: Dense> Stack<L> {
    fn new(blocks: Vec<Block>) -> Result<Self> {
        let packed = |block: Block| PackedBlock::new(&block);
        Ok(Self {
            heads: blocks.first().map_or(1, |block| block.attention().heads()),
            blocks: blocks.into_iter().map(packed).collect::<Result<_>>()?,
            workspaces: Mutex::default(),
        })
    }

    fn forward(&self, x: &Tensor, range: std::ops::Range<usize>) -> Result<Tensor> {
        let (batch, len, width) = x.dims3()?;
        let shape = Shape {
            batch,
            len,
            heads: self.heads,
            head: width / self.heads,
        };
        let mut tokens = x.flatten_all()?.to_vec1::<f32>()?;
        let kept = self.workspaces.lock().pop();
        let mut workspace = kept.unwrap_or_default();
        for block in &self.blocks[range] {
            block.forward(&mut tokens, shape, &mut workspace)?;
        }
        self.workspaces.lock().push(workspace);
        Tensor::from_vec(tokens, (batch, len, width), x.device())
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
    fn forward(
        &self,
        tokens: &mut [f32],
        shape: Shape,
        workspace: &mut Workspace<L>,
    ) -> Result<()> {
        let Workspace {
            input,
            hidden,
            qkv,
            mixed,
        } = workspace;
        let Shape {
            batch,
            len,
            heads,
            head,
        } = shape;
        let (count, width) = (batch * len, heads * head);
        L::fill(input, count, width, |i, row| {
            self.norm1.row(&tokens[i * width..(i + 1) * width], row);
        });
        self.input.forward(input, qkv)?;
        attention(qkv, shape, mixed)?; // [B, H, L, d]
        L::fill(input, count, width, |i, row| {
            let (sequence, token) = (i / len, i % len);
            for (number, part) in row.chunks_exact_mut(head).enumerate() {
                let at = ((sequence * heads + number) * len + token) * head;
                part.copy_from_slice(&mixed[at..at + head]);
            }
        });
        self.output.add(input, tokens)?;
        L::fill(input, count, width, |i, row| {
            self.norm2.row(&tokens[i * width..(i + 1) * width], row);
        });
        self.fc1.activate(input, self.activation, hidden)?;
        self.fc2.add(hidden, tokens)
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn norm(norm: &LayerNorm) -> Result<Norm> {
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

fn dense<L: Dense>(linear: &Linear) -> Result<L> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device};
    use candle_nn::VarBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::clip::attention::BlockConfig;

    /// Numbers between -1 and 1 times `size`, the same for the same seed.
    fn noise(shape: &[usize], size: f32, seed: u64) -> Tensor {
        let count = shape.iter().product();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values: Vec<f32> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * size
        })
        .take(count)
        .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn blocks(width: usize, heads: usize, activation: Activation, seed: u64) -> Vec<Block> {
        let mut tensors = std::collections::HashMap::new();
        let hidden = 4 * width;
        for layer in 0..2 {
            let shapes: [(&str, Vec<usize>); 16] = [
                ("layer_norm1.weight", vec![width]),
                ("layer_norm1.bias", vec![width]),
                ("layer_norm2.weight", vec![width]),
                ("layer_norm2.bias", vec![width]),
                ("self_attn.q_proj.weight", vec![width, width]),
                ("self_attn.q_proj.bias", vec![width]),
                ("self_attn.k_proj.weight", vec![width, width]),
                ("self_attn.k_proj.bias", vec![width]),
                ("self_attn.v_proj.weight", vec![width, width]),
                ("self_attn.v_proj.bias", vec![width]),
                ("self_attn.out_proj.weight", vec![width, width]),
                ("self_attn.out_proj.bias", vec![width]),
                ("mlp.fc1.weight", vec![hidden, width]),
                ("mlp.fc1.bias", vec![hidden]),
                ("mlp.fc2.weight", vec![width, hidden]),
                ("mlp.fc2.bias", vec![width]),
            ];
            for (i, (name, shape)) in shapes.into_iter().enumerate() {
                let tensor = noise(&shape, 0.3, seed + (layer * 100 + i) as u64);
                tensors.insert(format!("layers.{layer}.{name}"), tensor);
            }
        }
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let config = BlockConfig {
            width,
            heads,
            activation,
            eps: 1e-5,
        };
        Block::stack(config, 2, vb).unwrap()
    }

    /// Largest difference from the plain blocks, in parts of their largest number.
    fn difference(packing: Packing, blocks: &[Block], x: &Tensor) -> f32 {
        let plain = blocks
            .iter()
            .try_fold(x.clone(), |x, block| block.forward(&x, None));
        let plain = plain.unwrap();
        let packed = PackedBlocks::new(blocks.to_vec(), packing).unwrap();
        let packed = packed.forward(x, 0..blocks.len()).unwrap();
        let largest = |t: &Tensor| {
            t.abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        largest(&(packed - &plain).unwrap()) / largest(&plain)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn packed_blocks_compute_what_plain_ones_do(
            batch in 1usize..4, len in 1usize..150, heads in 1usize..4, head in 1usize..5, quick: bool, seed: u64,
        ) {
            let width = heads * head * 8;
            let activation = if quick { Activation::QuickGelu } else { Activation::Gelu };
            let blocks = blocks(width, heads, activation, seed % 1000);
            let x = noise(&[batch, len, width], 2.0, seed);
            prop_assert!(difference(Packing::F32, &blocks, &x) < 1e-5);
            let rounded = difference(Packing::Int8, &blocks, &x);
            prop_assert!(rounded < 0.06, "{rounded}");
        }
    }

    #[test]
    fn a_number_that_is_none_does_not_pass_for_one() {
        let blocks = blocks(16, 2, Activation::Gelu, 1);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut values = vec![0.5; 3 * 16];
            values[20] = bad;
            let x = Tensor::from_vec(values, (1, 3, 16), &Device::Cpu).unwrap();
            for packing in [Packing::F32, Packing::Int8] {
                let packed = PackedBlocks::new(blocks.clone(), packing).unwrap();
                let y = packed.forward(&x, 0..2).unwrap();
                let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert!(y.iter().any(|y| !y.is_finite()), "{packing:?} hides {bad}");
            }
        }
    }

    #[test]
    fn a_weight_that_is_no_number_is_not_rounded_away() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut weight = vec![0.5; 8 * 8];
            weight[13] = bad;
            let layer = Int8::new(&weight, vec![0.0; 8]).unwrap();
            let (mut rows, mut out) = (Default::default(), Vec::new());
            Int8::fill(&mut rows, 1, 8, |_, row| row.fill(1.0));
            layer.forward(&mut rows, &mut out).unwrap();
            assert!(!out[1].is_finite() && out[0].is_finite(), "{bad}: {out:?}");
        }
    }

    #[test]
    fn a_part_of_the_blocks_is_that_part() {
        let blocks = blocks(16, 2, Activation::Gelu, 2);
        let packed = PackedBlocks::new(blocks, Packing::F32).unwrap();
        let x = noise(&[1, 5, 16], 1.0, 3);
        let step = |x: &Tensor, i: usize| packed.forward(x, i..i + 1).unwrap();
        let apart = step(&step(&x, 0), 1).flatten_all().unwrap();
        let whole = packed.forward(&x, 0..2).unwrap().flatten_all().unwrap();
        assert_eq!(
            apart.to_vec1::<f32>().unwrap(),
            whole.to_vec1::<f32>().unwrap()
        );
        assert_eq!(packed.len(), 2);
    }
}
