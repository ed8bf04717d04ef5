//! Other people's weights as a model of ours: base towers by whichever names they were published under, adapters by the official code's.
//!
//! A file is recognised by the names in it, not by its own name. Whatever stands before them (`module.`, `state_dict.`, `text.`) is
//! found out and taken along. Everything that the config implies is looked up, with its shape, before anything is read or written.

mod huggingface;
mod official;
mod openai;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::bundle::{self, BundleWriter, Provenance, SourceFile, StoragePolicy};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::schema;
use crate::tensors::{SourceName, TensorFile, TensorSet};
use crate::text_bank::TextBank;

/// A model put together from other people's files, ready to run or to be written as a bundle.
pub struct Import {
    config: Config,
    base: TensorFile,
    adapter: Option<TensorFile>,
    tensors: TensorSet,
    bank: TextBank,
    has_text_tower: bool,
    has_adapters: bool,
    /// Whether [`Import::write`] keeps the text tower, if there is one. True at first.
    pub keep_text_tower: bool,
}

impl Import {
    /// Opens the towers in `base` and the adapters in `adapter`, and checks them against `config`.
    ///
    /// The base may be Hugging Face's, OpenAI's or open_clip's, in safetensors or a torch archive; or a bundle, which then brings its adapters
    /// itself. It may lack the text tower that the config has only if the adapter file carries text features. Without adapters the model
    /// can be completed by [`Import::set_adapters`].
    pub fn open(base: &Path, adapter: Option<&Path>, config: Config) -> Result<Self> {
        let adapter = adapter.map(TensorFile::open).transpose()?;
        Self::of(TensorFile::open(base)?, adapter, config)
    }

    /// The same for files that are open.
    pub fn of(base: TensorFile, adapter: Option<TensorFile>, config: Config) -> Result<Self> {
        bundle::check_layers(&config, &base)?;
        let names = Names::recognise(&base)?;
        let mut tensors = TensorSet::new(base.label());
        names.take(&mut tensors, &base, schema::vision_tower(&config))?;
        names.check_vision(&base, &config)?;
        let adapters = find_adapters(&base, adapter.as_ref())?;
        let mut bank = TextBank::default();
        let mut text = config.text.is_some() && names.text.is_some();
        if let Some((file, prefix)) = &adapters {
            let classes = bundle::take_text_bank(&mut tensors, &config, file, prefix)?;
            bank = bundle::text_bank(&tensors, &classes)?;
            text = text && (classes.is_empty() || official::has_text(file, prefix));
            official::take(&mut tensors, &config, file, prefix, text)?;
        }
        if text {
            names.take(&mut tensors, &base, schema::text_tower(&config))?;
            names.check_text(&base, &config)?;
        } else if config.text.is_some() && bank.classes.is_empty() {
            let reason = format!(
                "the config has a text tower; found none here (no tensor {}{}), and no text features (text_bank.*) in an adapter file to do without",
                names.text.as_deref().unwrap_or_default(),
                names.layout.landmarks().1
            );
            return Err(Error::file(base.label(), reason));
        }
        Ok(Self {
            has_adapters: adapters.is_some(),
            has_text_tower: text,
            keep_text_tower: true,
            config,
            base,
            adapter,
            tensors,
            bank,
        })
    }

    /// Opens the towers alone, to put adapters of one's own on them: adapters that the base has are left where they are, and a text tower
    /// that it lacks is not missed. Where it lacks one, its text features are taken if `takes_bank`.
    pub fn towers(base: TensorFile, config: Config, takes_bank: bool) -> Result<Self> {
        bundle::check_layers(&config, &base)?;
        let names = Names::recognise(&base)?;
        let mut tensors = TensorSet::new(base.label());
        names.take(&mut tensors, &base, schema::vision_tower(&config))?;
        names.check_vision(&base, &config)?;
        let has_text_tower = config.text.is_some() && names.text.is_some();
        let mut bank = TextBank::default();
        if has_text_tower {
            names.take(&mut tensors, &base, schema::text_tower(&config))?;
            names.check_text(&base, &config)?;
        } else if takes_bank {
            let classes = bundle::take_text_bank(&mut tensors, &config, &base, "")?;
            bank = bundle::text_bank(&tensors, &classes)?;
        }
        Ok(Self {
            has_adapters: false,
            has_text_tower,
            keep_text_tower: true,
            config,
            base,
            adapter: None,
            tensors,
            bank,
        })
    }

