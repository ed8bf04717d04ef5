//! What a run is told: every setting of a training, its default (the authors' recipe) and its TOML form.
//!
//! Unknown keys are refused, so that a misspelt setting does not silently train something else. Relative paths are relative to the
//! recipe's own folder; [`Recipe::resolve`] makes them absolute, and what a run writes down as its `config.toml` is the recipe with every
//! default filled in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use acdclip_model::{
    Bundle, Config,
    bundle::StoragePolicy,
    config::{Activation, AdapterKind, Blur, Form, Fusion, ImageScore, Prompts, TextConfig},
};
use candle_core::DType;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;

use super::setting::Setting;
use crate::outcome::{Failure, Outcome};

/// Most bytes that are read of a recipe or a model config.
const MAX_BYTES: u64 = 1 << 20;

/// Most pictures that are drawn for an epoch.
const MAX_IMAGES: usize = 100_000_000;

/// A whole training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Recipe {
    /// Where all chance comes from: initial values, order and augmentation.
    pub(crate) seed: u64,
    /// What frozen towers compute in. Everything that is trained, and the loss, stay f32.
    pub(crate) compute: Compute,
    /// Folder that relative paths of data sets start from, instead of the recipe's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_root: Option<PathBuf>,
    /// What is trained.
    pub(crate) model: ModelPart,
    /// What the prompts call things.
    pub(crate) text: TextPart,
    /// How long, and how much at a time.
    pub(crate) schedule: SchedulePart,
    /// How gradients become steps.
    pub(crate) optimizer: OptimizerPart,
    /// Weights of the loss's parts.
    pub(crate) loss: LossPart,
    /// What is done to pictures.
    pub(crate) augment: AugmentPart,
    /// How pictures are read.
    pub(crate) loader: LoaderPart,
    /// What is kept apart to be measured on.
    pub(crate) validation: ValidationPart,
    /// What is written.
    pub(crate) output: OutputPart,
    /// What it is trained on.
    pub(crate) data: Vec<DataPart>,
}

/// Numbers that frozen towers compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compute {
    /// Single precision.
    #[default]
    F32,
    /// Half precision with the exponents of f32; for GPUs.
    Bf16,
    /// Half precision with few exponents, for which the loss is scaled; for GPUs.
    F16,
}

impl From<Compute> for DType {
    fn from(compute: Compute) -> Self {
        match compute {
            Compute::F32 => Self::F32,
            Compute::Bf16 => Self::BF16,
            Compute::F16 => Self::F16,
        }
    }
}

/// The model and what of it is trained.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct ModelPart {
    /// CLIP's towers, or a bundle.
    pub(crate) base: PathBuf,
    /// A preset's name or a config file; where left out the base is a bundle, whose own config it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    /// Where the adapters' first values come from.
    pub(crate) adapters: Start,
    /// What first values are drawn by, instead of the recipe's seed: runs that start from the same ones can be averaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_seed: Option<u64>,
    /// Whether the text tower is trained too; one that the base does not have starts from CLIP's initial values.
    pub(crate) train_text_tower: bool,
    /// What differs from the config.
    pub(crate) network: NetworkPart,
}

/// Where adapters start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Start {
    /// At the published initial values.
    #[default]
    New,
    /// At what the base has.
    Base,
}

/// Keys of a model's config that a recipe may set instead.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[allow(missing_docs, reason = "they are the config's own keys")]
pub(crate) struct NetworkPart {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<Form>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<AdapterKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fusion: Option<Fusion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) activation: Option<Activation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mlp_hidden: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate_hidden: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lora_rank: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lora_alpha: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conv_lora_rank: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conv_lora_alpha: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conv_kernel_sizes: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_adapt_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text_adapt_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text_width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blur: Option<Blur>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_score: Option<ImageScore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<TextConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompts: Option<Prompts>,
}

/// What prompts call the classes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct TextPart {
    /// Calls everything `object`.
    pub(crate) object_agnostic: bool,
    /// By class name, what the prompts say.
    pub(crate) names: BTreeMap<String, String>,
    /// A file of such names; for classes that neither has, the built-in table's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) names_file: Option<PathBuf>,
    /// Classes whose features the bundle carries; where empty, those trained on.
    pub(crate) bake: Vec<String>,
}

