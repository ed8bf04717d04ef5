//! The one description of a model: what golden `config.json` files, presets, training recipes and bundles say.
//!
//! A description may leave keys out: [`Config::from_json`] and [`Config::from_toml`] fill in the defaults, some of which depend on
//! other keys (the official form was run with another activation and another input than the paper's). A [`Config`] is always complete
//! and always one that a network can be built from.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    net::text::PROMPTS_AT_ONCE,
};

/// Largest width, depth, picture side or count that a config may ask for. Far above any published tower; low enough that no product of
/// two of them overflows, and that a hostile file cannot ask for absurd amounts of memory.
const MAX_SIZE: usize = 65_536;

/// Most sentences that the prompts of one state may make: its states times the templates.
const MAX_SENTENCES: usize = 1000;

/// Most attention scores of one block: heads times tokens squared. 4 GB; ViT-L/14 at 1036 px has not half as many.
const MAX_SCORES: usize = 1 << 30;

/// Which of two published descriptions of the network is computed where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// What the authors' released code computes; reproduces their checkpoints.
    #[default]
    Official,
    /// What the paper's equations say.
    Paper,
}

/// The non-linearity inside the towers' MLPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * Phi(x)`, by the error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`, what OpenAI's weights were trained with.
    QuickGelu,
}

/// The adapter after each vision group (the paper's table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterKind {
    /// Low-rank with two convolutions in the bottleneck (equations 1 to 3).
    #[default]
    ConvLora,
    /// Low-rank alone.
    Lora,
}

/// How text features meet the visual ones (the paper's table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fusion {
    /// The Dynamic Fusion Gateway (equations 4 and 5).
    #[default]
    Gateway,
    /// Group i sees the text features of level i, unmixed.
    Static,
}

/// The two kinds of picture that the official code tells apart at inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Products and surfaces.
    Industrial,
    /// Organs.
    Medical,
}

/// A gaussian blur of the level maps on the patch grid, with reflected borders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Blur {
    /// Side of the kernel in patches, odd.
    pub kernel: usize,
    /// Standard deviation in patches.
    pub sigma: f64,
}

/// The image score is `cls * class probability + map_max * largest map value + map_top * mean of the map's highest values`.
///
/// The last part is ours: one hot pixel makes a maximum, a defect heats a neighbourhood.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ImageScore {
    /// Weight of the abnormal class probability.
    pub cls: f32,
    /// Weight of the map's maximum.
    pub map_max: f32,
    /// Weight of the mean of the highest values.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub map_top: f32,
    /// Which share of the map those are.
    #[serde(
        default = "default_top_share",
        skip_serializing_if = "is_default_top_share"
    )]
    pub top_share: f32,
}

/// Share of the map whose mean [`ImageScore::map_top`] weighs, where nothing else is said.
const TOP_SHARE: f32 = 0.02;

fn default_top_share() -> f32 {
    TOP_SHARE
}

fn is_default_top_share(share: &f32) -> bool {
    *share == TOP_SHARE
}

fn is_zero(weight: &f32) -> bool {
    *weight == 0.0
}

impl ImageScore {
    /// The published form: class probability and maximum alone.
    const fn published(cls: f32, map_max: f32) -> Self {
        Self {
            cls,
            map_max,
            map_top: 0.0,
            top_share: TOP_SHARE,
        }
    }

    fn check(&self) -> Result<()> {
        let weights = [self.cls, self.map_max, self.map_top];
        let sum: f32 = weights.iter().sum();
        if weights.iter().all(|w| *w >= 0.0)
            && sum > 0.0
            && sum <= 1.0 + 1e-6
            && self.top_share > 0.0
            && self.top_share <= 1.0
        {
            return Ok(());
        }
        Err(Error::Config(format!(
            "image_score: wanted weights of 0 or more that add up to at most 1 and not to 0, and a top_share above 0 and up to 1, found {self:?}"
        )))
    }
}

