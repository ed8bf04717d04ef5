//! Calibration: from raw values, which mean something for one model and class alone, to one scale on which 0.5 is where alarm begins.
//!
//! A network's probabilities are no measure of how rare a frame is. The official form's class score is a softmax over two products of unit
//! vectors, so it lies in [0.12, 0.88] whatever is seen, and where in that range normal footage lies depends on model, class and camera. So
//! normal footage is measured (`acdclip calibrate`), and two raw values are kept of it, for the image score and for the map each: `normal`,
//! which half of the normal frames reach, and `threshold`, from which it is an alarm. [`Scale`] is the map that is linear in the logit and
//! takes `normal` to 0.1 and `threshold` to 0.5. It is monotone, so ranks stay as they are.
//!
//! The document is TOML in a file of its own, or JSON in a bundle:
//!
//! ```toml
//! version = 1
//! model = "..." # the bundle's hash, 64 digits
//! resize = "squash" # how frames were scored; `domain` likewise, where it was not the model's own
//!
//! [classes.rail.score] # and [classes.rail.map], of the map's maximum
//! normal = 0.41
//! threshold = 0.63
//! frames = 90000 # this and what follows says how they were found
//! hours = 1.0
//! false_alarms_per_hour = 1.0
//! ```
//!
//! The class `*` stands for every class that has no entry. A reader of version 1 ignores keys that it does not know.

use std::{collections::BTreeMap, io::Read, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    bundle::Bundle,
    config::Domain,
    error::{Error, Result},
    preprocess::Resize,
};

/// Version of the document that this crate writes, and the only one that it reads.
pub const VERSION: u64 = 1;

/// The class that stands for every other.
pub const ANY_CLASS: &str = "*";

/// Where `normal` lies on the calibrated scale; `threshold` lies at 0.5.
pub const NORMAL: f64 = 0.1;

/// Logits between `normal` and `threshold`, at least: nearer ones would make a cliff of the scale.
pub const MIN_SPAN: f64 = 1e-3;

/// No calibration is anywhere near as long.
const MAX_BYTES: u64 = 1 << 20;

/// What is known of a model's values on normal footage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    version: u64,
    /// Hash of the bundle that it was made for, [`Bundle::hash`].
    pub model: String,
    /// How frames met the network's square.
    #[serde(default)]
    pub resize: Resize,
    /// Whose blur and weights the scores had, where they were not the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// By class.
    pub classes: BTreeMap<String, ClassCalibration>,
}

/// What is known of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCalibration {
    /// Of the image score.
    pub score: Anchors,
    /// Of the map's maximum, and so of every value of the map.
    pub map: Anchors,
}

/// Two raw values that fix a scale, and how they were found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Anchors {
    /// What half of the normal frames reach, in (0, 1).
    pub normal: f64,
    /// From which value it is an alarm, in (`normal`, 1).
    pub threshold: f64,
    /// Normal frames that were scored.
    #[serde(default)]
    pub frames: u64,
    /// Hours that they last; none for pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<f64>,
    /// False alarms an hour that were allowed, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_alarms_per_hour: Option<f64>,
    /// Share of the normal frames that stays below the threshold, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// Whether there was too little footage to show what was asked for, and the threshold is an estimate beyond it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extrapolated: bool,
}

/// A monotone map from raw values to the calibrated scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The threshold's logit.
    threshold: f64,
    slope: f64,
}

/// The scales of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Of the image score.
    pub score: Scale,
    /// Of the map.
    pub map: Scale,
}

/// The logit of a probability; infinite at 0 and 1.
pub fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

/// The probability of a logit.
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

