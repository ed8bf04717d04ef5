//! Where a network runs: `auto`, `cpu`, `cuda[:N]` or `metal`, as users write it.

use std::{fmt, str::FromStr};

use candle_core::Device;

use crate::{
    error::{Error, Result},
    unsafe_stream,
};

/// A device as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceSpec {
    /// A GPU where this build has one and the machine too, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of that number.
    Cuda(usize),
    /// The first Metal device.
    Metal,
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let spec = match name.split_once(':') {
            None => match name {
                "auto" => Some(Self::Auto),
                "cpu" => Some(Self::Cpu),
                "cuda" => Some(Self::Cuda(0)),
                "metal" => Some(Self::Metal),
                _ => None,
            },
            Some(("cuda", number)) => number.parse().ok().map(Self::Cuda),
            Some(_) => None,
        };
        spec.ok_or_else(|| Error::Device {
            name: name.into(),
            reason: "wanted auto, cpu, cuda, cuda:N or metal".into(),
        })
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceSpec {
    /// Opens the device; an error says whether this build or the machine lacks it.
    ///
    /// A GPU is the same device whoever opens it, with one stream for all threads. Tensors go from one GPU to another by way of the CPU: a copy
    /// between two streams waits for neither.
    pub fn open(self) -> Result<Device> {
        let refused = |built: bool, feature: &str, e: candle_core::Error| Error::Device {
            name: self.to_string(),
            reason: if built {
                format!("{e}; use device=cpu")
            } else {
                format!(
                    "this build has no {feature} support; build with --features {feature}, or use device=cpu"
                )
            },
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(n) => {
                unsafe_stream::open(n).map_err(|e| refused(cfg!(feature = "cuda"), "cuda", e))
            }
            Self::Metal => {
                Device::new_metal(0).map_err(|e| refused(cfg!(feature = "metal"), "metal", e))
            }
            Self::Auto => self.resolve().open(),
        }
    }

    /// The device that [`Self::Auto`] stands for on this machine; any other is itself.
    pub fn resolve(self) -> Self {
        match self {
            // The one that is kept: opening another waits for all that the GPU has to do.
            Self::Auto if unsafe_stream::open(0).is_ok() => Self::Cuda(0),
            Self::Auto if Device::new_metal(0).is_ok() => Self::Metal,
            Self::Auto => Self::Cpu,
            named => named,
        }
    }
}
