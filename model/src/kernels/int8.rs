//! Linear layers in 8-bit integers: weights with a scale an output, rows with a scale each that is found as they come.
//!
//! Weights that were stored in 8 bits with a scale an output are multiplied as they are stored. What is rounded is the rows: to 8 bits where
//! the machine multiplies bytes into 32 bits (VNNI, Arm's dot product), to 7 where its instruction adds two products in 16 (AVX2), which
//! would overflow with more.

use candle_core::{Error, Result};
use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix, QuantParams};

use super::{
    TASK,
    attention::{Mixing, Shape},
    dense::{Dense, matrix},
    larger, reduce, widest,
};

/// Largest weight.
const WEIGHT_LIMIT: f32 = 127.0;

/// Adding this leaves the nearest integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;

type Executor = GemmExecutor<u8, i8, i32>;

/// In 8-bit integers.
pub(crate) struct Int8 {
    weight: PackedBMatrix<i8>,
    /// What a weight of 1 stands for, an output each.
    scales: Vec<f32>,
    bias: Vec<f32>,
}

/// Rows of codes.
#[derive(Default)]
pub(crate) struct Int8Rows {
    codes: Vec<u8>,
    /// What a step stands for, a row each.
    scales: Vec<f32>,
    /// The code of zero, a row each, as the product wants it.
    zeros: Vec<u8>,
    /// What a layer has made of them, before scales and bias.
    sums: Vec<i32>,
}

/// Steps to either side of zero that rows are rounded to here.
fn limit() -> u8 {
    static LIMIT: std::sync::LazyLock<u8> =
        std::sync::LazyLock::new(|| match Executor::new().may_saturate() {
            true => 63,
            false => 127,
        });
    *LIMIT
}

/// Rounds a row to codes around `limit + 1`; what a step stands for. It is not a number where one of the row's is not finite.
#[inline(always)]
fn encode(row: &[f32], codes: &mut [u8], limit: u8) -> f32 {
    let largest = reduce(row, 0.0, f32::abs, larger);
    let poison = reduce(row, 0.0, |x| x * 0.0, |a, b| a + b);
    let step = largest / f32::from(limit) + poison;
    let steps = if largest > 0.0 {
        f32::from(limit) / largest
    } else {
        0.0
    };
    let zero = u32::from(limit) + 1;
    for (code, x) in codes.iter_mut().zip(row) {
        *code = (x * steps + ROUND).to_bits().wrapping_add(zero) as u8;
    }
    step
}

impl Int8 {
    /// The sums of codes and weights, into `rows`.
    fn product(&self, rows: &mut Int8Rows) -> Result<()> {
        let (inputs, outputs, count) = (self.weight.rows(), self.bias.len(), rows.scales.len());
        rows.sums.resize(count * outputs, 0);
        rows.zeros.clear();
        rows.zeros.resize(count, limit() + 1);
        let options = GemmOptions {
            a_quant: Some(QuantParams {
                zero_point: &rows.zeros,
            }),
            ..GemmOptions::default()
        };
        let input = matrix(&rows.codes, [count, inputs], [inputs, 1])?;
        let weight = GemmInputB::Packed(&self.weight);
        Executor::new()
            .gemm(&mut rows.sums, GemmInputA::Unpacked(input), weight, options)
            .map_err(Error::wrap)
    }

    /// Writes what `f` makes of the layer's numbers, and of those that are there, a row at a time.
    fn write(&self, rows: &Int8Rows, out: &mut [f32], f: impl Fn(f32, f32) -> f32 + Sync) {
        let width = self.bias.len();
        let task = TASK.div_ceil(width);
        let parts = out.par_chunks_mut(task * width);
        let sums = rows.sums.par_chunks(task * width);
        let scales = rows.scales.par_chunks(task);
        parts
            .zip(sums)
            .zip(scales)
            .for_each(|((out, sums), scales)| {
                widest(
                    #[inline(always)]
                    || {
                        let rows = out.chunks_exact_mut(width).zip(sums.chunks_exact(width));
                        for ((out, sums), scale) in rows.zip(scales) {
                            let columns = sums.iter().zip(&self.scales).zip(&self.bias);
                            for (out, ((sum, weight), bias)) in out.iter_mut().zip(columns) {
                                *out = f(*sum as f32 * (scale * weight) + bias, *out);
                            }
                        }
                    },
                );
            });
    }
}

