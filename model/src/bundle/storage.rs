//! How numbers are stored: which type a tensor gets under a policy, and its bytes in that type.

use std::str::FromStr;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::error::{Error, Result};
use crate::schema;

/// How a bundle's weights are stored. Vectors (biases, LayerNorms) and text features are F32 under every policy: they are small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoragePolicy {
    /// Everything in 32 bits.
    #[default]
    F32,
    /// Matrices and tables in IEEE half precision.
    F16,
    /// Matrices and tables in bfloat16.
    Bf16,
    /// The matrices of the towers' blocks in 8 bits, symmetric, with one scale an output channel; other matrices and tables as F16.
    Q8,
}

impl StoragePolicy {
    /// Their names, as [`FromStr`] takes them.
    pub const NAMES: [&'static str; 4] = ["f32", "f16", "bf16", "q8"];

    /// The type that the tensor `name` of `shape` is stored in; I8 comes with scales.
    pub fn dtype(self, name: &str, shape: &[usize]) -> Dtype {
        if self == Self::F32 || shape.len() < 2 || name.starts_with(super::TEXT_BANK) {
            return Dtype::F32;
        }
        match self {
            Self::Bf16 => Dtype::BF16,
            Self::Q8 if schema::is_tower_matrix(name, shape) => Dtype::I8,
            _ => Dtype::F16,
        }
    }
}

impl FromStr for StoragePolicy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "q8" => Ok(Self::Q8),
            _ => Err(Error::Config(format!(
                "storage type: wanted one of {}, found {name:?}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// Scale of each of `rows` rows: the largest magnitude becomes 127. A row of zeros gets 1.
pub(super) fn row_scales(values: &[f32], rows: usize) -> Vec<f32> {
    rows_of(values, rows)
        .map(|row| {
            let largest = row.iter().fold(0f32, |max, value| max.max(value.abs()));
            let scale = largest / 127.0;
            // A scale that rounds to nothing would divide the row away.
            if scale > 0.0 { scale } else { 1.0 }
        })
        .collect()
}

/// `values` as bytes of `dtype`, little-endian; 8-bit ones divided by the scales of their `rows` rows. An error says what does not fit.
pub(super) fn encode(dtype: Dtype, values: &[f32], rows: usize) -> Result<Vec<u8>, String> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(format!("wanted finite numbers, found {value}"));
    }
    let bytes = match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::BF16 => to_halves(values, dtype, |v| {
            let half = bf16::from_f32(v);
            half.is_finite().then(|| half.to_le_bytes())
        })?,
        Dtype::F16 => to_halves(values, dtype, |v| {
            let half = f16::from_f32(v);
            half.is_finite().then(|| half.to_le_bytes())
        })?,
        Dtype::I8 => {
            let scales = row_scales(values, rows);
            let rows = rows_of(values, rows).zip(&scales);
            rows.flat_map(|(row, scale)| row.iter().map(move |v| quantise(*v, *scale)))
                .collect()
        }
        other => return Err(format!("cannot be stored as {other}")),
    };
    Ok(bytes)
}

fn rows_of(values: &[f32], rows: usize) -> std::slice::Chunks<'_, f32> {
    values.chunks((values.len() / rows.max(1)).max(1))
}

fn quantise(value: f32, scale: f32) -> u8 {
    let [byte] = ((value / scale).round().clamp(-127.0, 127.0) as i8).to_le_bytes();
    byte
}

fn to_halves(
    values: &[f32],
    dtype: Dtype,
    half: impl Fn(f32) -> Option<[u8; 2]>,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for value in values {
        let half = half(*value)
            .ok_or_else(|| format!("{value} does not fit in {dtype}: store it as f32"))?;
        bytes.extend_from_slice(&half);
    }
    Ok(bytes)
}
