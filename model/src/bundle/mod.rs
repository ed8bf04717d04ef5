//! The bundle: one safetensors file that is a whole model. This file reads it; [`write`] makes it.
//!
//! Tensors lie under the names of [`crate::schema`], text features under `text_bank.<class>` [N, W, 2], the scales of an 8-bit matrix
//! under its name and `.scale`. `__metadata__.acdclip` holds one JSON document: `format_version` (1), `config`, `provenance`,
//! `calibration` (or null) and `content_sha256`. A reader of version 1 ignores keys that it does not know. A bundle may leave its text tower
//! out (`text_model.*` and `text_adapter.*`); it then scores the classes of its bank only.

mod relabel;
mod storage;
mod write;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::schema;
use crate::tensors::{SourceName, TensorFile, TensorSet};
use crate::text_bank::TextBank;
pub use storage::StoragePolicy;
pub use write::BundleWriter;

/// Version of the metadata document that this crate writes, and the only one that it reads.
pub const FORMAT_VERSION: u64 = 1;

/// Key of the metadata document in the file's `__metadata__`.
const METADATA_KEY: &str = "acdclip";
const TEXT_BANK: &str = "text_bank.";

/// Where a model comes from: what a user must know to trust it, or to make it again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The program that wrote the bundle, with its version.
    pub made_by: String,
    /// The files that it was made from.
    pub sources: Vec<SourceFile>,
    /// What it was trained on.
    pub data: Option<String>,
    /// Under which terms the weights may be used.
    pub licence: Option<String>,
    /// What it was measured to do, free in form.
    pub metrics: Value,
    /// Anything else worth knowing.
    pub notes: Vec<String>,
}

/// A file that a bundle was made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFile {
    /// Its name, without the folder.
    pub file: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

impl SourceFile {
    /// Names and hashes `file`.
    pub fn of(file: &TensorFile) -> Self {
        let name = Path::new(file.label()).file_name();
        Self {
            file: name.map_or_else(|| file.label().into(), |name| name.to_string_lossy().into()),
            sha256: hex(&Sha256::digest(file.bytes())),
        }
    }
}

/// The metadata document, as far as this version reads it.
#[derive(Deserialize)]
struct Document {
    config: Value,
    #[serde(default)]
    provenance: Provenance,
    #[serde(default)]
    calibration: Option<Value>,
    content_sha256: Option<String>,
}

/// An open bundle: checked to hold every tensor that its config implies; numbers are read when asked for. Cheap to clone.
#[derive(Clone)]
pub struct Bundle(Arc<Inner>);

struct Inner {
    file: TensorFile,
    config: Config,
    raw_config: Value,
    provenance: Provenance,
    calibration: Option<Value>,
    recorded_hash: Option<String>,
    tensors: TensorSet,
    classes: Vec<String>,
    has_text_tower: bool,
}

impl Bundle {
    /// Maps the bundle at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(TensorFile::open(path)?)
    }

    /// A bundle in memory, shared, not copied.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        Self::read(TensorFile::from_bytes(bytes)?)
    }

    /// A bundle that is compiled in.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self> {
        Self::read(TensorFile::from_static(bytes)?)
    }

    fn read(file: TensorFile) -> Result<Self> {
        let document = read_document(&file).map_err(|reason| Error::file(file.label(), reason))?;
        let config: Config = serde_json::from_value(document.config.clone())
            .map_err(|e| Error::file(file.label(), e.to_string()))?;
        let has_text_tower = config.text.is_some() && file.names().any(is_text);
        let mut tensors = TensorSet::new(file.label());
        for (name, shape) in wanted(&config, has_text_tower, &file)? {
            tensors.take(&name, &shape, &file, &SourceName::whole(&name))?;
        }
        let classes = take_text_bank(&mut tensors, &config, &file, "")?;
        Ok(Self(Arc::new(Inner {
            config,
            raw_config: document.config,
            provenance: document.provenance,
            calibration: document.calibration,
            recorded_hash: document.content_sha256,
            tensors,
            classes,
            has_text_tower,
            file,
        })))
    }

    /// What model it is.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where it comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.0.provenance
    }

    /// Its calibration, as written; `None` for a model that was not calibrated.
    pub fn calibration(&self) -> Option<&Value> {
        self.0.calibration.as_ref()
    }

    /// SHA-256 of what it computes with (config, and every tensor's name, type, shape and bytes), hexadecimal. Provenance and calibration
    /// do not change it. Read from the metadata, or computed where that does not say.
    pub fn hash(&self) -> String {
        match &self.0.recorded_hash {
            Some(hash) => hash.clone(),
            None => self.compute_hash(),
        }
    }

    /// The first 12 digits of [`Bundle::hash`], by which records name the model.
    pub fn short_hash(&self) -> String {
        self.hash().chars().take(12).collect()
    }

    /// Reads the whole file, and says whether it still is what its metadata says: an error if a byte of a tensor or the config changed.
    pub fn verify(&self) -> Result<()> {
        let (computed, recorded) = (self.compute_hash(), self.hash());
        if computed == recorded {
            return Ok(());
        }
        Err(Error::file(
            self.label(),
            format!("damaged: its content_sha256 is {recorded}, its content's is {computed}"),
        ))
    }

    fn compute_hash(&self) -> String {
        let file = &self.0.file;
        let mut hasher = ContentHasher::new(&self.0.raw_config);
        for (name, entry) in file.entries_in_order() {
            hasher.tensor(name, &entry.dtype.to_string(), &entry.shape);
            hasher.bytes(file.stored_bytes(entry));
            file.let_go(entry);
        }
        hasher.finish()
    }

    /// The bundle as something that another one is made from.
    pub fn source(&self) -> SourceFile {
        SourceFile::of(&self.0.file)
    }

    /// The file's path, or `<memory>`.
    pub fn label(&self) -> &str {
        self.0.file.label()
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> usize {
        self.0.file.bytes().len()
    }

    /// Stored bytes by type, such as `("F16", 2_500_000)`, sorted by type.
    pub fn stored_types(&self) -> Vec<(String, usize)> {
        let mut types = std::collections::BTreeMap::<String, usize>::new();
        for (_, entry) in self.0.file.entries_in_order() {
            *types.entry(entry.dtype.to_string()).or_default() +=
                self.0.file.stored_bytes(entry).len();
        }
        types.into_iter().collect()
    }

    /// Classes of its text bank: first those that the config names, in its order, then the others.
    pub fn classes(&self) -> &[String] {
        &self.0.classes
    }

    /// Whether it can make text features of a new class.
    pub fn has_text_tower(&self) -> bool {
        self.0.has_text_tower
    }

    /// The text features that it carries.
    pub fn text_bank(&self) -> Result<TextBank> {
        text_bank(&self.0.tensors, &self.0.classes)
    }

    /// Its tensors by the model's names, text bank included.
    pub fn tensors(&self) -> &TensorSet {
        &self.0.tensors
    }

    /// Its weights, as `dtype` on `device`.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        self.0.tensors.var_builder(dtype, device)
    }
}