impl Domain {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Industrial => "industrial",
            Self::Medical => "medical",
        }
    }

    /// The official code's blur for this domain.
    pub fn blur(self) -> Blur {
        match self {
            Self::Industrial => Blur {
                kernel: 7,
                sigma: 1.0,
            },
            Self::Medical => Blur {
                kernel: 9,
                sigma: 1.5,
            },
        }
    }

    /// The official code's image score for this domain.
    pub fn image_score(self) -> ImageScore {
        match self {
            Self::Industrial => ImageScore::published(0.9, 0.1),
            Self::Medical => ImageScore::published(0.5, 0.5),
        }
    }
}

/// The vision tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// D, width of a patch token.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Side in pixels of the picture that the position table is made for.
    pub image_size: usize,
}

/// The text tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextConfig {
    /// W, width of a text token.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Most tokens of a prompt, start and end included.
    #[serde(default = "default_context_length")]
    pub context_length: usize,
    /// Entries of the token table.
    #[serde(default = "default_vocab_size")]
    pub vocab_size: usize,
}

/// The sentences that stand for normal and abnormal. `{}` takes the class's text in a state, and the state in a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prompts {
    /// States of a normal thing.
    pub normal: Vec<String>,
    /// States of an abnormal thing.
    pub abnormal: Vec<String>,
    /// Sentences around a state.
    pub templates: Vec<String>,
}

impl Default for Prompts {
    /// The official code's prompts.
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Self {
            normal: list(&["{}", "a {}", "the {}"]),
            abnormal: list(&[
                "a damaged {}",
                "a broken {}",
                "a {} with flaw",
                "a {} with defect",
                "a {} with damage",
            ]),
            templates: list(&["{}.", "a photo of {}."]),
        }
    }
}

/// A complete, checked description of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Partial")]
pub struct Config {
    /// N, the number of groups that each tower is cut into.
    pub groups: usize,
    /// Which of the two published descriptions is computed.
    pub form: Form,
    /// Adapter of the vision groups.
    pub adapter: AdapterKind,
    /// Fusion of text and vision.
    pub fusion: Fusion,
    /// Non-linearity of both towers.
    pub activation: Activation,
    /// Whether the vision tower has a LayerNorm before its first block.
    pub pre_norm: bool,
    /// Epsilon of the towers' own LayerNorms.
    pub layer_norm_eps: f64,
    /// The vision tower.
    pub vision: VisionConfig,
    /// The text tower; `None` where only baked text features are to be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// W, width of the joint space.
    pub text_width: usize,
    /// Hidden width of the segmentation and detection heads.
    pub mlp_hidden: usize,
    /// Hidden width of the gateway.
    pub gate_hidden: usize,
    /// r, rank of the low-rank projections.
    pub lora_rank: usize,
    /// Their alpha.
    pub lora_alpha: f64,
    /// c, channels between the two convolutions.
    pub conv_lora_rank: usize,
    /// Their alpha.
    pub conv_lora_alpha: f64,
    /// Kernel sides of the convolution branches, odd.
    pub conv_kernel_sizes: Vec<usize>,
    /// Start value of the vision blend vectors.
    pub image_adapt_weight: f64,
    /// Start value of the text blend vectors.
    pub text_adapt_weight: f64,
    /// Side in pixels of the picture that the network is run on.
    pub input_size: usize,
    /// Mean of R, G, B in [0, 1], subtracted.
    pub image_mean: [f32; 3],
    /// Standard deviation of R, G, B in [0, 1], divided by.
    pub image_std: [f32; 3],
    /// Temperature of the paper form's softmaxes.
    pub temperature: f64,
    /// Blur of the official form's level maps; `None` for none.
    pub blur: Option<Blur>,
    /// How class probability and map make the image score.
    pub image_score: ImageScore,
    /// What prompts say.
    pub prompts: Prompts,
    /// Classes to bake text features for where none are named.
    pub classes: Vec<String>,
}