impl Dense for Int8 {
    type Rows = Int8Rows;
    type Mixing = Mixing;

    fn new(weight: &[f32], bias: Vec<f32>) -> Result<Self> {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len().max(1));
        // As in a row of tokens, a damaged number must not be rounded away.
        let poison = |row: &[f32]| reduce(row, 0.0, |x| x * 0.0, |a, b| a + b);
        let largest = |row: &[f32]| reduce(row, 0.0, f32::abs, larger);
        let scale = |row: &[f32]| largest(row) / WEIGHT_LIMIT + poison(row);
        let scales: Vec<f32> = weight.chunks_exact(inputs).map(scale).collect();
        let rows = weight.chunks_exact(inputs).zip(&scales);
        let codes: Vec<i8> = rows
            .flat_map(|(row, scale)| row.iter().map(move |x| (x / scale).round() as i8))
            .collect();
        Ok(Self {
            weight: Executor::new().prepack_b(matrix(&codes, [inputs, outputs], [1, inputs])?),
            scales,
            bias,
        })
    }

    fn fill(rows: &mut Int8Rows, count: usize, width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        rows.codes.resize(count * width, 0);
        rows.scales.resize(count, 0.0);
        let task = TASK.div_ceil(width);
        let limit = limit();
        let parts = rows.codes.par_chunks_mut(task * width);
        let parts = parts.zip(rows.scales.par_chunks_mut(task)).enumerate();
        parts.for_each_init(
            || vec![0.0; width],
            |row, (part, (codes, scales))| {
                widest(
                    #[inline(always)]
                    || {
                        let each = codes.chunks_exact_mut(width).zip(scales.iter_mut());
                        for (i, (codes, scale)) in each.enumerate() {
                            f(part * task + i, row);
                            *scale = encode(row, codes, limit);
                        }
                    },
                );
            },
        );
    }

    fn forward(&self, rows: &mut Int8Rows, out: &mut Vec<f32>) -> Result<()> {
        self.product(rows)?;
        out.resize(rows.scales.len() * self.bias.len(), 0.0);
        self.write(
            rows,
            out,
            #[inline(always)]
            |y, _| y,
        );
        Ok(())
    }

    fn add(&self, rows: &mut Int8Rows, out: &mut [f32]) -> Result<()> {
        self.product(rows)?;
        self.write(
            rows,
            out,
            #[inline(always)]
            |y, x| x + y,
        );
        Ok(())
    }

    fn activate(
        &self,
        rows: &mut Int8Rows,
        f: impl Fn(f32) -> f32 + Sync,
        next: &mut Int8Rows,
    ) -> Result<()> {
        self.product(rows)?;
        let width = self.bias.len();
        Self::fill(
            next,
            rows.scales.len(),
            width,
            #[inline(always)]
            |i, row| {
                let sums = &rows.sums[i * width..(i + 1) * width];
                let scale = rows.scales[i];
                let columns = sums.iter().zip(&self.scales).zip(&self.bias);
                for (out, ((sum, weight), bias)) in row.iter_mut().zip(columns) {
                    *out = f(*sum as f32 * (scale * weight) + bias);
                }
            },
        );
        Ok(())
    }

    fn attend(&self, rows: &mut Int8Rows, shape: Shape, mixing: &mut Mixing) -> Result<()> {
        self.forward(rows, &mut mixing.qkv)?;
        mixing.mix::<Self>(shape, rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_weight_that_is_no_number_is_not_rounded_away() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut weight = vec![0.5; 8 * 8];
            weight[13] = bad;
            let layer = Int8::new(&weight, vec![0.0; 8]).unwrap();
            let (mut rows, mut out) = (Default::default(), Vec::new());
            Int8::fill(&mut rows, 1, 8, |_, row| row.fill(1.0));
            layer.forward(&mut rows, &mut out).unwrap();
            assert!(!out[1].is_finite() && out[0].is_finite(), "{bad}: {out:?}");
        }
    }
}