/// What everything is called where classes do not matter.
pub(crate) const OBJECT: &str = "object";

impl TextPart {
    /// The class under which features of `class` are kept.
    pub(crate) fn key<'a>(&self, class: &'a str) -> &'a str {
        if self.object_agnostic { OBJECT } else { class }
    }
}

/// Length and size of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct SchedulePart {
    /// How often the set is gone through.
    pub(crate) epochs: usize,
    /// Pictures in one pass through the network.
    pub(crate) batch_size: usize,
    /// Passes whose gradients make one step.
    pub(crate) accumulate: usize,
    /// Pictures drawn for an epoch; 0 for as many as there are.
    pub(crate) images_per_epoch: usize,
    /// Whether normal and abnormal pictures of a set are drawn equally often.
    pub(crate) balance_labels: bool,
}

impl Default for SchedulePart {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch_size: 6,
            accumulate: 1,
            images_per_epoch: 0,
            balance_labels: false,
        }
    }
}

/// Adam and what is done around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct OptimizerPart {
    /// Learning rate of `image_adapter.*`.
    pub(crate) image_rate: f64,
    /// Learning rate of `text_adapter.*`.
    pub(crate) text_rate: f64,
    /// Learning rate of a text tower that is trained.
    pub(crate) text_tower_rate: f64,
    /// How the rates fall.
    pub(crate) schedule: Decay,
    /// Factor on the rates after each epoch, where they fall so.
    pub(crate) decay: f64,
    /// Steps over which the rates rise from zero; 0 for none.
    pub(crate) warmup_steps: u64,
    /// Adam's decay of the first moment.
    pub(crate) beta1: f64,
    /// Adam's decay of the second moment.
    pub(crate) beta2: f64,
    /// What Adam adds to the denominator.
    pub(crate) eps: f64,
    /// Decoupled weight decay, times the rate, a step.
    pub(crate) weight_decay: f64,
    /// Largest gradient norm of each blend vector; 0 for no limit.
    pub(crate) clip_blend: f64,
    /// Largest norm of all gradients together; 0 for no limit.
    pub(crate) clip_all: f64,
    /// How much each step keeps of a running average of the parameters, which is then what is measured and written; 0 for none.
    pub(crate) average: f64,
}

/// How learning rates fall over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Decay {
    /// By the factor `decay` after each epoch.
    #[default]
    Epoch,
    /// Along half a cosine, from the full rate at the first step to none after the last.
    Cosine,
}

impl Default for OptimizerPart {
    fn default() -> Self {
        Self {
            image_rate: 1e-3,
            text_rate: 5e-4,
            text_tower_rate: 5e-4,
            schedule: Decay::Epoch,
            decay: 0.9,
            warmup_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip_blend: 1.0,
            clip_all: 0.0,
            average: 0.0,
        }
    }
}

/// Weights of the loss's parts (lambda).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct LossPart {
    /// Focal loss of the map.
    pub(crate) focal: f64,
    /// Dice loss of the normal map.
    pub(crate) dice_normal: f64,
    /// Dice loss of the abnormal map.
    pub(crate) dice_abnormal: f64,
    /// Cross-entropy of the picture's class.
    pub(crate) class: f64,
}

impl Default for LossPart {
    fn default() -> Self {
        Self {
            focal: 1.0,
            dice_normal: 1.0,
            dice_abnormal: 1.0,
            class: 1.0,
        }
    }
}

/// A change that is made sometimes, by at most so much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Sometimes {
    /// How often.
    pub(crate) probability: f64,
    /// At most how much.
    pub(crate) strength: f64,
}

const fn sometimes(probability: f64, strength: f64) -> Sometimes {
    Sometimes {
        probability,
        strength,
    }
}

