//! The network that is trained: frozen towers, the parameters on top of them, and how both become a loss or a file.

use std::{collections::BTreeMap, path::Path};

use acdclip_model::{
    Config, Error,
    bundle::{BundleWriter, Provenance, SourceFile, StoragePolicy, is_text},
    import::Import,
    net::{AcdClip, TextEncoder},
    tensors::TensorFile,
    text_bank::TextBank,
};
use candle_core::{DType, Device, Tensor, Var};

use super::{
    loader::Batch,
    loss::Loss,
    parameters::Parameters,
    recipe::{OutputPart, Recipe, Start, TextPart},
    samples::Sample,
};
use crate::{
    dataset::names::ClassNames,
    outcome::{Failure, Outcome},
};

/// Where text features come from.
enum Text {
    /// The text tower and its adapters, anew at every step.
    Encoder(TextEncoder),
    /// What the base carries, for it has no text tower; not trained.
    Bank(TextBank),
}

/// Towers, parameters and text.
pub(crate) struct Network {
    config: Config,
    import: Import,
    parameters: Parameters,
    net: AcdClip,
    text: Text,
    recipe: TextPart,
    names: ClassNames,
    trains_text_tower: bool,
    device: Device,
}

impl Network {
    /// Opens the recipe's base and puts new or its own adapters on it.
    pub(crate) fn new(recipe: &Recipe, device: &Device) -> Outcome<Self> {
        let config = recipe.config()?;
        let model = &recipe.model;
        let base = TensorFile::open(&model.base)?;
        let import = match model.adapters {
            Start::New => Import::towers(base, config.clone(), !model.train_text_tower)?,
            Start::Base => Import::of(base, None, config.clone())?,
        };
        if model.adapters == Start::Base && !import.has_adapters() {
            return Err(Failure::Arguments(format!(
                "{}: has no adapters to start from; set model.adapters = \"new\"",
                model.base.display()
            )));
        }
        Self::of(import, recipe, device)
    }

    fn of(import: Import, recipe: &Recipe, device: &Device) -> Outcome<Self> {
        let config = import.config().clone();
        let trains_text_tower = recipe.model.train_text_tower;
        if trains_text_tower && config.text.is_none() {
            return Err(Failure::Arguments(
                "model.train_text_tower: the config has no text tower; say which by model.network.text = { width = ..., layers = ..., heads = ... }".into(),
            ));
        }
        let parameters = Parameters::new(
            recipe.model.start_seed.unwrap_or(recipe.seed),
            Some(import.tensors().clone()),
            config.text.clone(),
        );
        let base = import.var_builder(recipe.compute.into(), device);
        let trained = parameters.var_builder(device);
        let net = AcdClip::new(&config, base.clone(), trained.clone()).map_err(Error::from)?;
        let text = match &config.text {
            Some(text) if trains_text_tower || import.has_text_tower() => {
                let tower = if trains_text_tower {
                    trained.clone()
                } else {
                    base
                };
                let encoder = TextEncoder::new(&config, text, tower, trained);
                Text::Encoder(encoder.map_err(Error::from)?)
            }
            _ if !import.text_bank().classes.is_empty() => {
                Text::Bank(on(import.text_bank(), device)?)
            }
            _ => {
                return Err(Failure::Arguments(format!(
                    "{}: has neither a text tower nor text features; name a base that has, or train one (model.network.text, model.train_text_tower = true)",
                    recipe.model.base.display()
                )));
            }
        };
        Ok(Self {
            names: ClassNames::load(recipe.text.names_file.as_deref())?,
            recipe: recipe.text.clone(),
            config,
            import,
            parameters,
            net,
            text,
            trains_text_tower,
            device: device.clone(),
        })
    }

    /// What model it is.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What training changes.
    pub(crate) fn parameters(&self) -> BTreeMap<String, Var> {
        self.parameters.vars()
    }

    /// How many numbers training changes.
    pub(crate) fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// An error if text features of a class that `samples` show cannot be had.
    pub(crate) fn check_classes(&self, samples: &[Sample]) -> Outcome {
        if let Text::Bank(bank) = &self.text {
            for sample in samples {
                bank.get(self.recipe.key(&sample.class)).map_err(|e| {
                    Failure::Training(format!(
                        "{}: {e}; set text.object_agnostic = true if it has \"object\"",
                        sample.image.display()
                    ))
                })?;
            }
            for class in self.baked(samples) {
                bank.get(&class)
                    .map_err(|e| Failure::Training(format!("text.bake: {e}")))?;
            }
        }
        Ok(())
    }

    /// What the prompts call the class of `key`.
    fn says(&self, key: &str) -> String {
        match self.recipe.names.get(key) {
            Some(name) => name.clone(),
            None => self.names.describe(key),
        }
    }

    /// Features of one class, [N, W, 2], in the graph where they are trained.
    fn features(&self, key: &str) -> acdclip_model::Result<Tensor> {
        match &self.text {
            Text::Encoder(encoder) => encoder.class_features(&self.config.prompts, &self.says(key)),
            Text::Bank(bank) => bank.get(key).cloned(),
        }
    }

