//! Linear layers in 32-bit floats where the machine has AVX-512: what comes after a product is done while its results are in the nearest cache.
//!
//! [`super::dense::Float`] is what other machines multiply with.

use candle_core::Result;
use rayon::prelude::*;

use super::{
    TASK,
    aligned::Aligned,
    attention::Shape,
    dense::Dense,
    floats_attention::{Mixing, Singles},
    heads,
    product::{self, Panels, Target, product},
    unsafe_floats::{Left, STEP, Unit, multiply},
    unsafe_tiles::{Out, SIDE},
    widest,
};

/// In 32-bit floats.
pub(crate) struct Floats {
    unit: Unit,
    /// [outputs / 32, inputs, 32], zeros where nothing is.
    panels: Aligned<f32>,
    inputs: usize,
    outputs: usize,
    /// Zeros up to a multiple of 32 at its end.
    bias: Vec<f32>,
}

/// Rows of floats, and enough of them after the last for a product to begin at any.
#[derive(Default)]
pub(crate) struct FloatsRows {
    values: Aligned<f32>,
    count: usize,
    width: usize,
}

/// Whether this machine has what [`Floats`] is made for.
pub(crate) fn is_available() -> bool {
    Unit::best() != Unit::Plain
}

impl FloatsRows {
    /// Makes room for `count` rows of `width` numbers. Those that are there are anything.
    fn resize(&mut self, count: usize, width: usize) {
        if (self.count, self.width) != (count, width) {
            self.values.reset((count + STEP) * width);
            (self.count, self.width) = (count, width);
        }
    }

    /// Rows and columns from (`row`, `column`) on, as many rows as `rows`.
    pub(super) fn from(&self, row: usize, column: usize, rows: usize) -> Left<'_> {
        Left {
            values: &self.values[row * self.width + column..],
            stride: self.width,
            rows,
        }
    }

    /// All rows.
    fn all(&mut self) -> &mut [f32] {
        let len = self.count * self.width;
        &mut self.values[..len]
    }
}

impl Floats {
    /// The same on a unit of one's choice.
    fn on(unit: Unit, weight: &[f32], mut bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        bias.resize(outputs.next_multiple_of(SIDE), 0.0);
        let mut panels = Aligned::default();
        panels.reset(bias.len() * inputs);
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let panel = &mut panels[output / SIDE * SIDE * inputs..];
            for (line, x) in panel.chunks_exact_mut(SIDE).zip(row) {
                line[output % SIDE] = *x;
            }
        }
        Self {
            unit,
            panels,
            inputs,
            outputs,
            bias,
        }
    }
}

impl Panels for Floats {
    type Rows = FloatsRows;
    type Session = ();

    fn session(&self) {}

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn bytes(&self) -> usize {
        size_of::<f32>() * self.inputs * SIDE
    }

    fn multiply(
        &self,
        (): &(),
        rows: &FloatsRows,
        (row, count): (usize, usize),
        number: usize,
        out: Out<'_>,
    ) {
        let size = self.inputs * SIDE;
        let left = rows.from(row, 0, count);
        let panel = &self.panels[number * size..][..size];
        multiply(
            self.unit,
            left,
            panel,
            &self.bias.as_chunks().0[number],
            out,
        );
    }
}

impl Dense for Floats {
    type Rows = FloatsRows;
    type Mixing = Mixing;

    fn new(weight: &[f32], bias: Vec<f32>) -> Result<Self> {
        Ok(Self::on(Unit::best(), weight, bias))
    }

    fn fill(
        rows: &mut FloatsRows,
        count: usize,
        width: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        rows.resize(count, width);
        let task = TASK.div_ceil(width);
        let parts = rows.all().par_chunks_mut(task * width);
        parts.enumerate().for_each(|(part, values)| {
            widest(
                #[inline(always)]
                || {
                    for (i, row) in values.chunks_exact_mut(width).enumerate() {
                        f(part * task + i, row);
                    }
                },
            );
        });
    }

    fn forward(&self, rows: &mut FloatsRows, out: &mut Vec<f32>) -> Result<()> {
        product::forward(self, rows, rows.count, out);
        Ok(())
    }

    fn add(&self, rows: &mut FloatsRows, out: &mut [f32]) -> Result<()> {
        product::add(self, rows, out);
        Ok(())
    }

    fn activate(
        &self,
        rows: &mut FloatsRows,
        f: impl Fn(f32) -> f32 + Sync,
        next: &mut FloatsRows,
    ) -> Result<()> {
        next.resize(rows.count, self.outputs);
        product(
            self,
            rows,
            Target::numbers(next.all(), self.outputs),
            #[inline(always)]
            |(), sums, out| {
                for (out, x) in out.iter_mut().zip(sums) {
                    *out = f(*x);
                }
            },
        );
        Ok(())
    }

    fn attend(&self, rows: &mut FloatsRows, shape: Shape, mixing: &mut Mixing) -> Result<()> {
        self.activate(
            rows,
            #[inline(always)]
            |x| x,
            &mut mixing.qkv,
        )?;
        let mixed = heads::mix(&Singles(self.unit), shape, mixing);
        Self::fill(
            rows,
            shape.batch * shape.len,
            shape.width(),
            #[inline(always)]
            |i, row| shape.join(mixed, i, row),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::{dense::Float, drawn};

    /// Numbers between -1 and 1 that `seed` stands for.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count).map(|i| drawn(i, seed)).collect()
    }

    /// What a layer makes of rows, and the same added to ones.
    fn all_of<L: Dense>(layer: &L, x: &[f32], width: usize) -> [Vec<f32>; 2] {
        let mut rows = L::Rows::default();
        L::fill(&mut rows, x.len() / width, width, |i, row| {
            row.copy_from_slice(&x[i * width..(i + 1) * width]);
        });
        let mut out = Vec::new();
        layer.forward(&mut rows, &mut out).unwrap();
        let mut sum = vec![1.0; out.len()];
        layer.add(&mut rows, &mut sum).unwrap();
        [out, sum]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_layer_is_that_of_other_machines_whatever_its_size(
            count in 1usize..70, inputs in 1usize..500, outputs in 1usize..300, seed: u32,
        ) {
            let x = numbers(count * inputs, seed);
            let weight = numbers(inputs * outputs, seed ^ 1);
            let bias = numbers(outputs, seed ^ 2);
            let wanted = all_of(&Float::new(&weight, bias.clone()).unwrap(), &x, inputs);
            for unit in [Unit::best(), Unit::Plain] {
                let layer = Floats::on(unit, &weight, bias.clone());
                let found = all_of(&layer, &x, inputs);
                for (found, wanted) in found.iter().flatten().zip(wanted.iter().flatten()) {
                    prop_assert!((found - wanted).abs() < 1e-4, "{unit:?}: {found} for {wanted}");
                }
                let mut rows = FloatsRows::default();
                Floats::fill(&mut rows, count, inputs, |i, row| row.copy_from_slice(&x[i * inputs..(i + 1) * inputs]));
                let mut next = FloatsRows::default();
                layer.activate(&mut rows, |x| x.max(0.0), &mut next).unwrap();
                for (found, wanted) in next.all().iter().zip(&wanted[0]) {
                    prop_assert!((found - wanted.max(0.0)).abs() < 1e-4, "{unit:?} activates: {found} for {wanted}");
                }
            }
        }
    }
}