/// What is done to a picture and its mask. Probabilities of zero switch a change off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct AugmentPart {
    /// How often a picture gets salt noise: about one pixel in 740, times a normal number; `strength` is that number's deviation.
    pub(crate) noise: Sometimes,
    /// Brightness times 1 - strength to 1 + strength.
    pub(crate) brightness: Sometimes,
    /// Contrast likewise.
    pub(crate) contrast: Sometimes,
    /// Saturation likewise.
    pub(crate) saturation: Sometimes,
    /// Each of R, G and B likewise, by itself: a cast of colour, which grey sets lack.
    pub(crate) tint: Sometimes,
    /// Bands and pools of light, each by up to `strength` stops (powers of two) brighter or darker, that are no defect.
    pub(crate) light: Sometimes,
    /// Turned by up to `strength` degrees either way.
    pub(crate) rotation: Sometimes,
    /// Moved by up to `strength` of each side.
    pub(crate) translation: Sometimes,
    /// How often left and right are swapped.
    pub(crate) flip_horizontal: f64,
    /// How often top and bottom are swapped.
    pub(crate) flip_vertical: f64,
    /// How often turned by one to three quarters.
    pub(crate) quarter_turn: f64,
    /// Parts of pictures.
    pub(crate) crop: CropPart,
    /// Made-up defects on pictures, or parts of them, that have none.
    pub(crate) lump: LumpPart,
}

impl Default for AugmentPart {
    fn default() -> Self {
        Self {
            noise: sometimes(0.3, 1.0),
            brightness: sometimes(0.7, 0.5),
            contrast: sometimes(0.7, 0.5),
            saturation: sometimes(0.7, 0.5),
            tint: sometimes(0.0, 0.0),
            light: sometimes(0.0, 0.0),
            rotation: sometimes(0.5, 30.0),
            translation: sometimes(0.5, 0.15),
            flip_horizontal: 0.5,
            flip_vertical: 0.5,
            quarter_turn: 0.0,
            crop: CropPart::default(),
            lump: LumpPart::default(),
        }
    }
}

impl AugmentPart {
    /// Pictures as they are.
    pub(crate) fn none() -> Self {
        Self {
            noise: sometimes(0.0, 0.0),
            brightness: sometimes(0.0, 0.0),
            contrast: sometimes(0.0, 0.0),
            saturation: sometimes(0.0, 0.0),
            tint: sometimes(0.0, 0.0),
            light: sometimes(0.0, 0.0),
            rotation: sometimes(0.0, 0.0),
            translation: sometimes(0.0, 0.0),
            flip_horizontal: 0.0,
            flip_vertical: 0.0,
            quarter_turn: 0.0,
            crop: CropPart::default(),
            lump: LumpPart::default(),
        }
    }
}

/// Training on parts of pictures, by which small defects become larger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct CropPart {
    /// How often a part is taken.
    pub(crate) probability: f64,
    /// Least and largest side of the part over the picture's.
    pub(crate) scale: [f64; 2],
    /// Whether the part is a square, whatever the picture's shape; its side is then a share of the shorter side.
    pub(crate) square: bool,
    /// How often, in an abnormal picture, the part is laid over a defect.
    pub(crate) on_defect: f64,
    /// Whether a part without a defect counts as normal; else every part of an abnormal picture is laid over a defect.
    pub(crate) defect_free: bool,
}

impl Default for CropPart {
    fn default() -> Self {
        Self {
            probability: 0.0,
            scale: [0.3, 1.0],
            square: false,
            on_defect: 0.5,
            defect_free: true,
        }
    }
}

/// Lumps and dents on what has no defect, which count as one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct LumpPart {
    /// How often a picture or part without a defect gets one.
    pub(crate) probability: f64,
    /// Least and largest diameter over the shorter side.
    pub(crate) size: [f64; 2],
    /// Slopes are lighter and darker by up to this share.
    pub(crate) relief: f64,
    /// Each of R, G and B is changed by up to this share.
    pub(crate) cast: f64,
}

impl Default for LumpPart {
    fn default() -> Self {
        Self {
            probability: 0.0,
            size: [0.1, 0.7],
            relief: 0.6,
            cast: 0.25,
        }
    }
}

/// How pictures get from the disk to the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct LoaderPart {
    /// Threads that decode and augment; 0 for half of the cores.
    pub(crate) workers: usize,
    /// Batches kept ready.
    pub(crate) prefetch: usize,
    /// What happens to a picture or mask that cannot be read.
    pub(crate) on_bad_image: OnBadImage,
}

