//! Load once, score many: the only thing that most callers need.

use std::{collections::HashMap, path::Path, sync::Arc};

use candle_core::{DType, Device, Tensor};
use parking_lot::{Mutex, RwLock};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    bundle::Bundle,
    calibration::Scales,
    config::{Blur, Config, Domain, Prompts},
    error::{Error, Result},
    frame::Frame,
    map::{AnomalyMap, MapValues, Region},
    mask::Mask,
    memory::{self, Memory},
    net::{AcdClip, Answer, TextEncoder},
    precision::{Arithmetic, MAX_THREADS, Precision, Runtime},
    preprocess::{Placement, Preprocessor, Resize, Scratch, View},
};

/// Classes outside the bundle's bank whose text features are kept. A caller that makes up classes without end must not fill the memory.
const KEPT_CLASSES: usize = 256;

/// Probability from which a pixel belongs to a region, where nobody says otherwise.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// How frames are scored; the default is what the model's own config says.
#[derive(Debug, Clone, PartialEq)]
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
    /// What of the frame counts, stretched over it; none for all of it.
    pub mask: Option<Arc<Mask>>,
    /// Whether the network sees what does not count as mean colour, not as it is.
    pub blanks: bool,
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
            mask: None,
            blanks: true,
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

/// What a frame is compared with: text features of one class. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Text {
    /// [1, N, W, 2]
    features: Tensor,
}

/// A frame as the network reads it.
#[derive(Debug, Clone)]
pub struct Input {
    /// [3, S, S]
    pixels: Vec<f32>,
    placement: Placement,
    mask: Option<Arc<Mask>>,
}

/// One input, and what it is looked at for.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// What [`Detector::prepare`] has made.
    pub input: &'a Input,
    /// Of the same detector.
    pub text: &'a Text,
    /// As [`Settings::domain`].
    pub domain: Option<Domain>,
}

/// What the network found, raw.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The image score, of class probability, map maximum and highest values.
    pub score: f32,
    /// Probability of the abnormal class.
    pub class_score: f32,
    /// Largest probability of the map.
    pub map_max: f32,
    /// The map on the patch grid.
    pub map: AnomalyMap,
}

impl Finding {
    /// On the scales that `settings` name, with the regions of `frame`.
    fn detection(self, frame: &Frame<'_>, settings: &Settings) -> Detection {
        let (score, map) = match settings.calibration {
            Some(scales) => (
                scales.score.calibrate(self.score),
                self.map.calibrated(scales.map),
            ),
            None => (self.score, self.map),
        };
        Detection {
            score,
            raw_score: self.score,
            calibrated: settings.calibration.is_some(),
            class_score: self.class_score,
            map_max: self.map_max,
            regions: map.regions(
                settings.map_threshold,
                settings.min_area,
                frame.width() as u32,
                frame.height() as u32,
            ),
            map,
        }
    }
}

/// A model ready to score frames, from any number of threads.
pub struct Detector {
    bundle: Bundle,
    short_hash: String,
    device: Device,
    arithmetic: Arithmetic,
    /// Threads of its own; none where it shares the process's.
    pool: Option<ThreadPool>,
    net: AcdClip,
    preprocessor: Preprocessor,
    classes: RwLock<HashMap<String, Text>>,
    encoder: Mutex<Option<Arc<TextEncoder>>>,
    scratch: Mutex<Vec<Scratch>>,
}