impl Scale {
    /// The scale that takes the logit of `normal` to [`NORMAL`] and that of `threshold` to 0.5.
    ///
    /// The reason why not where they are no such pair: both are wanted inside (0, 1), the threshold at least [`MIN_SPAN`] logits above.
    pub fn new(normal: f64, threshold: f64) -> Result<Self, String> {
        for (key, value) in [("normal", normal), ("threshold", threshold)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(format!(
                    "{key}: wanted a raw value between 0 and 1, found {value}"
                ));
            }
        }
        let span = logit(threshold) - logit(normal);
        if span < MIN_SPAN {
            return Err(format!(
                "threshold: wanted a raw value above normal, which is {normal}, found {threshold}"
            ));
        }
        Ok(Self {
            threshold: logit(threshold),
            slope: -logit(NORMAL) / span,
        })
    }

    /// The calibrated value of a raw probability.
    pub fn calibrate(self, raw: f32) -> f32 {
        // Sums of weighted probabilities may leave [0, 1] by a rounding.
        self.of_logit(logit(f64::from(raw.clamp(0.0, 1.0))))
    }

    /// The calibrated value of a raw logit.
    pub fn calibrate_logit(self, raw: f32) -> f32 {
        self.of_logit(f64::from(raw))
    }

    /// The raw probability of a calibrated value.
    pub fn raw(self, calibrated: f32) -> f32 {
        sigmoid(self.logit_of(calibrated)) as f32
    }

    /// The raw logit of a calibrated value; infinite at 0 and 1.
    pub fn raw_logit(self, calibrated: f32) -> f32 {
        self.logit_of(calibrated) as f32
    }

    fn of_logit(self, raw: f64) -> f32 {
        sigmoid(self.slope * (raw - self.threshold)) as f32
    }

    fn logit_of(self, calibrated: f32) -> f64 {
        logit(f64::from(calibrated)) / self.slope + self.threshold
    }
}

impl Calibration {
    /// A calibration of the model of that hash, without classes yet.
    pub fn new(model: impl Into<String>, resize: Resize, domain: Option<Domain>) -> Self {
        Self {
            version: VERSION,
            model: model.into(),
            resize,
            domain,
            classes: BTreeMap::new(),
        }
    }

    /// The calibration in the file at `path`, or the bundle's own where none is named; an error if it was made for another model.
    pub fn choose(path: Option<&Path>, bundle: &Bundle) -> Result<Option<Self>> {
        let named = |label: &str| {
            let label = label.to_owned();
            move |e: Error| Error::file(label, e.to_string())
        };
        let (chosen, label) = match (path, bundle.calibration()) {
            (Some(path), _) => (Self::open(path)?, path.display().to_string()),
            (None, Some(value)) => {
                let own = Self::from_value(value).map_err(named(bundle.label()))?;
                (own, bundle.label().to_owned())
            }
            (None, None) => return Ok(None),
        };
        chosen.check_model(&bundle.hash()).map_err(named(&label))?;
        Ok(Some(chosen))
    }

