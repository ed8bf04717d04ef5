//! ACD-CLIP, the vision side and everything after it: pixels and text features in, maps and class logits out.
//!
//! The paper and its released code part in a few places ([`Form`]). Both are here, and each has two ways to its map: a plain one, step by
//! step and differentiable, for training, and a short one for inference that a test holds against the plain one.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::VarBuilder;
use parking_lot::Mutex;

use super::{
    adapter::{Adapter, Grid},
    gateway::Gateway,
    head::Head,
    packed::{Blocks, GroupParts, Pack, PackedNet, pack},
};
use crate::{
    clip::vision::VisionTower,
    config::{Blur, Config, Form, Fusion},
    map::MapValues,
    ops,
    precision::Packing,
    resample::Separable,
};

/// Factor of the official form's patch logits.
const LOGIT_SCALE: f64 = 10.0;

/// Blurs kept ready on the device. A stream uses one or two; a caller that feeds a picture of every size must not fill the memory.
const KEPT_BLURS: usize = 8;

/// What belongs to one group of vision blocks.
#[derive(Debug)]
struct Group {
    adapter: Adapter,
    segmentation: Head,
    detection: Head,
    gateway: Option<Gateway>,
}

/// What the vision side makes of a batch of pictures.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Segmentation tokens of each group: unit vectors [B, L, W].
    pub segmentation: Vec<Tensor>,
    /// Detection token of each group: mean of unit vectors [B, W].
    pub detection: Vec<Tensor>,
    /// Rows and columns of patches; their product is L.
    pub grid: (usize, usize),
}

/// What the network says of one picture, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Probability of the abnormal class.
    pub class_score: f32,
    /// What [`AcdClip::patch_map`] gives, row by row.
    pub values: Vec<f32>,
}

/// Vision tower, adapters, heads and gateways.
#[derive(Debug)]
pub struct AcdClip {
    vision: VisionTower,
    groups: Vec<Group>,
    /// Tower, adapters and heads, where they are packed; the tower has no blocks then.
    packed: Option<Box<dyn PackedNet>>,
    form: Form,
    temperature: f64,
    blurs: Mutex<Vec<(Grid, Blur, Separable)>>,
}

impl AcdClip {
    /// Reads `vision_model` from `base` and `image_adapter` from `adapters`: the same builder for a bundle, two for training.
    pub fn new(config: &Config, base: VarBuilder<'_>, adapters: VarBuilder<'_>) -> Result<Self> {
        let vision = VisionTower::new(config, base.pp("vision_model"))?;
        Self::on(vision, config, adapters)
    }

    /// The network as [`new`](Self::new), [`fold`](Self::fold) and [`pack`](Self::pack) make it, of which no more than one block is in memory
    /// beside what is packed.
    pub fn packed(
        config: &Config,
        base: VarBuilder<'_>,
        adapters: VarBuilder<'_>,
        packing: Packing,
    ) -> Result<Self> {
        let vb = base.pp("vision_model");
        let vision = VisionTower::without_blocks(config, &vb)?;
        let net = Self::on(vision, config, adapters)?.fold()?;
        net.pack_with(&mut VisionTower::blocks(config, &vb), pack(packing))
    }

    fn on(vision: VisionTower, config: &Config, adapters: VarBuilder<'_>) -> Result<Self> {
        let vb = adapters.pp("image_adapter");
        let group = |i| {
            let gateway = match config.fusion {
                Fusion::Gateway => Some(Gateway::new(config, i, &vb)?),
                Fusion::Static => None,
            };
            Ok(Group {
                adapter: Adapter::vision(config, i, &vb)?,
                segmentation: Head::new(config, "seg", i, &vb)?,
                detection: Head::new(config, "det", i, &vb)?,
                gateway,
            })
        };
        Ok(Self {
            vision,
            groups: (0..config.groups).map(group).collect::<Result<_>>()?,
            packed: None,
            form: config.form,
            temperature: config.temperature,
            blurs: Mutex::default(),
        })
    }

    /// The same network with its adapters in their form for inference.
    pub fn fold(mut self) -> Result<Self> {
        self.groups = self
            .groups
            .into_iter()
            .map(|group| {
                Ok(Group {
                    adapter: group.adapter.fold()?,
                    ..group
                })
            })
            .collect::<Result<_>>()?;
        Ok(self)
    }

    /// The same network laid out for this machine's CPU, for inference alone.
    pub fn pack(self, packing: Packing) -> Result<Self> {
        self.pack_as(pack(packing))
    }

    /// The same in a way of one's choice.
    pub(super) fn pack_as(mut self, pack: Pack) -> Result<Self> {
        let mut blocks = self.vision.take_blocks().into_iter().map(Ok);
        self.pack_with(&mut blocks, pack)
    }