    /// The model's config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether it can make text features.
    pub fn has_text_tower(&self) -> bool {
        self.has_text_tower
    }

    /// Whether its adapters are there: from a file, or by [`Import::set_adapters`].
    pub fn has_adapters(&self) -> bool {
        self.has_adapters
    }

    /// Text features that the adapter file carries.
    pub fn text_bank(&self) -> &TextBank {
        &self.bank
    }

    /// Completes a base without adapters by tensors under the official names, such as a network's initial values.
    pub fn set_adapters(&mut self, adapters: &HashMap<String, Tensor>) -> Result<()> {
        let mut specs = schema::image_adapter(&self.config);
        if self.has_text_tower {
            specs.extend(schema::text_adapter(&self.config));
        }
        for (name, shape) in specs {
            let found = adapters.get(&name);
            let Some(tensor) = found.filter(|tensor| tensor.dims() == shape) else {
                let found = found.map(|tensor| tensor.dims());
                let reason = format!("wanted {shape:?}, found {found:?}");
                return Err(Error::tensor(TensorFile::MEMORY, name, reason));
            };
            self.tensors.take_tensor(&name, tensor.clone());
        }
        self.has_adapters = true;
        Ok(())
    }

    /// Its tensors by the model's names.
    pub fn tensors(&self) -> &TensorSet {
        &self.tensors
    }

    /// Its weights, as `dtype` on `device`.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        self.tensors.var_builder(dtype, device)
    }

    /// Writes the bundle with the text features of `bank`, and returns its hash. The files that it was made from, with their hashes, are
    /// added to `provenance`, and where that does not say what made it, this crate.
    pub fn write(
        &self,
        out: &Path,
        policy: StoragePolicy,
        bank: &TextBank,
        provenance: Provenance,
    ) -> Result<String> {
        if !self.has_adapters {
            return Err(Error::file(
                self.base.label(),
                "found no adapters here, and without them the model scores nothing: name an adapter file (--adapter)",
            ));
        }
        let mut tensors = self.tensors.clone();
        if !self.keep_text_tower {
            tensors.remove(bundle::is_text);
        }
        BundleWriter::new(self.config.clone(), self.sources(provenance), policy)
            .tensors(&tensors)
            .text_bank(bank)
            .write(out)
    }

    fn sources(&self, mut provenance: Provenance) -> Provenance {
        if provenance.made_by.is_empty() {
            provenance.made_by = concat!("acdclip-model ", env!("CARGO_PKG_VERSION")).into();
        }
        for file in std::iter::once(&self.base).chain(&self.adapter) {
            provenance.sources.push(SourceFile::of(file));
        }
        if let Some(epoch) = self.adapter.as_ref().and_then(|file| file.integer("epoch")) {
            provenance.notes.push(format!("adapters of epoch {epoch}"));
        }
        provenance
    }
}

/// The file that holds the adapters, and what stands before their names in it. An adapter file without adapters is an error.
fn find_adapters(
    base: &TensorFile,
    adapter: Option<&TensorFile>,
) -> Result<Option<(TensorFile, String)>> {
    let file = adapter.unwrap_or(base);
    match official::prefix(file) {
        Some(prefix) => Ok(Some((file.clone(), prefix))),
        None if adapter.is_none() => Ok(None),
        None => Err(Error::file(
            file.label(),
            format!(
                "wanted adapters (image_adapter.*, text_adapter.*), found {}",
                some_names(file)
            ),
        )),
    }
}

/// Whose names a file uses.
#[derive(Debug, Clone, Copy)]
enum Layout {
    HuggingFace,
    OpenAi,
}