/// So many threads; none for 0.
fn pool(threads: usize) -> Result<Option<ThreadPool>> {
    if threads > MAX_THREADS {
        return Err(Error::Config(format!(
            "threads: wanted 0 to {MAX_THREADS}, found {threads}"
        )));
    }
    let builder = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|n| format!("acdclip:net{n}"));
    let pool = (threads > 0).then(|| builder.build()).transpose();
    pool.map_err(|e| Error::Config(format!("threads: {threads} could not be had: {e}")))
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
    pub fn open(path: &Path, runtime: impl Into<Runtime>) -> Result<Self> {
        Self::new(Bundle::open(path)?, runtime)
    }

    /// Loads a bundle from memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>, runtime: impl Into<Runtime>) -> Result<Self> {
        Self::new(Bundle::from_bytes(bytes)?, runtime)
    }

    /// Loads the compact model that is compiled in.
    #[cfg(feature = "builtin-model")]
    pub fn builtin(runtime: impl Into<Runtime>) -> Result<Self> {
        Self::new(Bundle::from_static(crate::BUILTIN_MODEL)?, runtime)
    }

    /// Loads the weights of `bundle` onto a device, in the arithmetic asked for; a [`DeviceSpec`](crate::DeviceSpec) alone stands for
    /// [`Precision::Auto`].
    pub fn new(bundle: Bundle, runtime: impl Into<Runtime>) -> Result<Self> {
        let Runtime {
            device,
            precision,
            threads,
        } = runtime.into();
        let device = device.open()?;
        let pool = pool(threads)?;
        let arithmetic = precision.arithmetic(&device)?;
        let config = bundle.config();
        let adapters = bundle.var_builder(DType::F32, &device);
        let net = match arithmetic {
            Arithmetic::Packed(packing) => {
                AcdClip::packed(config, adapters.clone(), adapters, packing)?
            }
            Arithmetic::Plain(dtype) => {
                let tower = bundle.var_builder(dtype, &device);
                AcdClip::new(config, tower, adapters)?.fold()?
            }
        };
        let side = config.input_size;
        let preprocessor = Preprocessor::new(side, side, config.image_mean, config.image_std)?;
        let mut classes = HashMap::new();
        for (class, features) in &bundle.text_bank()?.classes {
            let features = features.to_device(&device)?.unsqueeze(0)?;
            classes.insert(class.clone(), Text { features });
        }
        Ok(Self {
            short_hash: bundle.short_hash(),
            bundle,
            device,
            arithmetic,
            pool,
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

    /// Patches along a side of the network's input.
    pub fn patches(&self) -> usize {
        self.config().input_size / self.config().vision.patch_size
    }

    /// What its maps' values are.
    pub fn map_values(&self) -> MapValues {
        self.net.map_values()
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

    /// How much of its device's memory is in use; none where that cannot be told.
    pub fn device_memory(&self) -> Option<Memory> {
        memory::of(&self.device)
    }

    /// In which arithmetic it runs.
    pub fn precision(&self) -> Precision {
        self.arithmetic.into()
    }

    /// Whether it runs on the CPU.
    pub fn is_on_cpu(&self) -> bool {
        self.device.is_cpu()
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
        self.class_text(class).map(drop)
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
        let text = self.class_text(class)?;
        let inputs = frames
            .iter()
            .map(|frame| self.prepare(frame, settings))
            .collect::<Result<Vec<_>>>()?;
        let queries: Vec<_> = inputs
            .iter()
            .map(|input| Query {
                input,
                text: &text,
                domain: settings.domain,
            })
            .collect();
        let findings = self.run(&queries)?;
        let parts = findings.into_iter().zip(frames);
        parts
            .map(|(finding, frame)| Ok(finding?.detection(frame, settings)))
            .collect()
    }

    /// What the network reads of a frame. May be made on any thread, ahead of [`run`](Self::run).
    pub fn prepare(&self, frame: &Frame<'_>, settings: &Settings) -> Result<Input> {
        let mut pixels = vec![0.0; self.preprocessor.len()];
        let kept = self.scratch.lock().pop();
        let mut scratch = kept.unwrap_or_default();
        let view = View {
            resize: settings.resize,
            pixel_aspect: settings.pixel_aspect,
            mask: settings.mask.as_deref().filter(|_| settings.blanks),
        };
        let placement = self
            .preprocessor
            .run(frame, view, &mut scratch, &mut pixels);
        self.scratch.lock().push(scratch);
        Ok(Input {
            pixels,
            placement: placement?,
            mask: settings.mask.clone(),
        })
    }

    /// Runs the network once over several inputs, each with a text and a domain of its own; answers in order.
    ///
    /// The error is of the whole pass. An input whose numbers are not finite is an error of its own.
    pub fn run(&self, queries: &[Query<'_>]) -> Result<Vec<Result<Finding>>> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        match &self.pool {
            Some(pool) => pool.install(|| self.run_here(queries)),
            None => self.run_here(queries),
        }
    }

    fn run_here(&self, queries: &[Query<'_>]) -> Result<Vec<Result<Finding>>> {
        let side = self.config().input_size;
        let pixels: Vec<_> = queries
            .iter()
            .map(|query| &query.input.pixels[..])
            .collect();
        let pixels = Tensor::from_vec(
            pixels.concat(),
            (queries.len(), 3, side, side),
            &self.device,
        )?;
        let text = self.texts(queries)?; // [B or 1, N, W, 2]
        let tokens = self.net.forward(&pixels)?;
        let blurs: Vec<_> = queries.iter().map(|query| self.blur(query)).collect();
        let answers = self.net.answers(&tokens, &text, &blurs)?;
        let parts = queries.iter().zip(answers);
        Ok(parts
            .map(|(query, answer)| self.finding(query, tokens.grid, answer))
            .collect())
    }

    /// One text for all where it is the same for all, else one a query.
    fn texts(&self, queries: &[Query<'_>]) -> Result<Tensor> {
        let first = queries[0].text;
        if queries
            .iter()
            .all(|query| query.text.features.id() == first.features.id())
        {
            return Ok(first.features.clone());
        }
        let each: Vec<_> = queries.iter().map(|query| &query.text.features).collect();
        Ok(Tensor::cat(&each, 0)?)
    }

    fn blur(&self, query: &Query<'_>) -> Option<Blur> {
        let own = self.config().blur;
        query.domain.map_or(own, |domain| Some(domain.blur()))
    }

    fn finding(
        &self,
        query: &Query<'_>,
        (rows, columns): (usize, usize),
        answer: Answer,
    ) -> Result<Finding> {
        let Answer {
            class_score,
            values,
        } = answer;
        if !values.iter().all(|x| x.is_finite()) || !class_score.is_finite() {
            return Err(Error::file(
                self.bundle.label(),
                "the network gave a number that is not finite; the weights are damaged (`acdclip info --verify` tells), \
                 or of a model that needs another precision",
            ));
        }
        let side = self.config().input_size;
        let map = AnomalyMap::new(
            (columns, rows),
            values,
            self.net.map_values(),
            (side, side),
            query.input.placement,
        )?;
        let map = match &query.input.mask {
            Some(mask) => map.masked(mask.clone()),
            None => map,
        };
        Ok(self.judge(map, class_score, query.domain))
    }

    /// What a map and the probability of the abnormal class say together, raw: for a map that has been changed after [`run`](Self::run).
    pub fn judge(&self, map: AnomalyMap, class_score: f32, domain: Option<Domain>) -> Finding {
        let weights = domain.map_or(self.config().image_score, Domain::image_score);
        let map_max = map.max();
        let top = match weights.map_top {
            0.0 => 0.0,
            weight => weight * map.top_mean(weights.top_share),
        };
        Finding {
            score: weights.cls * class_score + weights.map_max * map_max + top,
            class_score,
            map_max,
            map,
        }
    }

    /// The text of prompts that somebody made up: states in which `{}` stands for the class, put into the model's templates. Either list
    /// may be empty for the model's own.
    ///
    /// An error where the model has no text tower to compute it with.
    pub fn prompts_text(
        &self,
        class: &str,
        normal: &[String],
        abnormal: &[String],
    ) -> Result<Text> {
        if !self.bundle.has_text_tower() {
            return Err(Error::Config(
                "prompts: wanted a model with its text tower, found one without; use such a model, or leave normal and abnormal prompts empty"
                    .into(),
            ));
        }
        let own = &self.config().prompts;
        let or_own = |given: &[String], own: &[String]| match given {
            [] => own.to_vec(),
            given => given.to_vec(),
        };
        let prompts = Prompts {
            normal: or_own(normal, &own.normal),
            abnormal: or_own(abnormal, &own.abnormal),
            templates: own.templates.clone(),
        };
        self.encode(class, &prompts)
    }

    fn encode(&self, class: &str, prompts: &Prompts) -> Result<Text> {
        let features = self.encoder(class)?.class_features(prompts, class)?;
        Ok(Text {
            features: features.unsqueeze(0)?,
        })
    }

    /// The text of a class, computed now where the bank lacks it.
    ///
    /// [`Error::UnknownClass`] where the model has no text tower to compute it with.
    pub fn class_text(&self, class: &str) -> Result<Text> {
        if let Some(text) = self.classes.read().get(class) {
            return Ok(text.clone());
        }
        let text = self.encode(class, &self.config().prompts)?;
        let mut classes = self.classes.write();
        if classes.len() >= self.classes().len() + KEPT_CLASSES {
            let own = self.classes();
            classes.retain(|kept, _| own.contains(kept));
        }
        classes.insert(class.to_owned(), text.clone());
        Ok(text)
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
