//! In which arithmetic a network runs: `auto`, `f32` or `int8`, as users write it.

use std::{fmt, str::FromStr};

use candle_core::Device;

use crate::{
    device::DeviceSpec,
    error::{Error, Result},
};

/// In which arithmetic the tower runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// 32-bit floats: no arithmetic that changes a score is taken unasked.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 8-bit integers, on the CPU.
    Int8,
}

/// How the tower's weights are packed for the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// 32-bit floats.
    F32,
    /// 8-bit integers.
    Int8,
}

impl Precision {
    /// How a tower is packed for `device`; none where it is not, on a GPU.
    pub(crate) fn packing(self, device: &Device) -> Result<Option<Packing>> {
        match (self, device.is_cpu()) {
            (Self::Int8, false) => Err(Error::Precision(
                "int8 is for the CPU; wanted device=cpu, or precision=auto or f32".into(),
            )),
            (_, false) => Ok(None),
            (Self::Int8, true) => Ok(Some(Packing::Int8)),
            (Self::Auto | Self::F32, true) => Ok(Some(Packing::F32)),
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::Precision(format!(
                "wanted auto, f32 or int8, found {name:?}"
            ))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        })
    }
}

/// Where and in which arithmetic a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Runtime {
    /// Where.
    pub device: DeviceSpec,
    /// In which arithmetic.
    pub precision: Precision,
}

impl Runtime {
    /// What [`DeviceSpec::Auto`] and [`Precision::Auto`] stand for on this machine.
    pub fn resolve(self) -> Self {
        Self {
            device: self.device.resolve(),
            precision: match self.precision {
                Precision::Auto => Precision::F32,
                named => named,
            },
        }
    }
}

impl From<DeviceSpec> for Runtime {
    fn from(device: DeviceSpec) -> Self {
        Self {
            device,
            precision: Precision::Auto,
        }
    }
}