/// What a file may say: every key optional, `null` apart from absent only for `blur`.
#[derive(Deserialize)]
struct Partial {
    groups: Option<usize>,
    #[serde(default)]
    form: Form,
    #[serde(default)]
    adapter: AdapterKind,
    #[serde(default)]
    fusion: Fusion,
    activation: Option<Activation>,
    pre_norm: Option<bool>,
    layer_norm_eps: Option<f64>,
    vision: VisionConfig,
    text: Option<TextConfig>,
    text_width: Option<usize>,
    mlp_hidden: Option<usize>,
    gate_hidden: Option<usize>,
    lora_rank: Option<usize>,
    lora_alpha: Option<f64>,
    conv_lora_rank: Option<usize>,
    conv_lora_alpha: Option<f64>,
    conv_kernel_sizes: Option<Vec<usize>>,
    image_adapt_weight: Option<f64>,
    text_adapt_weight: Option<f64>,
    input_size: Option<usize>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    temperature: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    blur: Option<Option<Blur>>,
    image_score: Option<ImageScore>,
    #[serde(default)]
    prompts: Prompts,
    classes: Option<Vec<String>>,
    class_name: Option<String>,
}

/// OpenAI's mean and standard deviation of R, G, B.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

fn default_context_length() -> usize {
    77
}

fn default_vocab_size() -> usize {
    49_408
}

/// Tells a `null` (`Some(None)`) from an absent key (`None`, by `default`).
fn present<'de, D, T>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl TryFrom<Partial> for Config {
    type Error = Error;

    fn try_from(p: Partial) -> Result<Self> {
        let blur = match p.form {
            Form::Official => Some(Domain::Industrial.blur()),
            Form::Paper => None,
        };
        let text_width = p
            .text_width
            .or(p.text.as_ref().map(|text| text.width))
            .ok_or_else(|| {
                Error::Config(
                    "wanted text.width, or text_width for a model without a text tower; found neither"
                        .into(),
                )
            })?;
        let config = Self {
            groups: p.groups.unwrap_or(4),
            form: p.form,
            adapter: p.adapter,
            fusion: p.fusion,
            activation: p.activation.unwrap_or(default_activation(p.form)),
            pre_norm: p.pre_norm.unwrap_or(true),
            layer_norm_eps: p.layer_norm_eps.unwrap_or(1e-5),
            input_size: p.input_size.unwrap_or(p.vision.image_size),
            vision: p.vision,
            text: p.text,
            text_width,
            mlp_hidden: p.mlp_hidden.unwrap_or(256),
            gate_hidden: p.gate_hidden.unwrap_or(256),
            lora_rank: p.lora_rank.unwrap_or(16),
            lora_alpha: p.lora_alpha.unwrap_or(2.0),
            conv_lora_rank: p.conv_lora_rank.unwrap_or(8),
            conv_lora_alpha: p.conv_lora_alpha.unwrap_or(2.0),
            conv_kernel_sizes: p.conv_kernel_sizes.unwrap_or_else(|| vec![3, 5]),
            image_adapt_weight: p.image_adapt_weight.unwrap_or(0.2),
            text_adapt_weight: p.text_adapt_weight.unwrap_or(0.2),
            image_mean: p.image_mean.unwrap_or(CLIP_MEAN),
            image_std: p.image_std.unwrap_or(CLIP_STD),
            temperature: p.temperature.unwrap_or(0.07),
            blur: p.blur.unwrap_or(blur),
            image_score: p.image_score.unwrap_or(Domain::Industrial.image_score()),
            prompts: p.prompts,
            classes: p
                .classes
                .or(p.class_name.map(|name| vec![name]))
                .unwrap_or_else(|| vec!["object".into()]),
        };
        config.check()?;
        Ok(config)
    }
}

fn default_activation(form: Form) -> Activation {
    match form {
        Form::Official => Activation::Gelu,
        Form::Paper => Activation::QuickGelu,
    }
}

impl Config {
    /// Names that [`Config::preset`] knows.
    pub const PRESETS: [&'static str; 4] = [
        "clip-vit-l-14-336",
        "clip-vit-b-16",
        "clip-vit-b-32",
        "compact",
    ];

