//! Load once, score many: the only thing that most callers need.

use std::{collections::HashMap, path::Path, sync::Arc};

use candle_core::{DType, Device, Tensor};
use parking_lot::{Mutex, RwLock};

use crate::{
    bundle::Bundle,
    calibration::Scales,
    config::{Config, Domain},
    device::DeviceSpec,
    error::{Error, Result},
    frame::Frame,
    map::{AnomalyMap, Region},
    net::{AcdClip, TextEncoder},
    preprocess::{Placement, Preprocessor, Resize, Scratch, View},
};

/// Classes outside the bundle's bank whose text features are kept. A caller that makes up classes without end must not fill the memory.
const KEPT_CLASSES: usize = 256;

/// Probability from which a pixel belongs to a region, where nobody says otherwise.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// How frames are scored; the default is what the model's own config says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How a frame of another shape meets the network's square.
    pub resize: Resize,
    /// Width over height of a pixel, as a fraction; matters to [`Resize::Fit`] alone.
    pub pixel_aspect: (u32, u32),
    /// The official code's blur and image score for that domain, instead of the model's own.
    pub domain: Option<Domain>,
    /// Probability from which a pixel belongs to a region.
    pub map_threshold: f32,
    /// Smallest region in frame pixels.
    pub min_area: u64,
    /// The scales that score and map are given on; none for raw ones. The map threshold is on the map's scale.
    pub calibration: Option<Scales>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resize: Resize::default(),
            pixel_aspect: (1, 1),
            domain: None,
            map_threshold: DEFAULT_THRESHOLD,
            min_area: 0,
            calibration: None,
        }
    }
}

/// What was found in one frame.
#[derive(Debug, Clone)]
pub struct Detection {
    /// The image score in [0, 1], of class probability, map maximum and highest values: calibrated where a calibration was given, else raw.
    pub score: f32,
    /// The image score as the network gives it: class probability and map maximum, weighted.
    pub raw_score: f32,
    /// Whether score, map and regions are on a calibrated scale.
    pub calibrated: bool,
    /// Probability of the abnormal class, raw.
    pub class_score: f32,
    /// Largest probability of the map, raw.
    pub map_max: f32,
    /// The map on the patch grid, upsampled on demand; its probabilities are on the calibrated scale where there is one.
    pub map: AnomalyMap,
    /// Regions at or above the map threshold, highest score first.
    pub regions: Vec<Region>,
}

/// A model ready to score frames, from any number of threads.
pub struct Detector {
    bundle: Bundle,
    short_hash: String,
    device: Device,
    net: AcdClip,
    preprocessor: Preprocessor,
    /// Text features by class, [1, N, W, 2] each.
    classes: RwLock<HashMap<String, Tensor>>,
    encoder: Mutex<Option<Arc<TextEncoder>>>,
    scratch: Mutex<Vec<Scratch>>,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector")
            .field("bundle", &self.bundle.label())
            .field("model", &self.short_hash)
            .field("device", &self.device_name())
            .finish_non_exhaustive()
    }
}

impl Detector {
    /// Loads the bundle at `path`.
    pub fn open(path: &Path, device: DeviceSpec) -> Result<Self> {
        Self::new(Bundle::open(path)?, device)
    }