    fn pack_with(mut self, blocks: Blocks<'_>, pack: Pack) -> Result<Self> {
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|group| GroupParts {
                adapter: &group.adapter,
                segmentation: &group.segmentation,
                detection: &group.detection,
            })
            .collect();
        self.packed = Some(pack(&self.vision, blocks, &groups)?);
        Ok(self)
    }

    /// Its vision tower, which has no blocks any more where the network is packed.
    pub fn vision(&self) -> &VisionTower {
        &self.vision
    }

    /// Normalised pixels [B, 3, height, width], sides multiples of the patch size -> tokens of every group.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tokens> {
        if let Some(packed) = &self.packed {
            return packed.forward(pixels, &self.vision);
        }
        let grid = self.vision.grid(pixels)?;
        let taps = self.taps(pixels)?;
        let mut tokens = Tokens {
            segmentation: Vec::with_capacity(taps.len()),
            detection: Vec::with_capacity(taps.len()),
            grid,
        };
        for (group, tap) in self.groups.iter().zip(&taps) {
            tokens.segmentation.push(group.segmentation.forward(tap)?);
            tokens
                .detection
                .push(group.detection.forward(tap)?.mean(1)?);
        }
        Ok(tokens)
    }

    /// Adapted patch tokens after each group, [B, L, D].
    fn taps(&self, pixels: &Tensor) -> Result<Vec<Tensor>> {
        let grid = self.vision.grid(pixels)?;
        let step = self.vision.depth() / self.groups.len();
        let mut x = self.vision.embed(pixels)?; // [B, 1 + L, D]
        let patches = x.dim(1)? - 1;
        let mut taps = Vec::with_capacity(self.groups.len());
        for (i, group) in self.groups.iter().enumerate() {
            x = self.vision.run(&x, i * step..(i + 1) * step)?;
            let seen = x.narrow(1, 1, patches)?.contiguous()?;
            let seen = seen.to_dtype(group.adapter.dtype())?;
            let adapted = group.adapter.forward(&seen, grid)?;
            let class = x.narrow(1, 0, 1)?.contiguous()?;
            x = Tensor::cat(&[&class, &adapted.to_dtype(x.dtype())?], 1)?;
            taps.push(adapted);
        }
        Ok(taps)
    }

    /// Text features that group `i` is compared with: [B, W, 2] from [B or 1, N, W, 2].
    fn fused_text(&self, i: usize, tokens: &Tokens, text: &Tensor) -> Result<Tensor> {
        let seen = &tokens.segmentation[i];
        match &self.groups[i].gateway {
            Some(gateway) => gateway.forward(seen, text),
            None => {
                let (_, _, width, states) = text.dims4()?;
                let own = text.narrow(1, i, 1)?.squeeze(1)?;
                own.broadcast_as((seen.dim(0)?, width, states))?
                    .contiguous()
            }
        }
    }

    /// Logits of both states at every patch, of each group: [B, 2, rows, columns].
    ///
    /// Official form: ten times the dot products. Paper form: cosines over the temperature (equation 6 before its softmax).
    pub fn level_logits(&self, tokens: &Tokens, text: &Tensor) -> Result<Vec<Tensor>> {
        let (rows, columns) = tokens.grid;
        (0..self.groups.len())
            .map(|i| {
                let fused = self.scaled_text(&self.fused_text(i, tokens, text)?)?;
                let logits = tokens.segmentation[i].matmul(&fused)?; // [B, L, 2]
                let batch = logits.dim(0)?;
                logits.transpose(1, 2)?.reshape((batch, 2, rows, columns))
            })
            .collect()
    }

    /// Fused text [B, W, 2], so scaled that its dot products with unit vectors are logits.
    fn scaled_text(&self, fused: &Tensor) -> Result<Tensor> {
        match self.form {
            Form::Official => fused * LOGIT_SCALE,
            Form::Paper => {
                let unit = ops::l2_normalize(&fused.transpose(1, 2)?)?.transpose(1, 2)?;
                (unit / self.temperature)?.contiguous()
            }
        }
    }

    /// Probabilities of both states at every pixel, [B, 2, height, width], step by step and differentiable. What training looks at.
    ///
    /// `blur` is for comparison with inference; the official code trains without.
    pub fn probability_map(
        &self,
        tokens: &Tokens,
        text: &Tensor,
        blur: Option<Blur>,
        size: (usize, usize),
    ) -> Result<Tensor> {
        let levels = self.level_logits(tokens, text)?;
        let device = text.device();
        let upsample = Separable::bilinear(tokens.grid, size, device)?;
        match self.form {
            Form::Official => {
                let levels = levels
                    .iter()
                    .map(|level| match blur {
                        Some(blur) => upsample
                            .apply(&self.blur_filter(tokens.grid, blur, device)?.apply(level)?),
                        None => upsample.apply(level),
                    })
                    .collect::<Result<Vec<_>>>()?;
                candle_nn::ops::softmax(&mean(&levels)?, 1)
            }
            Form::Paper => {
                let levels = levels
                    .iter()
                    .map(|level| candle_nn::ops::softmax(level, 1))
                    .collect::<Result<Vec<_>>>()?;
                upsample.apply(&mean(&levels)?)
            }
        }
    }

    /// What values [`AcdClip::patch_map`] gives.
    pub fn map_values(&self) -> MapValues {
        match self.form {
            Form::Official => MapValues::LogitDifference,
            Form::Paper => MapValues::Probability,
        }
    }

    /// The map on the patch grid, [B, rows, columns]: all that inference needs.
    ///
    /// Official form: only the difference of the two logits is computed, since a softmax over two is a sigmoid of their difference, and
    /// blur, mean and upsampling are linear. Paper form: the mean of the levels' abnormal probabilities; never blurred.
    pub fn patch_map(&self, tokens: &Tokens, text: &Tensor, blur: Option<Blur>) -> Result<Tensor> {
        let (rows, columns) = tokens.grid;
        let levels = (0..self.groups.len())
            .map(|i| {
                let fused = self.scaled_text(&self.fused_text(i, tokens, text)?)?; // [B, W, 2]
                let direction = (fused.narrow(2, 1, 1)? - fused.narrow(2, 0, 1)?)?; // [B, W, 1]
                let difference = tokens.segmentation[i].matmul(&direction)?; // [B, L, 1]
                let difference = difference.reshape((difference.dim(0)?, rows, columns))?;
                match self.form {
                    Form::Official => Ok(difference),
                    Form::Paper => candle_nn::ops::sigmoid(&difference),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        self.blurred(mean(&levels)?, blur)
    }

    /// Maps [B, rows, columns] as [`patch_map`](Self::patch_map) gives them without a blur, blurred: linear in the official form, nothing in
    /// the paper's.
    pub fn blurred(&self, maps: Tensor, blur: Option<Blur>) -> Result<Tensor> {
        match (self.form, blur) {
            (Form::Official, Some(b)) => {
                let (_, rows, columns) = maps.dims3()?;
                self.blur_filter((rows, columns), b, maps.device())?
                    .apply(&maps)
            }
            _ => Ok(maps),
        }
    }

    /// A blur on the device, made once.
    fn blur_filter(&self, grid: Grid, blur: Blur, device: &Device) -> Result<Separable> {
        let mut kept = self.blurs.lock();
        if let Some((.., filter)) = kept.iter().find(|(g, b, _)| (*g, *b) == (grid, blur)) {
            return Ok(filter.clone());
        }
        let filter = Separable::blur(grid, blur.kernel, blur.sigma, device)?;
        if kept.len() >= KEPT_BLURS {
            kept.clear();
        }
        kept.push((grid, blur, filter.clone()));
        Ok(filter)
    }

    /// Class probabilities and maps of all pictures, each blurred by its own of `blurs` (one a picture), in order.
    ///
    /// All of it is computed on the device and leaves it in one copy, the only one that is waited for.
    pub fn answers(
        &self,
        tokens: &Tokens,
        text: &Tensor,
        blurs: &[Option<Blur>],
    ) -> Result<Vec<Answer>> {
        let class = self.class_probability(tokens, text)?.unsqueeze(1)?; // [B, 1]
        let maps = self.blurred_maps(tokens, text, blurs)?.flatten_from(1)?; // [B, L]
        let rows = Tensor::cat(&[&class, &maps], 1)?.to_vec2::<f32>()?;
        Ok(rows
            .into_iter()
            .map(|mut row| Answer {
                values: row.split_off(1),
                class_score: row[0],
            })
            .collect())
    }

    fn blurred_maps(
        &self,
        tokens: &Tokens,
        text: &Tensor,
        blurs: &[Option<Blur>],
    ) -> Result<Tensor> {
        let first = blurs.first().copied().flatten();
        if blurs.iter().all(|blur| *blur == first) {
            return self.patch_map(tokens, text, first);
        }
        let maps = self.patch_map(tokens, text, None)?;
        let each = blurs.iter().enumerate();
        let each: Vec<_> = each
            .map(|(i, blur)| self.blurred(maps.narrow(0, i, 1)?, *blur))
            .collect::<Result<_>>()?;
        Tensor::cat(&each, 0)
    }

    /// Logits of the image's two classes, [B, 2], normal first. `text` is [B or 1, N, W, 2], unfused.
    pub fn class_logits(&self, tokens: &Tokens, text: &Tensor) -> Result<Tensor> {
        let last = self.groups.len() - 1;
        let compare = |i: usize, seen: &Tensor| {
            let level = text.narrow(1, i, 1)?.squeeze(1)?; // [B or 1, W, 2]
            seen.unsqueeze(1)?.broadcast_matmul(&level)?.squeeze(1) // [B, 2]
        };
        match self.form {
            Form::Official => {
                let logits = (0..=last)
                    .map(|i| compare(i, &tokens.detection[i]))
                    .collect::<Result<Vec<_>>>()?;
                mean(&logits)
            }
            Form::Paper => {
                compare(last, &ops::l2_normalize(&tokens.detection[last])?)? / self.temperature
            }
        }
    }

    /// Probability of the abnormal class, [B].
    pub fn class_probability(&self, tokens: &Tokens, text: &Tensor) -> Result<Tensor> {
        let probabilities = candle_nn::ops::softmax(&self.class_logits(tokens, text)?, D::Minus1)?;
        probabilities.narrow(1, 1, 1)?.squeeze(1)
    }
}

/// Mean of tensors of one shape.
fn mean(items: &[Tensor]) -> Result<Tensor> {
    Tensor::stack(items, 0)?.mean(0)
}
