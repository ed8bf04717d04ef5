//! What frames are scored with and for: the model, the class or prompts, the calibration. Made as a whole, so that it is taken up as a
//! whole or not at all, and may be made on another thread while the one in use goes on.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use acdclip_model::{
    Calibration, Runtime,
    calibration::Scales,
    detector::{Detector, Text},
};

use crate::{
    engine::{self, Engine, EngineLine},
    profile::Settings,
};

/// What settings ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) precision: String,
    pub(super) threads: u32,
    pub(super) class_name: String,
    pub(super) normal_prompts: Vec<String>,
    pub(super) abnormal_prompts: Vec<String>,
    /// How often the application has asked for the model to be read again.
    pub(super) reloads: u64,
}

impl Wish {
    pub(super) fn new(settings: &Settings, reloads: u64) -> Self {
        Self {
            model: settings.model.clone(),
            device: settings.device.clone(),
            precision: settings.precision.clone(),
            threads: settings.threads,
            class_name: settings.class_name.clone(),
            normal_prompts: settings.normal_prompts.clone(),
            abnormal_prompts: settings.abnormal_prompts.clone(),
            reloads,
        }
    }

    /// Whether both are about the same model, read at the same time.
    pub(super) fn has_model_of(&self, other: &Self) -> bool {
        self.model_key() == other.model_key()
    }

    /// What says which model it is.
    fn model_key(&self) -> (&str, &str, &str, u32, u64) {
        (
            &self.model,
            &self.device,
            &self.precision,
            self.threads,
            self.reloads,
        )
    }

    fn class(&self, detector: &Detector) -> String {
        match self.class_name.as_str() {
            "" => detector.default_class(),
            name => name.to_owned(),
        }
    }

    fn has_prompts(&self) -> bool {
        !(self.normal_prompts.is_empty() && self.abnormal_prompts.is_empty())
    }

    /// Whether the model has its text ready.
    pub(super) fn is_quick(&self, detector: &Detector) -> bool {
        !self.has_prompts() && detector.classes().contains(&self.class(detector))
    }

    fn text(&self, detector: &Detector) -> acdclip_model::Result<Text> {
        let class = self.class(detector);
        if self.has_prompts() {
            detector.prompts_text(&class, &self.normal_prompts, &self.abnormal_prompts)
        } else {
            detector.class_text(&class)
        }
    }
}

/// Why a wish cannot be granted.
#[derive(Debug)]
pub(super) enum Error {
    /// The model cannot be had.
    Engine(engine::Error),
    /// The calibration cannot be used with it.
    Calibration(acdclip_model::Error),
    /// Loading it has panicked.
    Panicked,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(e) => e.fmt(f),
            Self::Calibration(e) => e.fmt(f),
            Self::Panicked => {
                f.write_str("loading the model panicked; the standard error output says why")
            }
        }
    }
}

impl From<acdclip_model::Error> for Error {
    fn from(e: acdclip_model::Error) -> Self {
        Self::Engine(e.into())
    }
}

/// What frames are scored with and for.
pub(super) struct Subject {
    line: Arc<EngineLine>,
    wish: Wish,
    class: String,
    text: Text,
    calibration: Option<Calibration>,
    /// The setting that led to it.
    calibration_setting: String,
    /// Of the class, where there is a calibration for it.
    scales: Option<Scales>,
    /// What scoring a frame costs, about.
    cost: Duration,
}

impl Subject {
    /// Loads what is wished for, with the calibration at that path (empty: the model's own). `loaded` is the model, where it is there already.
    pub(super) fn open(
        wish: Wish,
        calibration: &str,
        loaded: Option<Arc<Engine>>,
    ) -> Result<Self, Error> {
        let engine = match loaded {
            Some(engine) => engine,
            None => {
                let runtime = Runtime {
                    device: wish.device.parse()?,
                    precision: wish.precision.parse()?,
                    threads: wish.threads as usize,
                };
                Engine::open(&wish.model, runtime).map_err(Error::Engine)?
            }
        };
        let detector = engine.detector();
        let (class, text) = (wish.class(detector), wish.text(detector)?);
        let cost = engine.warm_up(&text).map_err(Error::Engine)?;
        let mut subject = Self {
            line: Arc::new(engine.line()),
            wish,
            class,
            text,
            calibration: None,
            calibration_setting: String::new(),
            scales: None,
            cost,
        };
        subject
            .choose_calibration(calibration)
            .map_err(Error::Calibration)?;
        Ok(subject)
    }

    /// Looks for something else with the same model. An error leaves all as it was.
    pub(super) fn look_for(&mut self, wish: Wish) -> acdclip_model::Result<()> {
        let detector = self.line.engine().detector();
        let (class, text) = (wish.class(detector), wish.text(detector)?);
        (self.class, self.text, self.wish) = (class, text, wish);
        self.choose_scales();
        Ok(())
    }

    /// Gives scores by the calibration in the file `setting` (empty: the model's own, if it has one) from now on. An error leaves the
    /// calibration as it was.
    pub(super) fn choose_calibration(&mut self, setting: &str) -> acdclip_model::Result<()> {
        let path = (!setting.is_empty()).then(|| Path::new(setting));
        self.calibration = Calibration::choose(path, self.detector().bundle())?;
        self.calibration_setting = setting.to_owned();
        self.choose_scales();
        Ok(())
    }

    fn choose_scales(&mut self) {
        let calibration = self.calibration.as_ref();
        self.scales = calibration.and_then(|calibration| calibration.for_class(&self.class));
    }

    /// Why the calibration does not hold, or not well, for what `settings` say.
    pub(super) fn calibration_doubts(&self, settings: &Settings) -> Option<String> {
        let (resize, domain) = (settings.resize.into(), settings.domain.into());
        let calibration = self.calibration.as_ref()?;
        calibration.doubts(&self.class, resize, domain)
    }

    /// The line to the model's worker.
    pub(super) fn line(&self) -> &Arc<EngineLine> {
        &self.line
    }

    /// The model.
    pub(super) fn detector(&self) -> &Detector {
        self.line.engine().detector()
    }

    /// What has been granted.
    pub(super) fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The class that frames are scored for.
    pub(super) fn class(&self) -> &str {
        &self.class
    }

    /// What frames are compared with.
    pub(super) fn text(&self) -> &Text {
        &self.text
    }

    /// The setting that led to the calibration.
    pub(super) fn calibration_setting(&self) -> &str {
        &self.calibration_setting
    }

    /// The scales that scores are given on.
    pub(super) fn scales(&self) -> Option<Scales> {
        self.scales
    }

    /// What scoring a frame costs, about.
    pub(super) fn cost(&self) -> Duration {
        self.cost
    }
}
