//! A run's state on disk: parameters, Adam's moments and where in the run it was, in one file that is there whole or not at all.
//!
//! `checkpoints/step-000000123.safetensors` holds the parameters under their own names, the moments under `adam.*`, averages under `average.*`, and
//! the rest as one JSON document in its metadata. Chance needs no state: every stream follows from seed, epoch and place.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor, Var};
use safetensors::SafeTensors;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{average::Average, loss::Parts, loss_scale::LossScale, optimizer::Adam};
use crate::{
    files::write_tensors,
    outcome::{Failure, Outcome},
};

/// Key of the state in a checkpoint's metadata.
const KEY: &str = "acdclip_train";

/// Version of the files that are written, and the only one that is read.
const VERSION: u32 = 2;

/// Where they lie in a run's folder.
pub(crate) const FOLDER: &str = "checkpoints";
const PREFIX: &str = "step-";
const SUFFIX: &str = ".safetensors";

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// Epochs that are done.
    pub(crate) epoch: usize,
    /// Batches of the epoch under way that are done.
    pub(crate) batch: usize,
    /// Steps of the optimizer that are done.
    pub(crate) step: u64,
    /// Losses of the epoch under way, each times its batch's pictures.
    #[serde(serialize_with = "write_sums", deserialize_with = "read_sums")]
    pub(crate) sums: Parts,
    /// Those pictures.
    pub(crate) images: u64,
    /// The factor on the loss, where it is computed in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scale: Option<LossScale>,
    /// The epoch of the least validation loss, and that loss.
    #[serde(serialize_with = "write_best", deserialize_with = "read_best")]
    pub(crate) best: Option<(usize, f64)>,
    adam_steps: u64,
}

// Numbers by their bits: read from digits some come back one unit of the last place beside what was written.

fn write_sums<S: Serializer>(sums: &Parts, to: S) -> Result<S::Ok, S::Error> {
    sums.0.map(f64::to_bits).serialize(to)
}

fn read_sums<'de, D: Deserializer<'de>>(from: D) -> Result<Parts, D::Error> {
    Deserialize::deserialize(from).map(|bits: [u64; 5]| Parts(bits.map(f64::from_bits)))
}

fn write_best<S: Serializer>(best: &Option<(usize, f64)>, to: S) -> Result<S::Ok, S::Error> {
    best.map(|(epoch, loss)| (epoch, loss.to_bits()))
        .serialize(to)
}

fn read_best<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(usize, f64)>, D::Error> {
    let best: Option<(usize, u64)> = Deserialize::deserialize(from)?;
    Ok(best.map(|(epoch, bits)| (epoch, f64::from_bits(bits))))
}

/// A run's folder of checkpoints.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Those of the run in `run`, of which the newest `keep` stay.
    pub(crate) fn of(run: &Path, keep: usize) -> Outcome<Self> {
        let folder = run.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Failure::io(&folder))?;
        Ok(Self { folder, keep })
    }

    /// Writes a checkpoint and removes those that are too many.
    pub(crate) fn write(
        &self,
        state: &State,
        parameters: &BTreeMap<String, Var>,
        adam: &Adam,
        average: Option<&Average>,
    ) -> Outcome<PathBuf> {
        let state = State {
            version: VERSION,
            adam_steps: adam.steps(),
            ..state.clone()
        };
        let json = serde_json::to_string(&state)
            .map_err(|e| Failure::Training(format!("checkpoint: {e}")))?;
        let mut tensors: BTreeMap<String, Tensor> = adam
            .tensors()
            .chain(average.into_iter().flat_map(Average::tensors))
            .map(|(name, tensor)| (name, tensor.clone()))
            .collect();
        for (name, var) in parameters {
            tensors.insert(name.clone(), var.as_detached_tensor());
        }
        let path = self
            .folder
            .join(format!("{PREFIX}{:09}{SUFFIX}", state.step));
        write_tensors(&path, &tensors, [(KEY.to_owned(), json)].into())?;
        for old in self.newest_first()?.into_iter().skip(self.keep) {
            std::fs::remove_file(&old).map_err(Failure::io(&old))?;
        }
        Ok(path)
    }

    /// Puts the newest checkpoint that is whole into `parameters` and `average`; `None` where there is no checkpoint. Newer ones, which cannot be read,
    /// are named in `warnings` and removed; an error if none can be read.
    pub(crate) fn restore(
        &self,
        parameters: &BTreeMap<String, Var>,
        average: Option<&mut Average>,
        warnings: &mut Vec<String>,
    ) -> Outcome<Option<(State, Adam)>> {
        let mut unreadable: Vec<(PathBuf, Failure)> = Vec::new();
        for path in self.newest_first()? {
            match read(&path, parameters) {
                Ok((state, tensors)) => {
                    if let Some(average) = average {
                        average.restore(&tensors);
                    }
                    let found = (state.clone(), Adam::restore(tensors, state.adam_steps));
                    for (path, problem) in unreadable {
                        warnings.push(problem.to_string());
                        std::fs::remove_file(&path).map_err(Failure::io(&path))?;
                    }
                    return Ok(Some(found));
                }
                // Not damaged: nothing that removing it would mend.
                Err(problem @ (Failure::Io { .. } | Failure::Training(_))) => return Err(problem),
                Err(problem) => unreadable.push((path, problem)),
            }
        }
        match unreadable.into_iter().next() {
            Some((_, problem)) => Err(problem),
            None => Ok(None),
        }
    }

    /// Whether there is nothing to go on from.
    pub(crate) fn is_empty(&self) -> bool {
        self.newest_first().is_ok_and(|paths| paths.is_empty())
    }

    fn newest_first(&self) -> Outcome<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(Failure::io(&self.folder))? {
            let entry = entry.map_err(Failure::io(&self.folder))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
                paths.push(entry.path());
            }
        }
        // Numbers of equal length sort as numbers.
        paths.sort_unstable_by(|a, b| b.cmp(a));
        Ok(paths)
    }
}

