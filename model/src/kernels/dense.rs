//! Linear layers whose weights are laid out once for this machine's matrix product, and the rows that go through them.
//!
//! A row is made by a closure, so that what comes before a product (a norm, an activation, a gather) is one pass together with what the
//! product wants done to its input. [`Float`] is the plain one; [`super::floats`], [`super::bf16`], [`super::int8`] and [`super::bytes`] have the others.

use candle_core::{Error, Result};
use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::{
    TASK,
    attention::{Mixing, Shape},
    for_each_row,
    gelu::gelu,
    widest,
};

/// A matrix in somebody's slice: [rows, columns], and the steps from one row and one column to the next.
pub(super) fn matrix<T>(
    values: &[T],
    shape: [usize; 2],
    strides: [usize; 2],
) -> Result<NdTensorView<'_, T, 2>> {
    NdTensorView::from_slice_with_strides(shape, values, strides).map_err(Error::wrap)
}

/// A linear layer, y = x W + b.
pub(crate) trait Dense: Sized + Send + Sync {
    /// Rows on their way into a layer.
    type Rows: Default + Send + Sync;

    /// What attention works with, kept from block to block.
    type Mixing: Default + Send;

    /// Of a weight [outputs, inputs] and a bias [outputs].
    fn new(weight: &[f32], bias: Vec<f32>) -> Result<Self>;

    /// Makes `count` rows of `width` numbers: `f` writes the row whose number it gets.
    fn fill(
        rows: &mut Self::Rows,
        count: usize,
        width: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    );

    /// The layer of `rows`, [count, outputs], in place of what was in `out`.
    fn forward(&self, rows: &mut Self::Rows, out: &mut Vec<f32>) -> Result<()>;

    /// Adds the layer of `rows` to `out`, [count, outputs].
    fn add(&self, rows: &mut Self::Rows, out: &mut [f32]) -> Result<()>;

    /// `f` of the layer of `rows`, as rows for the next layer.
    fn activate(
        &self,
        rows: &mut Self::Rows,
        f: impl Fn(f32) -> f32 + Sync,
        next: &mut Self::Rows,
    ) -> Result<()>;

    /// GELU as exact as what follows it wants it.
    #[inline(always)]
    fn gelu(x: f32) -> f32 {
        gelu(x)
    }

    /// Of a layer that projects to queries (divided by the root of the head's width), keys and values: attention among `rows`, which become
    /// those of the output layer.
    fn attend(&self, rows: &mut Self::Rows, shape: Shape, mixing: &mut Self::Mixing) -> Result<()>;
}

/// In 32-bit floats.
pub(crate) struct Float {
    weight: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

/// Rows of floats.
#[derive(Default)]
pub(crate) struct FloatRows {
    values: Vec<f32>,
    count: usize,
}

impl Float {
    /// `out = rows W + b + keep * out`
    fn product(&self, rows: &FloatRows, out: &mut [f32], keep: f32, bias: bool) -> Result<()> {
        let inputs = self.weight.rows();
        let options = GemmOptions {
            beta: keep,
            bias: bias.then_some(BiasVector::Row(&self.bias)),
            ..GemmOptions::default()
        };
        let input = matrix(&rows.values, [rows.count, inputs], [inputs, 1])?;
        let weight = GemmInputB::Packed(&self.weight);
        GemmExecutor::<f32>::new()
            .gemm(out, GemmInputA::Unpacked(input), weight, options)
            .map_err(Error::wrap)
    }
}

impl Dense for Float {
    type Rows = FloatRows;
    type Mixing = Mixing;

    fn new(weight: &[f32], bias: Vec<f32>) -> Result<Self> {
        let executor = GemmExecutor::<f32>::new();
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len().max(1));
        Ok(Self {
            weight: executor.prepack_b(matrix(weight, [inputs, outputs], [1, inputs])?),
            bias,
        })
    }

    fn fill(
        rows: &mut FloatRows,
        count: usize,
        width: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        rows.count = count;
        rows.values.resize(count * width, 0.0);
        let task = TASK.div_ceil(width);
        let parts = rows.values.par_chunks_mut(task * width);
        parts.enumerate().for_each(|(part, values)| {
            widest(
                #[inline(always)]
                || {
                    let rows = values.chunks_exact_mut(width);
                    for (i, row) in rows.enumerate() {
                        f(part * task + i, row);
                    }
                },
            );
        });
    }

    fn forward(&self, rows: &mut FloatRows, out: &mut Vec<f32>) -> Result<()> {
        out.resize(rows.count * self.bias.len(), 0.0);
        self.product(rows, out, 0.0, true)
    }

    fn add(&self, rows: &mut FloatRows, out: &mut [f32]) -> Result<()> {
        self.product(rows, out, 1.0, true)
    }

    fn activate(
        &self,
        rows: &mut FloatRows,
        f: impl Fn(f32) -> f32 + Sync,
        next: &mut FloatRows,
    ) -> Result<()> {
        next.count = rows.count;
        next.values.resize(rows.count * self.bias.len(), 0.0);
        self.product(rows, &mut next.values, 0.0, false)?;
        for_each_row(
            &mut next.values,
            self.bias.len(),
            #[inline(always)]
            |row| {
                for (x, bias) in row.iter_mut().zip(&self.bias) {
                    *x = f(*x + bias);
                }
            },
        );
        Ok(())
    }

    fn attend(&self, rows: &mut FloatRows, shape: Shape, mixing: &mut Mixing) -> Result<()> {
        self.forward(rows, &mut mixing.qkv)?;
        mixing.mix::<Self>(shape, rows)
    }
}