impl Default for LoaderPart {
    fn default() -> Self {
        Self {
            workers: 0,
            prefetch: 4,
            on_bad_image: OnBadImage::Error,
        }
    }
}

/// What a picture that cannot be read does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnBadImage {
    /// Ends the run.
    Error,
    /// Is left out, with a warning.
    Skip,
}

/// Pictures that are not trained on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct ValidationPart {
    /// Share of the training data that is kept apart, chosen by the pictures' paths alone.
    pub(crate) fraction: f64,
    /// Sets of their own.
    pub(crate) data: Vec<DataPart>,
}

impl ValidationPart {
    /// Whether there is anything to measure on.
    pub(crate) fn is_wanted(&self) -> bool {
        self.fraction > 0.0 || !self.data.is_empty()
    }
}

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct OutputPart {
    /// Checkpoints kept, the newest.
    pub(crate) keep_checkpoints: usize,
    /// Whether the bundle carries the text tower, so that it can learn of new classes.
    pub(crate) keep_text_tower: bool,
    /// Which epoch's adapters the bundle has.
    pub(crate) bundle: Chosen,
    /// How the bundle stores weights: f32, f16, bf16 or q8.
    pub(crate) dtype: String,
    /// What the bundle says it was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    /// Under which terms the weights may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) licence: Option<String>,
}

impl Default for OutputPart {
    fn default() -> Self {
        Self {
            keep_checkpoints: 2,
            keep_text_tower: true,
            bundle: Chosen::Last,
            dtype: "f32".into(),
            data: None,
            licence: None,
        }
    }
}

/// Which epoch a bundle is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Chosen {
    /// The last.
    Last,
    /// That of the least validation loss.
    Best,
}

/// A set of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DataPart {
    /// A JSON-lines file, or a folder with a `meta.jsonl`.
    pub(crate) path: PathBuf,
    /// How much of an epoch comes from this set, compared with the others.
    #[serde(default = "one")]
    pub(crate) weight: f64,
    /// Keys and values of lines that are left out. A text matches where a line's text contains it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) without: BTreeMap<String, Vec<Value>>,
    /// Keys and values of which a line must match one of each key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) only: BTreeMap<String, Vec<Value>>,
}

fn one() -> f64 {
    1.0
}

impl DataPart {
    /// All of the set at `path`.
    pub(crate) fn of(path: PathBuf) -> Self {
        Self {
            path,
            weight: 1.0,
            without: BTreeMap::new(),
            only: BTreeMap::new(),
        }
    }
}

impl Recipe {
    /// Reads the recipe in `path`, as if it said what `settings` do, and makes its paths absolute.
    pub(crate) fn read(path: &Path, settings: &[Setting]) -> Outcome<Self> {
        let text = read_text(path)?;
        // What is wrong in the file is said with its place there.
        let own: Self = toml::from_str(&text).map_err(|e| Failure::wrong_file(path, &e))?;
        let mut recipe = match settings {
            [] => own,
            _ => Self::with(&text, settings)?,
        };
        // Of a bare file name that is the empty path.
        let folder = path.parent().unwrap_or(Path::new(""));
        recipe.resolve(&Path::new(".").join(folder))?;
        Ok(recipe)
    }

    /// What a recipe's text says where `settings` do not say something else.
    pub(crate) fn with(text: &str, settings: &[Setting]) -> Outcome<Self> {
        let wrong = |e: toml::de::Error| {
            let said: Vec<_> = settings.iter().map(|setting| &*setting.text).collect();
            Failure::Arguments(format!("--set {}: {}", said.join(" "), e.message()))
        };
        let mut table: Table = toml::from_str(text).map_err(wrong)?;
        for setting in settings {
            setting.put(&mut table);
        }
        table.try_into().map_err(wrong)
    }

