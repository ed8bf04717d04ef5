//! The vision side laid out for this machine's CPU: the packed tower, and adapters and heads whose steps between products are one pass each.
//!
//! Computes what [`AcdClip::forward`](super::AcdClip::forward) computes of the same network unpacked, which is its plain twin.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use parking_lot::Mutex;

use super::{
    acdclip::Tokens,
    adapter::{Adapter, Parts},
    head::Head,
};
use crate::{
    clip::{
        attention::Block,
        packed::{self, PackedTower, Pictures, dense, numbers},
        vision::VisionTower,
    },
    kernels::{
        bf16::Bf16,
        bytes::{self, Bytes},
        dense::{Dense, Float},
        floats::{self, Floats},
        for_each_numbered_row, for_each_row,
        int8::Int8,
        norm::Norm,
        reduce,
    },
    ops::MIN_NORM,
    precision::Packing,
};

/// A packed vision side in the arithmetic that was asked for.
pub(super) trait PackedNet: std::fmt::Debug + Send + Sync {
    /// Normalised pixels [B, 3, height, width] -> tokens of every group. `tower` is that whose blocks were taken.
    fn forward(&self, pixels: &Tensor, tower: &VisionTower) -> Result<Tokens>;
}

/// One group's adapter and heads, as they are taken to be packed.
pub(super) struct GroupParts<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) segmentation: &'a Head,
    pub(super) detection: &'a Head,
}

/// Blocks of a tower, from first to last.
pub(super) type Blocks<'a> = &'a mut dyn Iterator<Item = Result<Block>>;

/// Packs a tower with its blocks, and groups, all on the CPU and folded.
pub(super) type Pack =
    fn(&VisionTower, Blocks<'_>, &[GroupParts<'_>]) -> Result<Box<dyn PackedNet>>;

/// How this machine computes in that arithmetic quickest.
pub(super) fn pack(packing: Packing) -> Pack {
    match packing {
        Packing::F32 if floats::is_available() => network::<Floats, Floats>,
        Packing::F32 => network::<Float, Float>,
        Packing::Bf16 => network::<Bf16, Bf16>,
        Packing::Int8 if bytes::is_available() => network::<Bytes, Bf16>,
        Packing::Int8 => network::<Int8, Float>,
    }
}

fn network<L: Dense + 'static, E: Dense + 'static>(
    tower: &VisionTower,
    blocks: Blocks<'_>,
    groups: &[GroupParts<'_>],
) -> Result<Box<dyn PackedNet>> {
    Ok(Box::new(Network::<L, E>::new(tower, blocks, groups)?))
}

/// Blocks are layers of kind `L`; embedding, adapters and heads, which are a small part of the work, of kind `E`.
struct Network<L: Dense, E: Dense> {
    tower: PackedTower<L, E>,
    groups: Vec<PackedGroup<E>>,
    workspaces: Mutex<Vec<Workspace<L, E>>>,
    /// What tokens start from on the grid that was last asked for.
    start: Mutex<Option<Start>>,
}

/// What tokens start from on a grid: positions, and the class token.
#[derive(Clone)]
struct Start {
    grid: (usize, usize),
    /// [1 + L, D]
    tokens: Arc<[f32]>,
}

impl<L: Dense, E: Dense> std::fmt::Debug for Network<L, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("blocks", &self.tower.depth())
            .field("groups", &self.groups.len())
            .finish_non_exhaustive()
    }
}

/// The memory that pictures go through the network in.
struct Workspace<L: Dense, E: Dense> {
    tower: packed::Workspace<L, E>,
    group: GroupWorkspace<E>,
}

struct GroupWorkspace<E: Dense> {
    tokens: E::Rows,
    /// [B * L, branches * r]
    low: Vec<f32>,
    branches: Vec<BranchWorkspace<E>>,
    joined: E::Rows,
    /// [B * L, D]
    residual: Vec<f32>,
    hidden: E::Rows,
}