    /// A published tower with the default adapters, in the given form. `None` for an unknown name.
    ///
    /// In the official form ViT-L/14 runs at 518 px with GELU, as the authors ran it, in the paper form at 336 px with QuickGELU.
    pub fn preset(name: &str, form: Form) -> Option<Self> {
        let clip = |vision: [usize; 5], text: [usize; 3], input_size: usize| {
            let [width, layers, heads, patch_size, image_size] = vision;
            let [text_width, text_layers, text_heads] = text;
            Self::complete(Partial {
                form,
                input_size: Some(input_size),
                text: Some(TextConfig {
                    width: text_width,
                    layers: text_layers,
                    heads: text_heads,
                    context_length: default_context_length(),
                    vocab_size: default_vocab_size(),
                }),
                ..Partial::new(VisionConfig {
                    width,
                    layers,
                    heads,
                    patch_size,
                    image_size,
                })
            })
        };
        let large_input = match form {
            Form::Official => 518,
            Form::Paper => 336,
        };
        match name {
            "clip-vit-l-14-336" => clip([1024, 24, 16, 14, 336], [768, 12, 12], large_input),
            "clip-vit-b-16" => clip([768, 12, 12, 16, 224], [512, 12, 8], 224),
            "clip-vit-b-32" => clip([768, 12, 12, 32, 224], [512, 12, 8], 224),
            "compact" => Self::complete(Partial {
                form,
                groups: Some(2),
                activation: Some(Activation::Gelu),
                pre_norm: Some(false),
                layer_norm_eps: Some(1e-6),
                text_width: Some(128),
                input_size: Some(252),
                image_mean: Some(IMAGENET_MEAN),
                image_std: Some(IMAGENET_STD),
                blur: Some(None),
                image_score: Some(Domain::Medical.image_score()),
                ..Partial::new(VisionConfig {
                    width: 384,
                    layers: 12,
                    heads: 6,
                    patch_size: 14,
                    image_size: 518,
                })
            }),
            _ => None,
        }
    }

    fn complete(partial: Partial) -> Option<Self> {
        Self::try_from(partial).ok()
    }

    /// Reads a JSON description and fills in the defaults.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::Config(e.to_string()))
    }

    /// Reads a TOML description and fills in the defaults.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::Config(e.to_string()))
    }

    /// Patches along one side of the network's square input.
    pub fn grid(&self) -> usize {
        self.input_size / self.vision.patch_size
    }

    /// Blocks of the vision tower in one group.
    pub fn vision_group(&self) -> usize {
        self.vision.layers / self.groups
    }

    /// An error that says which value no network can be built from.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(what));
        if ![2, 3, 4, 6].contains(&self.groups) {
            return wrong(format!(
                "groups: wanted 2, 3, 4 or 6, found {}",
                self.groups
            ));
        }
        check_tower(
            "vision",
            self.vision.width,
            self.vision.layers,
            self.vision.heads,
            self.groups,
        )?;
        let sizes = [
            ("vision.patch_size", self.vision.patch_size),
            ("vision.image_size", self.vision.image_size),
            ("input_size", self.input_size),
            ("text_width", self.text_width),
            ("mlp_hidden", self.mlp_hidden),
            ("gate_hidden", self.gate_hidden),
            ("lora_rank", self.lora_rank),
            ("conv_lora_rank", self.conv_lora_rank),
        ];
        for (name, size) in sizes {
            check_size(name, size)?;
        }
        let patch = self.vision.patch_size;
        for (name, side) in [
            ("vision.image_size", self.vision.image_size),
            ("input_size", self.input_size),
        ] {
            if side < patch || !side.is_multiple_of(patch) {
                return wrong(format!(
                    "{name}: wanted a multiple of the patch size {patch}, found {side}; the nearest is {}",
                    (side / patch).max(1) * patch
                ));
            }
        }
        let Prompts {
            normal,
            abnormal,
            templates,
        } = &self.prompts;
        for (name, states) in [("normal", normal), ("abnormal", abnormal)] {
            let sentences = states.len().saturating_mul(templates.len());
            if !(1..=MAX_SENTENCES).contains(&sentences) {
                return wrong(format!(
                    "prompts: wanted 1 to {MAX_SENTENCES} sentences (states times templates), found {sentences} {name} ones"
                ));
            }
        }
        let patches = self.grid() * self.grid();
        check_attention("vision", patches + 1, self.vision.heads)?;
        if let Some(text) = &self.text {
            check_tower("text", text.width, text.layers, text.heads, self.groups)?;
            check_size("text.context_length", text.context_length)?;
            check_attention(
                "text",
                text.context_length,
                text.heads.saturating_mul(PROMPTS_AT_ONCE),
            )?;
            if !(1..=1 << 20).contains(&text.vocab_size) {
                return wrong(format!(
                    "text.vocab_size: wanted 1 to {}, found {}",
                    1 << 20,
                    text.vocab_size
                ));
            }
            if text.width != self.text_width {
                return wrong(format!(
                    "text_width: wanted text.width, {}, found {}",
                    text.width, self.text_width
                ));
            }
        }
        let kernels = &self.conv_kernel_sizes;
        if kernels.is_empty() || kernels.len() > 8 || kernels.iter().any(|k| k % 2 == 0 || *k > 31)
        {
            return wrong(format!(
                "conv_kernel_sizes: wanted one to eight odd sides up to 31, found {kernels:?}"
            ));
        }
        if let Some(blur) = self.blur
            && (blur.kernel % 2 == 0 || blur.kernel > 99 || !positive(blur.sigma))
        {
            return wrong(format!(
                "blur: wanted an odd kernel up to 99 and a sigma above 0, found {} and {}",
                blur.kernel, blur.sigma
            ));
        }
        self.image_score.check()?;
        if !positive(self.temperature) || !positive(self.layer_norm_eps) {
            return wrong(format!(
                "temperature and layer_norm_eps: wanted numbers above 0, found {} and {}",
                self.temperature, self.layer_norm_eps
            ));
        }
        if self.image_std.iter().any(|s| !positive(f64::from(*s))) {
            return wrong(format!(
                "image_std: wanted three numbers above 0, found {:?}",
                self.image_std
            ));
        }
        Ok(())
    }
}

