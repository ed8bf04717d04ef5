//! Softmax over the last dimension, in place.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result};

use super::{contiguous_mut, exp::exp, for_each_row};

/// Partial results kept apart, so that a reduction is vector instructions too.
const LANES: usize = 16;

/// Each row of the last dimension becomes its softmax. Minus infinity becomes less than 1e-37; a row needs one number above it.
#[derive(Debug, Clone, Copy)]
pub struct Softmax;

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let width = layout.dims().last().copied().unwrap_or(1);
        for_each_row(contiguous_mut(storage, layout)?, width, softmax);
        Ok(())
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let largest = reduce(row, f32::NEG_INFINITY, f32::max);
    for x in row.iter_mut() {
        *x = exp(*x - largest);
    }
    let factor = 1.0 / reduce(row, 0.0, |a, b| a + b);
    for x in row.iter_mut() {
        *x *= factor;
    }
}

#[inline(always)]
fn reduce(row: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, *x);
        }
    }
    lanes.iter().chain(rest).fold(start, |a, b| f(a, *b))
}