struct BranchWorkspace<E: Dense> {
    down: E::Rows,
    /// [B * L, c]
    narrow: Vec<f32>,
    up: E::Rows,
    /// [B * L, r]
    wide: Vec<f32>,
}

impl<L: Dense, E: Dense> Workspace<L, E> {
    fn new(branches: usize) -> Self {
        let branch = || BranchWorkspace {
            down: E::Rows::default(),
            narrow: Vec::new(),
            up: E::Rows::default(),
            wide: Vec::new(),
        };
        Self {
            tower: packed::Workspace::default(),
            group: GroupWorkspace {
                tokens: E::Rows::default(),
                low: Vec::new(),
                branches: std::iter::repeat_with(branch).take(branches).collect(),
                joined: E::Rows::default(),
                residual: Vec::new(),
                hidden: E::Rows::default(),
            },
        }
    }
}

impl<L: Dense, E: Dense> Network<L, E> {
    fn new(tower: &VisionTower, blocks: Blocks<'_>, groups: &[GroupParts<'_>]) -> Result<Self> {
        Ok(Self {
            tower: PackedTower::new(tower, blocks)?,
            groups: groups.iter().map(PackedGroup::new).collect::<Result<_>>()?,
            workspaces: Mutex::default(),
            start: Mutex::default(),
        })
    }

    /// [1 + L, D]
    fn start(&self, tower: &VisionTower, grid: (usize, usize)) -> Result<Arc<[f32]>> {
        let kept = self.start.lock().clone();
        if let Some(start) = kept.filter(|start| start.grid == grid) {
            return Ok(start.tokens);
        }
        let tokens: Arc<[f32]> = numbers(&tower.start(grid)?)?.into();
        *self.start.lock() = Some(Start {
            grid,
            tokens: tokens.clone(),
        });
        Ok(tokens)
    }

    fn tokens(&self, pixels: &[f32], pictures: Pictures, start: &[f32]) -> Result<Tokens> {
        let kept = self.workspaces.lock().pop();
        let branches = self.groups.first().map_or(0, |group| group.branches.len());
        let mut workspace = kept.unwrap_or_else(|| Workspace::new(branches));
        let step = self.tower.depth() / self.groups.len().max(1);
        let mut x = self
            .tower
            .embed(pixels, pictures, start, &mut workspace.tower)?;
        let mut tokens = Tokens {
            segmentation: Vec::with_capacity(self.groups.len()),
            detection: Vec::with_capacity(self.groups.len()),
            grid: (pictures.rows, pictures.columns),
        };
        for (i, group) in self.groups.iter().enumerate() {
            let range = i * step..(i + 1) * step;
            self.tower
                .run(&mut x, pictures.batch, range, &mut workspace.tower)?;
            group.adapt(&mut x, pictures, &mut workspace.group)?;
            let [segmentation, detection] =
                group.heads(&x, pictures, self.tower.width(), &mut workspace.group)?;
            tokens.detection.push(mean(&detection, pictures)?);
            let joint = segmentation.len() / pictures.batch / pictures.patches();
            let shape = (pictures.batch, pictures.patches(), joint);
            let segmentation = Tensor::from_vec(segmentation, shape, &Device::Cpu)?;
            tokens.segmentation.push(segmentation);
        }
        self.workspaces.lock().push(workspace);
        Ok(tokens)
    }
}

impl<L: Dense, E: Dense> PackedNet for Network<L, E> {
    fn forward(&self, pixels: &Tensor, tower: &VisionTower) -> Result<Tokens> {
        let grid = tower.grid(pixels)?;
        let batch = pixels.dim(0)?;
        if batch == 0 {
            candle_core::bail!("wanted a batch of one picture or more, found none");
        }
        let pictures = Pictures {
            batch,
            rows: grid.0,
            columns: grid.1,
        };
        let (pixels, start) = (numbers(pixels)?, self.start(tower, grid)?);
        // From within the pool its threads stay awake from one step to the next.
        rayon::scope(|_| self.tokens(&pixels, pictures, &start))
    }
}

