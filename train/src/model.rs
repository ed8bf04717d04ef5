//! Which model a command works with: a bundle's path, or the built-in one where none is given.

use std::path::{Path, PathBuf};

use acdclip_model::{
    Bundle, Detector, DeviceSpec, Error, Precision, Runtime, bundle::StoragePolicy,
};

use crate::outcome::Outcome;

/// Opens the bundle at `path`, or the built-in one where there is none.
pub(crate) fn bundle(path: Option<&Path>) -> Outcome<Bundle> {
    match path {
        Some(path) => Ok(Bundle::open(path)?),
        None => builtin(),
    }
}

#[cfg(feature = "builtin-model")]
fn builtin() -> Outcome<Bundle> {
    Ok(Bundle::from_static(acdclip_model::BUILTIN_MODEL)?)
}

#[cfg(not(feature = "builtin-model"))]
fn builtin() -> Outcome<Bundle> {
    Err(crate::outcome::Failure::Arguments(
        "this build has no built-in model; name a bundle's file".into(),
    ))
}

/// The option that names a model and a device.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// A bundle (.safetensors); the built-in model where left out.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, cuda:N or metal.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    device: DeviceSpec,
    /// In which arithmetic the network runs: auto or f32; bf16, where the CPU or a CUDA GPU multiplies that, and int8, on the CPU, are quicker and round.
    #[arg(long, default_value = "auto", value_parser = parse_precision)]
    precision: Precision,
    /// Threads that the network has on a CPU; 0 for one a processor.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// Reads the name of a device.
pub(crate) fn parse_device(name: &str) -> Result<DeviceSpec, Error> {
    name.parse()
}

fn parse_precision(name: &str) -> Result<Precision, Error> {
    name.parse()
}

/// Reads the name of a way to store weights.
pub(crate) fn parse_policy(name: &str) -> Result<StoragePolicy, Error> {
    name.parse()
}

impl ModelArgs {
    /// The bundle's file; none for the built-in model.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.model.as_deref()
    }

    /// Where and in which arithmetic to compute.
    pub(crate) fn runtime(&self) -> Runtime {
        Runtime {
            device: self.device,
            precision: self.precision,
            threads: self.threads,
        }
    }

    /// Opens the bundle alone.
    pub(crate) fn bundle(&self) -> Outcome<Bundle> {
        bundle(self.path())
    }

    /// Loads the model.
    pub(crate) fn open(&self) -> Outcome<Detector> {
        Ok(Detector::new(self.bundle()?, self.runtime())?)
    }

    /// Loads another model than the one it names, on the device that it names.
    pub(crate) fn open_other(&self, model: &Path) -> Outcome<Detector> {
        Ok(Detector::open(model, self.runtime())?)
    }
}
