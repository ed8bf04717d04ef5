//! In which arithmetic a network runs: `auto`, `f32`, `bf16` or `int8`, as users write it.

use std::{fmt, str::FromStr};

use candle_core::{DType, Device};

use crate::{
    device::DeviceSpec,
    error::{Error, Result},
    kernels,
};

/// In which arithmetic a network runs. In 8 bits it is the tower's blocks alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// 32-bit floats: no arithmetic that changes a score is taken unasked.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bf16 summed up in f32, on a CPU that multiplies it (AMX, AVX512-BF16) or a CUDA GPU of compute capability 8.0 or later.
    Bf16,
    /// 8-bit integers, on the CPU.
    Int8,
}

/// How a network's weights are packed for the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// 32-bit floats.
    F32,
    /// bf16 summed up in f32.
    Bf16,
    /// 8-bit integers.
    Int8,
}

impl Packing {
    /// Those that this machine has instructions for, the most exact first.
    pub fn available() -> impl Iterator<Item = Self> {
        let all = [Self::F32, Self::Bf16, Self::Int8];
        all.into_iter().filter(|packing| packing.is_available())
    }

    /// Whether this machine has instructions for it.
    pub fn is_available(self) -> bool {
        self != Self::Bf16 || kernels::multiplies_bf16()
    }
}

impl From<Packing> for Precision {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::F32 => Self::F32,
            Packing::Bf16 => Self::Bf16,
            Packing::Int8 => Self::Int8,
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Precision::from(*self).fmt(f)
    }
}

/// How a network computes on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// From weights packed for the CPU.
    Packed(Packing),
    /// By candle's own operations, with a tower of that type.
    Plain(DType),
}

impl From<Arithmetic> for Precision {
    fn from(arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::Packed(packing) => packing.into(),
            Arithmetic::Plain(DType::BF16) => Self::Bf16,
            Arithmetic::Plain(_) => Self::F32,
        }
    }
}

impl Precision {
    /// How a network computes on `device`.
    pub(crate) fn arithmetic(self, device: &Device) -> Result<Arithmetic> {
        match device.is_cpu() {
            true => self.packing().map(Arithmetic::Packed),
            false => self.tower(multiplies_bf16(device)).map(Arithmetic::Plain),
        }
    }

    /// How a network is packed for the CPU.
    fn packing(self) -> Result<Packing> {
        match self {
            Self::Bf16 if !Packing::Bf16.is_available() => Err(Error::Precision(
                "this CPU does not multiply bf16 (no AMX-BF16, no AVX512-BF16); wanted precision=auto, f32 or int8".into(),
            )),
            Self::Bf16 => Ok(Packing::Bf16),
            Self::Int8 => Ok(Packing::Int8),
            Self::Auto | Self::F32 => Ok(Packing::F32),
        }
    }

    /// What the tower's numbers are on a GPU; all after the tower is f32.
    fn tower(self, multiplies_bf16: bool) -> Result<DType> {
        match self {
            Self::Int8 => Err(Error::Precision(
                "int8 is for the CPU; wanted device=cpu, or precision=auto, f32 or bf16".into(),
            )),
            Self::Bf16 if !multiplies_bf16 => Err(Error::Precision(
                "this GPU, or the one that this build is for, does not multiply bf16 (CUDA of compute capability 8.0 or later does); wanted precision=auto or f32".into(),
            )),
            Self::Bf16 => Ok(DType::BF16),
            Self::Auto | Self::F32 => Ok(DType::F32),
        }
    }
}

/// Whether `device` is a GPU that multiplies bf16, and that candle has its kernels for.
fn multiplies_bf16(device: &Device) -> bool {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            let stream = cuda.cuda_stream();
            let capability = stream.context().compute_capability();
            // candle leaves them out of a build for older GPUs.
            let has_kernels = || {
                let number = candle_core::Tensor::zeros(1, DType::BF16, device);
                number.and_then(|number| number.affine(2.0, 0.0)).is_ok()
            };
            capability.is_ok_and(|(major, _)| major >= 8) && has_kernels()
        }
        _ => false,
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::Precision(format!(
                "wanted auto, f32, bf16 or int8, found {name:?}"
            ))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// Where, in which arithmetic and on how many threads a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Runtime {
    /// Where.
    pub device: DeviceSpec,
    /// In which arithmetic.
    pub precision: Precision,
    /// Threads of its own on a CPU, at most [`MAX_THREADS`]; 0 for those that the process shares, one a processor.
    pub threads: usize,
}

/// No machine has more processors.
pub const MAX_THREADS: usize = 1024;

impl Runtime {
    /// What [`DeviceSpec::Auto`] and [`Precision::Auto`] stand for on this machine.
    pub fn resolve(self) -> Self {
        Self {
            device: self.device.resolve(),
            precision: match self.precision {
                Precision::Auto => Precision::F32,
                named => named,
            },
            ..self
        }
    }
}

impl From<DeviceSpec> for Runtime {
    fn from(device: DeviceSpec) -> Self {
        Self {
            device,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gpu_computes_in_bf16_where_it_can_and_is_asked_to() {
        assert_eq!(Precision::Bf16.tower(true).unwrap(), DType::BF16);
        for exact in [Precision::Auto, Precision::F32] {
            assert_eq!(exact.tower(true).unwrap(), DType::F32);
        }
        for (refused, can) in [(Precision::Bf16, false), (Precision::Int8, true)] {
            let said = refused.tower(can).unwrap_err().to_string();
            assert!(said.contains("wanted"), "{said}");
        }
    }
}