/// The two convolutions of one branch, over numbers that lie pixel by pixel.
struct PackedBranch<E> {
    /// Side of the kernel, odd.
    kernel: usize,
    /// [k * k * r -> c]
    down: E,
    /// [k * k * c -> r]
    up: E,
}

/// One group's adapter and heads.
struct PackedGroup<E> {
    /// [D -> branches * r]
    down: E,
    /// Numbers of a branch between its projections.
    rank: usize,
    branches: Vec<PackedBranch<E>>,
    /// [branches * r -> D]
    up: E,
    /// [D]
    blend: Vec<f32>,
    /// Segmentation, detection.
    heads: [PackedHead<E>; 2],
}

/// A projection without a bias, whose weight is [inputs, outputs].
fn projection<E: Dense>(weight: &Tensor) -> Result<E> {
    let outputs = weight.dim(1)?;
    E::new(&numbers(&weight.t()?.contiguous()?)?, vec![0.0; outputs])
}

/// A convolution's weight [out, in, k, k] for pixels that lie in rows of k * k * in numbers.
fn convolution<E: Dense>(weight: &Tensor) -> Result<E> {
    let outputs = weight.dim(0)?;
    let weight = weight.permute((0, 2, 3, 1))?.contiguous()?;
    E::new(&numbers(&weight)?, vec![0.0; outputs])
}

impl<E: Dense> PackedGroup<E> {
    fn new(parts: &GroupParts<'_>) -> Result<Self> {
        let Parts {
            down,
            convolutions,
            up,
            blend,
        } = parts.adapter.parts()?;
        let branch = |(down, up): &(Tensor, Tensor)| {
            Ok(PackedBranch {
                kernel: down.dim(2)?,
                down: convolution(down)?,
                up: convolution(up)?,
            })
        };
        Ok(Self {
            rank: down.dim(1)? / convolutions.len().max(1),
            down: projection(&down)?,
            branches: convolutions.iter().map(branch).collect::<Result<_>>()?,
            up: projection(&up)?,
            blend: numbers(&blend)?,
            heads: [
                PackedHead::new(parts.segmentation)?,
                PackedHead::new(parts.detection)?,
            ],
        })
    }

    /// The patch tokens of `x`, [B, 1 + L, D], become adapted ones; the class token stays.
    fn adapt(
        &self,
        x: &mut [f32],
        pictures: Pictures,
        workspace: &mut GroupWorkspace<E>,
    ) -> Result<()> {
        let GroupWorkspace {
            tokens,
            low,
            branches,
            joined,
            residual,
            ..
        } = workspace;
        let width = self.blend.len();
        fill_patches::<E>(tokens, x, pictures, width);
        self.down.forward(tokens, low)?;
        let (rank, all) = (self.rank, self.rank * self.branches.len().max(1));
        for (number, (branch, workspace)) in self.branches.iter().zip(&mut *branches).enumerate() {
            let from = Planes {
                values: low,
                stride: all,
                first: number * rank,
                channels: rank,
            };
            branch.forward(from, pictures, workspace)?;
        }
        let count = pictures.batch * pictures.patches();
        E::fill(
            joined,
            count,
            all,
            #[inline(always)]
            |i, row| {
                if branches.is_empty() {
                    return row.copy_from_slice(&low[i * all..(i + 1) * all]);
                }
                for (part, branch) in row.chunks_exact_mut(rank).zip(&*branches) {
                    part.copy_from_slice(&branch.wide[i * rank..(i + 1) * rank]);
                }
            },
        );
        self.up.forward(joined, residual)?;
        self.blend(x, pictures, residual);
        Ok(())
    }