    /// Makes paths absolute that are relative to `folder`.
    pub(crate) fn resolve(&mut self, folder: &Path) -> Outcome {
        let folder = std::path::absolute(folder).map_err(Failure::io(folder))?;
        if !self.model.base.as_os_str().is_empty() {
            self.model.base = folder.join(&self.model.base);
        }
        if let Some(name) = &self.model.config
            && !Config::PRESETS.contains(&name.as_str())
        {
            self.model.config = Some(folder.join(name).to_string_lossy().into_owned());
        }
        self.text.names_file = self.text.names_file.as_ref().map(|file| folder.join(file));
        let root = match &self.data_root {
            Some(root) => folder.join(root),
            None => folder,
        };
        self.data_root = self.data_root.as_ref().map(|_| root.clone());
        for part in self.data.iter_mut().chain(&mut self.validation.data) {
            part.path = root.join(&part.path);
        }
        Ok(())
    }

    /// The recipe as TOML, every default written out.
    pub(crate) fn to_toml(&self) -> Outcome<String> {
        toml::to_string(self).map_err(|e| Failure::Training(format!("recipe: {e}")))
    }

    /// An error that says which value makes no sense.
    pub(crate) fn check(&self) -> Outcome {
        let wrong = |what: String| Err(Failure::Arguments(format!("recipe: {what}")));
        if self.model.base.as_os_str().is_empty() {
            return wrong("wanted the towers' file: set model.base, or give --base".into());
        }
        if self.data.is_empty() {
            return wrong("wanted something to train on: add [[data]], or give --data".into());
        }
        let counts = [
            ("schedule.epochs", self.schedule.epochs, 1_000_000),
            ("schedule.batch_size", self.schedule.batch_size, 4096),
            ("schedule.accumulate", self.schedule.accumulate, 4096),
            ("loader.prefetch", self.loader.prefetch, 1024),
            (
                "output.keep_checkpoints",
                self.output.keep_checkpoints,
                1_000_000,
            ),
        ];
        for (name, found, most) in counts {
            if !(1..=most).contains(&found) {
                return wrong(format!("{name}: wanted 1 to {most}, found {found}"));
            }
        }
        if self.schedule.images_per_epoch > MAX_IMAGES {
            return wrong(format!(
                "schedule.images_per_epoch: wanted up to {MAX_IMAGES}, found {}",
                self.schedule.images_per_epoch
            ));
        }
        let optimizer = &self.optimizer;
        for (name, found) in [("beta1", optimizer.beta1), ("beta2", optimizer.beta2)] {
            if found == 1.0 {
                return wrong(format!("optimizer.{name}: wanted less than 1, found 1"));
            }
        }
        if optimizer.eps == 0.0 {
            return wrong("optimizer.eps: wanted more than 0, found 0".into());
        }
        if let Err(e) = self.output.dtype.parse::<StoragePolicy>() {
            return wrong(format!("output.dtype: {e}"));
        }
        if self.loader.workers > 1024 {
            return wrong(format!(
                "loader.workers: wanted up to 1024, found {}",
                self.loader.workers
            ));
        }
        for (name, found) in self.probabilities() {
            if !(0.0..=1.0).contains(&found) {
                return wrong(format!("{name}: wanted 0 to 1, found {found}"));
            }
        }
        for (name, found) in self.amounts() {
            if !(0.0..=1e6).contains(&found) {
                return wrong(format!("{name}: wanted 0 or more, found {found}"));
            }
        }
        for (name, [least, largest]) in [
            ("augment.crop.scale", self.augment.crop.scale),
            ("augment.lump.size", self.augment.lump.size),
        ] {
            if !(least > 0.0 && least <= largest && largest <= 1.0) {
                return wrong(format!(
                    "{name}: wanted [least, largest] within 0 to 1, found [{least}, {largest}]"
                ));
            }
        }
        let weights = || self.data.iter().map(|part| part.weight);
        if weights().any(|w| !(0.0..=1e6).contains(&w)) || weights().sum::<f64>() <= 0.0 {
            return wrong("data.weight: wanted 0 or more, and one of them above".into());
        }
        if self.output.bundle == Chosen::Best && !self.validation.is_wanted() {
            return wrong(
                "output.bundle = \"best\" wants something to measure on: set validation.fraction or add [[validation.data]]"
                    .into(),
            );
        }
        Ok(())
    }