    /// Loads a bundle from memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>, device: DeviceSpec) -> Result<Self> {
        Self::new(Bundle::from_bytes(bytes)?, device)
    }

    /// Loads the compact model that is compiled in.
    #[cfg(feature = "builtin-model")]
    pub fn builtin(device: DeviceSpec) -> Result<Self> {
        Self::new(Bundle::from_static(crate::BUILTIN_MODEL)?, device)
    }

    /// Loads the weights of `bundle` onto a device, as f32.
    pub fn new(bundle: Bundle, device: DeviceSpec) -> Result<Self> {
        let device = device.open()?;
        let config = bundle.config();
        let vb = bundle.var_builder(DType::F32, &device);
        let net = AcdClip::new(config, vb.clone(), vb)?.fold()?;
        let side = config.input_size;
        let preprocessor = Preprocessor::new(side, side, config.image_mean, config.image_std)?;
        let mut classes = HashMap::new();
        for (class, features) in &bundle.text_bank()?.classes {
            classes.insert(class.clone(), features.to_device(&device)?.unsqueeze(0)?);
        }
        Ok(Self {
            short_hash: bundle.short_hash(),
            bundle,
            device,
            net,
            preprocessor,
            classes: RwLock::new(classes),
            encoder: Mutex::default(),
            scratch: Mutex::default(),
        })
    }

    /// The model's description.
    pub fn config(&self) -> &Config {
        self.bundle.config()
    }

    /// The bundle it was loaded from.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Where it runs: `cpu`, `cuda:0`, `metal`.
    pub fn device_name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cpu => "cpu".into(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { .. } => "metal".into(),
        }
    }

    /// Classes of the bundle's text bank, in its order.
    pub fn classes(&self) -> &[String] {
        self.bundle.classes()
    }

    /// The bank's first class, or the config's where the bank is empty.
    pub fn default_class(&self) -> String {
        let own = || self.config().classes.first().cloned().unwrap_or_default();
        self.classes().first().cloned().unwrap_or_else(own)
    }

    /// First hexadecimal digits of the bundle's hash.
    pub fn short_hash(&self) -> &str {
        &self.short_hash
    }

    /// Makes sure that `class` can be scored: its text features are computed now where the bank lacks them.
    ///
    /// [`Error::UnknownClass`] where the model has no text tower to compute them with.
    pub fn check_class(&self, class: &str) -> Result<()> {
        self.text(class).map(drop)
    }

    /// Scores a frame as the model's own config says.
    pub fn score(&self, frame: &Frame<'_>, class: &str) -> Result<Detection> {
        self.score_with(frame, class, &Settings::default())
    }

    /// Scores a frame.
    pub fn score_with(
        &self,
        frame: &Frame<'_>,
        class: &str,
        settings: &Settings,
    ) -> Result<Detection> {
        let mut detections = self.score_batch(std::slice::from_ref(frame), class, settings)?;
        detections
            .pop()
            .ok_or_else(|| Error::Frame("one frame gave no detection".into()))
    }

    /// Scores frames of any sizes and formats in one pass, in order.
    pub fn score_batch(
        &self,
        frames: &[Frame<'_>],
        class: &str,
        settings: &Settings,
    ) -> Result<Vec<Detection>> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.text(class)?;
        let (pixels, placements) = self.preprocess(frames, settings)?;
        let tokens = self.net.forward(&pixels)?;
        let class_scores = self.net.class_probability(&tokens, &text)?;
        let blur = settings
            .domain
            .map_or(self.config().blur, |domain| Some(domain.blur()));
        let maps = self.net.patch_map(&tokens, &text, blur)?; // [B, rows, columns]
        let maps = maps.flatten_from(1)?.to_vec2::<f32>()?;
        let class_scores = class_scores.to_vec1::<f32>()?;
        if !maps
            .iter()
            .flatten()
            .chain(&class_scores)
            .all(|x| x.is_finite())
        {
            return Err(Error::file(
                self.bundle.label(),
                "the network gave a number that is not finite; the weights are damaged (`acdclip info --verify` tells), \
                 or of a model that needs another precision",
            ));
        }
        let (rows, columns) = tokens.grid;
        let side = self.config().input_size;
        let kind = self.net.map_values();
        let parts = frames.iter().zip(placements).zip(maps).zip(class_scores);
        parts
            .map(|(((frame, placement), values), class_score)| {
                let map = AnomalyMap::new((columns, rows), values, kind, (side, side), placement)?;
                Ok(self.detection(frame, map, class_score, settings))
            })
            .collect()
    }

    /// Normalised pixels [B, 3, S, S], and where in them each frame lies.
    fn preprocess(
        &self,
        frames: &[Frame<'_>],
        settings: &Settings,
    ) -> Result<(Tensor, Vec<Placement>)> {
        let len = self.preprocessor.len();
        let mut input = vec![0.0; frames.len() * len];
        let kept = self.scratch.lock().pop();
        let mut scratch = kept.unwrap_or_default();
        let view = View {
            resize: settings.resize,
            pixel_aspect: settings.pixel_aspect,
            mask: None,
        };
        let placements = frames
            .iter()
            .zip(input.chunks_exact_mut(len))
            .map(|(frame, out)| self.preprocessor.run(frame, view, &mut scratch, out))
            .collect::<Result<Vec<_>>>();
        self.scratch.lock().push(scratch);
        let side = self.config().input_size;
        let pixels = Tensor::from_vec(input, (frames.len(), 3, side, side), &self.device)?;
        Ok((pixels, placements?))
    }

    fn detection(
        &self,
        frame: &Frame<'_>,
        map: AnomalyMap,
        class_score: f32,
        settings: &Settings,
    ) -> Detection {
        let weights = settings
            .domain
            .map_or(self.config().image_score, Domain::image_score);
        let map_max = map.max();
        let top = match weights.map_top {
            0.0 => 0.0,
            weight => weight * map.top_mean(weights.top_share),
        };
        let raw_score = weights.cls * class_score + weights.map_max * map_max + top;
        let (score, map) = match settings.calibration {
            Some(scales) => (
                scales.score.calibrate(raw_score),
                map.calibrated(scales.map),
            ),
            None => (raw_score, map),
        };
        Detection {
            score,
            raw_score,
            calibrated: settings.calibration.is_some(),
            class_score,
            map_max,
            regions: map.regions(
                settings.map_threshold,
                settings.min_area,
                frame.width() as u32,
                frame.height() as u32,
            ),
            map,
        }
    }

    /// Text features of a class, [1, N, W, 2].
    fn text(&self, class: &str) -> Result<Tensor> {
        if let Some(features) = self.classes.read().get(class) {
            return Ok(features.clone());
        }
        let encoder = self.encoder(class)?;
        let features = encoder.class_features(&self.config().prompts, class)?;
        let features = features.unsqueeze(0)?;
        let mut classes = self.classes.write();
        if classes.len() >= self.classes().len() + KEPT_CLASSES {
            let own = self.classes();
            classes.retain(|kept, _| own.contains(kept));
        }
        classes.insert(class.to_owned(), features.clone());
        Ok(features)
    }

    /// The text tower, loaded when the first class asks for it.
    fn encoder(&self, class: &str) -> Result<Arc<TextEncoder>> {
        let mut encoder = self.encoder.lock();
        if let Some(encoder) = &*encoder {
            return Ok(encoder.clone());
        }
        let config = self.config();
        let Some(text) = config
            .text
            .as_ref()
            .filter(|_| self.bundle.has_text_tower())
        else {
            return Err(Error::UnknownClass {
                class: class.to_owned(),
                known: self.classes().to_vec(),
            });
        };
        let vb = self.bundle.var_builder(DType::F32, &self.device);
        let loaded = Arc::new(TextEncoder::new(config, text, vb.clone(), vb)?);
        *encoder = Some(loaded.clone());
        Ok(loaded)
    }
}