    /// Features for each of the pictures of `classes`: [B, N, W, 2], or [1, N, W, 2] where all are of one class.
    fn text(&self, classes: &[&str]) -> acdclip_model::Result<Tensor> {
        let mut features = BTreeMap::new();
        for class in classes {
            let key = self.recipe.key(class);
            if !features.contains_key(key) {
                features.insert(key, self.features(key)?);
            }
        }
        let all: Vec<_> = match features.len() {
            1 => features.values().collect(),
            _ => classes
                .iter()
                .map(|class| &features[self.recipe.key(class)])
                .collect(),
        };
        Ok(Tensor::stack(&all, 0)?)
    }

    /// The loss of a batch of `samples`, in the graph.
    pub(crate) fn loss(
        &self,
        recipe: &Recipe,
        batch: &Batch,
        samples: &[Sample],
    ) -> acdclip_model::Result<Loss> {
        let (count, side) = (batch.labels.len(), self.config.input_size);
        let tensor =
            |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &self.device);
        let pixels = tensor(&batch.pixels, &[count, 3, side, side])?;
        let masks = tensor(&batch.masks, &[count, side, side])?;
        let labels = Tensor::from_slice(&batch.labels, count, &self.device)?;
        let classes: Vec<_> = batch
            .samples
            .iter()
            .map(|i| samples[*i].class.as_str())
            .collect();
        let text = self.text(&classes)?;
        let tokens = self.net.forward(&pixels)?;
        let map = self
            .net
            .probability_map(&tokens, &text, None, (side, side))?;
        let logits = self.net.class_logits(&tokens, &text)?;
        Ok(Loss::of(&recipe.loss, &map, &masks, &logits, &labels)?)
    }

    /// Text features of `classes` as they are now, f32 on the CPU.
    fn bank(&self, classes: &[String]) -> acdclip_model::Result<TextBank> {
        let mut bank = TextBank::default();
        for class in classes {
            let features = self.features(class)?.detach();
            bank.insert(class, features.to_device(&Device::Cpu)?);
        }
        Ok(bank)
    }

    /// Classes whose features a file of this run carries.
    fn baked(&self, seen: &[Sample]) -> Vec<String> {
        if !self.recipe.bake.is_empty() {
            return self.recipe.bake.clone();
        }
        let keys = seen.iter().map(|sample| self.recipe.key(&sample.class));
        let keys: std::collections::BTreeSet<_> = keys.map(str::to_owned).collect();
        keys.into_iter().collect()
    }

    /// The adapters as they are now, under the official names, with the text features of the classes in `seen`.
    ///
    /// Text adapters are left out where they would need a text tower that the base does not have. Types are those of the bundle.
    pub(crate) fn adapters(
        &self,
        recipe: &OutputPart,
        seen: &[Sample],
    ) -> Outcome<BTreeMap<String, Tensor>> {
        let keep_text = recipe.keep_text_tower && !self.trains_text_tower;
        let policy: StoragePolicy = recipe.dtype.parse()?;
        let mut tensors = BTreeMap::new();
        for (name, var) in self.parameters() {
            if is_text(&name) && !(keep_text && name.starts_with("text_adapter.")) {
                continue;
            }
            let dtype = DType::try_from(policy.dtype(&name, var.dims())).map_err(Error::from)?;
            let tensor = var
                .as_detached_tensor()
                .to_dtype(dtype)
                .map_err(Error::from)?;
            tensors.insert(name, tensor);
        }
        for (class, features) in self.bank(&self.baked(seen))?.classes {
            tensors.insert(format!("text_bank.{class}"), features);
        }
        Ok(tensors)
    }

    /// Writes the model as it is now, and returns the bundle's hash.
    pub(crate) fn write(&self, path: &Path, recipe: &Recipe, seen: &[Sample]) -> Outcome<String> {
        let mut tensors = self.import.tensors().clone();
        for (name, var) in self.parameters() {
            tensors.take_tensor(&name, var.as_detached_tensor());
        }
        let keeps_text = recipe.output.keep_text_tower && matches!(self.text, Text::Encoder(_));
        if !keeps_text {
            tensors.remove(is_text);
        }
        let policy: StoragePolicy = recipe.output.dtype.parse()?;
        let base = TensorFile::open(&recipe.model.base)?;
        let provenance = Provenance {
            made_by: concat!("acdclip ", env!("CARGO_PKG_VERSION"), ", train").into(),
            sources: vec![SourceFile::of(&base)],
            data: recipe.output.data.clone(),
            licence: recipe.output.licence.clone(),
            ..Provenance::default()
        };
        let bank = self.bank(&self.baked(seen))?;
        Ok(BundleWriter::new(self.config.clone(), provenance, policy)
            .tensors(&tensors)
            .text_bank(&bank)
            .write(path)?)
    }
}

fn on(bank: &TextBank, device: &Device) -> acdclip_model::Result<TextBank> {
    let mut there = TextBank::default();
    for (class, features) in &bank.classes {
        there.insert(class, features.to_device(device)?);
    }
    Ok(there)
}