    /// Equations 2 and 3: the residual matched to the token's norm, and blended into it.
    fn blend(&self, x: &mut [f32], pictures: Pictures, residual: &[f32]) {
        let (width, patches) = (self.blend.len(), pictures.patches());
        let norm = |row: &[f32]| {
            let squares = reduce(row, 0.0, |x| x * x, |a, b| a + b);
            squares.sqrt().max(MIN_NORM as f32)
        };
        for_each_numbered_row(
            x,
            width,
            #[inline(always)]
            |i, row| {
                let (picture, Some(patch)) =
                    (i / (1 + patches), (i % (1 + patches)).checked_sub(1))
                else {
                    return;
                };
                let residual = &residual[(picture * patches + patch) * width..][..width];
                let factor = norm(row) / norm(residual);
                let terms = residual.iter().zip(&self.blend);
                for (x, (residual, blend)) in row.iter_mut().zip(terms) {
                    *x = *x * (1.0 - blend) + residual * factor * blend;
                }
            },
        );
    }

    /// Unit vectors of both heads, [B, L, W].
    fn heads(
        &self,
        x: &[f32],
        pictures: Pictures,
        width: usize,
        workspace: &mut GroupWorkspace<E>,
    ) -> Result<[Vec<f32>; 2]> {
        let GroupWorkspace { tokens, hidden, .. } = workspace;
        fill_patches::<E>(tokens, x, pictures, width);
        let [segmentation, detection] = &self.heads;
        Ok([
            segmentation.forward(tokens, hidden)?,
            detection.forward(tokens, hidden)?,
        ])
    }
}

/// Rows of the patch tokens of `x`, [B, 1 + L, D].
fn fill_patches<E: Dense>(rows: &mut E::Rows, x: &[f32], pictures: Pictures, width: usize) {
    let patches = pictures.patches();
    E::fill(
        rows,
        pictures.batch * patches,
        width,
        #[inline(always)]
        |i, row| {
            let token = i / patches * (1 + patches) + 1 + i % patches;
            row.copy_from_slice(&x[token * width..(token + 1) * width]);
        },
    );
}

/// Numbers at every patch: `channels` of the `stride` that a patch has, from `first` on.
#[derive(Clone, Copy)]
struct Planes<'a> {
    values: &'a [f32],
    stride: usize,
    first: usize,
    channels: usize,
}

impl<E: Dense> PackedBranch<E> {
    /// Both convolutions, into `workspace.wide`.
    fn forward(
        &self,
        from: Planes<'_>,
        pictures: Pictures,
        workspace: &mut BranchWorkspace<E>,
    ) -> Result<()> {
        let BranchWorkspace {
            down,
            narrow,
            up,
            wide,
        } = workspace;
        unfold::<E>(down, from, pictures, self.kernel);
        self.down.forward(down, narrow)?;
        let channels = narrow.len() / (pictures.batch * pictures.patches()).max(1);
        let from = Planes {
            values: narrow,
            stride: channels,
            first: 0,
            channels,
        };
        unfold::<E>(up, from, pictures, self.kernel);
        self.up.forward(up, wide)
    }
}

/// A row for each patch of what a zero-padded convolution of side `kernel` sees of it, [k * k * channels].
fn unfold<E: Dense>(rows: &mut E::Rows, from: Planes<'_>, pictures: Pictures, kernel: usize) {
    let Planes {
        values,
        stride,
        first,
        channels,
    } = from;
    let (height, width) = (pictures.rows, pictures.columns);
    E::fill(
        rows,
        pictures.batch * pictures.patches(),
        kernel * kernel * channels,
        #[inline(always)]
        |i, row| {
            let (picture, patch) = (i / (height * width), i % (height * width));
            let (y, x) = (patch / width, patch % width);
            for (tap, part) in row.chunks_exact_mut(channels).enumerate() {
                let inside = |at: usize, offset: usize, size: usize| {
                    (at + offset)
                        .checked_sub(kernel / 2)
                        .filter(|at| *at < size)
                };
                let at = inside(y, tap / kernel, height).zip(inside(x, tap % kernel, width));
                match at {
                    Some((y, x)) => {
                        let patch = (picture * height + y) * width + x;
                        part.copy_from_slice(&values[patch * stride + first..][..channels]);
                    }
                    None => part.fill(0.0),
                }
            }
        },
    );
}