fn read_document(file: &TensorFile) -> Result<Document, String> {
    let text = file.metadata(METADATA_KEY).ok_or(
        "wanted a bundle (a safetensors file with acdclip metadata), found none of it: make one with `acdclip import`",
    )?;
    let damaged = |e: serde_json::Error| format!("its acdclip metadata is damaged: {e}");
    let document: Value = serde_json::from_str(text).map_err(damaged)?;
    match document.get("format_version") {
        Some(version) if version.as_u64() == Some(FORMAT_VERSION) => {}
        found => {
            let found = found.unwrap_or(&Value::Null);
            return Err(format!(
                "wanted a bundle of format version {FORMAT_VERSION}, found {found}: use a version of acdclip that knows it"
            ));
        }
    }
    let document: Document = serde_json::from_value(document).map_err(damaged)?;
    let is_hash = |hash: &String| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    match document
        .content_sha256
        .as_ref()
        .filter(|hash| !is_hash(hash))
    {
        Some(found) => Err(format!(
            "content_sha256: wanted 64 hexadecimal digits, found {found:?}"
        )),
        None => Ok(document),
    }
}

/// The tensors to look for in `file`, with or without the text tower.
///
/// Before their names are made, the number of blocks is held against the file: a hostile config is refused, not unfolded.
fn wanted(config: &Config, text: bool, file: &TensorFile) -> Result<Vec<schema::Spec>> {
    check_layers(config, file)?;
    let mut specs = [schema::vision_tower(config), schema::image_adapter(config)].concat();
    if text {
        specs.extend(schema::text_tower(config));
        specs.extend(schema::text_adapter(config));
    }
    Ok(specs)
}

/// An error if the config has more blocks than `file` has tensors.
pub(crate) fn check_layers(config: &Config, file: &TensorFile) -> Result<()> {
    let tensors = file.names().count();
    let text = config.text.as_ref().map_or(0, |text| text.layers);
    let layers = config.vision.layers.max(text);
    if layers <= tensors {
        return Ok(());
    }
    Err(Error::file(
        file.label(),
        format!("the config wants towers of {layers} blocks, found {tensors} tensors in all"),
    ))
}

/// Takes the text features of `file`, found under `prefix`, into `tensors`; returns the classes in their order.
pub(crate) fn take_text_bank(
    tensors: &mut TensorSet,
    config: &Config,
    file: &TensorFile,
    prefix: &str,
) -> Result<Vec<String>> {
    let shape = [config.groups, config.text_width, 2];
    let mut classes = Vec::new();
    for name in file.names() {
        let own = name.strip_prefix(prefix);
        if let Some(class) = own.and_then(|name| name.strip_prefix(TEXT_BANK)) {
            let source = SourceName::whole(name);
            tensors.take(&format!("{TEXT_BANK}{class}"), &shape, file, &source)?;
            classes.push(class.to_owned());
        }
    }
    let place = |class: &String| config.classes.iter().position(|c| c == class);
    classes.sort_by_key(|class| place(class).unwrap_or(usize::MAX));
    Ok(classes)
}

/// Reads the features of `classes`.
pub(crate) fn text_bank(tensors: &TensorSet, classes: &[String]) -> Result<TextBank> {
    let mut bank = TextBank::default();
    for class in classes {
        let features = tensors.tensor(&format!("{TEXT_BANK}{class}"), None)?;
        bank.insert(class, features);
    }
    Ok(bank)
}

/// Whether `name` belongs to the text tower or its adapters.
pub fn is_text(name: &str) -> bool {
    name.starts_with("text_model.") || name.starts_with("text_adapter.")
}

/// The hash by which a model is known. Fed with the config, then every tensor in the file's order.
struct ContentHasher(Sha256);

impl ContentHasher {
    fn new(config: &Value) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.value(config);
        hasher
    }

    /// JSON by its content: keys sorted, so that the order in which a document was written does not matter.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<_> = map.keys().collect();
                keys.sort();
                for key in keys {
                    self.0.update(format!("{key:?}:"));
                    self.value(&map[key]);
                }
                self.0.update("}");
            }
            Value::Array(items) => {
                items.iter().for_each(|item| self.value(item));
                self.0.update("]");
            }
            other => self.0.update(format!("{other},")),
        }
    }

    fn tensor(&mut self, name: &str, dtype: &str, shape: &[usize]) {
        self.0.update(format!("\n{name} {dtype} {shape:?}\n"));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