    fn probabilities(&self) -> Vec<(&'static str, f64)> {
        let augment = &self.augment;
        vec![
            ("augment.noise.probability", augment.noise.probability),
            (
                "augment.brightness.probability",
                augment.brightness.probability,
            ),
            ("augment.contrast.probability", augment.contrast.probability),
            (
                "augment.saturation.probability",
                augment.saturation.probability,
            ),
            ("augment.tint.probability", augment.tint.probability),
            ("augment.light.probability", augment.light.probability),
            ("augment.rotation.probability", augment.rotation.probability),
            (
                "augment.translation.probability",
                augment.translation.probability,
            ),
            ("augment.translation.strength", augment.translation.strength),
            ("augment.flip_horizontal", augment.flip_horizontal),
            ("augment.flip_vertical", augment.flip_vertical),
            ("augment.quarter_turn", augment.quarter_turn),
            ("augment.crop.probability", augment.crop.probability),
            ("augment.crop.on_defect", augment.crop.on_defect),
            ("augment.lump.probability", augment.lump.probability),
            ("augment.lump.relief", augment.lump.relief),
            ("augment.lump.cast", augment.lump.cast),
            ("validation.fraction", self.validation.fraction),
            ("optimizer.beta1", self.optimizer.beta1),
            ("optimizer.beta2", self.optimizer.beta2),
            ("optimizer.decay", self.optimizer.decay),
            ("optimizer.average", self.optimizer.average),
        ]
    }

    fn amounts(&self) -> Vec<(&'static str, f64)> {
        let (optimizer, loss, augment) = (&self.optimizer, &self.loss, &self.augment);
        vec![
            ("augment.noise.strength", augment.noise.strength),
            ("augment.brightness.strength", augment.brightness.strength),
            ("augment.contrast.strength", augment.contrast.strength),
            ("augment.saturation.strength", augment.saturation.strength),
            ("augment.tint.strength", augment.tint.strength),
            ("augment.light.strength", augment.light.strength),
            ("augment.rotation.strength", augment.rotation.strength),
            ("optimizer.image_rate", optimizer.image_rate),
            ("optimizer.text_rate", optimizer.text_rate),
            ("optimizer.text_tower_rate", optimizer.text_tower_rate),
            ("optimizer.eps", optimizer.eps),
            ("optimizer.weight_decay", optimizer.weight_decay),
            ("optimizer.clip_blend", optimizer.clip_blend),
            ("optimizer.clip_all", optimizer.clip_all),
            ("loss.focal", loss.focal),
            ("loss.dice_normal", loss.dice_normal),
            ("loss.dice_abnormal", loss.dice_abnormal),
            ("loss.class", loss.class),
        ]
    }

    /// The config of the network that is trained.
    pub(crate) fn config(&self) -> Outcome<Config> {
        let model = &self.model;
        let mut value = match &model.config {
            None => to_value(Bundle::open(&model.base).map_err(|e| {
                Failure::Arguments(format!(
                    "{e}; for a base that is no bundle, set model.config to a config file or one of {}",
                    Config::PRESETS.join(", ")
                ))
            })?.config())?,
            Some(name) => match Config::preset(name, model.network.form.unwrap_or_default()) {
                Some(preset) => to_value(&preset)?,
                None => read_config(Path::new(name))?,
            },
        };
        let changes = to_value(&model.network)?;
        if let (Some(value), Value::Object(changes)) = (value.as_object_mut(), changes) {
            value.extend(changes);
        }
        serde_json::from_value(value).map_err(|e| Failure::Arguments(format!("model.network: {e}")))
    }
}

fn to_value(part: &impl Serialize) -> Outcome<Value> {
    serde_json::to_value(part).map_err(|e| Failure::Training(format!("recipe: {e}")))
}

fn read_config(path: &Path) -> Outcome<Value> {
    if !path.exists() {
        return Err(Failure::Arguments(format!(
            "{}: no such file; wanted a config file, or one of the presets {}",
            path.display(),
            Config::PRESETS.join(", ")
        )));
    }
    let text = read_text(path)?;
    match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("toml") => toml::from_str(&text).map_err(|e| Failure::wrong_file(path, &e)),
        _ => serde_json::from_str(&text).map_err(|e| Failure::wrong_file(path, &e)),
    }
}