/// MLP, LayerNorm and L2.
struct PackedHead<E> {
    hidden: E,
    out: E,
    norm: Norm,
}

impl<E: Dense> PackedHead<E> {
    fn new(head: &Head) -> Result<Self> {
        let (hidden, out) = head.mlp();
        Ok(Self {
            hidden: dense(hidden)?,
            out: dense(out)?,
            norm: packed::norm(head.norm())?,
        })
    }

    /// Rows of tokens -> unit vectors [B, L, W]
    fn forward(&self, tokens: &mut E::Rows, hidden: &mut E::Rows) -> Result<Vec<f32>> {
        self.hidden.activate(
            tokens,
            #[inline(always)]
            |x| x.max(super::head::NEGATIVE_SLOPE as f32 * x),
            hidden,
        )?;
        let mut out = Vec::new();
        self.out.forward(hidden, &mut out)?;
        let width = self.norm.weight.len();
        for_each_row(
            &mut out,
            width,
            #[inline(always)]
            |row| {
                self.norm.in_place(row);
                let squares = reduce(row, 0.0, |x| x * x, |a, b| a + b);
                let factor = 1.0 / squares.sqrt().max(MIN_NORM as f32);
                for x in row {
                    *x *= factor;
                }
            },
        );
        Ok(out)
    }
}