    /// Reads the TOML file at `path`; an error names it.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(io)?;
        if text.len() as u64 > MAX_BYTES {
            let reason = format!("calibration: wanted at most {MAX_BYTES} bytes, found more");
            return Err(Error::file(path.display(), reason));
        }
        if text.trim().is_empty() {
            let reason =
                "wanted a calibration that `acdclip calibrate` has written, found an empty file";
            return Err(Error::file(path.display(), reason));
        }
        Self::from_toml(&text).map_err(|e| Error::file(path.display(), e.to_string()))
    }

    /// Reads a document in TOML.
    pub fn from_toml(text: &str) -> Result<Self> {
        let table: toml::Table = toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.unwrap_or_default().matches('\n').count() + 1;
            wrong(format!("line {line}: {}", e.message()))
        })?;
        let version = table
            .get("version")
            .map(|value| (value.as_integer(), value));
        check_version(version.map(|(number, value)| (number, value.to_string())))?;
        Self::parse(table)
    }

    /// Reads a document in JSON, as a bundle keeps it.
    pub fn from_value(value: &Value) -> Result<Self> {
        let version = value.get("version").map(|value| (value.as_i64(), value));
        check_version(version.map(|(number, value)| (number, value.to_string())))?;
        Self::parse(value.clone())
    }

    fn parse<'de>(document: impl serde::Deserializer<'de, Error: std::fmt::Display>) -> Result<Self>
    where
        Self: DeserializeOwned,
    {
        let read: Self = serde_path_to_error::deserialize(document)
            .map_err(|e| wrong(format!("{}: {}", e.path(), e.inner().to_string().trim())))?;
        read.check()?;
        Ok(read)
    }

    /// The document in TOML.
    pub fn to_toml(&self) -> Result<String> {
        self.check()?;
        toml::to_string(self).map_err(|e| wrong(e.to_string()))
    }

    /// The document in JSON, for [`Bundle::write_calibrated`].
    pub fn to_value(&self) -> Result<Value> {
        self.check()?;
        serde_json::to_value(self).map_err(|e| wrong(e.to_string()))
    }

    fn check(&self) -> Result<()> {
        let is_hash = self.model.len() == 64 && self.model.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hash {
            return Err(wrong(format!(
                "model: wanted 64 hexadecimal digits, found {:?}",
                self.model
            )));
        }
        for (class, entry) in &self.classes {
            for (part, anchors) in [("score", &entry.score), ("map", &entry.map)] {
                let of_class = |reason| wrong(format!("classes.{class}.{part}.{reason}"));
                anchors.scale().map_err(of_class)?;
                anchors.check_evidence().map_err(of_class)?;
            }
        }
        Ok(())
    }

    /// An error that names both models, unless it was made for the one of that hash.
    pub fn check_model(&self, hash: &str) -> Result<()> {
        if self.model.eq_ignore_ascii_case(hash) {
            return Ok(());
        }
        Err(wrong(format!(
            "wanted one of model {hash}, found one of model {}: calibrate this model with `acdclip calibrate`",
            self.model
        )))
    }

    /// The scales of `class`, or of [`ANY_CLASS`]; none where neither has an entry.
    pub fn for_class(&self, class: &str) -> Option<Scales> {
        let entry = self.classes.get(class);
        let entry = entry.or_else(|| self.classes.get(ANY_CLASS))?;
        Some(Scales {
            score: entry.score.scale().ok()?,
            map: entry.map.scale().ok()?,
        })
    }

    /// Why it does not hold, or not well, for frames of `class` that are scored so; none where nothing speaks against it.
    pub fn doubts(&self, class: &str, resize: Resize, domain: Option<Domain>) -> Option<String> {
        if self.for_class(class).is_none() {
            let known: Vec<_> = self.classes.keys().map(String::as_str).collect();
            return Some(format!(
                "the calibration has no class {class:?}, and its scores stay raw; it has: {}",
                known.join(", ")
            ));
        }
        let (made, used) = (way(self.resize, self.domain), way(resize, domain));
        (made != used).then(|| {
            format!("the calibration was made with {made}, and frames are scored with {used}: its thresholds may not hold")
        })
    }
}

impl Anchors {
    fn scale(&self) -> Result<Scale, String> {
        Scale::new(self.normal, self.threshold)
    }

    fn check_evidence(&self) -> Result<(), String> {
        let said = [
            ("hours", self.hours),
            ("false_alarms_per_hour", self.false_alarms_per_hour),
            ("quantile", self.quantile),
        ];
        match said
            .iter()
            .find(|(_, value)| value.is_some_and(|v| !v.is_finite() || v < 0.0))
        {
            Some((key, Some(found))) => Err(format!("{key}: wanted 0 or more, found {found}")),
            _ => Ok(()),
        }
    }
}

fn wrong(reason: impl AsRef<str>) -> Error {
    let words: Vec<_> = reason.as_ref().split_whitespace().collect();
    Error::Calibration(words.join(" "))
}

/// Before anything else is looked at: a later version may mean something else by the same keys.
fn check_version(found: Option<(Option<i64>, String)>) -> Result<()> {
    match found {
        Some((Some(number), _)) if number as u64 == VERSION => Ok(()),
        found => {
            let found = found.map_or_else(|| "none".into(), |(_, text)| text);
            Err(wrong(format!(
                "version: wanted {VERSION}, found {found}: use a version of acdclip that knows it"
            )))
        }
    }
}

