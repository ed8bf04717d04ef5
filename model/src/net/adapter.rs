//! The adapter after each group: low-rank, with or without convolutions in the bottleneck, matched in norm and blended in.
//!
//! Equations 1 to 3 of the paper; names of the tensors as in the authors' checkpoints (`model/adapter_modules.py`).

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::{
    config::{AdapterKind, Config},
    ops,
};

/// Rows and columns of a grid of patches.
pub type Grid = (usize, usize);

/// Uniform within what PyTorch's `kaiming_uniform_(a=0)` gives for that many inputs.
fn kaiming_uniform(fan_in: usize) -> Init {
    let bound = (6.0 / fan_in as f64).sqrt();
    Init::Uniform {
        lo: -bound,
        up: bound,
    }
}

/// Down and up projection of a low-rank adapter.
#[derive(Debug, Clone)]
struct LowRank {
    /// [D, r]
    down: Tensor,
    /// [r, D]
    up: Tensor,
}

impl LowRank {
    fn new(width: usize, rank: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let up = Init::Randn {
            mean: 0.0,
            stdev: 0.02,
        };
        Ok(Self {
            // PyTorch takes the second dimension for the fan-in.
            down: vb.get_with_hints((width, rank), "lora_A", kaiming_uniform(rank))?,
            up: vb.get_with_hints((rank, width), "lora_B", up)?,
        })
    }
}

/// `X A B`, scaled.
#[derive(Debug, Clone)]
pub struct Lora {
    low_rank: LowRank,
    scale: f64,
}

impl Lora {
    /// Reads `lora_A` [D, r] and `lora_B` [r, D].
    pub fn new(width: usize, config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            low_rank: LowRank::new(width, config.lora_rank, &vb)?,
            scale: config.lora_alpha / (config.lora_rank as f64).sqrt(),
        })
    }

    /// [B, L, D] -> [B, L, D]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let low = x.broadcast_matmul(&self.low_rank.down)?; // [B, L, r]
        low.broadcast_matmul(&self.low_rank.up)? * self.scale
    }
}

/// One branch of a Conv-LoRA adapter, of one kernel size.
#[derive(Debug, Clone)]
struct Branch {
    low_rank: LowRank,
    /// [c, r, k, k]
    conv_down: Tensor,
    /// [r, c, k, k]
    conv_up: Tensor,
    scale: f64,
}

impl Branch {
    fn new(width: usize, kernel: usize, config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let (r, c) = (config.lora_rank, config.conv_lora_rank);
        let conv = |out: usize, from: usize, name: &str| {
            let init = kaiming_uniform(from * kernel * kernel);
            vb.get_with_hints((out, from, kernel, kernel), name, init)
        };
        Ok(Self {
            low_rank: LowRank::new(width, r, &vb)?,
            conv_down: conv(c, r, "conv_lora_A.weight")?,
            conv_up: conv(r, c, "conv_lora_B.weight")?,
            scale: config.conv_lora_alpha / c as f64 * config.lora_alpha / (r as f64).sqrt(),
        })
    }

    /// [B, L, D] -> [B, L, r]: projected down and convolved on the grid
    fn bottleneck(&self, x: &Tensor, (rows, columns): Grid) -> Result<Tensor> {
        let low = x.broadcast_matmul(&self.low_rank.down)?; // [B, L, r]
        let (batch, len, rank) = low.dims3()?;
        let planes = low.transpose(1, 2)?.reshape((batch, rank, rows, columns))?;
        let convolved = convolve(&convolve(&planes, &self.conv_down)?, &self.conv_up)?;
        convolved
            .reshape((batch, rank, len))?
            .transpose(1, 2)?
            .contiguous()
    }
}

/// Zero-padded convolution that keeps the grid.
fn convolve(planes: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    planes.conv2d(kernel, kernel.dim(2)? / 2, 1, 1, 1)
}

/// Parallel convolution branches, fused by a product (the authors' 1 x 1 convolution).
#[derive(Debug, Clone)]
pub struct ConvLora {
    branches: Vec<Branch>,
    /// [D, branches * D]
    fuse: Tensor,
}

impl ConvLora {
    /// Reads `conv_lora_blocks.K` and `fusion_conv.weight` [D, branches * D, 1, 1].
    pub fn new(width: usize, config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let kernels = &config.conv_kernel_sizes;
        let branches = kernels
            .iter()
            .enumerate()
            .map(|(i, k)| Branch::new(width, *k, config, vb.pp(format!("conv_lora_blocks.{i}"))))
            .collect::<Result<_>>()?;
        let from = kernels.len() * width;
        let bound = 1.0 / (from as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let fuse = vb.get_with_hints((width, from, 1, 1), "fusion_conv.weight", init)?;
        Ok(Self {
            branches,
            fuse: fuse.reshape((width, from))?,
        })
    }

    /// [B, L, D] -> [B, L, D], step by step as published
    fn forward(&self, x: &Tensor, grid: Grid) -> Result<Tensor> {
        let outputs = self
            .branches
            .iter()
            .map(|branch| {
                let low = branch.bottleneck(x, grid)?;
                low.broadcast_matmul(&branch.low_rank.up)? * branch.scale
            })
            .collect::<Result<Vec<_>>>()?; // [B, L, D] each
        Tensor::cat(&outputs, 2)?.broadcast_matmul(&self.fuse.t()?)
    }

    /// The same adapter with each branch's up projection multiplied into its share of the fusion.
    ///
    /// The scales are left out: they are the same for every branch, so that matching the norm cancels them.
    fn fold(self) -> Result<FoldedConvLora> {
        let width = self.fuse.dim(0)?;
        let up = self
            .branches
            .iter()
            .enumerate()
            .map(|(i, branch)| {
                let share = self.fuse.narrow(1, i * width, width)?;
                branch.low_rank.up.matmul(&share.t()?)
            })
            .collect::<Result<Vec<_>>>()?; // [r, D] each
        Ok(FoldedConvLora {
            up: Tensor::cat(&up, 0)?,
            branches: self.branches,
        })
    }
}

/// A Conv-LoRA adapter for inference: r columns a branch go straight to D, instead of D a branch through a D x D product.
#[derive(Debug, Clone)]
pub struct FoldedConvLora {
    branches: Vec<Branch>,
    /// [branches * r, D]
    up: Tensor,
}

impl FoldedConvLora {
    /// [B, L, D] -> [B, L, D], equal to the unfolded form up to a factor
    fn forward(&self, x: &Tensor, grid: Grid) -> Result<Tensor> {
        let low = self
            .branches
            .iter()
            .map(|branch| branch.bottleneck(x, grid))
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&low, 2)?.broadcast_matmul(&self.up)
    }
}

