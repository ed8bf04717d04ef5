//! Softmax over the last dimension, in place.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result};

use super::{contiguous_mut, exp::exp, for_each_row, larger, reduce, widest};

/// Each row of the last dimension becomes its softmax. Minus infinity becomes less than 1e-30; a row needs one number above it.
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

/// Softmax of each row of `width` numbers, on this thread.
pub(super) fn rows(values: &mut [f32], width: usize) {
    widest(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(width) {
                softmax(row);
            }
        },
    );
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let largest = reduce(row, f32::NEG_INFINITY, |x| x, larger);
    for x in row.iter_mut() {
        *x = exp(*x - largest);
    }
    let factor = 1.0 / reduce(row, 0.0, |x| x, |a, b| a + b);
    for x in row.iter_mut() {
        *x *= factor;
    }
}