impl Layout {
    /// A name of the vision and one of the text tower.
    fn landmarks(self) -> (&'static str, &'static str) {
        match self {
            Self::HuggingFace => (huggingface::VISION, huggingface::TEXT),
            Self::OpenAi => (openai::VISION, openai::TEXT),
        }
    }

    fn source(self, name: &str) -> Option<SourceName> {
        match self {
            Self::HuggingFace => Some(huggingface::source(name)),
            Self::OpenAi => openai::source(name),
        }
    }
}

/// How a base file names its towers.
struct Names {
    layout: Layout,
    /// What stands before every name of the vision tower.
    vision: String,
    /// The same for the text tower; `None` where there is none.
    text: Option<String>,
}

impl Names {
    fn recognise(file: &TensorFile) -> Result<Self> {
        for layout in [Layout::HuggingFace, Layout::OpenAi] {
            let (vision, text) = layout.landmarks();
            if let Some(vision) = prefix(file, vision) {
                return Ok(Self {
                    layout,
                    vision,
                    text: prefix(file, text),
                });
            }
        }
        Err(Error::file(
            file.label(),
            format!(
                "wanted CLIP's towers under Hugging Face's names ({}) or OpenAI's ({}), found {}",
                huggingface::VISION,
                openai::VISION,
                some_names(file)
            ),
        ))
    }

    fn source(&self, name: &str) -> Option<SourceName> {
        let prefix = match bundle::is_text(name) {
            true => self.text.as_deref()?,
            false => &self.vision,
        };
        let mut source = self.layout.source(name)?;
        source.name.insert_str(0, prefix);
        Some(source)
    }

    fn take(
        &self,
        tensors: &mut TensorSet,
        file: &TensorFile,
        specs: Vec<schema::Spec>,
    ) -> Result<()> {
        for (name, shape) in specs {
            let source = self
                .source(&name)
                .unwrap_or_else(|| SourceName::whole(&name));
            tensors.take(&name, &shape, file, &source)?;
        }
        Ok(())
    }

    fn check_vision(&self, file: &TensorFile, config: &Config) -> Result<()> {
        let layers = config.vision.layers;
        self.refuse(
            file,
            &format!("vision_model.encoder.layers.{layers}.layer_norm1.weight"),
            &format!("the config's vision tower has {layers} blocks; the file's has more"),
        )?;
        if config.pre_norm {
            return Ok(());
        }
        self.refuse(
            file,
            "vision_model.pre_layrnorm.weight",
            "the config says that the vision tower has no LayerNorm before its first block (pre_norm); the file's has one",
        )
    }

    fn check_text(&self, file: &TensorFile, config: &Config) -> Result<()> {
        let layers = config.text.as_ref().map_or(0, |text| text.layers);
        self.refuse(
            file,
            &format!("text_model.encoder.layers.{layers}.layer_norm1.weight"),
            &format!("the config's text tower has {layers} blocks; the file's has more"),
        )
    }

    /// An error if the file has the tensor: the network would leave it out, and compute something else than it was made for.
    fn refuse(&self, file: &TensorFile, name: &str, reason: &str) -> Result<()> {
        match self.source(name) {
            Some(source) if file.info(&source.name).is_some() => {
                Err(Error::tensor(file.label(), source.name, reason))
            }
            _ => Ok(()),
        }
    }
}

/// What stands before `landmark` where it ends a name of `file`, the shortest if there are several.
fn prefix(file: &TensorFile, landmark: &str) -> Option<String> {
    file.names()
        .filter_map(|name| name.strip_suffix(landmark))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .min_by_key(|prefix| prefix.len())
        .map(str::to_owned)
}

/// A few names of `file`, for an error.
fn some_names(file: &TensorFile) -> String {
    let names: Vec<_> = file.names().take(3).collect();
    match names.is_empty() {
        true => "no tensors".into(),
        false => format!("{} and others like them", names.join(", ")),
    }
}