/// What an adapter computes before it is matched and blended.
#[derive(Debug, Clone)]
enum Residual {
    Lora(Lora),
    ConvLora(ConvLora),
    Folded(FoldedConvLora),
}

/// The weights of an adapter in its form for inference, up to a factor that matching the norm cancels.
pub(super) struct Parts {
    /// [D, branches * r]
    pub(super) down: Tensor,
    /// Each branch's two convolutions, [c, r, k, k] and [r, c, k, k]; none in a plain low-rank adapter.
    pub(super) convolutions: Vec<(Tensor, Tensor)>,
    /// [branches * r, D]
    pub(super) up: Tensor,
    /// [D]
    pub(super) blend: Tensor,
}

/// An adapter and its blend vector.
#[derive(Debug, Clone)]
pub struct Adapter {
    residual: Residual,
    /// [1, 1, D]
    blend: Tensor,
}

fn blend(width: usize, start: f64, vb: VarBuilder<'_>) -> Result<Tensor> {
    vb.get_with_hints((1, 1, width), "i_w", Init::Const(start))
}

impl Adapter {
    /// The adapter of vision group `i`, under `image_adapter`.
    pub fn vision(config: &Config, i: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.vision.width;
        let under = vb.pp(format!("lora_adapters.{i}"));
        let residual = match config.adapter {
            AdapterKind::ConvLora => Residual::ConvLora(ConvLora::new(width, config, under)?),
            AdapterKind::Lora => Residual::Lora(Lora::new(width, config, under)?),
        };
        let blend = blend(
            width,
            config.image_adapt_weight,
            vb.pp(format!("m_i_w.{i}")),
        )?;
        Ok(Self { residual, blend })
    }

    /// The adapter of text group `i`, under `text_adapter`.
    pub fn text(config: &Config, i: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.text_width;
        let lora = Lora::new(width, config, vb.pp(format!("lora_adapters.{i}")))?;
        let blend = blend(width, config.text_adapt_weight, vb.pp(format!("m_t_w.{i}")))?;
        Ok(Self {
            residual: Residual::Lora(lora),
            blend,
        })
    }

    /// The same adapter in its form for inference.
    pub fn fold(self) -> Result<Self> {
        let residual = match self.residual {
            Residual::ConvLora(conv) => Residual::Folded(conv.fold()?),
            other => other,
        };
        Ok(Self { residual, ..self })
    }

    /// Its weights, for a form of it that others compute.
    pub(super) fn parts(&self) -> Result<Parts> {
        let blend = self.blend.flatten_all()?;
        let folded = match self.residual.clone() {
            Residual::Lora(Lora { low_rank, .. }) => {
                return Ok(Parts {
                    down: low_rank.down,
                    convolutions: Vec::new(),
                    up: low_rank.up,
                    blend,
                });
            }
            Residual::ConvLora(conv) => conv.fold()?,
            Residual::Folded(conv) => conv,
        };
        let FoldedConvLora { branches, up } = folded;
        let down: Vec<_> = branches.iter().map(|b| &b.low_rank.down).collect();
        Ok(Parts {
            down: Tensor::cat(&down, 1)?,
            convolutions: branches
                .into_iter()
                .map(|branch| (branch.conv_down, branch.conv_up))
                .collect(),
            up,
            blend,
        })
    }

    /// What its numbers are, which may be wider than the tower's.
    pub fn dtype(&self) -> DType {
        self.blend.dtype()
    }

    /// Tokens [B, L, D] -> adapted tokens [B, L, D]. `grid` is where they lie; plain low-rank adapters do not look at it.
    pub fn forward(&self, x: &Tensor, grid: Grid) -> Result<Tensor> {
        let residual = match &self.residual {
            Residual::Lora(lora) => lora.forward(x)?,
            Residual::ConvLora(conv) => conv.forward(x, grid)?,
            Residual::Folded(conv) => conv.forward(x, grid)?,
        };
        let factor = (ops::norm(x)? / ops::norm(&residual)?)?; // [B, L, 1]
        let matched = residual.broadcast_mul(&factor)?;
        let kept = x.broadcast_mul(&self.blend.affine(-1.0, 1.0)?)?;
        kept + matched.broadcast_mul(&self.blend)?
    }
}