/// Reads a checkpoint: its parameters into `parameters`, the rest as it is.
fn read(
    path: &Path,
    parameters: &BTreeMap<String, Var>,
) -> Outcome<(State, BTreeMap<String, Tensor>)> {
    let wrong = |reason: &dyn std::fmt::Display| Failure::wrong_file(path, reason);
    let bytes = std::fs::read(path).map_err(Failure::io(path))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(&e))?;
    let json = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let json = json.ok_or_else(|| wrong(&"wanted a checkpoint of a training, found none"))?;
    let state: State = serde_json::from_str(json).map_err(|e| wrong(&e))?;
    if state.version != VERSION {
        return Err(Failure::Training(format!(
            "{}: wanted a checkpoint of version {VERSION}, found {}; go on with the acdclip that wrote it",
            path.display(),
            state.version
        )));
    }
    let device = parameters
        .values()
        .next()
        .map_or(Device::Cpu, |var| var.device().clone());
    let tensors = candle_core::safetensors::load_buffer(&bytes, &device).map_err(|e| wrong(&e))?;
    let mut tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    let mut values = Vec::with_capacity(parameters.len());
    for (name, var) in parameters {
        let found = tensors.remove(name);
        let shape = found.as_ref().map(|t| t.dims().to_vec());
        match found.filter(|tensor| tensor.shape() == var.shape()) {
            Some(tensor) => values.push((var, tensor)),
            None => {
                return Err(wrong(&format!(
                    "tensor {name}: wanted {:?}, found {shape:?}; was the run's config.toml changed?",
                    var.dims()
                )));
            }
        }
    }
    for (var, tensor) in values {
        var.set(&tensor).map_err(|e| wrong(&e))?;
    }
    Ok((state, tensors))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::training::recipe::OptimizerPart;

    fn parameters(value: f32) -> BTreeMap<String, Var> {
        let tensor = Tensor::new(&[value, 2.0], &Device::Cpu).unwrap();
        [("a".to_owned(), Var::from_tensor(&tensor).unwrap())].into()
    }

    fn step(adam: &mut Adam, parameters: &BTreeMap<String, Var>) {
        let gradient = Tensor::new(&[0.3f32, -0.1], &Device::Cpu).unwrap();
        let gradients = [("a".to_owned(), gradient)].into();
        adam.step(&OptimizerPart::default(), 1.0, parameters, &gradients)
            .unwrap();
    }

    fn values(parameters: &BTreeMap<String, Var>) -> Vec<f32> {
        parameters["a"].to_vec1().unwrap()
    }

    #[test]
    fn a_restored_run_steps_as_the_one_that_was_stopped() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2).unwrap();
        let (mut adam, before) = (Adam::default(), parameters(1.0));
        step(&mut adam, &before);
        let state = State {
            step: 1,
            best: Some((3, 0.1)),
            sums: Parts([0.1, 0.2, 1e-300, 0.3, 1.0 / 3.0]),
            ..State::default()
        };
        checkpoints.write(&state, &before, &adam, None).unwrap();
        let after = parameters(9.0);
        let (found, mut restored) = checkpoints
            .restore(&after, None, &mut Vec::new())
            .unwrap()
            .unwrap();
        assert_eq!((found.sums, found.best), (state.sums, state.best));
        step(&mut adam, &before);
        step(&mut restored, &after);
        assert_eq!(values(&before), values(&after));
    }

    #[test]
    fn every_sum_comes_back_to_the_last_bit() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 1).unwrap();
        for n in 0..100 {
            let sum = f64::from_bits(0.944_398_153_573_274_6_f64.to_bits() + n);
            let state = State {
                best: Some((1, sum)),
                sums: Parts([sum; 5]),
                ..State::default()
            };
            let adam = Adam::default();
            checkpoints
                .write(&state, &parameters(1.0), &adam, None)
                .unwrap();
            let restored = checkpoints.restore(&parameters(1.0), None, &mut Vec::new());
            let (found, _) = restored.unwrap().unwrap();
            assert_eq!((found.sums, found.best), (state.sums, state.best));
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2).unwrap();
        let at = |step| State {
            step,
            ..State::default()
        };
        let adam = Adam::default();
        let mut last = PathBuf::new();
        for number in [1u8, 2, 10] {
            last = checkpoints
                .write(&at(number.into()), &parameters(number.into()), &adam, None)
                .unwrap();
        }
        assert_eq!(checkpoints.newest_first().unwrap().len(), 2);
        let whole = std::fs::read(&last).unwrap();
        std::fs::write(&last, &whole[..whole.len() / 2]).unwrap();
        let (found, mut warnings) = (parameters(0.0), Vec::new());
        let (state, _) = checkpoints
            .restore(&found, None, &mut warnings)
            .unwrap()
            .unwrap();
        assert_eq!((state.step, values(&found)[0]), (2, 2.0));
        assert!(warnings[0].contains("step-000000010"), "{warnings:?}");
        assert!(!last.exists());
    }

    #[test]
    fn a_checkpoint_of_another_network_is_refused_and_changes_nothing() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 1).unwrap();
        let adam = Adam::default();
        checkpoints
            .write(&State::default(), &parameters(5.0), &adam, None)
            .unwrap();
        let mut others = parameters(1.0);
        let wider = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        others.insert("b".into(), Var::from_tensor(&wider).unwrap());
        let error = checkpoints
            .restore(&others, None, &mut Vec::new())
            .unwrap_err();
        assert!(error.to_string().contains("tensor b"), "{error}");
        assert_eq!(values(&others)[0], 1.0);
    }
}
