//! CPU kernels for what candle computes slowly, one file each: in place, over rows on all cores, in the widest instructions that the
//! machine has (found at run time).
//!
//! Each is for f32 on the CPU without gradients, and has a plain twin of candle's own operations that it is tested against.
//! [`crate::ops`] chooses between them.

pub mod gelu;
pub mod softmax;

mod exp;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor};
use rayon::prelude::*;

/// Numbers that one task should have at least: below, handing it over costs more than computing it.
const TASK: usize = 1 << 14;

/// Whether the kernels apply to `x`: f32 on the CPU, contiguous, and no gradient wanted.
pub(crate) fn apply_to(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && x.is_contiguous() && !x.track_op()
}

/// Runs `f` on each row of `width` numbers, rows shared out among the cores.
fn for_each_row(values: &mut [f32], width: usize, f: impl Fn(&mut [f32]) + Sync) {
    let rows_a_task = TASK.div_ceil(width.max(1));
    let arch = pulp::Arch::new();
    values
        .par_chunks_mut(rows_a_task * width.max(1))
        .for_each(|rows| arch.dispatch(|| rows.chunks_exact_mut(width.max(1)).for_each(&f)));
}

/// The numbers that `layout` describes, which must be f32 and contiguous.
fn contiguous_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let CpuStorage::F32(values) = storage else {
        candle_core::bail!("a CPU kernel wants f32, found {:?}", storage_dtype(storage));
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut values[start..end]),
        None => candle_core::bail!("a CPU kernel wants contiguous numbers, found {layout:?}"),
    }
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    candle_core::backend::BackendStorage::dtype(storage)
}
