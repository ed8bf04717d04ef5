//! The numbers that training changes: made when the network first asks for them, from a file or by chance that can be repeated.
//!
//! candle's own variables start from a generator that cannot be seeded on the CPU. Here each parameter draws from a stream of its own,
//! named after it, so that its first value depends on the seed and its name alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use acdclip_model::{config::TextConfig, tensors::TensorSet};
use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use rand::Rng;
use rand_distr::StandardNormal;

use super::random;

/// Named variables, shared between clones.
#[derive(Clone)]
pub(crate) struct Parameters {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    seed: u64,
    /// First values that are not left to chance.
    start: Option<TensorSet>,
    text: Option<TextConfig>,
}

impl Parameters {
    /// None yet. Those that `start` has will have its values, the others values drawn by `seed`; `text` is the shape of a text tower
    /// that is trained from nothing.
    pub(crate) fn new(seed: u64, start: Option<TensorSet>, text: Option<TextConfig>) -> Self {
        Self {
            vars: Arc::default(),
            seed,
            start,
            text,
        }
    }

    /// A source of weights that makes what it is asked for.
    pub(crate) fn var_builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// Every parameter made so far, by name.
    pub(crate) fn vars(&self) -> BTreeMap<String, Var> {
        self.lock().clone()
    }

    /// How many numbers there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(|var| var.elem_count()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first_values(&self, name: &str, shape: &Shape, hint: Init) -> Result<Tensor> {
        if let Some(start) = self.start.as_ref().filter(|start| start.contains(name)) {
            return start.tensor(name, Some(shape.dims())).map_err(Error::wrap);
        }
        let tower = self.text.as_ref().and_then(|text| tower_init(name, text));
        let values = self.draw(name, shape.elem_count(), tower.unwrap_or(hint))?;
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    fn draw(&self, name: &str, count: usize, init: Init) -> Result<Vec<f32>> {
        let mut random = random::stream(self.seed, name, [0, 0]);
        Ok(match init {
            Init::Const(value) => vec![value as f32; count],
            Init::Uniform { lo, up } => (0..count)
                .map(|_| random.random_range(lo as f32..up as f32))
                .collect(),
            Init::Randn { mean, stdev } => (0..count)
                .map(|_| {
                    let normal: f32 = random.sample(StandardNormal);
                    mean as f32 + stdev as f32 * normal
                })
                .collect(),
            Init::Kaiming { .. } => {
                candle_core::bail!("parameter {name}: no first values are known for it")
            }
        })
    }
}

/// CLIP's first values of a text tower's matrices (`initialize_parameters` of OpenAI's code); biases start at zero.
fn tower_init(name: &str, text: &TextConfig) -> Option<Init> {
    let name = name.strip_prefix("text_model.")?;
    if name.contains("layer_norm") {
        return None;
    }
    if name.ends_with(".bias") {
        return Some(Init::Const(0.0));
    }
    let width = text.width as f64;
    let into_residual = width.powf(-0.5) * (2.0 * text.layers as f64).powf(-0.5);
    let stdev = match name {
        "embeddings.token_embedding.weight" => 0.02,
        "embeddings.position_embedding.weight" => 0.01,
        _ if name.contains("mlp.fc1") => (2.0 * width).powf(-0.5),
        _ if name.contains("mlp.fc2") || name.contains("out_proj") => into_residual,
        _ => width.powf(-0.5),
    };
    Some(Init::Randn { mean: 0.0, stdev })
}

impl SimpleBackend for Parameters {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        hint: Init,
        _: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if let Some(var) = self.lock().get(name) {
            return Ok(var.as_tensor().clone());
        }
        let values = self.first_values(name, &shape, hint)?;
        let var = Var::from_tensor(&values.to_device(device)?)?;
        let tensor = var.as_tensor().clone();
        self.lock().insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("parameter {name}: asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn drawn(seed: u64, names: &[&str]) -> Vec<Vec<f32>> {
        let parameters = Parameters::new(seed, None, None);
        let vb = parameters.var_builder(&Device::Cpu);
        let init = Init::Randn {
            mean: 1.0,
            stdev: 2.0,
        };
        names
            .iter()
            .map(|name| {
                vb.get_with_hints(4000, name, init)
                    .unwrap()
                    .to_vec1()
                    .unwrap()
            })
            .collect()
    }

    #[test]
    fn first_values_depend_on_seed_and_name_alone() {
        let [a, b] = &drawn(1, &["a", "b"])[..] else {
            panic!()
        };
        let [b2, a2] = &drawn(1, &["b", "a"])[..] else {
            panic!()
        };
        assert_eq!((a, b), (a2, b2));
        assert_ne!(a, b);
        assert_ne!(a, &drawn(2, &["a"])[0]);
        let mean = a.iter().sum::<f32>() / 4000.0;
        let deviation = (a.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 4000.0).sqrt();
        assert!((mean - 1.0).abs() < 0.15 && (deviation - 2.0).abs() < 0.15);
    }

    #[test]
    fn a_name_asked_for_twice_is_one_variable() {
        let parameters = Parameters::new(0, None, None);
        let vb = parameters.var_builder(&Device::Cpu);
        let first = vb.get(3, "a").unwrap();
        let var = parameters.vars().remove("a").unwrap();
        var.set(&Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap())
            .unwrap();
        assert_eq!(first.to_vec1::<f32>().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(parameters.count(), 3);
    }
}