/// A tower whose attention scores would not fit into memory is refused before a picture finds out.
fn check_attention(tower: &str, tokens: usize, heads: usize) -> Result<()> {
    let scores = tokens
        .checked_mul(tokens)
        .and_then(|n| n.checked_mul(heads));
    if scores.is_some_and(|scores| scores <= MAX_SCORES) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{tower}: wanted at most {MAX_SCORES} attention scores a block, found {heads} heads over {tokens} tokens; \
         choose a smaller input_size or context_length"
    )))
}

/// Above zero and finite; a NaN is not.
fn positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}

fn check_size(name: &str, size: usize) -> Result<()> {
    if (1..=MAX_SIZE).contains(&size) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{name}: wanted 1 to {MAX_SIZE}, found {size}"
    )))
}

fn check_tower(
    tower: &str,
    width: usize,
    layers: usize,
    heads: usize,
    groups: usize,
) -> Result<()> {
    for (name, size) in [("width", width), ("layers", layers), ("heads", heads)] {
        check_size(&format!("{tower}.{name}"), size)?;
    }
    if !width.is_multiple_of(heads) {
        return Err(Error::Config(format!(
            "{tower}.heads: wanted a divisor of the width {width}, found {heads}"
        )));
    }
    if !layers.is_multiple_of(groups) {
        return Err(Error::Config(format!(
            "groups: wanted a divisor of {tower}.layers, {layers}, found {groups}"
        )));
    }
    Ok(())
}

impl Partial {
    fn new(vision: VisionConfig) -> Self {
        Self {
            groups: None,
            form: Form::default(),
            adapter: AdapterKind::default(),
            fusion: Fusion::default(),
            activation: None,
            pre_norm: None,
            layer_norm_eps: None,
            vision,
            text: None,
            text_width: None,
            mlp_hidden: None,
            gate_hidden: None,
            lora_rank: None,
            lora_alpha: None,
            conv_lora_rank: None,
            conv_lora_alpha: None,
            conv_kernel_sizes: None,
            image_adapt_weight: None,
            text_adapt_weight: None,
            input_size: None,
            image_mean: None,
            image_std: None,
            temperature: None,
            blur: None,
            image_score: None,
            prompts: Prompts::default(),
            classes: None,
            class_name: None,
        }
    }
}