/// Mean over the patches of each picture: [B, L, W] -> [B, W]
fn mean(vectors: &[f32], pictures: Pictures) -> Result<Tensor> {
    let patches = pictures.patches();
    let joint = vectors.len() / pictures.batch / patches;
    let mut means = vec![0.0; pictures.batch * joint];
    let each = means.chunks_exact_mut(joint);
    for (mean, vectors) in each.zip(vectors.chunks_exact(patches * joint)) {
        for vector in vectors.chunks_exact(joint) {
            for (mean, x) in mean.iter_mut().zip(vector) {
                *mean += x;
            }
        }
        for mean in mean {
            *mean /= patches as f32;
        }
    }
    Tensor::from_vec(means, (pictures.batch, joint), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::DType;
    use candle_nn::{VarBuilder, VarMap};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{Activation, AdapterKind, Config, Form},
        net::AcdClip,
    };

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

    /// A small network of random weights, twice.
    fn networks(config: &Config, seed: u64) -> [AcdClip; 2] {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        AcdClip::new(config, vb.clone(), vb).unwrap();
        let mut names: Vec<_> = map.data().lock().unwrap().keys().cloned().collect();
        names.sort();
        let shapes = map.data().lock().unwrap().clone();
        let tensor = |(i, name): (usize, &String)| {
            let shape = shapes[name].dims();
            let drawn = noise(shape, 0.3, seed.wrapping_add(i as u64));
            let around = f64::from(u8::from(name.contains("norm") && name.ends_with("weight")));
            (name.clone(), (drawn + around).unwrap())
        };
        let tensors: std::collections::HashMap<_, _> =
            names.iter().enumerate().map(tensor).collect();
        [(); 2].map(|()| {
            let vb = VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu);
            AcdClip::new(config, vb.clone(), vb)
                .unwrap()
                .fold()
                .unwrap()
        })
    }

    fn config(heads: usize, head: usize) -> Config {
        let mut config = Config::preset("clip-vit-l-14-336", Form::Official).unwrap();
        config.vision.width = heads * head;
        config.vision.heads = heads;
        config.vision.layers = 4;
        config.vision.patch_size = 2;
        config.vision.image_size = 8;
        config.groups = 2;
        config.text_width = 24;
        config.mlp_hidden = 40;
        config
    }

    fn all(tokens: &Tokens) -> Vec<f32> {
        let parts = tokens.segmentation.iter().chain(&tokens.detection);
        parts.flat_map(|x| numbers(x).unwrap()).collect()
    }

    /// Largest difference of unit vectors from those of the plain network.
    fn difference(config: &Config, pack: Pack, pixels: &Tensor, seed: u64) -> f32 {
        let [plain, packed] = networks(config, seed);
        let plain = plain.forward(pixels).unwrap();
        let packed = packed.pack_as(pack).unwrap().forward(pixels).unwrap();
        assert_eq!(packed.grid, plain.grid);
        let pairs = all(&plain).into_iter().zip(all(&packed));
        // The largest of all is what is no number.
        pairs
            .map(|(a, b)| (a - b).abs())
            .max_by(f32::total_cmp)
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_packed_network_computes_what_the_plain_one_does(
            (batch, rows, columns) in (1usize..4, 1usize..9, 1usize..9),
            heads in 1usize..4, head in 1usize..7, quick: bool, plain_norm: bool, lora: bool, seed: u64,
        ) {
            let mut config = config(heads, 8 * head);
            config.activation = if quick { Activation::QuickGelu } else { Activation::Gelu };
            config.pre_norm = !plain_norm;
            config.adapter = if lora { AdapterKind::Lora } else { AdapterKind::ConvLora };
            let pixels = noise(&[batch, 3, 2 * rows, 2 * columns], 2.0, seed);
            // Also as machines without this one's instructions compute.
            for exact in [pack(Packing::F32), network::<Float, Float>] {
                prop_assert!(difference(&config, exact, &pixels, seed) < 1e-4);
            }
            if Packing::Bf16.is_available() {
                let rounded = difference(&config, pack(Packing::Bf16), &pixels, seed);
                prop_assert!(rounded < 0.1, "{rounded}");
            }
            for bytes in [pack(Packing::Int8), network::<Int8, Float>] {
                let rounded = difference(&config, bytes, &pixels, seed);
                prop_assert!(rounded < 0.3, "{rounded}");
            }
        }
    }

    #[test]
    fn a_number_that_is_none_does_not_pass_for_one() {
        let config = config(2, 32);
        for bad in [f32::NAN, f32::from_bits(0xffff_ffff), f32::INFINITY] {
            let mut values = vec![0.5; 3 * 36];
            values[20] = bad;
            let pixels = Tensor::from_vec(values, (1, 3, 6, 6), &Device::Cpu).unwrap();
            for packing in Packing::available() {
                let [_, packed] = networks(&config, 1);
                let tokens = packed.pack(packing).unwrap().forward(&pixels).unwrap();
                assert!(
                    all(&tokens).iter().any(|x| !x.is_finite()),
                    "{packing} hides {bad}"
                );
            }
        }
    }

    #[test]
    fn no_pictures_are_an_error() {
        let pixels = Tensor::zeros((0, 3, 6, 6), DType::F32, &Device::Cpu).unwrap();
        for packing in Packing::available() {
            let [_, packed] = networks(&config(2, 32), 1);
            let found = packed.pack(packing).unwrap().forward(&pixels);
            let reason = found.err().unwrap().to_string();
            assert!(reason.contains("one picture or more"), "{reason}");
        }
    }

    #[test]
    fn a_network_gives_the_same_whatever_it_was_given_before() {
        let config = config(2, 32);
        let large = noise(&[3, 3, 16, 12], 2.0, 3);
        let small = noise(&[1, 3, 6, 8], 2.0, 4);
        for packing in Packing::available() {
            let [first, second] = networks(&config, 2).map(|net| net.pack(packing).unwrap());
            second.forward(&large).unwrap();
            let (first, second) = (
                first.forward(&small).unwrap(),
                second.forward(&small).unwrap(),
            );
            assert_eq!(all(&first), all(&second), "{packing}");
        }
    }
}