/// How frames are scored, as the settings are called.
fn way(resize: Resize, domain: Option<Domain>) -> String {
    format!(
        "resize {} and domain {}",
        resize.name(),
        domain.map_or("model", Domain::name)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn calibration() -> Calibration {
        let anchors = |normal, threshold| Anchors {
            normal,
            threshold,
            frames: 90_000,
            hours: Some(1.0),
            false_alarms_per_hour: Some(1.0),
            ..Anchors::default()
        };
        let mut calibration = Calibration::new(HASH, Resize::Fit, Some(Domain::Medical));
        let entry = ClassCalibration {
            score: anchors(0.41, 0.63),
            map: anchors(0.2, 0.97),
        };
        calibration.classes.insert("rail".into(), entry);
        calibration
    }

    fn complaint(text: &str) -> String {
        Calibration::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_in_both_forms() {
        let calibration = calibration();
        let text = calibration.to_toml().unwrap();
        assert_eq!(Calibration::from_toml(&text).unwrap(), calibration);
        let value = calibration.to_value().unwrap();
        assert_eq!(Calibration::from_value(&value).unwrap(), calibration);
        let later = format!("{text}\nadded_later = 1\n[more]\nx = 1\n");
        assert_eq!(Calibration::from_toml(&later).unwrap(), calibration);
    }

    #[test]
    fn two_numbers_a_value_are_enough() {
        let text = format!(
            "version = 1\nmodel = \"{HASH}\"\n[classes.\"*\"]\nscore = {{ normal = 0.3, threshold = 0.5 }}\nmap = {{ normal = 0.1, threshold = 0.5 }}\n"
        );
        let read = Calibration::from_toml(&text).unwrap();
        assert_eq!(
            (read.resize, read.domain, read.classes.len()),
            (Resize::Squash, None, 1)
        );
        let scales = read.for_class("whatever").unwrap();
        assert_eq!(scales.score, Scale::new(0.3, 0.5).unwrap());
    }

    #[test]
    fn a_wrong_document_names_the_key() {
        let good = calibration().to_toml().unwrap();
        for (from, to, named) in [
            ("version = 1", "version = 2", "version: wanted 1, found 2"),
            ("version = 1", "version = \"1\"", "version: wanted 1"),
            ("version = 1", "", "version: wanted 1, found none"),
            (HASH, "0123", "model: wanted 64"),
            (
                "normal = 0.41",
                "normal = nan",
                "classes.rail.score.normal: wanted a raw value",
            ),
            (
                "normal = 0.41",
                "normal = 0.0",
                "classes.rail.score.normal: wanted a raw value",
            ),
            (
                "normal = 0.41",
                "normal = -inf",
                "classes.rail.score.normal: wanted a raw value",
            ),
            (
                "normal = 0.41",
                "normal = \"low\"",
                "classes.rail.score.normal: invalid type",
            ),
            (
                "normal = 0.41",
                "",
                "classes.rail.score: missing field `normal`",
            ),
            (
                "threshold = 0.97",
                "threshold = 1.0",
                "classes.rail.map.threshold: wanted a raw value",
            ),
            (
                "threshold = 0.63",
                "threshold = 0.41",
                "classes.rail.score.threshold: wanted a raw value above normal",
            ),
            (
                "threshold = 0.63",
                "threshold = 0.2",
                "classes.rail.score.threshold: wanted a raw value above normal",
            ),
            (
                "frames = 90000",
                "frames = -1",
                "classes.rail.score.frames: invalid value",
            ),
            (
                "hours = 1.0",
                "hours = inf",
                "classes.rail.score.hours: wanted 0 or more",
            ),
            (
                "resize = \"fit\"",
                "resize = \"crop\"",
                "resize: unknown variant",
            ),
            ("[classes.rail.map]", "[classes.rail.mop]", "classes.rail"),
        ] {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good, "{from}");
            let said = complaint(&changed);
            assert!(said.contains(named), "{to}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in ["", "[", "version", "\u{0}", "classes = 3", "a = [1\n\n\n"] {
            assert_eq!(complaint(text).lines().count(), 1, "{text:?}");
        }
        for value in [Value::Null, 3.into(), serde_json::json!([{"version": 1}])] {
            assert!(Calibration::from_value(&value).is_err(), "{value}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.toml");
        std::fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        let said = Calibration::open(&path).unwrap_err().to_string();
        assert!(
            said.contains("long.toml") && said.contains("at most"),
            "{said}"
        );
    }

    #[test]
    fn another_model_is_refused_by_both_names() {
        let calibration = calibration();
        calibration.check_model(HASH).unwrap();
        let other = HASH.replace('0', "f");
        let said = calibration.check_model(&other).unwrap_err().to_string();
        assert!(said.contains(HASH) && said.contains(&other), "{said}");
    }

    #[test]
    fn a_class_without_an_entry_and_another_way_of_scoring_are_doubted() {
        let mut calibration = calibration();
        let doubts =
            |c: &Calibration, class, resize| c.doubts(class, resize, Some(Domain::Medical));
        assert_eq!(doubts(&calibration, "rail", Resize::Fit), None);
        let said = doubts(&calibration, "rail", Resize::Squash).unwrap();
        assert!(
            said.contains("resize fit") && said.contains("resize squash"),
            "{said}"
        );
        let said = doubts(&calibration, "colon", Resize::Fit).unwrap();
        assert!(said.contains("colon") && said.contains("rail"), "{said}");
        let rail = calibration.classes["rail"].clone();
        calibration.classes.insert(ANY_CLASS.into(), rail);
        assert_eq!(doubts(&calibration, "colon", Resize::Fit), None);
    }

    #[test]
    fn the_ends_of_the_raw_scale_are_the_ends_of_the_calibrated_one() {
        for (normal, threshold) in [(0.4, 0.6), (1e-7, 1.0 - 1e-7), (0.3, 0.301)] {
            let scale = Scale::new(normal, threshold).unwrap();
            assert_eq!((scale.calibrate(0.0), scale.calibrate(1.0)), (0.0, 1.0));
            assert_eq!(scale.calibrate(1.0 + f32::EPSILON), 1.0);
            assert_eq!(scale.calibrate_logit(f32::INFINITY), 1.0);
            assert_eq!(scale.raw_logit(1.0), f32::INFINITY);
            assert_eq!(scale.raw_logit(0.0), f32::NEG_INFINITY);
        }
    }

    proptest! {
        #[test]
        fn a_scale_keeps_ranks_and_anchors(
            normal in 0.001f64..0.99,
            above in 0.001f64..1.0,
            mut raw in prop::collection::vec(0f32..=1.0, 2..40),
        ) {
            let threshold = normal + above * (0.9999 - normal);
            let scale = Scale::new(normal, threshold).unwrap();
            prop_assert!((f64::from(scale.calibrate(normal as f32)) - NORMAL).abs() < 1e-2);
            prop_assert!((f64::from(scale.raw(0.5)) - threshold).abs() < 1e-6);
            prop_assert!((f64::from(scale.raw(NORMAL as f32)) - normal).abs() < 1e-6);
            raw.sort_by(f32::total_cmp);
            let calibrated: Vec<f32> = raw.iter().map(|raw| scale.calibrate(*raw)).collect();
            prop_assert!(calibrated.is_sorted() && calibrated.iter().all(|c| (0.0..=1.0).contains(c)));
            for (raw, calibrated) in raw.iter().zip(&calibrated) {
                if (f64::from(*raw) - threshold).abs() > 1e-6 {
                    prop_assert_eq!(f64::from(*raw) >= threshold, *calibrated >= 0.5);
                }
                let twin = scale.calibrate_logit(logit(f64::from(*raw)) as f32);
                prop_assert!((twin - calibrated).abs() < 1e-2);
            }
        }
    }
}
