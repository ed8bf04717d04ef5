//! CPU kernels for what candle computes slowly, one file each: in place, over rows on all cores, in the widest instructions that the
//! machine has (found at run time).
//!
//! Each is for f32 on the CPU outside of candle's graph, and has a plain twin of candle's own operations that it is tested against.
//! [`crate::ops`] chooses between them.

pub(crate) mod attention;
pub mod backward;
pub(crate) mod bf16;
pub(crate) mod bf16_attention;
pub(crate) mod bytes;
pub(crate) mod dense;
pub(crate) mod floats;
pub(crate) mod floats_attention;
pub mod gelu;
pub(crate) mod heads;
pub(crate) mod int8;
pub(crate) mod norm;
pub mod softmax;

mod aligned;
mod exp;
mod product;
mod unsafe_blocks;
mod unsafe_bytes;
mod unsafe_floats;
mod unsafe_tiles;
mod unsafe_weights;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor};
use rayon::prelude::*;

/// Numbers that one task should have at least: below, handing it over costs more than computing it.
const TASK: usize = 1 << 14;

/// Partial results kept apart, so that a reduction is vector instructions too.
const LANES: usize = 16;

/// What `join` makes of `f` of every number, from `start` on, in any order.
#[inline(always)]
pub(crate) fn reduce(
    row: &[f32],
    start: f32,
    f: impl Fn(f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder().iter().map(|x| f(*x));
    let rest = rest.fold(start, &join);
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, f(*x));
        }
    }
    lanes.into_iter().fold(rest, join)
}

/// The larger of two numbers, or `a` where `b` is none: one instruction, where `f32::max` is three, for `a` may be none there too.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The smaller of two numbers, likewise.
#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// Whether this machine has instructions for products of bf16.
pub(crate) fn multiplies_bf16() -> bool {
    unsafe_tiles::Unit::best().is_some()
}

/// Whether the kernels apply to `x`: f32 on the CPU, contiguous, and no gradient wanted.
pub(crate) fn apply_to(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && x.is_contiguous() && !x.track_op()
}

/// Runs `f` compiled for the widest instructions that this machine has.
///
/// That holds for what is inlined into `f` alone, so that it and the closures within it are to be marked `#[inline(always)]`. It is called
/// through `FnMut`: `FnOnce` of a closure is a shim, which cannot be marked.
#[inline(always)]
fn widest(f: impl FnMut()) {
    struct Body<F>(F);

    impl<F: FnMut()> pulp::NullaryFnOnce for Body<F> {
        type Output = ();

        #[inline(always)]
        fn call(mut self) {
            (self.0)();
        }
    }

    pulp::Arch::new().dispatch(Body(f));
}

/// Runs `f` on each row of `width` numbers, rows shared out among the cores.
pub(crate) fn for_each_row(values: &mut [f32], width: usize, f: impl Fn(&mut [f32]) + Sync) {
    for_each_numbered_row(
        values,
        width,
        #[inline(always)]
        |_, row| f(row),
    );
}

/// The same, with the row's number.
pub(crate) fn for_each_numbered_row(
    values: &mut [f32],
    width: usize,
    f: impl Fn(usize, &mut [f32]) + Sync,
) {
    let width = width.max(1);
    let task = TASK.div_ceil(width);
    let parts = values.par_chunks_mut(task * width).enumerate();
    parts.for_each(|(part, rows)| {
        widest(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    f(part * task + i, row);
                }
            },
        );
    });
}

/// Runs `f` on each pair of rows of `width` numbers, rows shared out among the cores.
fn for_each_pair(
    values: &mut [f32],
    others: &[f32],
    width: usize,
    f: impl Fn(&mut [f32], &[f32]) + Sync,
) {
    let width = width.max(1);
    let task = TASK.div_ceil(width) * width;
    values
        .par_chunks_mut(task)
        .zip(others.par_chunks(task))
        .for_each(|(rows, others)| {
            widest(
                #[inline(always)]
                || {
                    let pairs = rows.chunks_mut(width).zip(others.chunks(width));
                    for (row, other) in pairs {
                        f(row, other);
                    }
                },
            );
        });
}

/// The numbers that `layout` describes, which must be f32 and contiguous.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("a CPU kernel wants contiguous numbers, found {layout:?}"),
    }
}

/// The same to be written to.
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

/// Number `i` of those between -1 and 1 that `seed` stands for.
#[cfg(test)]
fn drawn(i: usize, seed: u32) -> f32 {
    let mixed = (i as u32 ^ seed).wrapping_mul(0x9e37_79b1).rotate_left(15);
    mixed.wrapping_mul(0x85eb_ca77) as f32 / 2f32.powi(31) - 1.0
}
