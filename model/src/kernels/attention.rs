//! Multi-head attention without the matrix of all scores in memory: a block of queries at a time against all keys.

use candle_core::{Error, Result};
use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::{
    dense::{Dense, matrix},
    softmax,
};

/// Queries of a block: its scores stay in a core's own cache.
const BLOCK: usize = 64;

/// What is attended to: sequences of the same length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Sequences.
    pub(crate) batch: usize,
    /// Tokens of each.
    pub(crate) len: usize,
    /// Heads.
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) head: usize,
}

impl Shape {
    pub(super) fn width(self) -> usize {
        self.heads * self.head
    }

    /// Row `i` of [batch * len, heads * head] out of `mixed`, [batch, heads, len, head].
    pub(super) fn join<T: Copy>(self, mixed: &[T], i: usize, row: &mut [T]) {
        for (number, part) in row.chunks_exact_mut(self.head).enumerate() {
            part.copy_from_slice(self.part(mixed, i, number));
        }
    }

    /// What head `number` made of row `i`.
    #[inline(always)]
    pub(super) fn part<T>(self, mixed: &[T], i: usize, number: usize) -> &[T] {
        let (sequence, token) = (i / self.len, i % self.len);
        let at = ((sequence * self.heads + number) * self.len + token) * self.head;
        &mixed[at..at + self.head]
    }
}

/// What attention works with, kept from block to block.
#[derive(Default)]
pub(crate) struct Mixing {
    /// Queries (already divided by the root of the head's width), keys and values, [batch, len, 3 * heads * head].
    pub(super) qkv: Vec<f32>,
    /// [batch, heads, len, head]
    mixed: Vec<f32>,
}

impl Mixing {
    /// Mixes the values of `qkv` into rows for the output layer.
    pub(super) fn mix<L: Dense>(&mut self, shape: Shape, next: &mut L::Rows) -> Result<()> {
        let Self { qkv, mixed } = self;
        attention(qkv, shape, mixed)?;
        L::fill(next, shape.batch * shape.len, shape.width(), |i, row| {
            shape.join(mixed, i, row);
        });
        Ok(())
    }
}

/// Of queries, keys and values, [batch, len, 3 * heads * head], the mixed values, [batch, heads, len, head].
fn attention(qkv: &[f32], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
    let Shape {
        len, heads, head, ..
    } = shape;
    out.resize(shape.batch * len * shape.width(), 0.0);
    let per_sequence = len * 3 * shape.width();
    out.par_chunks_mut(len * head)
        .enumerate()
        .try_for_each(|(i, out)| {
            let (sequence, number) = (i / heads, i % heads);
            let from = sequence * per_sequence + number * head;
            one_head(&qkv[from..(sequence + 1) * per_sequence], shape, out)
        })
}

/// One head; `qkv` begins with its first query.
fn one_head(qkv: &[f32], shape: Shape, out: &mut [f32]) -> Result<()> {
    let Shape { len, head, .. } = shape;
    let (width, row) = (shape.width(), 3 * shape.width());
    let executor = GemmExecutor::<f32>::new();
    let keys = executor.prepack_b(matrix(&qkv[width..], [head, len], [1, row])?);
    let values = executor.prepack_b(matrix(&qkv[2 * width..], [len, head], [row, 1])?);
    let block = len.div_ceil(len.div_ceil(BLOCK));
    out.par_chunks_mut(block * head)
        .enumerate()
        .try_for_each_init(
            || vec![0.0; block * len],
            |scores, (i, out)| {
                let count = out.len() / head;
                let scores = &mut scores[..count * len];
                let queries = matrix(&qkv[i * block * row..], [count, head], [row, 1])?;
                product(queries, &keys, scores)?;
                softmax::rows(scores, len);
                product(matrix(scores, [count, len], [len, 1])?, &values, out)
            },
        )
}

fn product(a: NdTensorView<'_, f32, 2>, b: &PackedBMatrix<f32>, out: &mut [f32]) -> Result<()> {
    let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Packed(b));
    GemmExecutor::<f32>::new()
        .gemm(out, a, b, GemmOptions::default())
        .map_err(Error::wrap)
}