fn read_text(path: &Path) -> Outcome<String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(Failure::io(path))?;
    let mut text = String::new();
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(Failure::io(path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_are_the_authors_recipe() {
        let recipe: Recipe = toml::from_str("").unwrap();
        assert_eq!(recipe, Recipe::default());
        assert_eq!(
            (recipe.schedule.epochs, recipe.schedule.batch_size),
            (20, 6)
        );
        let optimizer = &recipe.optimizer;
        assert_eq!(
            (optimizer.image_rate, optimizer.text_rate, optimizer.decay),
            (1e-3, 5e-4, 0.9)
        );
        assert_eq!((optimizer.weight_decay, optimizer.clip_blend), (0.0, 1.0));
        assert_eq!(recipe.augment.noise.probability, 0.3);
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in [
            "sed = 1",
            "[optimizer]\nrate = 1",
            "[augment.crop]\nsize = 3",
            "[[data]]\npath = \"x\"\nweigth = 2",
            "[model.network]\nwidth = 3",
        ] {
            let error = toml::from_str::<Recipe>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{text}: {error}");
        }
    }

    #[test]
    fn settings_take_the_place_of_what_is_written() {
        let text = "seed = 7\n[schedule]\nepochs = 3\nbatch_size = 2";
        let with = |settings: &[&str]| {
            let settings = settings.iter().map(|text| Setting::read(text).unwrap());
            Recipe::with(text, &settings.collect::<Vec<_>>())
        };
        let recipe = with(&[
            "schedule.epochs=5",
            "augment.light={probability = 0.5, strength = 1.5}",
        ])
        .unwrap();
        let wanted: Recipe = toml::from_str(
            "seed = 7\n[schedule]\nepochs = 5\nbatch_size = 2\n[augment.light]\nprobability = 0.5\nstrength = 1.5",
        )
        .unwrap();
        assert_eq!(recipe, wanted);
        for (setting, named) in [
            ("schedule.epoch=5", "unknown field `epoch`"),
            ("schedule.epochs=some", "string \"some\""),
            ("seed.of=1", "seed"),
            ("schedule=3", "integer `3`, expected a table"),
            ("augment.light=0.5", "expected a table"),
        ] {
            let error = with(&[setting]).unwrap_err().to_string();
            assert!(
                error.starts_with("--set") && error.contains(named),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_written_down_reads_back() {
        let text = "seed = 7\n[model]\nbase = \"b\"\n[model.network]\ngroups = 3\n[[data]]\npath = \"d\"\nwithout = { sequence = [2, 5], image_path = [\"145\"] }\n";
        let mut recipe: Recipe = toml::from_str(text).unwrap();
        recipe.resolve(Path::new("/recipes")).unwrap();
        assert_eq!(recipe.data[0].path, Path::new("/recipes/d"));
        let again: Recipe = toml::from_str(&recipe.to_toml().unwrap()).unwrap();
        assert_eq!(again, recipe);
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        let base = "[model]\nbase = \"b\"\n[[data]]\npath = \"d\"\n";
        for (text, name) in [
            ("[schedule]\nbatch_size = 0", "schedule.batch_size"),
            ("[augment]\nflip_vertical = 1.5", "augment.flip_vertical"),
            ("[augment.crop]\nscale = [0.5, 0.1]", "augment.crop.scale"),
            ("[augment.lump]\nsize = [0.0, 0.1]", "augment.lump.size"),
            ("[augment.lump]\nrelief = 1.5", "augment.lump.relief"),
            (
                "[augment.light]\nprobability = 2.0\nstrength = 1.0",
                "augment.light.probability",
            ),
            ("[optimizer]\nimage_rate = nan", "optimizer.image_rate"),
            ("[output]\nbundle = \"best\"", "output.bundle"),
            ("[output]\ndtype = \"fp16\"", "output.dtype"),
            ("[optimizer]\nbeta2 = 1.0", "optimizer.beta2"),
            (
                "[schedule]\nimages_per_epoch = 9000000000000000000",
                "schedule.images_per_epoch",
            ),
        ] {
            let recipe: Recipe = toml::from_str(&format!("{text}\n{base}")).unwrap();
            let error = recipe.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
